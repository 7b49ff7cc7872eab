// Package http1 lets only such requests of HTTP/1 reach a server's code that all servers read alike.
package http1

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"casemate.dev/internal/gate/claim"
)

const (
	// Max is how long a request's head may be.
	Max = 64 << 10

	maxTrailers = 8 << 10
	maxSize     = 256 // of the line before a chunk
	page        = 4 << 10
)

// RefusedMethod is that of the request that a Conn passes on in place of one that it refuses: so the answer comes in its turn, after those to the requests
// before. Nothing follows it.
const RefusedMethod = "REFUSED"

// Conn is a client's connection as a server reads it. It passes on one head when it is whole and in order, then exactly its body, and then the next head.
// Reads must not overlap; the other methods may be called at any time. Make one with New.
type Conn struct {
	net.Conn
	agree    func(claim.Claim) error
	patience time.Duration
	hold     bool
	refusal  atomic.Pointer[Refusal]
	raw      atomic.Bool
	inFlight atomic.Int32 // heads passed on whose answer is not complete

	// What follows is the reader's.
	next  func() error // looks at what comes next: sets ready or left, or next
	buf   []byte       // read, and not passed on
	seen  int          // bytes of buf in which the mark that is waited for does not begin
	ready int          // bytes of buf that may be passed on
	left  int64        // bytes of a body that may be passed on without a look
	ended error        // of the client

	mu     sync.Mutex
	wake   sync.Cond // when a deadline was set
	theirs time.Time // the reader's deadline, as the server set it
	ours   time.Time // for a head that has begun
}

// New wraps a client's connection. first is what was read of it already. agree is asked about the hosts that a head names. A client has patience to
// complete a head that it has begun. hold says that the client's end does not end what is under way: it may be half of a connection only.
func New(c net.Conn, first []byte, agree func(claim.Claim) error, patience time.Duration, hold bool) *Conn {
	h := &Conn{Conn: c, agree: agree, patience: patience, hold: hold, buf: first}
	h.next = h.head
	h.wake.L = &h.mu
	return h
}

// Refusal is why the connection's last request was refused, if it was.
func (c *Conn) Refusal() *Refusal { return c.refusal.Load() }

// Answered says that the answer to a request is complete.
func (c *Conn) Answered() { c.inFlight.Add(-1) }

// Raw has everything pass from here on: the connection goes on with another protocol.
func (c *Conn) Raw() { c.raw.Store(true) }

// Read is the server's. A mistake here must not end the process, and the server reads in goroutines that nobody guards.
func (c *Conn) Read(p []byte) (n int, err error) {
	defer func() {
		if bug := recover(); bug != nil {
			n, err = 0, fmt.Errorf("bug: %v", bug)
		}
	}()
	for len(p) > 0 {
		switch {
		case c.ready > 0:
			n = copy(p, c.buf[:c.ready])
			c.buf, c.ready = c.buf[n:], c.ready-n
			return n, nil
		case c.raw.Load() && len(c.buf) > 0:
			c.ready = len(c.buf)
		case c.raw.Load():
			return c.Conn.Read(p)
		case c.left > 0 && len(c.buf) > 0:
			c.ready = int(min(c.left, int64(len(c.buf))))
			c.left -= int64(c.ready)
		case c.left > 0:
			n, err = c.Conn.Read(p[:min(c.left, int64(len(p)))])
			c.left -= int64(n)
			if n > 0 {
				return n, nil // an error comes again
			}
			return 0, body(err)
		default:
			if err := c.next(); err != nil {
				return 0, err
			}
		}
	}
	return 0, nil
}

// head waits for a whole head.
func (c *Conn) head() error {
	if len(c.buf) == 0 && c.ended != nil {
		return c.end()
	}
	if c.seen == 0 {
		c.buf = bytes.TrimLeft(c.buf, "\r\n") // RFC 9112, 2.2
	}
	c.hurry(len(c.buf) > 0)
	end, err := c.until("\r\n\r\n", Max)
	switch {
	case errors.Is(err, errTooLong):
		return c.refuse(ambiguous("its head is longer than %d bytes", Max))
	case errors.Is(err, os.ErrDeadlineExceeded) && c.late():
		return c.refuse(&Refusal{http.StatusRequestTimeout, fmt.Errorf("the client began a request and did not complete its head within %v", c.patience)})
	case end == 0 || err != nil:
		return err
	}
	c.hurry(false)
	f, refused := readHead(c.buf[:end], c.agree)
	if refused != nil {
		return c.refuse(refused)
	}
	c.ready = end
	c.inFlight.Add(1)
	if c.left = f.length; f.chunked {
		c.next = c.chunk
	}
	return nil
}

