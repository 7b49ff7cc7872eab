package limits

import (
	"encoding/binary"
	"errors"
	"strings"
)

// This is as much of D-Bus as one method call needs (https://dbus.freedesktop.org/doc/dbus-specification.html). The library would bring
// package net, reflection and their inits into every sandbox start, and a program such as busctl may not be there.

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
