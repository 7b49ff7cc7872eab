package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// holding keeps a connection open until somebody ends it.
const holding = `
import socket
s = socket.create_connection(("allowed.example", 7))
s.sendall(b"hello\n"); s.recv(6)
open("/tmp/held", "w").write("held")
try: s.recv(1)
except OSError: pass
open("/tmp/held", "w").write("ended")
`

// TestReload: a running sandbox takes up what the policy files say of the network, as soon as they say it; what a project's file widens only once it is approved.
func TestReload(t *testing.T) {
	gated(t, func(t *testing.T, s *site) {
		s.put("hold.py", holding, 0o644)
		s.Accept()
		user := filepath.Join(s.Home, ".config/casemate/policy.yaml")
		write := func(path, text string) {
			t.Helper()
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		over := func(path, text string) { // as editors do
			t.Helper()
			write(path+".new", text)
			if err := os.Rename(path+".new", path); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.RemoveAll(filepath.Dir(user)); err != nil {
			t.Fatal(err)
		}
		k := s.talk("--allow", "flag.allowed.example:80", "--allow", "allowed.example:80")
		id := s.running(t)
		get := func(name string) bool {
			return strings.HasPrefix(k.ask("python3 reach.py "+name+".allowed.example 80 http"), "GET")
		}
		reached := func(name string) {
			t.Helper()
			eventually(t, patience, name+" is reached", func() bool { return get(name) })
		}
		refused := func(name string) {
			t.Helper()
			eventually(t, patience, name+" is not reached", func() bool { return !get(name) })
		}
		said := func(what string) {
			t.Helper()
			eventually(t, patience, "casemate net says "+what, func() bool { return strings.Contains(s.do("net", id).stdout, what) })
		}
		if get("one") {
			t.Fatal("control: it is reached before a policy says so")
		}

		// Written where there was no directory yet; and a connection that is open ends with its rule.
		write(user, "network:\n  allow:\n    - {host: one.allowed.example, ports: [80]}\n    - {host: allowed.example, ports: [7]}\n")
		reached("one")
		k.ask("rm -f /tmp/held; python3 hold.py >/dev/null 2>&1 &")
		eventually(t, patience, "the connection is held", func() bool { return k.ask("cat /tmp/held") == "held" })
		over(user, "network:\n  allow:\n    - {host: one.allowed.example, ports: [80]}\n    - {host: two.allowed.example, ports: [80]}\n  deny: [denied.example]\n")
		eventually(t, patience, "the connection ends", func() bool { return k.ask("cat /tmp/held") == "ended" })
		said("allowed no more: allowed.example:7")
		reached("two")

		// What cannot be read takes nothing away and gives nothing; what another file denies holds at once.
		write(user, "network:\n  allow:\n    - {host: one.allowed.example, ports: [80]}\n    - {host: three.allowed.example, ports: [80]}\n  deny: [oops\n")
		said("this is not YAML")
		if !get("one") || !get("two") || get("three") {
			t.Error("a file that cannot be read changed what is reached")
		}
		if out := s.do("ps"); !strings.Contains(out.stdout, user+":") {
			t.Errorf("casemate ps does not say it: %v", out)
		}
		s.put("casemate.yaml", "network: {deny: [two.allowed.example]}\n", 0o644)
		refused("two")

		// A link, and then what it leads to.
		away := filepath.Join(s.Home, "dots/casemate.yaml")
		write(away, "network:\n  allow:\n    - {host: four.allowed.example, ports: [80]}\n    - {host: two.allowed.example, ports: [80]}\nlimits: {pids: 4000}\n")
		if err := os.Symlink(away, user+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(user+".new", user); err != nil {
			t.Fatal(err)
		}
		reached("four")
		refused("one")
		said("in the next run: limits.pids")
		write(away, "network:\n  allow:\n    - {host: five.allowed.example, ports: [80]}\n    - {host: two.allowed.example, ports: [80]}\n    - {host: six.allowed.example, ports: [80], methods: [GET]}\n")
		reached("five")
		said("TLS to six.allowed.example:80 can be opened from the next run on")

		// The project's file takes nothing back and opens nothing, until somebody approves it.
		s.put("casemate.yaml", "network:\n  allow:\n    - {host: seven.allowed.example, ports: [80]}\n", 0o644)
		said("nobody has approved")
		if get("seven") || get("two") {
			t.Error("a project's file that nobody approved widened what is reached")
		}
		k.ask(`printf 'network: {allow: [{host: eight.allowed.example, ports: [80]}]}\n' >casemate.yaml`)
		if out := s.do("trust", "--yes"); out.exit != 0 {
			t.Fatal(out)
		}
		reached("seven")
		reached("two")
		if get("eight") {
			t.Error("what is written inside is taken for a policy")
		}
		if out := s.do("trust", "--revoke"); out.exit != 0 {
			t.Fatal(out)
		}
		refused("seven")

		// Without any file the flags still hold.
		if err := os.Remove(user); err != nil {
			t.Fatal(err)
		}
		refused("five")
		if !get("flag") {
			t.Error("what --allow opened is not reached any more")
		}

		// Asking begins and ends.
		write(user, "network: {ask: true}\n")
		said("what no rule allows is asked about in casemate watch")
		eventually(t, patience, "it would ask", func() bool {
			return !get("nine") && strings.Contains(s.do("net", id).stdout, "no rule allows nine.allowed.example; nobody is there to be asked")
		})
		write(user, "{}\n")
		said("what no rule allows is not asked about any more")
		write(user, "network: {ask: true, allow: [{host: ten.allowed.example, ports: [80]}]}\n")
		reached("ten")
		k.end()
		has(t, "events", s.events(t), `"kind":"ruled","subject":"network"`)
		hasNot(t, "events", s.events(t), "casemate.yaml changed too often")
	})
}
