package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"casemate.dev/internal/gate/wire"
)

// The authority that this world's machines trust.
var (
	worldKey         *ecdsa.PrivateKey
	worldCertificate *x509.Certificate
)

// makeAuthority makes it, and returns it as a file.
func makeAuthority() (string, error) {
	var err error
	if worldKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return "", err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the tests' world"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, worldKey.Public(), worldKey)
	if err != nil {
		return "", err
	}
	worldCertificate, err = x509.ParseCertificate(der)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), err
}

// signed is a certificate of the world's for these names or addresses.
func signed(t testing.TB, hosts ...string) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	for _, h := range hosts {
		if a, err := netip.ParseAddr(h); err == nil {
			template.IPAddresses = append(template.IPAddresses, a.AsSlice())
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, worldCertificate, worldKey.Public(), worldKey)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: worldKey}
}

// site serves HTTPS for api.example.com on 203.0.113.5:443, over HTTP/1.1 and HTTP/2. more changes the server before it starts.
func (w *world) site(t testing.TB, handle http.HandlerFunc, more ...func(*http.Server)) {
	t.Helper()
	w.name("api.example.com", "203.0.113.5")
	server := &http.Server{Handler: handle, ErrorLog: log.New(io.Discard, "", 0), TLSConfig: &tls.Config{Certificates: []tls.Certificate{signed(t, "api.example.com", "203.0.113.5")}}}
	for _, m := range more {
		m(server)
	}
	var l net.Listener
	var err error
	w.servers.do(func() { l, err = net.Listen("tcp", "203.0.113.5:443") })
	if err != nil {
		t.Fatal(err)
	}
	go server.ServeTLS(l, "", "")
	t.Cleanup(func() { server.Close() })
}

// web serves plain HTTP there, on port 80.
func (w *world) web(t testing.TB, handle http.HandlerFunc) {
	t.Helper()
	w.name("api.example.com", "203.0.113.5")
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: handle, ErrorLog: log.New(io.Discard, "", 0), Protocols: protocols}
	var l net.Listener
	var err error
	w.servers.do(func() { l, err = net.Listen("tcp", "203.0.113.5:80") })
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
}

// some allows single requests to api.example.com on port 443.
func some(methods []string, paths ...string) wire.Allow {
	a := allow("api.example.com", 443)
	a.Methods, a.Paths = methods, paths
	return a
}

// trusting is TLS as a program inside makes it.
func (b *box) trusting(protocols ...string) *tls.Config {
	b.t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(b.ready.Authority)) {
		b.t.Fatalf("no authority: %q", b.ready.Authority)
	}
	return &tls.Config{ServerName: "api.example.com", RootCAs: pool, NextProtos: protocols}
}

// client is a program inside that knows the gate's authority. Only HTTP/2 is spoken if h2, only HTTP/1.1 if not.
func (b *box) client(h2 bool) *http.Client {
	b.t.Helper()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!h2)
	protocols.SetHTTP2(h2)
	protocols.SetUnencryptedHTTP2(h2)
	t := &http.Transport{
		TLSClientConfig: b.trusting(), Protocols: protocols, DisableCompression: true, ExpectContinueTimeout: 20 * time.Second,
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerConnection: 128 << 10, MaxReceiveBufferPerStream: 128 << 10}, // what waits is the gate's
		DialContext: func(_ context.Context, _, at string) (net.Conn, error) {
			host, port, err := net.SplitHostPort(at)
			if err != nil {
				return nil, err
			}
			n, err := strconv.Atoi(port)
			if err != nil {
				return nil, err
			}
			c := b.dial(host, n, v4)
			if c == nil {
				return nil, net.ErrClosed
			}
			return c, c.SetDeadline(time.Now().Add(2 * time.Minute))
		},
	}
	b.t.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// secure is TLS to api.example.com, for those who speak for themselves.
func (b *box) secure(protocols ...string) *tls.Conn {
	b.t.Helper()
	raw := b.dial("api.example.com", 443, v4)
	if raw == nil {
		b.t.Fatal("reset before it began")
	}
	c := tls.Client(raw, b.trusting(protocols...))
	if err := c.Handshake(); err != nil {
		b.t.Fatal(err)
	}
	return c
}

// both runs a test over HTTP/1.1 and HTTP/2.
func both(t *testing.T, do func(t *testing.T, h2 bool)) {
	t.Run("HTTP 1", func(t *testing.T) { do(t, false) })
	t.Run("HTTP 2", func(t *testing.T) { do(t, true) })
}
