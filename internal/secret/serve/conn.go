package serve

import (
	"fmt"
	"sync"

	"casemate.dev/internal/secret/ask"
	"golang.org/x/sys/unix"
)

// conn is one end of a SOCK_SEQPACKET pair.
type conn struct {
	fd int
	mu sync.Mutex // of sending
}

// receive waits for a packet; nil: the other end is gone. Descriptors that come with one are closed by the kernel, because there is no room for them.
func (c *conn) receive() ([]byte, error) {
	buf := make([]byte, ask.MaxMessage)
	for {
		n, _, flags, _, err := unix.Recvmsg(c.fd, buf, nil, unix.MSG_CMSG_CLOEXEC)
		switch {
		case err == unix.EINTR:
		case err == unix.ECONNRESET:
			return nil, nil
		case err != nil:
			return nil, fmt.Errorf("receive from the gate: %w", err)
		case flags&unix.MSG_TRUNC != 0:
			return nil, fmt.Errorf("a message is longer than %d bytes", ask.MaxMessage)
		case n == 0:
			return nil, nil
		default:
			return buf[:n], nil
		}
	}
}

func (c *conn) send(packet []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		err := unix.Sendto(c.fd, packet, unix.MSG_NOSIGNAL, nil)
		if err != unix.EINTR {
			return err
		}
	}
}

// end lets every send and receive return, at both ends.
func (c *conn) end() { unix.Shutdown(c.fd, unix.SHUT_RDWR) }
