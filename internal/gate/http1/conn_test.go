package http1

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"casemate.dev/internal/gate/claim"
)

func about(c claim.Claim) error { return c.Agree("a.example", 80) }

// pieces is a connection that gives its bytes a few at a time.
type pieces struct {
	net.Conn
	text io.Reader
	size int
}

func (p *pieces) Read(b []byte) (int, error)      { return p.text.Read(b[:min(len(b), p.size)]) }
func (p *pieces) SetReadDeadline(time.Time) error { return nil }

func over(text string, size int) *Conn {
	return New(&pieces{text: strings.NewReader(text), size: size}, nil, about, time.Minute, false)
}

// TestInOrder: what is in order arrives byte for byte, however it is cut, and one request after the other.
func TestInOrder(t *testing.T) {
	text := "GET /a HTTP/1.1\r\nHost: a.example\r\n\r\n" +
		"POST /b HTTP/1.1\r\nhost: a.example:80\r\nContent-Length: 5\r\n\r\nhello" +
		"POST /c HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: Chunked\r\n\r\n5;x=y\r\nhello\r\n00\r\nX-Sum: 1\r\nX-More:\t2\r\n\r\n" +
		"POST /d HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\r\r\n0\r\n\r\n" +
		"GET http://a.example/e?x=%0d HTTP/1.0\r\nHost: a.example\r\nContent-Length: 0\r\n\r\n"
	for _, size := range []int{1, 2, 3, 7, 1000} {
		c := over(text, size)
		got, err := io.ReadAll(c)
		if err != nil || string(got) != text || c.Refusal() != nil {
			t.Errorf("%d bytes at a time: %q, %v, %v", size, got, err, c.Refusal())
		}
	}
	c := over("\r\n\r\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n\r\n", 1)
	if got, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(got), "GET") || c.Refusal() != nil {
		t.Errorf("empty lines: %q %v", got, err)
	}
}

