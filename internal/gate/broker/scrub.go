package broker

import (
	"bytes"
	"io"
	"slices"
)

// Scrub takes values out of a stream, wherever its pieces begin and end. What takes their place is as long as they are: nothing that was said about the
// stream's length becomes wrong. It keeps back what may be the beginning of a value, and nothing else, so a stream flows.
type Scrub struct {
	list    []replacement
	pending []byte
}

// replacement is one form of a value, and what is put in its place.
type replacement struct{ form, by []byte }

// replacements are for a value and its placeholder: where that is as long, a program that is told its credential may go on to use what it was told.
func replacements(value, placeholder []byte) (list []replacement) {
	stars := bytes.Repeat([]byte{'*'}, 3*len(value)) // the longest form escapes each byte
	for i, form := range written(value) {
		by := stars[:len(form)]
		if i == 0 && len(placeholder) == len(form) {
			by = placeholder
		}
		list = append(list, replacement{form, by})
	}
	return list
}

// wipe overwrites the values.
func wipe(list []replacement) {
	for _, r := range list {
		clear(r.form)
	}
}

// Next takes the next bytes and returns those that may be passed on. They are valid until the next call.
func (s *Scrub) Next(p []byte) []byte {
	text := append(s.pending, p...)
	s.replace(text)
	keep := s.begun(text)
	s.pending = bytes.Clone(text[len(text)-keep:])
	return text[:len(text)-keep]
}

// End returns what was kept back. No value is in it: it is shorter than one.
func (s *Scrub) End() []byte {
	rest := s.pending
	s.pending = nil
	return rest
}

func (s *Scrub) replace(text []byte) {
	for _, r := range s.list {
		for at := 0; ; at += len(r.form) {
			i := bytes.Index(text[at:], r.form)
			if i < 0 {
				break
			}
			at += i
			copy(text[at:], r.by)
		}
	}
}

// begun is how many bytes at the end may begin a value.
func (s *Scrub) begun(text []byte) (n int) {
	if len(text) == 0 {
		return 0
	}
	end := text[len(text)-1]
	for _, r := range s.list {
		for k := min(len(r.form)-1, len(text)); k > n; k-- {
			if r.form[k-1] == end && bytes.HasSuffix(text, r.form[:k]) {
				n = k
			}
		}
	}
	return n
}

// text is for what is there as a whole.
func (s *Scrub) text(t string) string {
	if !slices.ContainsFunc(s.list, func(r replacement) bool { return bytes.Contains([]byte(t), r.form) }) {
		return t
	}
	b := []byte(t)
	s.replace(b)
	return string(b)
}

// scrubbed is a stream without the values.
type scrubbed struct {
	io.ReadCloser
	scrub Scrub
	ready []byte
	err   error
}

func (s *scrubbed) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(s.ready) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		var n int
		n, s.err = s.ReadCloser.Read(p)
		s.ready = s.scrub.Next(p[:n])
		if s.err == io.EOF {
			s.ready = append(bytes.Clone(s.ready), s.scrub.End()...)
		}
	}
	n := copy(p, s.ready)
	s.ready = s.ready[n:]
	return n, nil
}

// Blot overwrites the values that it recognises by their prints, in a stream that must not wait: of one that comes in pieces, the last piece is what it
// reaches. It is for answers to requests that were given no value.
type Blot struct {
	prints *Prints
	tail   []byte
}

// Blot begins a stream.
func (p *Prints) Blot() *Blot { return &Blot{prints: p} }

// Next overwrites what it finds in p, and says of which secret it was.
func (b *Blot) Next(p []byte) (name string) {
	set := b.prints.set.Load()
	before := len(b.tail)
	text := append(b.tail, p...)
	set.scan(text, before, func(end int, q print) bool {
		if q.of.Value {
			name = q.of.Name
			for i := max(0, end-q.length-before); i < end-before; i++ {
				p[i] = '*'
			}
		}
		return false
	})
	b.tail = bytes.Clone(last(text, set.longest))
	return name
}

// blotted is such a stream.
type blotted struct {
	io.ReadCloser
	blot  *Blot
	found func(name string)
}

func (b *blotted) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if name := b.blot.Next(p[:n]); name != "" {
		b.found(name)
	}
	return n, err
}
