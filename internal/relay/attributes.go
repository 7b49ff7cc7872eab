package relay

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Attributes are read and set as struct termios2, which alone carries every speed. On a pty's master the requests act on
// the terminal at its other end (tty_ioctl(4)).

func getAttributes(fd int) (*unix.Termios, error) { return unix.IoctlGetTermios(fd, unix.TCGETS2) }

// setAttributes takes effect at once.
func setAttributes(fd int, t *unix.Termios) error { return unix.IoctlSetTermios(fd, unix.TCSETS2, t) }

// discardInput drops what was typed, or answered by the terminal, and not yet read. Not by way of TCSETSF2, which waits for
// the output first: a stopped serial line would hold us for ever.
func discardInput(fd int) { unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH) }

// rawAttributes is what cfmakeraw(3) makes of t: every byte passes as it is, both ways.
func rawAttributes(t unix.Termios) unix.Termios {
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag &^= unix.CSIZE | unix.PARENB
	t.Cflag |= unix.CS8
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	return t
}

func attributeBytes(t *unix.Termios) []byte {
	b := make([]byte, unsafe.Sizeof(*t))
	*(*unix.Termios)(unsafe.Pointer(&b[0])) = *t
	return b
}

// SavedTerminal is what a process needs to put the user's terminal right when the supervisor was killed and could not do
// it. It does these system calls, and nothing unless the terminal was ours until then and nobody else has it by now:
//
//	ioctl(FD, TIOCGPGRP, &group)      group must be one of Groups: ours, or that of the shell which started us (0: none did);
//	                                  where we led the session there is none any more, and now must equal Raw
//	ioctl(FD, TCGETS2, &now)
//	write(FD, Reset, len(Reset))      a short write is nothing to act upon
//	ioctl(FD, TCFLSH, TCIFLUSH)       this and the next only if now equals Raw: a shell that was quicker has set what it likes,
//	ioctl(FD, TCSETS2, Termios)       but no shell ends the modes that Reset ends
//
// The process must be in our session (TIOCGPGRP answers nobody else), in a process group of its own (kill -9 %1 kills the
// whole job), and block SIGTTOU, or the last calls stop it.
type SavedTerminal struct {
	FD      int
	Groups  [2]int32
	Entered []byte // memory shared with whom we fork: one byte, 1 while the terminal is ours
	Termios []byte // struct termios2 as it was found
	Raw     []byte // struct termios2 as we set it
	Reset   []byte
}

// writeSoon writes as much of b as a terminal that somebody reads will take, and gives up on one that nobody reads.
func writeSoon(fd int, b string) {
	deadline := time.Now().Add(200 * time.Millisecond)
	for len(b) > 0 && time.Now().Before(deadline) {
		n, err := unix.Write(fd, []byte(b))
		if n > 0 {
			b = b[n:]
			continue
		}
		if err != unix.EAGAIN && err != unix.EINTR {
			return
		}
		unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 50)
	}
}
