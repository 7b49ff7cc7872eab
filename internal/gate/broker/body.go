package broker

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync"
)

// Body looks through a request's body on its way. leaked is told of what was found; the body ends there with an error.
type Body struct {
	io.ReadCloser
	trailer http.Header // filled in when the body has ended
	search  *Search
	coding  string    // that it is yet to be undone from; empty: it is being undone, or is in none that we read
	packed  *unpacker // begins with the first bytes: a body that nobody reads, nobody closes
	broker  *Broker
	leaked  func(*Leak)
	ctx     context.Context // the request's, whose body this is

	mu  sync.Mutex // net/http closes a body while it is read
	err error      // that it has ended with: nothing goes out after it
}

const inBody = "the body of the request"

func (b *Broker) body(r *http.Request) *Body {
	body := &Body{ReadCloser: r.Body, trailer: r.Trailer, search: b.Prints.Search(), broker: b, ctx: r.Context()}
	if list := r.Header["Content-Encoding"]; len(list) == 1 && readable(codingOf(list[0])) {
		body.coding = codingOf(list[0])
	}
	return body
}

func (y *Body) Read(p []byte) (int, error) {
	n, err := y.ReadCloser.Read(p)
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.err != nil {
		return 0, y.err
	}
	if n > 0 && y.coding != "" {
		done, err := y.broker.room(y.ctx, y.coding)
		if err != nil {
			y.err = err
			return 0, err
		}
		y.packed, y.coding = newUnpacker(y.coding, y.broker.Prints.Search(), done), ""
	}
	if l := y.look(p[:n], err); l != nil {
		y.err = l
		y.leaked(l)
		return 0, l
	}
	return n, err
}

func (y *Body) look(p []byte, err error) *Leak {
	found, ok := y.search.Next(p)
	where := inBody
	if !ok && y.packed != nil {
		found, ok = y.packed.next(p)
		if !ok && err != nil {
			found, ok = y.packed.end()
		}
		where = "the compressed body of the request"
	}
	if ok {
		return &Leak{Found: found, Where: where}
	}
	if err != io.EOF {
		return nil
	}
	for name, values := range y.trailer {
		for _, text := range append(values, name) {
			if l := y.broker.In(text, "a trailer of the request"); l != nil {
				return l
			}
		}
	}
	return nil
}

// Close ends the look as well.
func (y *Body) Close() error {
	err := y.ReadCloser.Close()
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.packed != nil {
		y.packed.end()
	}
	return err
}

// Hold reads a small body to its end and looks through it, so that nothing of a request that leaks is ever sent. Any other is looked through on its way, and
// ends where something is found: leaked is told of that. release is called when the request has been answered.
func (b *Broker) Hold(r *http.Request, leaked func(*Leak)) (found *Leak, release func()) {
	if r.Body == nil || r.Body == http.NoBody {
		return nil, func() {}
	}
	body := b.body(r)
	body.leaked = leaked
	if r.ContentLength <= 0 || r.ContentLength > maxWhole || len(r.Header["Expect"]) > 0 {
		r.Body = body
		return nil, func() {}
	}
	select {
	case b.whole <- struct{}{}:
	default:
		r.Body = body
		return nil, func() {}
	}
	body.leaked = func(l *Leak) { found = l }
	text, err := io.ReadAll(body)
	body.Close()
	r.Body = io.NopCloser(&held{bytes.NewReader(text), err})
	return found, func() { <-b.whole }
}

// held is a body that was read, and the error that it ended with.
type held struct {
	text *bytes.Reader
	err  error
}

func (h *held) Read(p []byte) (int, error) {
	n, err := h.text.Read(p)
	if err == io.EOF && h.err != nil {
		err = h.err
	}
	return n, err
}
