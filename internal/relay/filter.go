package relay

import (
	"bytes"
	"unicode/utf8"
)

// Filter keeps from the user's terminal what a command must not do to it, in a stream that may be split anywhere. It is
// small on purpose: it passes everything that it does not know to be harmful among the sequences that move the cursor and
// set colours, and of the strings (OSC, DCS) only the kinds it knows to be harmless. verdict.go has the table.
//
//   - It drops what acts outside the terminal's screen: the clipboard, files, printers, windows, keys.
//   - It drops questions whose answer holds bytes that the command chose, for the answer is typed into whatever reads the
//     terminal next, the user's shell included (CVE-2003-0063, CVE-2008-2383, CVE-2021-33477, CVE-2022-45063). Questions
//     with answers of a fixed form (cursor position, colours, device attributes), which editors need, pass.
//
// Text passes unchanged. It is taken to be UTF-8: bytes that are C1 controls become U+FFFD, which is what a terminal shows
// for them. A command can still draw anything on the screen, a false prompt for example: that is not protected.
type Filter struct {
	Clipboard bool // the command may set the clipboard (OSC 52); it can never read it
	Off       bool // everything passes

	state   state
	kind    byte // of the string: ']' 'P' 'X' '^' or '_'
	escaped bool // the last byte of the string was ESC
	held    []byte
	skip    int  // digits of a palette entry still to come
	need    int  // continuation bytes still to come
	low     byte // the least and
	high    byte // the greatest that the next of them may be
	out     []byte
	modes   modes
}

type state uint8

const (
	ground    state = iota
	escape          // after ESC; held is the sequence so far
	control         // after ESC [; likewise
	undecided       // in a string of which it is not known whether it passes; likewise
	passing         // in a string that passes
	dropping        // in a string that does not
	palette         // in the Linux console's ESC ] P, which has no end
)

const (
	esc     = 0x1b
	heldMax = 512 // a longer sequence is dropped
)

// Altered says that the command has left modes on which it should have ended; see Reset.
func (f *Filter) Altered() bool { return f.modes.altered() }

// Next returns what of b goes to the terminal. It is valid until the next call, and is b itself where all of it passes.
func (f *Filter) Next(b []byte) []byte {
	if f.state == ground && f.need == 0 && plainRun(b) == len(b) {
		return b
	}
	f.out = f.out[:0]
	for i := 0; i < len(b); {
		if f.state == ground {
			if n := plainRun(b[i:]); n > 0 {
				f.need = 0
				f.out = append(f.out, b[i:i+n]...)
				i += n
				continue
			}
		}
		f.next(b[i])
		i++
	}
	if f.Off {
		return b
	}
	return f.out
}

// plainRun is how many bytes at the start of b pass without a second look: text, colours and movements of the cursor. What
// it does not know is left to the state machine, which comes to the same result for what it does.
func plainRun(b []byte) int {
	for i := 0; i < len(b); {
		n := 1
		switch c := b[i]; {
		case c == esc:
			n = plainControl(b[i:])
		case c == enq:
			return i
		case c >= 0x80:
			r, size := utf8.DecodeRune(b[i:])
			if r == utf8.RuneError && size == 1 || r < 0xa0 {
				return i
			}
			n = size
		}
		if n == 0 {
			return i
		}
		i += n
	}
	return len(b)
}

// plainControl is the length of a control sequence that only moves the cursor, erases, or sets colours, or 0.
func plainControl(b []byte) int {
	if len(b) < 3 || b[1] != '[' {
		return 0
	}
	for i, c := range b[2:min(len(b), 64)] {
		switch {
		case c >= '0' && c <= ';':
		case c >= 'A' && c <= 'H' || c == 'J' || c == 'K' || c == 'd' || c == 'm':
			return i + 3
		default:
			return 0
		}
	}
	return 0
}

const (
	enq = 0x05 // asks for the answerback string
	bel = 0x07
	can = 0x18
	sub = 0x1a
	del = 0x7f
)

func (f *Filter) next(c byte) {
	switch {
	case f.state >= undecided && f.state <= dropping:
		f.inString(c)
	case f.state == palette:
		f.inPalette(c)
	case c == esc:
		f.begin()
	case f.state == ground:
		f.text(c)
	case c == can || c == sub: // abandons the sequence
		f.state = ground
	case c >= 0x80:
		f.state = ground
		f.text(c)
	case c == del || c == enq: // ignored within a sequence
	case c < 0x20: // done at once, as if it stood before the sequence
		f.out = append(f.out, c)
	case f.state == escape:
		f.inEscape(c)
	default:
		f.inControl(c)
	}
}

func (f *Filter) begin() {
	f.state = escape
	f.need = 0
	f.held = append(f.held[:0], esc)
}

func (f *Filter) hold(c byte) bool {
	if len(f.held) >= heldMax {
		return false
	}
	f.held = append(f.held, c)
	return true
}

