package broker

import (
	"bytes"
	"strings"
	"sync"
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
	if len(text) < set.shortest { // no view is longer than what it is of
		return Found{}, false
	}
	for _, v := range views() {
		seen := []byte(text)
		if v.decode != nil {
			if !strings.ContainsAny(text, v.marks) {
				continue
			}
			seen, _ = v.decode(nil, seen)
		}
		if set.scan(seen, 0, func(_ int, q print) bool {
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
	yes := func(_ int, q print) bool {
		found, ok = q.of, true
		return true
	}
	scratch := scratches.Get().(*[]byte)
	defer scratches.Put(scratch)
	for i := range s.views {
		v := &s.views[i]
		switch differs := v.decode != nil && (len(v.carry) > 0 || holdsAny(p, v.marks)); {
		case differs:
			v.plain = 0
			*scratch = v.undo(append((*scratch)[:0], v.tail...), p)
			if !ok {
				set.scan(*scratch, len(v.tail), yes)
			}
			v.tail = append(v.tail[:0], last(*scratch, set.longest)...)
			continue
		case v.decode == nil:
		case v.plain < 2*set.longest: // what has begun where the view differed may end here
			v.plain += len(p)
		default:
			v.keep(p, set.longest)
			continue
		}
		if !ok {
			*scratch = append(append((*scratch)[:0], v.tail...), p[:min(len(p), set.longest)]...)
			if !set.scan(*scratch, len(v.tail), yes) && len(p) > set.longest { // from there on, all of it is in p
				set.scan(p, set.longest, yes)
			}
		}
		v.keep(p, set.longest)
	}
	return found, ok
}

// scratches are lent for the time of a look: a stream that waits holds nothing but its tails.
var scratches = sync.Pool{New: func() any { return new([]byte) }}

// keep makes the last bytes the tail.
func (v *view) keep(p []byte, longest int) {
	if room := max(0, longest-len(p)); len(v.tail) > room {
		v.tail = v.tail[:copy(v.tail, last(v.tail, room))]
	}
	v.tail = append(v.tail, last(p, longest)...)
}

func holdsAny(p []byte, marks string) bool {
	for i := range len(marks) {
		if bytes.IndexByte(p, marks[i]) >= 0 {
			return true
		}
	}
	return false
}

func last(text []byte, n int) []byte { return text[max(0, len(text)-n):] }
