package rules

import (
	"sync/atomic"
	"time"

	"casemate.dev/internal/gate/wire"
)

// Book holds the rules that are in force. They are replaced as a whole, so nobody sees half of a change. The zero Book allows nothing.
type Book struct{ set atomic.Pointer[Set] }

// Replace puts other rules in force.
func (b *Book) Replace(r wire.Rules) {
	s := Compile(r)
	b.set.Store(&s)
}

// Set is those in force.
func (b *Book) Set() *Set {
	if s := b.set.Load(); s != nil {
		return s
	}
	return &Set{}
}

// Decide asks the rules in force, now.
func (b *Book) Decide(host string, port int) Decision { return b.Set().Decide(host, port, time.Now()) }

// DecideRequest asks the rules in force, now.
func (b *Book) DecideRequest(host string, port int, r Request) Decision {
	return b.Set().DecideRequest(host, port, r, time.Now())
}
