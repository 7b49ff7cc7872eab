package screen

import (
	"strings"
	"testing"

	"casemate.dev/internal/review"
	"casemate.dev/internal/workspace"
)

// FuzzWrap: rows show every byte of a line once, in order, and none is wider than the screen. What stood outside would be hidden.
func FuzzWrap(f *testing.F) {
	for _, s := range []string{"", "plain", strings.Repeat("x", 200), "表表表表表", "e\u0301e\u0301", "👨‍👩‍👧 family", "\U0001f1e6\U0001f1e7\U0001f1e8", "a\tb", "\xff\xfe\x1b[2J", "\u202eabc", "क्षि", "가각", strings.Repeat("\u0300", 50)} {
		f.Add(s, 20)
	}
	f.Fuzz(func(t *testing.T, s string, width int) {
		if width < 3 || width > 500 || len(s) > 4096 {
			return
		}
		text := expand(review.Plainly(workspace.Visible(strings.ReplaceAll(s, "\n", " "))))
		at := 0
		for i, r := range wrap(nil, 0, text, width) {
			room := width
			if i > 0 {
				room--
			}
			if r.from != at || r.to < r.from || columns(text[r.from:r.to]) > room {
				t.Fatalf("row %d of %q is %d to %d after %d, %d columns of %d", i, text, r.from, r.to, at, columns(text[r.from:r.to]), room)
			}
			at = r.to
		}
		if at != len(text) {
			t.Fatalf("%d of %d bytes are shown of %q", at, len(text), text)
		}
		if c := columns(fitLeft(text, width)); c > width {
			t.Errorf("fitLeft makes %d columns of %d", c, width)
		}
		if c := columns(fitRight(text, width)); c > width {
			t.Errorf("fitRight makes %d columns of %d", c, width)
		}
		for _, r := range text {
			if r < 0x20 || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e {
				t.Fatalf("%q keeps %U", text, r)
			}
		}
	})
}

// TestSeenWithoutGaps: a jump to the end does not count as having seen what lies between, and another width forgets nothing and invents nothing.
func TestSeenWithoutGaps(t *testing.T) {
	var p pane
	p.set(0, review.Diff{Text: strings.TrimSuffix(strings.Repeat("+line of a diff\n", 100), "\n")}, true)
	p.fit(80, 10)
	p.look()
	if p.whole() {
		t.Fatal("ten rows of a hundred are not the whole")
	}
	p.scroll(1 << 30)
	p.look()
	if p.whole() || p.top != 90 {
		t.Fatalf("after a jump: whole %v, top %d", p.whole(), p.top)
	}
	p.scroll(-1 << 30)
	for range 5 {
		p.scroll(10)
		p.look()
	}
	p.fit(10, 10) // every line is two rows now
	if p.whole() || p.rows[p.seen].line != 60 || p.rows[p.top].line != 50 {
		t.Fatalf("after a resize: seen to line %d, top line %d", p.rows[p.seen].line, p.rows[p.top].line)
	}
	for range 20 {
		p.scroll(10)
		p.look()
	}
	if !p.whole() {
		t.Fatalf("seen to row %d of %d", p.seen, len(p.rows))
	}
	p.fit(80, 10)
	if !p.whole() {
		t.Fatal("another width made it unseen")
	}
}
