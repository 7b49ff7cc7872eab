package relay

import (
	"golang.org/x/sys/unix"
)

// feed moves the host's standard input into the pipe that the command reads, and takes no more of it than the command
// read. Without us, what a command leaves is there for whoever comes next; `while read f; do casemate run -- check "$f";
// done <list` must not end after its first round because we read ahead.
//
//   - A pipe is copied with tee(2), which leaves the bytes where they are, into a pipe of one page: that one has room
//     exactly when the command has taken everything, and then as much is taken from the host's. A command that has read
//     exactBytes in this way is one that reads its input, and gets the rest at full speed.
//   - A file is read ahead, and its offset moved back at the end.
//   - Anything else (sockets, devices) is read ahead.
//
// Where two processes read one pipe at the same time, both may get the same bytes, where without us each gets some.
type feed struct {
	loop  *Loop
	src   int // the host's
	dst   int // the write end of our pipe; -1 once closed
	null  int // where taken bytes go; -1 until it is needed
	probe int // another read end of it, by which a file's unread bytes are counted after dst was closed; -1: none
	from  kind
	in    *Watch // nil for files, which are always ready
	out   *Watch
	exact bool // copying with tee
	shown int  // bytes the command was shown that are still in the host's pipe
	taken int  // bytes it has read while exact
	full  bool // waiting for dst, not for src
	buf   []byte
	rest  []byte
	err   error  // why the host's could not be read
	ended func() // called once, when the host's standard input is of no more use to the command
}

const (
	exactBytes = 64 << 10
	shownBytes = 4 << 10 // at most this much is shown at a time; no pipe is smaller
)

func (f *feed) start(l *Loop) {
	f.loop = l
	f.probe, f.null = -1, -1
	f.out = l.Watch(f.dst, 0, f.destination)
	if f.from == pipes {
		_, err := unix.FcntlInt(uintptr(f.dst), unix.F_SETPIPE_SZ, 1) // rounded up to a page
		f.exact = err == nil
	}
	if f.from == regular {
		f.out.Want(unix.POLLOUT)
		f.full = true
	} else {
		f.in = l.Watch(f.src, unix.POLLIN, func(int16) { f.turn(false) })
	}
	if flags, err := unix.FcntlInt(uintptr(f.src), unix.F_GETFL, 0); err == nil && flags&unix.O_ACCMODE == unix.O_WRONLY {
		f.fail(unix.EBADF) // as read(2) says; a pipe's end for writing would never become readable
	}
}

// fail keeps the reason, unless the command reads no more (EPIPE), there was nothing to read (nohup(1) gives what may only be written in place of a
// terminal: EBADF), or it is a terminal that others read (EIO).
func (f *feed) fail(err error) {
	_, noTerminal := unix.IoctlGetTermios(f.src, unix.TCGETS)
	if err != unix.EPIPE && err != unix.EBADF && (err != unix.EIO || noTerminal != nil) {
		f.err = err
	}
	f.end()
}

// destination hears that there is room, or that no process has the command's standard input open any more.
func (f *feed) destination(revents int16) {
	if revents&(unix.POLLERR|unix.POLLNVAL) != 0 {
		f.end()
		return
	}
	f.turn(true)
}

func (f *feed) turn(roomReported bool) {
	switch {
	case f.exact:
		f.show()
	case f.from == pipes:
		f.splice(roomReported)
	default:
		f.copy()
	}
}

// show lets the command see what lies in the host's pipe, once it has read what it was shown before.
func (f *feed) show() {
	if f.shown > 0 {
		if left := unread(f.dst); left > 0 {
			f.stopCounting() // it made its pipe larger: having room means nothing then
			return
		}
		f.take()
		if f.taken >= exactBytes {
			f.stopCounting()
			return
		}
	}
	n, err := unix.Tee(f.src, f.dst, shownBytes, unix.SPLICE_F_NONBLOCK)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		f.waitFor(false)
	case err != nil:
		f.fail(err)
	case n == 0:
		f.end()
	default:
		f.shown = int(n)
		f.waitFor(true)
	}
}

// take removes from the host's pipe what the command has read of what it was shown.
func (f *feed) take() {
	left := 0
	if f.dst >= 0 {
		left = min(unread(f.dst), f.shown)
	}
	f.discard(f.shown - left)
	f.taken += f.shown - left
	f.shown = 0
}

