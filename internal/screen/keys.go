package screen

import (
	"strings"

	"casemate.dev/internal/review"
	"github.com/gdamore/tcell/v3"
)

// help is what the key ? shows.
const help = `j k, arrows       next, previous change; in the diff: line
Ctrl-D Ctrl-U     half a page down, up; also PgDn PgUp; g G: first, last
Enter, Tab        to the diff and back; J K scroll it from the list
space             choose the change, or leave it
A                 choose all that need no question, or none
a                 apply what is chosen (asks)
d                 discard everything that is held (asks)
/  n N            search names, in the diff lines; next, previous match
n N in the diff   without a search: next, previous hunk
q, Ctrl-C         quit; all stays held

RUNS      your machine would execute it by itself. It can be chosen only
          after all of it has been on the screen; exactly that is applied
CONFLICT  you changed it too; the diff shows what would become of yours
CAREFUL   the reason stands beside it; A does not choose it
BUILT     the project's gitignore covers it: casemate apply --built
REFUSED   it cannot leave the sandbox

A line of a diff that begins with > goes on from the one above it. What is no
text, and what nobody sees, is written out: \x1b, \u200b.`

// key acts on one key.
func (v *view) key(e *tcell.EventKey) {
	switch {
	case e.Key() == tcell.KeyCtrlC:
		v.quit()
	case e.Key() == tcell.KeyCtrlZ:
		v.suspend()
	case e.Key() == tcell.KeyCtrlL:
		v.screen.Sync()
	case v.helping:
		v.keyInHelp(e)
	case v.asking != nil:
		v.answer(e)
	case e.Key() == tcell.KeyRune && e.Modifiers()&^tcell.ModShift == 0:
		v.letter(e.Str())
	default:
		v.special(e.Key())
	}
}

// keyInHelp scrolls the help; any other key goes back.
func (v *view) keyInHelp(e *tcell.EventKey) {
	_, h := v.screen.Size()
	switch {
	case e.Str() == "j" || e.Key() == tcell.KeyDown:
		v.helpTop++
	case e.Str() == "k" || e.Key() == tcell.KeyUp:
		v.helpTop = max(0, v.helpTop-1)
	case e.Str() == " " || e.Key() == tcell.KeyPgDn || e.Key() == tcell.KeyCtrlD:
		v.helpTop += max(1, h-2)
	case e.Key() == tcell.KeyPgUp || e.Key() == tcell.KeyCtrlU:
		v.helpTop = max(0, v.helpTop-max(1, h-2))
	default:
		v.helping = false
	}
}

// answer gives a key to the question of the last line. Of a letter everything but y is a no.
func (v *view) answer(e *tcell.EventKey) {
	q := v.asking
	switch {
	case !q.line:
		v.asking = nil
		q.then(strings.ToLower(e.Str()))
	case e.Key() == tcell.KeyEnter:
		v.asking = nil
		q.then(q.typed)
	case e.Key() == tcell.KeyEsc:
		v.asking = nil
	case e.Key() == tcell.KeyBackspace:
		if r := []rune(q.typed); len(r) > 0 {
			q.typed = string(r[:len(r)-1])
		} else {
			v.asking = nil
		}
	case e.Key() == tcell.KeyCtrlU:
		q.typed = ""
	case e.Key() == tcell.KeyRune:
		q.typed += review.Plainly(e.Str())
	}
}

func (v *view) letter(s string) {
	switch s {
	case "j":
		v.down(1)
	case "k":
		v.down(-1)
	case "J":
		v.diff.scroll(1)
	case "K":
		v.diff.scroll(-1)
	case "g":
		v.down(-1 << 30)
	case "G":
		v.down(1 << 30)
	case " ":
		v.toggle()
	case "A":
		v.chooseAll()
	case "a":
		v.apply()
	case "d":
		v.discard()
	case "q":
		v.quit()
	case "?":
		v.helping, v.helpTop = true, 0
	case "n":
		v.again(1)
	case "N":
		v.again(-1)
	case "/":
		v.asking = &question{text: "/", line: true, then: func(typed string) {
			if typed != "" {
				v.search = typed
			}
			v.find(1)
		}}
	}
}

func (v *view) special(k tcell.Key) {
	half := max(1, v.page()/2)
	switch k {
	case tcell.KeyDown:
		v.down(1)
	case tcell.KeyUp:
		v.down(-1)
	case tcell.KeyCtrlD:
		v.down(half)
	case tcell.KeyCtrlU:
		v.down(-half)
	case tcell.KeyPgDn, tcell.KeyCtrlF:
		v.down(v.page())
	case tcell.KeyPgUp, tcell.KeyCtrlB:
		v.down(-v.page())
	case tcell.KeyHome:
		v.down(-1 << 30)
	case tcell.KeyEnd:
		v.down(1 << 30)
	case tcell.KeyEnter, tcell.KeyTab, tcell.KeyBacktab:
		v.reading = !v.reading
	case tcell.KeyEsc:
		v.reading, v.search = false, ""
	}
}

// down moves what the keys go to.
func (v *view) down(n int) {
	if v.reading {
		v.diff.scroll(n)
	} else {
		v.move(n)
	}
}

func (v *view) page() int {
	if v.reading {
		return max(1, v.diff.height-1)
	}
	return max(1, v.height-1)
}

// again goes to the next match, or where nothing was searched for to the next hunk.
func (v *view) again(step int) {
	if v.reading && v.search == "" {
		if !v.diff.hunk(step) {
			v.message = "no more hunks"
		}
		return
	}
	v.find(step)
}
