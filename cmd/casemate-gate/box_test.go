package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"casemate.dev/internal/gate/keeper"
	"casemate.dev/internal/gate/wire"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// box is a sandbox's network, its gate, and the gate's supervisor.
type box struct {
	t          testing.TB
	inside     *space
	supervisor *net.UnixConn
	gate       *exec.Cmd
	published  map[wire.Listener]string // where outside such a listener is
	ready      wire.Ready

	mu       sync.Mutex
	records  []wire.Record
	asked    []wire.Question
	arrived  chan struct{} // gets a value when a record has come
	finished chan struct{} // closed when the gate has closed its end
}

// ports are those on which inside listens for the gate. Nothing redirects here: a connection to any address on one of them arrives.
var ports = []uint16{22, 25, 80, 443, 5432, 8080}

// open starts a gate for a sandbox of its own.
func open(t testing.TB, rules wire.Rules, more ...wire.Listener) *box {
	t.Helper()
	b, first, files := sandbox(t, rules, more)
	b.start(first, files)
	return b
}

// openWith is open with limits of the test's own, and therefore in this process, which cannot be confined.
func openWith(t testing.TB, limits keeper.Limits, rules wire.Rules) *box {
	t.Helper()
	b, first, files := sandbox(t, rules, nil)
	theirs := b.pair()
	fd, err := unix.Dup(int(theirs.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	ended := make(chan error, 1)
	go func() { ended <- keeper.Run(fd, limits) }()
	t.Cleanup(func() {
		b.supervisor.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	b.greet(wire.Start{Open: opened(first.Rules)})
	go b.listen()
	b.send(first, files)
	return b
}

// sandbox makes what a gate is given.
func sandbox(t testing.TB, rules wire.Rules, more []wire.Listener) (*box, wire.Message, []*os.File) {
	t.Helper()
	inside, err := newSpace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(inside.close)
	b := &box{t: t, inside: inside, arrived: make(chan struct{}, 1), finished: make(chan struct{}), published: map[wire.Listener]string{}}
	first := wire.Message{Sandbox: "test", Rules: rules}
	var files []*os.File
	inside.do(func() {
		if err = everywhere(); err == nil {
			first.Listeners, files, err = listeners(more)
		}
	})
	for _, kind := range more {
		if kind.InsidePort() == 0 || err != nil {
			continue
		}
		var l net.Listener
		if l, err = listen("tcp4", "127.0.0.1:0"); err == nil {
			b.published[kind] = l.Addr().String()
			var f *os.File
			f, err = l.(*net.TCPListener).File()
			first.Listeners, files = append(first.Listeners, kind), append(files, f)
			l.Close()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return b, first, files
}

func listeners(more []wire.Listener) (kinds []wire.Listener, files []*os.File, err error) {
	add := func(kind wire.Listener, network, at string) {
		if err != nil {
			return
		}
		var l net.Listener
		if l, err = listen(network, at); err != nil {
			return
		}
		defer l.Close()
		var f *os.File
		if f, err = l.(*net.TCPListener).File(); err == nil {
			kinds, files = append(kinds, kind), append(files, f)
		}
	}
	for _, p := range ports {
		add(wire.TCP4, "tcp4", "0.0.0.0:"+strconv.Itoa(int(p)))
		add(wire.TCP6, "tcp6", "[::]:"+strconv.Itoa(int(p)))
	}
	add(wire.DNSOver, "tcp4", wire.Resolver+":53")
	for _, kind := range more {
		if kind.HostPort() != 0 {
			add(kind, "tcp4", kind.Inside().String())
		}
	}
	if err != nil {
		return nil, nil, err
	}
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(wire.Resolver+":53")))
	if err != nil {
		return nil, nil, err
	}
	defer c.Close()
	f, err := c.File()
	return append(kinds, wire.DNS), append(files, f), err
}

// listen makes a listener of plain TCP, as pid 1 inside does; package net's own are of MPTCP.
func listen(network, at string) (net.Listener, error) {
	var c net.ListenConfig
	c.SetMultipathTCP(false)
	return c.Listen(context.Background(), network, at)
}

// pair joins a supervisor to a gate, whose end it returns.
func (b *box) pair() *os.File {
	b.t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	mine := os.NewFile(uintptr(fds[0]), "supervisor")
	defer mine.Close()
	b.t.Cleanup(b.tellIfFailed)
	c, err := net.FileConn(mine)
	if err != nil {
		b.t.Fatal(err)
	}
	b.supervisor = c.(*net.UnixConn)
	return os.NewFile(uintptr(fds[1]), "gate")
}

// tellIfFailed prints what the gate told, where a test fails.
func (b *box) tellIfFailed() {
	if b.t.Failed() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.t.Logf("the gate told %+v", b.records)
	}
}

// start runs the gate: this binary in that role, which calls main.
func (b *box) start(first wire.Message, files []*os.File) {
	b.t.Helper()
	theirs := b.pair()
	b.gate = exec.Command("/proc/self/exe")
	b.gate.Env = []string{roleVariable + "=gate", "SECRET=of the host"}
	b.gate.Stderr, b.gate.ExtraFiles = os.Stderr, []*os.File{theirs}
	err := b.gate.Start()
	theirs.Close() // so that its end is seen
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		b.supervisor.Close()
		b.gate.Wait()
	})
	b.greet(wire.Start{Open: opened(first.Rules)})
	go b.listen()
	b.send(first, files)
}

// opened are the hosts with rules for single requests, and those of secrets.
func opened(r wire.Rules) (hosts []string) {
	for _, a := range r.Allow {
		if a.OfRequests() {
			hosts = append(hosts, a.Host)
		}
	}
	for _, s := range r.Secrets {
		hosts = append(hosts, s.Hosts...)
	}
	return hosts
}

// greet has the gate prepare itself.
func (b *box) greet(s wire.Start) {
	b.t.Helper()
	text, err := json.Marshal(s)
	if err == nil {
		_, err = b.supervisor.Write(text)
	}
	buf := make([]byte, wire.MaxMessage)
	n := 0
	if err == nil {
		n, err = b.supervisor.Read(buf)
	}
	if err == nil {
		err = json.Unmarshal(buf[:n], &b.ready)
	}
	if err != nil || !b.ready.Ready {
		b.t.Fatalf("the gate did not come up: %v, %q", err, buf[:n])
	}
}

func (b *box) send(m wire.Message, files []*os.File) {
	b.t.Helper()
	text, err := json.Marshal(m)
	if err != nil {
		b.t.Fatal(err)
	}
	var fds []int
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	if _, _, err := b.supervisor.WriteMsgUnix(text, rights, nil); err != nil {
		b.t.Fatal(err)
	}
	for _, f := range files {
		f.Close()
	}
}

// listen takes records and answers requests for sockets, as a supervisor does.
func (b *box) listen() {
	defer close(b.finished)
	buf := make([]byte, wire.MaxMessage)
	for {
		n, err := b.supervisor.Read(buf)
		if err != nil || n == 0 {
			return
		}
		var said struct {
			wire.Record
			wire.Request
		}
		if json.Unmarshal(buf[:n], &said) != nil {
			continue
		}
		if said.Socket != 0 {
			b.socket(said.Socket)
			continue
		}
		b.mu.Lock()
		if said.Question != nil {
			b.asked = append(b.asked, *said.Question)
		} else {
			b.records = append(b.records, said.Record)
		}
		b.mu.Unlock()
		select {
		case b.arrived <- struct{}{}:
		default:
		}
	}
}

func (b *box) socket(family int) {
	var files []*os.File
	b.inside.do(func() {
		if fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err == nil {
			files = append(files, os.NewFile(uintptr(fd), "inside"))
		}
	})
	b.send(wire.Message{Socket: family}, files)
}

// await returns the first record that matches, when it has come.
func (b *box) await(what string, match func(wire.Record) bool) wire.Record {
	b.t.Helper()
	return b.awaitMany(what, 1, match)
}

// awaitMany returns the last of the first many records that match, when it has come.
func (b *box) awaitMany(what string, many int, match func(wire.Record) bool) wire.Record {
	b.t.Helper()
	late := time.After(30 * time.Second)
	for {
		b.mu.Lock()
		all := slices.Clone(b.records)
		b.mu.Unlock()
		found := 0
		for _, r := range all {
			if !match(r) {
				continue
			}
			if found++; found == many {
				return r
			}
		}
		select {
		case <-b.arrived:
		case <-late:
			b.t.Fatalf("no record of %s; there are %+v", what, all)
		}
	}
}

// has says whether a record that matches has come.
func (b *box) has(match func(wire.Record) bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.records, match)
}

