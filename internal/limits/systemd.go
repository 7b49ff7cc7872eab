package limits

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// startScope calls StartTransientUnit of the manager behind socket: unit is to hold the process pid and to be delegated to us. It returns
// when the job is queued.
func startScope(socket string, uid int, unit string, pid int) error {
	c, err := dialBus(socket, uid)
	if err != nil {
		return err
	}
	defer unix.Close(c.fd)
	if filepath.Base(socket) == "bus" { // a message bus; systemd's private socket is the manager itself
		if err := c.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello", "", nil); err != nil {
			return err
		}
	}
	return c.call("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "StartTransientUnit",
		"ssa(sv)a(sa(sv))", scopeBody(unit, pid))
}

// scopeBody: see org.freedesktop.systemd1(5), and systemd.resource-control(5) on Delegate. The limits are ours to set, beneath the scope.
func scopeBody(unit string, pid int) []byte {
	var m marshal
	m.str(unit)
	m.str("fail") // if there is a job of that name, which cannot be
	m.array(8, func() {
		property(&m, "Description", "s", func() { m.str("a sandbox of casemate") })
		property(&m, "Delegate", "b", func() { m.uint32(1) })
		property(&m, "CollectMode", "s", func() { m.str("inactive-or-failed") })
		property(&m, "TasksMax", "t", func() { m.uint64(math.MaxUint64) }) // or a default of the manager's would hide ours
		property(&m, "PIDs", "au", func() { m.array(4, func() { m.uint32(uint32(pid)) }) })
	})
	m.array(8, func() {}) // no further units
	return m.b
}

func property(m *marshal, name, signature string, value func()) {
	m.align(8)
	m.str(name)
	m.signature(signature)
	value()
}

// bus is a connection to a message bus or to systemd itself.
type bus struct {
	fd     int
	serial uint32
}

// dialBus connects and authenticates. The path may come from the environment, so whoever listens must be us or root.
func dialBus(socket string, uid int) (*bus, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	c := &bus{fd: fd}
	if err := c.greet(socket, uid); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return c, nil
}

func (c *bus) greet(socket string, uid int) error {
	timeout := unix.NsecToTimeval(int64(patience))
	_ = unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout)
	_ = unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout)
	if err := unix.Connect(c.fd, &unix.SockaddrUnix{Name: socket}); err != nil {
		return fmt.Errorf("connect to %q: %w", socket, err)
	}
	peer, err := unix.GetsockoptUcred(c.fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || peer.Uid != 0 && int(peer.Uid) != uid {
		return fmt.Errorf("%q does not belong to us", socket)
	}
	if err := c.send([]byte("\x00AUTH EXTERNAL " + hex.EncodeToString([]byte(strconv.Itoa(uid))) + "\r\n")); err != nil {
		return err
	}
	// One byte at a time: what follows the line is not ours to take.
	var line []byte
	for !strings.HasSuffix(string(line), "\r\n") && len(line) < 512 {
		var b [1]byte
		if err := c.receive(b[:]); err != nil {
			return err
		}
		line = append(line, b[0])
	}
	if !strings.HasPrefix(string(line), "OK ") {
		return fmt.Errorf("%q refused us: %q", socket, line)
	}
	return c.send([]byte("BEGIN\r\n"))
}

// call waits for the answer and returns the error in it, if it is one. Signals that come meanwhile are dropped.
func (c *bus) call(destination, path, iface, member, signature string, body []byte) error {
	c.serial++
	if err := c.send(message(c.serial, destination, path, iface, member, signature, body)); err != nil {
		return err
	}
	for range 1000 {
		r, err := c.reply()
		if err != nil {
			return fmt.Errorf("%s: %w", member, err)
		}
		if r.serial != c.serial || r.kind != methodReturn && r.kind != methodError {
			continue
		}
		if r.kind == methodError {
			return fmt.Errorf("%s: %s: %s", member, r.error, r.text)
		}
		return nil
	}
	return fmt.Errorf("%s was not answered", member)
}

func (c *bus) reply() (reply, error) {
	head := make([]byte, headerSize)
	if err := c.receive(head); err != nil {
		return reply{}, err
	}
	fields, body, err := lengths(head)
	if err != nil {
		return reply{}, err
	}
	rest := make([]byte, (fields+7)/8*8+body)
	if err := c.receive(rest); err != nil {
		return reply{}, err
	}
	return parseReply(append(head, rest...))
}

func (c *bus) send(b []byte) error {
	for len(b) > 0 {
		n, err := unix.SendmsgN(c.fd, b, nil, nil, unix.MSG_NOSIGNAL)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func (c *bus) receive(b []byte) error {
	for len(b) > 0 {
		n, err := unix.Read(c.fd, b)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return fmt.Errorf("no answer within %v", patience)
		case err != nil:
			return err
		case n == 0:
			return errors.New("connection closed")
		}
		b = b[n:]
	}
	return nil
}
