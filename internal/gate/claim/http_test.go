package claim

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"
)

func TestRequestAgrees(t *testing.T) {
	for _, text := range []string{
		"GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n",
		"GET / HTTP/1.0\r\nhOsT:A.Example.Com:8080 \r\n\r\n",
		"POST /x?y HTTP/1.1\r\nContent-Length: 3\r\nHost:\ta.example.com.\r\nX:\r\n\r\nabc",
		"GET http://a.example.com/x HTTP/1.1\r\nHost: a.example.com\r\n\r\n",
		"GET http://a.example.com:8080?x HTTP/1.1\r\n\r\n",
		"CONNECT a.example.com:8080 HTTP/1.1\r\nHost: a.example.com:8080\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: a.example.com\r\n\r\n",
		"\r\n\r\nGET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n",
		"GET / HTTP/1.1\nHost: a.example.com\n\n",
		"GET / HTTP/1.1\r\nHost: a.example.com\r\nHost: a.example.com\r\n\r\n",
	} {
		for n := range len(text) - len("\r\n\r\n") {
			if c, need, err := Read([]byte(text[:n]), false); err != nil || need == 0 && !strings.Contains(text, "\r\n\r\nabc") {
				t.Fatalf("%q: %v %d %v", text[:n], c, need, err)
			}
		}
		c, need, err := Read([]byte(text), false)
		if err != nil || need != 0 || c.Protocol != HTTP {
			t.Errorf("%q: %v %d %v", text, c, need, err)
		} else if err := c.Agree("a.example.com", 8080); err != nil {
			t.Errorf("%q: %v", text, err)
		} else if c.Agree("b.example.com", 8080) == nil {
			t.Errorf("%q agrees with another host", text)
		}
	}
}

// TestRequestRefused: another host, none, or a head in which some server might find another one.
func TestRequestRefused(t *testing.T) {
	for _, text := range []string{
		"GET / HTTP/1.1\r\nHost: evil.org\r\n\r\n",
		"GET / HTTP/1.1\r\n\r\n",
		"GET / HTTP/1.0\r\n\r\n",
		"GET / HTTP/1.1\r\nHost:\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.example.com\r\nHost: evil.org\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.example.com, evil.org\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.example.com@evil.org\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.example.com:81\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.example.com:\x2b8080\r\n\r\n",
		"GET / HTTP/1.1\r\nX: 1\r\n Host: evil.org\r\nHost: a.example.com\r\n\r\n",
		"GET / HTTP/1.1\r\nHost : evil.org\r\nHost: a.example.com\r\n\r\n",
		"GET / HTTP/1.1\r\nX: 1\rHost: evil.org\r\nHost: a.example.com\r\n\r\n",
		"GET / HTTP/1.1\r\nX: 1\nHost: evil.org\r\nHost: a.example.com\r\n\r\n",
		"GET / HTTP/1.1\r\nnothing\r\nHost: a.example.com\r\n\r\n",
		"GET http://evil.org/ HTTP/1.1\r\nHost: a.example.com\r\n\r\n",
		"GET http://a.example.com@evil.org/ HTTP/1.1\r\nHost: a.example.com\r\n\r\n",
		"GET http://a.example.com\\@evil.org/ HTTP/1.1\r\nHost: evil.org\r\n\r\n",
		"GET evil.org/ HTTP/1.1\r\nHost: a.example.com\r\n\r\n",
		"CONNECT evil.org:443 HTTP/1.1\r\nHost: a.example.com\r\n\r\n",
		"GET  / HTTP/1.1\r\nHost: a.example.com\r\n\r\n",
		"GET\t/ HTTP/1.1\r\nHost: evil.org\r\n\r\n",
		"GET / HTTP/1.1 \r\nHost: a.example.com\r\n\r\n",
		"GET / http/1.1\r\nHost: a.example.com\r\n\r\n",
		"GET / HTTP/1.2\r\nHost: a.example.com\r\n\r\n",
		" GET / HTTP/1.1\r\nHost: evil.org\r\n\r\n",
		"\r\n\tGET / HTTP/1.1\r\nHost: evil.org\r\n\r\n",
		"GET\v/ HTTP/1.1\r\nHost: evil.org\r\n\r\n",
		"GET /\fHTTP/1.1\r\nHost: evil.org\r\n\r\n",
		"GET\r/\rHTTP/1.1\r\nHost: evil.org\r\n\r\n",
		"GET /\x00 HTTP/1.1\r\nHost: evil.org\r\n\r\n",
		"GET /\x0b HTTP/1.1\r\nHost: a.example.com\r\n\r\n",
		"\r\n\nGET / HTTP/1.1\r\nHost: evil.org\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: ::1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.example.com\x00\r\n\r\n",
		"GET / HTTP/1.1\r\nX: " + strings.Repeat("a", Max),
	} {
		c, need, err := Read([]byte(text), false)
		if need != 0 {
			t.Errorf("%.80q waits for %d bytes", text, need)
		}
		if err == nil && c.Agree("a.example.com", 8080) == nil {
			t.Errorf("%.80q is taken: %v", text, c)
		}
	}
	if c, need, err := Read([]byte("GET /\x00"), false); err != nil || need == 0 {
		t.Errorf("a request that is cut behind a NUL is taken for %v (%v)", c, err)
	}
	for _, cut := range []string{"GET / HTTP/1.1\r\nHost: a.exam", "GET / HTTP/1.1\r\n"} {
		if _, _, err := Read([]byte(cut), true); err == nil {
			t.Errorf("%q is taken though it ends there", cut)
		}
	}
}

