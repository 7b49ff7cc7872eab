package keeper

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"casemate.dev/internal/gate/claim"
)

const (
	page = 4 << 10

	// pieces bounds how often the first bytes are looked at: each look begins at the first one. The largest hello comes in some 50 segments.
	pieces = 512
)

// greet reads what the client says first, until it is clear which host it means, and passes it on if that is the one it looked up. What the server says
// meanwhile, in protocols where it speaks first, is on its way already; a server that does is neither of TLS nor of HTTP, so its client may say what it
// likes. byName is false for an address that a rule names: there whatever is behind it was
// opened, except for names that a rule denies.
func (c *connection) greet(byName bool) error {
	buf := make([]byte, 0, page)
	ended, hurried := false, false
	for range pieces {
		said, need, err := claim.Read(buf, ended)
		if err != nil {
			return disagreement{err}
		}
		if need == 0 || len(buf) == 0 && ended {
			if err := c.agree(said, byName); err != nil {
				return disagreement{err}
			}
			if err := c.leak(buf); err != nil {
				return err
			}
			return c.pass(buf, hurried)
		}
		if need > cap(buf) {
			bigger, done, err := c.long(buf)
			if err != nil {
				return err
			}
			defer done()
			buf = bigger
		}
		if len(buf) > 0 && !hurried { // it has begun, and most that do have said it all by then
			hurried = true
			if err := c.client.SetReadDeadline(time.Now().Add(c.keeper.limits.Hello)); err != nil {
				return err
			}
		}
		n, err := c.client.Read(buf[len(buf):cap(buf)])
		if n > 0 && len(buf) == 0 && c.got.Load() > 0 {
			return c.pass(buf[:n], hurried)
		}
		buf = buf[:len(buf)+n]
		switch {
		case errors.Is(err, io.EOF):
			ended = true
		case isTimeout(err):
			return disagreement{errors.New("the client began to say something that may name another host, and did not go on")}
		case err != nil:
			return err
		}
	}
	return disagreement{errors.New("the client names its host in too many small pieces")}
}

// long waits for one of the few large buffers.
func (c *connection) long(buf []byte) (bigger []byte, done func(), err error) {
	late := time.NewTimer(c.keeper.limits.Hello)
	defer late.Stop()
	select {
	case c.keeper.long <- struct{}{}:
		return append(make([]byte, 0, maxFirst), buf...), func() { <-c.keeper.long }, nil
	case <-late.C:
		return nil, nil, disagreement{errors.New("too many clients at once need long to name their host")}
	case <-c.ctx.Done():
		return nil, nil, c.ctx.Err()
	}
}

func (c *connection) agree(said claim.Claim, byName bool) error {
	if byName {
		return said.Agree(c.record.Name, c.record.Port)
	}
	for _, h := range said.Hosts {
		if d, denied := c.keeper.book.Set().Denied(h.Name); denied {
			return errors.New(d.Why)
		}
		if list := c.keeper.book.Set().SecretsAt(h.Name, c.record.Port); len(list) > 0 {
			return fmt.Errorf("the secret %q is for %s, which is reached by its name", list[0].Name, h.Name)
		}
	}
	return nil
}

// leak looks through the first bytes of a connection that is passed through; nobody sees the others.
func (c *connection) leak(first []byte) error {
	if !c.keeper.broker.Active() {
		return nil
	}
	if l := c.keeper.broker.In(string(first), "the first bytes of a connection that is passed through"); l != nil {
		return l
	}
	return nil
}

// pass sends the first bytes on. From here the connection is not looked at.
func (c *connection) pass(first []byte, hurried bool) error {
	if hurried {
		if err := c.client.SetReadDeadline(time.Time{}); err != nil {
			return err
		}
	}
	n, err := c.server.Write(first)
	c.moved(&c.sent, n)
	return err
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}
