package limits

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// This is as much of D-Bus as one method call needs (https://dbus.freedesktop.org/doc/dbus-specification.html). The library would bring
// package net, reflection and their inits into every sandbox start, and a program such as busctl may not be there.

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

// marshal writes little-endian D-Bus values, aligned to the start of b.
type marshal struct{ b []byte }

func (m *marshal) align(n int) {
	for len(m.b)%n != 0 {
		m.b = append(m.b, 0)
	}
}

func (m *marshal) uint32(v uint32) {
	m.align(4)
	m.b = binary.LittleEndian.AppendUint32(m.b, v)
}

func (m *marshal) uint64(v uint64) {
	m.align(8)
	m.b = binary.LittleEndian.AppendUint64(m.b, v)
}

func (m *marshal) str(s string) {
	m.uint32(uint32(len(s)))
	m.b = append(append(m.b, s...), 0)
}

func (m *marshal) signature(s string) {
	m.b = append(append(append(m.b, byte(len(s))), s...), 0)
}

// array writes its length, which counts neither itself nor the padding before the first element.
func (m *marshal) array(align int, elements func()) {
	m.uint32(0)
	at := len(m.b)
	m.align(align)
	start := len(m.b)
	elements()
	binary.LittleEndian.PutUint32(m.b[at-4:], uint32(len(m.b)-start))
}

const (
	methodCall   = 1
	methodReturn = 2
	methodError  = 3

	fieldPath, fieldInterface, fieldMember, fieldError, fieldReply, fieldDestination, fieldSignature = 1, 2, 3, 4, 5, 6, 8
)

// message is a whole method call.
func message(serial uint32, destination, path, iface, member, signature string, body []byte) []byte {
	m := marshal{[]byte{'l', methodCall, 0, 1}}
	m.uint32(uint32(len(body)))
	m.uint32(serial)
	m.array(8, func() {
		for _, f := range []struct {
			code      byte
			signature string
			value     string
		}{{fieldPath, "o", path}, {fieldInterface, "s", iface}, {fieldMember, "s", member}, {fieldDestination, "s", destination}, {fieldSignature, "g", signature}} {
			if f.value == "" {
				continue
			}
			m.align(8)
			m.b = append(m.b, f.code)
			m.signature(f.signature)
			if f.signature == "g" {
				m.signature(f.value)
			} else {
				m.str(f.value)
			}
		}
	})
	m.align(8)
	return append(m.b, body...)
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

// reply is what matters of a message that came in.
type reply struct {
	kind   byte
	serial uint32 // of the call that it answers
	error  string
	text   string // the first string of an error's body
}

const (
	headerSize = 16
	maxMessage = 1 << 20 // the specification allows 128 MiB; no answer to us is near that
)

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

var errMalformed = errors.New("malformed D-Bus message")

// order is the byte order that a message says it has.
func order(head []byte) binary.ByteOrder {
	switch head[0] {
	case 'l':
		return binary.LittleEndian
	case 'B':
		return binary.BigEndian
	}
	return nil
}

// lengths reads the sizes of the header fields and of the body.
func lengths(head []byte) (fields, body int, err error) {
	if len(head) < headerSize || order(head) == nil || head[3] != 1 {
		return 0, 0, errMalformed
	}
	f, b := order(head).Uint32(head[12:]), order(head).Uint32(head[4:])
	if f > maxMessage || b > maxMessage {
		return 0, 0, errMalformed
	}
	return int(f), int(b), nil
}

// parseReply reads a whole message. It comes from a process of our own user or root, but is bounded at every step all the same.
func parseReply(msg []byte) (reply, error) {
	fields, body, err := lengths(msg)
	start := headerSize + (fields+7)/8*8
	if err != nil || len(msg) != start+body {
		return reply{}, errMalformed
	}
	r, signature := reply{kind: msg[1]}, ""
	for u := (unmarshal{b: msg[:headerSize+fields], at: headerSize, order: order(msg)}); u.at < len(u.b); {
		u.align(8)
		code := u.byte()
		switch kind := u.signature(); {
		case kind == "u" && code == fieldReply:
			r.serial = u.uint32()
		case kind == "u":
			u.uint32()
		case kind == "g" && code == fieldSignature:
			signature = u.signature()
		case kind == "g":
			u.signature()
		case (kind == "s" || kind == "o") && code == fieldError:
			r.error = u.str()
		case kind == "s" || kind == "o":
			u.str()
		default:
			u.bad = true
		}
		if u.bad {
			return reply{}, errMalformed
		}
	}
	if strings.HasPrefix(signature, "s") {
		u := unmarshal{b: msg[start:], order: order(msg)}
		if r.text = u.str(); u.bad {
			return reply{}, errMalformed
		}
	}
	return r, nil
}

// unmarshal reads D-Bus values; once something does not fit, bad is set and all further values are empty.
type unmarshal struct {
	b     []byte
	at    int
	order binary.ByteOrder
	bad   bool
}

func (u *unmarshal) take(n int) []byte {
	if u.bad || n < 0 || n > len(u.b)-u.at {
		u.bad = true
		return nil
	}
	u.at += n
	return u.b[u.at-n : u.at]
}

func (u *unmarshal) align(n int) { u.take((n - u.at%n) % n) }

func (u *unmarshal) byte() byte {
	if b := u.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (u *unmarshal) uint32() uint32 {
	u.align(4)
	if b := u.take(4); b != nil {
		return u.order.Uint32(b)
	}
	return 0
}

func (u *unmarshal) str() string {
	n := u.uint32()
	if n > maxMessage {
		u.bad = true
	}
	return u.text(int(n))
}

func (u *unmarshal) signature() string { return u.text(int(u.byte())) }

func (u *unmarshal) text(n int) string {
	b := u.take(n)
	if end := u.take(1); u.bad || end[0] != 0 {
		u.bad = true
		return ""
	}
	return string(b)
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
