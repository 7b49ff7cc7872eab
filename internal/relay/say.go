package relay

import "golang.org/x/sys/unix"

// Say shows a line of casemate's own on the user's terminal, and reports whether it could: not while a program inside draws on the whole screen, edits
// a line or reads keys, and not in the middle of a line or sequence.
func (t *Terminal) Say(line string) bool {
	if t.loop == nil || !t.entered || t.stopping || t.stopped || t.innerOver || t.master < 0 || len(t.shown) > 0 {
		return false
	}
	if t.Filter.Altered() || t.Filter.state != ground || t.Filter.need > 0 || t.midLine {
		return false
	}
	now, err := getAttributes(t.master)
	if err != nil || now.Lflag&unix.ICANON == 0 {
		return false
	}
	t.shown = []byte(line + "\r\n")
	t.turn()
	return true
}