func (f *feed) discard(n int) {
	if n == 0 {
		return
	}
	if f.null < 0 {
		var err error
		if f.null, err = openNull(unix.O_WRONLY); err != nil {
			return
		}
	}
	for n > 0 {
		m, err := unix.Splice(f.src, nil, f.null, nil, n, unix.SPLICE_F_NONBLOCK)
		if err == unix.EINTR {
			continue
		}
		if err != nil || m <= 0 {
			return // another reader was quicker
		}
		n -= int(m)
	}
}

// stopCounting goes over to full speed. What has been shown counts as read.
func (f *feed) stopCounting() {
	f.discard(f.shown)
	f.shown = 0
	f.exact = false
	unix.FcntlInt(uintptr(f.dst), unix.F_SETPIPE_SZ, pipeBytes)
	f.splice(false)
}

func (f *feed) splice(roomReported bool) {
	n, err := unix.Splice(f.src, nil, f.dst, nil, pipeBytes, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
	switch {
	case err == unix.EAGAIN:
		f.waitFor(!roomReported)
	case err == unix.EINTR:
	case err != nil:
		f.fail(err)
	case n == 0:
		f.end()
	default:
		f.waitFor(false)
	}
}

func (f *feed) copy() {
	for moved := 0; moved < turnBytes; {
		if len(f.rest) == 0 && !f.fill() {
			return
		}
		n, err := unix.Write(f.dst, f.rest)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			f.waitFor(true)
			return
		case err != nil:
			f.end()
			return
		}
		f.rest = f.rest[n:]
		moved += n
	}
}

// fill reads from the host. Only a socket can be told not to block; for a device poll(2) has said that there is something.
func (f *feed) fill() bool {
	if f.buf == nil {
		f.buf = make([]byte, copyBytes)
		nonblocking(f.dst)
	}
	n, err := f.read()
	for err == unix.EINTR {
		n, err = f.read()
	}
	switch {
	case err == unix.EAGAIN:
		f.waitFor(false)
		return false
	case err != nil:
		f.finishFile()
		f.fail(err)
		return false
	case n == 0:
		f.finishFile()
		f.end()
		return false
	}
	f.rest = f.buf[:n]
	return true
}

func (f *feed) read() (int, error) {
	if f.from == socket {
		n, _, err := unix.Recvfrom(f.src, f.buf, unix.MSG_DONTWAIT)
		return n, err
	}
	if f.from == other && !readable(f.src) {
		return 0, unix.EAGAIN
	}
	return unix.Read(f.src, f.buf)
}

func readable(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, _ := unix.Poll(p, 0)
	return n > 0
}

// finishFile keeps a way to count what of a file the command will have left, when it has all been written and dst is
// about to be closed so that the command sees the end.
func (f *feed) finishFile() {
	if f.from != regular {
		return
	}
	if fd, err := reopen(f.dst, unix.O_RDONLY|unix.O_NONBLOCK); err == nil {
		f.probe = fd
	}
}

func (f *feed) waitFor(dst bool) {
	if f.in == nil || dst == f.full {
		return
	}
	f.full = dst
	if dst {
		f.in.Mute()
		f.out.Want(unix.POLLOUT)
	} else {
		f.in.Want(unix.POLLIN)
		f.out.Want(0)
	}
}

// end closes the pipe, upon which the command sees the end of its input, and settles what it has not read.
func (f *feed) end() {
	if f.dst < 0 {
		return
	}
	f.in.Close()
	f.out.Close()
	if f.exact {
		f.take()
	}
	if f.probe < 0 {
		f.giveBack(f.dst)
	}
	if f.null >= 0 {
		unix.Close(f.null)
	}
	unix.Close(f.dst)
	f.dst = -1
	f.ended()
}

// giveBack moves a file's offset to behind the last byte that the command has read.
func (f *feed) giveBack(pipe int) {
	if f.from != regular {
		return
	}
	if n := unread(pipe) + len(f.rest); n > 0 {
		unix.Seek(f.src, -int64(n), unix.SEEK_CUR)
	}
	f.rest = nil
}

// finish is called when the command is gone.
func (f *feed) finish() {
	if f.probe >= 0 {
		f.giveBack(f.probe)
		unix.Close(f.probe)
		f.probe = -1
	}
	f.end()
}
