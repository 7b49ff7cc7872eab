package session

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// maxRights is SCM_MAX_FD of unix(7).
const maxRights = 253

// hear reads one message of a process that may have ended by now. Where it left something of ours unread, the kernel tells that before what it said last,
// once (unix_release_sock and sock_error).
func hear(fd int, buf []byte, flags int) (int, error) {
	for {
		n, _, err := unix.Recvfrom(fd, buf, flags)
		if err != unix.EINTR && err != unix.ECONNRESET {
			return n, err
		}
	}
}

// receive reads one message of pid 1 with the descriptors that come with it. The caller owns them.
func receive(fd int, buf []byte) (int, []int, error) {
	oob := make([]byte, unix.CmsgSpace(4*maxRights))
	for {
		n, oobn, flags, _, err := unix.Recvmsg(fd, buf, oob, unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
		if err == unix.EINTR || err == unix.ECONNRESET { // see hear
			continue
		}
		if err != nil {
			return 0, nil, err
		}
		messages, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil || flags&unix.MSG_CTRUNC != 0 {
			return 0, nil, fmt.Errorf("bug: control message of pid 1: %v", err)
		}
		var fds []int
		for _, m := range messages {
			rights, err := unix.ParseUnixRights(&m)
			if err != nil {
				return 0, nil, fmt.Errorf("bug: descriptors of pid 1: %v", err)
			}
			fds = append(fds, rights...)
		}
		return n, fds, nil
	}
}
