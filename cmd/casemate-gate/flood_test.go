package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"casemate.dev/internal/gate/wire"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// memory is what the gate has in memory, in kilobytes, and how many files it has open at most.
func (b *box) memory() int {
	b.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.gate.Process.Pid))
	if err != nil {
		b.t.Fatal(err)
	}
	found := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(text)
	if found == nil {
		b.t.Fatalf("no VmRSS in %s", text)
	}
	n, _ := strconv.Atoi(string(found[1]))
	return n
}

// TestFloodOfConnections: 5,000 connections at once, each with half a hello or half a request; the gate keeps what it may, resets the rest, stays small
// and goes on to serve.
func TestFloodOfConnections(t *testing.T) {
	outside.name("a.example.com", "203.0.113.5")
	outside.serve(t, "203.0.113.5:443", echo)
	b := open(t, rulesOf(allow("a.example.com", 443)))
	if err := ping(b.dial("a.example.com", 443, v4)); err != nil {
		t.Fatal(err)
	}
	before := b.memory()
	_, list := b.lookup("a.example.com", v4)
	to := netip.AddrPortFrom(list[0], 443)
	half := append([]byte{22, 3, 1, 0x40, 0, 1, 0, 0xff, 0}, make([]byte, 8000)...)
	var limit unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	const all = 5000
	atOnce := min(all, int(limit.Cur)/4)
	var held []int
	for range all {
		fd := b.raw(to, half)
		if held = append(held, fd); len(held) > atOnce {
			unix.Close(held[0])
			held = held[1:]
		}
	}
	peak := b.memory()
	for _, fd := range held {
		unix.Close(fd)
	}
	b.await("the limit", verdict(wire.Failed, ""))
	for late := time.Now().Add(30 * time.Second); ping(b.dial("a.example.com", 443, v4)) != nil; {
		if time.Now().After(late) {
			t.Fatal("the gate does not serve any more")
		}
	}
	t.Logf("%d kB before, %d kB with %d connections", before, peak, all)
	if peak > before+64<<10 {
		t.Errorf("memory grew from %d to %d kB", before, peak)
	}
}

// raw is a connection from inside as cheap as it gets.
func (b *box) raw(to netip.AddrPort, say []byte) (fd int) {
	b.inside.do(func() {
		var err error
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
			b.t.Fatal(err)
		}
		unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
		unix.Write(fd, say)
	})
	return fd
}

// TestSlowReaders: connections whose client does not read hold little, and hold up nobody.
func TestSlowReaders(t *testing.T) {
	outside.name("big.example.com", "203.0.113.5")
	outside.serve(t, "203.0.113.5:443", func(c *net.TCPConn) {
		first := make([]byte, 5)
		if io.ReadFull(c, first); string(first) == "\x00ping" {
			c.Write(first)
			return
		}
		block := make([]byte, 64<<10)
		for {
			if _, err := c.Write(block); err != nil {
				return
			}
		}
	})
	b := open(t, rulesOf(allow("big.example.com", 443)))
	_, list := b.lookup("big.example.com", v4)
	before := b.memory()
	const all = 600
	for range all {
		fd := b.raw(netip.AddrPortFrom(list[0], 443), []byte("\x00more"))
		defer unix.Close(fd)
	}
	if err := ping(b.dial("big.example.com", 443, v4)); err != nil {
		t.Fatal(err)
	}
	after := b.memory()
	t.Logf("%d kB before, %d kB with %d readers that do not read", before, after, all)
	if after > before+48<<10 {
		t.Errorf("memory grew from %d to %d kB", before, after)
	}
}

// TestNameFlood: a program that looks up names as fast as it can gets answers for some, and memory stays.
func TestNameFlood(t *testing.T) {
	b := open(t, rulesOf(allow("*.wild.example.com", 443)))
	b.lookup("first.wild.example.com", v4)
	before := b.memory()
	var c net.Conn
	var err error
	b.inside.do(func() { c, err = net.Dial("udp4", wire.Resolver+":53") })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	q := dnsmessage.Message{Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("a.wild.example.com."), Type: v4, Class: dnsmessage.ClassINET}}}
	limited := verdict(wire.Failed, "")
	for i := 0; i < 50000 || !b.has(limited) && i < 5_000_000; i++ { // more, where the machine is so busy that it is no flood
		q.Questions[0].Name = dnsmessage.MustNewName(strconv.Itoa(i) + ".wild.example.com.")
		text, _ := q.Pack()
		c.Write(text)
	}
	b.await("the rate", limited)
	after := b.memory()
	t.Logf("%d kB before, %d kB after", before, after)
	if after > before+32<<10 {
		t.Errorf("memory grew from %d to %d kB", before, after)
	}
}

// TestDNSOverTCP: several queries in one go are answered in order, and rubbish ends the connection.
func TestDNSOverTCP(t *testing.T) {
	b := open(t, rulesOf(allow("a.example.com", 443)))
	connect := func() net.Conn {
		var c net.Conn
		var err error
		b.inside.do(func() { c, err = net.Dial("tcp4", wire.Resolver+":53") })
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(20 * time.Second))
		return c
	}
	c := connect()
	defer c.Close()
	var all []byte
	for i := range 20 {
		q := dnsmessage.Message{Header: dnsmessage.Header{ID: uint16(i)}, Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("a.example.com."), Type: v4, Class: dnsmessage.ClassINET}}}
		text, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		all = append(binary.BigEndian.AppendUint16(all, uint16(len(text))), text...)
	}
	c.Write(all)
	for i := range 20 {
		var n [2]byte
		if _, err := io.ReadFull(c, n[:]); err != nil {
			t.Fatalf("reply %d: %v", i, err)
		}
		text := make([]byte, binary.BigEndian.Uint16(n[:]))
		var m dnsmessage.Message
		if _, err := io.ReadFull(c, text); err != nil || m.Unpack(text) != nil || m.ID != uint16(i) || len(m.Answers) != 1 {
			t.Fatalf("reply %d: %v %+v", i, err, m)
		}
	}
	bad := connect()
	defer bad.Close()
	bad.Write([]byte{0xff, 0xff, 1, 2, 3})
	if n, err := bad.Read(make([]byte, 10)); n > 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("rubbish is answered with %d bytes and %v", n, err)
	}
}
