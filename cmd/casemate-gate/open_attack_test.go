package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"casemate.dev/internal/gate/keeper"
	"casemate.dev/internal/gate/wire"
)

// gullible is a server that finds a request in every line that begins like one, as the most lenient of all would.
type gullible struct {
	mu   sync.Mutex
	seen []string
}

func (g *gullible) serve(c net.Conn) {
	for lines := bufio.NewScanner(c); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if method, _, _ := strings.Cut(line, " "); method == "GET" || method == "POST" || method == "DELETE" {
			g.mu.Lock()
			g.seen = append(g.seen, line)
			g.mu.Unlock()
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(line), line)
		}
	}
}

func (g *gullible) saw(part string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, line := range g.seen {
		if strings.Contains(line, part) {
			return true
		}
	}
	return false
}

// TestSmuggling: no request reaches the server within or behind another one. The control sends the same bytes where the whole host is allowed.
func TestSmuggling(t *testing.T) {
	const hidden = "GET /admin HTTP/1.1\r\nHost: api.example.com\r\n\r\n"
	const host = "Host: api.example.com\r\n"
	attacks := map[string]string{
		"length before chunks":    "POST /v1/a HTTP/1.1\r\n" + host + fmt.Sprintf("Content-Length: %d\r\n", 5+len(hidden)) + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden,
		"chunks before length":    "POST /v1/a HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + hidden,
		"a disguised coding":      "POST /v1/a HTTP/1.1\r\n" + host + "Transfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + hidden,
		"a folded coding":         "POST /v1/a HTTP/1.1\r\n" + host + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + hidden,
		"two lengths":             "POST /v1/a HTTP/1.1\r\n" + host + "Content-Length: 0\r\nContent-Length: 44\r\n\r\n" + hidden,
		"the next request":        "GET /v1/a HTTP/1.1\r\n" + host + "\r\n" + hidden,
		"the body of a GET":       "GET /v1/a HTTP/1.1\r\n" + host + "\r\nGET /admin HTTP/1.1\r\nX: y\r\n\r\n",
		"a line feed in a field":  "GET /v1/a HTTP/1.1\r\n" + host + "X: y\n\nGET /admin HTTP/1.1\nHost: api.example.com\n\n\r\n\r\n",
		"a line feed in a path":   "GET /v1/a\nGET /admin HTTP/1.1\r\n" + host + "\r\n",
		"an old version":          "GET /v1/a HTTP/0.9\r\n\r\n" + hidden,
		"a chunk's extension":     "POST /v1/a HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n2;\nGET /admin HTTP/1.1\r\nxx\r\n0\r\n\r\n",
		"a shorter chunk":         "POST /v1/a HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n" + hidden,
		"a tunnel":                "CONNECT api.example.com:443 HTTP/1.1\r\n" + host + "\r\n" + hidden,
		"an upgrade to HTTP/2":    "GET /v1/a HTTP/1.1\r\n" + host + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n" + hidden,
		"a WebSocket that is not": "GET /v1/a HTTP/1.1\r\n" + host + "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 777\r\n\r\n" + hidden,
		"a dot segment":           "GET /v1/../admin HTTP/1.1\r\n" + host + "\r\n",
		"another host's target":   "GET http://api.example.com:80/admin HTTP/1.1\r\n" + host + "\r\n",
		"an opaque target":        "GET x:y://api.example.com/admin HTTP/1.1\r\n" + host + "\r\n",
	}
	var g gullible
	config := &tls.Config{Certificates: []tls.Certificate{signed(t, "api.example.com")}, NextProtos: []string{"http/1.1"}}
	outside.name("api.example.com", "203.0.113.5")
	outside.serve(t, "203.0.113.5:443", func(c *net.TCPConn) { g.serve(tls.Server(c, config)) })
	b := open(t, rulesOf(some([]string{"GET", "POST"}, "/v1/*")))
	send := func(b *box, c net.Conn, text string) {
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(c, text)
		io.WriteString(c, "GET /v1/last HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n")
		answers := bufio.NewReader(c)
		for range 10 { // until the gate closes, or the last one was answered
			answer, err := http.ReadResponse(answers, nil)
			if err != nil {
				return
			}
			body, _ := io.ReadAll(answer.Body)
			if strings.Contains(string(body), "/v1/last") {
				return
			}
		}
	}
	for name, text := range attacks {
		send(b, b.secure("http/1.1"), text)
		if g.saw("/admin") {
			t.Errorf("%s: it reached the server: %q", name, g.seen)
			g.seen = nil
		}
	}
	if !g.saw("/v1/a") {
		t.Error("nothing reached the server")
	}
	whole := open(t, rulesOf(allow("api.example.com", 443)))
	for name, text := range attacks {
		g.mu.Lock()
		g.seen = nil
		g.mu.Unlock()
		raw := whole.dial("api.example.com", 443, v4)
		c := tls.Client(raw, &tls.Config{ServerName: "api.example.com", InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
		send(whole, c, text)
		if !g.saw("/admin") {
			t.Errorf("%s: the control did not reach the server: %q", name, g.seen)
		}
	}
}

// TestNamesAgree: what a request says about its host is the host that was looked up, for each request.
func TestNamesAgree(t *testing.T) {
	outside.site(t, say)
	b := open(t, rulesOf(some([]string{"GET"})))
	c := b.secure("http/1.1")
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\nGET / HTTP/1.1\r\nHost: evil.example.com\r\n\r\n")
	answers := bufio.NewReader(c)
	for _, want := range []int{200, 421} {
		answer, err := http.ReadResponse(answers, nil)
		if err != nil || answer.StatusCode != want {
			t.Fatalf("%+v %v", answer, err)
		}
		io.Copy(io.Discard, answer.Body)
	}
	h2 := b.client(true)
	for host, want := range map[string]int{"api.example.com": 200, "API.example.com:443": 200, "evil.example.com": 421, "api.example.com:444": 421} {
		r, _ := http.NewRequest("GET", "https://api.example.com/", nil)
		r.Host = host
		answer, err := h2.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%s: %d", host, answer.StatusCode)
		}
	}
	b.await("the denial", func(r wire.Record) bool {
		return r.Verdict == wire.Denied && r.Method == "GET" && strings.Contains(r.Why, "names evil.example.com")
	})
	raw := b.dial("api.example.com", 443, v4)
	evil := b.trusting()
	evil.ServerName = "evil.example.com"
	if err := tls.Client(raw, evil).Handshake(); err == nil {
		t.Error("another name in the hello")
	}
	b.await("the denial", why("api.example.com", "names evil.example.com in its TLS hello"))
}

// TestDistrust: a program that does not take the gate's certificate ends with a record that says what to do.
func TestDistrust(t *testing.T) {
	outside.site(t, say)
	b := open(t, rulesOf(some([]string{"GET"})))
	pinned := b.trusting()
	pinned.VerifyPeerCertificate = func([][]byte, [][]*x509.Certificate) error { return fmt.Errorf("not the one that is pinned") }
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, config := range []*tls.Config{{ServerName: "api.example.com", RootCAs: x509.NewCertPool()}, pinned} {
			config = config.Clone()
			config.MaxVersion = version
			if err := tls.Client(b.dial("api.example.com", 443, v4), config).Handshake(); err == nil {
				t.Error("no error")
			}
		}
	}
	r := b.await("the reason", why("api.example.com", "does not accept certificates of the sandbox's authority"))
	if r.Verdict != wire.Failed || !strings.Contains(r.Why, "allow it without methods and paths") {
		t.Errorf("%+v", r)
	}
	smtp := b.trusting("smtp")
	if err := tls.Client(b.dial("api.example.com", 443, v4), smtp).Handshake(); err == nil {
		t.Error("another protocol")
	}
	b.await("the reason", why("api.example.com", `wants to speak ["smtp"]`))
}

