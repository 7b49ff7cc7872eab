package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"casemate.dev/internal/gate/keeper"
	"casemate.dev/internal/gate/wire"
)

// zeros gives so many of them.
func zeros(n int64) io.Reader { return io.LimitReader(zero{}, n) }

type zero struct{}

func (zero) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestLargeBodies: a gibibyte goes through, and the gate does not grow with it.
func TestLargeBodies(t *testing.T) {
	var size int64
	outside.site(t, func(w http.ResponseWriter, r *http.Request) {
		if n, err := io.Copy(io.Discard, r.Body); r.Method == "POST" {
			fmt.Fprintln(w, n, err)
			return
		}
		io.Copy(w, zeros(size))
	})
	both(t, func(t *testing.T, h2 bool) {
		if size = 1 << 30; h2 {
			size >>= 2
		}
		b := open(t, rulesOf(some([]string{"GET", "POST"})))
		c := b.client(h2)
		get(t, c, "POST", "https://api.example.com/", "warm")
		before, peak := b.memory(), 0
		answer, err := c.Get("https://api.example.com/")
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		var total int64
		for total < size {
			n, err := io.CopyN(io.Discard, answer.Body, min(size-total, 64<<20))
			peak = max(peak, b.memory())
			if total += n; err != nil {
				t.Fatalf("%d bytes, %v", total, err)
			}
		}
		const up = 128 << 20
		sent, err := c.Post("https://api.example.com/", "application/octet-stream", struct{ io.Reader }{zeros(up)}) // of no known length
		if err != nil {
			t.Fatal(err)
		}
		defer sent.Body.Close()
		peak = max(peak, b.memory())
		if text, _ := io.ReadAll(sent.Body); string(text) != fmt.Sprintln(up, nil) {
			t.Errorf("%q", text)
		}
		t.Logf("%d kB before, %d kB at most", before, peak)
		if peak > before+32<<10 {
			t.Errorf("memory grew from %d to %d kB", before, peak)
		}
	})
}

// TestSlowClients: 200 clients that do not read what they asked for hold little, and hold up nobody.
func TestSlowClients(t *testing.T) {
	outside.site(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/big" {
			io.Copy(w, zeros(1<<30))
		}
	})
	both(t, func(t *testing.T, h2 bool) {
		b := open(t, rulesOf(some([]string{"GET"})))
		get(t, b.client(h2), "GET", "https://api.example.com/", "")
		before := b.memory()
		for range 200 {
			answer, err := b.client(h2).Get("https://api.example.com/big")
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
		}
		if status, _ := get(t, b.client(h2), "GET", "https://api.example.com/", ""); status != 200 {
			t.Error(status)
		}
		after := b.memory()
		t.Logf("%d kB before, %d kB with 200 slow clients", before, after)
		if after > before+200*(1<<10) {
			t.Errorf("memory grew from %d to %d kB", before, after)
		}
	})
}

// TestHeadsAreBounded: a head that is too long, or does not go on, ends with an answer that says so.
func TestHeadsAreBounded(t *testing.T) {
	outside.site(t, say)
	b := open(t, rulesOf(some([]string{"GET"})))
	c := b.secure("http/1.1")
	go fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: api.example.com\r\nX: %s\r\n\r\n", strings.Repeat("a", 80<<10))
	if answer, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || answer.StatusCode != 400 {
		t.Errorf("%+v %v", answer, err)
	}
	r, _ := http.NewRequest("GET", "https://api.example.com/", nil)
	r.Header.Set("X", strings.Repeat("a", 200<<10))
	if answer, err := b.client(true).Do(r); err == nil && answer.StatusCode == 200 {
		t.Error("a long head over HTTP/2")
	}
	if status, _ := get(t, b.client(true), "GET", "https://api.example.com/", ""); status != 200 {
		t.Error(status)
	}
	limits := keeper.DefaultLimits()
	limits.Hello = 2 * time.Second
	slow := openWith(t, limits, rulesOf(some([]string{"GET"}))).secure("http/1.1")
	io.WriteString(slow, "GET / HTTP/1.1\r\nHost: api.exam")
	if answer, err := http.ReadResponse(bufio.NewReader(slow), nil); err != nil || answer.StatusCode != 408 {
		t.Errorf("%+v %v", answer, err)
	}
}

