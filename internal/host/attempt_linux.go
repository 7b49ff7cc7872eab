package host

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// attempt is a list of system calls for a child of its own to try. The engine's start does the same for real; this one leaves nothing and
// tells how far it came.
type attempt struct {
	flags uint64 // namespaces to make
	calls []call
	steps []string // for each call, the step it belongs to
	keep  []any    // what the calls point to
	step  string
}

// call is one system call. The child has no Go runtime, so everything is decided before.
type call struct {
	nr     uintptr
	a      [6]uintptr
	ignore syscall.Errno
	onFD   bool // a[0] is the result of the last call that had keepFD
	keepFD bool
}

// outcome lies in memory shared with the child.
type outcome struct{ call, errno, fd uintptr }

func newAttempt(flags uint64) *attempt {
	return &attempt{flags: flags, step: "new namespaces"}
}

func (t *attempt) at(step string) *attempt { t.step = step; return t }

func (t *attempt) add(c call) *attempt {
	t.calls, t.steps = append(t.calls, c), append(t.steps, t.step)
	return t
}

func (t *attempt) call(nr uintptr, args ...uintptr) *attempt {
	c := call{nr: nr}
	copy(c.a[:], args)
	return t.add(c)
}

// text keeps s for the child, ended by NUL.
func (t *attempt) text(s string) uintptr {
	b := append([]byte(s), 0)
	t.keep = append(t.keep, b)
	return uintptr(unsafe.Pointer(&b[0]))
}

// mapUser maps the caller's own ids, which needs no privilege (user_namespaces(7)).
func (t *attempt) mapUser(f Facts) *attempt {
	t.at("map the user id")
	t.write("/proc/self/setgroups", "deny", unix.ENOENT)
	t.write("/proc/self/uid_map", fmt.Sprintf("%d %d 1", f.EUID, f.EUID), 0)
	return t.write("/proc/self/gid_map", fmt.Sprintf("%d %d 1", f.EGID, f.EGID), 0)
}

func (t *attempt) write(path, content string, ignore syscall.Errno) *attempt {
	t.add(call{nr: unix.SYS_OPENAT, a: [6]uintptr{cwd, t.text(path), unix.O_WRONLY | unix.O_CLOEXEC}, keepFD: true, ignore: ignore})
	return t.add(call{nr: unix.SYS_WRITE, a: [6]uintptr{0, t.text(content), uintptr(len(content))}, onFD: true})
}

func (t *attempt) mount(source, target, kind string, flags uintptr, options string) *attempt {
	return t.call(unix.SYS_MOUNT, t.text(source), t.text(target), t.text(kind), flags, t.text(options))
}

func (t *attempt) private() *attempt {
	return t.at("private mounts").mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
}

// try runs the attempt and returns the step that failed and how, or 0.
func (t *attempt) try() (string, syscall.Errno) {
	mem, err := unix.Mmap(-1, 0, int(unsafe.Sizeof(outcome{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return "memory for the attempt", err.(syscall.Errno)
	}
	defer unix.Munmap(mem)
	out := (*outcome)(unsafe.Pointer(&mem[0]))
	calls := append(t.calls, call{nr: unix.SYS_GETPID})
	args := &cloneArgs{flags: t.flags | unix.CLONE_CLEAR_SIGHAND, exitSignal: uint64(unix.SIGCHLD)}

	runtime.LockOSThread()
	syscall.ForkLock.Lock()
	pid, errno := cloneAndTry(args, &calls[0], len(calls), out)
	syscall.ForkLock.Unlock()
	runtime.UnlockOSThread()
	runtime.KeepAlive(t)
	if errno != 0 {
		return "new namespaces", errno
	}
	status := reap(int(pid))
	switch {
	case out.errno != 0:
		return t.steps[out.call], syscall.Errno(out.errno)
	case status != 0: // killed, as by a filter that kills
		return t.steps[min(int(out.call), len(t.steps)-1)], unix.EPERM
	}
	return "", 0
}

func reap(pid int) unix.WaitStatus {
	var status unix.WaitStatus
	for {
		if _, err := unix.Wait4(pid, &status, 0, nil); err != unix.EINTR {
			return status
		}
	}
}

// cloneArgs is struct clone_args of clone3(2), first version.
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls uint64
}

const cwd = ^uintptr(99) // AT_FDCWD, -100

// cloneAndTry clones with all signals blocked, so that no Go signal handler runs in the child, which never returns from here. The child works
// on a copy of this stack and memory, calls nothing that may grow the stack, and allocates nothing.
//
//go:norace
//go:nosplit
//go:noinline
func cloneAndTry(args *cloneArgs, calls *call, n int, out *outcome) (uintptr, syscall.Errno) {
	all, old := ^uint64(0), uint64(0)
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&old)), 8, 0, 0)
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE3, uintptr(unsafe.Pointer(args)), unsafe.Sizeof(cloneArgs{}), 0, 0, 0, 0)
	if errno == 0 && pid == 0 {
		for i := 0; i < n; i++ {
			c := (*call)(unsafe.Add(unsafe.Pointer(calls), uintptr(i)*unsafe.Sizeof(call{})))
			out.call = uintptr(i)
			if c.onFD {
				if out.fd == ^uintptr(0) {
					continue // the file that may be missing is missing
				}
				c.a[0] = out.fd
			}
			r, _, e := syscall.RawSyscall6(c.nr, c.a[0], c.a[1], c.a[2], c.a[3], c.a[4], c.a[5])
			if c.keepFD {
				out.fd = r
			}
			if e != 0 && e != c.ignore {
				out.errno = uintptr(e)
				break
			}
		}
		for {
			syscall.RawSyscall6(unix.SYS_EXIT_GROUP, 0, 0, 0, 0, 0, 0)
		}
	}
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&old)), 0, 8, 0, 0)
	return pid, errno
}
