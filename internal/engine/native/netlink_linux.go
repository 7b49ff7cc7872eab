package native

import (
	"encoding/binary"

	"casemate.dev/internal/engine/native/inside"
	"golang.org/x/sys/unix"
)

// netlinkMessages are requests for one netlink(7) socket, sent together. The kernel answers the last one, or before that the first that fails.
type netlinkMessages struct {
	bytes []byte
	start int // of the message that is being written
}

func native[T uint16 | uint32](b []byte, v T) []byte {
	switch v := any(v).(type) {
	case uint16:
		return binary.NativeEndian.AppendUint16(b, v)
	case uint32:
		return binary.NativeEndian.AppendUint32(b, v)
	}
	return b
}

func network16(b []byte, v uint16) []byte { return binary.BigEndian.AppendUint16(b, v) }
func network32(b []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(b, v) }

// begin starts a message: struct nlmsghdr, whose length end fills in.
func (b *netlinkMessages) begin(kind, flags uint16) {
	b.end()
	b.start = len(b.bytes)
	b.bytes = native(b.bytes, uint32(0))
	b.bytes = native(b.bytes, kind)
	b.bytes = native(b.bytes, unix.NLM_F_REQUEST|flags)
	b.bytes = native(b.bytes, uint32(b.start)) // a number of its own
	b.bytes = native(b.bytes, uint32(0))
}

func (b *netlinkMessages) end() {
	if len(b.bytes) > 0 {
		binary.NativeEndian.PutUint32(b.bytes[b.start:], uint32(len(b.bytes)-b.start))
	}
}

func (b *netlinkMessages) raw(v ...byte) { b.bytes = append(b.bytes, v...) }

// attr adds struct nlattr with its value.
func (b *netlinkMessages) attr(kind uint16, value []byte) {
	b.nest(kind, func() { b.raw(value...) })
}

func (b *netlinkMessages) nest(kind uint16, content func()) {
	start := len(b.bytes)
	b.bytes = native(b.bytes, uint16(0))
	b.bytes = native(b.bytes, kind)
	content()
	binary.NativeEndian.PutUint16(b.bytes[start:], uint16(len(b.bytes)-start))
	for len(b.bytes)%4 != 0 {
		b.raw(0)
	}
}

// answered asks for an answer to the message that is being written.
func (b *netlinkMessages) answered() {
	const flagsAt = 6
	flags := b.bytes[b.start+flagsAt:]
	binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
}

// ask sends requests and fails with the kernel's own error if one of them is refused.
func (p *program) ask(protocol int, requests []byte) {
	s := p.Get(unix.SYS_SOCKET, inside.Int(unix.AF_NETLINK), inside.Int(unix.SOCK_RAW|unix.SOCK_CLOEXEC), inside.Int(protocol))
	p.Call(unix.SYS_SENDTO, s.Arg(), p.Bytes(requests), inside.Int(len(requests)), zero, zero, zero)
	const size = 4096 // an error carries the request that it is about
	answer := p.Buffer(size)
	p.Call(unix.SYS_RECVFROM, s.Arg(), answer, inside.Int(size), inside.Int(unix.MSG_DONTWAIT), zero, zero)
	p.Answer(answer.Offset(unix.SizeofNlMsghdr))
}
