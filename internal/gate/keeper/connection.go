package keeper

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"casemate.dev/internal/gate/address"
	"casemate.dev/internal/gate/broker"
	"casemate.dev/internal/gate/requests"
	"casemate.dev/internal/gate/rules"
	"casemate.dev/internal/gate/wire"
)

// connection is one attempt to reach something, and what came of it.
type connection struct {
	keeper  *Keeper
	client  *stream
	ctx     context.Context // of the attempt; owned by the goroutine that serves it
	cancel  context.CancelFunc
	record  wire.Record // what all records of it have in common
	sent    atomic.Int64
	got     atomic.Int64
	active  atomic.Int64 // when bytes moved last, as Unix nanoseconds
	started time.Time

	mu      sync.Mutex
	target  string            // the host as the rules know it; empty where no rule decides
	once    bool              // a person let this one pass: no rule allows it
	proxied bool              // the server's address is that of the host's proxy
	member  bool              // the server is another sandbox's, which no rule need allow
	server  *stream           // nil until connected
	whole   bool              // its bytes are passed through, because the rules allowed the host wholly
	session *requests.Session // nil where it is not opened
	ended   bool
	why     string
}

func newConnection(k *Keeper, client *stream) *connection {
	ctx, cancel := context.WithCancel(context.Background())
	c := &connection{keeper: k, client: client, ctx: ctx, cancel: cancel, started: time.Now(), record: wire.Record{ID: k.log.Next()}}
	c.active.Store(c.started.UnixNano())
	return c
}

// outward serves a connection that was made inside.
func (c *connection) outward() {
	var to netip.AddrPort
	err := c.client.control(func(fd int) (err error) {
		to, err = destination(fd, c.client.remote.Addr())
		return err
	})
	if err != nil {
		reset(c.client)
		return
	}
	host, synthetic := c.keeper.names.Name(to.Addr())
	c.record.Name, c.record.Port = host, int(to.Port())
	if host == "" {
		c.record.Name = to.Addr().String()
	}
	switch {
	case synthetic && host == "":
		c.deny(rules.Decision{Why: "no name was looked up that this address stands for"})
		return
	case to.Addr().IsLoopback():
		c.deny(rules.Decision{Why: "loopback inside is the sandbox's own, and the gate does not lead back to it"})
		return
	}
	member := len(c.keeper.internal) > 0 && wire.IsMember(host) && c.keeper.book.Set().Unspoken(host, time.Now())
	if member {
		c.toMember()
		return
	}
	answer := c.ask()
	c.about(c.record.Name, answer != nil && answer.Allowed)
	d := c.keeper.book.Decide(c.record.Name, c.record.Port)
	if _, denied := c.keeper.book.Set().Denied(c.record.Name); answer != nil && !d.Allowed && !denied {
		d = *answer
		if list := c.keeper.book.Set().SecretsAt(c.record.Name, c.record.Port); d.Allowed && len(list) > 0 { // passed through, it would be sent its placeholder
			d = rules.Decision{Why: fmt.Sprintf("the secret %q is for this host, and its requests can be read only where a rule allows it", list[0].Name)}
		}
	}
	if !d.Allowed {
		c.deny(d)
		return
	}
	c.record.Rule = d.Rule
	c.passThrough(!d.Requests)
	server, err := c.keeper.dial(c.ctx, c.record.Name, c.record.Port, d)
	if err != nil {
		c.fail(err)
		return
	}
	if !c.opened(server) {
		return
	}
	if d.Requests {
		c.told(c.serveRequests())
		return
	}
	c.relay(func() error { return c.greet(host != "") })
}

func (c *connection) passThrough(whole bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.whole = whole
}

// about says which host the rules must go on to allow.
func (c *connection) about(host string, once bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.target, c.once, c.proxied = host, once, c.keeper.upstream.forHost(host, c.record.Port) != nil
}

// deny turns the client away.
func (c *connection) deny(d rules.Decision) {
	reset(c.client)
	r := c.record
	r.Verdict, r.Rule, r.Why, r.Unasked = wire.Denied, d.Rule, d.Why, !public(r.Name)
	c.keeper.log.TellOnce(r)
}

// fail is for what a rule allows and could not be made, or leads to where the rule does not.
func (c *connection) fail(err error) {
	reset(c.client)
	r := c.record
	r.Verdict, r.Why = wire.Failed, err.Error()
	if errors.As(err, new(refusal)) {
		r.Verdict = wire.Denied
	}
	if why, ended := c.reason(); ended {
		r.Why = why
	}
	c.keeper.log.TellOnce(r)
}

