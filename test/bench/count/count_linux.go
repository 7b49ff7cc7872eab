// Package count counts what a start costs in ways that noise cannot change: system calls, program starts.
package count

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Calls are the system calls of a program and all that it starts, until the command that it was asked to start is executed. The execve that
// starts the program is not among them, the one that starts the command is.
type Calls struct {
	Made    int            // calls that the program makes whatever the machine does meanwhile
	Waiting int            // calls of idle threads and of the Go runtime's clock, whose number depends on the time that passes: more under tracing
	Execs   int            // programs executed, the command included
	Threads int            // threads and processes made
	By      map[uint64]int // of both kinds, by number
}

// waiting are calls that a thread repeats while nothing happens, and those by which the Go runtime interrupts a long computation.
func waiting(nr uint64) bool {
	switch nr {
	case unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_FUTEX, unix.SYS_SCHED_YIELD, unix.SYS_RESTART_SYSCALL, unix.SYS_EPOLL_PWAIT,
		unix.SYS_GETPID, unix.SYS_TGKILL, unix.SYS_RT_SIGRETURN:
		return true
	}
	return false
}

// syscallInfo is struct ptrace_syscall_info up to its first argument (ptrace(2), Linux 5.3).
type syscallInfo struct {
	op   uint8
	_    [3]uint8
	arch uint32
	ip   uint64
	sp   uint64
	nr   uint64
	args [7]uint64
}

const (
	getSyscallInfo = 0x420e
	opEntry        = 1
	wnothread      = 0x20000000
)

// UntilExec runs argv to its end and counts until a program named command is executed. Only children of the calling thread are waited for, so that
// a program may do other things meanwhile.
func UntilExec(argv, env []string, dir string, cred *syscall.Credential, command string) (Calls, error) {
	type outcome struct {
		c   Calls
		err error
	}
	done := make(chan outcome)
	go func() { // the thread that traces ends with this goroutine
		runtime.LockOSThread()
		c, err := run(argv, env, dir, cred, command)
		done <- outcome{c, err}
	}()
	o := <-done
	return o.c, o.err
}

func run(argv, env []string, dir string, cred *syscall.Credential, command string) (Calls, error) {
	t, err := start(argv, &os.ProcAttr{Dir: dir, Env: env, Sys: &syscall.SysProcAttr{Credential: cred}})
	if err != nil {
		return Calls{}, err
	}
	t.command = command
	err = t.run()
	if err == nil && t.counting {
		err = fmt.Errorf("%q was never executed", command)
	}
	return t.Calls, err
}

// start executes argv with the files after the standard ones.
func start(argv []string, attr *os.ProcAttr) (*tracer, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	attr.Files = append([]*os.File{null, null, os.Stderr}, attr.Files...)
	attr.Sys.Ptrace = true
	p, err := os.StartProcess(argv[0], argv, attr)
	if err != nil {
		return nil, err
	}
	return &tracer{Calls: Calls{By: map[uint64]int{}}, root: p.Pid, counting: true, live: map[int]bool{}, new: map[int]bool{}}, nil
}

// Watched is a program whose calls are counted while it runs.
type Watched struct {
	Pid   int
	t     *tracer
	ended chan error
}

// Watch executes argv, with descriptors from 3 on, and counts its calls from the beginning: there is no permission to need for one's own child, which there
// may be for a program that has confined itself.
func Watch(argv, env []string, files []*os.File) (*Watched, error) {
	type begun struct {
		w   *Watched
		err error
	}
	ready := make(chan begun)
	go func() { // the thread that traces ends with this goroutine
		runtime.LockOSThread()
		t, err := start(argv, &os.ProcAttr{Env: env, Files: files, Sys: &syscall.SysProcAttr{}})
		if err != nil {
			ready <- begun{err: err}
			return
		}
		w := &Watched{t.root, t, make(chan error, 1)}
		ready <- begun{w: w}
		w.ended <- t.run()
	}()
	b := <-ready
	return b.w, b.err
}

// Calls are those up to now.
func (w *Watched) Calls() Calls {
	w.t.mu.Lock()
	defer w.t.mu.Unlock()
	c := w.t.Calls
	c.By = maps.Clone(c.By)
	return c
}

// Wait waits for the program's end.
func (w *Watched) Wait() error { return <-w.ended }

type tracer struct {
	mu sync.Mutex // for the calls
	Calls
	root     int
	command  string
	counting bool
	live     map[int]bool // tracees
	new      map[int]bool // of them, those whose first stop is to come
}

func (t *tracer) run() error {
	var status unix.WaitStatus
	if _, err := unix.Wait4(t.root, &status, unix.WALL|wnothread, nil); err != nil {
		return err
	}
	if !status.Stopped() {
		return fmt.Errorf("the traced program ended before it began: %#x", status)
	}
	const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK |
		unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_EXITKILL
	if err := unix.PtraceSetOptions(t.root, options); err != nil {
		return err
	}
	t.live[t.root] = true
	t.resume(t.root, 0)
	exit := unix.WaitStatus(0)
	for len(t.live) > 0 { // the thread may have other children, so there is always something to wait for
		pid, err := unix.Wait4(-1, &status, unix.WALL|wnothread, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.ECHILD:
			clear(t.live)
		case err != nil:
			return err
		case status.Exited() || status.Signaled():
			delete(t.live, pid)
			if pid == t.root {
				exit = status
			}
		case status.Stopped():
			t.resume(pid, t.stopped(pid, status))
		}
	}
	if exit.ExitStatus() != 0 {
		return fmt.Errorf("exit status %d", exit.ExitStatus())
	}
	return nil
}

// stopped looks at why a tracee stopped, and returns the signal to hand on.
func (t *tracer) stopped(pid int, status unix.WaitStatus) int {
	sig := status.StopSignal()
	switch {
	case sig == unix.SIGTRAP|0x80:
		t.call(pid)
		return 0
	case sig == unix.SIGTRAP && status>>16 != 0:
		switch int(status >> 16) {
		case unix.PTRACE_EVENT_EXEC:
			t.exec(pid)
		case unix.PTRACE_EVENT_CLONE, unix.PTRACE_EVENT_FORK, unix.PTRACE_EVENT_VFORK:
			t.born(pid)
		}
		return 0
	case sig == unix.SIGSTOP && (t.new[pid] || !t.live[pid]): // how a new tracee arrives, at times before the event that announces it
		t.live[pid], t.new[pid] = true, false
		return 0
	}
	return int(sig)
}

func (t *tracer) born(parent int) {
	if t.counting {
		t.Threads++
	}
	if pid, err := unix.PtraceGetEventMsg(parent); err == nil && !t.live[int(pid)] {
		t.live[int(pid)], t.new[int(pid)] = true, true
	}
}

func (t *tracer) call(pid int) {
	if !t.counting {
		return
	}
	var info syscallInfo
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, getSyscallInfo, uintptr(pid), unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0)
	if errno != 0 || info.op != opEntry {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.By[info.nr]++
	if waiting(info.nr) {
		t.Waiting++
	} else {
		t.Made++
	}
}

func (t *tracer) exec(pid int) {
	if !t.counting {
		return
	}
	t.Execs++
	if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && filepath.Base(exe) == t.command {
		t.counting = false
	}
}

func (t *tracer) resume(pid, sig int) {
	request := unix.PTRACE_SYSCALL
	if !t.counting {
		request = unix.PTRACE_CONT
	}
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(pid), 0, uintptr(sig), 0, 0)
	if errno != 0 && !errors.Is(errno, unix.ESRCH) { // killed meanwhile
		panic(errno)
	}
}
