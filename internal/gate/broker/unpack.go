package broker

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

// maxUnpacked is how much of a compressed body is looked through: a small one can stand for terabytes.
const maxUnpacked = 256 << 20

// Brotli and zstd look far back, and whoever compresses says how far: as much is held for each stream. Brotli ends at 16 MiB (RFC 7932, 9.1), and zstd in HTTP
// at 8 (RFC 9659); what asks for more is not undone. So few of them are at work at once, and the others wait for them.
const (
	maxWindow    = 8 << 20
	widelyAtOnce = 8
)

var (
	errUnknown = errors.New("a coding that is not read here")
	errCrowded = fmt.Errorf("more than %d bodies in brotli or zstd at once, and none of them has ended in %v", widelyAtOnce, patience)
)

// codingOf is a Content-Encoding in its one spelling (RFC 9110, 8.4.1).
func codingOf(text string) string {
	text = strings.ToLower(strings.TrimSpace(text))
	if text == "x-gzip" {
		return "gzip"
	}
	return text
}

func readable(coding string) bool {
	return coding == "gzip" || coding == "deflate" || wide(coding)
}

func wide(coding string) bool { return coding == "br" || coding == "zstd" }

// unpack undoes a coding. What it returns is to be closed.
func unpack(coding string, r io.Reader) (io.ReadCloser, error) {
	switch coding {
	case "gzip":
		return gzip.NewReader(r)
	case "deflate": // that is zlib's form, and some send the bare one
		b := bufio.NewReader(r)
		if head, err := b.Peek(2); err == nil && head[0]&0xf == 8 && (int(head[0])<<8|int(head[1]))%31 == 0 {
			return zlib.NewReader(b)
		}
		return flate.NewReader(b), nil
	case "br":
		return io.NopCloser(brotli.NewReader(r)), nil
	case "zstd":
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(maxWindow), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	return nil, errUnknown
}

// room waits until a stream in that coding may be undone. done is called when it has been.
func (b *Broker) room(ctx context.Context, coding string) (done func(), err error) {
	if !wide(coding) {
		return func() {}, nil
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case b.widely <- struct{}{}:
		return sync.OnceFunc(func() { <-b.widely }), nil
	case <-late.C:
		return nil, errCrowded
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// unpacker searches what a compressed stream holds, in step with the stream: when next returns, everything that could be undone has been searched.
type unpacker struct {
	in   chan []byte
	want chan struct{} // closed, or has a value: the next piece is wanted
	done chan struct{}
	rest []byte

	found Found
	ok    bool
	ended bool
}

// newUnpacker begins one. done is called when it has ended.
func newUnpacker(coding string, s *Search, done func()) *unpacker {
	u := &unpacker{in: make(chan []byte), want: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(u.done)
		defer done()
		u.run(coding, s)
	}()
	select {
	case <-u.want:
	case <-u.done:
	}
	return u
}

func (u *unpacker) run(coding string, s *Search) {
	plain, err := unpack(coding, u)
	if err != nil {
		return
	}
	defer plain.Close()
	buf := make([]byte, 16<<10)
	for left := maxUnpacked; left > 0; {
		n, err := plain.Read(buf)
		if u.found, u.ok = s.Next(buf[:n]); u.ok || err != nil {
			return
		}
		left -= n
	}
}

// Read is the decoder's.
func (u *unpacker) Read(p []byte) (int, error) {
	if len(u.rest) == 0 {
		u.want <- struct{}{}
		piece, ok := <-u.in
		if !ok {
			return 0, io.EOF
		}
		u.rest = piece
	}
	n := copy(p, u.rest)
	u.rest = u.rest[n:]
	return n, nil
}

// next gives it the next bytes, and returns when it is done with them.
func (u *unpacker) next(p []byte) (Found, bool) {
	if len(p) > 0 && !u.ended {
		select {
		case u.in <- p:
			select {
			case <-u.want:
			case <-u.done:
			}
		case <-u.done:
		}
	}
	return u.result()
}

// end has it look through what it may have kept.
func (u *unpacker) end() (Found, bool) {
	if !u.ended {
		u.ended = true
		close(u.in)
		for open := true; open; {
			select {
			case <-u.want: // it asks again, and is told of the end again
			case <-u.done:
				open = false
			}
		}
	}
	return u.result()
}

// result is what was found, once its goroutine has ended; before, nothing was.
func (u *unpacker) result() (Found, bool) {
	select {
	case <-u.done:
		return u.found, u.ok
	default:
		return Found{}, false
	}
}
