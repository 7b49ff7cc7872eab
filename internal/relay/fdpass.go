package relay

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// RecvFD receives one descriptor and up to len(message) bytes from a unix socket, close-on-exec. Anything but exactly one
// descriptor is refused, and whatever came is closed.
func RecvFD(socket int, message []byte) (fd, n int, err error) {
	oob := make([]byte, unix.CmsgSpace(4*8)) // room for more than one, to refuse them by name
	n, oobn, flags, _, err := unix.Recvmsg(socket, message, oob, unix.MSG_CMSG_CLOEXEC)
	for err == unix.EINTR {
		n, oobn, flags, _, err = unix.Recvmsg(socket, message, oob, unix.MSG_CMSG_CLOEXEC)
	}
	if err != nil {
		return -1, 0, fmt.Errorf("receive a descriptor: %w", err)
	}
	fds := received(oob[:oobn])
	if len(fds) == 1 && flags&unix.MSG_CTRUNC == 0 {
		return fds[0], n, nil
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
	if n == 0 && len(fds) == 0 {
		return -1, 0, errors.New("receive a descriptor: the sender closed the socket")
	}
	return -1, 0, fmt.Errorf("receive a descriptor: %d came, want 1", len(fds))
}

func received(oob []byte) (fds []int) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range messages {
		if got, err := unix.ParseUnixRights(&messages[i]); err == nil {
			fds = append(fds, got...)
		}
	}
	return fds
}

// SendFD sends one descriptor with a message, which must not be empty.
func SendFD(socket, fd int, message []byte) error {
	if err := unix.Sendmsg(socket, message, unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("send a descriptor: %w", err)
	}
	return nil
}
