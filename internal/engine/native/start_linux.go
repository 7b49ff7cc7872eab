// Package native turns a plan into the program that a child runs to become the sandbox, starts it, and cleans up after it.
package native

import (
	"fmt"
	"runtime"
	"strconv"
	"unsafe"

	"casemate.dev/internal/engine/native/inside"
	"casemate.dev/internal/plan"
	"golang.org/x/sys/unix"
)

// Sandbox is a running sandbox as its supervisor sees it.
type Sandbox struct {
	Control int // the supervisor's end of the socket to pid 1; closing it ends the sandbox
	PID     int // of pid 1, as the host sees it
	PIDFD   int

	program *program
}

type namespace struct {
	name string
	id   [2]uint64
}

// Start makes the sandbox of the plan and executes the command in it. The descriptors in at are the caller's to close.
// The sandbox dies with the thread: no goroutine may end locked to it before.
func Start(pl *plan.Plan, at Attach) (*Sandbox, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	defer unix.Close(pair[1])
	at.Control = pair[1]
	if at.Namespaces, err = ownNamespaces(); err != nil {
		return nil, err
	}
	at.LastCap = lastCapability()
	if pl.Mode == plan.Root {
		trees, err := takeTrees(pl)
		if err != nil {
			return nil, err
		}
		defer trees.close()
		at.Trees, at.Layers = trees.mounts, trees.layers
	}
	p := Program(pl, at)
	if fail := at.FailStep; fail != "" && !p.failAt(fail) {
		return nil, fmt.Errorf("there is no set-up step %q to fail", fail)
	}
	child, err := p.start(pl, cloneFlags(pl, &at), pair[1])
	if err != nil {
		unix.Close(pair[0])
		return nil, &inside.StepError{Step: "new namespaces", Errno: err.(unix.Errno)}
	}
	return &Sandbox{Control: pair[0], PID: child.PID, PIDFD: child.PIDFD, program: p}, nil
}

// Program writes the set-up of the plan, without running it.
func Program(pl *plan.Plan, at Attach) *program {
	if pl.Mode == plan.Landlock {
		return setUpFallback(pl, &at)
	}
	return setUp(pl, &at)
}

func cloneFlags(pl *plan.Plan, at *Attach) uint64 {
	switch {
	case pl.Mode == plan.Landlock:
		return 0
	case len(at.Join) == 0:
		return namespaces | unix.CLONE_NEWCGROUP
	}
	return namespaces
}

// failAt makes the step with this name or number fail.
func (p *program) failAt(step string) bool {
	for i, name := range p.Steps() {
		if name == step || strconv.Itoa(i) == step {
			return p.FailAt(i)
		}
	}
	return false
}

// start clones. As root it does so with the user's ids on this thread only, so that the sandbox is made exactly as that user would make it.
func (p *program) start(pl *plan.Plan, flags uint64, status int) (inside.Child, error) {
	if pl.Mode != plan.Root {
		return p.Start(flags, status)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	groups, err := unix.Getgroups()
	if err != nil {
		return inside.Child{}, err
	}
	if err := becomeThread(nil, pl.User.UID, pl.User.GID); err != nil {
		return inside.Child{}, err
	}
	child, startErr := p.Start(flags, status)
	if err := becomeThread(groups, 0, 0); err != nil {
		panic(fmt.Sprintf("bug: this thread could not become root again: %v", err))
	}
	return child, startErr
}

// becomeThread changes the ids of the calling thread only; the Go functions of these names change every thread.
func becomeThread(groups []int, uid, gid int) error {
	list := make([]uint32, len(groups)+1)
	for i, g := range groups {
		list[i] = uint32(g)
	}
	const keep = ^uintptr(0)
	if uid == 0 { // back: the user id first, because only root may change the others
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, 0, 0, keep); e != 0 {
			return e
		}
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&list[0])), 0); e != 0 {
		return e
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(gid), uintptr(gid), keep); e != 0 {
		return e
	}
	if uid != 0 {
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), keep); e != 0 {
			return e
		}
	}
	return nil
}

// Failure turns a Failed report of pid 1 into an error that names the step.
func (s *Sandbox) Failure(r inside.Report) error { return s.program.Failure(r) }

// Send passes a request to pid 1. It fails only when the sandbox is gone, which its pidfd tells.
func (s *Sandbox) Send(request byte, signal unix.Signal) {
	unix.Write(s.Control, []byte{request, byte(signal)})
}

// Kill ends the sandbox at once: the kernel kills every process of a pid namespace whose first process is gone.
func (s *Sandbox) Kill() { unix.PidfdSendSignal(s.PIDFD, unix.SIGKILL, nil, 0) }

// Wait reaps pid 1 and returns how it ended and what the whole sandbox used.
func (s *Sandbox) Wait() (status unix.WaitStatus, usage unix.Rusage, err error) {
	for {
		_, err = unix.Wait4(s.PID, &status, 0, &usage)
		if err != unix.EINTR {
			return status, usage, err
		}
	}
}

// Close releases what Start opened.
func (s *Sandbox) Close() {
	unix.Close(s.Control)
	unix.Close(s.PIDFD)
}

func ownNamespaces() ([]namespace, error) {
	list := make([]namespace, 0, 6)
	for _, name := range []string{"user", "mnt", "pid", "net", "ipc", "uts"} {
		var st unix.Stat_t
		if err := unix.Stat("/proc/self/ns/"+name, &st); err != nil {
			return nil, fmt.Errorf("own %s namespace: %w", name, err)
		}
		list = append(list, namespace{name, [2]uint64{uint64(st.Dev), st.Ino}})
	}
	return list, nil
}

// lastCapability asks the kernel how many capabilities it knows; a newer one than this program knows must be dropped all the same.
func lastCapability() int {
	last := unix.CAP_LAST_CAP
	for {
		if r, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(last+1), 0, 0, 0); err != nil || r < 0 {
			return last
		}
		last++
	}
}
