package requests

import (
	"io"
	"net"
	"sync"
)

// listener gives net/http its one connection.
type listener struct {
	given  chan net.Conn
	closed chan struct{}
	ended  chan struct{} // closed when the connection is
	once   sync.Once
	at     net.Addr
}

func newListener(c net.Conn) *listener {
	l := &listener{given: make(chan net.Conn, 1), closed: make(chan struct{}), ended: make(chan struct{}), at: c.LocalAddr()}
	l.given <- &told{Conn: c, listener: l}
	return l
}

// Accept waits after the first connection, until that is closed.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.given:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-l.ended:
		return nil, io.EOF
	}
}

// abandon closes the connection if nobody has taken it.
func (l *listener) abandon() {
	select {
	case c := <-l.given:
		c.Close()
	default:
	}
}

// Close has Accept return.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr is the connection's own end.
func (l *listener) Addr() net.Addr { return l.at }

// told tells its listener of its end.
type told struct {
	net.Conn
	listener *listener
	once     sync.Once
}

func (c *told) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { close(c.listener.ended) })
	return err
}

func (c *told) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
