package screen

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"casemate.dev/internal/review"
	"casemate.dev/internal/workspace"
	"github.com/gdamore/tcell/v3"
	"golang.org/x/sys/unix"
)

// view is everything that the screen shows.
type view struct {
	screen  tcell.Screen
	signals chan os.Signal
	stops   bool // on Ctrl-Z: not where that was ignored when we were started
	layer   *workspace.Layer
	changes []workspace.Change
	items   []review.Item
	rows    []row
	at, top int // the row under the cursor, and the first one shown
	height  int // rows of the list
	diff    pane
	reading bool // keys go to the diff

	search  string
	asking  *question
	message string
	helping bool
	helpTop int // the first row of the help that is shown
	counted int // items whose lines are counted
	stale   bool
	drawn   time.Time

	decided *review.Decision
	ended   unix.Signal
}

// row is one line of the list.
type row struct {
	title string // of a group, which the cursor skips
	item  int
}

// question is what the last line asks: a letter, or a line to be typed.
type question struct {
	text  string
	short string // for a narrow screen
	typed string
	line  bool
	then  func(answer string)
}

func newView(s tcell.Screen, l *workspace.Layer, changes []workspace.Change) *view {
	v := &view{screen: s, layer: l, changes: changes, items: review.Items(changes)}
	v.diff.of = -1
	group := review.Group(-1)
	for i := range v.items {
		if g := v.items[i].Group; g != group {
			group = g
			v.rows = append(v.rows, row{title: g.Title(), item: -1})
		}
		v.rows = append(v.rows, row{item: i})
	}
	v.move(1)
	return v
}

// item is the one under the cursor, nil if there is none.
func (v *view) item() *review.Item {
	if v.at < 0 || v.at >= len(v.rows) || v.rows[v.at].item < 0 {
		return nil
	}
	return &v.items[v.rows[v.at].item]
}

// move moves the cursor by n items, over titles.
func (v *view) move(n int) {
	step := 1
	if n < 0 {
		step, n = -1, -n
	}
	for at := v.at + step; n > 0 && at >= 0 && at < len(v.rows); at += step {
		if v.rows[at].item >= 0 {
			v.at = at
			n--
		}
	}
}

// countSome counts lines for a moment, and reports whether there is more to count.
func (v *view) countSome() bool {
	for start := time.Now(); v.counted < len(v.items); {
		it := &v.items[v.counted]
		one := []workspace.Change{it.Change}
		if v.layer.Count(context.Background(), one) == nil {
			it.Change = one[0]
		}
		v.counted++
		v.stale = true
		if time.Since(start) > 10*time.Millisecond {
			return true
		}
	}
	return false
}

// summary is the exit line of a run, as far as it is known, or a shorter one where that does not fit.
func (v *view) summary(width int) string {
	if v.counted < len(v.items) {
		return fmt.Sprintf("counting lines: %d of %d", v.counted, len(v.items))
	}
	list := make([]workspace.Change, len(v.items))
	for i := range v.items {
		list[i] = v.items[i].Change
	}
	s := workspace.Summarize(list)
	if long := s.String(); columns(long) <= width {
		return long
	}
	short := fmt.Sprintf("%s (+%d -%d)", count(s.Files, "file"), s.Insertions, s.Deletions)
	for _, part := range []struct {
		n    int
		what string
	}{{s.Protected, "run on your machine"}, {s.Conflicts, "conflict"}, {s.Built, "built"}, {s.Refused, "refused"}} {
		if part.n > 0 {
			short += fmt.Sprintf(" · %d %s", part.n, part.what)
		}
	}
	return short
}

// toggle chooses the change under the cursor, or leaves it again. What needs its own consent is chosen only once all of it was on the screen.
func (v *view) toggle() {
	it := v.item()
	switch {
	case it == nil:
	case it.Chosen:
		it.Chosen, it.Shown = false, ""
	case it.Stays():
		v.message = "it stays inside: " + it.Why()
		if it.Group == review.Built {
			v.message = "built files stay inside: casemate apply --built takes them"
		}
	case it.Group == review.Changed || it.Group == review.ByName:
		it.Chosen = true
	case !v.diff.whole():
		v.reading = true
		v.message = "first look at all of it: Ctrl-D goes on, then space chooses it"
	case it.Conflict != "":
		digest := v.diff.shown.Digest
		v.ask("You changed it too. Overwrite your own change? [y/N]", "Overwrite your own change? [y/N]", func(answer string) {
			if it.Chosen = answer == "y"; it.Chosen {
				it.Shown = digest
			}
		})
	default:
		it.Chosen, it.Shown = true, v.diff.shown.Digest
		if it.Shown == "" {
			it.Chosen, v.message = false, "it cannot be read, so it cannot be chosen"
		}
	}
}

// chooseAll chooses everything that needs no question, or leaves everything.
func (v *view) chooseAll() {
	n := 0
	for i := range v.items {
		if it := &v.items[i]; it.Group == review.Changed && !it.Chosen {
			it.Chosen = true
			n++
		}
	}
	if n > 0 {
		v.message = fmt.Sprintf("%d chosen; what has a mark is chosen one by one", n)
		return
	}
	for i := range v.items {
		v.items[i].Chosen, v.items[i].Shown = false, ""
	}
	v.message = "nothing is chosen any more"
}

func (v *view) chosen() (n, run, conflicts int) {
	for i := range v.items {
		if it := &v.items[i]; it.Chosen {
			n++
			if it.Protected != "" {
				run++
			}
			if it.Conflict != "" {
				conflicts++
			}
		}
	}
	return n, run, conflicts
}

func (v *view) apply() {
	n, run, conflicts := v.chosen()
	if n == 0 {
		v.message = "nothing is chosen: space chooses one, A all that need no question"
		return
	}
	text, short := fmt.Sprintf("Apply %s", count(n, "change")), fmt.Sprintf("Apply %d", n)
	if run > 0 {
		text += fmt.Sprintf(", of which %d would run on your machine", run)
		short += fmt.Sprintf(", %d RUNS", run)
	}
	if conflicts > 0 {
		text += fmt.Sprintf(", %d over your own", conflicts)
		short += fmt.Sprintf(", %d CONFLICT", conflicts)
	}
	v.ask(text+"? [y/N]", short+"? [y/N]", func(answer string) {
		if answer == "y" {
			d := review.Decide(v.changes, v.items)
			v.decided = &d
		}
	})
}

func (v *view) discard() {
	v.ask("Throw all held changes away, built files too? [y/N]", "Discard everything held? [y/N]", func(answer string) {
		if answer == "y" {
			v.decided = &review.Decision{Action: review.Discard}
		}
	})
}

func (v *view) quit() { v.decided = &review.Decision{Action: review.Keep} }

func (v *view) ask(text, short string, then func(string)) {
	v.asking = &question{text: text, short: short, then: then}
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// find moves to the next item whose name holds what was searched for, or the next line of the diff.
func (v *view) find(step int) {
	if v.search == "" {
		return
	}
	if v.reading {
		if !v.diff.find(v.search, step) {
			v.message = "not found: " + v.search
		}
		return
	}
	for n, at := 0, v.at; n < len(v.rows); n++ {
		at = (at + step + len(v.rows)) % len(v.rows)
		if i := v.rows[at].item; i >= 0 && matches(v.items[i].Name(), v.search) {
			v.at = at
			return
		}
	}
	v.message = "not found: " + v.search
}

// matches searches as many programs do: capitals count only if there are any in what is searched for.
func matches(text, search string) bool {
	if strings.ToLower(search) == search {
		text = strings.ToLower(text)
	}
	return strings.Contains(text, search)
}
