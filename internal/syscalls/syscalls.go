// Package syscalls is the system call filter: a table with a reason per row, compiled to BPF.
//
// It is a second wall. What a call may reach is decided by namespaces, mounts and Landlock; the filter takes away the parts of the kernel that no
// developer's tool needs and attackers do (Rows), and, where there are no namespaces, what Landlock lets through (Options.Fallback). It is
// a deny list over a list of reviewed calls: what is newer than the list gets ENOSYS, which programs take for an older kernel. It sees numbers
// in registers, never what a pointer leads to, so a rule that would need that refuses the whole call (clone3, openat2) or is not here.
package syscalls

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Options choose among the rows. The zero value is the filter of a sandbox with namespaces.
type Options struct {
	Affinity bool // the limit on cores is held by CPU affinity, which the command must not widen
	Watched  bool // the limit on disk is held by looking, so no call may take much of it at once
	Devel    bool // debuggers and tracers work on the sandbox's own processes
	Fallback bool // there are no namespaces, only Landlock: also deny what it does not stop (ABI 9 and older)

	// RenameHook lets every rename wait for the supervisor. The filter must be installed with SECCOMP_FILTER_FLAG_NEW_LISTENER, and better with
	// SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (Linux 5.19) too, or each signal to a waiting program, such as Go's every 10 ms, starts its call again.
	// While nobody listens renames wait; when the listener is closed they fail with ENOSYS.
	RenameHook bool

	// MetadataHook lets every change of a mode, an owner or a time, and every watch, wait for the supervisor, which makes it itself or refuses it. The filter must be
	// installed as for RenameHook. Without it Fallback refuses these calls, and git, npm and many others do not work.
	MetadataHook bool
}

// The options as rows name them.
const (
	withDevel    = "devel"
	withRename   = "rename hook"
	withFallback = "fallback"
	withAffinity = "cores by affinity"
	withWatched  = "disk watched"
	withMetadata = "metadata hook"
	withoutHook  = "fallback without metadata hook"
)

func (o Options) has(with string) bool {
	switch with {
	case "":
		return true
	case withDevel:
		return o.Devel
	case withRename:
		return o.RenameHook
	case withFallback:
		return o.Fallback
	case withAffinity:
		return o.Affinity
	case withWatched:
		return o.Watched
	case withMetadata:
		return o.MetadataHook
	case withoutHook:
		return o.Fallback && !o.MetadataHook
	}
	panic("bug: no option " + strconv.Quote(with))
}

// Answer is what the kernel is to do with a call: a SECCOMP_RET_ value of seccomp(2), with its errno.
type Answer uint32

const (
	Allow  Answer = unix.SECCOMP_RET_ALLOW
	Notify Answer = unix.SECCOMP_RET_USER_NOTIF // the supervisor answers
	Kill   Answer = unix.SECCOMP_RET_KILL_PROCESS

	EPERM           = unix.SECCOMP_RET_ERRNO | Answer(unix.EPERM)
	ENOSYS          = unix.SECCOMP_RET_ERRNO | Answer(unix.ENOSYS)
	EAFNOSUPPORT    = unix.SECCOMP_RET_ERRNO | Answer(unix.EAFNOSUPPORT)
	EOPNOTSUPP      = unix.SECCOMP_RET_ERRNO | Answer(unix.EOPNOTSUPP)
	EPROTONOSUPPORT = unix.SECCOMP_RET_ERRNO | Answer(unix.EPROTONOSUPPORT)
)

func (a Answer) String() string {
	switch a {
	case Allow:
		return "ALLOW"
	case Notify:
		return "NOTIFY"
	case Kill:
		return "KILL_PROCESS"
	}
	return unix.ErrnoName(unix.Errno(a & unix.SECCOMP_RET_DATA))
}

// Row is one line of the table. For a call the rows are asked in order and the first that matches answers.
type Row struct {
	Calls  string // the names, separated by spaces
	When   string // what the arguments must be, in words; empty for whatever they are
	Answer Answer
	Reason string
	Source string // CVE, manual page, measurement, who else blocks it
	With   string // the option that adds the row; empty for every sandbox

	args []condition // all must hold
}

// always says that the row answers whatever the arguments.
func (r *Row) always() bool { return len(r.args) == 0 }

// condition compares the low 32 bits of one argument. The kernel takes all arguments that are asked about here as 32 bits or fewer and ignores the
// upper half; a comparison of all 64 could be evaded by setting a bit there (CVE-2019-10063).
type condition struct {
	arg  int
	mask uint32   // the bits to compare; 0 for all
	in   []uint32 // the argument is one of these; empty: the argument has any bit of mask
	not  bool     // the opposite
}

