package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"casemate.dev/internal/event"
	"casemate.dev/internal/gate/wire"
	"casemate.dev/internal/store"
	"golang.org/x/sys/unix"
)

// TestRecordPutAside: a run whose record of connections another run has put aside as too long goes on in the new one.
func TestRecordPutAside(t *testing.T) {
	st, err := store.Open(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	say := quiet(t, st, "k7")
	say(`{"id":1,"verdict":"opened","name":"first.example.com"}`)
	const long = 17 << 20
	if err := os.Truncate(st.ConnectionsPath(), long); err != nil {
		t.Fatal(err)
	}
	quiet(t, st, "m2")(`{"id":1,"verdict":"opened","name":"other.example.com"}`)
	say(`{"id":2,"verdict":"opened","name":"second.example.com"}`)
	list, _, err := Connections(st, "k7", 0)
	if err != nil || len(list) != 1 || list[0].Name != "second.example.com" {
		t.Errorf("%+v %v", list, err)
	}
}

// TestRecordOfMany: a run that connects without end has its share of the record and no more, every beginning there has its end, and the count of the rest is told.
func TestRecordOfMany(t *testing.T) {
	st, err := store.Open(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	quiet(t, st, "other")(`{"id":1,"verdict":"opened","name":"other.example.com"}`)
	g, _ := asked(t, st, "k7")
	const many = 20000
	begun := uint64(0)
	for begun < many {
		for range 10 {
			begun++
			g.note([]byte(fmt.Sprintf(`{"id":%d,"verdict":"opened","name":"api.example.com","port":443,"rule":"a"}`, begun)))
		}
		for id := begun - 9; id <= begun; id++ {
			g.note([]byte(fmt.Sprintf(`{"id":%d,"verdict":"closed","name":"api.example.com","port":443,"rule":"a","sent":1,"got":2}`, id)))
		}
	}
	g.note([]byte(`{"id":99999,"verdict":"denied","name":"evil.example.com","port":443}`))
	g.writeLost()
	g.written()
	list, size, err := Connections(st, "", 0)
	if err != nil || list[0].Sandbox != "other" || size > 3*maxKept/2 {
		t.Fatalf("%d bytes, %v", size, err)
	}
	count := map[wire.Verdict]int{}
	for _, c := range list[1:] {
		if count[c.Verdict]++; c.Verdict == wire.Lost {
			count["left"] += c.Times
		}
	}
	if count[wire.Opened] < 10000 || count[wire.Opened] != count[wire.Closed] || count[wire.Denied] != 1 || count[wire.Lost] != 2 || count["left"]+2*count[wire.Opened] != 2*many {
		t.Errorf("%v", count)
	}
}

// TestRecordOfDenials: what is tried and denied without end does not fill it either.
func TestRecordOfDenials(t *testing.T) {
	st, err := store.Open(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	g, _ := asked(t, st, "k7")
	for range 40000 {
		g.write(Connection{Sandbox: "k7", Record: wire.Record{ID: 1, Verdict: wire.Denied, Name: "evil.example.com", Port: 443, Why: "no rule allows evil.example.com:443"}})
	}
	g.write(Connection{Sandbox: "k7", Record: wire.Record{ID: 2, Verdict: wire.Opened, Name: "api.example.com"}})
	list, size, err := Connections(st, "k7", 0)
	if err != nil || size > 3*maxKept/2 || list[len(list)-1].Verdict != wire.Opened {
		t.Errorf("%d bytes, %v", size, err)
	}
}

// TestGateThatTakesNothing: a gate that was taken over, asks for what no rule can allow and takes no answer, does not hold its supervisor up.
func TestGateThatTakesNothing(t *testing.T) {
	st, err := store.Open(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	g, theirs := asked(t, st, "k7")
	g.asking = asking{on: true, there: true, told: true}
	for unix.Sendto(g.fd, make([]byte, 4096), unix.MSG_DONTWAIT, nil) == nil {
	}
	for range 20 {
		if _, err := unix.Write(theirs, []byte(`{"question":{"id":1,"host":"no host","port":443}}`)); err != nil {
			t.Fatal(err)
		}
	}
	received := make(chan bool)
	go func() {
		g.receive()
		close(received)
	}()
	select {
	case <-received:
	case <-time.After(20 * time.Second): // a second for each, where the gate is started: here the socket has no time limit
		t.Error("the supervisor waits")
	}
}

// TestPortsForGateThatTakesNothing: nor does one while programs inside listen on all ports.
func TestPortsForGateThatTakesNothing(t *testing.T) {
	st, err := store.Open(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	g, _ := asked(t, st, "k7")
	for unix.Sendto(g.fd, make([]byte, 4096), unix.MSG_DONTWAIT, nil) == nil {
	}
	o := &offers{s: &supervision{run: g.run, gate: g}, open: map[int]*offer{}, taken: map[int]bool{}, told: map[string]bool{}}
	for i := range o.seen {
		o.seen[i] = 1<<64 - 1
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := computed(t)
	o.settle()
	if took := computed(t) - before; took > 500*time.Millisecond || len(o.open) > 0 {
		t.Errorf("the supervisor was busy for %v, and %d ports are open", took, len(o.open))
	}
}

// computed is the CPU time of this thread.
func computed(t *testing.T) time.Duration {
	t.Helper()
	var use unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &use); err != nil {
		t.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// TestSaveRuleFollowsLinks: a policy that is a link to where its owner keeps it stays one.
func TestSaveRuleFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	p := Person{Config: filepath.Join(dir, "config")}
	kept, link := filepath.Join(dir, "kept.yaml"), filepath.Join(p.Config, "policy.yaml")
	if err := errors.Join(os.Mkdir(p.Config, 0o700), os.WriteFile(kept, []byte("# mine\nversion: 1\n"), 0o600), os.Symlink(kept, link)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.SaveRule("a.example.com"); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(kept)
	if to, _ := os.Readlink(link); to != kept || err != nil || !strings.Contains(string(text), "a.example.com") {
		t.Errorf("the link leads to %q, where %q is", to, text)
	}
}

// TestSaveRulesAtOnce: of rules that are saved at the same time none is lost.
func TestSaveRulesAtOnce(t *testing.T) {
	p := Person{Config: filepath.Join(t.TempDir(), "config")}
	const many = 20
	var saving sync.WaitGroup
	for i := range many {
		saving.Go(func() {
			if _, err := p.SaveRule(fmt.Sprintf("h%d.example.com", i)); err != nil {
				t.Error(err)
			}
		})
	}
	saving.Wait()
	text, err := os.ReadFile(filepath.Join(p.Config, "policy.yaml"))
	if n := strings.Count(string(text), ".example.com"); err != nil || n != many {
		t.Errorf("%d of %d rules are left, %v", n, many, err)
	}
}

// quiet is a run whose gate says what it is told to.
func quiet(t *testing.T, st *store.Store, id string) (say func(string)) {
	g, theirs := asked(t, st, id)
	return func(text string) {
		if _, err := unix.Write(theirs, []byte(text)); err != nil {
			t.Fatal(err)
		}
		g.receive()
	}
}

// asked is the supervisor's side of a gate, and the gate's end of the socket.
func asked(t *testing.T, st *store.Store, id string) (g *gateway, theirs int) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Close(pair[0])
		unix.Close(pair[1])
	})
	g = &gateway{run: &Run{Store: st, Box: &store.Sandbox{Record: store.Record{ID: id}}}, fd: pair[0], told: map[string]bool{}}
	if g.log, err = st.Connections(); err != nil { // as at its start
		t.Fatal(err)
	}
	return g, pair[1]
}

// TestAllowCommand: what a program inside looks up becomes no part of a command that a person copies, unless a rule could have it.
func TestAllowCommand(t *testing.T) {
	for name, want := range map[string]string{
		"api.example.com": "casemate allow k7 net:api.example.com:22", "2001:db8::1": "casemate allow k7 net:[2001:db8::1]:22",
		"a;reboot": "", "$(reboot)": "", "a b": "", "a\nb": "", "`x`": "", "a'b": "", "é.example": "", "": "",
	} {
		c := Connection{Sandbox: "k7", Record: wire.Record{Name: name, Port: 22}}
		if got := c.AllowCommand(); got != want {
			t.Errorf("%q: %q", name, got)
		}
	}
}

// TestDenialAllow: what a person is told to do about a denied request is never to allow all requests to the host, of which the policy allows only some.
func TestDenialAllow(t *testing.T) {
	for _, c := range []struct {
		d    Denial
		want string
	}{
		{Denial{Name: "a.example", Port: 443}, "--allow a.example:443"},
		{Denial{Name: "a b", Port: 443}, ""},
		{Denial{Name: "192.0.2.1", Port: 80}, "--allow 192.0.2.1:80"},
		{Denial{Name: "2001:db8::1", Port: 80}, "--allow [2001:db8::1]:80"},
		{Denial{Name: "198.18.0.2", Port: 80}, ""}, // no rule leads there
		{Denial{Name: "fd43:6173:6d61::2", Port: 80}, ""},
		{Denial{Name: "127.0.0.1", Port: 80}, ""},
		{Denial{Name: "fe80::1%x;y", Port: 80}, ""},
		{Denial{Name: "a.example", Port: 443, method: "POST", rule: "{host: a.example}"}, "network.allow: {host: a.example}"},
		{Denial{Name: "a.example", Port: 443, method: "POST"}, ""},
	} {
		if got := c.d.Allow(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.d, got, c.want)
		}
	}
}

// TestAlarmsAreHeard: a flood of denials, before it, hides no alarm: it is an event, and in the record.
func TestAlarmsAreHeard(t *testing.T) {
	st, err := store.Open(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	g, _ := asked(t, st, "k7f3q2ab")
	note := func(r wire.Record) {
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		g.note(text)
	}
	const long = 4 << 10
	why := strings.Repeat("w", long)
	for i := range maxKept/long + 2*maxDenials {
		if i == maxKept/long+maxDenials {
			why = "" // short ones take up what no long one fits into
		}
		note(wire.Record{ID: uint64(i + 1), Verdict: wire.Denied, Name: fmt.Sprintf("a%d.example", i), Port: 443, Why: why})
	}
	note(wire.Record{ID: 1 << 20, Verdict: wire.Denied, Name: "evil.example", Port: 443, Secret: "anthropic", Why: "the placeholder is in a header"})
	g.written()
	if !slices.ContainsFunc(g.run.events, func(e event.Event) bool { return e.Kind == event.Alarm && e.Subject == "secret:anthropic" }) {
		t.Errorf("none of %d events is the alarm", len(g.run.events))
	}
	list, _, err := Connections(st, "k7f3q2ab", 0)
	if err != nil || !slices.ContainsFunc(list, func(c Connection) bool { return c.Secret == "anthropic" }) {
		t.Errorf("none of %d records is the alarm, %v", len(list), err)
	}
}

// TestRecordAfterFullDisk: a line of which the disk took a part costs no other one.
func TestRecordAfterFullDisk(t *testing.T) {
	st, err := store.Open(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	g, _ := asked(t, st, "k7f3q2ab")
	g.written()
	r, full, err := os.Pipe() // takes a part of a line, and then no more, as a disk that becomes full
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = r.Read(make([]byte, 1))
		r.Close()
	}()
	g.log = full
	g.append([]byte(strings.Repeat("x", 1<<20)))
	g.written()
	if err := os.WriteFile(st.ConnectionsPath(), []byte("xxx"), 0o600); err != nil {
		t.Fatal(err)
	}
	g.note([]byte(`{"id":1,"verdict":"denied","name":"evil.example","port":443}`))
	g.note([]byte(`{"id":2,"verdict":"denied","name":"evil.example","port":80}`))
	g.written()
	if list, _, err := Connections(st, "k7f3q2ab", 0); err != nil || len(list) != 2 {
		t.Errorf("%+v, %v", list, err)
	}
}