// TestManyOpened: there are so many opened connections and no more; those beyond are reset with a reason, and the gate goes on.
func TestManyOpened(t *testing.T) {
	outside.site(t, say)
	limits := keeper.DefaultLimits()
	limits.Hello = 5 * time.Minute // they ask for nothing until they are all there
	b := openWith(t, limits, rulesOf(some([]string{"GET"})))
	var held []*tls.Conn
	for len(held) < 256 {
		held = append(held, b.secure("http/1.1"))
	}
	if raw := b.dial("api.example.com", 443, v4); raw != nil {
		if err := tls.Client(raw, b.trusting()).Handshake(); err == nil {
			t.Error("one more")
		}
	}
	b.await("the limit", why("api.example.com", "which is as many as it may"))
	held[0].Close()
	for late := time.Now().Add(20 * time.Second); ; {
		raw := b.dial("api.example.com", 443, v4)
		if raw != nil && tls.Client(raw, b.trusting()).Handshake() == nil {
			return
		}
		if time.Now().After(late) {
			t.Fatal("none is served any more")
		}
	}
}

// TestGarbage: whatever comes after the handshake, from either side, the gate lives.
func TestGarbage(t *testing.T) {
	var turn atomic.Int32
	noise := rand.NewChaCha8([32]byte{})
	junk := func(n int) []byte {
		text := make([]byte, n)
		noise.Read(text)
		return text
	}
	outside.site(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/junk" {
			return
		}
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		defer c.Close()
		switch turn.Add(1) % 4 {
		case 0:
			c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"))
		case 1:
			c.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"))
		case 2:
			c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\nunasked"))
		}
		c.Write(bytes.Repeat([]byte{255, 0, 13, 10}, 1000))
	}, func(s *http.Server) {
		s.Protocols = new(http.Protocols)
		s.Protocols.SetHTTP1(true)
		s.Protocols.SetHTTP2(true)
	})
	b := open(t, rulesOf(some([]string{"GET"})))
	for n := range 60 {
		c := b.secure([]string{"h2", "http/1.1"}[n%2])
		switch n % 3 {
		case 0:
			c.Write(junk(20000))
		case 1:
			io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
			c.Write(junk(20000))
		case 2:
			io.WriteString(c, "GET /junk HTTP/1.1\r\nHost: api.example.com\r\n\r\n")
			c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			io.Copy(io.Discard, c)
		}
		c.Close()
	}
	if status, _ := get(t, b.client(true), "GET", "https://api.example.com/", ""); status != 200 {
		t.Error(status)
	}
	select {
	case <-b.finished:
		t.Error("the gate ended")
	default:
	}
}

// TestOpenedAddress: a rule may be about an address, whose certificate names it.
func TestOpenedAddress(t *testing.T) {
	outside.site(t, say)
	rule := some([]string{"GET"})
	rule.Host = "203.0.113.5"
	b := open(t, rulesOf(rule))
	c := b.client(true)
	c.Transport.(*http.Transport).TLSClientConfig.ServerName = ""
	if status, text := get(t, c, "GET", "https://203.0.113.5/x", ""); status != 200 || text != "GET 203.0.113.5 /x 0\n" {
		t.Errorf("%d %q", status, text)
	}
	if status, _ := get(t, c, "POST", "https://203.0.113.5/x", ""); status != 403 {
		t.Error(status)
	}
}

// TestRepeatedDenials: what is denied over and over is told once a second.
func TestRepeatedDenials(t *testing.T) {
	outside.site(t, say)
	b := open(t, rulesOf(some([]string{"GET"})))
	c := b.client(true)
	for range 300 {
		get(t, c, "POST", "https://api.example.com/x", "")
	}
	b.await("the sum", func(r wire.Record) bool { return r.Verdict == wire.Denied && r.Times > 1 && r.Method == "POST" })
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.records) > 30 {
		t.Errorf("%d records", len(b.records))
	}
}