// Compile returns the filter for this machine. Install it last: it forbids what setting up a sandbox needs.
func Compile(opts Options) ([]unix.SockFilter, error) {
	if native == nil {
		return nil, fmt.Errorf("no system call filter for %s: its list of calls has not been reviewed", runtime.GOARCH)
	}
	for i := range ready {
		if ready[i].opts == opts {
			return ready[i].unpack(), nil
		}
	}
	return compile(native, opts), nil
}

// prepared is a filter that was compiled beforehand, because every start of a sandbox needs it: ready_ARCHITECTURE.go has those of a project that is
// held and of one that is not. A test compiles them again and compares.
type prepared struct {
	opts   Options
	filter []uint64
}

// unpack makes instructions of numbers, which have from the lowest bits on the code, the two distances and the operand.
func (p *prepared) unpack() []unix.SockFilter {
	code := make([]unix.SockFilter, len(p.filter))
	for i, n := range p.filter {
		code[i] = unix.SockFilter{Code: uint16(n), Jt: uint8(n >> 16), Jf: uint8(n >> 24), K: uint32(n >> 32)}
	}
	return code
}

// Rows returns the table as it holds on this machine with these options. The last rows say what becomes of every call that no other row names.
func Rows(opts Options) []Row {
	if native == nil {
		return nil
	}
	return native.table(opts)
}

// machine is an architecture as system calls see it.
type machine struct {
	audit uint32 // AUDIT_ARCH_*
	x32   bool   // its kernel may know a second entry, marked by a bit in the number
	calls []call // every reviewed call, sorted by name
}

type call struct {
	name   string
	number uint32
}

func (m *machine) number(name string) (uint32, bool) {
	i, found := slices.BinarySearchFunc(m.calls, name, func(c call, name string) int { return strings.Compare(c.name, name) })
	if !found {
		return 0, false
	}
	return m.calls[i].number, true
}

func (m *machine) table(opts Options) []Row {
	var rows []Row
	for _, r := range table {
		r.Calls = m.known(r.Calls)
		if opts.has(r.With) && r.Calls != "" {
			rows = append(rows, r)
		}
	}
	rows = append(rows, foreign)
	if m.x32 {
		rows = append(rows, x32)
	}
	return append(rows, unreviewed, rest)
}

// known leaves out the names that this machine has no call for.
func (m *machine) known(names string) string {
	return strings.Join(slices.DeleteFunc(strings.Fields(names), func(name string) bool {
		_, known := m.number(name)
		return !known
	}), " ")
}

func compile(m *machine, opts Options) []unix.SockFilter {
	a := assembler{reversed: make([]unix.SockFilter, 0, 1024)}
	return a.filter(m.audit, m.spans(opts))
}

// span is a range of numbers that get the same answer: from one on, up to the next span.
type span struct {
	from uint32
	rows []*Row
}

// spans cuts all numbers into ranges.
func (m *machine) spans(opts Options) []span {
	spans := make([]span, 0, 256)
	add := func(from uint32, rows []*Row) {
		if len(spans) == 0 || !sameAnswer(spans[len(spans)-1].rows, rows) {
			spans = append(spans, span{from, rows})
		}
	}
	nobody := []*Row{&unreviewed}
	var reviewed [newest + 1]bool
	for _, c := range m.calls {
		reviewed[c.number] = true
	}
	uses, rows := m.uses(opts)
	for number, known := range reviewed {
		n := 0
		for n < len(uses) && uses[n].number() == uint32(number) {
			n++
		}
		if known {
			add(uint32(number), rows[:n])
		} else {
			add(uint32(number), nobody)
		}
		uses, rows = uses[n:], rows[n:]
	}
	add(newest+1, nobody)
	if m.x32 {
		add(x32Bit, []*Row{&x32})
	}
	return spans
}

// use says that a row is about a number. Sorted, the uses are in the order of the numbers, and for each number in that of the table.
type use uint32

func (u use) number() uint32 { return uint32(u) >> 16 }
func (u use) row() *Row      { return &table[u&0xffff] }

// uses lists the uses of the rows that opts choose, and beside each its row.
func (m *machine) uses(opts Options) ([]use, []*Row) {
	uses := make([]use, 0, 512)
	for i := range table {
		if !opts.has(table[i].With) {
			continue
		}
		for name := range strings.FieldsSeq(table[i].Calls) {
			if number, known := m.number(name); known {
				uses = append(uses, use(number<<16|uint32(i)))
			}
		}
	}
	slices.Sort(uses)
	rows := make([]*Row, len(uses))
	for i, u := range uses {
		rows[i] = u.row()
	}
	return uses, rows
}

// sameAnswer says whether a and b give one answer, and the same one, whatever the arguments.
func sameAnswer(a, b []*Row) bool {
	x, always := plain(a)
	y, too := plain(b)
	return always && too && x == y
}

func plain(rows []*Row) (a Answer, always bool) {
	if len(rows) == 0 {
		return rest.Answer, true
	}
	return rows[0].Answer, rows[0].always()
}
