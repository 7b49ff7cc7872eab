package main

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"casemate.dev/internal/gate/wire"
	"casemate.dev/internal/secret"
	"casemate.dev/internal/secret/ask"
	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

const (
	brokered = "sk-ant-api03-ReAl0VaLuE0123456789abcdefghijklm"
	standIn  = "sk-ant-api03-PlAcEhOlDeR9876543210zyxwvutsrqpo"
)

// storehouse is a store as casemate-secret is one: it answers for one entry.
type storehouse struct {
	conn *net.UnixConn

	mu      sync.Mutex
	value   string
	refused string
	refuses func(ask.Request) string // of some requests; may be nil
	asked   []ask.Request
}

func (s *storehouse) serve() {
	buf := make([]byte, ask.MaxMessage)
	for {
		n, err := s.conn.Read(buf)
		if err != nil || n == 0 {
			return
		}
		r, err := ask.DecodeRequest(buf[:n])
		if err != nil {
			return
		}
		s.mu.Lock()
		s.asked = append(s.asked, r)
		reply := ask.Reply{ID: r.ID, Refused: s.refused}
		if s.refuses != nil {
			reply.Refused = s.refuses(r)
		}
		if reply.Refused == "" {
			reply.Value, _ = secret.New([]byte(s.value))
		}
		s.mu.Unlock()
		if text, err := ask.EncodeReply(reply); err == nil {
			s.conn.Write(text)
		}
	}
}

// change has the next request get something else.
func (s *storehouse) change(t *testing.T, value, refused string) {
	t.Helper()
	s.mu.Lock()
	s.value, s.refused = value, refused
	s.mu.Unlock()
	text, err := ask.EncodeReply(ask.Reply{Changed: "anthropic"})
	if err == nil {
		_, err = s.conn.Write(text)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (s *storehouse) requests() []ask.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// withSecret opens a gate that has a store.
func withSecret(t *testing.T, place string, more func(*wire.Secret), rules ...wire.Allow) (*box, *storehouse) {
	t.Helper()
	one := wire.Secret{Name: "anthropic", Placeholder: standIn, Hosts: []string{"api.example.com"}, Ports: []int{443}, Place: place, Origin: "the test's secret"}
	if more != nil {
		more(&one)
	}
	all := rulesOf(rules...)
	all.Secrets = []wire.Secret{one}
	b, first, files := sandbox(t, all, nil)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	mine := os.NewFile(uintptr(fds[0]), "store")
	defer mine.Close()
	c, err := net.FileConn(mine)
	if err != nil {
		t.Fatal(err)
	}
	s := &storehouse{conn: c.(*net.UnixConn), value: brokered}
	t.Cleanup(func() { s.conn.Close() })
	go s.serve()
	first.Listeners, files = append(first.Listeners, wire.StoreEnd), append(files, os.NewFile(uintptr(fds[1]), "store"))
	b.start(first, files)
	return b, s
}

// seen is what servers were sent, as they read it.
type seen struct {
	mu   sync.Mutex
	list []string
}

func (s *seen) note(r *http.Request, body []byte) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", r.Method, r.RequestURI)
	for name, values := range r.Header {
		fmt.Fprintf(&b, "%s: %s\n", name, strings.Join(values, ", "))
	}
	fmt.Fprintf(&b, "\n%s\n%v", body, r.Trailer)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, b.String())
}

func (s *seen) has(part string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(strings.Join(s.list, "\n"), part)
}

func (s *seen) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = nil
}

func alarmed(where string) func(wire.Record) bool {
	return func(r wire.Record) bool {
		return r.Verdict == wire.Denied && r.Secret == "anthropic" && strings.Contains(r.Why, where)
	}
}

// quiet fails where the gate told a value, or a whole placeholder.
func (b *box) quiet() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.records {
		if text := fmt.Sprintf("%+v", r); strings.Contains(text, brokered) || strings.Contains(text, standIn) {
			b.t.Errorf("it is told: %s", text)
		}
	}
}

