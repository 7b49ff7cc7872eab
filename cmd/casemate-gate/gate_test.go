package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"casemate.dev/internal/gate/wire"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

const fine = "the test's rule for "

// echo sends back what comes, and after that its length's worth of nothing more.
func echo(c *net.TCPConn) {
	io.Copy(c, c)
	c.CloseWrite()
}

// ping wants an echo of bytes that are no text.
func ping(c *net.TCPConn) error {
	if c == nil {
		return unix.ECONNRESET
	}
	if _, err := io.WriteString(c, "\x00ping"); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 5))
	return err
}

// refused says whether nothing but a reset came. c is nil where it came before the connection was there.
func refused(t *testing.T, c *net.TCPConn, say string) {
	t.Helper()
	if c == nil {
		return
	}
	_, err := io.WriteString(c, say)
	n, errRead := io.Copy(io.Discard, c)
	if n > 0 || !errors.Is(errors.Join(err, errRead), unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
		t.Errorf("%d bytes came, then %v and %v instead of a reset", n, err, errRead)
	}
}

// TestByName: an allowed name is reached over IPv4 and IPv6 inside, every byte arrives, both ends are passed on, and the record says so.
func TestByName(t *testing.T) {
	outside.name("echo.example.com", "203.0.113.5")
	outside.name("six.example.com", "2001:db8::5")
	outside.serve(t, "203.0.113.5:8080", echo)
	outside.serve(t, "[2001:db8::5]:8080", echo)
	outside.serve(t, "203.0.113.6:8080", echo)
	b := open(t, rulesOf(allow("echo.example.com", 8080), allow("six.example.com", 8080), allow("inhosts.example.com", 8080)))
	for _, name := range []string{"echo.example.com", "six.example.com", "inhosts.example.com"} {
		for _, kind := range []dnsmessage.Type{v4, v6} {
			c := b.dial(name, 8080, kind)
			sent := bytes.Repeat([]byte("\x00123456789abcdef"), 1<<18)
			go func() {
				c.Write(sent)
				c.CloseWrite()
			}()
			got, err := io.ReadAll(c)
			if err != nil || sha256.Sum256(got) != sha256.Sum256(sent) {
				t.Fatalf("%s %v: %d of %d bytes came back, %v", name, kind, len(got), len(sent), err)
			}
		}
		opened := b.await("opening", verdict(wire.Opened, name))
		closed := b.await("closing", func(r wire.Record) bool { return r.Verdict == wire.Closed && r.ID == opened.ID })
		if opened.Rule != fine+name || opened.Port != 8080 || opened.Address == "" || closed.Sent != 4<<20 || closed.Got != 4<<20 || closed.Elapsed <= 0 {
			t.Errorf("%+v then %+v", opened, closed)
		}
	}
	if _, err := netip.ParseAddrPort(b.await("opening", verdict(wire.Opened, "six.example.com")).Address); err != nil {
		t.Error(err)
	}
}

// TestDeniedNameStaysInside: a look-up of a name that no rule allows sends nothing, neither to the host's resolver nor at all.
func TestDeniedNameStaysInside(t *testing.T) {
	outside.name("allowed.example.com", "203.0.113.5")
	outside.serve(t, "203.0.113.5:443", echo)
	outside.forget()
	captured := capture(t)
	b := open(t, rulesOf(allow("allowed.example.com", 443)))
	const secret = "c2vjcmv0"
	if code, list := b.lookup(secret+".evil.test", v4); code != dnsmessage.RCodeNameError || list != nil {
		t.Errorf("%v %v", code, list)
	}
	b.await("denial", func(r wire.Record) bool {
		return r.Verdict == wire.Denied && strings.HasPrefix(r.Name, secret) && r.Port == 0
	})
	if code, list := b.lookup("allowed.example.com", v4); code != 0 || len(list) != 1 {
		t.Errorf("%v %v", code, list)
	}
	if outside.wasAsked(secret) || outside.wasAsked("allowed.example.com") {
		t.Error("a look-up inside went to the host's resolver")
	}
	// The control: a connection does ask, and the capture sees it.
	c := b.dial("allowed.example.com", 443, v4)
	io.WriteString(c, "\x00marker1")
	io.ReadFull(c, make([]byte, 8))
	seen := captured()
	if bytes.Contains(seen, []byte(secret)) {
		t.Error("the denied name is on the wire")
	}
	if !bytes.Contains(seen, []byte("marker1")) || !bytes.Contains(seen, []byte("allowed")) {
		t.Error("the capture sees nothing")
	}
}

