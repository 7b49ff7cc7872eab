package syscalls

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// data is struct seccomp_data.
type data struct {
	number, arch uint32
	args         [6]uint64
}

// outcome is what a filter made of a call.
type outcome struct {
	answer    Answer
	arguments bool // it looked at an argument
	steps     int
}

// run interprets a filter as the kernel does, and refuses what the kernel would refuse.
func run(filter []unix.SockFilter, d data) (o outcome, err error) {
	var a uint32
	for pc := 0; pc < len(filter); pc++ {
		o.steps++
		in := filter[pc]
		skip := func(holds bool) {
			if holds {
				pc += int(in.Jt)
			} else {
				pc += int(in.Jf)
			}
		}
		switch in.Code {
		case load:
			switch {
			case in.K == offNumber:
				a = d.number
			case in.K == offArch:
				a = d.arch
			case in.K >= offArgument && in.K < offArgument+6*8 && in.K%8 == 0:
				a, o.arguments = uint32(d.args[(in.K-offArgument)/8]), true
			default:
				return o, fmt.Errorf("instruction %d loads offset %d", pc, in.K)
			}
		case mask:
			a &= in.K
		case jump:
			pc += int(in.K)
		case equal:
			skip(a == in.K)
		case atLeast:
			skip(a >= in.K)
		case anyBit:
			skip(a&in.K != 0)
		case answer:
			o.answer = Answer(in.K)
			return o, nil
		default:
			return o, fmt.Errorf("instruction %d has code %#x", pc, in.Code)
		}
	}
	return o, fmt.Errorf("runs past the end")
}

// decide says which row answers a call, straight from the table.
func decide(m *machine, opts Options, d data) *Row {
	if d.arch != m.audit {
		return &foreign
	}
	if m.x32 && d.number&x32Bit != 0 {
		return &x32
	}
	name := m.name(d.number)
	if name == "" {
		return &unreviewed
	}
	for _, r := range rowsAbout()[name] {
		if opts.has(r.With) && r.holds(d.args) {
			return r
		}
	}
	return &rest
}

// rowsAbout finds the rows that name a call, in order.
var rowsAbout = sync.OnceValue(func() map[string][]*Row {
	about := map[string][]*Row{}
	for i := range table {
		for name := range strings.FieldsSeq(table[i].Calls) {
			about[name] = append(about[name], &table[i])
		}
	}
	return about
})

func (m *machine) name(number uint32) string {
	for _, c := range m.calls {
		if c.number == number {
			return c.name
		}
	}
	return ""
}

func (r *Row) holds(args [6]uint64) bool {
	for _, c := range r.args {
		v := uint32(args[c.arg])
		if c.mask != 0 {
			v &= c.mask
		}
		holds := v != 0
		if len(c.in) > 0 {
			holds = slices.Contains(c.in, v)
		}
		if holds == c.not {
			return false
		}
	}
	return true
}

var machines = map[string]*machine{"amd64": &x86_64, "arm64": &aarch64}

// choices are all that Options can be.
func choices() []Options {
	var all []Options
	for bits := range 32 { // the two that concern limits add a row each, and nothing else asks about their calls but one: together they do
		all = append(all, Options{Devel: bits&1 != 0, RenameHook: bits&2 != 0, Fallback: bits&4 != 0, MetadataHook: bits&12 == 12, Affinity: bits&16 != 0, Watched: bits&16 != 0})
	}
	return all
}

// edges are the values around which a row about call changes its mind, for each argument; nil for an argument no row asks about.
func edges(call string) (values [6][]uint64) {
	for _, r := range rowsAbout()[call] {
		for _, c := range r.args {
			v := append(values[c.arg], 0, 1, 1<<32, ^uint64(0))
			for _, in := range c.in {
				x := uint64(in)
				v = append(v, x, x-1, x+1, x|1<<32, x|1<<63)
				if c.mask != 0 {
					v = append(v, x|uint64(^c.mask), x^uint64(c.mask))
				}
			}
			if len(c.in) == 0 {
				v = append(v, uint64(c.mask), uint64(^c.mask), uint64(c.mask)<<32, uint64(c.mask)|1<<40)
				for bit := uint64(1); bit < 1<<33; bit <<= 1 {
					v = append(v, bit)
				}
			}
			slices.Sort(v)
			values[c.arg] = slices.Compact(v)
		}
	}
	return values
}

