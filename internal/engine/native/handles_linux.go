package native

import (
	"cmp"
	"encoding/binary"
	"slices"

	"casemate.dev/internal/engine/native/inside"
	"casemate.dev/internal/plan"
	"golang.org/x/sys/unix"
)

// terminal leaves the user's session, so that nothing inside can type into the user's shell (TIOCSTI, CVE-2017-5226). With a terminal it
// makes a new one in the sandbox's own devpts, of which pid 1 becomes the session leader: like a shell, so that the command's process
// group is not orphaned and Ctrl-Z can stop it.
func terminal(p *program, at *Attach) (*inside.Slot, []handle) {
	p.Step("leave the user's session")
	p.Call(unix.SYS_SETSID)
	if !at.Terminal {
		return nil, nil
	}
	p.Step("own terminal")
	master := p.open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY)
	p.Call(unix.SYS_IOCTL, master.Arg(), inside.Int(unix.TIOCSPTLCK), p.Buffer(8))
	slave := p.Get(unix.SYS_IOCTL, master.Arg(), inside.Int(unix.TIOCGPTPEER), inside.Int(unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC))
	p.Call(unix.SYS_IOCTL, slave.Arg(), inside.Int(unix.TCSETS2), bytesOf(p, at.Termios))
	p.Call(unix.SYS_IOCTL, slave.Arg(), inside.Int(unix.TIOCSWINSZ), bytesOf(p, at.Winsize))
	p.Call(unix.SYS_IOCTL, slave.Arg(), inside.Int(unix.TIOCSCTTY), zero)
	return &slave, []handle{{HandleTerminal, master}}
}

// handles opens what the supervisor watches. They lie in the sandbox's own mount namespace, so nobody else could open them.
func handles(p *program, pl *plan.Plan, at *Attach) []handle {
	if !at.Watch {
		return nil
	}
	p.Step("handles for the watcher")
	hs := []handle{
		{HandleProc, p.open("/proc", unix.O_RDONLY|unix.O_DIRECTORY)},
		{HandleTmp, p.open("/tmp", unix.O_RDONLY|unix.O_DIRECTORY)},
		{HandleShm, p.open("/dev/shm", unix.O_RDONLY|unix.O_DIRECTORY)},
	}
	if pl.Workspace.Kind == "held" || pl.Workspace.Kind == "live" {
		hs = append(hs, handle{HandleWorkspace, p.open(pl.Workspace.Path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)})
	}
	return hs
}

// handOver sends the handles in one message (unix(7), SCM_RIGHTS), in the order of their bits.
func handOver(p *program, at *Attach, hs []handle) {
	if len(hs) == 0 {
		return
	}
	slices.SortFunc(hs, func(a, b handle) int { return cmp.Compare(a.bit, b.bit) })
	report, fds := inside.Report{Kind: inside.Handles}, make([]inside.Slot, len(hs))
	for i, h := range hs {
		report.Value |= h.bit
		fds[i] = h.fd
	}
	p.Step("hand descriptors to the supervisor")
	p.sendRights(at.Control, report, fds)
}

// sendRights sends a report with descriptors.
func (p *program) sendRights(control int, report inside.Report, fds []inside.Slot) {
	rights := make([]byte, unix.CmsgSpace(4*len(fds)))
	binary.NativeEndian.PutUint64(rights, uint64(unix.CmsgLen(4*len(fds))))
	binary.NativeEndian.PutUint32(rights[8:], unix.SOL_SOCKET)
	binary.NativeEndian.PutUint32(rights[12:], unix.SCM_RIGHTS)
	ancillary := p.Bytes(rights)
	for i, fd := range fds {
		p.Store(ancillary.Offset(uintptr(unix.CmsgLen(0)+4*i)), fd)
	}
	iov := p.Buffer(16)
	p.Pointer(iov, 0, bytesOf(p, report))
	p.PutWord(iov, 8, 12)
	msg := p.Buffer(56) // struct msghdr: name, its length, vectors, their number, control, its length, flags
	p.Pointer(msg, 16, iov)
	p.PutWord(msg, 24, 1)
	p.Pointer(msg, 32, ancillary)
	p.PutWord(msg, 40, uint64(len(rights)))
	p.Call(unix.SYS_SENDMSG, inside.Int(control), msg, zero)
}
