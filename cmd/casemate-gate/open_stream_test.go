package main

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"casemate.dev/internal/gate/wire"
)

// TestEvents: each event of a stream arrives before the next one is made.
func TestEvents(t *testing.T) {
	next := make(chan int)
	outside.site(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for n := range next {
			fmt.Fprintf(w, "data: %d\n\n", n)
			w.(http.Flusher).Flush()
			if n == 4 {
				return
			}
		}
	})
	both(t, func(t *testing.T, h2 bool) {
		b := open(t, rulesOf(some([]string{"GET"}, "/events")))
		go func() { next <- 0 }()
		answer, err := b.client(h2).Get("https://api.example.com/events")
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		lines := bufio.NewReader(answer.Body)
		for n := range 5 {
			if line, err := lines.ReadString('\n'); err != nil || line != fmt.Sprintf("data: %d\n", n) {
				t.Fatalf("%q %v", line, err)
			}
			lines.ReadString('\n')
			if n < 4 {
				next <- n + 1
			}
		}
	})
}

// TestBothWays: requests and answers go on at the same time, and trailers arrive in both directions, announced and not, as gRPC needs.
func TestBothWays(t *testing.T) {
	outside.site(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		for lines := bufio.NewScanner(r.Body); lines.Scan(); {
			fmt.Fprintf(w, "echo %s\n", lines.Text())
			w.(http.Flusher).Flush()
		}
		w.Header().Set("Grpc-Status", "0")
		w.Header().Set(http.TrailerPrefix+"Grpc-Message", r.Trailer.Get("X-Sum")+" "+r.Header.Get("Te"))
	})
	both(t, func(t *testing.T, h2 bool) {
		b := open(t, rulesOf(some([]string{"POST"}, "/echo.Echo/*")))
		out, in := io.Pipe()
		r, err := http.NewRequest("POST", "https://api.example.com/echo.Echo/Stream", out)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Te", "trailers")
		r.Trailer = http.Header{"X-Sum": nil}
		answer, err := b.client(h2).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		lines := bufio.NewReader(answer.Body)
		for n := range 20 {
			fmt.Fprintf(in, "%d\n", n)
			if line, err := lines.ReadString('\n'); err != nil || line != fmt.Sprintf("echo %d\n", n) {
				t.Fatalf("%q %v", line, err)
			}
		}
		r.Trailer.Set("X-Sum", "190")
		in.Close()
		if rest, err := io.ReadAll(lines); err != nil || len(rest) > 0 {
			t.Errorf("%q %v", rest, err)
		}
		if answer.Trailer.Get("Grpc-Status") != "0" || answer.Trailer.Get("Grpc-Message") != "190 trailers" {
			t.Errorf("trailers %v", answer.Trailer)
		}
	})
}

// TestManyStreams: requests on one connection of HTTP/2 do not wait for each other, and a denied one harms none of them.
func TestManyStreams(t *testing.T) {
	all := make(chan struct{})
	waiting := make(chan struct{}, 50)
	outside.site(t, func(w http.ResponseWriter, r *http.Request) {
		waiting <- struct{}{}
		<-all
		say(w, r)
	})
	b := open(t, rulesOf(some([]string{"GET"}, "/ok/*")))
	c := b.client(true)
	get(t, c, "GET", "https://api.example.com/denied", "") // so that there is one connection
	done := make(chan string, 50)
	for n := range 50 {
		go func() {
			answer, err := c.Get(fmt.Sprintf("https://api.example.com/ok/%d", n))
			if err != nil {
				done <- err.Error()
				return
			}
			defer answer.Body.Close()
			text, _ := io.ReadAll(answer.Body)
			done <- string(text)
		}()
	}
	for range 50 {
		<-waiting
	}
	if status, _ := get(t, c, "DELETE", "https://api.example.com/ok/1", ""); status != 403 {
		t.Error(status)
	}
	close(all)
	for range 50 {
		if text := <-done; !strings.HasPrefix(text, "GET api.example.com /ok/") {
			t.Errorf("%q", text)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	opened := 0
	for _, r := range b.records {
		if r.Verdict == wire.Opened {
			opened++
		}
	}
	if opened != 1 {
		t.Errorf("%d connections", opened)
	}
}

// TestContinue: a client that asks whether its body is wanted hears the host's answer, not the gate's.
func TestContinue(t *testing.T) {
	read := make(chan string, 1)
	outside.site(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		text, _ := io.ReadAll(r.Body)
		read <- string(text)
		io.WriteString(w, "thanks")
	})
	b := open(t, rulesOf(some([]string{"PUT"})))
	c := b.client(false)
	for _, path := range []string{"/yes", "/no"} {
		body := &watchedBody{Reader: strings.NewReader("a long body")}
		r, _ := http.NewRequest("PUT", "https://api.example.com"+path, body)
		r.Header.Set("Expect", "100-continue")
		told := false
		r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{Got100Continue: func() { told = true }}))
		answer, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		switch path {
		case "/yes":
			if got := <-read; !told || answer.StatusCode != 200 || string(text) != "thanks" || got != "a long body" {
				t.Errorf("%v %d %q %q", told, answer.StatusCode, text, got)
			}
		case "/no":
			if told || answer.StatusCode != 401 || body.read {
				t.Errorf("%v %d %v", told, answer.StatusCode, body.read)
			}
		}
	}
}

