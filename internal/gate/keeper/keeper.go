// Package keeper lets each connection out of the sandbox by the rules, or turns it away, and writes down which.
package keeper

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"casemate.dev/internal/gate/authority"
	"casemate.dev/internal/gate/broker"
	"casemate.dev/internal/gate/claim"
	"casemate.dev/internal/gate/dns"
	"casemate.dev/internal/gate/names"
	"casemate.dev/internal/gate/records"
	"casemate.dev/internal/gate/rules"
	"casemate.dev/internal/gate/wire"
)

// Limits bound what a hostile sandbox can make the gate hold.
type Limits struct {
	Connections int           // at once; more are reset
	Dials       int           // at once; more wait
	Long        int           // clients at once whose first bytes need more than a page; more wait
	Opened      int           // connections at once whose requests are decided; more are reset
	Pipes       int           // for connections that are moving bytes; more go through a small buffer
	Processors  int           // to run on while no requests are decided; 0: as the Go runtime has it
	Resolve     time.Duration // for a name to be looked up on the host
	Dial        time.Duration // for a connection to be made, all addresses together
	Hello       time.Duration // for a client that has begun, to say which host it means
	Idle        time.Duration // for a connection without bytes
	Answer      time.Duration // for a person to answer whether a connection may be made
	Drain       time.Duration // for what is under way when the sandbox has ended
}

// DefaultLimits are those of every sandbox.
func DefaultLimits() Limits {
	return Limits{
		Connections: 1024, Dials: 128, Long: 64, Opened: 256, Pipes: 256,
		Resolve: 10 * time.Second, Dial: 30 * time.Second, Hello: 10 * time.Second, Idle: time.Hour, Answer: wire.Waits, Drain: 200 * time.Millisecond,
	}
}

const lastWords = 500 * time.Millisecond // for the supervisor to take the last records

// Keeper is a gate at work.
type Keeper struct {
	limits     Limits
	supervisor *net.UnixConn
	sandbox    string // its name, for commands
	log        *records.Log
	book       rules.Book
	names      names.Table
	pipes      pipes
	processors *processors
	workers    workers
	sockets    sockets
	resolver   *net.Resolver
	upstream   upstream
	questions  questions
	slots      chan struct{} // one for each connection
	dials      chan struct{}
	long       chan struct{}
	opened     chan struct{}
	authority  *authority.Authority // nil where no host is opened
	roots      *x509.CertPool       // of the host
	listening  []io.Closer
	offered    map[int][]io.Closer // the listeners for each port inside that is offered while it is open
	only4      bool                // there is no listener for IPv6
	changed    chan struct{}       // gets a value when other rules are in force

	internal []string // private networks that the sandbox is on
	calls    calls    // for connections on them

	broker *broker.Broker

	mu     sync.Mutex
	open   map[*connection]struct{}
	closed chan struct{} // gets a value when a connection has ended, if somebody waits
}

// Run is the gate: it takes its listeners and rules from the supervisor at the other end of the descriptor, and ends when that has gone.
func Run(fd int, limits Limits) error {
	f := os.NewFile(uintptr(fd), "supervisor")
	if f == nil {
		return fmt.Errorf("descriptor %d is not open: the gate is started by casemate", fd)
	}
	c, err := net.FileConn(f)
	f.Close()
	if err != nil {
		return fmt.Errorf("descriptor %d is not the supervisor's socket: %w", fd, err)
	}
	supervisor, ok := c.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("descriptor %d is not the supervisor's socket", fd)
	}
	open, gone, err := greetSupervisor(supervisor)
	if gone || err != nil {
		return err
	}
	k := &Keeper{
		limits: limits, supervisor: supervisor, log: records.New(supervisor), pipes: pipes{max: limits.Pipes}, processors: newProcessors(limits.Processors), workers: newWorkers(), resolver: newResolver(),
		slots: make(chan struct{}, limits.Connections), dials: make(chan struct{}, limits.Dials), long: make(chan struct{}, limits.Long),
		opened: make(chan struct{}, limits.Opened), authority: open.authority, roots: open.roots,
		offered: map[int][]io.Closer{}, open: map[*connection]struct{}{}, closed: make(chan struct{}, 1), changed: make(chan struct{}, 1),
	}
	k.broker = broker.New(&k.book)
	defer k.broker.Store.Close()
	err = k.serve()
	k.close()
	return err
}

// serve takes messages until there are no more.
func (k *Keeper) serve() error {
	stop := make(chan struct{})
	defer close(stop)
	defer close(k.workers.over)
	go k.endIdle(stop)
	go k.endUnruled(stop)
	for begun := false; ; begun = true {
		switch err := k.receive(begun); {
		case errors.Is(err, errGone):
			return nil
		case err != nil:
			return err
		}
	}
}

// close ends everything. What the sandbox had sent when it ended has a moment to arrive.
func (k *Keeper) close() {
	for _, l := range k.listening {
		l.Close()
	}
	for port := range k.offered {
		k.withdraw(port)
	}
	k.empty(k.limits.Drain)
	for _, c := range k.connections() {
		c.end("the sandbox ended")
	}
	k.empty(k.limits.Drain)
	k.log.Close(lastWords)
}

// empty waits until no connection is left, but not for long.
func (k *Keeper) empty(within time.Duration) {
	late := time.After(within)
	for len(k.connections()) > 0 {
		select {
		case <-k.closed:
		case <-late:
			return
		}
	}
}

func (k *Keeper) connections() []*connection {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := make([]*connection, 0, len(k.open))
	for c := range k.open {
		list = append(list, c)
	}
	return list
}

