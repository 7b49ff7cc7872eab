package relay

import (
	"bytes"
)

// verdict says what becomes of a string.
type verdict uint8

const (
	wait verdict = iota
	allow
	deny
)

// oscPasses is the table of the operating system commands that pass, by number. Every other one is dropped, for it is not
// known what it does; those known to do harm, and why they do not pass:
//
//	3      sets a property of the window, which other programs read
//	7      tells the terminal in which directory to open the next window
//	50     asks for and echoes a font's name (CVE-2022-45063)
//	51     runs commands in Emacs
//	52     sets or reads the clipboard; setting passes with Clipboard
//	633    tells Visual Studio Code what command to offer for running again
//	1337   copies to the clipboard, saves files, sets variables (iTerm2)
//	5522   sets or reads the clipboard (kitty)
var oscPasses = [...]struct {
	from, to int
	why      string
}{
	{0, 2, "title and icon name; asking for them is CSI 20 t and 21 t, which do not pass"},
	{4, 5, "colours of the palette; the answers are hexadecimal numbers"},
	{8, 8, "links"},
	{9, 9, "notifications and progress, but not ConEmu's commands; see judgeNine"},
	{10, 19, "colours of text, background and cursor; the answers are hexadecimal numbers"},
	{22, 22, "shape of the pointer"},
	{66, 66, "text in another size (kitty)"},
	{99, 99, "notifications (kitty), which restricts the identifiers that it answers with"},
	{104, 105, "resets of 4 and 5"},
	{110, 119, "resets of 10 to 19"},
	{133, 133, "marks where prompts and outputs begin"},
	{777, 777, "notifications (urxvt), but not its other extensions; see judgeOSC"},
}

// judgeOSC decides on what follows ESC ], of which more may come unless end is set.
func judgeOSC(s []byte, end, clipboard bool) verdict {
	number, rest, whole := bytes.Cut(s, []byte(";"))
	n, ok := atoi(number)
	if !ok && len(number) > 0 || len(number) > 4 {
		return deny
	}
	if !whole && !end {
		return wait
	}
	if !ok {
		return deny
	}
	switch n {
	case 9:
		return judgeNine(rest, end)
	case 52:
		return judgeClipboard(rest, end, clipboard)
	case 777:
		return judgePrefix(rest, "notify;", end)
	}
	for _, p := range oscPasses {
		if n >= p.from && n <= p.to {
			return allow
		}
	}
	return deny
}

// judgeNine lets iTerm2's notifications and everybody's progress (9;4) pass. ConEmu runs programs with 9;7 and macros with 9;6.
func judgeNine(s []byte, end bool) verdict {
	number, _, whole := bytes.Cut(s, []byte(";"))
	if n, ok := atoi(number); ok && (whole || end) {
		if n == 4 {
			return allow
		}
		return deny
	} else if !ok && len(number) > 0 {
		return allow // text
	}
	if len(number) > 4 || end || whole {
		return deny
	}
	return wait
}

// judgeClipboard: "52;c;?" asks what is in the clipboard.
func judgeClipboard(s []byte, end, allowed bool) verdict {
	if !allowed {
		return deny
	}
	which, data, whole := bytes.Cut(s, []byte(";"))
	switch {
	case len(which) > 16:
		return deny
	case len(data) > 0 && data[0] == '?':
		return deny
	case len(data) > 0:
		return allow
	case end && whole: // empties it
		return allow
	case end:
		return deny
	}
	return wait
}

func judgePrefix(s []byte, want string, end bool) verdict {
	switch {
	case bytes.HasPrefix(s, []byte(want)):
		return allow
	case end || !bytes.HasPrefix([]byte(want), s):
		return deny
	}
	return wait
}

