package native

import (
	"casemate.dev/internal/engine/native/inside"
	"casemate.dev/internal/plan"
	"golang.org/x/sys/unix"
)

// Attach is what connects one sandbox to its supervisor: descriptors of this process that the child inherits.
type Attach struct {
	Control  int    // pid 1's end of the control socket
	Stdio    [3]int // the command's standard streams; -1 is its terminal
	Terminal bool   // give the command a terminal of its own
	Join     []int  // cgroup.procs files, open for writing
	Filter   []unix.SockFilter
	Rlimits  []Rlimit
	OOMScore int          // added to the kernel's score, so that the sandbox goes before the user's own programs
	LastCap  int          // the highest capability that this kernel knows
	Winsize  unix.Winsize // of the user's terminal
	Termios  unix.Termios // of the user's terminal, as struct termios2
	CPUs     *unix.CPUSet // the processors to use, where nothing else limits them
	FailStep string       // name or number of a set-up step that shall fail, for the proof that nothing runs then
	Watch    bool         // hand out the sandbox's /proc and workspace, for the supervisor to watch

	KillableWait bool // the kernel lets a process that waits for the supervisor's answer be killed (Linux 5.19)

	Namespaces []namespace    // our own, which the sandbox's must differ from
	Layers     map[int][3]int // as root: each overlay's lower directory, mask and layer, by the index of its mount
	Trees      []int          // as root: the plan's mounts, taken before the clone, by index; -1 where there is none
}

// handle is a descriptor that the sandbox hands to its supervisor before the command starts.
type handle struct {
	bit uint32
	fd  inside.Slot
}

// What a Handles report may carry.
const (
	HandleTerminal  = 1 << iota // the master of the command's terminal
	HandleProc                  // the sandbox's /proc
	HandleWorkspace             // the merged workspace
	HandleCalls                 // the filter's notifications of system calls
	HandleTmp                   // the sandbox's /tmp
	HandleShm                   // the sandbox's /dev/shm
)

// Rlimit is one resource limit of the command and of pid 1.
type Rlimit struct {
	Resource   int
	Soft, Hard uint64
}

const (
	namespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	sealed     = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	hostname   = "casemate"
)

// setUp writes the program that turns a child in new namespaces into the sandbox of the plan. The order is the point: what a later step
// forbids, an earlier one may still need.
func setUp(pl *plan.Plan, at *Attach) *program {
	p := &program{}
	control := keep(p, at)
	joinLimits(p, at)
	becomeUser(p, pl, at)
	trees, layers := openSources(p, pl, at, control+2)
	newRoot(p)
	mounts(p, pl, trees, layers)
	loopback(p)
	procSettings(p)
	listeners := network(p, pl)
	maskProc(p)
	leaveHost(p)
	term, fds := terminal(p, at)
	watched, opened := handles(p, pl, at)
	fds = append(fds, watched...)
	verifyNetwork(p, pl)
	dropCapabilities(p, at)
	landlock(p, pl, opened)
	rlimits(p, at)
	p.Step("hide pid 1's memory")
	p.prctl(unix.PR_SET_DUMPABLE, 0)
	fds = append(fds, filter(p, pl, at)...)
	verify(p, pl, at)
	handOver(p, at, fds)
	if len(listeners) > 0 {
		p.sendRights(at.Control, inside.Report{Kind: inside.Listeners, Value: uint32(len(listeners))}, listeners)
	}
	command(p, pl, at, control, term)
	return p
}
