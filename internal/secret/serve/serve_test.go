package serve

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"casemate.dev/internal/secret"
	"casemate.dev/internal/secret/ask"
	"casemate.dev/internal/secret/book"
	"casemate.dev/internal/secret/login"
	"casemate.dev/internal/secret/uses"
	"golang.org/x/sys/unix"
)

const real = "sk-ant-api03-Zk3vQ8aXw2"

// site is a store with a gate's end of a conversation.
type site struct {
	t     *testing.T
	place book.Place
	log   uses.Log
	fd    int
	ended chan error
	next  uint64
	renew func(context.Context, login.File) error
}

func newSite(t *testing.T) *site {
	dir := t.TempDir()
	s := &site{t: t, place: book.Place{Dir: dir, Key: filepath.Join(dir, "secrets.key")}, log: uses.Log{Path: filepath.Join(dir, "state", "uses")}}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return s
}

func value(t *testing.T, s string) secret.Value {
	t.Helper()
	v, err := secret.New([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// update changes the book as the verbs do, from another opening of it.
func (s *site) update(change func(*book.Book)) {
	s.t.Helper()
	k, err := book.Open(s.place, nil)
	if err == nil {
		err = k.Update(func(b *book.Book) error { change(b); return nil })
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func entry(name string, source book.Source, hosts ...string) book.Entry {
	e := book.Entry{Name: name, Source: source, Shape: secret.Shape{Prefix: "sk-ant-api03-", Length: len(real), Alphabet: "ab"}, Version: 1, Created: time.Now().UTC().Truncate(0)}
	if len(hosts) > 0 {
		e.Grants = []book.Grant{{ID: 1, Hosts: hosts, Ports: []int{443}}}
	}
	return e
}

// add puts one into the book itself.
func (s *site) add(name string, hosts ...string) {
	s.update(func(b *book.Book) {
		b.Add(entry(name, book.Source{Store: book.File}, hosts...))
		b.SetValue(name, value(s.t, real))
	})
}

// start begins a conversation.
func (s *site) start(entries ...ask.Entry) ask.Ready {
	s.t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	s.fd, s.ended = fds[0], make(chan error, 1)
	if err := unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 60}); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		err := Run(fds[1], Options{Place: s.place, Log: s.log, Getenv: os.Getenv, Renew: s.renew})
		unix.Close(fds[1])
		s.ended <- err
	}()
	s.t.Cleanup(s.stop)
	packet, err := ask.EncodeBegin(ask.Begin{Sandbox: "a1", Project: "/home/me/shop", Presets: []string{"claude"}, Entries: entries})
	if err != nil {
		s.t.Fatal(err)
	}
	s.send(packet)
	ready, err := ask.DecodeReady(s.receive())
	if err != nil {
		s.t.Fatal(err)
	}
	return ready
}

func (s *site) stop() {
	if s.fd < 0 {
		return
	}
	unix.Close(s.fd)
	s.fd = -1
	if err := <-s.ended; err != nil {
		s.t.Errorf("it ended with %v", err)
	}
}

func (s *site) send(packet []byte) {
	s.t.Helper()
	if err := unix.Sendto(s.fd, packet, unix.MSG_NOSIGNAL, nil); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) receive() []byte {
	s.t.Helper()
	buf := make([]byte, ask.MaxMessage)
	n, err := unix.Read(s.fd, buf)
	if err != nil {
		s.t.Fatal(err)
	}
	return buf[:n]
}

// reply is the next one that is not about a change; changed are those before it.
func (s *site) reply() (r ask.Reply, changed []string) {
	s.t.Helper()
	for {
		r, err := ask.DecodeReply(s.receive())
		if err != nil {
			s.t.Fatal(err)
		}
		if r.Changed == "" {
			return r, changed
		}
		changed = append(changed, r.Changed)
	}
}

func (s *site) request(name, host string, port int, method, path string) ask.Reply {
	s.t.Helper()
	s.next++
	packet, err := ask.EncodeRequest(ask.Request{ID: s.next, Entry: name, Host: host, Port: port, Method: method, Path: path})
	if err != nil {
		s.t.Fatal(err)
	}
	s.send(packet)
	r, _ := s.reply()
	if r.ID != s.next {
		s.t.Fatalf("reply %d to request %d", r.ID, s.next)
	}
	return r
}

func (s *site) gives(name, host, want string) {
	s.t.Helper()
	r := s.request(name, host, 443, "POST", "/v1/messages")
	got := ""
	if err := r.Value.Use(func(b []byte) error { got = string(b); return nil }); err != nil || got != want {
		s.t.Errorf("%s at %s: %v %q", name, host, err, r.Refused)
	}
}

func (s *site) refuses(name, host, why string) {
	s.t.Helper()
	if r := s.request(name, host, 443, "POST", "/v1/messages"); r.Value.Len() != 0 || !strings.Contains(r.Refused, why) || why == "" {
		s.t.Errorf("%s at %s: %q, want %q", name, host, r.Refused, why)
	}
}

// changed waits for the store to say so by itself.
func (s *site) changed(name string) {
	s.t.Helper()
	r, err := ask.DecodeReply(s.receive())
	if err != nil || r.Changed != name {
		s.t.Fatalf("%+v, %v, want a change of %s", r, err, name)
	}
}

func anthropic() ask.Entry {
	return ask.Entry{Name: "anthropic", Env: "ANTHROPIC_API_KEY", Hosts: []string{"api.anthropic.com", "*.example.com"}}
}

func TestGives(t *testing.T) {
	s := newSite(t)
	s.add("anthropic", "api.anthropic.com")
	ready := s.start(anthropic())
	if !ready.Ready || ready.Shapes["anthropic"].Length != len(real) {
		t.Fatalf("%+v", ready)
	}
	s.gives("anthropic", "api.anthropic.com", real)
	s.gives("anthropic", "API.anthropic.com", real)
	s.refuses("anthropic", "x.example.com", "no grant of secret")            // the policy names it, no grant does
	s.refuses("anthropic", "evil.test", "policy does not name the host")     //
	s.refuses("openai", "api.anthropic.com", `policy names no secret "open`) // nobody asked for it at the beginning
	if r := s.request("anthropic", "api.anthropic.com", 80, "GET", "/"); !strings.Contains(r.Refused, "api.anthropic.com:80") {
		t.Errorf("%+v", r)
	}
	list, err := s.log.Read()
	if err != nil || len(list) != 6 {
		t.Fatalf("%d lines, %v", len(list), err)
	}
	if u := list[0]; u.Entry != "anthropic" || u.Host != "api.anthropic.com" || u.Sandbox != "a1" || u.Project != "/home/me/shop" || u.Grant != 1 || u.Refused != "" || u.Path != "/v1/messages" {
		t.Errorf("%+v", u)
	}
	if u := list[2]; u.Refused == "" || u.Grant != 0 {
		t.Errorf("%+v", u)
	}
	if b, _ := os.ReadFile(s.log.Path); strings.Contains(string(b), real) {
		t.Error("the log holds the value")
	}
}

func TestDoesNotStart(t *testing.T) {
	for _, c := range []struct {
		name, sentence, hint string
		make                 func(*site)
	}{
		{"no store", `no secret "anthropic"`, "casemate secret set anthropic", func(*site) {}},
		{"other entries", `no secret "anthropic"`, "casemate secret set anthropic", func(s *site) { s.add("openai", "api.openai.com") }},
		{"no grant", "no grant lets", "casemate secret grant anthropic", func(s *site) { s.add("anthropic") }},
		{"grant for others", "no grant lets", "--project /home/me/shop", func(s *site) {
			s.add("anthropic", "api.anthropic.com")
			s.update(func(b *book.Book) { b.Entries[0].Grants[0].Preset = "codex" })
		}},
		{"grant elsewhere", "covers a host that the policy names", "--host api.anthropic.com", func(s *site) { s.add("anthropic", "api.openai.com") }},
		{"expired", "has expired", "rotate", func(s *site) {
			s.add("anthropic", "api.anthropic.com")
			s.update(func(b *book.Book) { b.Entries[0].Expires = time.Now().Add(-time.Hour) })
		}},
		{"damaged", "is damaged", "backup", func(s *site) {
			s.add("anthropic", "api.anthropic.com")
			os.Truncate(s.place.File(), 150)
		}},
		{"readable by others", "others may read", "chmod 600", func(s *site) {
			s.add("anthropic", "api.anthropic.com")
			os.Chmod(s.place.File(), 0o644)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			c.make(s)
			r := s.start(anthropic())
			if r.Ready || !strings.Contains(r.Error, c.sentence) || !strings.Contains(r.Hint, c.hint) {
				t.Errorf("%+v", r)
			}
			s.stop()
			optional := anthropic()
			optional.Optional = true
			shut := c.name == "damaged" || c.name == "readable by others"
			if r := s.start(optional); r.Ready == shut || len(r.Shapes) > 0 {
				t.Errorf("where nobody asked for it: %+v", r)
			}
		})
	}
}

// TestChanges rotates, revokes, grants and removes beside a running sandbox. Each takes effect at the next request, and is said by itself.
func TestChanges(t *testing.T) {
	s := newSite(t)
	s.add("anthropic", "api.anthropic.com")
	s.add("other", "api.anthropic.com")
	s.start(anthropic())
	s.gives("anthropic", "api.anthropic.com", real)

	rotate := func(to string) func(*book.Book) {
		return func(b *book.Book) {
			e := b.Entry("anthropic")
			e.Version++
			b.SetValue("anthropic", value(t, to))
		}
	}
	s.update(rotate("sk-ant-api03-second-value"))
	s.gives("anthropic", "api.anthropic.com", "sk-ant-api03-second-value") // reply skips what was said of the change
	s.update(rotate("sk-ant-api03-third-value"))
	s.changed("anthropic")
	s.gives("anthropic", "api.anthropic.com", "sk-ant-api03-third-value")

	s.update(func(b *book.Book) { b.Entry("anthropic").Grants = nil })
	s.changed("anthropic")
	s.refuses("anthropic", "api.anthropic.com", "no grant lets")
	s.update(func(b *book.Book) {
		b.Entry("anthropic").Grants = []book.Grant{{ID: 2, Hosts: []string{"a.example.com"}, Ports: []int{443}, Sandbox: "a1"}}
	})
	s.changed("anthropic")
	s.gives("anthropic", "a.example.com", "sk-ant-api03-third-value")
	s.update(func(b *book.Book) { b.Entry("anthropic").Expires = time.Now().Add(-time.Second) })
	s.changed("anthropic")
	s.refuses("anthropic", "a.example.com", "has expired")
	s.update(func(b *book.Book) { b.Entry("other").Version++ }) // of no interest here: the next word is about the next change
	s.update(func(b *book.Book) { b.Remove("anthropic") })
	s.changed("anthropic")
	s.refuses("anthropic", "a.example.com", "was removed")
}

func TestDamageWhileRunning(t *testing.T) {
	s := newSite(t)
	s.add("anthropic", "api.anthropic.com")
	s.start(anthropic())
	whole, err := os.ReadFile(s.place.File())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.place.File(), whole[:len(whole)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	s.refuses("anthropic", "api.anthropic.com", "is damaged")
	if err := os.WriteFile(s.place.File(), whole, 0o600); err != nil {
		t.Fatal(err)
	}
	s.gives("anthropic", "api.anthropic.com", real)
	if err := os.Remove(s.place.File()); err != nil {
		t.Fatal(err)
	}
	s.refuses("anthropic", "api.anthropic.com", "was removed")
}

// TestSlowStore: a command is run once for all who wait, its value is used again while it is fresh, and what is revoked meanwhile is not given.
func TestSlowStore(t *testing.T) {
	s := newSite(t)
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	e := entry("anthropic", book.Source{Store: book.Command, Command: []string{"/bin/sh", "-c", fmt.Sprintf("echo x >> %s/ran; cat %s", dir, fifo)}}, "api.anthropic.com")
	s.update(func(b *book.Book) { b.Add(e) })
	s.start(anthropic())
	for id := range 5 {
		packet, err := ask.EncodeRequest(ask.Request{ID: uint64(id + 1), Entry: "anthropic", Host: "api.anthropic.com", Port: 443})
		if err != nil {
			t.Fatal(err)
		}
		s.send(packet)
	}
	s.release(t, fifo)
	ran := func() int { b, _ := os.ReadFile(filepath.Join(dir, "ran")); return strings.Count(string(b), "x") }
	for range 5 {
		if r, _ := s.reply(); r.Value.Len() != len(real) {
			t.Errorf("%q", r.Refused)
		}
	}
	s.next = 5
	s.gives("anthropic", "api.anthropic.com", real)
	if ran() != 1 {
		t.Errorf("the command ran %d times", ran())
	}
	s.update(func(b *book.Book) { b.Entry("anthropic").Version++ }) // rotated: what is kept is not used any more
	packet, err := ask.EncodeRequest(ask.Request{ID: 77, Entry: "anthropic", Host: "api.anthropic.com", Port: 443})
	if err != nil {
		t.Fatal(err)
	}
	s.send(packet)
	w, err := os.OpenFile(fifo, os.O_WRONLY, 0) // waits until the command reads
	if err != nil {
		t.Fatal(err)
	}
	s.update(func(b *book.Book) { b.Entry("anthropic").Grants = nil })
	w.WriteString(real)
	w.Close()
	if r, _ := s.reply(); r.ID != 77 || !strings.Contains(r.Refused, "no grant lets") {
		t.Errorf("revoked while the store was asked: %+v", r)
	}
}

// release lets the command print the value.
func (s *site) release(t *testing.T, fifo string) {
	t.Helper()
	if err := os.WriteFile(fifo, []byte(real+"\n"), 0); err != nil {
		t.Fatal(err)
	}
}

// TestUnfitValue: a store may hold what no header can.
func TestUnfitValue(t *testing.T) {
	s := newSite(t)
	s.update(func(b *book.Book) {
		b.Add(entry("anthropic", book.Source{Store: book.Command, Command: []string{"/bin/echo", "two\nlines-of-it"}}, "api.anthropic.com"))
	})
	s.start(anthropic())
	s.refuses("anthropic", "api.anthropic.com", "cannot be sent")
}

// TestWithheld: why a store gave nothing is for the person: how they call things in their password manager is nothing for the sandbox.
func TestWithheld(t *testing.T) {
	s := newSite(t)
	s.update(func(b *book.Book) {
		b.Add(entry("anthropic", book.Source{Store: book.Command, Command: []string{"/bin/false", "bank/of-mine"}}, "api.anthropic.com"))
	})
	s.start(anthropic())
	r := s.request("anthropic", "api.anthropic.com", 443, "POST", "/v1/messages")
	if !strings.Contains(r.Refused, "casemate secret uses anthropic") || strings.Contains(r.Refused, "false") || strings.Contains(r.Refused, "bank") {
		t.Errorf("the sandbox hears %q", r.Refused)
	}
	list, err := s.log.Read()
	if err != nil || len(list) != 1 || !strings.Contains(list[0].Refused, "/bin/false") {
		t.Errorf("the person reads %+v: %v", list, err)
	}
}

// TestUnnotedUse: what cannot be noted is not given.
func TestUnnotedUse(t *testing.T) {
	s := newSite(t)
	s.add("anthropic", "api.anthropic.com")
	s.start(anthropic())
	if err := os.MkdirAll(s.log.Path, 0o700); err != nil {
		t.Fatal(err)
	}
	if r := s.request("anthropic", "api.anthropic.com", 443, "GET", "/"); r.Value.Len() != 0 || r.Refused == "" {
		t.Errorf("%+v", r)
	}
}

// TestManyRefusals: what was noted before stays in the log, however often a sandbox has itself refused.
func TestManyRefusals(t *testing.T) {
	s := newSite(t)
	s.add("anthropic", "api.anthropic.com")
	s.start(anthropic())
	s.gives("anthropic", "api.anthropic.com", real)
	for range eachUpTo + 500 {
		s.refuses("anthropic", "evil.test", "does not name")
	}
	s.stop()
	list, err := s.log.Read()
	counted := 0
	for _, u := range list {
		counted += u.Times
	}
	if err != nil || len(list) > 1+eachUpTo+100 || list[0].Refused != "" || counted != 500 { // one line a minute for the others, however slow the machine is
		t.Errorf("%d lines, %v, %d counted", len(list), err, counted)
	}
}

// TestManyUses: nor does it however often it is given what it may have.
func TestManyUses(t *testing.T) {
	s := newSite(t)
	s.add("anthropic", "api.anthropic.com")
	s.start(anthropic())
	s.refuses("anthropic", "evil.test", "does not name")
	for range givenUpTo + 50 {
		s.gives("anthropic", "api.anthropic.com", real)
	}
	s.stop()
	list, err := s.log.Read()
	counted := 0
	for _, u := range list {
		counted += u.Times
	}
	if err != nil || len(list) > 1+givenUpTo+25 || list[0].Refused == "" || counted != 50 {
		t.Errorf("%d lines, %v, %d counted", len(list), err, counted)
	}
}

// TestHostileGate sends what is no request: it gets nothing more.
func TestHostileGate(t *testing.T) {
	for _, packet := range []string{"{", `{"id":0,"entry":"anthropic","host":"api.anthropic.com","port":443}`, `{"sandbox":"b","entries":[]}`, strings.Repeat("x", ask.MaxMessage+1)} {
		s := newSite(t)
		s.add("anthropic", "api.anthropic.com")
		s.start(anthropic())
		s.send([]byte(packet))
		if err := <-s.ended; err == nil {
			t.Errorf("%.40q: it goes on", packet)
		}
		if n, err := unix.Read(s.fd, make([]byte, 10)); n != 0 && !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("%.40q: %d, %v", packet, n, err)
		}
		s.ended <- nil
	}
}

func TestMeet(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"a.example", "A.example", true}, {"*.example.com", "a.example.com", true}, {"a.example.com", "*.example.com", true}, {"*.example.com", "example.com", false},
		{"*.example.com", "*.a.example.com", true}, {"*.a.example.com", "*.example.com", true}, {"a.example", "b.example", false}, {"*.ample.com", "a.example.com", false},
	} {
		if meet(c.a, c.b) != c.want {
			t.Errorf("%s and %s", c.a, c.b)
		}
	}
}