// judgeDCS decides on what follows ESC P. Dropped are, among others, definitions of keys (DECUDK), which type when they
// are pressed, and what a multiplexer would pass on unseen (tmux;).
func judgeDCS(s []byte, end bool) verdict {
	params := bytes.IndexFunc(s, func(r rune) bool { return r < '0' || r > '?' })
	if params < 0 || params == len(s)-1 && s[params] < '0' {
		return more(end || len(s) > 32)
	}
	switch final, data := s[params], s[params+1:]; {
	case final == 'q' && len(bytes.Trim(s[:params], "0123456789;")) == 0: // sixel graphics
		return allow
	case params > 0:
		return deny
	case bytes.HasPrefix(s, []byte("$q")): // DECRQSS asks for a setting by name; some echo what they do not know
		return judgeData(data[1:], 3, isPrintable, end)
	case bytes.HasPrefix(s, []byte("+q")): // XTGETTCAP asks for capabilities by name, in hexadecimal
		return judgeData(data[1:], 256, func(c byte) bool { return c == ';' || isHex(c) }, end)
	}
	return deny
}

func more(no bool) verdict {
	if no {
		return deny
	}
	return wait
}

func judgeData(data []byte, most int, allowed func(byte) bool, end bool) verdict {
	if len(data) > most {
		return deny
	}
	for _, c := range data {
		if !allowed(c) {
			return deny
		}
	}
	if end {
		return allow
	}
	return wait
}

func isPrintable(c byte) bool { return c >= 0x20 && c < del }

// passEscape decides on a sequence of ESC and one final byte, perhaps with intermediates. ESC G begins rxvt's question for
// its graphics, the answer to which ends with a newline (CVE-2021-33477). After ESC SP G the terminal's keys and answers
// begin with C1 controls, in the user's shell too.
func passEscape(s []byte) bool { return string(s) != "G" && string(s) != " G" }

// sequence is a control sequence, ESC [ and what follows, taken apart.
type sequence struct {
	private byte   // < = > or ?, or 0
	params  []byte // digits, semicolons and colons
	middle  string // intermediates
	final   byte
}

// parseControl takes apart what follows ESC [. What is not formed as ECMA-48 says is not passed: nobody knows what it means.
func parseControl(s []byte) (sequence, bool) {
	q := sequence{final: s[len(s)-1]}
	s = s[:len(s)-1]
	if len(s) > 0 && s[0] >= '<' && s[0] <= '?' {
		q.private, s = s[0], s[1:]
	}
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= ';' {
		n++
	}
	q.params = s[:n]
	for _, c := range s[n:] {
		if c >= '0' {
			return q, false
		}
	}
	q.middle = string(s[n:])
	return q, true
}

// pass is the table of control sequences that do not.
func (q sequence) pass() bool {
	plain := q.private == 0 && q.middle == ""
	switch {
	case plain && q.final == 't':
		// 1 to 10 and from 24: moves, resizes and hides the window. 20 and 21: answers with its title, which the command
		// has chosen (CVE-2003-0063). The others answer with numbers, or keep the title (22, 23).
		n := q.first()
		return n >= 11 && n <= 19 || n == 22 || n == 23
	case q.middle == "*" && q.final == 'y':
		return false // checksum of a part of the screen (DECRQCRA): reads what others have written there
	case q.middle == "" && q.final == 'i':
		return false // prints
	case plain && q.final == 'h' && q.has(2):
		return false // locks the keyboard (KAM)
	case q.private == '?' && q.final == 'l' && q.has(2):
		return false // goes over to VT52, where other sequences hold
	}
	return true
}

func (q sequence) first() int {
	p, _, _ := bytes.Cut(q.params, []byte(";"))
	n, _ := atoi(p)
	return n
}

func (q sequence) has(want int) bool {
	for p := range bytes.SplitSeq(q.params, []byte(";")) {
		if n, ok := atoi(p); ok && n == want {
			return true
		}
	}
	return false
}

// atoi reads a number of at most six digits.
func atoi(b []byte) (n int, ok bool) {
	if len(b) == 0 || len(b) > 6 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}