// capture records all packets that arrive among the servers.
func capture(t *testing.T) func() []byte {
	fd := -1
	var err error
	outside.servers.do(func() {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0x0300) // ETH_P_ALL
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return func() (all []byte) {
		buf := make([]byte, 1<<16)
		for {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if err != nil {
				return all
			}
			all = append(append(all, buf[:n]...), '|')
		}
	}
}

func TestDenied(t *testing.T) {
	outside.name("a.example.com", "203.0.113.5")
	outside.serve(t, "203.0.113.5:443", echo)
	outside.serve(t, "203.0.113.5:22", echo)
	b := open(t, wire.Rules{Allow: []wire.Allow{allow("a.example.com", 443)}, Deny: []string{"evil.example.com"}})
	b.lookup("a.example.com", v4)
	for _, c := range []struct {
		host string
		port int
		name string
		why  string
		asks bool // somebody may be asked about it afterwards
	}{
		{"203.0.113.5", 443, "203.0.113.5", "no rule allows 203.0.113.5:443", true},
		{"2001:db8::5", 443, "2001:db8::5", "no rule allows [2001:db8::5]:443", true},
		{"::ffff:203.0.113.5", 443, "203.0.113.5", "no rule allows", true},
		{"169.254.169.254", 80, "169.254.169.254", "no rule allows", false},
		{"a.example.com", 22, "a.example.com", "a rule allows it on port 443", true},
		{"198.18.77.77", 443, "198.18.77.77", "no name was looked up", false},
		{wire.HostV4, 443, wire.HostV4, "no name was looked up", false},
		{"127.0.0.1", 443, "127.0.0.1", "loopback inside", false},
		{"::1", 443, "::1", "loopback inside", false},
	} {
		refused(t, b.dial(c.host, c.port, v4), "hello")
		r := b.await(c.name, func(r wire.Record) bool { return r.Name == c.name && r.Port == c.port })
		if r.Verdict != wire.Denied || !strings.Contains(r.Why, c.why) || r.Unasked == c.asks {
			t.Errorf("%s: %+v", c.name, r)
		}
	}
}

// TestAddressRule: an address is reached where a rule names it, and only there.
func TestAddressRule(t *testing.T) {
	outside.serve(t, "203.0.113.5:443", echo)
	outside.serve(t, "10.0.0.5:5432", echo)
	b := open(t, rulesOf(allow("203.0.113.5", 443), allow("10.0.0.5", 5432)))
	for at, port := range map[string]int{"203.0.113.5": 443, "10.0.0.5": 5432} {
		c := b.dial(at, port, v4)
		if err := ping(c); err != nil {
			t.Errorf("%s: %v", at, err)
		}
	}
	refused(t, b.dial("203.0.113.6", 443, v4), "hello")
}

// TestWhereANameLeads: a name that is allowed leads to public addresses only, however it is spelt, unless the rule names the range.
func TestWhereANameLeads(t *testing.T) {
	for _, at := range []string{"203.0.113.5:443", "10.0.0.5:443", "169.254.169.254:443", "[fd00:ec2::254]:443"} {
		outside.serve(t, at, echo)
	}
	ten := allow("ten.example.com", 443)
	ten.Networks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	everything := allow("everything.example.com", 443)
	everything.Networks = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	b := open(t, wire.Rules{Allow: []wire.Allow{allow("*.pub.example.com", 443), ten, everything}, Deny: []string{"203.0.113.53"}})
	for _, c := range []struct {
		name  string
		addrs []string
		why   string // empty: it is reached
	}{
		{"public.pub.example.com", []string{"203.0.113.5"}, ""},
		{"private.pub.example.com", []string{"10.0.0.5"}, "private"},
		{"mapped.pub.example.com", []string{"::ffff:10.0.0.5"}, "private"},
		{"loop.pub.example.com", []string{"127.0.0.1"}, "loopback"},
		{"loop6.pub.example.com", []string{"::1"}, "loopback"},
		{"meta.pub.example.com", []string{"169.254.169.254"}, "metadata"},
		{"meta6.pub.example.com", []string{"fd00:ec2::254"}, "metadata"},
		{"nat64.pub.example.com", []string{"64:ff9b::169.254.169.254"}, "metadata"},
		{"zero.pub.example.com", []string{"0.0.0.0"}, "unspecified"},
		{"self.pub.example.com", []string{"203.0.113.1"}, "of this machine"},
		{"synthetic.pub.example.com", []string{"198.18.0.16"}, "synthetic"},
		{"denied.pub.example.com", []string{"203.0.113.53"}, "deny wins"},
		{"mixed.pub.example.com", []string{"10.0.0.5", "203.0.113.5", "127.0.0.1"}, ""},
		{"nowhere.pub.example.com", nil, "no"},
		{"ten.example.com", []string{"10.0.0.5"}, ""},
		{"everything.example.com", []string{"169.254.169.254"}, "metadata"},
	} {
		if c.addrs != nil {
			outside.name(c.name, c.addrs...)
		}
		conn := b.dial(c.name, 443, v4)
		if c.why == "" {
			if err := ping(conn); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			if r := b.await(c.name, verdict(wire.Opened, c.name)); c.name[0] == 'm' && r.Address != "203.0.113.5:443" {
				t.Errorf("%s led to %s", c.name, r.Address)
			}
			continue
		}
		refused(t, conn, "")
		r := b.await(c.name, func(r wire.Record) bool { return r.Name == c.name && r.Port == 443 })
		if !strings.Contains(r.Why, c.why) || (r.Verdict == wire.Denied) == (c.addrs == nil) {
			t.Errorf("%s: %+v", c.name, r)
		}
	}
	// Rebinding: the name was fine a moment ago.
	outside.name("public.pub.example.com", "10.0.0.5")
	refused(t, b.dial("public.pub.example.com", 443, v4), "")
}

// TestDeadAddress: with several addresses, one that does not answer costs a moment.
func TestDeadAddress(t *testing.T) {
	outside.name("two.example.com", "203.0.113.99", "203.0.113.5", "2001:db8::99")
	outside.serve(t, "203.0.113.5:443", echo)
	outside.silence(t, netip.MustParseAddrPort("203.0.113.99:443"))
	b := open(t, rulesOf(allow("two.example.com", 443)))
	c := b.dial("two.example.com", 443, v4)
	if err := ping(c); err != nil {
		t.Fatal(err)
	}
}

// TestServerSpeaksFirst: what a server says before its client does is not held back, and what the client says then is not taken for anything else.
func TestServerSpeaksFirst(t *testing.T) {
	outside.name("mail.example.com", "203.0.113.5")
	outside.serve(t, "203.0.113.5:25", func(c *net.TCPConn) {
		io.WriteString(c, "220 mail\r\n")
		line, _ := bufio.NewReader(c).ReadString('\n')
		io.WriteString(c, "250 "+line)
	})
	b := open(t, rulesOf(allow("mail.example.com", 25)))
	c := b.dial("mail.example.com", 25, v4)
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); line != "220 mail\r\n" {
		t.Fatalf("%q %v", line, err)
	}
	long := strings.Repeat("x", 1<<17) // as well the beginning of the longest method of a request
	io.WriteString(c, long+"\n")
	if line, err := r.ReadString('\n'); line != "250 "+long+"\n" {
		t.Fatalf("%d bytes, %v", len(line), err)
	}
}

