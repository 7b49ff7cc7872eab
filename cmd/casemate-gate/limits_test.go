package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"casemate.dev/internal/gate/keeper"
	"casemate.dev/internal/gate/wire"
)

func why(name, part string) func(wire.Record) bool {
	return func(r wire.Record) bool { return r.Name == name && strings.Contains(r.Why, part) }
}

// TestIdle: a connection without bytes ends, one with bytes in one direction only goes on.
func TestIdle(t *testing.T) {
	outside.name("a.example.com", "203.0.113.5")
	outside.name("b.example.com", "203.0.113.5")
	outside.serve(t, "203.0.113.5:443", echo)
	end := make(chan struct{})
	outside.serve(t, "203.0.113.5:25", func(c *net.TCPConn) {
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			select {
			case <-tick.C:
				io.WriteString(c, "still here\n")
			case <-end:
				return
			}
		}
	})
	limits := keeper.DefaultLimits()
	limits.Idle = 2 * time.Second // a hundred of the ticks above
	b := openWith(t, limits, rulesOf(allow("a.example.com", 443), allow("b.example.com", 25)))
	busy := b.dial("b.example.com", 25, v4)
	if _, err := io.ReadFull(busy, make([]byte, 11)); err != nil {
		t.Fatal(err)
	}
	idle := b.dial("a.example.com", 443, v4)
	if err := ping(idle); err != nil {
		t.Fatal(err)
	}
	if r := b.await("its end", why("a.example.com", "nothing was sent")); r.Verdict != wire.Closed || r.Sent != 5 {
		t.Errorf("%+v", r)
	}
	refused(t, idle, "")
	close(end)
	if text, err := io.ReadAll(busy); err != nil || len(text) < 33 {
		t.Errorf("%d bytes, %v", len(text), err)
	}
}

// TestSlowHello: who begins to name a host must go on.
func TestSlowHello(t *testing.T) {
	outside.name("a.example.com", "203.0.113.5")
	outside.serve(t, "203.0.113.5:443", echo)
	limits := keeper.DefaultLimits()
	limits.Hello = 2 * time.Second // in which what begins has come, or it would pass for a client that waits for its server
	b := openWith(t, limits, rulesOf(allow("a.example.com", 443)))
	var begun []*net.TCPConn
	for _, begin := range []string{"\x16\x03\x01\x02\x00\x01", "GET / HTTP/1.1\r\nHost: a.exam", "GE"} {
		c := b.dial("a.example.com", 443, v4)
		io.WriteString(c, begin)
		begun = append(begun, c)
	}
	for _, c := range begun {
		refused(t, c, "")
	}
	r := b.await("the denial", why("a.example.com", "did not go on"))
	if r.Verdict != wire.Denied || r.Sent != 0 {
		t.Errorf("%+v", r)
	}
}

// TestManyPieces: a request that comes byte by byte is not looked at from its beginning for each.
func TestManyPieces(t *testing.T) {
	outside.name("a.example.com", "203.0.113.5")
	outside.serve(t, "203.0.113.5:443", echo)
	b := open(t, rulesOf(allow("a.example.com", 443)))
	c := b.dial("a.example.com", 443, v4)
	before := b.processor()
	for range 70000 { // more than may come at all
		if _, err := c.Write([]byte("a")); err != nil {
			break
		}
	}
	r := b.await("the denial", func(r wire.Record) bool { return r.Verdict == wire.Denied && r.Port == 443 })
	if used := b.processor() - before; r.Sent != 0 || used > 100 {
		t.Errorf("%.0f hundredths of a second were used; %+v", used, r)
	}
}

// TestSmallBuffersCarryOn: without pipes everything arrives as well.
func TestSmallBuffersCarryOn(t *testing.T) {
	outside.name("a.example.com", "203.0.113.5")
	outside.serve(t, "203.0.113.5:443", echo)
	limits := keeper.DefaultLimits()
	limits.Pipes = 0
	b := openWith(t, limits, rulesOf(allow("a.example.com", 443)))
	c := b.dial("a.example.com", 443, v4)
	const size = 1 << 20
	go func() {
		c.Write(make([]byte, size))
		c.CloseWrite()
	}()
	if got, err := io.ReadAll(c); err != nil || len(got) != size {
		t.Errorf("%d of %d bytes, %v", len(got), size, err)
	}
}

// TestHostPorts: what is opened of the host's loopback is reached on the same port inside.
func TestHostPorts(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go serveEach(l, echo)
	port := l.Addr().(*net.TCPAddr).Port
	b := open(t, wire.Rules{}, wire.Listener(fmt.Sprintf("host4:%d", port)), wire.Listener("host4:9"))
	if err := ping(b.dial("127.0.0.1", port, v4)); err != nil {
		t.Error(err)
	}
	b.await("opening", func(r wire.Record) bool { return r.Verdict == wire.Opened && r.Port == port })
	refused(t, b.dial("127.0.0.1", 9, v4), "hello") // nothing listens there on the host
	b.await("failure", func(r wire.Record) bool { return r.Verdict == wire.Failed && r.Port == 9 })
}

// TestPublished: what listens inside, on IPv4 or IPv6, is reached from the host.
func TestPublished(t *testing.T) {
	b := open(t, wire.Rules{}, wire.Published(3000), wire.Published(3001), wire.Published(3002))
	for _, at := range []string{"127.0.0.1:3000", "[::1]:3001"} {
		var l net.Listener
		var err error
		b.inside.do(func() { l, err = net.Listen("tcp", at) })
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go serveEach(l, echo)
	}
	for port, listening := range map[int]bool{3000: true, 3001: true, 3002: false} {
		c, err := net.Dial("tcp", b.published[wire.Published(port)])
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		if err := ping(c.(*net.TCPConn)); (err == nil) != listening {
			t.Errorf("port %d: %v", port, err)
		}
	}
}

// TestConfined: the gate is confined when it works, and a message that it cannot read ends it.
func TestConfined(t *testing.T) {
	outside.name("a.example.com", "203.0.113.5")
	outside.serve(t, "203.0.113.5:443", echo)
	b := open(t, rulesOf(allow("a.example.com", 443)))
	if err := ping(b.dial("a.example.com", 443, v4)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.gate.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`Seccomp:\s+2\n`, `NoNewPrivs:\s+1\n`, `CapEff:\s+0+\n`} {
		if !regexp.MustCompile(want).Match(text) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	if _, err := b.supervisor.Write([]byte("{")); err != nil {
		t.Fatal(err)
	}
	<-b.finished
	if err := b.gate.Wait(); err == nil {
		t.Error("the gate ended well after a message that it cannot read")
	}
}
