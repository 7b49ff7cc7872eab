package screen

import (
	"fmt"
	"os"
	"strings"

	"github.com/clipperhouse/displaywidth"
)

// measure is how tcell measures text; whoever breaks lines must agree with it, or what it cuts off would be hidden.
func measure() displaywidth.Options {
	switch strings.ToLower(os.Getenv("RUNEWIDTH_EASTASIAN")) {
	case "1", "true", "yes":
		return displaywidth.Options{EastAsianWidth: true}
	}
	return displaywidth.Options{}
}

// columns is how wide text is.
func columns(s string) int {
	if plain(s) {
		return len(s)
	}
	return measure().String(s)
}

// plain reports whether every byte is one column.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// ascii writes out what a terminal without UTF-8 would show as a question mark.
func ascii(s string) string {
	if plain(s) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r >= 0x20 && r < 0x7f:
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	return b.String()
}

// wrap breaks a line into rows: the first is as wide as the screen, the others leave a column for the mark that they go on.
func wrap(rows []span, at int, text string, width int) []span {
	if plain(text) {
		end := min(len(text), width)
		rows = append(rows, span{at, 0, end})
		for end < len(text) {
			next := min(len(text), end+width-1)
			rows = append(rows, span{at, end, next})
			end = next
		}
		return rows
	}
	from, to, col, room := 0, 0, 0, width
	g := measure().StringGraphemes(text)
	for g.Next() {
		w := g.Width()
		if col+w > room {
			rows = append(rows, span{at, from, to})
			from, col, room = to, 0, width-1
		}
		col += w
		to += len(g.Value())
	}
	return append(rows, span{at, from, to})
}

// fitRight cuts text so that it is not wider than width.
func fitRight(s string, width int) string {
	if columns(s) <= width {
		return s
	}
	return measure().TruncateString(s, max(0, width), "~")
}

// fitLeft cuts a name from the left, where it says least.
func fitLeft(s string, width int) string {
	if columns(s) <= width {
		return s
	}
	g := measure().StringGraphemes(s)
	over, cut := columns(s)-width+1, 0
	for over > 0 && g.Next() {
		over -= g.Width()
		cut += len(g.Value())
	}
	return "~" + s[cut:]
}
