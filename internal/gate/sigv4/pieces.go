package sigv4

import (
	"bufio"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Bodies of which each piece is signed by itself, and linked to the one before (Amazon S3 API Reference, "Transferring Payload in Multiple Chunks" and
// "Signature calculations for trailing headers").
const (
	pieces        = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	piecesTrailer = pieces + "-TRAILER"
)

// A piece's signature stands before it, so a piece is held as a whole. S3 wants 8 KiB at least; programs send 64 KiB or 128 KiB.
const (
	MaxPiece   = 256 << 10
	maxLine    = 4 << 10
	maxTrailer = 16
)

// InPieces says whether the pieces of the body are signed.
func (w Way) InPieces() bool { return w.Payload == pieces || w.Payload == piecesTrailer }

// Pieces signs the pieces of a body anew. Its length stays the same.
type Pieces struct {
	signature *Signature
	trailer   bool
	in        *bufio.Reader
	old, new  chain
	held      []byte // the piece, from its first byte to its last
	ready     []byte // what of it is still to be read
	over      error
}

// chain is the key, and the signature of what came before.
type chain struct {
	key  Key
	last string
}

// ErrPiece is a body whose pieces are not what they should be.
type ErrPiece struct{ Why string }

func (e *ErrPiece) Error() string { return e.Why }

func bad(format string, args ...any) error { return &ErrPiece{fmt.Sprintf(format, args...)} }

// Pieces reads a body that was signed with the key old. first is the new signature of the request.
func (s *Signature) Pieces(body io.Reader, w Way, old Key, c Credential, first string) *Pieces {
	return &Pieces{signature: s, trailer: w.Payload == piecesTrailer, in: bufio.NewReaderSize(body, maxLine), old: chain{old, s.Hex}, new: chain{c.Key, first}}
}

func (p *Pieces) Read(b []byte) (int, error) {
	for len(p.ready) == 0 {
		if p.over != nil {
			return 0, p.over
		}
		p.ready, p.over = p.next()
	}
	n := copy(b, p.ready)
	p.ready = p.ready[n:]
	return n, nil
}

// next is the next piece. With the last one comes io.EOF.
func (p *Pieces) next() (out []byte, err error) {
	line, err := p.line()
	if err != nil {
		return nil, err
	}
	digits, signature, ok := strings.Cut(line, ";chunk-signature=")
	size, err := strconv.ParseUint(digits, 16, 32)
	if !ok || err != nil || size > MaxPiece {
		return nil, bad("a piece of its body begins with %.40q, and should with its length (%d bytes at most) and its signature", line, MaxPiece)
	}
	begin := len(line) + 2
	out = slices.Grow(append(append(p.held[:0], line...), "\r\n"...), int(size)+2)[:begin+int(size)+2]
	p.held = out
	if size == 0 && p.trailer { // that stands where the end of the piece would
		out = out[:begin]
	}
	if _, err := io.ReadFull(p.in, out[begin:]); err != nil {
		return nil, unfinished(err)
	}
	if end := out[begin:]; len(end) > 0 && string(end[size:]) != "\r\n" {
		return nil, bad("a piece of its body is longer than it says")
	}
	signed, err := p.link(signature, "PAYLOAD", Empty+"\n"+Hash(out[begin:begin+int(size)]))
	if err != nil {
		return nil, err
	}
	copy(out[begin-2-len(signed):], signed)
	if size > 0 {
		return out, nil
	}
	if p.trailer {
		end, err := p.trailers()
		if err != nil {
			return nil, err
		}
		out = append(out, end...)
	}
	if _, err := p.in.ReadByte(); err != io.EOF {
		return nil, bad("its body goes on after the last piece")
	}
	return out, io.EOF
}

// trailers are the fields after the last piece, and their signature. S3's documentation has them end in LF alone and an empty line after them, and some write
// it so.
func (p *Pieces) trailers() (out []byte, err error) {
	var fields strings.Builder
	for range maxTrailer {
		text, err := p.text()
		if err != nil {
			return nil, err
		}
		line := strings.TrimRight(text, "\r\n")
		if signature, ok := strings.CutPrefix(line, "x-amz-trailer-signature:"); ok {
			signed, err := p.link(signature, "TRAILER", Hash([]byte(fields.String())))
			if err != nil {
				return nil, err
			}
			if end, err := p.line(); err != nil || end != "" {
				return nil, bad("its body goes on after its trailer")
			}
			return append(out, strings.Replace(text, signature, signed, 1)+"\r\n"...), nil
		}
		if line != "" {
			fields.WriteString(line + "\n")
		}
		out = append(out, text...)
	}
	return nil, bad("its trailer has more than %d fields", maxTrailer)
}

// link holds a piece to its signature, and makes the new one.
func (p *Pieces) link(signature, kind, what string) (string, error) {
	of := func(c *chain) string {
		text := strings.Join([]string{algorithm + "-" + kind, p.signature.Time, p.signature.scope(), c.last, what}, "\n")
		c.last = hex.EncodeToString(mac(c.key[:], text))
		return c.last
	}
	if subtle.ConstantTimeCompare([]byte(of(&p.old)), []byte(signature)) != 1 {
		return "", bad("a piece of its body was not signed with the placeholder of the secret access key, or was changed since")
	}
	return of(&p.new), nil
}

// line reads one that ends in CR LF, which it leaves out.
func (p *Pieces) line() (string, error) {
	text, err := p.text()
	if err != nil {
		return "", err
	}
	line, ok := strings.CutSuffix(text, "\r\n")
	if !ok {
		return "", bad("a line between the pieces of its body does not end as it should")
	}
	return line, nil
}

// text reads a line with its end.
func (p *Pieces) text() (string, error) {
	text, err := p.in.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return "", bad("a line between the pieces of its body is longer than %d bytes", maxLine)
	case err != nil:
		return "", unfinished(err)
	}
	return string(text), nil
}

// unfinished is for a body that ends too early: as a body without an end, whoever sends it must not take it for whole.
func unfinished(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