// TestLogin: the gate is given an agent's login as it is in the agent's file at that moment, and until when it is good; it is renewed where it is over.
func TestLogin(t *testing.T) {
	s := newSite(t)
	dir := filepath.Join(t.TempDir(), ".claude")
	file := filepath.Join(dir, ".credentials.json")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	expires := time.Now().Add(time.Hour).Truncate(time.Second)
	write := func(token string, expires time.Time) error {
		return os.WriteFile(file, fmt.Appendf(nil, `{"claudeAiOauth":{"accessToken":%q,"refreshToken":"sk-ant-ort01-x","expiresAt":%d}}`, token, expires.UnixMilli()), 0o600)
	}
	if err := write(real+"-first", expires); err != nil {
		t.Fatal(err)
	}
	refused := errors.New("the vendor refuses")
	s.renew = func(_ context.Context, f login.File) error {
		if f.Path != file || f.Name != "claude" {
			t.Errorf("%+v", f)
		}
		if refused != nil {
			return refused
		}
		return write(real+"-renewed", expires)
	}
	s.update(func(b *book.Book) {
		b.Add(entry("claude", book.Source{Store: book.Login, Login: "claude", Path: file}, "api.anthropic.com"))
	})
	s.start(ask.Entry{Name: "claude", Env: "CLAUDE_CODE_OAUTH_TOKEN", Hosts: []string{"api.anthropic.com"}})
	s.gives("claude", "api.anthropic.com", real+"-first")
	if r := s.request("claude", "api.anthropic.com", 443, "POST", "/"); !r.Until.Equal(expires) {
		t.Errorf("until %v, want %v", r.Until, expires)
	}
	if err := write(real+"-of-another-account", expires); err != nil {
		t.Fatal(err)
	}
	s.gives("claude", "api.anthropic.com", real+"-of-another-account")
	if err := write(real+"-over", time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	s.refuses("claude", "api.anthropic.com", "the vendor refuses")
	refused = nil
	s.gives("claude", "api.anthropic.com", real+"-renewed")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	s.refuses("claude", "api.anthropic.com", "nobody is logged in")
}
