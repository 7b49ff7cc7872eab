package relay

import (
	"strconv"
	"strings"
	"testing"
)

func TestEscape(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{"src/main.go", "src/main.go"},
		{`say "hi"`, `say "hi"`},
		{"grün 漢字", "grün 漢字"},
		{"a\x1b]52;c;eA==\ab", `a\x1b]52;c;eA==\ab`},
		{"line\nline\ttab\r", `line\nline\ttab\r`},
		{"\u009b31m", `\u009b31m`},
		{"\x9b31m", `\x9b31m`},
		{"abc\u202ecba\u2066", `abc\u202ecba\u2066`},
		{"zero\u200bwidth\ufeff", `zero\u200bwidth\ufeff`},
		{`\x1b`, `\\x1b`},
		{`\"`, `\\"`},
		{"\xff\xfe", `\xff\xfe`},
		{"\x7f", `\x7f`},
	} {
		if got := Escape(tt.in); got != tt.want {
			t.Errorf("Escape(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func FuzzEscape(f *testing.F) {
	f.Add("a\x1b\\\"\u202e")
	f.Fuzz(func(t *testing.T, s string) {
		got := Escape(s)
		for _, r := range got {
			if r < 0x20 || r >= 0x7f && r < 0xa0 || !strconv.IsPrint(r) {
				t.Errorf("%q: %q has %q", s, got, r)
			}
		}
		// Nothing is lost: it can be read back.
		if back, err := strconv.Unquote(`"` + strings.ReplaceAll(got, `"`, `\"`) + `"`); err != nil || back != s {
			t.Errorf("%q reads back as %q, %v", s, back, err)
		}
	})
}
