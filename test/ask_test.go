package test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// begin gives the shell a line whose end is heard later.
func (k *talk) begin(line string) {
	k.t.Helper()
	if _, err := io.WriteString(k.in, line+"\n"); err != nil {
		k.t.Fatalf("%q: %v; %s", line, err, k.stderr)
	}
}

// answer is what became of what was begun.
func (k *talk) answer() string {
	k.t.Helper()
	got, ok := k.hear()
	if !ok {
		k.t.Fatalf("the shell ended: %s%s", got, k.stderr)
	}
	return got
}

// insists types the keys again whenever the question stands there again, until they lead to what is wanted.
func (p *person) insists(keys, again, want string) {
	p.t.Helper()
	p.send(keys)
	deadline := time.After(patience)
	for !strings.Contains(p.unread, want) {
		if _, rest, asked := strings.Cut(p.unread, again); asked {
			p.unread = rest
			p.send(keys)
		}
		select {
		case s := <-p.seen:
			p.unread += s
		case <-deadline:
			p.t.Fatalf("%q did not appear in %v; the terminal shows %q", want, patience, tail(p.unread))
		}
	}
	p.sees(want)
}

// watching is a person at casemate watch.
func (s *site) watching() (*person, *exec.Cmd) {
	s.t.Helper()
	p, cmd := sitDown(s.t), s.command("watch")
	p.start(cmd)
	p.sees("watching")
	return p, cmd
}

// TestAsk: what no rule allows waits until a person at casemate watch has answered, and the answer holds as long as they said. While nobody sits there
// it is denied at once.
func TestAsk(t *testing.T) {
	gated(t, func(t *testing.T, s *site) {
		p, watch := s.watching()
		s.put("casemate.yaml", "network: {deny: [closed.allowed.example]}\n", 0o644)
		k := s.talk("--ask")
		id := s.running(t)
		reach := func(args string) string { return "python3 reach.py " + args }
		sees := func(target string) {
			t.Helper()
			p.sees("May " + id + " reach " + target + "? ")
			p.sees("s left. (sh -c ")
			p.sees("no to [e]verything: ")
		}

		k.begin(reach("denied.example 80 http"))
		sees("denied.example:80")
		if s.world.saw("query denied.example") {
			t.Error("the name was looked up outside before there was an answer")
		}
		p.types("o\r", id+" reaches denied.example:80 this once")
		if got := k.answer(); got != "GET denied.example /page 0" {
			t.Errorf("once: %q", got)
		}

		k.begin(reach("denied.example 80 http"))
		sees("denied.example:80")
		p.types("\r", id+" may not reach denied.example:80")
		has(t, "after a no", k.answer(), "broken")
		start := time.Now()
		has(t, "after a no, again", k.ask(reach("denied.example 80 http")), ":")
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("it was asked about after a no: it took %v", took)
		}

		k.begin(reach("api.allowed.example 443 tls"))
		sees("api.allowed.example:443")
		p.types("what\r", "casemate allow changes your mind")
		sees("api.allowed.example:443")
		p.types("y\r", id+" may reach api.allowed.example:443 until its run ends")
		if got := k.answer(); got != "GET api.allowed.example /page 0" {
			t.Errorf("until the run ends: %q", got)
		}
		if got := k.ask(reach("api.allowed.example 443 tls")); got != "GET api.allowed.example /page 0" {
			t.Errorf("until the run ends, the second time: %q", got)
		}
		has(t, "what a rule denies", k.ask(reach("closed.allowed.example 80 http")), "refused")

		p.send("a\r") // nobody has asked
		k.begin(reach("n.allowed.example 80 http"))
		sees("n.allowed.example:80")
		if out := s.do("allow", id, "net:n.allowed.example:80"); out.exit != 0 { // whoever is faster
			t.Fatal(out)
		}
		p.sees("It is over: n.allowed.example:80 waits no more.")
		if got := k.answer(); got != "GET n.allowed.example /page 0" {
			t.Errorf("allowed by a command: %q", got)
		}

		k.begin(reach("in-hosts.example 80 http"))
		sees("in-hosts.example:80")
		p.insists("a\r", "no to [e]verything: ", "it is in your policy") // in the second after another question went it counts as nothing
		if got := k.answer(); got != "GET in-hosts.example /page 0" {
			t.Errorf("always: %q", got)
		}
		if text, err := os.ReadFile(filepath.Join(s.Home, ".config", "casemate", "policy.yaml")); err != nil || !strings.Contains(string(text), "in-hosts.example") {
			t.Errorf("the policy is %q, %v", text, err)
		}
		out := s.do("net", id)
		for _, want := range []string{"asked  denied.example:80", "once, by casemate watch on /dev/pts/", "no was answered by casemate watch on /dev/pts/"} {
			has(t, "net", out.stdout, want)
		}

		k.begin(reach("many.allowed.example 80 http"))
		sees("many.allowed.example:80")
		p.insists("e\r", "no to [e]verything: ", id+" asks no more")
		has(t, "no to everything", k.answer(), "broken")
		has(t, "after it", k.ask(reach("other.allowed.example 80 http")), "refused")
		k.end()

		k = s.talk("--ask")
		id = s.running(t)
		k.begin(reach("denied.example 80 http"))
		sees("denied.example:80")
		p.send("\x03")
		if status := p.ends(watch); status != 0 {
			t.Errorf("watch ended with %d", status)
		}
		has(t, "when the person has gone", k.answer(), "broken")
		eventually(t, patience, "and while nobody is there", func() bool { return strings.Contains(k.ask(reach("other.example 80 http")), "refused") })
		k.end()
		has(t, "net", s.do("net", id).stdout, "nobody is there to be asked (casemate watch)")
		has(t, "events", s.events(t), `"kind":"answered","subject":"net:denied.example:80","detail":"once, by casemate watch on /dev/pts/`)
		if left, _ := filepath.Glob(filepath.Join(s.State, "casemate", "questions", "*")); len(left) > 0 {
			t.Errorf("questions are left: %v", left)
		}
	})
}

