// Package broker puts credentials where their placeholders stand, in requests that may have them, and finds both wherever they must not be.
package broker

import (
	"fmt"
	"strings"
	"sync/atomic"

	"casemate.dev/internal/gate/rules"
	"casemate.dev/internal/gate/wire"
)

// Broker is what all connections of a gate share. Make one with New.
type Broker struct {
	Book   *rules.Book
	Prints *Prints
	Store  Store
	whole  chan struct{} // one for each body that is held while it is looked through
	held   atomic.Int64  // bytes of bodies that are held until they are signed anew and sent
	widely chan struct{} // one for each stream that is undone and may look far back
}

// wholeAtOnce bounds the bodies that are held, of maxWhole bytes each; more are looked through on their way.
const (
	wholeAtOnce = 64
	maxWhole    = 64 << 10
)

// New makes one that asks the rules in the book.
func New(book *rules.Book) *Broker {
	return &Broker{Book: book, Prints: NewPrints(), whole: make(chan struct{}, wholeAtOnce), widely: make(chan struct{}, widelyAtOnce)}
}

// Learn has the placeholders of the rules in force be recognised.
func (b *Broker) Learn() {
	for _, s := range b.Book.Set().Secrets() {
		for _, text := range rules.Placeholders(s) {
			b.Prints.Add(Found{Name: s.Name}, []byte(text))
		}
	}
}

// Active says whether there is anything to look for.
func (b *Broker) Active() bool { return b.Book.Set().HasSecrets() }

// Leak is a placeholder or a value where it must not be. What it says holds neither.
type Leak struct {
	Found
	Where string // "the body of the request"
	Why   string // why it is not replaced there; empty: nothing ever is
}

func (l *Leak) Error() string {
	what := "the placeholder"
	if l.Value {
		what = "the value"
	}
	text := fmt.Sprintf("%s of the secret %q is in %s", what, l.Name, l.Where)
	if l.Why != "" {
		text += ": " + l.Why
	}
	return text
}

// Decision is the leak as a denial.
func (l *Leak) Decision() rules.Decision { return rules.Decision{Why: l.Error(), Secret: l.Name} }

// In looks through a text that is there as a whole.
func (b *Broker) In(text, where string) *Leak {
	if found, ok := b.Prints.In(text); ok {
		return &Leak{Found: found, Where: where}
	}
	return nil
}

// InName looks through a host's name: with its labels joined, as each has 63 bytes at most, and whatever became of its letters' case.
func (b *Broker) InName(name string) *Leak {
	if !b.Active() {
		return nil
	}
	joined := strings.ReplaceAll(name, ".", "")
	for _, s := range b.Book.Set().Secrets() {
		if b.folded(joined, s) {
			return &Leak{Found: Found{Name: s.Name}, Where: "a host's name that was looked up"}
		}
	}
	return b.In(joined, "a host's name that was looked up")
}

// folded says whether text holds the placeholder, or its hexadecimal digits, in letters of any case, and with dots left out.
func (b *Broker) folded(text string, s wire.Secret) bool {
	lower := ""
	for _, placeholder := range rules.Placeholders(s) {
		if len(text) < len(placeholder)-strings.Count(placeholder, ".") { // as nearly all names are
			continue
		}
		if lower == "" {
			lower = strings.ToLower(text)
		}
		for _, form := range []string{strings.ReplaceAll(placeholder, ".", ""), fmt.Sprintf("%x", placeholder)} {
			if strings.Contains(lower, strings.ToLower(form)) {
				return true
			}
		}
	}
	return false
}

// Shown is a host's name or a path that may be told of: without what was found in it.
func (b *Broker) Shown(text string) string {
	const most = 32
	if i := strings.LastIndexByte(text, '.'); i > 0 {
		text = text[strings.LastIndexByte(text[:i], '.')+1:]
	}
	text = text[max(0, len(text)-most):]
	if b.InName(text) != nil || b.In(strings.ReplaceAll(text, "/", ""), "") != nil { // it is short
		text = ""
	}
	return "…" + text
}
