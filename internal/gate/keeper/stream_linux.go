package keeper

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stream is a connection of TCP. It does what a net.TCPConn does and is waited for in the same way (os.File's); but package net asks the kernel for both
// addresses of each socket and sets five options on it, eight calls, where the gate knows the one and its listener has the other already.
type stream struct {
	file    *os.File
	raw     syscall.RawConn
	network string
	remote  netip.AddrPort
	mine    bool // remote is this machine's
}

// newStream takes over a socket that does not block.
func newStream(fd int, remote netip.AddrPort) (*stream, error) {
	s := &stream{file: os.NewFile(uintptr(fd), "socket"), network: "tcp", remote: remote}
	var err error
	if s.raw, err = s.file.SyscallConn(); err != nil {
		s.file.Close()
		return nil, err
	}
	return s, nil
}

// received takes over a socket of the supervisor's, which is connected.
func received(fd int) (*stream, error) {
	if !isTCP(fd) {
		unix.Close(fd)
		return nil, errors.New("the socket is not of TCP")
	}
	to, err := syscall.Getpeername(fd)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	settle(fd)
	return newStream(fd, addrPort(to))
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.file.Read(p)
	return n, s.failure("read", err)
}

func (s *stream) Write(p []byte) (int, error) {
	n, err := s.file.Write(p)
	return n, s.failure("write", err)
}

// failure makes an error of files one of connections, which says whether it is the end of a wait (net.Error).
func (s *stream) failure(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if e := (*fs.PathError)(nil); errors.As(err, &e) {
		err = e.Err
	}
	if errors.Is(err, os.ErrClosed) {
		err = net.ErrClosed
	} else if number := syscall.Errno(0); errors.As(err, &number) {
		err = os.NewSyscallError(op, number)
	}
	return &net.OpError{Op: op, Net: s.network, Addr: s.RemoteAddr(), Err: err}
}

func (s *stream) Close() error                       { return s.file.Close() }
func (s *stream) SetDeadline(t time.Time) error      { return s.file.SetDeadline(t) }
func (s *stream) SetReadDeadline(t time.Time) error  { return s.file.SetReadDeadline(t) }
func (s *stream) SetWriteDeadline(t time.Time) error { return s.file.SetWriteDeadline(t) }

// CloseWrite says that nothing more is sent.
func (s *stream) CloseWrite() error {
	return s.control(func(fd int) error { return unix.Shutdown(fd, unix.SHUT_WR) })
}

func (s *stream) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(s.remote) }

func (s *stream) LocalAddr() net.Addr {
	var local netip.AddrPort
	_ = s.control(func(fd int) (err error) {
		local, err = arrivedAt(fd)
		return err
	})
	return net.TCPAddrFromAddrPort(local)
}

func (s *stream) control(do func(fd int) error) error {
	var err error
	if failed := s.raw.Control(func(fd uintptr) { err = do(int(fd)) }); failed != nil {
		return failed
	}
	return err
}

// reset ends a connection so that its other end knows at once that it was not in order.
func reset(s *stream) {
	_ = s.control(func(fd int) error {
		return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	})
	s.Close()
}
