package rules

import (
	"sync/atomic"
	"time"

	"casemate.dev/internal/gate/wire"
)

// Book holds the rules that are in force. They are replaced as a whole, so nobody sees half of a change. The zero Book allows nothing.
type Book struct{ rules atomic.Pointer[wire.Rules] }

// Replace puts other rules in force.
func (b *Book) Replace(r wire.Rules) { b.rules.Store(&r) }

// Rules are those in force. Nobody may change them.
func (b *Book) Rules() wire.Rules {
	if r := b.rules.Load(); r != nil {
		return *r
	}
	return wire.Rules{}
}

// Decide is Decide by the rules in force, now.
func (b *Book) Decide(host string, port int) Decision {
	return Decide(b.Rules(), host, port, time.Now())
}
