package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"casemate.dev/internal/gate/wire"
)

// say answers with what arrived.
func say(w http.ResponseWriter, r *http.Request) {
	n, _ := io.Copy(io.Discard, r.Body)
	fmt.Fprintf(w, "%s %s %s %d\n", r.Method, r.Host, r.RequestURI, n)
}

func get(t *testing.T, c *http.Client, method, url, body string) (int, string) {
	t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r, err := http.NewRequest(method, url, reader)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := c.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return answer.StatusCode, string(text)
}

// TestOnlySomeRequests: each request of a connection is decided by its method and path, and a denied one says why and what would allow it.
func TestOnlySomeRequests(t *testing.T) {
	outside.site(t, say)
	both(t, func(t *testing.T, h2 bool) {
		b := open(t, rulesOf(some([]string{"GET", "POST"}, "/v1/*")))
		c := b.client(h2)
		for _, ask := range []struct {
			method, target, body string
			status               int
			want                 string
		}{
			{"GET", "/v1/a?b=c;d", "", 200, "GET api.example.com /v1/a?b=c;d 0\n"},
			{"POST", "/v1/%61/b", "hello", 200, "POST api.example.com /v1/%61/b 5\n"},
			{"DELETE", "/v1/a?secret", "", 403, "no rule allows DELETE /v1/a at api.example.com:443"},
			{"POST", "/v2/a", "hello", 403, "no rule allows POST /v2/a"},
			{"GET", "/v1/%2e%2e/v2", "", 403, "dot segment"},
			{"GET", "/v1//a", "", 403, "empty segment"},
			{"GET", "/v1/a%2fb", "", 403, "slash"},
			{"TRACE", "/v1/a", "", 405, "TRACE is refused"},
			{"GET", "/v1/", "", 200, "GET api.example.com /v1/ 0\n"},
		} {
			status, text := get(t, c, ask.method, "https://api.example.com"+ask.target, ask.body)
			if status != ask.status || !strings.Contains(text, ask.want) || status == 200 && text != ask.want {
				t.Errorf("%s %s: %d %q", ask.method, ask.target, status, text)
			}
			if status != 403 {
				continue
			}
			var said struct{ Error, Host, Method, Path, Why, Allow string }
			if err := json.Unmarshal([]byte(text), &said); err != nil || said.Error != "denied by casemate" || said.Host != "api.example.com:443" || said.Method != ask.method || said.Path == "" || said.Allow == "" {
				t.Errorf("%v: %q", err, text)
			}
		}
		r := b.await("the denial", func(r wire.Record) bool { return r.Verdict == wire.Denied && r.Method == "DELETE" })
		if r.Name != "api.example.com" || r.Port != 443 || r.Path != "/v1/a" || r.Address == "" || !r.Unasked {
			t.Errorf("%+v", r)
		}
		c.CloseIdleConnections()
		closed := b.await("the end", func(r wire.Record) bool { return r.Verdict == wire.Closed && r.Allowed > 0 })
		if opened := b.await("the beginning", verdict(wire.Opened, "api.example.com")); opened.Rule != fine+"api.example.com" || closed.Sent == 0 || closed.Got == 0 {
			t.Errorf("%+v then %+v", opened, closed)
		}
	})
}

// TestWholeHostsPassUnopened: where a rule allows the host wholly, the program sees the host's own certificate.
func TestWholeHostsPassUnopened(t *testing.T) {
	outside.site(t, say)
	b := open(t, rulesOf(some([]string{"GET"}), allow("api.example.com", 443)))
	c := b.client(false)
	if _, err := c.Get("https://api.example.com/"); err == nil {
		t.Error("the certificate is of the gate's authority")
	}
	c.Transport.(*http.Transport).TLSClientConfig.RootCAs.AddCert(worldCertificate)
	if status, text := get(t, c, "DELETE", "https://api.example.com/x", ""); status != 200 {
		t.Errorf("%d %q", status, text)
	}
}

// TestPassedOnUnchanged: nothing is added to a request or to an answer, and nothing is taken from it, but for what is about one connection.
func TestPassedOnUnchanged(t *testing.T) {
	var seen http.Header
	outside.site(t, func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header
		h := w.Header()
		h["Date"], h["Content-Type"], h["Set-Cookie"], h["X-Odd"] = nil, nil, []string{"a=1", "b=2"}, []string{""}
		io.WriteString(w, "<html>")
	})
	both(t, func(t *testing.T, h2 bool) {
		b := open(t, rulesOf(some([]string{"GET"})))
		r, _ := http.NewRequest("GET", "https://api.example.com/?a=%zz;&b", nil)
		want := http.Header{"X-Forwarded-For": {"1.2.3.4"}, "X-Forwarded-Proto": {"gopher"}, "Forwarded": {"for=x"}, "Cookie": {"a=b"}, "X-Two": {"1", "2"}, "Authorization": {"Bearer x"}}
		r.Header = want.Clone()
		r.Header["User-Agent"] = nil
		answer, err := b.client(h2).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if !reflect.DeepEqual(seen, want) {
			t.Errorf("the server saw %v", seen)
		}
		if got, want := answer.Header, (http.Header{"Set-Cookie": {"a=1", "b=2"}, "X-Odd": {""}, "Content-Length": {"6"}}); !reflect.DeepEqual(got, want) || string(text) != "<html>" {
			t.Errorf("the client saw %v, %q", got, text)
		}
	})
}