func (f *Filter) inEscape(c byte) {
	f.hold(c)
	switch {
	case c < 0x30: // intermediate
		return
	case len(f.held) > 2:
	case c == '[':
		f.state = control
		return
	case c == ']' || c == 'P' || c == 'X' || c == '^' || c == '_':
		f.state, f.kind, f.escaped = undecided, c, false
		if c != ']' && c != 'P' {
			f.state = dropping
		}
		return
	}
	f.state = ground
	if len(f.held) < heldMax && passEscape(f.held[1:]) {
		f.modes.escape(f.held[1:])
		f.out = append(f.out, f.held...)
	}
}

func (f *Filter) inControl(c byte) {
	f.hold(c)
	if c < 0x40 {
		return
	}
	f.state = ground
	if len(f.held) >= heldMax {
		return
	}
	if s, ok := parseControl(f.held[2:]); ok && s.pass() {
		f.modes.control(s)
		f.out = append(f.out, f.held...)
	}
}

func (f *Filter) inString(c byte) {
	switch {
	case f.escaped:
		f.escaped = false
		if c == '\\' {
			f.endString("\x1b\\")
			return
		}
		// Any other sequence breaks the string off. What has passed of it must not leave the terminal waiting for its end.
		f.abandon()
		f.begin()
		f.next(c)
	case c == esc:
		f.escaped = true
	case c == can || c == sub:
		f.abandon()
	case c == bel && f.kind == ']':
		f.endString("\a")
	case c < 0x20 || c == del: // ignored within a string
	case f.state == passing:
		f.text(c)
	case f.state == undecided:
		f.consider(c)
	}
}

func (f *Filter) abandon() {
	if f.state == passing {
		f.out = append(f.out, "\x1b\\"...)
	}
	f.state, f.need = ground, 0
}

func (f *Filter) endString(end string) {
	pass := f.state == passing
	if f.state == undecided && f.verdict(true) == allow {
		f.out = append(f.out, f.held...)
		pass = true
	}
	if pass {
		f.out = append(f.out, end...)
	}
	f.state, f.need = ground, 0
}

// consider adds a byte to a string that is not decided.
func (f *Filter) consider(c byte) {
	if f.kind == ']' && len(f.held) == 2 && (c == 'P' || c == 'R') {
		f.state = ground // R: the palette as it was
		if c == 'P' {
			f.state, f.skip = palette, 7
		}
		return
	}
	if !f.hold(c) {
		f.state = dropping
		return
	}
	switch f.verdict(false) {
	case allow:
		f.state, f.need = passing, 0
		f.out = append(f.out, f.held[:len(f.held)-1]...)
		f.text(c) // which may be the start of a character
	case deny:
		f.state = dropping
	}
}

func (f *Filter) verdict(end bool) verdict {
	if f.kind == 'P' {
		return judgeDCS(f.held[2:], end)
	}
	return judgeOSC(f.held[2:], end, f.Clipboard)
}

// inPalette skips a colour of the Linux console, which would be text to anybody who does not know that it has no end.
func (f *Filter) inPalette(c byte) {
	if isHex(c) {
		if f.skip--; f.skip == 0 {
			f.state = ground
		}
		return
	}
	f.state = ground
	f.next(c)
}

func isHex(c byte) bool { return bytes.IndexByte([]byte("0123456789abcdefABCDEF"), c) >= 0 }

const replacement = "\uFFFD"

// text passes one byte of text. C1 controls would start sequences that are not looked at here: xterm takes them as such in
// UTF-8 (U+009B), others as single bytes, and careless decoders in overlong forms.
func (f *Filter) text(c byte) {
	switch {
	case c == enq:
	case c < 0x80:
		f.need = 0
		f.out = append(f.out, c)
	case f.need > 0 && c >= f.low && c <= f.high:
		f.need--
		f.low, f.high = 0x80, 0xbf
		f.out = append(f.out, c)
	case c < 0xa0:
		f.need = 0
		f.out = append(f.out, replacement...)
	default:
		f.need, f.low, f.high = continuation(c)
		f.out = append(f.out, c)
	}
}

// continuation says how many bytes follow the first byte of a character, and between what the next one lies (Unicode,
// table 3-7, but for U+0080 to U+009F, which begin with 0xc2 and are the C1 controls).
func continuation(c byte) (n int, low, high byte) {
	switch {
	case c < 0xc2 || c > 0xf4:
		return 0, 0, 0
	case c == 0xc2:
		return 1, 0xa0, 0xbf
	case c < 0xe0:
		return 1, 0x80, 0xbf
	case c == 0xe0:
		return 2, 0xa0, 0xbf
	case c < 0xf0:
		return 2, 0x80, 0xbf
	case c == 0xf0:
		return 3, 0x90, 0xbf
	case c == 0xf4:
		return 3, 0x80, 0x8f
	}
	return 3, 0x80, 0xbf
}
