package ask

import (
	"errors"
	"fmt"
	"strings"
)

// The bounds of what a message holds. All of them together fit into MaxMessage, whatever JSON makes of their characters.
const (
	MaxEntries  = 64
	MaxHosts    = 64
	MaxName     = 64
	MaxHost     = 255
	MaxMethod   = 32
	MaxPath     = 8 << 10
	MaxSentence = 2 << 10
	maxProject  = 4096
)

// IsName says whether a text can be the name of an entry: letters, digits, and - _ . after the first character.
func IsName(s string) bool {
	if s == "" || len(s) > MaxName {
		return false
	}
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || !strings.ContainsRune("-_.", rune(c))) {
			return false
		}
	}
	return true
}

// text says whether s is at most so long and free of control characters, which have no place in what is logged and shown.
func text(s string, most int) bool {
	return len(s) <= most && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

func wrong(what, got string) error {
	if len(got) > 80 {
		got = got[:80]
	}
	return fmt.Errorf("%s cannot be %q", what, got)
}

func (b *Begin) check() error {
	switch {
	case !IsName(b.Sandbox):
		return wrong("a sandbox", b.Sandbox)
	case !text(b.Project, maxProject) || b.Project != "" && b.Project[0] != '/':
		return wrong("a project", b.Project)
	case len(b.Entries) > MaxEntries || len(b.Presets) > MaxEntries:
		return fmt.Errorf("more than %d entries or presets", MaxEntries)
	}
	for _, p := range b.Presets {
		if !IsName(p) {
			return wrong("a preset", p)
		}
	}
	seen := map[string]bool{}
	for _, e := range b.Entries {
		if err := e.check(); err != nil {
			return err
		}
		if seen[e.Name] {
			return fmt.Errorf("entry %q is there twice", e.Name)
		}
		seen[e.Name] = true
	}
	return nil
}

func (e *Entry) check() error {
	switch {
	case !IsName(e.Name):
		return wrong("an entry's name", e.Name)
	case !text(e.Env, MaxHost) || strings.ContainsAny(e.Env, "= "):
		return wrong("a variable", e.Env)
	case len(e.Hosts) > MaxHosts:
		return fmt.Errorf("entry %q has more than %d hosts", e.Name, MaxHosts)
	}
	for _, h := range e.Hosts {
		if h == "" || !text(h, MaxHost) {
			return wrong("a host", h)
		}
	}
	return nil
}

func (r *Ready) check() error {
	switch {
	case r.Ready == (r.Error != ""):
		return errors.New("an answer is either ready or an error")
	case len(r.Error) > MaxSentence || len(r.Hint) > MaxSentence:
		return fmt.Errorf("a sentence is longer than %d bytes", MaxSentence)
	case len(r.Shapes) > MaxEntries:
		return fmt.Errorf("more than %d shapes", MaxEntries)
	}
	for name, s := range r.Shapes {
		if !IsName(name) {
			return wrong("an entry's name", name)
		}
		if err := s.Check(); err != nil {
			return err
		}
	}
	return nil
}

func (r *Request) check() error {
	switch {
	case r.ID == 0:
		return errors.New("a request has no id")
	case !IsName(r.Entry):
		return wrong("an entry's name", r.Entry)
	case r.Host == "" || !text(r.Host, MaxHost):
		return wrong("a host", r.Host)
	case r.Port < 1 || r.Port > 65535:
		return fmt.Errorf("a port cannot be %d", r.Port)
	case !text(r.Method, MaxMethod):
		return wrong("a method", r.Method)
	case !text(r.Path, MaxPath) || r.Path != "" && r.Path[0] != '/' && r.Path != "*":
		return wrong("a path", r.Path)
	}
	return nil
}

// check holds for what a Reply says beside its value.
func (r *Reply) check(hasValue bool) error {
	switch {
	case r.Changed != "" && (r.ID != 0 || hasValue || r.Refused != "" || !r.Until.IsZero()):
		return errors.New("what changed is said alone")
	case r.Changed != "" && !IsName(r.Changed):
		return wrong("an entry's name", r.Changed)
	case r.Changed != "":
		return nil
	case r.ID == 0:
		return errors.New("a reply has no id")
	case hasValue == (r.Refused != ""):
		return errors.New("a reply is either a value or a refusal")
	case len(r.Refused) > MaxSentence:
		return fmt.Errorf("a sentence is longer than %d bytes", MaxSentence)
	}
	return nil
}
