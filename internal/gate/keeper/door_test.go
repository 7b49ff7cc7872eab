package keeper

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// listen makes a listener of plain TCP, as pid 1 inside does; package net's own are of MPTCP.
func listen(t *testing.T) *net.TCPListener {
	t.Helper()
	var c net.ListenConfig
	c.SetMultipathTCP(false)
	l, err := c.Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

// TestDoor: what is accepted is bounded, whether it came before the gate had the listener or after.
func TestDoor(t *testing.T) {
	l := listen(t)
	call := func() {
		c, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	call()
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, err := newDoor(f)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, when := range []string{"before", "after", "after the door was empty", "after it was again", "and again"} {
		accepted := make(chan *stream, 1)
		if when != "before" && when != "after" {
			go func() {
				s, err := d.accept()
				if err != nil {
					t.Error(err)
				}
				accepted <- s
			}()
			call()
		} else {
			if when == "after" {
				call()
			}
			s, err := d.accept()
			if err != nil {
				t.Fatal(err)
			}
			accepted <- s
		}
		s := <-accepted
		if s == nil {
			return
		}
		defer s.Close()
		for _, o := range []struct{ level, name, want int }{
			{unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsent}, {unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP, window}, {unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1}, {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15}, {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15}, {unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9},
		} {
			got := -1
			if err := s.control(func(fd int) (err error) {
				got, err = unix.GetsockoptInt(fd, o.level, o.name)
				return err
			}); err != nil || got != o.want && (o.name != unix.TCP_WINDOW_CLAMP || got < 1 || got > o.want) { // the kernel may be set to less
				t.Errorf("%s: option %d of level %d is %d and not %d: %v", when, o.name, o.level, got, o.want, err)
			}
		}
	}
}

// TestSelf: a socket that the kernel has connected with itself, as it does where nobody listens on a port that it gives out, is no connection.
func TestSelf(t *testing.T) {
	for _, mine := range []bool{false, true} { // false is the control
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			t.Fatal(err)
		}
		to, err := arrivedAt(fd)
		if err != nil {
			t.Fatal(err)
		}
		s, waits, err := begin(fd, to, mine)
		if waits {
			err = s.connected(context.Background(), time.Now().Add(time.Minute))
		}
		if mine != errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("mine %v: %v", mine, err)
		}
		if err == nil {
			s.Close()
		}
	}
}

// TestRace: whichever address answers is taken, and the reason that counts is told.
func TestRace(t *testing.T) {
	l := listen(t)
	port := int(l.Addr().(*net.TCPAddr).Port)
	w := way{port: port, late: time.Now().Add(time.Minute)}
	loopback, other := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.9") // where nobody listens
	for _, addrs := range [][]netip.Addr{{loopback}, {other, loopback}, {loopback, other}, {other, other, loopback}} {
		s, err := w.race(context.Background(), addrs)
		if err != nil {
			t.Fatalf("%v: %v", addrs, err)
		}
		if s.remote.Addr() != loopback {
			t.Errorf("%v: %v", addrs, s.remote)
		}
		s.Close()
	}
	if _, err := w.race(context.Background(), []netip.Addr{other}); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("where nobody listens: %v", err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := w.race(ended, []netip.Addr{loopback, other}); !errors.Is(err, context.Canceled) {
		t.Errorf("after its end: %v", err)
	}
	w.late = time.Now().Add(-time.Second)
	if _, err := w.race(context.Background(), []netip.Addr{loopback}); err == nil {
		t.Error("too late, and connected")
	}
	if err := worse(refusal{errors.New("no")}, unix.ECONNREFUSED); err != unix.ECONNREFUSED {
		t.Errorf("a host that cannot be reached is told as %v", err)
	}
}
