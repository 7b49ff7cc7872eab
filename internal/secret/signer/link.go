package signer

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"casemate.dev/internal/secret/ask"
	"golang.org/x/sys/unix"
)

// link is the way to the supervisor, who writes down what is signed, and connects to the person's agent: nothing here can connect to anything.
type link struct {
	fd      int
	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan permit
	gone    bool
}

type permit struct {
	refused string
	agent   net.Conn // may be nil
}

var errGone = errors.New("the sandbox has ended")

func (l *link) send(packet []byte, err error) error {
	for err == nil {
		if err = unix.Sendto(l.fd, packet, unix.MSG_NOSIGNAL, nil); err != unix.EINTR {
			return err
		}
		err = nil
	}
	return err
}

// receive waits for one packet, with the descriptor that comes with it; -1: none. No packet: the supervisor has gone.
func (l *link) receive() ([]byte, int, error) {
	buf, oob := make([]byte, ask.MaxMessage), make([]byte, unix.CmsgSpace(4))
	for {
		n, oobn, flags, _, err := unix.Recvmsg(l.fd, buf, oob, unix.MSG_CMSG_CLOEXEC)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.ECONNRESET:
			return nil, -1, nil
		case err != nil:
			return nil, -1, err
		case flags&unix.MSG_TRUNC != 0:
			return nil, -1, fmt.Errorf("a message is longer than %d bytes", ask.MaxMessage)
		}
		fd := -1
		if list, err := unix.ParseSocketControlMessage(oob[:oobn]); err == nil && len(list) == 1 {
			if fds, err := unix.ParseUnixRights(&list[0]); err == nil && len(fds) == 1 {
				fd = fds[0]
			}
		}
		return buf[:n], fd, nil
	}
}

// listen hands on what the supervisor answers, until it is gone.
func (l *link) listen() error {
	defer l.end()
	for {
		packet, fd, err := l.receive()
		if err != nil || len(packet) == 0 {
			return err
		}
		var p permit
		if fd >= 0 {
			if p.agent, err = connOf(fd); err != nil {
				return err
			}
		}
		answer, err := ask.DecodePermit(packet)
		if err != nil {
			return err
		}
		p.refused = answer.Refused
		l.mu.Lock()
		c := l.waiting[answer.ID]
		delete(l.waiting, answer.ID)
		l.mu.Unlock()
		if c != nil {
			c <- p
		} else if p.agent != nil {
			p.agent.Close()
		}
	}
}

func connOf(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "agent")
	defer f.Close()
	return net.FileConn(f)
}

func (l *link) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone = true
	for id, c := range l.waiting {
		c <- permit{refused: errGone.Error()}
		delete(l.waiting, id)
	}
}

// ask has something written down, and returns what the supervisor says of it.
func (l *link) ask(s ask.Signing) (permit, error) {
	c := make(chan permit, 1)
	l.mu.Lock()
	if l.gone {
		l.mu.Unlock()
		return permit{}, errGone
	}
	l.last++
	s.ID = l.last
	l.waiting[s.ID] = c
	l.mu.Unlock()
	if err := l.send(ask.EncodeSigning(s)); err != nil {
		l.leave(s.ID, c)
		return permit{}, fmt.Errorf("it cannot be written down: %w", err)
	}
	select {
	case p := <-c:
		return p, nil
	case <-time.After(patience):
		l.leave(s.ID, c)
		return permit{}, errors.New("it was not written down in time")
	}
}

// leave is for who does not wait any more. An answer that is on its way may bring a connection, which nobody else would close.
func (l *link) leave(id uint64, c chan permit) {
	l.mu.Lock()
	_, waits := l.waiting[id]
	delete(l.waiting, id)
	l.mu.Unlock()
	if waits {
		return
	}
	if late := <-c; late.agent != nil {
		late.agent.Close()
	}
}
