package inside

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// machine is what the interpreter needs while it runs. It lies in the sealed image's own mapping, not in the Go heap, which is
// not there in the child.
type machine struct {
	ops     unsafe.Pointer // the first op
	n       int
	status  uintptr // descriptor for Report
	report  Report
	poll    [2]unix.PollFd
	wait    uint32
	child   uintptr
	hunt    bool
	request [8]byte
	pause   [2]int64
	siginfo [128]byte
	rights  rights
	iov     [2]uintptr // struct iovec: address, length
	message [7]uintptr // struct msghdr: name, its length, vectors, their number, control, its length, flags
	pids    [4096]byte
	slots   [maxSlots]uintptr // only as many as the program has are there
}

// rights is struct cmsghdr with one descriptor (unix(7), SCM_RIGHTS).
type rights struct {
	length      uintptr
	level, kind int32
	fd          int32
	_           int32
}

// Report is what the child says to its supervisor, one message each.
type Report struct {
	Kind  uint32 // Failed, Exited or Stopped
	Step  uint32 // Failed: index into Steps
	Value uint32 // Failed: errno; Exited: wait status; Stopped: signal; Handles: which
}

const (
	Failed    = 'F'
	Exited    = 'X'
	Stopped   = 'S'
	Handles   = 'H' // Value is a set of Handle bits; the descriptors come with the message, in the order of the bits
	NewSocket = 'N' // Value is the address family; the socket comes with the message, or none where it could not be made
	Listeners = 'L' // Value is how many descriptors come with the message: the gate's listeners
)

// Requests of the supervisor to pid 1, two bytes each: the request and its argument.
const (
	Signal      = 's' // send signal N to the command's process group
	SignalChild = 'c' // send signal N to the command alone
	Socket      = 'n' // make a TCP socket of address family N in the sandbox's network and hand it out
)

const reportSize = unsafe.Sizeof(Report{})

// Child is a running child as its parent sees it.
type Child struct {
	PID   int
	PIDFD int
}

// Start clones a child with the given namespace flags and runs the program in it. Reports go to the descriptor status.
// The child has a stack of its own, in the sealed image, and nothing of our heap, stacks and environment: what it cannot read, it cannot tell, and what
// is not inherited need not be copied, neither now nor page by page when we write to it later.
//
// The calling thread must live as long as the child (see PR_SET_PDEATHSIG(2const): the signal is sent when the thread that created the
// child ends).
func (p *Program) Start(flags uint64, status int) (Child, error) {
	syscall.ForkLock.Lock() // nobody else's image may lie in the memory that is left out
	defer syscall.ForkLock.Unlock()
	if err := p.seal(); err != nil {
		return Child{}, err
	}
	defer func() {
		unix.Munmap(p.image)
		p.image = nil
	}()
	if err := leaveOutMemory(p.image); err != nil {
		return Child{}, err
	}
	m := (*machine)(unsafe.Pointer(&p.image[p.machine]))
	m.ops, m.n, m.status = unsafe.Pointer(&p.image[0]), len(p.ops), uintptr(status)

	pidfd := int32(-1)
	var stays runtime.Pinner // the kernel writes to an address within args: on a stack, which moves when it grows, pidfd would not be there any more
	stays.Pin(&pidfd)
	defer stays.Unpin()
	args := &cloneArgs{
		flags: flags | unix.CLONE_PIDFD | unix.CLONE_CLEAR_SIGHAND, pidfd: uint64(uintptr(unsafe.Pointer(&pidfd))), exitSignal: uint64(unix.SIGCHLD),
		stack: uint64(uintptr(unsafe.Pointer(&p.image[len(p.image)-stackSize]))), stackSize: stackSize,
	}
	pid, errno := cloneAndRun(args, m)
	runtime.KeepAlive(args)
	if errno != 0 {
		return Child{}, errno
	}
	if pidfd < 0 {
		panic("bug: a child without a pidfd") // nothing could end it
	}
	return Child{PID: int(pid), PIDFD: int(pidfd)}, nil
}

// cloneArgs is struct clone_args of clone3(2), first version.
type cloneArgs struct {
	flags, pidfd, _, _, exitSignal, stack, stackSize, _ uint64 // those without a name: child_tid, parent_tid, tls
}

