package dns

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"casemate.dev/internal/gate/names"
	"casemate.dev/internal/gate/records"
	"casemate.dev/internal/gate/rules"
	"casemate.dev/internal/gate/wire"
	"golang.org/x/net/dns/dnsmessage"
)

// told collects records.
type told struct {
	mu   sync.Mutex
	list []wire.Record
}

func (s *told) Write(b []byte) (int, error) {
	var r wire.Record
	if err := json.Unmarshal(b, &r); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, r)
	return len(b), nil
}

func resolver() (*Resolver, *told) {
	to := &told{}
	r := &Resolver{Rules: &rules.Book{}, Names: &names.Table{}, Log: records.New(to)}
	r.Rules.Replace(wire.Rules{
		Allow: []wire.Allow{{Host: "api.example.com", Ports: []int{443}}, {Host: "*.wild.example.com", Ports: []int{80}}},
		Deny:  []string{"not.wild.example.com"},
	})
	return r, to
}

func query(t testing.TB, name string, kind dnsmessage.Type, more ...dnsmessage.Resource) []byte {
	m := dnsmessage.Message{
		Header:      dnsmessage.Header{ID: 4711, RecursionDesired: true},
		Questions:   []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}},
		Additionals: more,
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func edns(version uint32, name string) dnsmessage.Resource {
	h := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeOPT, Class: 4096, TTL: version << 16}
	return dnsmessage.Resource{Header: h, Body: &dnsmessage.OPTResource{}}
}

func ask(t testing.TB, r *Resolver, q []byte) dnsmessage.Message {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(r.Answer(q)); err != nil {
		t.Fatalf("%x: %v", q, err)
	}
	if !m.Response || m.Truncated || !m.RecursionAvailable || len(q) >= 2 && m.ID != uint16(q[0])<<8|uint16(q[1]) {
		t.Fatalf("%+v", m.Header)
	}
	return m
}

func TestAnswers(t *testing.T) {
	r, to := resolver()
	const yes, no = dnsmessage.RCodeSuccess, dnsmessage.RCodeNameError
	for _, c := range []struct {
		name    string
		kind    dnsmessage.Type
		code    dnsmessage.RCode
		answers string
	}{
		{"api.example.com.", dnsmessage.TypeA, yes, "198.18.0.16"},
		{"api.example.com.", dnsmessage.TypeAAAA, yes, "fd43:6173:6d61::c612:10"},
		{"aPi.eXaMple.CoM.", dnsmessage.TypeA, yes, "198.18.0.16"},
		{"api.example.com.", dnsmessage.TypeALL, yes, "198.18.0.16"},
		{"api.example.com.", 65, yes, ""}, // HTTPS
		{"api.example.com.", 64, yes, ""}, // SVCB
		{"api.example.com.", dnsmessage.TypeMX, yes, ""},
		{"api.example.com.", dnsmessage.TypeTXT, yes, ""},
		{"api.example.com.", dnsmessage.TypeCNAME, yes, ""},
		{"x.y.wild.example.com.", dnsmessage.TypeA, yes, "198.18.0.17"},
		{"wild.example.com.", dnsmessage.TypeA, no, ""},
		{"not.wild.example.com.", dnsmessage.TypeA, no, ""},
		{"evilapi.example.com.", dnsmessage.TypeA, no, ""},
		{"api.example.com.corp.lan.", dnsmessage.TypeA, no, ""}, // a search domain
		{"api.", dnsmessage.TypeA, no, ""},
		{"secretdata.evil.test.", dnsmessage.TypeTXT, no, ""},
		{"_https._tcp.api.example.com.", dnsmessage.TypeSRV, no, ""},
		{"_https._tcp.unlisted.example.com.", dnsmessage.TypeSRV, no, ""},
		{"_only.", dnsmessage.TypeSRV, no, ""},
		{".", dnsmessage.TypeNS, no, ""},
		{"127.0.0.1.", dnsmessage.TypeA, no, ""},
		{"localhost.", dnsmessage.TypeA, yes, "127.0.0.1"},
		{"x.LOCALHOST.", dnsmessage.TypeAAAA, yes, "::1"},
		{"16.0.18.198.in-addr.arpa.", dnsmessage.TypePTR, yes, "api.example.com."},
		{"0.1.0.0.2.1.6.c.0.0.0.0.0.0.0.0.0.0.0.0.1.6.d.6.3.7.1.6.3.4.d.f.ip6.arpa.", dnsmessage.TypePTR, yes, "api.example.com."},
		{"1.0.0.127.in-addr.arpa.", dnsmessage.TypePTR, yes, "localhost."},
		{"99.0.18.198.in-addr.arpa.", dnsmessage.TypePTR, no, ""},
		{"8.8.8.8.in-addr.arpa.", dnsmessage.TypePTR, no, ""},
		{"16.0.18.198.in-addr.arpa.", dnsmessage.TypeA, yes, ""},
		{"x.16.0.18.198.in-addr.arpa.", dnsmessage.TypePTR, no, ""},
	} {
		m := ask(t, r, query(t, c.name, c.kind, edns(0, ".")))
		var got []string
		for _, a := range m.Answers {
			switch b := a.Body.(type) {
			case *dnsmessage.AResource:
				got = append(got, netip.AddrFrom4(b.A).String())
			case *dnsmessage.AAAAResource:
				got = append(got, netip.AddrFrom16(b.AAAA).String())
			case *dnsmessage.PTRResource:
				got = append(got, b.PTR.String())
			}
			if a.Header.Name.String() != c.name {
				t.Errorf("%s: answered for %s", c.name, a.Header.Name)
			}
		}
		if m.RCode != c.code || strings.Join(got, " ") != c.answers || m.Questions[0].Name.String() != c.name || len(m.Additionals) != 1 {
			t.Errorf("%s %v: %v %v, %d additional", c.name, c.kind, m.RCode, got, len(m.Additionals))
		}
	}
	r.Log.Close(time.Minute)
	var denied []string
	for _, d := range to.list {
		if d.Verdict == wire.Denied && d.Port == 0 && d.Why != "" {
			denied = append(denied, d.Name)
		}
	}
	if got := strings.Join(denied, " "); !strings.Contains(got, "secretdata.evil.test") || strings.Contains(got, "arpa") || strings.Contains(got, "localhost") {
		t.Errorf("recorded as denied: %s", got)
	}
	if slices.Contains(denied, "_https._tcp.api.example.com") || !slices.Contains(denied, "unlisted.example.com") || !slices.Contains(denied, "_only") {
		t.Errorf("of services is recorded as denied: %s", denied)
	}
}

