package syscalls

import (
	"slices"

	"golang.org/x/sys/unix"
)

// The instructions that a seccomp filter needs, out of those of linux/bpf_common.h. Calls that are allowed whatever their arguments get there by
// comparisons of the architecture and the number alone. The kernel sees that at installation, and from then on allows them by a bitmap without
// running the program (seccomp_is_const_allow, Linux 5.11).
const (
	load    = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS  // A = the 32 bits at offset K of struct seccomp_data
	jump    = unix.BPF_JMP | unix.BPF_JA               // skip K instructions
	answer  = unix.BPF_RET | unix.BPF_K                // the end
	mask    = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K // A &= K
	equal   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K // A == K: skip Jt instructions, otherwise Jf
	atLeast = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K // A >= K
	anyBit  = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
)

// Offsets in struct seccomp_data. An argument is 64 bits wide, and both machines are little-endian: its low half comes first.
const (
	offNumber   = 0
	offArch     = 4
	offArgument = 16
)

// reach is how far a conditional jump may go: its offsets are 8 bits wide, and branch may put two instructions in between.
const reach = 255 - 2

// assembler writes a program from its end to its beginning. Jumps only go forward, so wherever one may lead is already written and its
// distance known: nothing is patched, no jump is counted by hand.
type assembler struct {
	reversed []unix.SockFilter
	returns  []place // the nearest return instruction of each answer
}

// label is the place of an instruction, counted from the end of the program.
type label int

type place struct {
	value uint32
	at    label
}

func (a *assembler) emit(code uint16, k uint32, yes, no uint8) label {
	a.reversed = append(a.reversed, unix.SockFilter{Code: code, K: k, Jt: yes, Jf: no})
	return label(len(a.reversed) - 1)
}

// distance is how many instructions the next one would skip to get to l.
func (a *assembler) distance(l label) int { return len(a.reversed) - int(l) - 1 }

// ret returns the place of an instruction that ends the program with value, near enough for the next branch.
func (a *assembler) ret(value uint32) label {
	for i := range a.returns {
		if r := &a.returns[i]; r.value == value {
			if a.distance(r.at) > reach {
				r.at = a.emit(answer, value, 0, 0)
			}
			return r.at
		}
	}
	at := a.emit(answer, value, 0, 0)
	a.returns = append(a.returns, place{value, at})
	return at
}

// near returns l, or a stand-in for it that the next branch can reach.
func (a *assembler) near(l label) label {
	d := a.distance(l)
	switch to := a.reversed[l]; {
	case d <= reach:
		return l
	case to.Code == answer:
		return a.ret(to.K)
	default:
		return a.emit(jump, uint32(d), 0, 0)
	}
}

// branch goes to yes if the comparison of A with k holds, otherwise to no.
func (a *assembler) branch(comparison uint16, k uint32, yes, no label) label {
	yes, no = a.near(yes), a.near(no)
	return a.emit(comparison, k, uint8(a.distance(yes)), uint8(a.distance(no)))
}

// load goes on with the instruction written last, which is why what it leads to must be written just before it.
func (a *assembler) load(offset uint32) label { return a.emit(load, offset, 0, 0) }

// filter is the whole program: the architecture, then the number, then whatever that number's rows ask.
func (a *assembler) filter(audit uint32, ranges []span) []unix.SockFilter {
	a.search(ranges)
	number := a.load(offNumber)
	a.branch(equal, audit, number, a.ret(uint32(foreign.Answer)))
	a.load(offArch)
	slices.Reverse(a.reversed)
	return a.reversed
}

// search halves the ranges until one is left; A holds the number.
func (a *assembler) search(ranges []span) label {
	if len(ranges) == 1 {
		return a.rows(ranges[0].rows)
	}
	half := len(ranges) / 2
	above := a.search(ranges[half:])
	below := a.search(ranges[:half])
	return a.branch(atLeast, ranges[half].from, above, below)
}

// rows asks the rows in turn; the first whose conditions all hold answers, and a row without conditions always does.
func (a *assembler) rows(rows []*Row) label {
	if last := slices.IndexFunc(rows, (*Row).always); last >= 0 {
		rows = rows[:last+1]
	}
	next := a.ret(uint32(rest.Answer))
	for _, r := range slices.Backward(rows) {
		yes := a.ret(uint32(r.Answer))
		for _, c := range slices.Backward(r.args) {
			yes = a.condition(c, yes, next)
		}
		next = yes
	}
	return next
}

func (a *assembler) condition(c condition, yes, no label) label {
	if c.not {
		yes, no = no, yes
	}
	for _, v := range slices.Backward(c.in) {
		no = a.branch(equal, v, yes, no)
	}
	switch {
	case len(c.in) == 0:
		a.branch(anyBit, c.mask, yes, no)
	case c.mask != 0:
		a.emit(mask, c.mask, 0, 0)
	}
	return a.load(offArgument + 8*uint32(c.arg))
}