// cloneAndRun blocks all signals, clones, and in the child never returns. Signals stay blocked in the child until the command restores them:
// a Go signal handler must never run there.
//
//go:norace
//go:nosplit
//go:noinline
func cloneAndRun(args *cloneArgs, m *machine) (uintptr, syscall.Errno) {
	all, old := ^uint64(0), uint64(0)
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&old)), 8, 0, 0)
	enter := run // where its code begins, for the calling convention that this package's assembly then follows
	pid := clone3(args, unsafe.Sizeof(cloneArgs{}), **(**uintptr)(unsafe.Pointer(&enter)), m)
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&old)), 0, 8, 0, 0)
	if int(pid) < 0 {
		return 0, syscall.Errno(-pid)
	}
	return pid, 0
}

// clone3 is clone3(2). The child does not return: it calls the function at code with m, on the stack that args names.
//
//go:noescape
func clone3(args *cloneArgs, size, code uintptr, m *machine) (pid uintptr)

// run interprets the program. It ends in execve, in exit_group, or in pid 1's loop. Neither it nor what it calls may look at the goroutine or at the
// runtime's variables: they are not there.
//
//go:norace
//go:nosplit
//go:noinline
func run(m *machine) {
	for i := 0; i < m.n; i++ {
		o := (*op)(unsafe.Add(m.ops, uintptr(i)*unsafe.Sizeof(op{})))
		a := o.a // writing to the program itself would copy each page of it
		for j := uintptr(0); j < 6; j++ {
			if o.slots&(1<<j) != 0 {
				a[j] = m.slots[a[j]]
			}
		}
		errno := uintptr(0)
		switch o.kind {
		case opCall:
			r, _, e := syscall.RawSyscall6(o.nr, a[0], a[1], a[2], a[3], a[4], a[5])
			m.slots[o.out] = r
			if e != 0 && uint16(e) != o.ignore {
				errno = uintptr(e)
			}
		case opRefused:
			_, _, e := syscall.RawSyscall6(o.nr, a[0], a[1], a[2], a[3], a[4], a[5])
			if uint16(e) != o.ignore {
				errno = uintptr(unix.ESTALE)
			}
		case opEqual, opDiffer:
			if same(a[0], a[1], a[2]) != (o.kind == opEqual) {
				errno = uintptr(unix.ESTALE)
			}
		case opOnlyIf:
			if !same(a[0], a[1], a[2]) {
				i += int(a[3])
			}
		case opContains:
			if !contains(a[0], a[1], a[2], a[3]) {
				errno = uintptr(unix.ESTALE)
			}
		case opStore:
			*(*uint32)(address(a[0])) = uint32(a[1])
		case opAnswer:
			errno = uintptr(-*(*int32)(address(a[0])))
		case opRetry:
			retry(m, o.nr, &a)
		case opFork:
			r, _, e := syscall.RawSyscall6(o.nr, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
			errno = uintptr(e)
			if e == 0 && r != 0 {
				m.child = r
				m.hunt = a[1] != 0
				loop(m, a[0])
			}
		default:
			errno = uintptr(unix.EPERM)
		}
		if errno != 0 {
			m.report = Report{Kind: Failed, Step: uint32(o.step), Value: uint32(errno)}
			send(m, m.status)
			exit(125)
		}
	}
	exit(0)
}

// loop is pid 1: it reaps, passes signals on, tells the supervisor how the command ended, and ends with it. When it ends, the kernel kills
// every process of the namespace; when the supervisor ends, its end of the control socket closes and so does the loop.
//
//go:norace
//go:nosplit
func loop(m *machine, control uintptr) {
	signals := control + 1
	syscall.RawSyscall6(unix.SYS_CLOSE_RANGE, 0, control-1, 0, 0, 0, 0)
	syscall.RawSyscall6(unix.SYS_CLOSE_RANGE, signals+1, ^uintptr(0), 0, 0, 0, 0)
	m.poll[0] = unix.PollFd{Fd: int32(signals), Events: unix.POLLIN}
	m.poll[1] = unix.PollFd{Fd: int32(control), Events: unix.POLLIN}
	for {
		syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&m.poll)), 2, 0, 0, 0, 0)
		if m.poll[1].Revents != 0 {
			n, _, e := syscall.RawSyscall6(unix.SYS_READ, control, uintptr(unsafe.Pointer(&m.request)), 8, 0, 0, 0)
			if e != 0 || n == 0 {
				end(m, 125)
			}
			switch m.request[0] {
			case Signal:
				pass(m, uintptr(m.request[1]))
			case SignalChild:
				syscall.RawSyscall6(unix.SYS_KILL, m.child, uintptr(m.request[1]), 0, 0, 0, 0)
			case Socket:
				handOut(m, control, uintptr(m.request[1]))
			}
		}
		if m.poll[0].Revents != 0 {
			_, _, e := syscall.RawSyscall6(unix.SYS_READ, signals, uintptr(unsafe.Pointer(&m.siginfo)), 128, 0, 0, 0)
			if signal := uintptr(m.siginfo[0]); e == 0 && signal != uintptr(unix.SIGCHLD) {
				pass(m, signal) // of the terminal, from before the command was its foreground
			}
			if reap(m, control) { // and not in there: the stack of all these calls is small
				if m.hunt {
					hunt(m)
				} else {
					clearOut(m)
				}
				send(m, control)
				exit(0)
			}
		}
	}
}

