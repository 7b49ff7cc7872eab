package relay

import "bytes"

// Reset ends what a full-screen program does to a terminal, for when it was killed and could not. It does no harm to a
// terminal that needs none of it, and needs no terminfo: who does not know a sequence ignores it. It leaves alone what a
// user may have set up (colours of the palette, the shape of the pointer, tab stops) and does not clear the screen.
const Reset = "\x1b\\" + // ends a string or sequence that was being written
	"\x1b[?2026l" + // shows what is drawn again (synchronized output)
	"\x1b[<99u" + // ends the keyboard protocols of this screen (kitty)
	// Leaves the alternate screen. Entering it first makes that harmless where it was not entered: 1049l alone moves the
	// cursor to wherever it was saved last. Scrolling region and origin mode are reset there, because that moves it too.
	"\x1b[?1049h\x1b[r\x1b[?6l\x1b[?1049l" +
	"\x1b[<99u" + "\x1b[>4m" + // the keyboard protocols of the main screen; modifyOtherKeys
	"\x1b[?9l\x1b[?1000l\x1b[?1001l\x1b[?1002l\x1b[?1003l\x1b[?1005l\x1b[?1006l\x1b[?1015l\x1b[?1016l" + // mouse
	"\x1b[?1004l\x1b[?2004l\x1b[?2031l\x1b[?2048l\x1b[?9001l" + // focus, bracketed paste, colour scheme, size and Windows keys as input
	"\x1b[?1l\x1b>" + // cursor keys and keypad
	"\x1b[?69l\x1b[!p" + // margins left and right; soft reset, which does most of what follows where it is known
	"\x1b7\x1b[r\x1b8" + // the scrolling region of this screen, where each has its own
	"\x1b[4l\x1b[20l\x1b[?5l\x1b[?7h" + // insert, newline and reverse modes off; wrapping at the margin on
	"\x1b(B\x0f" + // ASCII
	"\x1b]8;;\x1b\\" + // no link
	"\x1b[0 q\x1b[?25h" + // the cursor as usual, and visible
	"\x1b[0m"

// modes keeps account of what Reset is for, so that it is not sent after a command that has tidied up.
type modes struct {
	private  uint32 // bit i: privateModes[i] is not as it should be
	keypad   bool
	keys     int // how often the keyboard protocol was asked for
	keysMain bool
}

// privateModes are those that are tracked; those that start out on are negative.
var privateModes = [...]int{
	1, 5, 6, -7, 9, -25, 47, 69, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 1047, 1049, 2004, 2026, 2031, 2048, 9001,
}

func (m *modes) altered() bool { return m.private != 0 || m.keypad || m.keys > 0 || m.keysMain }

func (m *modes) escape(s []byte) {
	switch string(s) {
	case "=":
		m.keypad = true
	case ">":
		m.keypad = false
	case "c": // full reset
		*m = modes{}
	}
}

func (m *modes) control(q sequence) {
	switch {
	case q.private == '?' && q.middle == "" && (q.final == 'h' || q.final == 'l'):
		for p := range bytes.SplitSeq(q.params, []byte(";")) {
			n, _ := atoi(p)
			m.set(n, q.final == 'h')
		}
	case q.middle == "!" && q.final == 'p': // soft reset
		m.set(1, false)
		m.set(6, false)
		m.set(25, true)
		m.keypad = false
	case q.private == '>' && q.final == 'u':
		m.keys++
	case q.private == '<' && q.final == 'u':
		m.keys = max(0, m.keys-max(1, q.first()))
	case q.private == '>' && q.final == 'm' && q.first() == 4:
		value := bytes.TrimLeft(bytes.TrimPrefix(q.params, []byte("4")), ";0")
		m.keysMain = len(value) > 0
	}
}

func (m *modes) set(mode int, on bool) {
	for i, p := range privateModes {
		switch mode {
		case p:
			m.mark(i, on)
		case -p:
			m.mark(i, !on)
		}
	}
}

func (m *modes) mark(i int, altered bool) {
	if altered {
		m.private |= 1 << i
	} else {
		m.private &^= 1 << i
	}
}
