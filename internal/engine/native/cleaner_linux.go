package native

import (
	"fmt"
	"unsafe"

	"casemate.dev/internal/engine/native/inside"
	"golang.org/x/sys/unix"
)

// Cleaner is a process that outlives a supervisor killed with SIGKILL just long enough to remove its cgroups and to give the terminal back.
// Nobody else could: the kernel ends the sandbox by itself, but it neither removes cgroups nor resets a terminal.
type Cleaner struct {
	child inside.Child
	pipe  int // its end tells of our death
}

// Terminal is how to restore the user's terminal.
type Terminal struct {
	FD      int
	Groups  [2]int32 // whose foreground it may be: the supervisor's and its shell's; with any other the terminal has a new user
	Entered []byte   // shared memory: one byte, 1 while the terminal is the supervisor's
	Termios []byte   // struct termios2 as it was found
	Raw     []byte   // the same as the supervisor set it; if it is another by now, the user's shell was quicker
	Reset   []byte   // leaves the alternate screen, shows the cursor, ends mouse and paste modes
}

// StartCleaner starts it. The terminal comes first, because a person looks at it; dirs are removed in order, once the sandbox's processes are
// gone.
func StartCleaner(dirs []string, term *Terminal) (*Cleaner, error) {
	var pipe [2]int // package os would register it with the network poller
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	defer unix.Close(pipe[0])
	child, err := cleaning(pipe[0], dirs, term).Start(0, pipe[0])
	if err != nil {
		unix.Close(pipe[1])
		return nil, fmt.Errorf("cleaner: %w", err)
	}
	if term != nil { // the sandbox, which is cloned after this, does not get it
		unix.Madvise(term.Entered, unix.MADV_DONTFORK)
	}
	return &Cleaner{child, pipe[1]}, nil
}

func cleaning(death int, dirs []string, term *Terminal) *program {
	p := &program{}
	p.Step("leave the supervisor's process group") // what kills that does not reach the cleaner; the session must stay, for the terminal's sake
	p.Call(unix.SYS_SETPGID, zero, zero)
	told, tty := death+1, death+2 // its two descriptors, once nothing is left at the numbers from these on
	if term != nil {
		told, tty = max(death, term.FD)+1, max(death, term.FD)+2
	}
	p.Call(unix.SYS_CLOSE_RANGE, inside.Int(told), inside.Int(^uint32(0)), zero)
	p.Call(unix.SYS_DUP3, inside.Int(death), inside.Int(told), inside.Int(unix.O_CLOEXEC))
	if term != nil {
		p.Call(unix.SYS_DUP3, inside.Int(term.FD), inside.Int(tty), inside.Int(unix.O_CLOEXEC))
	}
	p.Call(unix.SYS_CLOSE_RANGE, zero, inside.Int(told-1), zero)
	p.Step("wait for the supervisor's end")
	p.Call(unix.SYS_READ, inside.Int(told), p.Buffer(1), inside.Int(1))
	if term != nil {
		restore(p, term, tty)
	}
	p.Step("remove cgroups")
	for _, d := range dirs {
		p.Retry(500, unix.SYS_UNLINKAT, here, p.String(d), inside.Int(unix.AT_REMOVEDIR))
	}
	return p
}

// Stop ends the cleaner: its supervisor has cleaned up itself.
func (c *Cleaner) Stop() {
	unix.PidfdSendSignal(c.child.PIDFD, unix.SIGKILL, nil, 0)
	for {
		if _, err := unix.Wait4(c.child.PID, nil, 0, nil); err != unix.EINTR {
			break
		}
	}
	unix.Close(c.child.PIDFD)
	unix.Close(c.pipe)
}

// restore gives the terminal back. TTOU is blocked like every signal here, so this works from the background. No call of it is one that must
// succeed (Retry): the cgroups have to go even where the terminal is gone. The shell may have been quicker: it sets the attributes it wants, but
// ends no mode of a full-screen program.
func restore(p *program, term *Terminal, tty int) {
	p.Step("look at the terminal")
	group, now := p.Buffer(4), p.Buffer(len(term.Raw))
	p.Retry(1, unix.SYS_IOCTL, inside.Int(tty), inside.Int(unix.TIOCGPGRP), group)
	p.Retry(1, unix.SYS_IOCTL, inside.Int(tty), inside.Int(unix.TCGETS2), now)
	p.Step("restore the terminal")
	reset := func() {
		p.Retry(20, unix.SYS_WRITE, inside.Int(tty), p.Bytes(term.Reset), inside.Int(len(term.Reset)))
	}
	attributes := func() {
		p.Retry(1, unix.SYS_IOCTL, inside.Int(tty), inside.Int(unix.TCFLSH), inside.Int(unix.TCIFLUSH))
		p.Retry(1, unix.SYS_IOCTL, inside.Int(tty), inside.Int(unix.TCSETS2), p.Bytes(term.Termios))
	}
	raw := func(then func()) { p.OnlyIf(now, p.Bytes(term.Raw), len(term.Raw), then) }
	p.OnlyIf(inside.Int(uintptr(unsafe.Pointer(&term.Entered[0]))), p.Bytes([]byte{1}), 1, func() {
		for _, g := range term.Groups {
			if g != 0 {
				p.OnlyIf(group, bytesOf(p, g), 4, func() { reset(); raw(attributes) })
			}
		}
		// With its session's leader, which a supervisor started by no shell is, a terminal loses its foreground (ENOTTY).
		p.OnlyIf(group, p.Buffer(4), 4, func() { raw(func() { reset(); attributes() }) })
	})
}
