package relay

import "golang.org/x/sys/unix"

// A detour is for the few descriptors that block, cannot be opened again so that they do not, and offer no call that does
// not: devices, and a terminal that belongs to somebody else and is not ours at all. Poll(2) does not help with them: a
// terminal is writable while a single byte fits. So a goroutine does the blocking, behind a pipe that behaves like any.
type detour struct {
	w      int        // the pipe's end to write to; closing it ends the detour once all has been written
	done   int        // readable then
	result chan error // holds what went wrong then
}

func newDetour(to int) (*detour, error) {
	var p, done [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	if err := unix.Pipe2(done[:], unix.O_CLOEXEC); err != nil {
		unix.Close(p[0])
		unix.Close(p[1])
		return nil, err
	}
	nonblocking(p[1])
	d := &detour{w: p[1], done: done[0], result: make(chan error, 1)}
	go func() {
		d.result <- copyBlocking(to, p[0])
		unix.Close(p[0])
		unix.Close(done[1])
	}()
	return d, nil
}

func copyBlocking(to, from int) error {
	buf := make([]byte, fullPipe)
	for {
		n, err := unix.Read(from, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return err
		}
		for rest := buf[:n]; len(rest) > 0; {
			n, err := unix.Write(to, rest)
			if err != nil && err != unix.EINTR && err != unix.EAGAIN {
				return err
			}
			if err == unix.EAGAIN { // somebody has made it non-blocking
				unix.Poll([]unix.PollFd{{Fd: int32(to), Events: unix.POLLOUT}}, -1)
			}
			rest = rest[max(n, 0):]
		}
	}
}
