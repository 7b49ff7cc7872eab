package broker

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"strings"
)

// maxUnpacked is how much of a compressed body is looked through: a small one can stand for terabytes.
const maxUnpacked = 256 << 20

var errUnknown = errors.New("a coding that is not read here")

// unpack undoes a Content-Encoding (RFC 9110, 8.4.1).
func unpack(coding string, r io.Reader) (io.ReadCloser, error) {
	switch strings.ToLower(strings.TrimSpace(coding)) {
	case "gzip", "x-gzip":
		return gzip.NewReader(r)
	case "deflate": // that is zlib's form, and some send the bare one
		b := bufio.NewReader(r)
		if head, err := b.Peek(2); err == nil && head[0]&0xf == 8 && (int(head[0])<<8|int(head[1]))%31 == 0 {
			return zlib.NewReader(b)
		}
		return flate.NewReader(b), nil
	}
	return nil, errUnknown
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

func newUnpacker(coding string, s *Search) *unpacker {
	if !readable(coding) {
		return nil
	}
	u := &unpacker{in: make(chan []byte), want: make(chan struct{}), done: make(chan struct{})}
	go u.run(coding, s)
	select {
	case <-u.want:
	case <-u.done:
	}
	return u
}

func readable(coding string) bool {
	switch strings.ToLower(strings.TrimSpace(coding)) {
	case "gzip", "x-gzip", "deflate":
		return true
	}
	return false
}

func (u *unpacker) run(coding string, s *Search) {
	defer close(u.done)
	plain, err := unpack(coding, u)
	if err != nil {
		return
	}
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