// end is what a server hears when the client has said everything. While it answers, that may be half of a close; it hears of it when it is done.
func (c *Conn) end() error {
	if !c.hold || c.inFlight.Load() == 0 {
		return c.ended
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.theirs.IsZero() || time.Now().Before(c.theirs) {
		c.wake.Wait()
	}
	return os.ErrDeadlineExceeded
}

// refuse passes another request on in place of this one, and then no more.
func (c *Conn) refuse(why *Refusal) error {
	c.refusal.Store(why)
	c.buf = []byte(RefusedMethod + " / HTTP/1.1\r\nHost: refused\r\n\r\n")
	c.ready = len(c.buf)
	c.ended = io.EOF
	c.inFlight.Add(1)
	return nil
}

// chunk reads the line before a chunk.
func (c *Conn) chunk() error {
	end, err := c.until("\r\n", maxSize)
	if end == 0 || err != nil {
		return body(err)
	}
	n, err := chunkSize(c.buf[:end-2])
	if err != nil {
		return err
	}
	c.ready, c.left, c.next = end, n, c.afterChunk
	if n == 0 {
		c.next = c.trailers
	}
	return nil
}

func (c *Conn) afterChunk() error {
	end, err := c.until("\r\n", 2)
	if end == 0 || err != nil {
		return body(err)
	}
	if end != 2 {
		return errors.New("a chunk is longer than it says")
	}
	c.ready, c.next = 2, c.chunk
	return nil
}

func (c *Conn) trailers() error {
	end, err := c.until("\r\n", maxTrailers)
	if end == 0 || err != nil {
		return body(err)
	}
	if end > 2 {
		if end, err = c.until("\r\n\r\n", maxTrailers); end == 0 || err != nil {
			return body(err)
		}
		if err := checkTrailers(string(c.buf[:end-4])); err != nil {
			return err
		}
	}
	c.ready, c.next = end, c.head
	return nil
}

var errTooLong = errors.New("a part of the request is too long")

// body is what the end of the connection means within a body.
func body(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// until says where the first mark ends, once it is there; 0 without an error is to be asked again.
func (c *Conn) until(mark string, most int) (int, error) {
	if i := bytes.Index(c.buf[c.seen:], []byte(mark)); i >= 0 {
		end := c.seen + i + len(mark)
		if c.seen = 0; end > most {
			return 0, errTooLong
		}
		return end, nil
	}
	if len(c.buf) >= most {
		return 0, errTooLong
	}
	c.seen = max(0, len(c.buf)-len(mark)+1)
	return 0, c.more()
}

// more reads a little.
func (c *Conn) more() error {
	if c.ended != nil {
		return c.ended
	}
	// Twice as much each time, so that a head that comes byte by byte is not copied for each.
	if cap(c.buf)-len(c.buf) < page/2 {
		c.buf = append(make([]byte, 0, max(page, 2*len(c.buf))), c.buf...)
	}
	n, err := c.Conn.Read(c.buf[len(c.buf):cap(c.buf)])
	c.buf = c.buf[:len(c.buf)+n]
	if n > 0 {
		return nil // an error comes again
	}
	if errors.Is(err, io.EOF) {
		c.ended = io.EOF
		if len(c.buf) > 0 {
			c.ended = io.ErrUnexpectedEOF
		}
		return nil
	}
	return err
}

// hurry gives a head that has begun its time. The earlier one of the server's deadline and ours holds.
func (c *Conn) hurry(begun bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if begun != c.ours.IsZero() {
		return
	}
	if c.ours = (time.Time{}); begun {
		c.ours = time.Now().Add(c.patience)
	}
	_ = c.set() // fails where the connection is closed, which the next read says

}

// late says whether it was our deadline that passed, and not the server's.
func (c *Conn) late() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.ours.IsZero() && !time.Now().Before(c.ours) && (c.theirs.IsZero() || c.ours.Before(c.theirs))
}

func (c *Conn) set() error {
	d := c.theirs
	if !c.ours.IsZero() && (d.IsZero() || c.ours.Before(d)) {
		d = c.ours
	}
	return c.Conn.SetReadDeadline(d)
}

// SetReadDeadline is the server's.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.theirs = t
	c.wake.Broadcast()
	return c.set()
}

// SetDeadline is the server's.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// Close wakes a reader that waits.
func (c *Conn) Close() error {
	_ = c.SetReadDeadline(time.Unix(1, 0))
	return c.Conn.Close()
}

// CloseWrite ends what is said to the client.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
