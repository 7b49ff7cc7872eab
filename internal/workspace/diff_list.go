package workspace

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// WriteNames writes one path a line, quoted as git quotes.
func WriteNames(w io.Writer, changes []Change) error {
	b := bufio.NewWriter(w)
	alone := directoriesAlone(changes)
	for i := range changes {
		c := &changes[i]
		name := c.Path
		switch {
		case c.directory() && !c.summarised() && !alone[c.Path]:
			continue
		case c.directory():
			name += "/"
		}
		fmt.Fprintln(b, Quote(name))
	}
	return b.Flush()
}

// WriteJSON writes {"changes": [...], "summary": {...}}, with whatever a terminal must not see as \u escapes.
func WriteJSON(w io.Writer, changes []Change) error {
	if changes == nil {
		changes = []Change{}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(struct {
		Changes []Change `json:"changes"`
		Summary Summary  `json:"summary"`
	}{changes, Summarize(changes)}); err != nil {
		return err
	}
	_, err := io.WriteString(w, escapeJSON(b.String()))
	return err
}

// escapeJSON writes unsafe runes as JSON escapes; outside of strings JSON has none but newlines.
func escapeJSON(s string) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == '\n' || !unsafeRune(r):
			b.WriteString(s[i : i+utf8.RuneLen(r)])
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff)
		}
	}
	return b.String()
}

// Summary counts changes by what a person needs to know about them.
type Summary struct {
	Files      int `json:"files"` // that could be applied; built ones are not among them, protected ones and conflicts are
	Insertions int `json:"insertions"`
	Deletions  int `json:"deletions"`
	Protected  int `json:"protected"`
	Conflicts  int `json:"conflicts"`
	Built      int `json:"built"`
	Refused    int `json:"refused"`
	Git        int `json:"git"` // files of git repositories, which stay inside
}

// Summarize counts. Lines are only known after Count.
func Summarize(changes []Change) (s Summary) {
	alone := directoriesAlone(changes)
	for i := range changes {
		c := &changes[i]
		switch {
		case c.Class == ClassRefused && c.summarised() && c.Kind != Added:
			s.Git += c.Count
		case c.Class == ClassRefused:
			s.Refused++
		case c.Built && c.Protected == "":
			s.Built += built(c)
		case c.directory() && !alone[c.Path]:
		default:
			s.Files++
			s.Insertions += c.Insertions
			s.Deletions += c.Deletions
			s.Protected += count(c.Protected != "")
			s.Conflicts += count(c.Conflict != "")
		}
	}
	return s
}