// opened notes the server. It is false where the connection was ended in the meantime.
func (c *connection) opened(server *stream) bool {
	c.mu.Lock()
	ended := c.ended
	if !ended {
		c.server = server
	}
	c.mu.Unlock()
	if ended {
		reset(server)
	} else {
		c.reconsider() // the rules may have changed since the address was checked
		_, ended = c.reason()
	}
	if ended {
		c.fail(errors.New("it was ended"))
		return false
	}
	c.moved(nil, 0)
	c.record.Address = server.remote.String()
	r := c.record
	r.Verdict = wire.Opened
	c.keeper.log.Tell(r)
	return true
}

// disagreement is a client that names another host than it looked up.
type disagreement struct{ error }

// relay joins client and server, and tells what came of it.
func (c *connection) relay(greet func() error) { c.told(c.join(greet)) }

// told tells what came of a connection to a server.
func (c *connection) told(err error) {
	r := c.record
	r.Verdict = wire.Closed
	r.Why, _ = c.reason()
	var leak *broker.Leak
	if err == nil && c.session != nil {
		err = c.session.Failure()
	}
	switch {
	case errors.As(err, &leak):
		r.Verdict, r.Why, r.Secret, r.Unasked = wire.Denied, leak.Error(), leak.Name, true
	case errors.As(err, new(disagreement)):
		r.Verdict, r.Why = wire.Denied, err.Error()
	case r.Why == "" && (errors.As(err, new(*requests.Unopenable)) || err != nil && c.session != nil):
		r.Verdict, r.Why = wire.Failed, err.Error()
	}
	if c.session != nil {
		r.Allowed = c.session.Allowed()
	}
	r.Sent, r.Got, r.Elapsed = c.sent.Load(), c.got.Load(), time.Since(c.started)
	c.keeper.log.Tell(r)
}

// join copies both ways until both have ended, or one has failed. What the client says first goes through greet. Of two ends the second is told by closing.
func (c *connection) join(greet func() error) error {
	var ends atomic.Int32
	move := func(to, from *stream, count *atomic.Int64) error {
		err := c.keeper.pipes.move(to, from, func(n int) { c.moved(count, n) })
		if err == nil && ends.Add(1) == 1 {
			err = to.CloseWrite()
		}
		if err != nil {
			c.end("")
		}
		return err
	}
	back := make(chan struct{})
	c.keeper.workers.do(func() {
		defer close(back)
		_ = move(c.client, c.server, &c.got) // which ends the other direction too
	})
	err := greet()
	if err == nil {
		err = move(c.server, c.client, &c.sent)
	} else {
		c.end("")
	}
	<-back
	c.client.Close()
	c.server.Close()
	return err
}

// trust lets the first bytes pass unread.
func trust() error { return nil }

func (c *connection) moved(count *atomic.Int64, n int) {
	if count != nil {
		count.Add(int64(n))
	}
	c.active.Store(time.Now().UnixNano())
}

func (c *connection) lastActive() time.Time { return time.Unix(0, c.active.Load()) }

// end resets both sides. The first reason counts.
func (c *connection) end(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended, c.why = true, why
	c.cancel()
	reset(c.client)
	if c.server != nil {
		reset(c.server)
	}
}

func (c *connection) reason() (why string, ended bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.why, c.ended
}

// reconsider asks the rules again, which may have changed since.
func (c *connection) reconsider() {
	c.mu.Lock()
	target, server, whole, once, member, session := c.target, c.server, c.whole, c.once, c.member, c.session
	c.mu.Unlock()
	if target == "" {
		return
	}
	if member {
		if no, denied := c.keeper.book.Set().Denied(target); denied {
			c.end("its rule holds no more: " + no.Why)
		}
		return
	}
	d := c.keeper.book.Decide(target, c.record.Port)
	if once && !d.Allowed {
		if d, denied := c.keeper.book.Set().Denied(target); denied {
			c.end(d.Why)
			return
		}
	} else if !d.Allowed {
		c.end("its rule holds no more: " + d.Why)
		return
	}
	if whole && d.Requests {
		c.end("its rule holds no more: only some requests are allowed now")
		return
	}
	if server == nil {
		return
	}
	if err := c.astray(d); err != nil {
		c.end(fmt.Sprintf("its rule holds no more: %v", err))
		return
	}
	if session != nil {
		session.Reconsider()
	}
}

// astray says why the server's address is not one that a decision opens. Through a proxy it is the proxy's.
func (c *connection) astray(d rules.Decision) error {
	c.mu.Lock()
	server, proxied := c.server, c.proxied
	c.mu.Unlock()
	if proxied {
		return nil
	}
	remote := server.remote.Addr()
	if err := address.Check(remote, d.Networks); err != nil {
		return err
	}
	if no, denied := c.keeper.book.Set().Denied(remote.Unmap().String()); denied {
		return errors.New(no.Why)
	}
	return nil
}
