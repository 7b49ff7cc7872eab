package enginetest

import (
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Inherited lists the descriptors above 2 that are open. It must run before anything opens one.
func Inherited() []int {
	var fds []int
	for fd := 3; fd < 1024; fd++ {
		if _, _, errno := syscall.RawSyscall(unix.SYS_FCNTL, uintptr(fd), unix.F_GETFD, 0); errno == 0 {
			fds = append(fds, fd)
		}
	}
	return fds
}

func fdCases() []Case {
	stdio := func(id, title string, attack func(e *Env, fd int) (string, bool)) Case {
		return Case{ID: id, Group: "fds", Title: title, Guarantee: fdsClosed, Control: Outside, Attack: func(e *Env) Outcome {
			for fd := range 3 {
				if what, bad := attack(e, fd); bad {
					return open("descriptor %d: %s", fd, what)
				}
			}
			return held("0, 1 and 2 are not")
		}}
	}
	return []Case{
		{ID: "D01.use", Group: "fds", Title: "use an inherited descriptor to reach the host's files", Guarantee: fdsClosed, Control: Outside, Attack: func(e *Env) Outcome {
			for _, fd := range e.fds {
				if fd == e.rout {
					continue
				}
				for _, name := range []string{"hostname", "../etc/hostname", strings.TrimPrefix(e.Canary, "/"), "../" + strings.TrimPrefix(e.Canary, "/"), "."} {
					got, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
					if err == nil {
						unix.Close(got)
						return open("openat(%d, %q)", fd, name)
					}
				}
			}
			return held("%d descriptors, none a directory", len(e.fds)-1)
		}},
		{ID: "D03.only", Group: "fds", Title: "inherit any descriptor but stdin, stdout and stderr", Guarantee: fdsClosed, Control: Outside, Attack: func(e *Env) Outcome {
			for _, fd := range e.fds {
				if fd == e.rout {
					continue
				}
				link, _ := os.Readlink("/proc/self/fd/" + itoa(fd))
				return open("descriptor %d is %s", fd, link)
			}
			return held("only 0, 1 and 2")
		}},
		stdio("D04.regular", "hold a file of the host as stdin, stdout or stderr", func(e *Env, fd int) (string, bool) {
			var st unix.Stat_t
			if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
				return "", false
			}
			return "a regular file", true
		}),
		stdio("D04.reopen", "reopen it with more rights than were given", func(e *Env, fd int) (string, bool) {
			var st unix.Stat_t
			if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
				return "", false
			}
			return "reopened for reading and writing", canOpen("/proc/self/fd/"+itoa(fd), unix.O_RDWR) == nil
		}),
		stdio("D04.seek", "seek, read or truncate it", func(e *Env, fd int) (string, bool) {
			_, err := unix.Seek(fd, 0, 1)
			var st unix.Stat_t
			return "it can be positioned", err == nil && unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG
		}),
		stdio("E14.socket", "hold a socket, over which descriptors could be passed (SCM_RIGHTS)", func(e *Env, fd int) (string, bool) {
			var st unix.Stat_t
			return "a socket", unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK
		}),
		stdio("T08.terminal", "hold the user's terminal", func(e *Env, fd int) (string, bool) {
			var st unix.Stat_t
			if _, err := unix.IoctlGetTermios(fd, unix.TCGETS); err != nil || unix.Fstat(fd, &st) != nil || !e.isUsers(st) {
				return "", false
			}
			link, _ := os.Readlink("/proc/self/fd/" + itoa(fd))
			return "a terminal of the host, " + link, true
		}),
	}
}

// isUsers says whether a terminal is the user's. One of the sandbox's own is a file of the sandbox's own devpts, or, without namespaces, another
// one of the host's.
func (e *Env) isUsers(st unix.Stat_t) bool {
	if e.Terminal != 0 {
		return st.Dev == e.HostPts && st.Rdev == e.Terminal
	}
	return st.Dev == e.HostPts && e.Mode != "landlock"
}