// TestBadServers: what is wrong with a server is said to the program, in an answer of the gate's own.
func TestBadServers(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*http.Server)
		want   string
	}{
		"an unknown authority": {func(s *http.Server) { s.TLSConfig.Certificates = []tls.Certificate{certificate(t)} }, "certificate is not valid here"},
		"another name":         {func(s *http.Server) { s.TLSConfig.Certificates = []tls.Certificate{signed(t, "other.example.com")} }, "certificate is not valid here"},
		"old TLS": {func(s *http.Server) {
			s.TLSConfig.MinVersion, s.TLSConfig.MaxVersion = tls.VersionTLS11, tls.VersionTLS11
		}, "TLS handshake with the host"},
		"a client's certificate": {func(s *http.Server) { s.TLSConfig.ClientAuth = tls.RequireAnyClientCert }, "the host wants a certificate of the program's"},
		"the same in TLS 1.2": {func(s *http.Server) {
			s.TLSConfig.ClientAuth, s.TLSConfig.MaxVersion = tls.RequireAnyClientCert, tls.VersionTLS12
		}, "the host wants a certificate of the program's"},
	} {
		t.Run(name, func(t *testing.T) {
			outside.site(t, say, c.change)
			both(t, func(t *testing.T, h2 bool) {
				b := open(t, rulesOf(some([]string{"GET"})))
				client := b.client(h2)
				if status, text := get(t, client, "GET", "https://api.example.com/", ""); status != 502 || !strings.Contains(text, c.want) {
					t.Errorf("%d %q", status, text)
				}
				client.CloseIdleConnections()
				b.await("the reason", func(r wire.Record) bool { return r.Verdict == wire.Failed && strings.Contains(r.Why, c.want) })
			})
		})
	}
	outside.site(t, say, func(s *http.Server) { s.TLSConfig.ClientAuth = tls.RequestClientCert })
	b := open(t, rulesOf(some([]string{"GET"})))
	if status, text := get(t, b.client(true), "GET", "https://api.example.com/", ""); status != 200 {
		t.Errorf("a server that can do without: %d %q", status, text)
	}
}