// TestOpaque: what is no TLS and no HTTP is known as such before the client would wait for an answer.
func TestOpaque(t *testing.T) {
	for _, text := range []string{
		"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n", "EHLO me\r\n", "*1\r\n$4\r\nPING\r\n", "PING\r\n", "\x00\x00\x00\x08\x04\xd2\x16\x2f",
		"AMQP\x00\x00\x09\x01", "0033git-upload-pack /p.git\x00host=h\x00", "@RSYNCD: 31.0\n", "\x13BitTorrent protocol", "RFB 003.008\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "USER anonymous\r\n", "GET /0.9\r\n", "\x10\x00MQTT", "0\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00", "\x80\x01\x02", "\xff\xfd\x01",
	} {
		if c, need, err := Read([]byte(text), false); err != nil || need != 0 || c.Protocol != Opaque {
			t.Errorf("%q: %v %d %v", text, c, need, err)
		}
	}
	if c, need, err := Read([]byte("hello"), true); err != nil || need != 0 || c.Protocol != Opaque {
		t.Errorf("a word and the end: %v %d %v", c, need, err)
	}
}

func FuzzRequest(f *testing.F) {
	for _, s := range []string{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT a:1 HTTP/1.1\r\n\r\n", "\n\nGET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "PING\r\n", "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, need, err := Read(b, false)
		if need != 0 && (need <= len(b) || need > Max) {
			t.Errorf("%d bytes needed after %d", need, len(b))
		}
		if err != nil || need != 0 || c.Protocol == TLS {
			return
		}
		// What Go's own server takes for a request, to some host, agrees with that host only.
		r, goErr := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
		if goErr != nil || r.Host == "" || strings.Contains(strings.ToUpper(r.Proto), "HTTP/2") || r.ProtoMajor != 1 {
			return
		}
		if c.Protocol == Opaque {
			t.Fatalf("Go's server reads a request to %q", r.Host)
		}
		want, err := Authority(r.Host)
		if err != nil || len(c.Hosts) == 0 {
			return // Go takes hosts that are none, and we nothing that is one
		}
		for _, h := range c.Hosts {
			if h.Name == want.Name {
				return
			}
		}
		t.Errorf("Go's server reads a request to %q where we read %v", r.Host, c.Hosts)
	})
}