// TestResetIsPassedOn: a client learns that its server broke off, and does not take it for the end.
func TestResetIsPassedOn(t *testing.T) {
	outside.name("broken.example.com", "203.0.113.5")
	outside.serve(t, "203.0.113.5:443", func(c *net.TCPConn) {
		io.ReadFull(c, make([]byte, 5))
		c.SetLinger(0)
	})
	b := open(t, rulesOf(allow("broken.example.com", 443)))
	refused(t, b.dial("broken.example.com", 443, v4), "\x00ping")
	b.await("closing", verdict(wire.Closed, "broken.example.com"))
}

// TestRulesChange: a rule that is taken away or ends takes its connections with it, and no others.
func TestRulesChange(t *testing.T) {
	outside.serve(t, "203.0.113.5:443", echo)
	for _, name := range []string{"kept.example.com", "gone.example.com", "brief.example.com", "late.example.com"} {
		outside.name(name, "203.0.113.5")
	}
	all := rulesOf(allow("kept.example.com", 443), allow("gone.example.com", 443), allow("brief.example.com", 443))
	b := open(t, all)
	if code, _ := b.lookup("late.example.com", v4); code != dnsmessage.RCodeNameError {
		t.Errorf("late: %v", code)
	}
	conns := map[string]*net.TCPConn{}
	for _, name := range []string{"kept.example.com", "gone.example.com", "brief.example.com"} {
		conns[name] = b.dial(name, 443, v4)
		if err := ping(conns[name]); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	all.Allow[2].Until = time.Now().Add(300 * time.Millisecond)
	b.send(wire.Message{Rules: all}, nil)
	b.await("the rule's end", func(r wire.Record) bool {
		return r.Name == "brief.example.com" && r.Verdict == wire.Closed && strings.Contains(r.Why, "ended at")
	})
	refused(t, conns["brief.example.com"], "")

	// The rules come in two messages.
	b.send(wire.Message{Rules: rulesOf(allow("kept.example.com", 443)), More: true}, nil)
	b.send(wire.Message{Rules: rulesOf(allow("late.example.com", 443))}, nil)
	b.await("the end", func(r wire.Record) bool {
		return r.Name == "gone.example.com" && r.Verdict == wire.Closed && strings.Contains(r.Why, "no rule allows")
	})
	refused(t, conns["gone.example.com"], "")
	for _, c := range []*net.TCPConn{conns["kept.example.com"], b.dial("late.example.com", 443, v4)} {
		if err := ping(c); err != nil {
			t.Error(err)
		}
	}
}

// TestRuleEndsMeanwhile: what a rule opened that ended while the host looked the name up is not reached by another rule that would not have opened it.
func TestRuleEndsMeanwhile(t *testing.T) {
	for _, at := range []string{"10.0.0.5", "203.0.113.5"} { // the second needs no network: the other rule opens it
		outside.name("meanwhile.example.com", at)
		outside.delay("meanwhile.example.com", 600*time.Millisecond)
		outside.serve(t, at+":25", echo)
		brief := allow("meanwhile.example.com", 25)
		brief.Networks, brief.Until = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, time.Now().Add(300*time.Millisecond)
		b := open(t, rulesOf(brief, allow("meanwhile.example.com", 25)))
		err := ping(b.dial("meanwhile.example.com", 25, v4))
		if public := at == "203.0.113.5"; (err == nil) != public {
			t.Errorf("%s: %v", at, err)
		}
	}
}

// TestGateEndsWithItsSupervisor: and its connections with it.
func TestGateEndsWithItsSupervisor(t *testing.T) {
	outside.name("echo.example.com", "203.0.113.5")
	outside.serve(t, "203.0.113.5:443", echo)
	b := open(t, rulesOf(allow("echo.example.com", 443)))
	c := b.dial("echo.example.com", 443, v4)
	if err := ping(c); err != nil {
		t.Fatal(err)
	}
	if err := b.supervisor.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-b.finished:
	case <-time.After(20 * time.Second): // the connection would last for two minutes
		t.Fatal("it goes on")
	}
	b.await("closing", func(r wire.Record) bool { return r.Verdict == wire.Closed && r.Why == "the sandbox ended" })
	if err := b.gate.Wait(); err != nil {
		t.Errorf("the gate: %v", err)
	}
	refused(t, c, "")
}