// TestOverriddenMethod: a request cannot ask its server to take it for another one that is not allowed.
func TestOverriddenMethod(t *testing.T) {
	outside.site(t, say)
	b := open(t, rulesOf(some([]string{"GET", "POST"}, "/v1/*")))
	c := b.client(true)
	for name, value := range map[string]string{"X-HTTP-Method-Override": "DELETE", "X-HTTP-Method": "delete", "X-Method-Override": "PUT", "X-Original-URL": "/admin", "X-Rewrite-URL": "/v1/../admin"} {
		r, _ := http.NewRequest("POST", "https://api.example.com/v1/a", nil)
		r.Header.Set(name, value)
		answer, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != 403 {
			t.Errorf("%s: %s: %d", name, value, answer.StatusCode)
		}
	}
	r, _ := http.NewRequest("POST", "https://api.example.com/v1/a", nil)
	r.Header.Set("X-HTTP-Method-Override", "get")
	if answer, err := c.Do(r); err != nil || answer.StatusCode != 200 {
		t.Errorf("the control: %v %v", answer, err)
	}
}

// TestPlainRequests: without TLS the same holds, over HTTP/1.1 and HTTP/2.
func TestPlainRequests(t *testing.T) {
	outside.web(t, say)
	both(t, func(t *testing.T, h2 bool) {
		rule := allow("api.example.com", 80)
		rule.Methods = []string{"GET"}
		b := open(t, rulesOf(rule))
		c := b.client(h2)
		if status, text := get(t, c, "GET", "http://api.example.com/a", ""); status != 200 || text != "GET api.example.com /a 0\n" {
			t.Errorf("%d %q", status, text)
		}
		if status, text := get(t, c, "POST", "http://api.example.com/a", "x"); status != 403 {
			t.Errorf("%d %q", status, text)
		}
	})
}

// private serves HTTP/1.1 over TLS for api.example.com in a private network, after what begin does with a connection.
func private(t *testing.T, at string, begin func(*net.TCPConn)) {
	t.Helper()
	config := &tls.Config{Certificates: []tls.Certificate{signed(t, "api.example.com")}}
	outside.serve(t, at, func(c *net.TCPConn) {
		begin(c)
		s := tls.Server(c, config)
		for requests := bufio.NewReader(s); ; {
			r, err := http.ReadRequest(requests)
			if err != nil {
				return
			}
			io.Copy(io.Discard, r.Body)
			fmt.Fprintf(s, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(r.Method), r.Method)
		}
	})
}

// TestOpenedThroughProxy: the machine's own proxy is gone through, and the host's certificate is asked for beyond it.
func TestOpenedThroughProxy(t *testing.T) {
	asked := make(chan string, 10)
	private(t, "10.0.0.5:3128", func(c *net.TCPConn) {
		r, err := http.ReadRequest(bufio.NewReaderSize(one{c}, 16))
		if err != nil {
			return
		}
		asked <- r.Method + " " + r.Host
		io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
	})
	b, first, files := sandbox(t, rulesOf(some([]string{"GET"})), nil)
	first.Proxy = wire.Proxy{URL: "http://10.0.0.5:3128"}
	b.start(first, files)
	c := b.client(false)
	if status, text := get(t, c, "GET", "https://api.example.com/", ""); status != 200 || text != "GET" || <-asked != "CONNECT api.example.com:443" {
		t.Errorf("%d %q", status, text)
	}
	if status, _ := get(t, c, "POST", "https://api.example.com/", "x"); status != 403 {
		t.Error(status)
	}
}

// TestAddressOfARequestsRule: a rule's networks are for its own requests, not for those of another rule of the same host.
func TestAddressOfARequestsRule(t *testing.T) {
	private(t, "10.0.0.5:443", func(*net.TCPConn) {})
	outside.name("api.example.com", "10.0.0.5")
	near := some([]string{"GET"})
	near.Networks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	b := open(t, rulesOf(near, some([]string{"POST"})))
	c := b.client(false)
	if status, text := get(t, c, "GET", "https://api.example.com/", ""); status != 200 {
		t.Errorf("%d %q", status, text)
	}
	if status, text := get(t, c, "POST", "https://api.example.com/", "x"); status != 403 || !strings.Contains(text, "does not open the host's address") {
		t.Errorf("%d %q", status, text)
	}
}