// clearOut ends everything else in the pid namespace, so that the supervisor can look at what the sandbox has left while the kernel takes the
// namespaces down, which takes longer.
//
//go:norace
//go:nosplit
func clearOut(m *machine) {
	if pid, _, _ := syscall.RawSyscall6(unix.SYS_GETPID, 0, 0, 0, 0, 0, 0); pid != 1 { // or the next call would end all that the user has
		return
	}
	syscall.RawSyscall6(unix.SYS_KILL, ^uintptr(0), uintptr(unix.SIGKILL), 0, 0, 0, 0)
	for {
		_, _, e := syscall.RawSyscall6(unix.SYS_WAIT4, ^uintptr(0), uintptr(unsafe.Pointer(&m.wait)), unix.WALL, 0, 0, 0)
		if e == unix.ECHILD {
			return
		}
	}
}

// handOut makes a socket for the supervisor, which is in another network: what is connected with it starts inside.
//
//go:norace
//go:nosplit
func handOut(m *machine, control, family uintptr) {
	m.report = Report{Kind: NewSocket, Value: uint32(family)}
	fd, _, e := syscall.RawSyscall6(unix.SYS_SOCKET, family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0, 0, 0, 0)
	if e != 0 {
		send(m, control)
		return
	}
	m.iov[0], m.iov[1] = uintptr(unsafe.Pointer(&m.report)), reportSize
	m.rights.length, m.rights.level, m.rights.kind = unsafe.Offsetof(m.rights.fd)+4, unix.SOL_SOCKET, unix.SCM_RIGHTS
	m.rights.fd = int32(fd)
	m.message[2], m.message[3] = uintptr(unsafe.Pointer(&m.iov)), 1
	m.message[4], m.message[5] = uintptr(unsafe.Pointer(&m.rights)), unsafe.Sizeof(m.rights)
	_, _, e = syscall.RawSyscall6(unix.SYS_SENDMSG, control, uintptr(unsafe.Pointer(&m.message)), 0, 0, 0, 0)
	syscall.RawSyscall6(unix.SYS_CLOSE, fd, 0, 0, 0, 0, 0)
	if e != 0 { // ETOOMANYREFS: programs inside have as many descriptors under way as the user may have. The supervisor counts the answers
		send(m, control)
	}
}

// pass sends a signal to the command's process group, or to the command where it has not made its own yet: it holds all signals back until
// it is executed, so this one ends it then.
//
//go:norace
//go:nosplit
func pass(m *machine, signal uintptr) {
	_, _, e := syscall.RawSyscall6(unix.SYS_KILL, -m.child, signal, 0, 0, 0, 0)
	if e == unix.ESRCH {
		syscall.RawSyscall6(unix.SYS_KILL, m.child, signal, 0, 0, 0, 0)
	}
}

// reap takes the ended children. It is true where the command was one of them, and m.report says how it ended.
//
//go:norace
//go:nosplit
func reap(m *machine, control uintptr) (over bool) {
	for {
		pid, _, e := syscall.RawSyscall6(unix.SYS_WAIT4, ^uintptr(0), uintptr(unsafe.Pointer(&m.wait)), unix.WNOHANG|unix.WUNTRACED, 0, 0, 0)
		if e != 0 || pid == 0 {
			return false
		}
		if pid != m.child {
			continue
		}
		if m.wait&0xff == 0x7f {
			m.report = Report{Kind: Stopped, Value: m.wait >> 8 & 0xff}
			send(m, control)
			continue
		}
		m.report = Report{Kind: Exited, Value: m.wait}
		return true
	}
}

//go:norace
//go:nosplit
func end(m *machine, status uintptr) {
	if m.hunt {
		hunt(m)
	}
	exit(status)
}