// TestNeitherTLSNorHTTP: where only some requests are allowed, nothing else gets through, and a client that says nothing does not wait for long.
func TestNeitherTLSNorHTTP(t *testing.T) {
	outside.name("api.example.com", "203.0.113.5")
	outside.serve(t, "203.0.113.5:443", func(c *net.TCPConn) {
		io.WriteString(c, "220 I speak first\r\n")
		echo(c)
	})
	limits := keeper.DefaultLimits()
	limits.Hello = time.Second
	b := openWith(t, limits, rulesOf(some([]string{"GET"})))
	for _, say := range []string{"", "SSH-2.0-x\r\n", "\x00\x01\x02\x03", "EHLO x\r\n"} {
		refused(t, b.dial("api.example.com", 443, v4), say)
	}
	b.await("the denial", why("api.example.com", "neither TLS nor HTTP"))
	b.await("the denial", why("api.example.com", "in TLS or HTTP it would speak first"))
}

// TestRulesChangeUnderRequests: a request that is not allowed any more ends, its connection's next one is denied, and what is allowed goes on.
func TestRulesChangeUnderRequests(t *testing.T) {
	outside.site(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		if strings.HasSuffix(r.URL.Path, "/long") {
			<-r.Context().Done()
		}
	})
	both(t, func(t *testing.T, h2 bool) {
		b := open(t, rulesOf(some([]string{"GET"}, "/a/*"), some([]string{"GET"}, "/b/*")))
		c := b.client(h2)
		var bodies []io.Reader
		for _, path := range []string{"/a/long", "/b/long"} {
			answer, err := c.Get("https://api.example.com" + path)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			bodies = append(bodies, answer.Body)
		}
		b.send(wire.Message{Rules: rulesOf(some([]string{"GET"}, "/a/*"))}, nil)
		if _, err := io.ReadAll(bodies[1]); err == nil {
			t.Error("a request that is not allowed any more ended well")
		}
		r := b.await("its end", func(r wire.Record) bool { return r.Verdict == wire.Denied && r.Path == "/b/long" })
		if !strings.Contains(r.Why, "its rule holds no more") {
			t.Errorf("%+v", r)
		}
		if status, _ := get(t, c, "GET", "https://api.example.com/b/short", ""); status != 403 {
			t.Errorf("the next one: %d", status)
		}
		if status, _ := get(t, c, "GET", "https://api.example.com/a/short", ""); status != 200 {
			t.Errorf("an allowed one: %d", status)
		}
		until := some([]string{"GET"}, "/a/*")
		until.Until = time.Now().Add(300 * time.Millisecond)
		b.send(wire.Message{Rules: rulesOf(until)}, nil)
		if _, err := io.ReadAll(bodies[0]); err == nil {
			t.Error("a request whose rule ended ended well")
		}
	})
}

// TestWholeHostThenSome: a connection that was passed through ends when only some requests are allowed, because nobody sees what it asks.
func TestWholeHostThenSome(t *testing.T) {
	outside.name("api.example.com", "203.0.113.5")
	outside.serve(t, "203.0.113.5:443", echo)
	b := open(t, rulesOf(allow("api.example.com", 443), some([]string{"GET"})))
	c := b.dial("api.example.com", 443, v4)
	if err := ping(c); err != nil {
		t.Fatal(err)
	}
	b.send(wire.Message{Rules: rulesOf(some([]string{"GET"}))}, nil)
	refused(t, c, "")
	b.await("the end", why("api.example.com", "only some requests are allowed now"))
}
