package broker

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
)

// identity asks a host not to compress its answer, so that a value in it is seen.
const identity = "identity"

// Ask changes what is sent, so that the answer can be read. A host that is given no secret compresses as it likes.
func (b *Broker) Ask(at Site, h http.Header) {
	if len(b.Book.Set().SecretsAt(at.Host, at.Port)) > 0 {
		h["Accept-Encoding"] = []string{identity}
	}
}

// Header takes values out of a header.
func (u *Use) Header(b *Broker, h http.Header) {
	for name, values := range h {
		for i, value := range values {
			h[name][i] = u.Text(b, value)
		}
	}
}

// Text takes values out of a text.
func (u *Use) Text(b *Broker, text string) string {
	text = (&Scrub{list: u.list}).text(text)
	if !b.Prints.Values() {
		return text
	}
	raw := []byte(text)
	if b.Prints.Blot().Next(raw) != "" {
		return string(raw)
	}
	return text
}

// Unreadable is why an answer that may hold a credential is not passed on.
type Unreadable struct{ error }

// Answer has values taken out of an answer's body. An answer that may hold one and cannot be read is an error. found is told of a value in an answer to a
// request that was given none: the host had it from another one.
func (u *Use) Answer(b *Broker, answer *http.Response, found func(name string)) error {
	coding := codingOf(strings.Join(answer.Header["Content-Encoding"], ","))
	packed := coding != "" && coding != identity && answer.ContentLength != 0 && answer.Body != nil && answer.Body != http.NoBody && answer.Request.Method != http.MethodHead
	if packed && u.Any() {
		if !readable(coding) {
			return &Unreadable{fmt.Errorf("the host compressed its answer (%.40q) although it was asked not to, and a credential in it would not be seen", coding)}
		}
		done, err := b.room(answer.Request.Context(), coding)
		if err != nil {
			return &Unreadable{err}
		}
		answer.Body = &unpacking{ReadCloser: answer.Body, coding: coding, done: done}
		answer.ContentLength = -1
		for _, name := range []string{"Content-Encoding", "Content-Length"} {
			answer.Header.Del(name)
		}
	}
	switch {
	case answer.Body == nil || answer.Body == http.NoBody:
	case u.Any():
		answer.Body = &scrubbed{ReadCloser: answer.Body, scrub: Scrub{list: slices.Clone(u.list)}}
	case b.Prints.Values():
		answer.Body = &blotted{answer.Body, b.Prints.Blot(), found}
	}
	return nil
}

// unpacking undoes a coding when it is read, and not before: an answer may begin long after its header.
type unpacking struct {
	io.ReadCloser
	coding string
	plain  io.ReadCloser
	done   func()
}

func (u *unpacking) Read(p []byte) (int, error) {
	if u.plain == nil {
		plain, err := unpack(u.coding, u.ReadCloser)
		if err != nil {
			return 0, fmt.Errorf("the host's answer is not what it says it is: %w", err)
		}
		u.plain = plain
	}
	return u.plain.Read(p)
}

// Close is called by whoever has read.
func (u *unpacking) Close() error {
	if u.plain != nil {
		u.plain.Close()
	}
	u.done()
	return u.ReadCloser.Close()
}