func built(c *Change) int {
	if c.summarised() {
		return c.Count
	}
	return count(!c.directory())
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// String is the line at the end of a run.
func (s Summary) String() string {
	var parts []string
	if s.Files > 0 {
		parts = append(parts, fmt.Sprintf("%s changed (+%s -%s)", plural(s.Files, "file"), thousands(s.Insertions), thousands(s.Deletions)))
	}
	if s.Protected > 0 {
		parts = append(parts, thousands(s.Protected)+" would run on your machine")
	}
	if s.Built > 0 {
		parts = append(parts, staysInside(s.Built))
	}
	if s.Conflicts > 0 {
		parts = append(parts, plural(s.Conflicts, "conflict"))
	}
	if s.Refused > 0 {
		parts = append(parts, thousands(s.Refused)+" refused")
	}
	if s.Git > 0 {
		parts = append(parts, "git's own data in "+plural(s.Git, "file"))
	}
	if len(parts) == 0 {
		return "no changes"
	}
	return strings.Join(parts, " · ")
}

func staysInside(n int) string {
	if n == 1 {
		return "1 built file stays inside"
	}
	return plural(n, "built file") + " stay inside"
}

const statWidth = 80

// WriteStat writes the table of git diff --stat, in 80 columns. Count comes first.
func WriteStat(w io.Writer, changes []Change) error {
	b := bufio.NewWriter(w)
	rows := statRows(changes)
	nameWidth, numWidth, most := 0, 1, 0
	for _, r := range rows {
		nameWidth = max(nameWidth, columns(r.name))
		numWidth = max(numWidth, len(r.number))
		most = max(most, r.plus+r.minus)
	}
	nameWidth = min(nameWidth, 50)
	graph := statWidth - nameWidth - numWidth - len("  |  ")
	for _, r := range rows {
		name := fitLeft(r.name, nameWidth)
		pad := strings.Repeat(" ", nameWidth-columns(name))
		if r.words != "" {
			fmt.Fprintf(b, " %s%s | %s\n", name, pad, fitRight(r.words, statWidth-nameWidth-4))
			continue
		}
		plus, minus := scale(r.plus, most, graph), scale(r.minus, most, graph)
		row := fmt.Sprintf(" %s%s | %*s %s%s", name, pad, numWidth, r.number, strings.Repeat("+", plus), strings.Repeat("-", minus))
		fmt.Fprintln(b, strings.TrimRight(row, " "))
	}
	if len(rows) > 0 {
		s := Summarize(changes)
		fmt.Fprintf(b, " %s changed, %s(+), %s(-)\n", plural(s.Files, "file"), plural(s.Insertions, "insertion"), plural(s.Deletions, "deletion"))
	}
	return b.Flush()
}

type statRow struct {
	name, number, words string
	plus, minus         int
}

func statRows(changes []Change) []statRow {
	alone := directoriesAlone(changes)
	var rows []statRow
	for i := range changes {
		c := &changes[i]
		r := statRow{name: Quote(c.Path), number: fmt.Sprint(c.Insertions + c.Deletions), plus: c.Insertions, minus: c.Deletions}
		switch {
		case c.Refused != "":
			r.words = "refused: " + Visible(c.Refused)
		case c.summarised():
			r.words = fmt.Sprintf("%s, %s", plural(c.Count, "built file"), humanBytes(c.Bytes))
		case c.directory() && !alone[c.Path]:
			continue
		case c.Kind == ModeChanged:
			r.words = fmt.Sprintf("mode %04o -> %04o", c.Old.Mode, c.New.perm())
		case c.directory():
			r.words = string(c.Kind) + " directory"
		case c.Binary:
			r.words = fmt.Sprintf("Bin %d -> %d bytes", c.Old.Size, c.New.Size)
		}
		rows = append(rows, r)
	}
	return rows
}

// scale keeps what is not nothing visible.
func scale(n, most, width int) int {
	if n == 0 || most <= width {
		return n
	}
	return max(1, n*(width-1)/most)
}

// columns estimates how wide a terminal shows s.
func columns(s string) int {
	n := 0
	for _, r := range s {
		n += runeColumns(r)
	}
	return n
}

func runeColumns(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case r >= 0x1100 && r <= 0x115f, r >= 0x2e80 && r <= 0xa4cf, r >= 0xac00 && r <= 0xd7a3, r >= 0xf900 && r <= 0xfaff,
		r >= 0xfe30 && r <= 0xfe6f, r >= 0xff00 && r <= 0xff60, r >= 0xffe0 && r <= 0xffe6, r >= 0x1f300 && r <= 0x1faff, r >= 0x20000 && r <= 0x3fffd:
		return 2
	}
	return 1
}

// fitLeft cuts a name from the left, where it says least.
func fitLeft(s string, width int) string {
	w := columns(s)
	if w <= width {
		return s
	}
	for w > width-3 {
		r, n := utf8.DecodeRuneInString(s)
		w, s = w-runeColumns(r), s[n:]
	}
	return "..." + s
}

// fitRight cuts a sentence, and shows that it goes on.
func fitRight(s string, width int) string {
	w := columns(s)
	if w <= width {
		return s
	}
	for w > width-3 {
		r, n := utf8.DecodeLastRuneInString(s)
		w, s = w-runeColumns(r), s[:len(s)-n]
	}
	return s + "..."
}