func TestOnly4(t *testing.T) {
	r, _ := resolver()
	r.Only4 = true
	if m := ask(t, r, query(t, "api.example.com.", dnsmessage.TypeAAAA)); m.RCode != 0 || len(m.Answers) != 0 {
		t.Errorf("%v", m)
	}
	if m := ask(t, r, query(t, "api.example.com.", dnsmessage.TypeA)); len(m.Answers) != 1 {
		t.Errorf("%v", m)
	}
}

func TestEDNS(t *testing.T) {
	r, _ := resolver()
	if m := ask(t, r, query(t, "api.example.com.", dnsmessage.TypeA)); len(m.Additionals) != 0 {
		t.Error("OPT in a reply to a query without")
	}
	m := ask(t, r, query(t, "api.example.com.", dnsmessage.TypeA, edns(0, ".")))
	if h := m.Additionals[0].Header; h.Type != dnsmessage.TypeOPT || h.Class != maxPayload || h.TTL != 0 {
		t.Errorf("%+v", h)
	}
	m = ask(t, r, query(t, "api.example.com.", dnsmessage.TypeA, edns(1, ".")))
	if h := m.Additionals[0].Header; h.ExtendedRCode(m.RCode) != badVersion || len(m.Answers) != 0 {
		t.Errorf("version 1: %v %+v", m.RCode, h)
	}
	for name, more := range map[string][]dnsmessage.Resource{"two": {edns(0, "."), edns(0, ".")}, "not of the root": {edns(0, "a.")}} {
		if m := ask(t, r, query(t, "api.example.com.", dnsmessage.TypeA, more...)); m.RCode != dnsmessage.RCodeFormatError {
			t.Errorf("%s: %v", name, m.RCode)
		}
	}
}

func TestMalformed(t *testing.T) {
	r, _ := resolver()
	good := query(t, "api.example.com.", dnsmessage.TypeA)
	change := func(at int, to byte) []byte {
		b := append([]byte(nil), good...)
		b[at] = to
		return b
	}
	for name, q := range map[string][]byte{"nothing": nil, "half a header": good[:11], "a reply": change(2, 0x81)} {
		if a := r.Answer(q); a != nil {
			t.Errorf("%s is answered: %x", name, a)
		}
	}
	for name, c := range map[string]struct {
		q    []byte
		code dnsmessage.RCode
	}{
		"no question":         {good[:12], dnsmessage.RCodeFormatError},
		"no questions":        {change(5, 0), dnsmessage.RCodeFormatError},
		"two questions":       {change(5, 2), dnsmessage.RCodeFormatError},
		"a cut question":      {good[:len(good)-1], dnsmessage.RCodeFormatError},
		"a pointer to itself": {append(append([]byte(nil), good[:12]...), 0xc0, 12, 0, 1, 0, 1), dnsmessage.RCodeFormatError},
		"a missing answer":    {change(7, 1), dnsmessage.RCodeFormatError},
		"opcode STATUS":       {change(2, 0x10), dnsmessage.RCodeNotImplemented},
		"opcode UPDATE":       {change(2, 0x28), dnsmessage.RCodeNotImplemented},
		"class CHAOS":         {change(len(good)-1, 3), dnsmessage.RCodeRefused},
		"a dot in a label":    {change(13, '.'), dnsmessage.RCodeFormatError},
		"NUL in a label":      {change(13, 0), dnsmessage.RCodeNameError},
	} {
		if m := ask(t, r, c.q); m.RCode != c.code || len(m.Answers) > 0 {
			t.Errorf("%s: %v", name, m.RCode)
		}
	}
}

