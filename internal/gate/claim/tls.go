package claim

import (
	"errors"
	"fmt"
	"strings"

	"casemate.dev/internal/policy"
)

// Numbers of RFC 8446 and RFC 6066.
const (
	recordHandshake = 22
	clientHello     = 1
	extServerName   = 0
	nameOfHost      = 0

	maxFragment = 1 << 14
)

// strayRecord says whether b begins with a TLS record that is no handshake, as far as can be seen: a change of ciphers, an alert, data or a heartbeat.
// Go's servers pass over an alert that is only a warning, and read the hello behind it.
func strayRecord(b []byte) bool {
	return b[0] >= 20 && b[0] <= 24 && b[0] != recordHandshake && (len(b) < 2 || b[1] == 3) && (len(b) < 3 || b[2] <= 4)
}

// oldHello says whether a server that still knows SSL 2's record would read b as a hello of SSL 3 or TLS (RFC 5246, E.2), as far as can be seen. A
// first byte of 255 is telnet's; no such hello is that long.
func oldHello(b []byte) bool {
	return b[0]&0x80 != 0 && b[0] != 0xff && (len(b) < 3 || b[2] == clientHello) && (len(b) < 4 || b[3] == 3) && (len(b) < 5 || b[4] <= 4)
}

// readHello reads a ClientHello that may be spread over records. It is strict: what is not exactly the grammar of RFC 8446, 4.1.2 is an error, because a
// server might read another name out of it than we do.
func readHello(b []byte) (Claim, int, error) {
	c := Claim{Protocol: TLS}
	msg, need, err := handshake(b)
	if err != nil || need > 0 {
		return c, need, err
	}
	ext, err := extensions(msg)
	if err != nil {
		return c, 0, err
	}
	seen := map[uint16]bool{}
	for len(ext) > 0 {
		kind, rest, ok := number(ext)
		body, after, ok2 := vector16(rest)
		if !ok || !ok2 {
			return c, 0, errors.New("the TLS hello ends within an extension")
		}
		if seen[kind] {
			return c, 0, fmt.Errorf("the TLS hello has extension %d twice", kind)
		}
		seen[kind] = true
		if kind == extServerName {
			name, err := serverName(body)
			if err != nil {
				return c, 0, err
			}
			c.Hosts = []Host{{Name: name}}
		}
		ext = after
	}
	return c, 0, nil
}

// handshake puts the first handshake message together. It may not share its last record with another one.
func handshake(b []byte) (msg []byte, need int, err error) {
	for off := 0; ; {
		rest := b[off:]
		switch {
		case len(rest) > 0 && rest[0] != recordHandshake:
			return nil, 0, fmt.Errorf("a TLS record of type %d interrupts the hello", rest[0])
		case len(rest) > 1 && rest[1] != 3:
			return nil, 0, fmt.Errorf("the TLS record has version %d", rest[1])
		case len(rest) < 5:
			return nil, off + 5, nil
		}
		n := int(rest[3])<<8 | int(rest[4])
		if n == 0 || n > maxFragment {
			return nil, 0, fmt.Errorf("a TLS record of the hello has %d bytes", n)
		}
		if len(rest) < 5+n {
			return nil, off + 5 + n, nil
		}
		msg = append(msg, rest[5:5+n]...)
		off += 5 + n
		if msg[0] != clientHello {
			return nil, 0, fmt.Errorf("the first TLS message is of type %d and no hello", msg[0])
		}
		if len(msg) < 4 {
			continue
		}
		switch whole := 4 + int(msg[1])<<16 + int(msg[2])<<8 + int(msg[3]); {
		case whole > Max:
			return nil, 0, fmt.Errorf("the TLS hello has %d bytes", whole)
		case len(msg) > whole:
			return nil, 0, errors.New("something follows the TLS hello in its record")
		case len(msg) == whole:
			return msg[4:], 0, nil
		}
	}
}

// extensions goes past what stands before them.
func extensions(b []byte) ([]byte, error) {
	if len(b) < 2+32 || b[0] != 3 {
		return nil, errors.New("the TLS hello has no version and no random bytes")
	}
	b = b[2+32:]
	session, b, ok := vector8(b)
	if !ok || len(session) > 32 {
		return nil, errors.New("the TLS hello has a bad session id")
	}
	suites, b, ok := vector16(b)
	if !ok || len(suites) < 2 || len(suites)%2 != 0 {
		return nil, errors.New("the TLS hello has bad cipher suites")
	}
	methods, b, ok := vector8(b)
	if !ok || len(methods) == 0 {
		return nil, errors.New("the TLS hello has bad compression methods")
	}
	if len(b) == 0 {
		return nil, nil
	}
	ext, b, ok := vector16(b)
	if !ok || len(b) > 0 {
		return nil, errors.New("the TLS hello has bad extensions")
	}
	return ext, nil
}

// serverName wants one name of a host, which is all that RFC 6066 lets a client send in practice.
func serverName(b []byte) (string, error) {
	list, rest, ok := vector16(b)
	if !ok || len(rest) > 0 || len(list) < 1 || list[0] != nameOfHost {
		return "", errors.New("the TLS hello has a bad server name")
	}
	raw, rest, ok := vector16(list[1:])
	if !ok || len(rest) > 0 || len(raw) == 0 {
		return "", errors.New("the TLS hello has a bad server name, or several")
	}
	text := string(raw)
	if strings.HasSuffix(text, ".") {
		return "", fmt.Errorf("the server name %q of the TLS hello ends with a dot (RFC 6066 forbids it)", text)
	}
	return policy.NormalizeHost(text)
}

func number(b []byte) (n uint16, rest []byte, ok bool) {
	if len(b) < 2 {
		return 0, nil, false
	}
	return uint16(b[0])<<8 | uint16(b[1]), b[2:], true
}

func vector8(b []byte) (v, rest []byte, ok bool) {
	if len(b) < 1 || len(b) < 1+int(b[0]) {
		return nil, nil, false
	}
	return b[1 : 1+b[0]], b[1+b[0]:], true
}

func vector16(b []byte) (v, rest []byte, ok bool) {
	n, rest, ok := number(b)
	if !ok || len(rest) < int(n) {
		return nil, nil, false
	}
	return rest[:n], rest[n:], true
}
