package keeper

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// door is a listener. What is accepted there needs no options of its own: it has those of the listener.
type door struct {
	file    *os.File
	raw     syscall.RawConn
	emptied int // how often nobody was left waiting, up to veterans
}

// veterans is how often a door has to be empty until all who come have its options: whoever was connected before it had them waits there, or is about to.
const veterans = 2

// newDoor listens where f does, which stays the caller's.
func newDoor(f *os.File) (*door, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	if failed := raw.Control(func(theirs uintptr) { fd, err = unix.FcntlInt(theirs, unix.F_DUPFD_CLOEXEC, 0) }); failed != nil {
		return nil, failed
	}
	if err != nil {
		return nil, err
	}
	if listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || listens == 0 || !isTCP(fd) {
		unix.Close(fd)
		return nil, errors.New("it is not of TCP, or does not listen")
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	settleClient(fd)
	d := &door{file: os.NewFile(uintptr(fd), "listener")}
	if d.raw, err = d.file.SyscallConn(); err != nil {
		d.file.Close()
		return nil, err
	}
	return d, nil
}

func isTCP(fd int) bool {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	return err == nil && kind == unix.IPPROTO_TCP
}

// accept waits for a client. os.ErrClosed is the end.
func (d *door) accept() (*stream, error) {
	var fd int
	var from syscall.Sockaddr
	var err error
	waited := d.raw.Read(func(listener uintptr) bool {
		for {
			fd, from, err = syscall.Accept4(int(listener), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			switch err {
			case unix.EINTR, unix.ECONNABORTED: // the latter was reset while it waited
			case unix.EAGAIN:
				d.emptied = min(d.emptied+1, veterans)
				return false
			default:
				return true
			}
		}
	})
	if err := firstOf(waited, err); err != nil {
		return nil, err
	}
	if d.emptied < veterans {
		settleClient(fd)
	}
	return newStream(fd, addrPort(from))
}

func (d *door) Close() error { return d.file.Close() }
