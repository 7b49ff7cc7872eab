package keeper

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"casemate.dev/internal/gate/address"
	"golang.org/x/sys/unix"
)

const stagger = 250 * time.Millisecond // between the attempts at addresses (RFC 8305, 5)

// way is how a host's addresses are dialled.
type way struct {
	port     int
	late     time.Time      // for the last attempt to end
	check    bool           // addresses of this machine are dialled only if networks name them
	networks []netip.Prefix // of the rule
}

// attempt is what became of dialling one address.
type attempt struct {
	conn *stream
	err  error
}

// race dials the addresses one after the other, without waiting long for any, and returns the first connection. Where there is one to wait for, or the host
// is so near that there is nothing to wait for, no other goroutine has to wake.
func (w way) race(ctx context.Context, addrs []netip.Addr) (*stream, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan attempt, len(addrs))
	running := 0
	var failed error
	for {
		if err := w.over(ctx); err != nil && len(addrs) > 0 {
			addrs, failed = nil, worse(failed, err)
		}
		if len(addrs) == 0 && running == 0 {
			return nil, failed
		}
		var next <-chan time.Time
		if len(addrs) > 0 {
			c, waits, err := w.begin(addrs[0])
			addrs = addrs[1:]
			if err != nil {
				failed = worse(failed, err)
				continue
			}
			if waits && running == 0 && len(addrs) == 0 {
				if err = c.connected(ctx, w.late); err != nil {
					return nil, worse(failed, err)
				}
				return c, nil
			}
			if !waits {
				go discard(results, running)
				return c, nil
			}
			running++
			go func() { results <- attempt{c, c.connected(ctx, w.late)} }()
			if len(addrs) > 0 {
				next = time.After(stagger)
			}
		}
		select {
		case <-next:
		case r := <-results:
			running--
			if r.err == nil {
				go discard(results, running)
				return r.conn, nil
			}
			failed = worse(failed, r.err)
		}
	}
}

func (w way) over(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if time.Now().After(w.late) {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// worse is the error to tell of two: the first, but that a host cannot be reached rather than that one of its addresses is not opened.
func worse(one, other error) error {
	if one == nil || errors.As(one, new(refusal)) && !errors.As(other, new(refusal)) {
		return other
	}
	return one
}

// discard closes the connections that came too late.
func discard(results <-chan attempt, running int) {
	for range running {
		if r := <-results; r.err == nil {
			r.conn.Close()
		}
	}
}

// begin starts to connect. waits is false where that is done already.
func (w way) begin(a netip.Addr) (_ *stream, waits bool, err error) {
	to := netip.AddrPortFrom(a, uint16(w.port))
	mine, err := own(a)
	if err != nil {
		return nil, false, dialling(to, err)
	}
	if mine && w.check {
		if err := address.CheckOwn(a, w.networks); err != nil {
			return nil, false, refusal{err}
		}
	}
	family, _ := sockaddr(to)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return nil, false, dialling(to, os.NewSyscallError("socket", err))
	}
	return begin(fd, to, mine)
}

// begin takes over a socket that does not block. The kernel has connected it to whatever is near when the first call returns, which does not say so yet.
func begin(fd int, to netip.AddrPort, mine bool) (_ *stream, waits bool, err error) {
	_, at := sockaddr(to)
	if err = unix.Connect(fd, at); err == unix.EINPROGRESS {
		err = unix.Connect(fd, at)
	}
	if waits = under(err); err != nil && !waits {
		unix.Close(fd)
		return nil, false, dialling(to, os.NewSyscallError("connect", err))
	}
	s, err := newStream(fd, to)
	if err != nil {
		return nil, false, dialling(to, err)
	}
	s.mine = mine
	if !waits {
		err = s.settled()
	}
	return s, waits, err
}

// under is a connection on its way.
func under(err error) bool {
	return err == unix.EINPROGRESS || err == unix.EALREADY || err == unix.EINTR
}

// connected waits until a stream that was begun is connected, and closes it where that fails.
func (s *stream) connected(ctx context.Context, late time.Time) error {
	err := s.SetWriteDeadline(late)
	if err == nil {
		stop := context.AfterFunc(ctx, func() { s.SetWriteDeadline(time.Unix(1, 0)) })
		_, to := sockaddr(s.remote)
		waited := s.raw.Write(func(fd uintptr) bool {
			err = unix.Connect(int(fd), to)
			return !under(err)
		})
		switch {
		case !stop():
			err = context.Cause(ctx)
		case waited != nil:
			err = waited
		case err == unix.EISCONN:
			err = nil
		}
	}
	if err == nil {
		err = s.SetWriteDeadline(time.Time{})
	}
	if number := unix.Errno(0); errors.As(err, &number) {
		err = os.NewSyscallError("connect", number)
	}
	if err != nil {
		s.Close()
		return dialling(s.remote, err)
	}
	return s.settled()
}

// settled sets the options. A socket that the kernel has connected to itself, because nobody listens on a port that it gives out by itself, is none (connect
// of package net sees to that too).
func (s *stream) settled() error {
	var local netip.AddrPort
	err := s.control(func(fd int) (err error) {
		settle(fd)
		if s.mine {
			local, err = arrivedAt(fd)
		}
		return err
	})
	if err == nil && local == s.remote {
		err = os.NewSyscallError("connect", unix.ECONNREFUSED)
	}
	if err != nil {
		s.Close()
		return dialling(s.remote, err)
	}
	return nil
}

func dialling(to netip.AddrPort, err error) error {
	return &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: err}
}
