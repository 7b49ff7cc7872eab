package broker

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
)

// Found is what was recognised.
type Found struct {
	Name  string // of the secret
	Value bool   // its value; else its placeholder
}

// Prints are what texts are recognised by. A value itself is kept for seconds, and its prints for as long as the sandbox runs: a filter over its last
// eight bytes, and a keyed digest of the whole. Neither gives the value back, but to somebody who can guess all of it. The zero Prints is not usable; make one
// with NewPrints.
type Prints struct {
	mu  sync.Mutex
	set atomic.Pointer[set]
}

// set is not changed once it can be seen.
type set struct {
	key    [32]byte
	factor uint64
	filter [1 << 10]uint64 // of 16 bits of the mixed last bytes
	list   []print

	shortest, longest int
}

type print struct {
	length int
	last   uint32 // of the mixed last bytes
	digest [sha256.Size]byte
	of     Found
	form   int // 0: the text itself
}

// NewPrints makes an empty one.
func NewPrints() *Prints {
	s := new(set)
	rand.Read(s.key[:]) // it never fails
	s.factor = binary.LittleEndian.Uint64(s.key[:]) | 1
	p := new(Prints)
	p.set.Store(s)
	return p
}

// maxValues is how many values of one secret are remembered, so that one that is rotated all the time does not fill the memory.
const maxValues = 8

// Add has text be recognised from now on, in all its forms.
func (p *Prints) Add(of Found, text []byte) {
	if len(text) < Shortest {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.set.Load()
	if whole := old.digest(text); slices.ContainsFunc(old.list, func(q print) bool { return q.of == of && q.digest == whole }) {
		return
	}
	next := &set{key: old.key, factor: old.factor, list: slices.Clone(old.list)}
	if of.Value {
		next.forget(of)
	}
	for i, form := range forms(text) {
		q := print{length: len(form), digest: next.digest(form), of: of, form: i}
		q.last = uint32(next.mix(binary.BigEndian.Uint64(form[len(form)-Shortest:])) >> 16)
		next.list = append(next.list, q)
		clear(form)
	}
	for _, q := range next.list {
		next.filter[q.last>>16&(1<<10-1)] |= 1 << (q.last >> 26)
		next.longest = max(next.longest, q.length)
		if next.shortest == 0 || q.length < next.shortest {
			next.shortest = q.length
		}
	}
	p.set.Store(next)
}

// forget leaves room for one more value.
func (s *set) forget(of Found) {
	whole := 0
	for _, q := range s.list {
		if q.of == of && q.form == 0 {
			whole++
		}
	}
	if whole < maxValues {
		return
	}
	first := slices.IndexFunc(s.list, func(q print) bool { return q.of == of })
	end := first + 1
	for end < len(s.list) && s.list[end].of == of && s.list[end].form != 0 {
		end++
	}
	s.list = slices.Delete(s.list, first, end)
}

// Values says whether any value is known.
func (p *Prints) Values() bool {
	return slices.ContainsFunc(p.set.Load().list, func(q print) bool { return q.of.Value })
}

func (s *set) mix(last uint64) uint64 { return last * s.factor }

func (s *set) digest(text []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write(s.key[:])
	h.Write(text)
	var d [sha256.Size]byte
	h.Sum(d[:0])
	return d
}

// scan looks through text from the byte from on, and tells of everything that ends there; yes stops it.
func (s *set) scan(text []byte, from int, yes func(end int, q print) bool) bool {
	var last uint64
	for _, c := range text[max(0, from-Shortest+1):from] {
		last = last<<8 | uint64(c)
	}
	factor, filter := s.factor, &s.filter
	for i, c := range text[from:] {
		last = last<<8 | uint64(c)
		m := uint32(last * factor >> 16)
		if filter[m>>16&(1<<10-1)]&(1<<(m>>26)) == 0 {
			continue
		}
		i += from
		if i+1 < Shortest {
			continue
		}
		for _, q := range s.list {
			if q.last != m || q.length > i+1 {
				continue
			}
			if d := s.digest(text[i+1-q.length : i+1]); subtle.ConstantTimeCompare(d[:], q.digest[:]) == 1 && yes(i+1, q) {
				return true
			}
		}
	}
	return false
}
