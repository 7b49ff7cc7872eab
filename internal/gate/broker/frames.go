package broker

import (
	"encoding/binary"
	"errors"
	"io"
)

// frames reads the frames of one direction of a WebSocket (RFC 6455, 5.2), and gives what they carry to use, piece by piece and unmasked. It changes
// nothing but what use changes. Extensions are not agreed upon through the gate, so what is carried is not compressed.
type frames struct {
	masked bool // by a client's, and only by those
	use    func(payload []byte, control bool) error

	head    []byte
	left    uint64
	mask    [4]byte
	at      int // bytes of the payload so far, for the mask
	control bool
}

var errFrame = errors.New("a frame of the WebSocket is not in order")

// next reads the next bytes.
func (f *frames) next(p []byte) error {
	for len(p) > 0 {
		if f.left > 0 {
			n := int(min(f.left, uint64(len(p))))
			if err := f.payload(p[:n]); err != nil {
				return err
			}
			f.left, p = f.left-uint64(n), p[n:]
			continue
		}
		f.head, p = append(f.head, p[0]), p[1:]
		if err := f.begin(); err != nil {
			return err
		}
	}
	return nil
}

// begin looks whether the head is complete.
func (f *frames) begin() error {
	if len(f.head) < 2 {
		return nil
	}
	code, length := f.head[0]&0xf, uint64(f.head[1]&0x7f)
	f.control = code >= 8
	if f.head[0]&0x70 != 0 || code > 2 && code < 8 || code > 10 || f.head[1]&0x80 != 0 != f.masked || f.control && (length > 125 || f.head[0]&0x80 == 0) {
		return errFrame
	}
	need := 2
	switch length {
	case 126:
		need += 2
	case 127:
		need += 8
	}
	digits := need
	if f.masked {
		need += 4
	}
	if len(f.head) < need {
		return nil
	}
	switch length {
	case 126:
		length = uint64(binary.BigEndian.Uint16(f.head[2:]))
	case 127:
		if length = binary.BigEndian.Uint64(f.head[2:]); length>>63 != 0 {
			return errFrame
		}
	}
	f.mask = [4]byte{}
	if f.masked {
		f.mask = [4]byte(f.head[digits:])
	}
	f.left, f.at, f.head = length, 0, f.head[:0]
	return nil
}

func (f *frames) payload(p []byte) error {
	f.turn(p)
	err := f.use(p, f.control)
	f.at -= len(p)
	f.turn(p)
	return err
}

// turn masks, or unmasks.
func (f *frames) turn(p []byte) {
	if f.masked {
		for i := range p {
			p[i] ^= f.mask[(f.at+i)&3]
		}
	}
	f.at += len(p)
}

// tunnel is a WebSocket's way to its host. A placeholder in what is sent ends it; a value in what comes back is overwritten.
type tunnel struct {
	io.ReadWriteCloser
	there, back frames
	leaked      func(*Leak)
	leak        error
}

// Tunnel wraps the connection to the host. leaked is told of what was found, in both directions.
func (b *Broker) Tunnel(c io.ReadWriteCloser, leaked func(*Leak)) io.ReadWriteCloser {
	t := &tunnel{ReadWriteCloser: c, leaked: leaked}
	data, control := b.Prints.Search(), b.Prints.Search()
	t.there = frames{masked: true, use: func(p []byte, isControl bool) error {
		search := data // a message may be in several frames, with others between them
		if isControl {
			search = control
		}
		if found, ok := search.Next(p); ok {
			return &Leak{Found: found, Where: "a frame of the WebSocket"}
		}
		return nil
	}}
	dataBlot, controlBlot := b.Prints.Blot(), b.Prints.Blot()
	t.back = frames{use: func(p []byte, isControl bool) error {
		blot := dataBlot
		if isControl {
			blot = controlBlot
		}
		blot.Next(p)
		return nil
	}}
	return t
}

// Write is what the client sends.
func (t *tunnel) Write(p []byte) (int, error) {
	if t.leak == nil {
		t.leak = t.there.next(p)
		var l *Leak
		if errors.As(t.leak, &l) {
			t.leaked(l)
		}
	}
	if t.leak != nil {
		t.Close() // the other direction ends as well
		return 0, t.leak
	}
	return t.ReadWriteCloser.Write(p)
}

// Read is what the host sends. What is no frame ends it, as nothing can be found in it.
func (t *tunnel) Read(p []byte) (int, error) {
	n, err := t.ReadWriteCloser.Read(p)
	if bad := t.back.next(p[:n]); bad != nil {
		t.Close()
		return 0, bad
	}
	return n, err
}
