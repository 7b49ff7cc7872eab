package workspace

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// unsafeRune reports what must not reach a terminal as it is: C0 and C1 controls, which move the cursor, set titles, write the clipboard and
// type (CVE-2003-0063 and its kind), and what makes text look like other text: bidirectional controls (CVE-2021-42574), invisible
// operators and the tag characters in which text can hide.
func unsafeRune(r rune) bool {
	switch {
	case r < 0x20 || r >= 0x7f && r < 0xa0:
		return true
	case r < 0x2000:
		return r == 0xad || r == 0x61c || r == 0x180e
	case r == 0x200b || r == 0x200e || r == 0x200f, r >= 0x2028 && r <= 0x202e, r >= 0x2060 && r <= 0x206f:
		return true
	case r == 0xfeff || r >= 0xfff9 && r <= 0xfffb:
		return true
	}
	return r >= 0xe0000 && r <= 0xe0fff || unicode.Is(unicode.Co, r) && r >= 0xf0000
}

// printable reports whether a name can be shown as it is.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unsafeRune)
}

// Quote returns a path as git prints it: as it is, or in double quotes with C escapes if it holds anything a terminal must not see, a
// quote or a backslash. git reads both forms back.
func Quote(s string) string {
	if printable(s) && !strings.ContainsAny(s, `"\`) {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		bad := r == utf8.RuneError && n <= 1 || unsafeRune(r)
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteByte(s[0])
		case !bad:
			b.WriteString(s[:n])
		default:
			quoteBytes(&b, s[:n])
		}
		s = s[n:]
	}
	b.WriteByte('"')
	return b.String()
}

func quoteBytes(b *strings.Builder, s string) {
	for i := range len(s) {
		if k := strings.IndexByte("\a\b\t\n\v\f\r", s[i]); k >= 0 {
			b.WriteByte('\\')
			b.WriteByte("abtnvfr"[k])
		} else {
			fmt.Fprintf(b, `\%03o`, s[i])
		}
	}
}

// Visible returns text with everything a terminal must not see written out as an escape, except tabs; newlines are the caller's to split at.
func Visible(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r != '\t' && (unsafeRune(r) || r == utf8.RuneError) }) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n <= 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case r == '\t' || !unsafeRune(r):
			b.WriteString(s[:n])
		case r == '\r':
			b.WriteString(`\r`)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
		s = s[n:]
	}
	return b.String()
}

// thousands writes 38112 as 38,112.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// plural writes a count with its noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return thousands(n) + " " + noun + "s"
}

// humanBytes writes a size with three digits at most.
func humanBytes(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d bytes", n)
	}
	v, i := float64(n)/1024, 0
	for ; v >= 999.5 && i < len(units)-1; i++ {
		v /= 1024
	}
	if v < 9.95 {
		return fmt.Sprintf("%.1f %ciB", v, units[i])
	}
	return fmt.Sprintf("%.0f %ciB", v, units[i])
}
