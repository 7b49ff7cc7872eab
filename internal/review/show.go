package review

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"

	"casemate.dev/internal/workspace"
)

// Diff is a change as it is shown.
type Diff struct {
	Text   string
	Digest string // of a protected change: what consent to this text is given to
}

// Look reads a change's diff for a terminal.
func Look(l *workspace.Layer, i *Item, color bool) (Diff, error) {
	text, digest, err := l.Look(&i.Change, workspace.DiffOptions{Terminal: true, Color: color})
	if err != nil {
		return Diff{}, err
	}
	if len(text) == 0 {
		text = []byte("(nothing that a diff could show)\n")
	}
	return Diff{Plainly(string(bytes.TrimSuffix(text, []byte("\n")))), digest}, nil
}

// Plainly writes out, as escapes, what Visible leaves because some text needs it, and what nobody sees: joiners, variation selectors, fillers.
// Whole programs have been hidden in them (GlassWorm, 2025). A review shows what is there.
func Plainly(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 && (invisible(r) || mark(r)) }) {
		return s
	}
	var b strings.Builder
	marks := 0
	for _, r := range s {
		if marks++; !mark(r) {
			marks = 0
		}
		switch {
		case !invisible(r) && marks <= maxMarks:
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	return b.String()
}

// maxMarks on one letter are enough for every script; more of them paint over other lines.
const maxMarks = 4

func mark(r rune) bool { return unicode.In(r, unicode.Mn, unicode.Me) }

func invisible(r rune) bool {
	return r >= 0x80 && (unicode.In(r, unicode.Cf, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point) || unicode.Is(unicode.Zs, r) && r != 0x3000)
}
