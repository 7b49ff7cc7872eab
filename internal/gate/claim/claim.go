// Package claim reads, from the first bytes of a connection, which host its client says it talks to.
package claim

import (
	"fmt"
	"strconv"
	"strings"

	"casemate.dev/internal/policy"
)

// Max is how many bytes a client may need to say it.
const Max = 64 << 10

// Protocol is what the bytes are.
type Protocol int

const (
	Opaque Protocol = iota // neither: they name no host
	TLS
	HTTP
)

// Claim is what a client says. Of an encrypted TLS hello it is the outer name.
type Claim struct {
	Protocol Protocol
	Hosts    []Host // every mention; they need not agree
}

// Host is one mention of a host.
type Host struct {
	Name string // as policy.NormalizeHost writes it
	Port int    // 0 where none was said
}

// Read reads the first bytes that a client sent. need is how many there must be, in all, before it is worth asking again; 0 when c is the answer.
// ended says that no more will come. An error says what is wrong with bytes that some server might take for TLS or HTTP.
func Read(b []byte, ended bool) (c Claim, need int, err error) {
	if len(b) == 0 {
		return Claim{}, 1, nil
	}
	switch {
	case b[0] == recordHandshake:
		c, need, err = readHello(b)
	case strayRecord(b) && len(b) < 3:
		need = 3
	case strayRecord(b):
		return Claim{Protocol: TLS}, 0, fmt.Errorf("the client begins with a TLS record of type %d, which may hide a hello behind it", b[0])
	case oldHello(b) && len(b) < 5:
		need = 5
	case oldHello(b):
		return Claim{Protocol: TLS}, 0, fmt.Errorf("the client's hello is of SSL 2, which names no host")
	default:
		c, need, err = readRequest(b)
	}
	switch {
	case err != nil || need == 0:
		return c, 0, err
	case need > Max:
		return c, 0, fmt.Errorf("the client has not named its host within %d bytes", Max)
	case ended && c.Protocol == Opaque:
		return c, 0, nil
	case ended:
		return c, 0, fmt.Errorf("the client stopped before it had named its host")
	}
	return c, need, nil
}

// Agree says whether everything that was said is about one host and port, and that something was said at all where the protocol can.
func (c Claim) Agree(name string, port int) error {
	if c.Protocol == Opaque {
		return nil
	}
	if len(c.Hosts) == 0 {
		return fmt.Errorf("the client names no host in its %v, and %s was looked up", c.Protocol, name)
	}
	for _, h := range c.Hosts {
		if h.Name != name || h.Port != 0 && h.Port != port {
			return fmt.Errorf("the client names %s in its %v, and %s:%d was looked up", h, c.Protocol, name, port)
		}
	}
	return nil
}

func (p Protocol) String() string {
	switch p {
	case TLS:
		return "TLS hello"
	case HTTP:
		return "HTTP request"
	}
	return "bytes"
}

func (h Host) String() string {
	if h.Port == 0 {
		return h.Name
	}
	return h.Name + ":" + strconv.Itoa(h.Port)
}

// Authority reads host or host:port.
func Authority(text string) (Host, error) {
	host, port := text, ""
	if i := strings.LastIndexByte(text, ':'); i >= 0 && !strings.HasSuffix(text, "]") {
		host, port = text[:i], text[i+1:]
	}
	name, err := policy.NormalizeHost(host)
	if err != nil {
		return Host{}, err
	}
	if strings.Contains(name, ":") && !strings.HasPrefix(host, "[") {
		return Host{}, fmt.Errorf("%q is an IPv6 address without brackets", text)
	}
	if port == "" {
		return Host{Name: name}, nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || port[0] == '+' {
		return Host{}, fmt.Errorf("%q has no port after its colon", text)
	}
	return Host{Name: name, Port: int(n)}, nil
}