func ttyCases() []Case {
	own := func(id, title string, optional string, req uintptr, denied func(error) bool) Case {
		return Case{ID: id, Group: "tty", Title: title, Guarantee: injection, Control: Outside, Optional: optional, Attack: func(*Env) Outcome {
			return onOwnTerminal(req, denied)
		}}
	}
	eperm := func(err error) bool { return err == unix.EPERM }
	refusedOrIO := func(err error) bool { return err == unix.EPERM || err == unix.EIO }
	return []Case{
		own("T01.tiocsti", "type into a terminal: TIOCSTI", "dev.tty.legacy_tiocsti", unix.TIOCSTI, refusedOrIO),
		own("T01.high-bits", "the same with high bits set in the request (CVE-2019-10063)", "dev.tty.legacy_tiocsti", 1<<32|unix.TIOCSTI, refusedOrIO),
		own("T03.tioclinux", "paste on a console: TIOCLINUX", "", unix.TIOCLINUX, eperm),
		{ID: "T03.tioccons", Group: "tty", Title: "take the console's output: TIOCCONS", Guarantee: injection, Control: None,
			NoControl: "where it succeeds it takes the machine's console", Attack: func(*Env) Outcome { return onOwnTerminal(unix.TIOCCONS, eperm) }},
		{ID: "T01.inherited", Group: "tty", Title: "type into the terminal on stdin, stdout, stderr or /dev/tty", Guarantee: injection, Control: None,
			NoControl: "the whole-binary test holds the terminal; T01.tiocsti shows that the call would work", Attack: func(*Env) Outcome {
				fds := []int{0, 1, 2}
				if fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0); err == nil {
					fds = append(fds, fd)
				}
				c := page()
				c[0] = '#'
				for _, fd := range fds {
					if _, errno := sys(unix.SYS_IOCTL, uintptr(fd), unix.TIOCSTI, addr(c)).do(); errno == 0 {
						return open("typed into descriptor %d", fd)
					}
				}
				return held("%d descriptors", len(fds))
			}},
		{ID: "T01.devices", Group: "tty", Title: "open another user's terminal or a console", Guarantee: injection, Control: None, NoControl: "which terminals exist is up to the machine", Attack: func(*Env) Outcome {
			for _, name := range []string{"tty0", "tty1", "ttyS0", "console", "vcs", "vcsa", "vcs1"} {
				if canOpen("/dev/"+name, unix.O_RDWR) == nil && name != "console" {
					return open("/dev/%s", name)
				}
			}
			return held("none")
		}},
	}
}

// onOwnTerminal makes a pseudo-terminal its controlling one and tries the request on it.
func onOwnTerminal(req uintptr, denied func(error) bool) Outcome {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return held("no pseudo-terminal: %v", err)
	}
	defer unix.Close(master)
	n, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		return held("no pseudo-terminal: %v", err)
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return held("no pseudo-terminal: %v", err)
	}
	arg := page()
	arg[0] = '#' // for TIOCLINUX, a subcode that is none
	path := text("/dev/pts/" + itoa(n))
	fd := 100
	// The new session is a child's: the attack's own process may lead a group, and then setsid is refused.
	errs := inFork(0,
		sys(unix.SYS_SETSID),
		sys(unix.SYS_OPENAT, ^uintptr(99), path, unix.O_RDWR|unix.O_NOCTTY, 0),
		sys(unix.SYS_CLOSE_RANGE, uintptr(fd), 1<<20, 0),
		sys(unix.SYS_DUP3, uintptr(slaveFD(master)), uintptr(fd), 0),
		sys(unix.SYS_IOCTL, uintptr(fd), unix.TIOCSCTTY, 0),
		sys(unix.SYS_IOCTL, uintptr(fd), req, addr(arg)))
	last := errs[len(errs)-1]
	if len(errs) != 7 {
		return held("step %d: %v", len(errs)-1, last)
	}
	if last == 0 {
		return open("it succeeded")
	}
	if denied(last) {
		return held("%v", last)
	}
	return open("the kernel was reached: %v", last)
}

// slaveFD is another descriptor of the pseudo-terminal's other end, opened without following a path.
func slaveFD(master int) int {
	fd, _, errno := syscall.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY)
	if errno != 0 {
		return -1
	}
	return int(fd)
}
