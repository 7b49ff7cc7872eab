package wire

import (
	"strings"
	"testing"
)

// TestIsMember: what is a member's name is a file's name in a directory of ours too.
func TestIsMember(t *testing.T) {
	for name, want := range map[string]bool{
		"api": true, "k7f3q2ab": true, "a-b": true, "7": true, strings.Repeat("a", 32): true,
		"": false, "-a": false, "a-": false, "localhost": false, "Api": false, "a.b": false, "..": false, "../x": false, "a/b": false, "a_b": false, "a\x00": false, "é": false,
		strings.Repeat("a", 33): false,
	} {
		if IsMember(name) != want {
			t.Errorf("%q", name)
		}
	}
}