// TestAskHostileGate: whatever a gate that was taken over asks, a person sees one question at a time, about names that a rule can have.
func TestAskHostileGate(t *testing.T) {
	needs(t, "python3")
	s := newSite(t, best())
	p, watch := s.watching()
	cmd := s.withGate(`#!/usr/bin/python3
import json, socket
s = socket.socket(fileno=3)
s.sendall(b'{"ready":true}')
s.recv(1 << 17)
socket.recv_fds(s, 1 << 17, 16)
def ask(id, host, port, **more): s.sendall(json.dumps({"question": dict(more, id=id, host=host, port=port)}).encode())
for host, port in (("evil\x1b[2J.example", 443), ("a b.example", 443), ("a.example", 0), ("a.example", 99999), ("a.example", -1), ("", 443), ("*.com", 443), ("*.evil.example", 443), ("x" * 5000, 443), ("evil\r\nMay yes.example", 443)):
    ask(7, host, port)
for i in range(1000, 3000): ask(i, "n%d.example" % i, 443)
for i in range(1064, 3000): ask(i, "", 0, over=True)
while s.recv(1 << 17): pass
`, "--ask", "--", "sh", "-c", "until [ -e end ]; do sleep 0.1; done; echo went on")
	ended := make(chan output, 1)
	go func() { ended <- s.finish(cmd) }()
	p.sees("reach n1000.example:443? ")
	p.sees("no to [e]verything: ")
	files, _ := filepath.Glob(filepath.Join(s.State, "casemate", "questions", "*.json"))
	if len(files) != 1 {
		t.Fatalf("questions: %v", files)
	}
	asked := func() (text string, n int) {
		b, _ := os.ReadFile(files[0])
		return string(b), strings.Count(string(b), `"target"`)
	}
	eventually(t, patience, "as many questions wait as may", func() bool { _, n := asked(); return n >= 64 })
	if text, n := asked(); n != 64 || strings.Contains(text, "evil") {
		t.Errorf("%d questions: %s", n, text)
	}
	p.types("e\r", " asks no more")
	s.put("end", "", 0o644)
	if out := <-ended; out.exit != 0 || !strings.Contains(out.stdout, "went on") {
		t.Errorf("the run: %v", out)
	}
	p.send("\x03")
	p.ends(watch)
	for _, no := range []string{"evil", "a b.example", "\x1b[2J", "n1001.example"} {
		hasNot(t, "what a person saw", p.shown.String(), no)
	}
}

// TestWatchUnasked: what the gate says nobody is to be asked about is listed, and no key in passing opens it.
func TestWatchUnasked(t *testing.T) {
	needs(t, "python3")
	s := newSite(t, best())
	p, watch := s.watching()
	cmd := s.withGate(`#!/usr/bin/python3
import json, socket
s = socket.socket(fileno=3)
s.sendall(b'{"ready":true}')
s.recv(1 << 17)
socket.recv_fds(s, 1 << 17, 16)
def denied(**r): s.sendall(json.dumps(dict(r, verdict="denied", port=443, why="no rule allows it", time="2026-01-01T00:00:00Z")).encode())
denied(id=1, name="some.example", unasked=True, method="POST", path="/evil")
denied(id=2, name="169.254.169.254", unasked=True)
denied(id=3, name="other.example")
while s.recv(1 << 17): pass
`, "--", "sh", "-c", "until [ -e end ]; do sleep 0.1; done")
	ended := make(chan output, 1)
	go func() { ended <- s.finish(cmd) }()
	p.sees(`{host: "some.example", methods: [POST], paths: ["/evil"]}`)
	p.sees("reach other.example:443? ")
	p.types("\r", "may not reach other.example:443")
	s.put("end", "", 0o644)
	<-ended
	p.send("\x03")
	p.ends(watch)
	for _, host := range []string{"some.example", "169.254.169.254"} {
		hasNot(t, "what a person was asked", p.shown.String(), "reach "+host)
	}
}