func verdict(v wire.Verdict, name string) func(wire.Record) bool {
	return func(r wire.Record) bool { return r.Verdict == v && r.Name == name }
}

// lookup asks the sandbox's resolver as a C library does.
func (b *box) lookup(name string, kind dnsmessage.Type) (dnsmessage.RCode, []netip.Addr) {
	b.t.Helper()
	var c net.Conn
	var err error
	b.inside.do(func() { c, err = net.Dial("udp4", wire.Resolver+":53") })
	if err != nil {
		b.t.Fatal(err)
	}
	defer c.Close()
	q := dnsmessage.Message{Header: dnsmessage.Header{ID: 1, RecursionDesired: true}, Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name + "."), Type: kind, Class: dnsmessage.ClassINET}}}
	text, err := q.Pack()
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := c.Write(text); err != nil {
		b.t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	buf := make([]byte, 512)
	n, err := c.Read(buf)
	var m dnsmessage.Message
	if err == nil {
		err = m.Unpack(buf[:n])
	}
	if err != nil {
		b.t.Fatalf("look up %s: %v", name, err)
	}
	var list []netip.Addr
	for _, a := range m.Answers {
		switch r := a.Body.(type) {
		case *dnsmessage.AResource:
			list = append(list, netip.AddrFrom4(r.A))
		case *dnsmessage.AAAAResource:
			list = append(list, netip.AddrFrom16(r.AAAA))
		}
	}
	return m.RCode, list
}

// dial connects from inside, to an address or, by its synthetic IPv4 or IPv6 address, to a name.
func (b *box) dial(host string, port int, kind dnsmessage.Type) *net.TCPConn {
	b.t.Helper()
	addr, err := netip.ParseAddr(host)
	if err != nil {
		code, list := b.lookup(host, kind)
		if len(list) != 1 {
			b.t.Fatalf("look up %s: %v %v", host, code, list)
		}
		addr = list[0]
	}
	var c net.Conn
	b.inside.do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		c, err = new(net.Dialer).DialContext(ctx, "tcp", netip.AddrPortFrom(addr, uint16(port)).String())
	})
	if errors.Is(err, unix.ECONNRESET) {
		return nil // the gate was faster than connect
	}
	if err != nil {
		b.t.Fatalf("dial %s: %v", host, err)
	}
	b.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(2 * time.Minute))
	return c.(*net.TCPConn)
}

const (
	v4 = dnsmessage.TypeA
	v6 = dnsmessage.TypeAAAA
)

func allow(host string, ports ...int) wire.Allow {
	return wire.Allow{Host: host, Ports: ports, Origin: "the test's rule for " + host}
}

func rulesOf(list ...wire.Allow) wire.Rules { return wire.Rules{Allow: list} }
