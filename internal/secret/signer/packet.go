package signer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The messages of an agent (draft-ietf-sshm-ssh-agent) that are understood here. All others are answered with failure.
const (
	msgFailure          = 5
	msgSuccess          = 6
	msgRequestKeys      = 11
	msgKeys             = 12
	msgSign             = 13
	msgSigned           = 14
	msgExtension        = 27
	msgExtensionFailure = 28
)

const (
	sessionBind = "session-bind@openssh.com" // PROTOCOL.agent of OpenSSH
	hostBound   = "publickey-hostbound-v00@openssh.com"
	sshsig      = "SSHSIG" // how a signature of data begins (PROTOCOL.sshsig)
)

// maxMessage is how long a message from inside may be: OpenSSH's own bound.
const maxMessage = 256 << 10

// MaxSessionID is longer than any hash of a key exchange.
const maxSessionID = 128

var errShort = errors.New("it ends too early")

// readMessage reads one, without its length. It allocates what has come and not what was announced.
func readMessage(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > maxMessage {
		return nil, fmt.Errorf("a message cannot be %d bytes long", n)
	}
	m, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err == nil && len(m) < int(n) {
		err = io.ErrUnexpectedEOF
	}
	return m, err
}

// framed is a message with its length.
func framed(m []byte) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(m))), m...) }

// fields are what is left of a message to read (RFC 4251, section 5).
type fields struct {
	rest []byte
	err  error
}

func (f *fields) bytes(n int) []byte {
	if f.err != nil || n > len(f.rest) {
		f.err = errShort
		return nil
	}
	b := f.rest[:n]
	f.rest = f.rest[n:]
	return b
}

func (f *fields) octet() byte {
	if b := f.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (f *fields) number() uint32 {
	if b := f.bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (f *fields) text() []byte {
	n := f.number()
	if f.err != nil || uint64(n) > uint64(len(f.rest)) {
		f.err = errShort
		return nil
	}
	return f.bytes(int(n))
}

// end is the error of all that was read, and of what follows it.
func (f *fields) end() error {
	if f.err == nil && len(f.rest) > 0 {
		return errors.New("something follows it")
	}
	return f.err
}

// binding is what a client says of the session that it is about to log in by.
type binding struct {
	hostKey, session, signature []byte
	forwarded                   bool
}

func parseBinding(contents []byte) (b binding, err error) {
	f := fields{rest: contents}
	b.hostKey, b.session, b.signature = f.text(), f.text(), f.text()
	b.forwarded = f.octet() != 0
	if err = f.end(); err == nil && (len(b.session) == 0 || len(b.session) > maxSessionID) {
		err = errors.New("its session has no id")
	}
	return b, err
}

// request is what a client wants signed.
type request struct {
	key, data []byte
	flags     uint32
}

func parseRequest(contents []byte) (r request, err error) {
	f := fields{rest: contents}
	r.key, r.data = f.text(), f.text()
	r.flags = f.number()
	return r, f.end()
}

// userauth is what a server checks a signature of (RFC 4252, section 7).
type userauth struct {
	session                  []byte
	user, service, algorithm string
	key                      []byte
	hostKey                  []byte // nil: the method does not name it
}

func parseUserauth(data []byte) (u userauth, err error) {
	const isRequest = 50 // SSH_MSG_USERAUTH_REQUEST
	f := fields{rest: data}
	u.session = f.text()
	kind := f.octet()
	u.user, u.service = string(f.text()), string(f.text())
	method, signed := string(f.text()), f.octet()
	u.algorithm, u.key = string(f.text()), f.text()
	if method == hostBound {
		u.hostKey = f.text()
	}
	switch err = f.end(); {
	case err != nil:
	case kind != isRequest || signed != 1 || method != "publickey" && method != hostBound:
		err = errors.New("it is no request to log in with a key")
	case u.service != "ssh-connection":
		err = errors.New("it is no request for a connection of ssh")
	}
	return u, err
}

// word is a text from inside as it may be written down.
func word(s string, most int) string {
	if len(s) > most {
		s = s[:most]
	}
	out := []byte(s)
	for i, c := range out {
		if c <= ' ' || c >= 0x7f {
			out[i] = '?'
		}
	}
	return string(out)
}