type watchedBody struct {
	io.Reader
	read bool
}

func (b *watchedBody) Read(p []byte) (int, error) {
	b.read = true
	return b.Reader.Read(p)
}

func (b *watchedBody) Close() error { return nil }

// TestEarlyHints: what a server says before its answer arrives before it.
func TestEarlyHints(t *testing.T) {
	heard := make(chan struct{})
	outside.site(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		<-heard
		w.WriteHeader(200)
	})
	b := open(t, rulesOf(some([]string{"GET"})))
	r, _ := http.NewRequest("GET", "https://api.example.com/", nil)
	answer, err := b.client(true).Do(r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			if code == http.StatusEarlyHints && h.Get("Link") != "" {
				close(heard)
			}
			return nil
		},
	})))
	if err != nil || answer.StatusCode != 200 {
		t.Errorf("%v %v", answer, err)
	}
}

// shake asks for a WebSocket by hand.
func shake(t *testing.T, c net.Conn, path, upgrade string) *http.Response {
	t.Helper()
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: api.example.com\r\nConnection: keep-alive, Upgrade\r\nUpgrade: %s\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", path, upgrade)
	answer, err := http.ReadResponse(bufio.NewReaderSize(one{c}, 16), nil)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// one reads byte by byte, so that nothing of what follows is lost.
type one struct{ io.Reader }

func (o one) Read(p []byte) (int, error) { return o.Reader.Read(p[:1]) }

// upgrades answers an upgrade with an echo of whatever follows, and anything else with say.
func upgrades(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") == "" {
		say(w, r)
		return
	}
	c, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nSec-WebSocket-Accept: %s\r\n\r\nfirst", r.Header.Get("Upgrade"), base64.StdEncoding.EncodeToString(sum[:]))
	io.Copy(c, rw)
}

// TestWebSocket: a request that is allowed may become one, and then bytes move both ways; nothing else is upgraded.
func TestWebSocket(t *testing.T) {
	outside.site(t, upgrades, func(s *http.Server) {
		p := new(http.Protocols)
		p.SetHTTP1(true)
		s.Protocols = p
	})
	b := open(t, rulesOf(some([]string{"GET"}, "/chat")))
	c := b.secure("http/1.1")
	answer := shake(t, c, "/chat", "websocket")
	if answer.StatusCode != 101 || answer.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("%+v", answer)
	}
	if got, err := io.ReadAll(io.LimitReader(c, 5)); string(got) != "first" {
		t.Fatalf("%q %v", got, err)
	}
	for _, text := range []string{"\x81\x85masked", "GET /admin HTTP/1.1\r\n\r\n", strings.Repeat("\x00", 100000)} {
		go io.WriteString(c, text)
		got := make([]byte, len(text))
		if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
			t.Fatalf("%.30q %v", got, err)
		}
	}
	c.Close()
	b.await("the end", func(r wire.Record) bool { return r.Verdict == wire.Closed && r.Allowed == 1 && r.Sent > 100000 })
	if answer := shake(t, b.secure("http/1.1"), "/other", "websocket"); answer.StatusCode != 403 {
		t.Errorf("another path: %+v", answer)
	}
	if answer := shake(t, b.secure("http/1.1"), "/chat", "h2c"); answer.StatusCode != 200 {
		t.Errorf("another protocol: %+v", answer)
	}
}

// TestHalfOfAConnection: a client without TLS that has said everything still gets the whole answer.
func TestHalfOfAConnection(t *testing.T) {
	begin := make(chan struct{})
	outside.web(t, func(w http.ResponseWriter, r *http.Request) {
		<-begin
		w.Write(make([]byte, 1<<20))
	})
	rule := allow("api.example.com", 80)
	rule.Methods = []string{"GET"}
	b := open(t, rulesOf(rule))
	c := b.dial("api.example.com", 80, v4)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n")
	c.CloseWrite()
	time.AfterFunc(100*time.Millisecond, func() { close(begin) }) // so that the gate hears the end before
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, answer.Body); n != 1<<20 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// TestServerEnds: a client hears when its server's connection ends, and its next request finds another one.
func TestServerEnds(t *testing.T) {
	outside.site(t, say, func(s *http.Server) { s.IdleTimeout = time.Second })
	both(t, func(t *testing.T, h2 bool) {
		b := open(t, rulesOf(some([]string{"GET", "POST"})))
		c := b.client(h2)
		for n := range 2 {
			if status, text := get(t, c, "POST", "https://api.example.com/", "body"); status != 200 {
				t.Errorf("%d %q", status, text)
			}
			closed := map[uint64]bool{}
			b.await("the end of the connection", func(r wire.Record) bool {
				if r.Verdict == wire.Closed {
					closed[r.ID] = true
				}
				return len(closed) > n
			})
		}
	})
}