// TestProxy: where the machine goes out through a proxy, in its private network, names are the proxy's to look up, and the rules hold as without one.
func TestProxy(t *testing.T) {
	asked := make(chan string, 10)
	outside.serve(t, "10.0.0.5:3128", func(c *net.TCPConn) {
		line, _ := bufio.NewReader(c).ReadString('\n')
		asked <- strings.TrimSpace(line)
		io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		echo(c)
	})
	rules := rulesOf(allow("far.example.com", 443))
	b, first, files := sandbox(t, rules, nil)
	first.Proxy = wire.Proxy{URL: "http://10.0.0.5:3128"}
	b.start(first, files)
	c := b.dial("far.example.com", 443, v4)
	if err := ping(c); err != nil {
		t.Fatal(err)
	}
	if got := <-asked; got != "CONNECT far.example.com:443 HTTP/1.1" {
		t.Errorf("the proxy was asked %q", got)
	}
	refused(t, b.dial("far.example.com", 22, v4), "")
	rules.Deny = []string{"other.example.com"}
	b.send(wire.Message{Rules: rules}, nil)
	if code, _ := b.lookup("other.example.com", v4); code != dnsmessage.RCodeNameError {
		t.Error(code)
	}
	for range 50 {
		if err := ping(c); err != nil {
			t.Fatalf("after a change of rules that is not about it: %v", err)
		}
	}
	b.send(wire.Message{}, nil)
	b.await("the end", func(r wire.Record) bool { return r.Verdict == wire.Closed && strings.Contains(r.Why, "no more") })
}

