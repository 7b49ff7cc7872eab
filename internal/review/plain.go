package review

import (
	"fmt"
	"io"
	"strings"

	"casemate.dev/internal/workspace"
)

// Walker asks about changes one by one, in lines, as git add -p does.
type Walker struct {
	*Asker
	Layer *workspace.Layer
	Color bool
}

const (
	firstLines = 200 // of a diff; the rest on demand, for the sake of slow lines and of those who listen
	firstBytes = 32 << 10
)

const keysHelp = `y - apply this change
n - leave it in the sandbox (also Enter)
a - apply it, and all that follow and need no question of their own
d - leave it and all that follow; apply what was chosen
v - show all of a long change
q - quit: nothing is applied
? - this help
`

// All asks about every change. It reports false if the person quit: then nothing is to be applied.
func (w *Walker) All(items []Item) bool {
	total := 0
	for i := range items {
		if !items[i].Stays() {
			total++
		}
	}
	n, rest := 0, false
	for i := range items {
		it := &items[i]
		if it.Stays() {
			continue
		}
		n++
		if rest && !it.Asks() {
			it.Chosen = true
			continue
		}
		switch w.one(it, fmt.Sprintf("%d/%d", n, total)) {
		case 'y':
			it.Chosen = true
		case 'a':
			it.Chosen, rest = true, true
		case 'd':
			return true
		case 'q', 0:
			return false
		}
	}
	w.staying(items)
	return true
}

// Questions asks about the changes that need a question of their own, and chooses all others.
func (w *Walker) Questions(items []Item) bool {
	var asked []Item
	var at []int
	for i := range items {
		if it := &items[i]; it.Asks() {
			asked, at = append(asked, *it), append(at, i)
		} else {
			it.Chosen = !it.Stays()
		}
	}
	if !w.All(asked) {
		return false
	}
	for k, i := range at {
		items[i] = asked[k]
	}
	return true
}

// one shows a change and asks. Of a protected change, yes is heard only after all of it has been shown.
func (w *Walker) one(it *Item, count string) byte {
	diff, err := Look(w.Layer, it, w.Color)
	if err != nil {
		fmt.Fprintf(w.Out, "%s: %s\n", it.Name(), workspace.Visible(err.Error()))
		return 'n'
	}
	whole := w.show(diff.Text)
	if it.Protected != "" && whole {
		w.Fresh()
	}
	for {
		key := w.Key(w.question(it, count), "nyadqv", keysHelp)
		switch {
		case key == 'v':
			io.WriteString(w.Out, diff.Text+"\n")
			whole = true
			continue
		case (key == 'y' || key == 'a') && it.Protected != "" && !whole:
			fmt.Fprintln(w.Out, "It has not all been shown: v shows it, then answer.")
			continue
		}
		if it.Protected != "" && (key == 'y' || key == 'a') {
			it.Shown = diff.Digest
		}
		return key
	}
}

func (w *Walker) question(it *Item, count string) string {
	what := "apply %s"
	switch {
	case it.Group == Protected && it.Conflict != "":
		what = "RUNS on your machine, CONFLICT: let %s overwrite your own"
	case it.Group == Protected:
		what = "RUNS on your machine: let %s through"
	case it.Group == Conflict:
		what = "CONFLICT: overwrite your own change of %s"
	case it.Group == ByName:
		what = "CAREFUL: apply %s"
	}
	return fmt.Sprintf("(%s) "+what+" [y,n,a,d,q,?]? ", count, it.Name())
}

// show prints a diff, or the beginning of a long one, and reports whether that was all.
func (w *Walker) show(text string) bool {
	head, lines := text, 0
	for i, r := range text {
		if r == '\n' {
			lines++
		}
		if lines == firstLines || i >= firstBytes {
			head = text[:i]
			break
		}
	}
	fmt.Fprintln(w.Out, head)
	if left := text[len(head):]; left != "" {
		if w.Color {
			io.WriteString(w.Out, "\x1b[m")
		}
		fmt.Fprintf(w.Out, "... %d more lines, %d bytes: v shows all of it\n", strings.Count(left, "\n"), len(left))
		return false
	}
	return true
}

// staying says what cannot be chosen here.
func (w *Walker) staying(items []Item) {
	for i := range items {
		if it := &items[i]; it.Stays() {
			fmt.Fprintf(w.Out, "stays inside: %s: %s\n", it.Name(), it.Why())
		}
	}
}
