package broker

import (
	"bytes"
	"strings"
)

// Search looks through one stream for placeholders and values, wherever its pieces begin and end. It holds a few times the longest text that it looks for.
type Search struct {
	prints *Prints
	views  []view
}

// Search begins a stream.
func (p *Prints) Search() *Search { return &Search{p, views()} }

// In looks through a text that is there as a whole.
func (p *Prints) In(text string) (found Found, ok bool) {
	set := p.set.Load()
	for _, v := range views() {
		if v.decode != nil && !strings.ContainsAny(text, v.marks) {
			continue
		}
		if set.scan(v.next([]byte(text)), 0, func(_ int, q print) bool {
			found = q.of
			return true
		}) {
			return found, true
		}
	}
	return Found{}, false
}

// Next looks through the next bytes. What it finds has ended in them.
func (s *Search) Next(p []byte) (found Found, ok bool) {
	set := s.prints.set.Load()
	for i := range s.views {
		v := &s.views[i]
		differs := v.decode != nil && (len(v.carry) > 0 || bytes.ContainsAny(p, v.marks))
		switch {
		case v.decode == nil || differs:
			v.plain = 0
		case v.plain < 2*set.longest: // what has begun where the view differed may end here
			v.plain += len(p)
		default:
			v.keep(p, set.longest)
			continue
		}
		text := append(v.tail, v.next(p)...)
		if !ok {
			set.scan(text, len(v.tail), func(_ int, q print) bool {
				found, ok = q.of, true
				return true
			})
		}
		v.tail = bytes.Clone(last(text, set.longest))
	}
	return found, ok
}

// keep goes on without a look.
func (v *view) keep(p []byte, longest int) {
	if len(p) < longest {
		v.tail = append(v.tail, p...)
		p = v.tail
	}
	v.tail = bytes.Clone(last(p, longest))
}

func last(text []byte, n int) []byte { return text[max(0, len(text)-n):] }
