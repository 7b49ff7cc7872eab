package screen

import (
	"strings"

	"casemate.dev/internal/review"
)

// pane is the diff of one change, broken into rows as wide as the screen: nothing stands outside of it.
type pane struct {
	of     int // item, -1 for none
	shown  review.Diff
	lines  []line
	rows   []span
	width  int
	height int
	top    int
	seen   int // rows that have been on the screen, from the first on without a gap
}

// line is one line of a diff.
type line struct {
	text string
	kind kind
}

type kind int

const (
	unchanged kind = iota
	remark
	head
	hunk
	added
	removed
)

// span is the part of a line that one row shows.
type span struct{ line, from, to int }

// set shows another diff.
func (p *pane) set(of int, d review.Diff, utf8 bool) {
	*p = pane{of: of, shown: d, height: p.height}
	in := false // a hunk
	for text := range strings.SplitSeq(d.Text, "\n") {
		k := kindOf(text, in)
		switch k {
		case hunk:
			in = true
		case head:
			in = false
		}
		text = expand(text)
		if !utf8 {
			text = ascii(text)
		}
		p.lines = append(p.lines, line{text, k})
	}
}

func kindOf(text string, inHunk bool) kind {
	switch {
	case strings.HasPrefix(text, "diff --git "):
		return head
	case strings.HasPrefix(text, "@@ "):
		return hunk
	case strings.HasPrefix(text, "# "):
		return remark
	case !inHunk:
		return head
	case strings.HasPrefix(text, "+"):
		return added
	case strings.HasPrefix(text, "-"):
		return removed
	}
	return unchanged
}

// expand writes tabs as blanks, to columns that are a multiple of 8 after the sign.
func expand(s string) string {
	if !strings.Contains(s, "\t") {
		return s
	}
	var b strings.Builder
	col := -1
	for part := range strings.SplitAfterSeq(s, "\t") {
		text, tab := strings.CutSuffix(part, "\t")
		b.WriteString(text)
		col += columns(text)
		if tab {
			n := 8 - max(col, 0)%8
			b.WriteString("        "[:n])
			col += n
		}
	}
	return b.String()
}

// fit breaks the lines anew if the width has changed, and keeps the place.
func (p *pane) fit(width, height int) {
	p.height = height
	if width == p.width || width < 3 {
		return
	}
	topLine, seenLine := 0, len(p.lines)
	if p.top < len(p.rows) {
		topLine = p.rows[p.top].line
	}
	if p.seen < len(p.rows) {
		seenLine = p.rows[p.seen].line
	}
	fresh := p.width == 0
	p.width, p.rows = width, p.rows[:0]
	p.top, p.seen = -1, -1
	for i := range p.lines {
		if p.top < 0 && i >= topLine {
			p.top = len(p.rows)
		}
		if p.seen < 0 && i >= seenLine {
			p.seen = len(p.rows)
		}
		p.rows = wrap(p.rows, i, p.lines[i].text, width)
	}
	if p.top < 0 {
		p.top = 0
	}
	if p.seen < 0 {
		p.seen = len(p.rows)
	}
	if fresh {
		p.seen = 0
	}
}

// look notes what is on the screen now.
func (p *pane) look() {
	if p.top <= p.seen {
		p.seen = max(p.seen, min(p.top+p.height, len(p.rows)))
	}
}

// whole reports whether all of it has been on the screen.
func (p *pane) whole() bool { return p.of >= 0 && p.width > 0 && p.seen >= len(p.rows) }

// scroll moves by n rows.
func (p *pane) scroll(n int) {
	p.top = max(0, min(p.top+n, len(p.rows)-p.height))
}

// hunk goes to the next or the previous hunk.
func (p *pane) hunk(step int) bool {
	for i := p.top + step; i >= 0 && i < len(p.rows); i += step {
		if r := p.rows[i]; r.from == 0 && p.lines[r.line].kind == hunk {
			last := p.top
			p.top = 0
			p.scroll(i)
			return p.top != last
		}
	}
	return false
}

// find goes to the next or the previous line that holds what is searched for, over the end to the beginning.
func (p *pane) find(search string, step int) bool {
	n := len(p.rows)
	for k := 1; k <= n; k++ {
		i := ((p.top+step*k)%n + n) % n
		if r := p.rows[i]; r.from == 0 && matches(p.lines[r.line].text, search) {
			p.top = i // not with scroll: the match must be where the next search starts
			return true
		}
	}
	return false
}
