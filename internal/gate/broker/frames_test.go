package broker

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// masked is a frame as a client's: of a text that goes on or ends, or a ping.
func masked(r *rand.Rand, code byte, payload []byte) []byte {
	b := []byte{code, 0x80 | byte(len(payload))}
	switch {
	case len(payload) > 1<<16-1 || r.IntN(4) == 0 && code < 8: // longer than it need be
		b = binary.BigEndian.AppendUint64([]byte{code, 0x80 | 127}, uint64(len(payload)))
	case len(payload) > 125:
		b = binary.BigEndian.AppendUint16([]byte{code, 0x80 | 126}, uint16(len(payload)))
	}
	key := binary.BigEndian.AppendUint32(nil, r.Uint32())
	b = append(b, key...)
	for i, c := range payload {
		b = append(b, c^key[i&3])
	}
	return b
}

// farHost keeps what reached the host.
type farHost struct {
	bytes.Buffer
	closed bool
}

func (w *farHost) Close() error {
	w.closed = true
	return nil
}

// FuzzFrames cuts text into frames with others between them, and those into reads: what is in the text is found, what is not there passes as it is, and what
// is no frame ends the connection.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("something "+theValue+" else"), uint64(1), false)
	f.Add([]byte(thePlaceholder), uint64(2), false)
	f.Add([]byte("nothing at all, over several frames, and a long one at that"), uint64(3), true)
	f.Fuzz(func(t *testing.T, text []byte, seed uint64, raw bool) {
		r := rand.New(rand.NewPCG(seed, 2))
		stream := text
		if !raw {
			stream = nil
			code := byte(1)
			pieces(r, text, func(piece []byte) {
				stream = append(stream, masked(r, code, piece)...)
				if code = 0; r.IntN(3) == 0 {
					stream = append(stream, masked(r, 0x89, []byte("ping"))...)
				}
			})
		}
		b := &Broker{Prints: prints()}
		var host farHost
		leaked := false
		tunnel := b.Tunnel(&host, func(*Leak) { leaked = true })
		var failed error
		pieces(r, stream, func(piece []byte) {
			before := bytes.Clone(piece)
			if _, err := tunnel.Write(piece); err != nil {
				failed = err
			} else if !bytes.Equal(before, piece) {
				t.Error("it changed what it passed on")
			}
		})
		if !raw && leaked != naive(text) {
			t.Errorf("found %v, want %v: %q", leaked, naive(text), text)
		}
		if (failed != nil) != host.closed || leaked && failed == nil {
			t.Errorf("leaked %v, failed %v, closed %v", leaked, failed, host.closed)
		}
		if failed == nil && !bytes.Equal(host.Bytes(), stream) {
			t.Errorf("%q became %q", stream, host.Bytes())
		}
		if !raw && !leaked && failed != nil {
			t.Errorf("frames in order end with %v", failed)
		}
	})
}