// TestReplacedResolver: where another file has taken the place of resolv.conf, the gate says so. This is a limit of its confinement.
func TestReplacedResolver(t *testing.T) {
	outside.name("a.example.com", "203.0.113.5")
	b := open(t, rulesOf(allow("*.example.com", 443)))
	b.lookup("a.example.com", v4)
	if err := unix.Unmount("/etc/resolv.conf", unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	if err := cover("/etc/resolv.conf", resolvConf); err != nil {
		t.Fatal(err)
	}
	refused(t, b.dial("a.example.com", 443, v4), "")
	b.await("why", func(r wire.Record) bool { return r.Verdict == wire.Failed && strings.Contains(r.Why, "was replaced") })
}

// TestGoResolver: Go's own resolver, which reads replies strictly, takes them as they are meant.
func TestGoResolver(t *testing.T) {
	b := open(t, rulesOf(allow("a.example.com", 443)))
	r := &net.Resolver{PreferGo: true, Dial: func(_ context.Context, network, _ string) (c net.Conn, err error) {
		b.inside.do(func() { c, err = net.Dial(network, wire.Resolver+":53") })
		return c, err
	}}
	ctx := context.Background()
	list, err := r.LookupNetIP(ctx, "ip", "A.example.com.")
	if err != nil || len(list) != 2 {
		t.Fatalf("%v %v", list, err)
	}
	for _, a := range list {
		if names, err := r.LookupAddr(ctx, a.String()); err != nil || len(names) != 1 || names[0] != "a.example.com." {
			t.Errorf("%v: %v %v", a, names, err)
		}
	}
	var e *net.DNSError
	if list, err := r.LookupNetIP(ctx, "ip", "evil.test."); !errors.As(err, &e) || !e.IsNotFound || e.IsTemporary {
		t.Errorf("evil.test: %v %v", list, err)
	}
	if list, err := r.LookupMX(ctx, "a.example.com."); !errors.As(err, &e) || !e.IsNotFound || e.IsTemporary {
		t.Errorf("MX: %v %v", list, err)
	}
}
