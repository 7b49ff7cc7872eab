package relay

import (
	"golang.org/x/sys/unix"
)

const (
	turnBytes = 1 << 20   // a pump that always has more lets the others run after this much
	pipeBytes = 256 << 10 // what a busy pipe of ours grows to: the sum over a user is limited (pipe(7), pipe-user-pages-soft)
	fullPipe  = 64 << 10  // what a pipe holds from the start
	copyBytes = 128 << 10 // buffer of a pump that cannot splice
)

// pump moves what the command writes into a pipe of ours to one of the host's descriptors. Its memory is bounded by the
// pipe and one buffer; a reader that stalls stops the command, as it would without us.
type pump struct {
	loop     *Loop
	src, dst int
	own      bool // dst was opened by us
	detour   *detour
	in       *Watch
	out      *Watch // nil when the destination is never full: a file
	how      way
	full     bool // waiting for dst, not for src
	bursts   int  // how often a whole pipe was moved at once
	buf      []byte
	rest     []byte // read and not yet written, part of buf
	carried  int64  // bytes so far
	over     bool
	finished bool
	err      error          // why writing to the host failed
	ended    func(eof bool) // called once: at the end of the command's output, or with false when the host takes no more
}

// way is how bytes reach the destination without ever blocking the loop. The flags of the host's description are never touched.
type way uint8

const (
	splicing way = iota // splice(2) without copying: pipes and files
	writing             // write(2): files opened for appending, and descriptions of our own that do not block
	sending             // send(2) with MSG_DONTWAIT, because splice to a socket blocks whatever its flags say
)

// start begins pumping from src, a pipe end of ours, to the host's dst.
func (p *pump) start(l *Loop, src, dst int, to kind) {
	p.loop, p.src, p.dst = l, src, dst
	switch to {
	case socket:
		p.how = sending
	case terminal:
		if own, err := openTerminal(dst, unix.O_WRONLY|unix.O_NONBLOCK); err == nil {
			p.dst, p.own, p.how = own, true, writing
			break
		}
		fallthrough
	case other:
		if d, err := newDetour(dst); err != nil {
			p.err = err
		} else {
			p.dst, p.own, p.detour = d.w, true, d
		}
	}
	p.in = l.Watch(src, unix.POLLIN, func(int16) { p.turn(false) })
	if to != regular {
		p.out = l.Watch(p.dst, 0, p.destination)
	}
	if p.err != nil {
		p.end(false)
	}
}

// destination hears that there is room, or that nobody will read any more. The latter is passed on at once, so that the
// command's next write fails as it would without us.
func (p *pump) destination(revents int16) {
	if revents&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0 {
		p.end(false)
		return
	}
	p.turn(true)
}

// turn moves what can be moved. A splice that moves nothing does not say which side was at fault, so wait for the source,
// unless it was the source that had just been reported ready.
func (p *pump) turn(roomReported bool) {
	moved := 0
	for (moved < turnBytes || len(p.rest) > 0) && !p.over {
		n, more := p.step()
		moved += n
		p.carried += int64(n)
		if !more {
			break
		}
	}
	if p.over || moved >= turnBytes && len(p.rest) == 0 {
		return
	}
	p.waitFor(len(p.rest) > 0 || p.how == splicing && moved == 0 && !roomReported)
}

func (p *pump) waitFor(dst bool) {
	if p.out == nil || dst == p.full {
		return
	}
	p.full = dst
	if dst {
		p.in.Mute() // its hang-up would wake us while we can do nothing about it
		p.out.Want(unix.POLLOUT)
	} else {
		p.in.Want(unix.POLLIN)
		p.out.Want(0)
	}
}

// step moves some bytes and says whether it is worth trying again at once.
func (p *pump) step() (moved int, more bool) {
	if p.how != splicing {
		return p.copy()
	}
	n, err := unix.Splice(p.src, nil, p.dst, nil, pipeBytes, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
	switch {
	case err == unix.EINTR:
		return 0, true
	case err == unix.EAGAIN:
		return 0, false
	case err == unix.EINVAL && p.out == nil: // a file opened for appending, or on a file system that cannot
		p.how = writing
		return 0, true
	case err != nil:
		p.fail(err)
		return 0, false
	case n == 0:
		p.end(true)
		return 0, false
	}
	p.grow(int(n))
	return int(n), int(n) >= fullPipe
}

// grow makes the pipe larger once it has been found full twice, so that runs with little output pay nothing for it. The
// kernel refuses where the user has too many large pipes already; then it stays as it is.
func (p *pump) grow(n int) {
	if n < fullPipe || p.bursts >= 2 {
		return
	}
	if p.bursts++; p.bursts == 2 {
		unix.FcntlInt(uintptr(p.src), unix.F_SETPIPE_SZ, pipeBytes)
	}
}

// copy is step for destinations that cannot be spliced to.
func (p *pump) copy() (moved int, more bool) {
	if len(p.rest) == 0 && !p.fill() {
		return 0, false
	}
	n, err := p.write()
	switch {
	case err == unix.EINTR:
		return 0, true
	case err == unix.EAGAIN:
		return 0, false
	case err != nil:
		p.fail(err)
		return 0, false
	}
	p.rest = p.rest[n:]
	return n, true
}

func (p *pump) write() (int, error) {
	if p.how == sending {
		return unix.SendmsgN(p.dst, p.rest, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	}
	return unix.Write(p.dst, p.rest)
}

// fill reads from the command's pipe. That must not block even after poll(2): a command can open its own output for
// reading through /proc and take the bytes away before us.
func (p *pump) fill() bool {
	if p.buf == nil {
		p.buf = make([]byte, copyBytes)
		nonblocking(p.src)
	}
	n, err := unix.Read(p.src, p.buf)
	for err == unix.EINTR {
		n, err = unix.Read(p.src, p.buf)
	}
	if err == unix.EAGAIN {
		return false
	}
	if err != nil || n == 0 {
		p.end(true)
		return false
	}
	p.rest = p.buf[:n]
	return true
}

// fail keeps the reason, except that a reader which went away is nobody's fault.
func (p *pump) fail(err error) {
	if err != nil && err != unix.EPIPE && err != unix.ECONNRESET {
		p.err = err
	}
	p.end(false)
}

func (p *pump) end(eof bool) {
	if p.over {
		return
	}
	p.over = true
	p.in.Close()
	p.out.Close()
	unix.Close(p.src) // without a reader the command gets SIGPIPE
	if p.own {
		unix.Close(p.dst)
	}
	p.buf, p.rest = nil, nil
	if p.detour == nil {
		p.finish(eof)
		return
	}
	var done *Watch
	done = p.loop.Watch(p.detour.done, 0, func(int16) {
		done.Close()
		unix.Close(p.detour.done)
		p.fail(<-p.detour.result)
		p.finish(eof)
	})
}

func (p *pump) finish(eof bool) {
	p.finished = true
	p.ended(eof)
}
