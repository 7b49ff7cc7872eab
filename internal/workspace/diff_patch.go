package workspace

import (
	"bufio"
	"fmt"
	"strings"

	"github.com/aymanbagabas/go-udiff/lcs"
)

// patchWriter writes git's extended unified format (git-diff(1), "Generating patch text with -p"), without index lines.
type patchWriter struct {
	*bufio.Writer
	o DiffOptions
}

const (
	colorHead   = "\x1b[1m"
	colorHunk   = "\x1b[36m"
	colorOld    = "\x1b[31m"
	colorNew    = "\x1b[32m"
	colorRemark = "\x1b[33m"
	colorOff    = "\x1b[m"
)

// line writes one line of the format, colored or not. s has no newline.
func (p *patchWriter) line(color, s string) {
	if p.o.Color && color != "" {
		s = color + s + colorOff
	}
	p.WriteString(s)
	p.WriteByte('\n')
}

// remark writes a line that git-apply skips.
func (p *patchWriter) remark(rel, what string) {
	p.line(colorRemark, "# "+Quote(rel)+": "+Visible(what))
}

// gitMode is all that git keeps of a mode.
func gitMode(s State) string {
	switch {
	case s.Type == Symlink:
		return "120000"
	case s.Mode&0o100 != 0:
		return "100755"
	}
	return "100644"
}

// file writes one file's part; an absent side is a zero State.
func (p *patchWriter) file(rel string, was, is State, before, after *text) {
	if before == nil {
		before = &text{}
	}
	if after == nil {
		after = &text{}
	}
	same := before.opaque == after.opaque && !before.opaque && string(before.data) == string(after.data)
	if same && was.Type != Absent && is.Type != Absent && gitMode(was) == gitMode(is) {
		return // a remark says what is left: bits that git does not keep
	}
	p.line(colorHead, "diff --git "+Quote("a/"+rel)+" "+Quote("b/"+rel))
	switch {
	case was.Type == Absent:
		p.line(colorHead, "new file mode "+gitMode(is))
	case is.Type == Absent:
		p.line(colorHead, "deleted file mode "+gitMode(was))
	case gitMode(was) != gitMode(is):
		p.line(colorHead, "old mode "+gitMode(was))
		p.line(colorHead, "new mode "+gitMode(is))
	}
	if same {
		return
	}
	from, to := label("a/", rel, was), label("b/", rel, is)
	if before.opaque || after.opaque {
		p.line("", fmt.Sprintf("Binary files %s and %s differ", from, to))
		p.remark(rel, fmt.Sprintf("was %s, is %s", humanBytes(before.size), humanBytes(after.size)))
		return
	}
	p.line(colorHead, "--- "+tabbed(from))
	p.line(colorHead, "+++ "+tabbed(to))
	p.hunks(splitLines(string(before.data)), splitLines(string(after.data)))
}

func label(prefix, rel string, s State) string {
	if s.Type == Absent {
		return "/dev/null"
	}
	return Quote(prefix + rel)
}

// tabbed ends a name with spaces in it, as git does, so that nobody takes what follows the space for a date.
func tabbed(name string) string {
	if strings.Contains(name, " ") {
		return name + "\t"
	}
	return name
}

// hunks writes the differences with three lines around each.
func (p *patchWriter) hunks(a, b []string) {
	diffs := diffLines(a, b)
	for len(diffs) > 0 {
		n := 1
		for n < len(diffs) && diffs[n].Start-diffs[n-1].End <= 2*contextLines {
			n++
		}
		p.hunk(a, b, diffs[:n])
		diffs = diffs[n:]
	}
}

func (p *patchWriter) hunk(a, b []string, diffs []lcs.Diff) {
	first, last := diffs[0], diffs[len(diffs)-1]
	lead := min(contextLines, first.Start)
	trail := min(contextLines, len(a)-last.End)
	from, to := first.Start-lead, last.End+trail
	newFrom, newTo := first.ReplStart-lead, last.ReplEnd+trail
	p.line(colorHunk, fmt.Sprintf("@@ -%s +%s @@", lineRange(from, to-from), lineRange(newFrom, newTo-newFrom)))
	at := from
	for _, d := range diffs {
		p.lines(" ", "", a[at:d.Start])
		p.lines("-", colorOld, a[d.Start:d.End])
		p.lines("+", colorNew, b[d.ReplStart:d.ReplEnd])
		at = d.End
	}
	p.lines(" ", "", a[at:to])
}

// lineRange counts lines from 1, and an empty range from the line before it.
func lineRange(start, n int) string {
	switch n {
	case 0:
		return fmt.Sprintf("%d,0", start)
	case 1:
		return fmt.Sprint(start + 1)
	}
	return fmt.Sprintf("%d,%d", start+1, n)
}

func (p *patchWriter) lines(sign, color string, lines []string) {
	for _, s := range lines {
		s, ended := strings.CutSuffix(s, "\n")
		if p.o.Terminal || p.o.Color {
			s = Visible(s)
		}
		p.line(color, sign+s)
		if !ended {
			p.line("", `\ No newline at end of file`)
		}
	}
}