// TestRefused: none of these reaches a server's code. Each first comes after a request that is in order, which does.
func TestRefused(t *testing.T) {
	const host = "Host: a.example\r\n"
	for name, c := range map[string]struct {
		request, why string
		status       int
	}{
		"length and chunks":      {"POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "twice", 400},
		"chunks and length":      {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "twice", 400},
		"two lengths":            {"POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "twice", 400},
		"length 0 and chunks":    {"POST / HTTP/1.1\r\n" + host + "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "twice", 400},
		"a list of lengths":      {"POST / HTTP/1.1\r\n" + host + "Content-Length: 5, 5\r\n\r\nhello", "Content-Length", 400},
		"a signed length":        {"POST / HTTP/1.1\r\n" + host + "Content-Length: +5\r\n\r\nhello", "Content-Length", 400},
		"no length":              {"POST / HTTP/1.1\r\n" + host + "Content-Length:\r\n\r\nhello", "Content-Length", 400},
		"a huge length":          {"POST / HTTP/1.1\r\n" + host + "Content-Length: 99999999999999999999\r\n\r\nhello", "Content-Length", 400},
		"another coding":         {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n", "Transfer-Encoding", 400},
		"a disguised coding":     {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: \x0bchunked\r\n\r\n", "control", 400},
		"chunks in HTTP/1.0":     {"POST / HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.0", 400},
		"two hosts":              {"GET / HTTP/1.1\r\n" + host + host + "\r\n", "2 Host", 400},
		"no host":                {"GET / HTTP/1.1\r\n\r\n", "0 Host", 400},
		"another host":           {"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", "names evil.example", 421},
		"another port":           {"GET / HTTP/1.1\r\nHost: a.example:81\r\n\r\n", "names a.example:81", 421},
		"another target":         {"GET http://evil.example/ HTTP/1.1\r\n" + host + "\r\n", "names evil.example", 421},
		"a target with a user":   {"GET http://a.example@evil.example/ HTTP/1.1\r\n" + host + "\r\n", "not a host", 400},
		"a tunnel":               {"CONNECT evil.example:443 HTTP/1.1\r\n" + host + "\r\n", "names evil.example", 421},
		"a folded line":          {"GET / HTTP/1.1\r\n" + host + "X: a\r\n b\r\n\r\n", "ambiguous", 400},
		"a blank before a colon": {"GET / HTTP/1.1\r\n" + host + "Content-Length : 5\r\n\r\n", "ambiguous", 400},
		"a bare line feed":       {"GET / HTTP/1.1\r\n" + host + "X: a\nY: b\r\n\r\n", "control", 400},
		"bare line feeds only":   {"GET / HTTP/1.1\nHost: a.example\n\n\r\n\r\n", "control", 400},
		"a carriage return":      {"GET / HTTP/1.1\r\n" + host + "X: a\rY: b\r\n\r\n", "control", 400},
		"NUL":                    {"GET / HTTP/1.1\r\n" + host + "X: a\x00\r\n\r\n", "control", 400},
		"a bad name":             {"GET / HTTP/1.1\r\n" + host + "X(: a\r\n\r\n", "ambiguous", 400},
		"HTTP/2":                 {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "no request line", 400},
		"another version":        {"GET / HTTP/1.2\r\n" + host + "\r\n", "ambiguous", 400},
		"no version":             {"GET /\r\n" + host + "\r\n", "no request line", 400},
		"two blanks":             {"GET  / HTTP/1.1\r\n" + host + "\r\n", "ambiguous", 400},
		"not HTTP":               {"\x00\x01\x02\r\n\r\n", "control", 400},
		"a long head":            {"GET / HTTP/1.1\r\n" + host + "X: " + strings.Repeat("a", Max) + "\r\n\r\n", "longer than", 400},
	} {
		const before = "GET /first HTTP/1.1\r\nHost: a.example\r\n\r\n"
		for _, size := range []int{1, 1000} {
			conn := over(before+c.request+"GET /after HTTP/1.1\r\nHost: a.example\r\n\r\n", size)
			got, err := io.ReadAll(conn)
			if want := before + RefusedMethod + " / HTTP/1.1\r\nHost: refused\r\n\r\n"; err != nil || string(got) != want {
				t.Errorf("%s: %q, %v", name, got, err)
			}
			if r := conn.Refusal(); r == nil || !strings.Contains(r.Error(), c.why) || r.Status != c.status {
				t.Errorf("%s: %+v", name, r)
			}
		}
	}
}

// TestBrokenBodies: what follows a body that is not in order never comes to be read as a request.
func TestBrokenBodies(t *testing.T) {
	const head = "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n"
	const next = "GET /next HTTP/1.1\r\nHost: a.example\r\n\r\n"
	for name, body := range map[string]string{
		"no size":           "\r\nhello\r\n0\r\n\r\n",
		"a bad size":        "0x5\r\nhello\r\n0\r\n\r\n",
		"a negative size":   "-1\r\nhello\r\n0\r\n\r\n",
		"a huge size":       "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
		"a blank":           "5 \r\nhello\r\n0\r\n\r\n",
		"a bare line feed":  "5\nhello\n0\n\n",
		"a long extension":  "5;" + strings.Repeat("a", maxSize) + "\r\nhello\r\n0\r\n\r\n",
		"a longer chunk":    "5\r\nhello!\r\n0\r\n\r\n",
		"a shorter chunk":   "5\r\nhell\r\n0\r\n\r\n",
		"a length trailer":  "0\r\nContent-Length: 5\r\n\r\n",
		"a host trailer":    "0\r\nhost: evil\r\n\r\n",
		"a bad trailer":     "0\r\nX Y: 5\r\n\r\n",
		"a folded trailer":  "0\r\nX: 5\r\n 6\r\n\r\n",
		"a bare trailer":    "0\r\nX: 5\nY: 6\r\n\r\n",
		"too many trailers": "0\r\n" + strings.Repeat("X: 5\r\n", 5000) + "\r\n",
		"an early end":      "5\r\nhe",
	} {
		rest := next
		if name == "an early end" {
			rest = ""
		}
		got, err := io.ReadAll(over(head+body+rest, 5))
		if err == nil || strings.Contains(string(got), "/next") {
			t.Errorf("%s: %q", name, got)
		}
	}
	got, err := io.ReadAll(over(head+"5\r\nhello\r\n0\r\n\r\n"+next, 5))
	if err != nil || !strings.HasSuffix(string(got), next) {
		t.Errorf("the control: %q, %v", got, err)
	}
	if got, err := io.ReadAll(over("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 10\r\n\r\nhello", 5)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("an early end: %q, %v", got, err)
	}
}

func pair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	client, server = net.Pipe()
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// TestHalfClose: the client's end is heard when what it asked for is answered, or the server wants to know no more.
func TestHalfClose(t *testing.T) {
	for _, hold := range []bool{false, true} {
		client, server := pair(t)
		c := New(server, nil, about, time.Minute, hold)
		go func() {
			io.WriteString(client, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
			client.Close()
		}()
		if _, err := http.ReadRequest(bufio.NewReaderSize(c, 16)); err != nil {
			t.Fatal(err)
		}
		heard := make(chan error)
		go func() {
			_, err := c.Read(make([]byte, 1))
			heard <- err
		}()
		if hold {
			select {
			case err := <-heard:
				t.Fatalf("it is heard at once: %v", err)
			case <-time.After(50 * time.Millisecond):
			}
			c.SetReadDeadline(time.Unix(1, 0)) // as net/http stops its reader
			if err := <-heard; !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
			c.SetReadDeadline(time.Time{})
			c.Answered()
			if _, err := c.Read(make([]byte, 1)); err != io.EOF {
				t.Error(err)
			}
		} else if err := <-heard; err != io.EOF {
			t.Error(err)
		}
	}
}

// TestSlowHead: who begins a head must go on; between requests there is the server's time.
func TestSlowHead(t *testing.T) {
	client, server := pair(t)
	c := New(server, nil, about, 50*time.Millisecond, false)
	go io.WriteString(client, "GET / HTTP/1.1\r\n")
	got := make([]byte, 1000)
	n, err := c.Read(got)
	if r := c.Refusal(); err != nil || !strings.HasPrefix(string(got[:n]), RefusedMethod) || r == nil || r.Status != http.StatusRequestTimeout {
		t.Errorf("%q, %v, %v", got[:n], err, r)
	}
	client, server = pair(t)
	c = New(server, nil, about, 20*time.Millisecond, false)
	c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := c.Read(got); !errors.Is(err, os.ErrDeadlineExceeded) || c.Refusal() != nil {
		t.Errorf("%q, %v, %v", got[:n], err, c.Refusal())
	}
	go func() {
		io.WriteString(client, "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n")
		time.Sleep(60 * time.Millisecond) // what is tested: longer than a head may take
		io.WriteString(client, "0\r\n\r\n")
	}()
	c.SetReadDeadline(time.Time{})
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r.Body); err != nil {
		t.Errorf("a slow body: %v", err)
	}
}

// TestRaw: after a change of protocol everything passes, what was read already too.
func TestRaw(t *testing.T) {
	c := over("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n\x00\x01\n\n\x02", 1000)
	if _, err := http.ReadRequest(bufio.NewReaderSize(c, 16)); err != nil {
		t.Fatal(err)
	}
	c.Raw()
	if got, err := io.ReadAll(c); err != nil || string(got) != "\x00\x01\n\n\x02" {
		t.Errorf("%q, %v", got, err)
	}
}

// FuzzConn: net/http finds as many requests as were passed on, all of them for this host, whatever comes and however it is cut.
func FuzzConn(f *testing.F) {
	for _, seed := range []string{
		"GET / HTTP/1.1\r\nHost: a.example\r\n\r\nGET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: 1\r\n\r\nGET / HTTP/1.0\r\nHost: a.example\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
	} {
		f.Add([]byte(seed), 3)
	}
	f.Fuzz(func(t *testing.T, text []byte, size int) {
		if size < 1 {
			return
		}
		c := New(&pieces{text: bytes.NewReader(text), size: size}, nil, about, time.Minute, false)
		in := bufio.NewReader(c)
		requests := int32(0)
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				break
			}
			requests++
			if r.Method == RefusedMethod && c.Refusal() != nil {
				break
			}
			if host, err := claim.Authority(r.Host); err != nil || host.Name != "a.example" {
				t.Fatalf("a request for %q", r.Host)
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				break
			}
		}
		if passed := c.inFlight.Load(); requests > passed {
			t.Errorf("%d requests are read, %d were passed on", requests, passed)
		}
		if _, err := c.Read(make([]byte, 10)); err != nil && strings.HasPrefix(fmt.Sprint(err), "bug") {
			t.Error(err)
		}
	})
}