// children is where the kernel lists the children of a process with one thread (proc_pid_task_children(5)). A child subreaper inherits every
// orphan, so killing children until there are none reaches everything that did not escape by ptrace or by another subreaper; a command that
// makes itself one only delays its own processes' turn.
var children = [...]byte{'/', 'p', 'r', 'o', 'c', '/', 't', 'h', 'r', 'e', 'a', 'd', '-', 's', 'e', 'l', 'f', '/', 'c', 'h', 'i', 'l', 'd', 'r', 'e', 'n', 0}

// hunt kills until wait4 says that no child is left.
//
//go:norace
//go:nosplit
func hunt(m *machine) {
	for {
		fd, _, e := syscall.RawSyscall6(unix.SYS_OPENAT, ^uintptr(99), uintptr(unsafe.Pointer(&children)), unix.O_RDONLY|unix.O_CLOEXEC, 0, 0, 0)
		if e != 0 {
			return
		}
		n, _, _ := syscall.RawSyscall6(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&m.pids)), uintptr(len(m.pids)), 0, 0, 0)
		syscall.RawSyscall6(unix.SYS_CLOSE, fd, 0, 0, 0, 0, 0)
		pid := uintptr(0)
		for i := uintptr(0); i < n && i < uintptr(len(m.pids)); i++ {
			if c := m.pids[i]; c >= '0' && c <= '9' {
				pid = pid*10 + uintptr(c-'0')
			} else if pid != 0 { // a number cut off at the buffer's end has no blank behind it
				syscall.RawSyscall6(unix.SYS_KILL, pid, uintptr(unix.SIGKILL), 0, 0, 0, 0)
				pid = 0
			}
		}
		for {
			r, _, e := syscall.RawSyscall6(unix.SYS_WAIT4, ^uintptr(0), 0, unix.WNOHANG, 0, 0, 0)
			if e != 0 {
				return
			}
			if r == 0 {
				break
			}
		}
		m.pause[0], m.pause[1] = 0, 1_000_000
		syscall.RawSyscall6(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&m.pause)), 0, 0, 0, 0, 0)
	}
}

//go:norace
//go:nosplit
func send(m *machine, fd uintptr) {
	syscall.RawSyscall6(unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(&m.report)), reportSize, 0, 0, 0)
}

//go:norace
//go:nosplit
func exit(status uintptr) {
	for {
		syscall.RawSyscall6(unix.SYS_EXIT_GROUP, status, 0, 0, 0, 0, 0)
	}
}

//go:norace
//go:nosplit
func retry(m *machine, nr uintptr, a *[6]uintptr) {
	for n := uintptr(0); n < a[5]; n++ {
		_, _, e := syscall.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], 0)
		if e == 0 || e == unix.ENOENT {
			return
		}
		m.pause[0], m.pause[1] = 0, 10_000_000
		syscall.RawSyscall6(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&m.pause)), 0, 0, 0, 0, 0)
	}
}

// address makes a pointer of a number that the builder took from memory outside the Go heap.
//
//go:norace
//go:nosplit
func address(a uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&a)) }

//go:norace
//go:nosplit
func same(a, b, n uintptr) bool {
	for i := uintptr(0); i < n; i++ {
		if *(*byte)(address(a + i)) != *(*byte)(address(b + i)) {
			return false
		}
	}
	return true
}

//go:norace
//go:nosplit
func contains(a, n, want, length uintptr) bool {
	for i := uintptr(0); i+length <= n; i++ {
		if same(a+i, want, length) {
			return true
		}
	}
	return false
}

// StepError says which step of the set-up failed. No user code has run when it is returned.
type StepError struct {
	Step  string
	Errno unix.Errno
}

func (e *StepError) Error() string {
	if e.Errno == unix.ESTALE {
		return fmt.Sprintf("set-up step %q: what was found is not what was planned", e.Step)
	}
	return fmt.Sprintf("set-up step %q: %v", e.Step, e.Errno)
}

func (e *StepError) Unwrap() error { return e.Errno }

// ParseReport decodes one message of the child. The child is trusted until the command runs, and after that only as pid 1, which the
// command cannot write to; a message of another length is a bug or an attack, and an error.
func ParseReport(b []byte) (Report, error) {
	if len(b) != int(reportSize) {
		return Report{}, errors.New("bug: a report of the wrong size from pid 1")
	}
	return *(*Report)(unsafe.Pointer(&b[0])), nil
}

// Failure turns a Failed report into an error with the step's name.
func (p *Program) Failure(r Report) error {
	name := "unknown"
	if int(r.Step) < len(p.steps) {
		name = p.steps[r.Step]
	}
	return &StepError{Step: name, Errno: unix.Errno(r.Value)}
}
