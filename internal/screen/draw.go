package screen

import (
	"fmt"
	"strings"
	"time"

	"casemate.dev/internal/review"
	"github.com/gdamore/tcell/v3"
)

// colour is one of the eight that every terminal has, as its owner has set them up. Where there are none, or NO_COLOR is set, the signs and words say
// the same: tcell would show text in a dark colour reversed, as is what the cursor stands on.
func (v *view) colour(s tcell.Style, n int) tcell.Style {
	if v.screen.Colors() == 0 {
		return s
	}
	return s.Foreground(tcell.PaletteColor(n))
}

func (v *view) style(k kind) tcell.Style {
	s := tcell.StyleDefault
	switch k {
	case remark:
		return v.colour(s, 3)
	case head:
		return s.Bold(true)
	case hunk:
		return v.colour(s, 6)
	case added:
		return v.colour(s, 2)
	case removed:
		return v.colour(s, 1)
	}
	return s
}

func (v *view) groupStyle(g review.Group) tcell.Style {
	s := tcell.StyleDefault
	switch g {
	case review.Protected:
		return v.colour(s, 1).Bold(true)
	case review.Conflict, review.ByName:
		return v.colour(s, 3)
	case review.Built, review.Refused:
		return s.Dim(true)
	}
	return s
}

// draw draws everything anew; tcell sends what has changed.
func (v *view) draw() {
	v.stale, v.drawn = false, time.Now()
	s := v.screen
	s.Clear()
	s.HideCursor()
	w, h := s.Size()
	if w < 20 || h < 6 {
		v.put(0, 0, w, "too small", tcell.StyleDefault)
		s.Show()
		return
	}
	v.layout(h)
	v.load()
	v.diff.fit(w, h-v.height-3)
	if v.helping {
		v.drawHelp(w, h)
		s.Show()
		return
	}
	v.bar(0, w, v.title(w))
	for y := range v.height {
		if i := v.top + y; i < len(v.rows) {
			v.drawRow(y+1, w, i)
		}
	}
	v.drawSeparator(v.height+1, w)
	v.drawDiff(v.height+2, w)
	v.drawLast(h-1, w)
	s.Show()
}

// title is the program's name, where there is room for it, and what is held.
func (v *view) title(w int) string {
	const name = "casemate review: "
	s := v.summary(w)
	if columns(name+s) <= w {
		return name + s
	}
	return s
}

// layout gives the list what it needs, up to two fifths of the screen, and keeps the cursor in it.
func (v *view) layout(h int) {
	v.height = max(1, min(len(v.rows), (h-3)*2/5))
	if v.at < v.top {
		v.top = v.at
	}
	if v.at == v.top && v.top > 0 && v.rows[v.top-1].item < 0 {
		v.top-- // the title over the first
	}
	if v.at >= v.top+v.height {
		v.top = v.at - v.height + 1
	}
	v.top = max(0, min(v.top, len(v.rows)-v.height))
}

// load reads the diff of the change under the cursor. What is not any more what the person chose is not chosen any more.
func (v *view) load() {
	it := v.item()
	if it == nil || v.diff.of == v.rows[v.at].item {
		return
	}
	d, err := review.Look(v.layer, it, false)
	if err != nil {
		d = review.Diff{Text: review.Plainly(err.Error())}
	}
	if it.Shown != "" && it.Shown != d.Digest {
		it.Chosen, it.Shown = false, ""
		v.message = "the sandbox has changed it since you looked: look again"
	}
	v.diff.set(v.rows[v.at].item, d, v.screen.CharacterSet() == "UTF-8")
}

// put writes text into at most width columns.
func (v *view) put(x, y, width int, text string, st tcell.Style) int {
	if v.screen.CharacterSet() != "UTF-8" {
		text = ascii(strings.ReplaceAll(text, "·", "-"))
	}
	end := x + width
	for text != "" && x < end {
		rest, n := v.screen.Put(x, y, text, st)
		if n == 0 || x+n > end {
			break
		}
		text, x = rest, x+n
	}
	return x
}

func (v *view) bar(y, w int, text string) {
	st := tcell.StyleDefault.Reverse(true)
	v.screen.FillArea(0, y, w, 1, ' ', st)
	v.put(0, y, w, fitRight(text, w), st)
}