func try(t *testing.T, c *http.Client, r *http.Request) (status int, header http.Header, body string) {
	t.Helper()
	answer, err := c.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", r.Method, r.URL, err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return answer.StatusCode, answer.Header, fmt.Sprintf("broken: %v: %s", err, text)
	}
	return answer.StatusCode, answer.Header, string(text)
}

func ask1(t *testing.T, method, url, body string, header ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

func basicOf(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// TestPlaces: a placeholder in its place reaches the host as the value, and anywhere else it reaches nobody (E60).
func TestPlaces(t *testing.T) {
	const at = "https://api.example.com/v1/x"
	var got seen
	outside.site(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got.note(r, body)
		io.WriteString(w, "fine")
	})
	for _, place := range []string{"", "header:x-api-key", "bearer", "basic", "query:key", "git"} {
		both(t, func(t *testing.T, h2 bool) {
			b, store := withSecret(t, place, nil, allow("api.example.com", 443))
			client := b.client(h2)
			for _, c := range []struct {
				name, takes string // the places that it is right in
				request     *http.Request
				want        string
			}{
				{"a field of its own", "header:x-api-key,", ask1(t, "POST", at, "{}", "X-Api-Key", standIn), "X-Api-Key: " + brokered + "\n"},
				{"a field, after a word", "bearer,", ask1(t, "GET", at, "", "Authorization", "Bearer "+standIn), "Authorization: Bearer " + brokered + "\n"},
				{"a password", "basic,", ask1(t, "GET", at, "", "Authorization", basicOf("me", standIn)), "Authorization: " + basicOf("me", brokered) + "\n"},
				{"a name", "basic,", ask1(t, "GET", at, "", "Authorization", basicOf(standIn, "")), "Authorization: " + basicOf(brokered, "") + "\n"},
				{"a password, and the name within more", "", ask1(t, "GET", at, "", "Authorization", basicOf("me."+standIn, standIn)), ""},
				{"git's password", "basic,git,", ask1(t, "GET", "https://api.example.com/a/b.git/info/refs?service=git-upload-pack", "", "Authorization", basicOf("x", standIn)), basicOf("x", brokered)},
				{"a parameter", "query:key", ask1(t, "GET", at+"?a=%20b&key="+standIn+"&c", "", "X", "y"), "GET /v1/x?a=%20b&key=" + url.QueryEscape(brokered) + "&c\n"},
				{"another parameter", "", ask1(t, "GET", at+"?other="+standIn, ""), ""},
				{"an escaped parameter", "query:key", ask1(t, "GET", at+"?key=%73"+standIn[1:], ""), "key=" + url.QueryEscape(brokered)},
				{"a field within other text", "", ask1(t, "GET", at, "", "X-Note", "see "+standIn), ""},
				{"where a browser came from", "", ask1(t, "GET", at, "", "Referer", standIn), ""},
				{"two, and one is wrong", "", ask1(t, "GET", at+"?x="+standIn, "", "X-Api-Key", standIn), ""},
				{"a field, escaped", "", ask1(t, "GET", at, "", "X-Api-Key", url.QueryEscape(standIn[:5])+"%2D"+standIn[6:]), "X-Api-Key: sk-an%2D"},
				{"a field, in hexadecimal", "", ask1(t, "GET", at, "", "X-Api-Key", fmt.Sprintf("%x", standIn)), ""},
				{"the path", "", ask1(t, "GET", "https://api.example.com/"+standIn+"/x", ""), ""},
				{"the path, in pieces", "", ask1(t, "GET", "https://api.example.com/"+standIn[:9]+"/"+standIn[9:], ""), ""},
				{"the body", "", ask1(t, "POST", at, `{"k":"`+standIn+`"}`), ""},
				{"a large body", "", ask1(t, "POST", at, strings.Repeat("x", 200<<10)+standIn), ""},
				{"a body in base64", "", ask1(t, "POST", at, base64.StdEncoding.EncodeToString([]byte("ab"+standIn))), ""},
				{"a compressed body", "", ask1(t, "POST", at, gzipped(standIn), "Content-Encoding", "gzip"), ""},
				{"a large compressed body", "", ask1(t, "POST", at, gzipped(noise(300<<10)+standIn), "Content-Encoding", "gzip"), ""},
				{"a body in brotli", "", ask1(t, "POST", at, inBrotli(standIn), "Content-Encoding", "br"), ""},
				{"a large body in zstd", "", ask1(t, "POST", at, inZstd(noise(300<<10)+standIn), "Content-Encoding", "zstd"), ""},
				{"nothing in brotli", "all", ask1(t, "POST", at, inBrotli("plain"), "Content-Encoding", "br"), inBrotli("plain")},
				{"nothing in zstd", "all", ask1(t, "POST", at, inZstd("plain"), "Content-Encoding", "zstd"), inZstd("plain")},
				{"the name of a field", "", ask1(t, "GET", at, "", "X-"+standIn, "1"), ""},
				{"chunks", "", chunked(t, at, nil, standIn[:11], standIn[11:]), ""},
				{"a trailer", "", chunked(t, at, http.Header{"X-End": {standIn}}, "fine"), ""},
				{"nothing", "all", ask1(t, "POST", at, "plain"), "plain"},
			} {
				got.forget()
				right := c.takes == "all" || strings.Contains(c.takes, "query:") && place == c.takes || place != "" && strings.Contains(c.takes, place+",") || place == "" && strings.HasSuffix(c.takes, ",")
				if c.want != "" && c.takes == "" {
					continue
				}
				status, _, body := try(t, client, c.request)
				switch {
				case right && (status != 200 || !got.has(c.want) || got.has(standIn)):
					t.Errorf("%q, %s: %d %s; it saw %q, want %q", place, c.name, status, body, got.list, c.want)
				case !right && (status != 403 || got.has(standIn) || got.has(brokered) || strings.Contains(body, standIn)):
					t.Errorf("%q, %s: %d %s; it saw %q", place, c.name, status, body, got.list)
				case !right && !strings.Contains(strings.ReplaceAll(body, `\`, ""), `the secret "anthropic" is in`):
					t.Errorf("%q, %s: %s", place, c.name, body)
				}
			}
			b.await("the alarm", alarmed("the path of the request"))
			b.await("the alarm", alarmed("compressed body"))
			b.await("the alarm", alarmed("a trailer"))
			b.quiet()
			for _, r := range store.requests() {
				if r.Host != "api.example.com" || r.Port != 443 || r.Path == "" || strings.Contains(r.Path, standIn) {
					t.Errorf("asked %+v", r)
				}
			}
		})
	}
}

func gzipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, text)
	w.Close()
	return b.String()
}

func inBrotli(text string) string {
	var b bytes.Buffer
	w := brotli.NewWriter(&b)
	io.WriteString(w, text)
	w.Close()
	return b.String()
}

func inZstd(text string) string {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err)
	}
	return string(w.EncodeAll([]byte(text), nil))
}

// noise does not get smaller.
func noise(n int) string {
	b := make([]byte, n)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return string(b)
}

// chunked is a request whose body comes in pieces, each of which is sent by itself.
func chunked(t *testing.T, at string, trailer http.Header, pieces ...string) *http.Request {
	t.Helper()
	read, write := io.Pipe()
	go func() {
		for _, p := range pieces {
			io.WriteString(write, p)
		}
		write.Close()
	}()
	r, err := http.NewRequest("POST", at, read)
	if err != nil {
		t.Fatal(err)
	}
	r.Trailer = trailer
	return r
}

// TestWithoutBroker is the control: where no secret is known the same requests reach the server as they are.
func TestWithoutBroker(t *testing.T) {
	var got seen
	outside.site(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got.note(r, body)
	})
	both(t, func(t *testing.T, h2 bool) {
		b := open(t, rulesOf(some(nil, "/*")))
		for _, r := range []*http.Request{
			ask1(t, "POST", "https://api.example.com/v1/x", standIn), ask1(t, "GET", "https://api.example.com/"+standIn, ""), ask1(t, "GET", "https://api.example.com/", "", "X-Note", "see "+standIn),
			chunked(t, "https://api.example.com/", nil, standIn[:11], standIn[11:]), chunked(t, "https://api.example.com/", http.Header{"X-End": {standIn}}, "fine"),
		} {
			got.forget()
			if status, _, _ := try(t, b.client(h2), r); status != 200 || !got.has(standIn) {
				t.Errorf("%d, it saw %q", status, got.list)
			}
		}
	})
}

// TestBound: a secret is for its hosts, ports, methods and paths, whatever else is allowed, and it allows nothing (E62).
func TestBound(t *testing.T) {
	var got seen
	outside.site(t, func(w http.ResponseWriter, r *http.Request) { got.note(r, nil) })
	outside.web(t, func(w http.ResponseWriter, r *http.Request) { got.note(r, nil) })
	narrow := func(s *wire.Secret) { s.Methods, s.Paths = []string{"POST"}, []string{"/v1/*"} }
	b, _ := withSecret(t, "", narrow, allow("api.example.com", 443, 80), allow("203.0.113.5", 443))
	for _, c := range []struct {
		method, at string
		status     int
	}{
		{"POST", "https://api.example.com/v1/messages", 200}, {"GET", "https://api.example.com/v1/messages", 403}, {"POST", "https://api.example.com/v2/x", 403},
		{"POST", "https://api.example.com/v1/../x", 403}, {"POST", "http://api.example.com/v1/messages", 0},
	} {
		got.forget()
		r := ask1(t, c.method, c.at, "", "X-Api-Key", standIn)
		answer, err := b.client(false).Do(r)
		status := 0
		if err == nil {
			status = answer.StatusCode
			answer.Body.Close()
		}
		if status != c.status || got.has(standIn) || got.has(brokered) != (c.status == 200) {
			t.Errorf("%s %s: %d %v, it saw %q", c.method, c.at, status, err, got.list)
		}
	}
	b.await("the alarm of a connection that is passed through", alarmed("the first bytes"))
	b.await("the alarm", alarmed("names other methods or paths"))
	if b.dial("203.0.113.5", 443, v4) != nil { // its name in the hello is one of a secret's hosts
		b.await("the connection", verdict(wire.Opened, "203.0.113.5"))
	}
	b.quiet()
	closed, store := withSecret(t, "", nil, allow("other.example.com", 443))
	if code, _ := closed.lookup("api.example.com", v4); code == 0 {
		t.Error("a secret opened its host")
	}
	if len(store.requests()) > 0 {
		t.Errorf("the store was asked %+v", store.requests())
	}
}

// TestNamesDoNotLeak: a placeholder in a name, in any case and over labels, does not exist and alarms.
func TestNamesDoNotLeak(t *testing.T) {
	b, _ := withSecret(t, "", nil, allow("*.example.com", 443))
	for _, name := range []string{
		standIn + ".example.com", strings.ToUpper(standIn) + ".example.com", standIn[:20] + "." + standIn[20:] + ".example.com",
		fmt.Sprintf("%x", standIn)[:46] + "." + fmt.Sprintf("%x", standIn)[46:] + ".example.com",
	} {
		if code, list := b.lookup(name, v4); code == 0 || len(list) > 0 {
			t.Errorf("%s exists: %v", name, list)
		}
	}
	b.await("the alarm", alarmed("a host's name"))
	b.quiet()
	if code, _ := b.lookup("fine.example.com", v4); code != 0 {
		t.Errorf("control: %v", code)
	}
}

// TestAnswersAreScrubbed: what a host says back has the placeholder in it, or stars, in every form and part of an answer.
func TestAnswersAreScrubbed(t *testing.T) {
	flush := func(w http.ResponseWriter) { http.NewResponseController(w).Flush() }
	outside.site(t, func(w http.ResponseWriter, r *http.Request) {
		key := r.Header.Get("X-Api-Key")
		switch r.URL.Path {
		case "/header":
			w.Header().Set("X-Echo", "you sent "+key)
			w.Header().Set("Location", "/?k="+key)
		case "/early":
			w.Header().Set("Link", "<"+key+">")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("Link")
		case "/body":
			fmt.Fprintf(w, `{"key":%q}`, key)
		case "/pieces":
			for _, c := range key {
				fmt.Fprintf(w, "%c", c)
				flush(w)
			}
		case "/base64":
			io.WriteString(w, base64.StdEncoding.EncodeToString([]byte("me:"+key)))
		case "/hex":
			fmt.Fprintf(w, "%x", key)
		case "/gzip":
			w.Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, gzipped(key))
		case "/br":
			w.Header().Set("Content-Encoding", "br")
			io.WriteString(w, inBrotli(key))
		case "/zstd":
			w.Header().Set("Content-Encoding", "zstd")
			io.WriteString(w, inZstd(key))
		case "/compress":
			w.Header().Set("Content-Encoding", "compress")
			io.WriteString(w, "??"+key)
		case "/trailer":
			w.Header().Set("Trailer", "X-End")
			io.WriteString(w, "x")
			w.Header().Set("X-End", key)
		case "/kept": // without being given it
			io.WriteString(w, "it was "+brokered)
		}
	})
	both(t, func(t *testing.T, h2 bool) {
		b, _ := withSecret(t, "", nil, allow("api.example.com", 443))
		client := b.client(h2)
		for path, want := range map[string]string{
			"/header": "", "/early": "", "/body": standIn, "/pieces": standIn, "/base64": "***", "/hex": "***", "/gzip": standIn, "/br": standIn, "/zstd": standIn, "/compress": "although it was asked not to", "/trailer": "x",
		} {
			answer, err := client.Do(ask1(t, "GET", "https://api.example.com"+path, "", "X-Api-Key", standIn, "Accept-Encoding", "gzip, br"))
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			body, err := io.ReadAll(answer.Body)
			answer.Body.Close()
			all := fmt.Sprintf("%v %s %v", answer.Header, body, answer.Trailer)
			if err != nil || strings.Contains(all, brokered) || strings.Contains(all, fmt.Sprintf("%x", brokered)) || !strings.Contains(string(body), want) {
				t.Errorf("%s: %v %s", path, err, all)
			}
			if path == "/header" && answer.Header.Get("X-Echo") != "you sent "+standIn || path == "/trailer" && answer.Trailer.Get("X-End") != standIn {
				t.Errorf("%s: %s", path, all)
			}
		}
		if _, _, body := try(t, client, ask1(t, "GET", "https://api.example.com/kept", "")); body != "it was "+strings.Repeat("*", len(brokered)) {
			t.Errorf("to a request without the key: %q", body)
		}
		b.quiet()
	})
}

// TestValueDoesNotLeave: the value itself, come by another way, is stopped in every form, also at another host.
func TestValueDoesNotLeave(t *testing.T) {
	var got seen
	outside.site(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got.note(r, body)
	})
	b, _ := withSecret(t, "", func(s *wire.Secret) { s.Paths = []string{"/use"} }, allow("api.example.com", 443))
	client := b.client(false)
	const at = "https://api.example.com/other"
	if status, _, _ := try(t, client, ask1(t, "POST", at, brokered)); status != 200 || !got.has(brokered) {
		t.Fatal("control: before it is used, nobody knows it")
	}
	if status, _, _ := try(t, client, ask1(t, "POST", "https://api.example.com/use", "", "X-Api-Key", standIn)); status != 200 {
		t.Fatal(status)
	}
	for name, r := range map[string]*http.Request{
		"as it is": ask1(t, "POST", at, "x"+brokered), "base64": ask1(t, "POST", at, base64.StdEncoding.EncodeToString([]byte("x"+brokered))), "hexadecimal": ask1(t, "POST", at, fmt.Sprintf("%X", brokered)),
		"escaped": ask1(t, "POST", at, "v=%"+fmt.Sprintf("%x", brokered[:1])+brokered[1:]), "chunks": chunked(t, at, nil, brokered[:13], brokered[13:30], brokered[30:]), "query": ask1(t, "GET", at+"?v="+brokered, ""),
		"field": ask1(t, "GET", at, "", "X-Api-Key", brokered), "compressed": ask1(t, "POST", at, gzipped(brokered), "Content-Encoding", "gzip"),
	} {
		got.forget()
		if status, _, body := try(t, client, r); status != 403 || got.has(brokered) || !strings.Contains(body, "the value of the secret") || strings.Contains(body, brokered) {
			t.Errorf("%s: %d %s, it saw %q", name, status, body, got.list)
		}
	}
	b.await("the alarm", alarmed("the value of the secret"))
	b.quiet()
}

// TestStoreDecides: what the store refuses, rotates or takes back holds for the next request, and without a store nothing is sent (E61, E66).
func TestStoreDecides(t *testing.T) {
	var got seen
	outside.site(t, func(w http.ResponseWriter, r *http.Request) { got.note(r, nil) })
	both(t, func(t *testing.T, h2 bool) {
		b, store := withSecret(t, "", nil, allow("api.example.com", 443))
		client := b.client(h2)
		send := func() (int, string) {
			status, _, body := try(t, client, ask1(t, "GET", "https://api.example.com/", "", "X-Api-Key", standIn))
			return status, body
		}
		until := func(what string, ok func() bool) {
			for late := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
				if time.Now().After(late) {
					t.Fatal(what)
				}
			}
		}
		if status, body := send(); status != 200 || !got.has(brokered) {
			t.Fatalf("%d %s", status, body)
		}
		rotated := "sk-ant-api03-another-value-that-is-of-another-length"
		store.change(t, rotated, "")
		until("the rotated value is not used", func() bool { got.forget(); send(); return got.has(rotated) })
		store.change(t, "", "no grant for this sandbox; casemate secret grant anthropic")
		until("it is not refused", func() bool { status, _ := send(); return status == 403 })
		got.forget()
		if status, body := send(); status != 403 || !strings.Contains(body, "casemate secret grant") || got.has("sk-ant") {
			t.Errorf("%d %s, it saw %q", status, body, got.list)
		}
		store.conn.Close()
		until("it goes on without a store", func() bool { status, _ := send(); return status == 502 })
		got.forget()
		if status, body := send(); status != 502 || !strings.Contains(body, "has ended") || got.has("sk-ant") {
			t.Errorf("%d %s, it saw %q", status, body, got.list)
		}
		if status, _, _ := try(t, client, ask1(t, "GET", "https://api.example.com/", "")); status != 200 {
			t.Errorf("a request without a secret: %d", status)
		}
		b.quiet()
	})
}

// TestGrantOfOverridden: the store is asked about every request that a server may take one for, and its no to any of them is one. Without the header the
// same request is given its value.
func TestGrantOfOverridden(t *testing.T) {
	var got seen
	outside.site(t, func(w http.ResponseWriter, r *http.Request) { got.note(r, nil) })
	both(t, func(t *testing.T, h2 bool) {
		b, store := withSecret(t, "", nil, allow("api.example.com", 443))
		store.mu.Lock()
		store.refuses = func(r ask.Request) string {
			if r.Method != "GET" || r.Path != "/mine" {
				return "no grant covers " + r.Method + " " + r.Path
			}
			return ""
		}
		store.mu.Unlock()
		client := b.client(h2)
		for _, header := range [][]string{
			{"X-HTTP-Method-Override", "DELETE"}, {"X-HTTP-Method", "post"}, {"X-Method-Override", "GET", "X-Method-Override", "PUT"},
			{"X-Original-URL", "/yours"}, {"X-Rewrite-URL", "/mine/../yours?x"},
		} {
			got.forget()
			request := append([]string{"X-Api-Key", standIn}, header...)
			if status, _, body := try(t, client, ask1(t, "GET", "https://api.example.com/mine", "", request...)); status != 403 || !strings.Contains(body, "no grant covers") || len(got.list) > 0 {
				t.Errorf("%v: %d %s, it saw %q", header, status, body, got.list)
			}
		}
		var many []string
		for i := range 20 {
			many = append(many, "X-Original-URL", fmt.Sprint("/", i))
		}
		if status, _, body := try(t, client, ask1(t, "GET", "https://api.example.com/mine", "", append(many, "X-Api-Key", standIn)...)); status != 403 || !strings.Contains(body, "more than") {
			t.Errorf("many: %d %s", status, body)
		}
		if status, _, body := try(t, client, ask1(t, "GET", "https://api.example.com/mine", "", "X-Api-Key", standIn, "X-HTTP-Method-Override", "GET")); status != 200 || !got.has(brokered) {
			t.Errorf("%d %s", status, body)
		}
	})
}

// TestWithdrawnMeanwhile: a secret that the policy has ceased to name is not put into a request whose body is still on its way.
func TestWithdrawnMeanwhile(t *testing.T) {
	var got seen
	outside.site(t, func(w http.ResponseWriter, r *http.Request) { got.note(r, nil) })
	both(t, func(t *testing.T, h2 bool) {
		got.forget()
		b, _ := withSecret(t, "", nil, allow("api.example.com", 443))
		body, rest := io.Pipe()
		slow, err := http.NewRequest("POST", "https://api.example.com/slow", body)
		if err != nil {
			t.Fatal(err)
		}
		slow.ContentLength = 10
		slow.Header.Set("X-Api-Key", standIn)
		status := make(chan int)
		go func() {
			answer, err := b.client(h2).Do(slow)
			if err != nil {
				status <- -1
				return
			}
			answer.Body.Close()
			status <- answer.StatusCode
		}()
		if _, err := rest.Write([]byte("12345")); err != nil { // its head went before
			t.Fatal(err)
		}
		b.await("the connection", verdict(wire.Opened, "api.example.com"))
		other := b.client(h2)
		if code, _, body := try(t, other, ask1(t, "GET", "https://api.example.com/", "", "X-Api-Key", standIn)); code != 200 {
			t.Fatalf("%d %s", code, body)
		}
		less := rulesOf(allow("api.example.com", 443))
		less.Secrets = []wire.Secret{{Name: "anthropic", Placeholder: standIn, Hosts: []string{"api.example.com"}, Ports: []int{443}, Withdrawn: true, Origin: "the test's secret"}}
		b.send(wire.Message{Rules: less}, nil)
		for late, code := time.Now().Add(20*time.Second), 0; code != 403; code, _, _ = try(t, other, ask1(t, "GET", "https://api.example.com/", "", "X-Api-Key", standIn)) {
			if time.Now().After(late) {
				t.Fatal("the rules are not in force")
			}
		}
		_, _ = rest.Write([]byte("67890")) // fails where it was answered before
		rest.Close()
		if code := <-status; code != 403 || got.has("/slow") {
			t.Errorf("%d, it saw %q", code, got.list)
		}
	})
}

// TestNoSecretByAnswer: a person's yes for this once reaches no host of a secret, whose requests no rule decides; the control is a host without one.
func TestNoSecretByAnswer(t *testing.T) {
	outside.site(t, func(w http.ResponseWriter, r *http.Request) {})
	outside.name("free.example.com", "203.0.113.5")
	b, _ := withSecret(t, "", nil)
	rules := wire.Rules{Ask: true, Secrets: []wire.Secret{{Name: "anthropic", Placeholder: standIn, Hosts: []string{"api.example.com"}, Ports: []int{443}, Origin: "the test's secret"}}}
	b.send(wire.Message{Rules: rules}, nil)
	for name, want := range map[string]wire.Verdict{"free.example.com": wire.Opened, "api.example.com": wire.Denied} {
		for late := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) { // until the rules have come
			if code, _ := b.lookup(name, v4); code == 0 {
				break
			}
			if time.Now().After(late) {
				t.Fatal("nobody is asked")
			}
		}
		if c := b.dial(name, 443, v4); c == nil {
			t.Fatal(name, "was reset before anybody was asked")
		}
		q := b.question("the question", name, false)
		b.send(wire.Message{Answer: &wire.Answer{ID: q.ID, Yes: true, By: "the test"}}, nil)
		b.await(string(want), verdict(want, name))
	}
	b.await("the reason", func(r wire.Record) bool { return strings.Contains(r.Why, "only where a rule allows it") })
}
