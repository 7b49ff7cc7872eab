package keeper

import (
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	atOnce = 64 << 10 // what a pipe holds
	little = 4 << 10
)

// pipes lend pipes to the connections that are moving bytes. A connection that waits for bytes holds none, which the standard library's splice would: a
// thousand idle ones would use up what all of the user's programs share (pipe-user-pages-soft, pipe(7)).
type pipes struct {
	max  int
	mu   sync.Mutex
	free []pipe
	out  int
}

type pipe struct{ r, w int }

// take returns a pipe; ok is false when all are in use by connections whose other side is slow.
func (p *pipes) take() (_ pipe, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		last := p.free[n-1]
		p.free = p.free[:n-1]
		p.out++
		return last, true
	}
	if p.out == p.max {
		return pipe{}, false
	}
	var fds [2]int
	if unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK) != nil {
		return pipe{}, false
	}
	p.out++
	return pipe{fds[0], fds[1]}, true
}

// give takes an empty pipe back, or one that still holds something, which is closed.
func (p *pipes) give(one pipe, empty bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out--
	if empty && len(p.free) < p.max/8 {
		p.free = append(p.free, one)
		return
	}
	unix.Close(one.r)
	unix.Close(one.w)
}

// move copies until src has no more. It counts what it has read before it passes it on, so that
// nobody answers to something that was not counted.
func (p *pipes) move(dst, src *stream, count func(int)) error {
	for {
		n, err := p.once(dst.raw, src.raw, count)
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
	}
}

// once moves what is there, and waits if nothing is; 0 is the end.
func (p *pipes) once(to, from syscall.RawConn, count func(int)) (int, error) {
	var one pipe
	var n int
	var err error
	full := false
	waited := from.Read(func(fd uintptr) bool {
		var ok bool
		if one, ok = p.take(); !ok {
			full = true
			return true
		}
		n, err = retry(func() (int, error) {
			n, err := unix.Splice(int(fd), nil, one.w, nil, atOnce, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
			return int(n), err
		})
		if err == unix.EAGAIN {
			p.give(one, true)
			return false
		}
		return true
	})
	switch {
	case waited != nil:
		return 0, waited
	case full:
		return small(to, from, count)
	case err != nil || n == 0:
		p.give(one, true)
		return 0, err
	}
	count(n)
	err = drain(to, n, func(fd, left int) (int, error) {
		n, err := unix.Splice(one.r, nil, fd, nil, left, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		return int(n), err
	})
	p.give(one, err == nil)
	return n, err
}

// small moves a little without a pipe.
func small(to, from syscall.RawConn, count func(int)) (n int, err error) {
	buf := make([]byte, little)
	waited := from.Read(func(fd uintptr) bool {
		n, err = retry(func() (int, error) { return unix.Read(int(fd), buf) })
		return err != unix.EAGAIN
	})
	if waited != nil || err != nil || n == 0 {
		return 0, firstOf(waited, err)
	}
	count(n)
	rest := buf[:n]
	return n, drain(to, n, func(fd, left int) (int, error) {
		m, err := unix.Write(fd, rest)
		if err == nil {
			rest = rest[m:]
		}
		return m, err
	})
}

// drain writes until nothing is left.
func drain(to syscall.RawConn, left int, write func(fd, left int) (int, error)) error {
	var failed error
	waited := to.Write(func(fd uintptr) bool {
		for left > 0 {
			m, err := retry(func() (int, error) { return write(int(fd), left) })
			if err == unix.EAGAIN {
				return false
			}
			if err != nil {
				failed = err
				return true
			}
			left -= m
		}
		return true
	})
	return firstOf(waited, failed)
}

func retry(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); err != unix.EINTR {
			return n, err
		}
	}
}

func firstOf(a, b error) error {
	if a != nil {
		return a
	}
	return b
}