func (v *view) drawRow(y, w, i int) {
	r := v.rows[i]
	if r.item < 0 {
		v.put(0, y, w, "-- "+r.title+" --", tcell.StyleDefault.Bold(true))
		return
	}
	it := &v.items[r.item]
	st := v.groupStyle(it.Group)
	if i == v.at {
		v.put(0, y, 1, ">", tcell.StyleDefault.Bold(true))
		st = st.Reverse(!v.reading).Underline(v.reading)
	}
	box := "[ ]"
	switch {
	case it.Chosen:
		box = "[x]"
	case it.Stays():
		box = "   "
	}
	left := fmt.Sprintf("%s %s ", box, it.Letter())
	if m := it.Group.Mark(); m != "" {
		left += m + " "
	}
	right := v.right(it)
	room := w - 2 - columns(left) - columns(right) - 2
	name := fitLeft(it.Name(), max(room, 8))
	x := v.put(2, y, w-2, left+name, st)
	if why := it.Why(); why != "" && w-x-columns(right) > 12 {
		v.put(x+2, y, w-x-columns(right)-4, fitRight(why, w-x-columns(right)-4), tcell.StyleDefault)
	}
	v.put(w-columns(right), y, columns(right), right, tcell.StyleDefault)
}

// right is what stands at the end of a row: the lines.
func (v *view) right(it *review.Item) string {
	switch {
	case it.Stays() || it.Directory():
		return ""
	case it.Binary:
		return "binary"
	case it.Insertions+it.Deletions == 0:
		return ""
	}
	return fmt.Sprintf("+%d -%d", it.Insertions, it.Deletions)
}

func (v *view) drawSeparator(y, w int) {
	name := ""
	if it := v.item(); it != nil {
		name = it.Name()
	}
	p := &v.diff
	place := "all"
	if len(p.rows) > p.height {
		place = fmt.Sprintf("rows %d-%d of %d", p.top+1, min(p.top+p.height, len(p.rows)), len(p.rows))
	}
	tail := " " + place + " "
	if hint := "(Tab: back to the list) "; v.reading && columns(tail+hint) < w-8 {
		tail += hint
	} else if v.reading {
		tail += "(Tab) "
	}
	v.bar(y, w, "")
	st := tcell.StyleDefault.Reverse(true)
	v.put(1, y, w-2, fitLeft(name, max(8, w-2-columns(tail))), st)
	v.put(w-columns(tail), y, columns(tail), tail, st)
}

func (v *view) drawDiff(y, w int) {
	p := &v.diff
	for n := range p.height {
		i := p.top + n
		if i >= len(p.rows) {
			break
		}
		r := p.rows[i]
		l := p.lines[r.line]
		st := v.style(l.kind)
		if v.search != "" && v.reading && matches(l.text, v.search) {
			st = st.Underline(true)
		}
		x := 0
		if r.from > 0 {
			x = v.put(0, y+n, 1, ">", tcell.StyleDefault.Dim(true))
		}
		v.put(x, y+n, w-x, l.text[r.from:r.to], st)
	}
	p.look()
}

func (v *view) drawLast(y, w int) {
	st := tcell.StyleDefault.Bold(true)
	switch {
	case v.asking != nil && v.asking.line:
		x := v.put(0, y, w, v.asking.text+fitLeft(v.asking.typed, w-3), st)
		v.screen.ShowCursor(x, y)
	case v.asking != nil:
		text := v.asking.text
		if columns(text) > w && v.asking.short != "" {
			text = v.asking.short // nobody should answer what is cut off
		}
		x := v.put(0, y, w, fitRight(text, w), st)
		v.screen.ShowCursor(min(x+1, w-1), y)
	case v.message != "":
		v.put(0, y, w, fitRight(v.message, w), st)
	default:
		n, _, _ := v.chosen()
		text := fmt.Sprintf("%d chosen  space choose  a apply  d discard  Tab diff  / search  ? help  q quit", n)
		if columns(text) > w {
			text = fmt.Sprintf("%d chosen  ? keys  q quit", n)
		}
		v.put(0, y, w, fitRight(text, w), tcell.StyleDefault)
	}
}

func (v *view) drawHelp(w, h int) {
	var rows []string
	for text := range strings.SplitSeq(help, "\n") {
		for _, r := range wrap(nil, 0, text, w) {
			rows = append(rows, text[r.from:r.to])
		}
	}
	title := "casemate review: keys (any key goes back)"
	if len(rows) > h-1 {
		title = "keys (j k scroll, q goes back)"
	}
	v.bar(0, w, title)
	v.helpTop = max(0, min(v.helpTop, len(rows)-(h-1)))
	for y, text := range rows[v.helpTop:min(len(rows), v.helpTop+h-1)] {
		v.put(0, y+1, w, text, tcell.StyleDefault)
	}
}
