package keeper

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"casemate.dev/internal/gate/address"
	"casemate.dev/internal/gate/claim"
	"casemate.dev/internal/gate/requests"
	"casemate.dev/internal/gate/rules"
	"casemate.dev/internal/gate/wire"
)

const (
	maxMethod = 32 // bytes of one in a record

	preface = "PRI * HTTP/2.0\r\n" // of HTTP/2 without TLS (RFC 9113, 3.4)

	lastBytes = 500 * time.Millisecond // for the client to take an answer and close
	lastRead  = 256 << 10              // bytes that are read meanwhile: what is not read would take the answer with it (RFC 9112, 9.6)
)

// serveRequests opens the connection: its requests are decided one by one.
func (c *connection) serveRequests() error {
	select {
	case c.keeper.opened <- struct{}{}:
		defer func() { <-c.keeper.opened }()
		defer c.keeper.processors.use()()
	default:
		c.end(fmt.Sprintf("the sandbox has %d connections open whose requests are decided, which is as many as it may", c.keeper.limits.Opened))
		return nil
	}
	defer c.client.Close()
	defer c.server.Close()
	speaks, first, err := c.hear()
	if err != nil {
		c.end("")
		return err
	}
	s := &requests.Session{
		Name: c.record.Name, Port: c.record.Port, Sandbox: c.keeper.sandbox, Idle: c.keeper.limits.Idle, Head: c.keeper.limits.Hello,
		Client: &counted{c.client, c, first}, Server: c.server, HTTP2: speaks == preferHTTP2,
		Decide: c.decider(), Denied: c.denied,
	}
	if c.keeper.broker.Active() {
		s.Broker = c.keeper.broker
	}
	if speaks == preferTLS {
		if err := c.secure(s); err != nil {
			c.end("")
			return err
		}
	}
	c.mu.Lock()
	c.session = s
	c.mu.Unlock()
	s.Serve(c.ctx)
	c.linger()
	return nil
}

// language is what a client begins with.
type language int

const (
	preferHTTP1 language = iota
	preferHTTP2
	preferTLS
)

// hear reads until it is clear what the client speaks. What the server says meanwhile waits: in no protocol that can be opened it speaks first.
func (c *connection) hear() (language, []byte, error) {
	if err := c.client.SetReadDeadline(time.Now().Add(c.keeper.limits.Hello)); err != nil {
		return 0, nil, err
	}
	defer c.client.SetReadDeadline(time.Time{})
	buf := make([]byte, 0, page)
	for range pieces {
		said, need, err := claim.Read(buf, false)
		switch {
		case said.Protocol == claim.HTTP: // whether it is in order is for whoever answers it
			return preferHTTP1, buf, nil
		case err != nil:
			return 0, nil, disagreement{err}
		case need == 0 && said.Protocol == claim.TLS:
			return preferTLS, buf, c.agreeTLS(said)
		case need == 0 && bytes.HasPrefix(buf, []byte(preface)):
			return preferHTTP2, buf, nil
		case need == 0:
			return 0, nil, disagreement{errors.New("this host's requests are decided one by one, and what the client says is neither TLS nor HTTP")}
		}
		if need > cap(buf) {
			bigger, done, err := c.long(buf)
			if err != nil {
				return 0, nil, err
			}
			defer done()
			buf = bigger
		}
		n, err := c.client.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case n > 0:
		case errors.Is(err, io.EOF) && len(buf) == 0:
			return 0, nil, io.EOF // it changed its mind
		case errors.Is(err, io.EOF), isTimeout(err):
			return 0, nil, disagreement{errors.New("this host's requests are decided one by one, and the client says none: in TLS or HTTP it would speak first")}
		default:
			return 0, nil, err
		}
	}
	return 0, nil, disagreement{errors.New("the client names its host in too many small pieces")}
}

// agreeTLS compares the name in the hello. A client of an address names none.
func (c *connection) agreeTLS(said claim.Claim) error {
	if len(said.Hosts) == 0 && isAddress(c.record.Name) {
		return nil
	}
	if err := said.Agree(c.record.Name, c.record.Port); err != nil {
		return disagreement{err}
	}
	return nil
}

// secure makes the TLS of both sides.
func (c *connection) secure(s *requests.Session) error {
	if c.keeper.authority == nil {
		return errors.New("bug: the gate was told of no host to open")
	}
	certificate, err := c.keeper.authority.Certificate(c.record.Name, time.Now())
	if err != nil {
		return &requests.Unopenable{Err: err}
	}
	return s.Secure(c.ctx, certificate, c.keeper.roots)
}

// decider asks the rules about requests to this server: a rule that would not lead to its address allows none.
func (c *connection) decider() func(rules.Request) rules.Decision {
	remote := c.server.remote.Addr()
	mine := !c.proxied && c.server.mine
	return func(r rules.Request) rules.Decision {
		d := c.keeper.book.DecideRequest(c.record.Name, c.record.Port, r)
		if !d.Allowed {
			return d
		}
		err := c.astray(d)
		if err == nil && mine {
			err = address.CheckOwn(remote, d.Networks)
		}
		if err != nil {
			return rules.Decision{Why: fmt.Sprintf("the rule for %v does not open the host's address: %v", r, err)}
		}
		return d
	}
}

// denied tells of a request that was turned away. Its connection goes on.
func (c *connection) denied(method, path string, d rules.Decision) {
	r := wire.Record{Verdict: wire.Denied, Unasked: true, Name: c.record.Name, Port: c.record.Port, Address: c.record.Address, Rule: d.Rule, Why: d.Why, Secret: d.Secret, Method: method[:min(len(method), maxMethod)], Path: path[:min(len(path), wire.MaxPath)]}
	c.keeper.log.TellOnce(r)
}

// linger lets the client take the last answer.
func (c *connection) linger() {
	if c.client.CloseWrite() != nil || c.client.SetReadDeadline(time.Now().Add(lastBytes)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, struct{ io.Reader }{c.client}, lastRead) // it ends when the client does, at the latest
}

// survive keeps a mistake from ending all other connections.
func (c *connection) survive() {
	bug := recover()
	if bug == nil {
		return
	}
	c.end("")
	r := c.record
	r.Verdict, r.Why = wire.Failed, fmt.Sprintf("bug: %v", bug)
	c.keeper.log.TellOnce(r)
}

// counted is the client as the session has it: its bytes count, what was read of it already is read again, and closing it leaves the last bytes their time.
type counted struct {
	*stream
	of    *connection
	first []byte
}

func (c *counted) Read(p []byte) (n int, err error) {
	if len(c.first) > 0 {
		n = copy(p, c.first)
		c.first = c.first[n:]
	} else {
		n, err = c.stream.Read(p)
	}
	c.of.moved(&c.of.sent, n)
	return n, err
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.stream.Write(p)
	c.of.moved(&c.of.got, n)
	return n, err
}

// Close is the session's. The connection is closed by whoever serves it.
func (c *counted) Close() error {
	return errors.Join(c.SetReadDeadline(time.Unix(1, 0)), c.CloseWrite())
}
