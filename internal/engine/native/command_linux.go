package native

import (
	"slices"

	"casemate.dev/internal/engine/native/inside"
	"casemate.dev/internal/plan"
	"golang.org/x/sys/unix"
)

// From pid 1 to the command.

// signalDescriptor lets pid 1 wait for children and for its supervisor at once. All signals stay blocked in pid 1. Those that the terminal
// makes of keys reach it instead of the command while that is not the terminal's foreground yet, so it passes them on.
func signalDescriptor(p *program) inside.Slot {
	mask := uint64(0)
	for _, sig := range [...]unix.Signal{unix.SIGCHLD, unix.SIGINT, unix.SIGQUIT, unix.SIGTSTP} {
		mask |= 1 << (uint(sig) - 1)
	}
	return p.Get(unix.SYS_SIGNALFD4, inside.Int(^uintptr(0)), bytesOf(p, mask), inside.Int(8), inside.Int(unix.O_CLOEXEC|unix.O_NONBLOCK))
}

// above is the lowest number beyond all that the child needs of its supervisor's descriptors.
func (at *Attach) above() int {
	n := max(at.Control, at.Stdio[0], at.Stdio[1], at.Stdio[2])
	for _, fd := range slices.Concat(at.Join, at.Trees) {
		n = max(n, fd)
	}
	for _, fds := range at.Layers {
		n = max(n, fds[0], fds[1], fds[2])
	}
	return n + 1
}

// room is for what the set-up opens before it has put descriptors at the numbers it has chosen: a number that is in use by then would be taken away.
const room = 64

// keep closes what the supervisor was itself started with, and puts the two descriptors that pid 1 keeps at numbers of their own.
func keep(p *program, at *Attach) (control int) {
	p.Step("descriptors of pid 1")
	control = at.above() + room
	p.Call(unix.SYS_CLOSE_RANGE, inside.Int(at.above()), inside.Int(^uint32(0)), zero)
	p.Call(unix.SYS_DUP3, inside.Int(at.Control), inside.Int(control), inside.Int(unix.O_CLOEXEC))
	signals := signalDescriptor(p)
	p.Call(unix.SYS_DUP3, signals.Arg(), inside.Int(control+1), inside.Int(unix.O_CLOEXEC))
	return control
}

// command adds what happens after the fork: pid 1 stays in its loop, the child becomes the command.
func command(p *program, pl *plan.Plan, at *Attach, control int, term *inside.Slot) {
	p.Step("fork the command")
	p.Fork(control, false)
	standardStreams(p, at, term)
	p.Step(WorkDir)
	p.Call(unix.SYS_CHDIR, p.String(pl.Command.Dir))
	execute(p, pl)
}

// standardStreams puts the command in the foreground of its terminal, or in a session of its own, and gives it its three descriptors.
func standardStreams(p *program, at *Attach, term *inside.Slot) {
	if term != nil {
		p.Step("foreground the command")
		p.Call(unix.SYS_SETPGID, zero, zero)
		group := p.Buffer(8)
		p.Store(group, p.Get(unix.SYS_GETPID))
		p.Call(unix.SYS_IOCTL, term.Arg(), inside.Int(unix.TIOCSPGRP), group)
	} else {
		p.Step("own session")
		p.Call(unix.SYS_SETSID)
	}
	p.Step("standard streams")
	for i, fd := range at.Stdio {
		from := inside.Int(fd)
		if fd < 0 {
			from = term.Arg()
		}
		p.Call(unix.SYS_DUP3, from, inside.Int(i), zero)
	}
}

func execute(p *program, pl *plan.Plan) {
	p.Step("close other descriptors")
	p.Call(unix.SYS_CLOSE_RANGE, inside.Int(3), inside.Int(^uint32(0)), inside.Int(unix.CLOSE_RANGE_CLOEXEC))
	p.Step(Execute)
	p.Call(unix.SYS_RT_SIGPROCMASK, inside.Int(unix.SIG_SETMASK), p.Buffer(8), zero, inside.Int(8))
	p.Call(unix.SYS_EXECVE, p.String(pl.Command.Path), p.Strings(pl.Command.Argv), p.Strings(pl.Command.Env))
}

// The steps whose failure is the command's, not the sandbox's.
const (
	Execute = "execute the command"
	WorkDir = "change to the working directory"
)
