package session

import (
	"testing"

	"casemate.dev/internal/gate/wire"
)

// TestAllowCommand: what a program inside looks up becomes no part of a command that a person copies, unless a rule could have it.
func TestAllowCommand(t *testing.T) {
	for name, want := range map[string]string{
		"api.example.com": "casemate allow k7 net:api.example.com:22", "2001:db8::1": "casemate allow k7 net:[2001:db8::1]:22",
		"a;reboot": "", "$(reboot)": "", "a b": "", "a\nb": "", "`x`": "", "a'b": "", "é.example": "", "": "",
	} {
		c := Connection{Sandbox: "k7", Record: wire.Record{Name: name, Port: 22}}
		if got := c.AllowCommand(); got != want {
			t.Errorf("%q: %q", name, got)
		}
	}
}