// tries are arguments to try a call with: every combination of edges, and some at random.
func tries(values [6][]uint64) [][6]uint64 {
	all := [][6]uint64{{}}
	for arg, vs := range values {
		if vs == nil {
			continue
		}
		var more [][6]uint64
		for _, args := range all {
			for _, v := range vs {
				args[arg] = v
				more = append(more, args)
			}
		}
		all = more
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 4 {
		var args [6]uint64
		for i := range args {
			args[i] = random.Uint64()
		}
		all = append(all, args)
	}
	return all
}

// TestFilterDoesWhatTheTableSays runs every filter there can be against every number and the arguments around which rows change their mind.
func TestFilterDoesWhatTheTableSays(t *testing.T) {
	decided := map[*Row]bool{}
	for name, m := range machines {
		numbers := []uint32{newest + 1, 1 << 20, x32Bit - 1, x32Bit, x32Bit + newest, 1 << 31, 1<<31 + 39, ^uint32(0)}
		for n := range uint32(600) {
			numbers = append(numbers, n)
		}
		for _, opts := range choices() {
			filter := compile(m, opts)
			for _, number := range numbers {
				for _, args := range tries(edges(m.name(number))) {
					d := data{number, m.audit, args}
					row := decide(m, opts, d)
					decided[row] = true
					got, err := run(filter, d)
					if err != nil {
						t.Fatalf("%s %+v, call %d %x: %v", name, opts, number, args, err)
					}
					if got.answer != row.Answer {
						t.Fatalf("%s %+v, call %d %q %x: filter says %v, row %q %q says %v",
							name, opts, number, m.name(number), args, got.answer, row.Calls, row.When, row.Answer)
					}
				}
			}
		}
	}
	for i := range table {
		if !decided[&table[i]] {
			t.Errorf("row %q %q never decides anything", table[i].Calls, table[i].When)
		}
	}
}

func TestOtherArchitecturesAreKilled(t *testing.T) {
	const i386, arm = 0x40000003, 0x40000028
	for name, m := range machines {
		for _, opts := range choices() {
			filter := compile(m, opts)
			for _, arch := range []uint32{0, i386, arm, x86_64.audit ^ aarch64.audit ^ m.audit, m.audit ^ 1<<31, ^uint32(0)} {
				for number := range uint32(600) {
					if got, err := run(filter, data{number: number, arch: arch}); err != nil || got.answer != Kill {
						t.Fatalf("%s %+v, arch %#x, number %d: %v, %v", name, opts, arch, number, got.answer, err)
					}
				}
			}
		}
	}
}

// TestPlainCallsReachTheBitmap holds what the speed of every other call rests on: the kernel's bitmap takes numbers that are allowed without a look at
// their arguments. The steps are those that a kernel before 5.11 takes.
func TestPlainCallsReachTheBitmap(t *testing.T) {
	for name, m := range machines {
		filter := compile(m, Options{})
		if len(filter) > 400 {
			t.Errorf("%s: the filter has %d instructions: it grew by half, and the kernel translates it at every start", name, len(filter))
		}
		for _, c := range m.calls {
			got, err := run(filter, data{number: c.number, arch: m.audit})
			if err != nil {
				t.Fatal(err)
			}
			conditional := slices.ContainsFunc(rowsAbout()[c.name], func(r *Row) bool { return r.With == "" && !r.always() })
			if got.arguments != conditional {
				t.Errorf("%s: the filter for %s looks at arguments: %t, want %t", name, c.name, got.arguments, conditional)
			}
			if got.steps > 14 && !conditional {
				t.Errorf("%s: %s takes %d steps", name, c.name, got.steps)
			}
		}
		for _, call := range []string{"read", "write", "futex", "mmap", "newfstatat", "close", "epoll_pwait", "execve", "statx", "getdents64"} {
			number, _ := m.number(call)
			if got, err := run(filter, data{number: number, arch: m.audit}); err != nil || got.arguments || got.answer != Allow {
				t.Errorf("%s: %s is not always allowed: %+v, %v", name, call, got, err)
			}
		}
	}
}

// TestJumpsReachEverything assembles programs longer than any table makes, in which most targets are out of a conditional jump's reach.
func TestJumpsReachEverything(t *testing.T) {
	const audit = 7
	value := func(n uint32, i int) uint32 { return n*1000 + uint32(i) }
	conditional := func(n uint32) []*Row {
		row := &Row{Answer: EPERM, args: []condition{{arg: 0}, {arg: 1, mask: 0xff, in: []uint32{1}, not: true}}}
		for i := range 40 {
			row.args[0].in = append(row.args[0].in, value(n, i))
		}
		return []*Row{row, {Answer: Notify, args: []condition{{arg: 0, in: []uint32{value(n, 0)}}}}}
	}
	var ranges []span
	for n := range uint32(90) {
		if n%3 == 0 {
			ranges = append(ranges, span{n, conditional(n)})
		} else {
			ranges = append(ranges, span{n, []*Row{{Answer: ENOSYS + Answer(n%4)}}})
		}
	}
	a := assembler{}
	filter := a.filter(audit, ranges)
	if len(filter) < 1000 {
		t.Fatalf("%d instructions are too few to be out of reach", len(filter))
	}
	for n := range uint32(90) {
		for i := range 41 {
			for second := range uint64(2) {
				want := Allow
				switch first := i == 0; {
				case n%3 != 0:
					want = ENOSYS + Answer(n%4)
				case i < 40 && second == 0:
					want = EPERM
				case first:
					want = Notify
				}
				got, err := run(filter, data{n, audit, [6]uint64{uint64(value(n, i)), second}})
				if err != nil || got.answer != want {
					t.Fatalf("number %d, value %d, second %d: %v, %v, want %v", n, i, second, got.answer, err, want)
				}
			}
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile(Options{RenameHook: true}); err != nil {
			b.Fatal(err)
		}
	}
}