// TestNamesRunOut: who makes up names below a wildcard gets SERVFAIL, and the names known before go on.
func TestNamesRunOut(t *testing.T) {
	r, to := resolver()
	first := ask(t, r, query(t, "api.example.com.", dnsmessage.TypeA))
	for i := range names.Max + 10 {
		r.question(dnsmessage.Question{Name: dnsmessage.MustNewName("n" + strings.Repeat("a", i%40) + string(rune('a'+i%26)) + itoa(i) + ".wild.example.com."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET})
	}
	if m := ask(t, r, query(t, "another.wild.example.com.", dnsmessage.TypeA)); m.RCode != dnsmessage.RCodeServerFailure {
		t.Errorf("one more: %v", m.RCode)
	}
	if m := ask(t, r, query(t, "api.example.com.", dnsmessage.TypeA)); len(m.Answers) != 1 || m.Answers[0].Body.GoString() != first.Answers[0].Body.GoString() {
		t.Errorf("a name known before: %v", m)
	}
	r.Log.Close(time.Minute)
	n := 0
	for _, rec := range to.list {
		if rec.Verdict == wire.Failed {
			n++
		}
	}
	if n < 1 || n > 3 {
		t.Errorf("%d records say so", n)
	}
}

func itoa(i int) string {
	var b []byte
	for ; i > 0; i /= 10 {
		b = append(b, byte('0'+i%10))
	}
	return string(b)
}

func TestRate(t *testing.T) {
	now := time.Now()
	r := rate{perSecond: 100, burst: 10, left: 10, last: now}
	n := 0
	for range 100 {
		if r.take(now) {
			n++
		}
	}
	if n != 10 || !r.take(now.Add(10*time.Millisecond)) || r.take(now.Add(10*time.Millisecond)) {
		t.Errorf("%d of a burst of 10", n)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(query(f, "api.example.com.", dnsmessage.TypeA))
	f.Add(query(f, "aPI.example.com.", dnsmessage.TypeAAAA, edns(0, ".")))
	f.Add(query(f, "16.0.18.198.in-addr.arpa.", dnsmessage.TypePTR))
	f.Add(query(f, "x.wild.example.com.", dnsmessage.TypeALL, edns(1, ".")))
	f.Add(query(f, "a.evil.test.", 65))
	r, _ := resolver()
	f.Fuzz(func(t *testing.T, q []byte) {
		a := r.Answer(q)
		if a == nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(a); err != nil {
			t.Fatalf("the reply %x: %v", a, err)
		}
		if len(a) > 512 || !m.Response || m.Truncated || a[0] != q[0] || a[1] != q[1] || len(m.Answers) > 1 {
			t.Errorf("%d bytes: %+v", len(a), m)
		}
		for _, r := range m.Answers {
			if m.Questions[0].Name != r.Header.Name {
				t.Errorf("answers for %v when asked for %v", r.Header.Name, m.Questions[0].Name)
			}
		}
		if r.Answer(a) != nil {
			t.Error("its own reply is answered")
		}
	})
}

// TestMembers: on a private network names of one label stand for its members, unless a rule says something about them; elsewhere they do not exist.
func TestMembers(t *testing.T) {
	r, _ := resolver()
	r.Rules.Replace(wire.Rules{Allow: []wire.Allow{{Host: "outside", Ports: []int{443}}}, Deny: []string{"never"}})
	for _, internal := range []bool{false, true} {
		r.Internal = internal
		for name, want := range map[string]bool{"api.": internal, "API.": internal, "never.": false, "outside.": true, "api.internal.": false, "a_b.": false, "-a.": false} {
			m := ask(t, r, query(t, name, dnsmessage.TypeA))
			if got := m.RCode == dnsmessage.RCodeSuccess && len(m.Answers) == 1; got != want {
				t.Errorf("%q, internal %v: %v", name, internal, m)
			}
		}
	}
	r.Rules.Replace(wire.Rules{Deny: []string{"*"}}) // cannot be read
	if m := ask(t, r, query(t, "api.", dnsmessage.TypeA)); m.RCode != dnsmessage.RCodeNameError {
		t.Errorf("with rules that cannot be read: %v", m)
	}
}
