package relay

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// kind is what lies behind a descriptor, as far as copying is concerned.
type kind uint8

const (
	null     kind = iota // /dev/null, or not open
	pipes                // a pipe or a named one
	regular              // a regular file
	socket               //
	terminal             //
	other                // another device
)

func kindOf(fd int) (kind, unix.Stat_t) {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return null, st
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFIFO:
		return pipes, st
	case unix.S_IFREG:
		return regular, st
	case unix.S_IFSOCK:
		return socket, st
	case unix.S_IFCHR:
		if st.Rdev == unix.Mkdev(1, 3) {
			return null, st
		}
		if isTerminal(fd) {
			return terminal, st
		}
	}
	return other, st
}

// sameFile says that two descriptors lead to one place, so that the order of what is written to either matters.
func sameFile(a, b *unix.Stat_t) bool {
	return a.Dev == b.Dev && a.Ino == b.Ino && a.Mode&unix.S_IFMT == b.Mode&unix.S_IFMT
}

func isTerminal(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}

// Interactive says whether a person sits at both ends: standard input and output are terminals. Standard error may be
// anything; where it is not a terminal it gets a pipe of its own. With one of the two redirected a run is not interactive,
// and if standard input is the terminal it is not read: the person would be typing to a command that they cannot see.
func Interactive(stdin, stdout int) bool { return isTerminal(stdin) && isTerminal(stdout) }

// reopen makes a description of our own for what fd refers to, so that its flags are not those of other processes: setting
// O_NONBLOCK on an inherited description would change it for the user's shell. It needs the right to open the file.
func reopen(fd, flags int) (int, error) {
	return unix.Open("/proc/self/fd/"+strconv.Itoa(fd), flags|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
}

// openTerminal is reopen for a terminal. Under su or sudo the terminal belongs to somebody else; then /dev/tty, which
// everybody may open, does if it is the same one.
func openTerminal(fd, flags int) (int, error) {
	own, err := reopen(fd, flags)
	if err == nil {
		return own, nil
	}
	tty, err2 := unix.Open("/dev/tty", flags|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err2 != nil {
		return -1, err
	}
	var st unix.Stat_t
	if dev, err3 := unix.IoctlGetUint32(tty, unix.TIOCGDEV); err3 == nil && unix.Fstat(fd, &st) == nil && st.Rdev == uint64(dev) {
		return tty, nil
	}
	unix.Close(tty)
	return -1, err
}

// openNull gives the command a /dev/null of its own. Not a pipe at its end: programs such as ripgrep look whether their
// standard input is a pipe and behave differently.
func openNull(flags int) (int, error) {
	fd, err := unix.Open("/dev/null", flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %q: %w", "/dev/null", err)
	}
	return fd, nil
}

// letGo closes our copy of a host descriptor, so that whoever is at the other end notices, and puts /dev/null in its place,
// so that its number is not given to something else.
func letGo(fd int) {
	if n, err := openNull(unix.O_RDWR); err == nil {
		unix.Dup3(n, fd, 0)
		unix.Close(n)
	}
}

func nonblocking(fd int) error {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags|unix.O_NONBLOCK)
	}
	return err
}

// unread is how much lies in a pipe.
func unread(fd int) int {
	n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	if err != nil {
		return 0
	}
	return n
}