// adopt starts to serve a listener.
func (k *Keeper) adopt(kind wire.Listener, f *os.File) error {
	if kind == wire.DNS {
		c, err := net.FilePacketConn(f)
		if err != nil {
			return fmt.Errorf("the socket %q: %w", kind, err)
		}
		udp, ok := c.(*net.UDPConn)
		if !ok {
			return fmt.Errorf("the socket %q is not of UDP", kind)
		}
		k.listening = append(k.listening, udp)
		go k.answering().Packets(udp)
		return nil
	}
	if kind == wire.StoreEnd {
		return k.connectStore(f)
	}
	if kind == wire.DNSOver {
		l, err := net.FileListener(f)
		if err != nil {
			return fmt.Errorf("the listener %q: %w", kind, err)
		}
		tcp, ok := l.(*net.TCPListener)
		if !ok {
			return fmt.Errorf("the listener %q is not of TCP", kind)
		}
		k.listening = append(k.listening, tcp)
		go k.answering().Streams(tcp)
		return nil
	}
	d, err := newDoor(f)
	if err != nil {
		return fmt.Errorf("the listener %q: %w", kind, err)
	}
	k.listening = append(k.listening, d)
	switch {
	case kind == wire.TCP4 || kind == wire.TCP6:
		go k.accept(d, (*connection).outward)
	case kind.HostPort() != 0:
		go k.accept(d, func(c *connection) { c.toHost(kind.HostPort()) })
	case kind.InsidePort() != 0:
		go k.accept(d, func(c *connection) { c.toInside(kind.InsidePort()) })
	default:
		return fmt.Errorf("the listener %q is of a kind that this gate does not know: casemate and casemate-gate are of different versions", kind)
	}
	return nil
}

// connectStore takes the socket that leads to the values.
func (k *Keeper) connectStore(f *os.File) error {
	c, err := net.FileConn(f)
	if err != nil {
		return fmt.Errorf("the socket %q: %w", wire.StoreEnd, err)
	}
	store, ok := c.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("the socket %q is not of this machine", wire.StoreEnd)
	}
	k.broker.Store.Connect(store)
	return nil
}

func (k *Keeper) answering() *dns.Server {
	return dns.NewServer(&dns.Resolver{Rules: &k.book, Names: &k.names, Log: k.log, Only4: k.only4, Internal: len(k.internal) > 0, Leaks: k.leaks})
}

// leaks is about a name that is looked up: nobody outside hears of it, and it is told of without what it holds.
func (k *Keeper) leaks(name string) (shown string, d rules.Decision, yes bool) {
	l := k.broker.InName(name)
	if l == nil {
		return "", d, false
	}
	return k.broker.Shown(name), l.Decision(), true
}

// accept gives each connection a goroutine, within the limit.
func (k *Keeper) accept(d *door, serve func(*connection)) {
	for {
		client, err := d.accept()
		switch {
		case errors.Is(err, os.ErrClosed):
			return
		case err != nil: // no descriptors or no memory: connections wait in the kernel until there are
			time.Sleep(20 * time.Millisecond)
			continue
		}
		select {
		case k.slots <- struct{}{}:
			c := k.add(client)
			k.workers.do(func() {
				defer func() {
					k.remove(c)
					<-k.slots
				}()
				defer c.survive()
				serve(c)
			})
		default:
			reset(client)
			k.log.TellOnce(wire.Record{Verdict: wire.Failed, Why: fmt.Sprintf("the sandbox has %d connections open, which is as many as it may", k.limits.Connections)})
		}
	}
}

func (k *Keeper) add(client *stream) *connection {
	c := newConnection(k, client)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.open[c] = struct{}{}
	return c
}

func (k *Keeper) remove(c *connection) {
	c.cancel()
	k.mu.Lock()
	delete(k.open, c)
	k.mu.Unlock()
	signal(k.closed)
}

// replace puts rules in force.
func (k *Keeper) replace(r wire.Rules) {
	k.book.Replace(r)
	k.broker.Learn()
	k.questions.reconsider(&k.book)
	signal(k.changed)
}

// endUnruled ends the connections that no rule allows any more, when the rules have changed and whenever one ends.
func (k *Keeper) endUnruled(stop <-chan struct{}) {
	for {
		now := time.Now() // before they are looked at, so that no rule ends unseen between that and the wait
		for _, c := range k.connections() {
			c.reconsider()
		}
		var look <-chan time.Time
		if next := k.book.Set().Next(now); !next.IsZero() {
			look = time.After(untilLook(next, now))
		}
		select {
		case <-look:
		case <-k.changed:
		case <-stop:
			return
		}
	}
}

// untilLook is how long to wait for a rule's end. That is told by the wall clock, and waiting stands still while the machine is suspended
// (CLOCK_MONOTONIC of clock_gettime(2)): so it is looked at again soon, and an opening for an hour ends soon after the machine has woken up.
func untilLook(end, now time.Time) time.Duration {
	const soon = 10 * time.Second
	return min(soon, max(0, end.Sub(now.Round(0))))
}

// signal leaves a value for whoever waits, or will.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// endIdle ends the connections on which nothing has moved for long.
func (k *Keeper) endIdle(stop <-chan struct{}) {
	tick := time.NewTicker(min(time.Minute, max(k.limits.Idle/4, time.Millisecond)))
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			k.processors.rest()
			for _, c := range k.connections() {
				if idle := now.Sub(c.lastActive()); idle > k.limits.Idle {
					c.end(fmt.Sprintf("nothing was sent for %v", k.limits.Idle))
				}
			}
		case <-stop:
			return
		}
	}
}

// maxFirst is how much of what a client says first is looked at.
const maxFirst = claim.Max
