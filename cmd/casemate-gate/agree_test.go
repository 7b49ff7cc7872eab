package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"

	"casemate.dev/internal/gate/wire"
)

// TestTLSNamesItsHost: a TLS client reaches the host it looked up and no other one at the same address.
func TestTLSNamesItsHost(t *testing.T) {
	outside.name("a.example.com", "203.0.113.5")
	config := &tls.Config{Certificates: []tls.Certificate{certificate(t)}}
	outside.serve(t, "203.0.113.5:443", func(c *net.TCPConn) {
		s := tls.Server(c, config)
		io.Copy(s, s)
		s.CloseWrite()
	})
	b := open(t, rulesOf(allow("a.example.com", 443)))
	talk := func(first, name string) error {
		raw := b.dial("a.example.com", 443, v4)
		if raw == nil {
			t.Fatal("reset before it began")
		}
		if _, err := io.WriteString(raw, first); err != nil {
			return err
		}
		c := tls.Client(raw, &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if _, err := io.WriteString(c, "ping"); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 4))
		return err
	}
	for _, name := range []string{"a.example.com", "A.EXAMPLE.COM"} {
		if err := talk("", name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, why := range map[string]string{
		"evil.example.com": "the client names evil.example.com in its TLS hello, and a.example.com:443 was looked up",
		"":                 "the client names no host in its TLS hello, and a.example.com was looked up",
	} {
		if err := talk("", name); err == nil {
			t.Errorf("%q is reached", name)
		}
		denied := b.await(why, func(r wire.Record) bool { return r.Verdict == wire.Denied && r.Why == why })
		if denied.Name != "a.example.com" || denied.Sent != 0 {
			t.Errorf("%+v", denied)
		}
	}
	if talk("\x15\x03\x01\x00\x02\x01\x5a", "evil.example.com") == nil { // Go's servers pass over a warning
		t.Error("evil.example.com is reached behind a warning")
	}
}

func certificate(t *testing.T) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestHTTPNamesItsHost: the same for a request without TLS, on any port. The server would serve every host.
func TestHTTPNamesItsHost(t *testing.T) {
	outside.name("a.example.com", "203.0.113.5")
	outside.serve(t, "203.0.113.5:8080", func(c *net.TCPConn) {
		buf := make([]byte, 4096)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			if strings.Contains(string(buf[:n]), "\r\n\r\n") {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				return
			}
		}
	})
	b := open(t, rulesOf(allow("a.example.com", 8080)))
	for request, reached := range map[string]bool{
		"GET / HTTP/1.1\r\nHost: a.example.com:8080\r\n\r\n":                                 true,
		"GET http://a.example.com/ HTTP/1.1\r\nHost: a.example.com\r\n\r\n":                  true,
		"GET / HTTP/1.1\r\nHost: evil.example.com\r\n\r\n":                                   false,
		"GET http://evil.example.com/ HTTP/1.1\r\nHost: a.example.com\r\n\r\n":               false,
		"CONNECT evil.example.com:443 HTTP/1.1\r\nHost: a.example.com\r\n\r\n":               false,
		"GET / HTTP/1.1\r\nHost: a.example.com\r\nHost: evil.example.com\r\n\r\n":            false,
		"\r\nGET / HTTP/1.1\r\nX:\r\n Host: evil.example.com\r\nHost: a.example.com\r\n\r\n": false,
	} {
		c := b.dial("a.example.com", 8080, v4)
		if !reached {
			refused(t, c, request)
			continue
		}
		io.WriteString(c, request[:10])
		io.WriteString(c, request[10:])
		if answer, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200") {
			t.Errorf("%q: %q %v", request, answer, err)
		}
	}
}

// TestAddressAndHost: behind an address that a rule names any host is reached, but for those that a rule denies.
func TestAddressAndHost(t *testing.T) {
	outside.serve(t, "203.0.113.5:80", echo)
	b := open(t, wire.Rules{Allow: []wire.Allow{allow("203.0.113.5", 80)}, Deny: []string{"evil.example.com"}})
	c := b.dial("203.0.113.5", 80, v4)
	request := "GET / HTTP/1.1\r\nHost: some.example.com\r\n\r\n"
	io.WriteString(c, request)
	if _, err := io.ReadFull(c, make([]byte, len(request))); err != nil {
		t.Error(err)
	}
	refused(t, b.dial("203.0.113.5", 80, v4), "GET / HTTP/1.1\r\nHost: evil.example.com\r\n\r\n")
}
