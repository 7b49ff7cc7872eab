package test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// reach is a program that tries to connect and says what it met. It knows nothing of proxies.
const reach = `
import socket, ssl, sys
host, port, how = sys.argv[1], int(sys.argv[2]), sys.argv[3]
name = sys.argv[4] if len(sys.argv) > 4 else host
try:
    s = socket.create_connection((host, port), 30)
except OSError as e:
    print("refused:", e); sys.exit(1)
try:
    if how == "tls":
        c = ssl.create_default_context(cafile="ca.txt")
        s = c.wrap_socket(s, server_hostname=name)
    if how in ("tls", "http"):
        s.sendall(b"GET /page HTTP/1.1\r\nHost: " + name.encode() + b"\r\nConnection: close\r\n\r\n")
        print(s.makefile("rb").read().split(b"\r\n\r\n")[-1].decode().strip())
    elif how == "greeting":
        f = s.makefile("rb")
        print(f.readline().decode().strip(), flush=True)
        s.sendall(bytes(100000)); s.shutdown(socket.SHUT_WR)
        print(f.readline().decode().strip())
    elif how == "echo":
        s.sendall(b"hello\n"); s.shutdown(socket.SHUT_WR)
        print(s.makefile("rb").read().decode().strip())
    elif how == "connect":
        print("connected", s.recv(1))
except OSError as e:
    print("broken:", e); sys.exit(1)
`

// gated makes the world in which a gate can be had, in the mode that a person gets here who says nothing.
func gated(t *testing.T, do func(t *testing.T, s *site)) {
	t.Helper()
	t.Run(best().name, func(t *testing.T) { withWorld(newSite(t, best()), do) })
}

// gatedByOwner is gated for whoever the project belongs to: as that user the gate runs.
func gatedByOwner(t *testing.T, do func(t *testing.T, s *site)) {
	t.Helper()
	namespaced(t, func(t *testing.T, s *site) { withWorld(s, do) })
}

func withWorld(s *site, do func(t *testing.T, s *site)) {
	s.t.Helper()
	needs(s.t, "python3")
	w := s.newWorld()
	s.put("reach.py", reach, 0o644)
	s.put("ca.txt", string(w.certificate(s.t)), 0o644)
	s.Accept()
	do(s.t, s)
}

// TestGateByName reaches what is allowed by name and nothing else, with programs that know of no proxy.
func TestGateByName(t *testing.T) {
	gatedByOwner(t, func(t *testing.T, s *site) {
		k := s.talk("--allow", "allowed.example:80,443,22,7", "--allow", "*.allowed.example:443", "--allow", "in-hosts.example:80")
		for _, c := range []struct{ name, args, want string }{
			{"HTTP", "allowed.example 80 http", "GET allowed.example /page 0"},
			{"TLS, passed through", "allowed.example 443 tls", "GET allowed.example /page 0"},
			{"a wildcard", "api.allowed.example 443 tls", "GET api.allowed.example /page 0"},
			{"a server that speaks first", "allowed.example 22 greeting", "greeting\n100000 bytes"},
			{"the last byte after a half-close", "allowed.example 7 echo", "hello"},
			{"a server with IPv6 only", "six.allowed.example 443 tls", "GET six.allowed.example /page 0"},
			{"a name of the host's hosts file", "in-hosts.example 80 http", "GET in-hosts.example /page 0"},
			{"the name in capitals", "ALLOWED.example 80 http", "GET ALLOWED.example /page 0"},
		} {
			if got := k.ask("python3 reach.py " + c.args); got != c.want {
				t.Errorf("%s: got %q, want %q", c.name, got, c.want)
			}
		}
		for _, c := range []struct{ name, args, accepted, query string }{
			{"another name", "denied.example 80 http", deniedHost + ":80", "denied.example"},
			{"another port", "allowed.example 81 http", allowedHost + ":81", ""},
			{"its address", allowedHost + " 80 http", "", ""},
			{"the address of another", deniedHost + " 80 http", deniedHost + ":80", ""},
			{"a wildcard on another port", "api.allowed.example 80 http", "", ""},
			{"a name above the wildcard's label", "xallowed.example 443 tls", "", "xallowed.example"},
			{"data in a name", "secret-0123456789.denied.example 443 tls", "", "secret-0123456789.denied.example"},
		} {
			start := time.Now()
			got := k.ask("python3 reach.py " + c.args)
			if !strings.Contains(got, "refused:") && !strings.Contains(got, "broken:") {
				t.Errorf("%s: got %q", c.name, got)
			}
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("%s: it was refused after %v", c.name, took)
			}
			if c.accepted != "" && s.world.saw("accepted "+c.accepted) {
				t.Errorf("%s: %s was reached", c.name, c.accepted)
			}
			if c.query != "" && s.world.saw("query "+c.query) {
				t.Errorf("%s: the name server was asked for %s", c.name, c.query)
			}
		}
		udp := k.ask(`python3 -c 'import socket; s=socket.socket(2,2); s.settimeout(2); s.sendto(b"x",("` + nameServer + `",53)); print(s.recv(10))' 2>&1 | tail -1`)
		has(t, "UDP", udp, "Operation not permitted")
		words := k.end()
		for _, target := range []string{deniedHost + ":80", allowedHost + ":80", "allowed.example:81", "denied.example:0", "secret-0123456789.denied.example:0"} {
			if denials(t, words)[target] == 0 {
				t.Errorf("the denial of %s is not told: %s", target, words)
			}
		}
		// The controls: outside of the sandbox, in the same network, all of it is reached.
		for _, c := range []struct{ args, want string }{
			{"denied.example 80 http", "GET denied.example /page 0"}, {deniedHost + " 80 http", "GET " + deniedHost + " /page 0"}, {allowedHost + " 80 http", "GET " + allowedHost + " /page 0"},
		} {
			if out := s.outside("python3 reach.py " + c.args); strings.TrimSpace(out.stdout) != c.want {
				t.Errorf("control, %s: %v", c.args, out)
			}
		}
		for _, line := range []string{"accepted " + deniedHost + ":80", "query denied.example"} {
			if !s.world.saw(line) {
				t.Errorf("control: the world did not tell %q", line)
			}
		}
	})
}

// TestGateAddresses: a name that is allowed does not open what lies inside of the host's own networks (rebinding, metadata services).
func TestGateAddresses(t *testing.T) {
	gated(t, func(t *testing.T, s *site) {
		k := s.talk("--allow", "*.allowed.example:80")
		for _, name := range []string{"private", "metadata", "loop"} {
			has(t, name, k.ask("python3 reach.py "+name+".allowed.example 80 connect"), ":")
		}
		for range 6 { // its name server alternates between a public and a private address
			k.ask("python3 reach.py turn.allowed.example 80 http")
		}
		k.end()
		for _, host := range []string{privateHost, metadataHost, "127.0.0.1", "[::1]"} {
			if s.world.saw("accepted " + host + ":80") {
				t.Errorf("%s was reached", host)
			}
		}
		s.outside("python3 reach.py private.allowed.example 80 http; python3 reach.py metadata.allowed.example 80 http; python3 reach.py loop.allowed.example 80 http")
		for _, host := range []string{privateHost, metadataHost} {
			if !s.world.saw("accepted " + host + ":80") {
				t.Errorf("control: %s was not reached outside", host)
			}
		}
		s.put("casemate.yaml", "network:\n  allow:\n    - {host: private.allowed.example, ports: [80], networks: [10.0.0.0/8]}\n", 0o644)
		if out := s.do("trust", "--yes"); out.exit != 0 {
			t.Fatal(out)
		}
		if out := s.run("--", "python3", "reach.py", "private.allowed.example", "80", "http"); strings.TrimSpace(out.stdout) != "GET private.allowed.example /page 0" {
			t.Errorf("with the range named: %v", out)
		}
	})
}

// TestGateAgreement: what a client says it wants must be the name that it resolved; else one allowed name behind a shared front end would open all.
func TestGateAgreement(t *testing.T) {
	gated(t, func(t *testing.T, s *site) {
		k := s.talk("--allow", "allowed.example:80,443")
		for _, args := range []string{"allowed.example 443 tls denied.example", "allowed.example 80 http denied.example"} {
			got := k.ask("python3 reach.py " + args)
			hasNot(t, args, got, "GET")
			if out := s.outside("python3 reach.py " + args); !strings.Contains(out.stdout, "GET denied.example") {
				t.Errorf("control, %s: %v", args, out)
			}
		}
		k.end()
	})
}

// denials are what the run's last line lists.
func denials(t *testing.T, words string) map[string]int {
	t.Helper()
	var r struct {
		Denied []struct {
			Name        string
			Port, Times int
		}
	}
	lines := strings.Split(strings.TrimSpace(words), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
		t.Fatalf("%v: %s", err, words)
	}
	list := map[string]int{}
	for _, d := range r.Denied {
		list[fmt.Sprintf("%s:%d", d.Name, d.Port)] = d.Times
	}
	return list
}

// TestGateIsToldAndOpened: what was denied is on record with the way to allow it, which works while the sandbox runs; deny wins over it.
func TestGateIsToldAndOpened(t *testing.T) {
	gatedByOwner(t, func(t *testing.T, s *site) {
		s.put("casemate.yaml", "network: {deny: [\"*.denied.example\", closed.allowed.example]}\n", 0o644)
		k := s.talk("--allow", "*.allowed.example:80")
		id := s.running(t)
		denied := func() string { return k.ask("python3 reach.py denied.example 80 http") }
		has(t, "before", denied(), "refused")
		hasNot(t, "closed", k.ask("python3 reach.py closed.allowed.example 80 http"), "GET")
		eventually(t, patience, "the denial is listed", func() bool {
			return strings.Contains(s.do("net", id).stdout, "casemate allow "+id+" net:denied.example")
		})
		if out := s.do("allow", id, "net:denied.example:80"); out.exit != 0 {
			t.Fatal(out)
		}
		eventually(t, patience, "it is allowed", func() bool { return denied() == "GET denied.example /page 0" })
		if out := s.do("allow", id, "net:x.denied.example"); out.exit != 125 || !strings.Contains(out.stderr, "deny wins") {
			t.Errorf("allow what a policy denies: %v", out)
		}
		reached := func() bool { return strings.HasPrefix(k.ask("python3 reach.py api.allowed.example 443 tls"), "GET") }
		for span := time.Second; ; span *= 2 { // longer, where a client does not come to it within that
			if out := s.do("allow", id, "net:api.allowed.example:443", "--for", span.String()); out.exit != 0 {
				t.Fatal(out)
			}
			if reached() {
				break
			}
			if span > patience {
				t.Fatalf("it is not allowed for %v", span)
			}
		}
		eventually(t, 2*patience, "and then no more", func() bool { return !reached() })
		list := denials(t, k.end())
		if list["denied.example:0"] == 0 || list["closed.allowed.example:0"] == 0 {
			t.Errorf("denied: %v", list)
		}
		has(t, "events", s.events(t), `"kind":"denied","subject":"net:denied.example"`)
		out := s.do("net", "--json", id)
		has(t, "net --json", out.stdout, `"verdict":"closed"`)
		has(t, "net --json", out.stdout, `"address":"`+deniedHost)
		has(t, "net --json", out.stdout, `"sent":`)
		if out := s.run("--allow", "allowed.example:80", "--", "python3", "reach.py", "denied.example", "80", "http"); strings.Contains(out.stdout, "GET") {
			t.Errorf("the next run has it still: %v", out)
		}
		if out := s.do("allow", id, "net:denied.example"); out.exit != 125 {
			t.Errorf("allow in a sandbox that does not run: %v", out)
		}
	})
}

// TestGateInward: a port of the host's loopback inside, and one inside on the host's loopback; nothing else of either.
func TestGateInward(t *testing.T) {
	gatedByOwner(t, func(t *testing.T, s *site) {
		s.put("serve.py", `
import http.server, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"from " + sys.argv[2].encode())
    def log_message(self, *a): pass
http.server.HTTPServer((sys.argv[3] if len(sys.argv) > 3 else "127.0.0.1", int(sys.argv[1])), H).serve_forever()
`, 0o644)
		host := s.outsideStart("python3 serve.py 5432 host")
		defer host()
		get := `python3 -c 'import urllib.request; print(urllib.request.urlopen("http://127.0.0.1:PORT", timeout=20).read().decode())' 2>&1 | tail -1`
		at := func(port int) string { return strings.ReplaceAll(get, "PORT", strconv.Itoa(port)) }
		eventually(t, patience, "the host serves", func() bool { return strings.TrimSpace(s.outside(at(5432)).stdout) == "from host" })
		k := s.talk("--host-port", "5432", "--publish", "8081:8080")
		if got := k.ask(at(5432)); got != "from host" {
			t.Errorf("the host's port inside: %q", got)
		}
		has(t, "another port of the host's", k.ask(at(80)), "refused")
		k.ask("python3 serve.py 8080 inside 0.0.0.0 >/dev/null 2>&1 &")
		eventually(t, patience, "the published port answers", func() bool { return strings.TrimSpace(s.outside(at(8081)).stdout) == "from inside" })
		k.ask("python3 serve.py 8082 unpublished 0.0.0.0 >/dev/null 2>&1 &")
		eventually(t, patience, "the unpublished one answers inside", func() bool { return k.ask(at(8082)) == "from unpublished" })
		hasNot(t, "a port that is not published", s.outside(at(8082)).stdout, "from")
		out := s.outside(strings.ReplaceAll(at(8081), "127.0.0.1", allowedHost))
		hasNot(t, "the published port by the host's other address", out.stdout, "from")
		if out := s.do("run", "--publish", "8081", "--", "true"); out.exit != 125 || !strings.Contains(out.stderr, "8081") {
			t.Errorf("a port that is taken: %v", out)
		}
		k.end()
		hasNot(t, "after the run", s.outside(at(8081)).stdout, "from")
	})
}

// outsideStart runs a line of shell in the world until the returned function is called.
func (s *site) outsideStart(line string) func() {
	s.t.Helper()
	cmd := s.outsideCommand("exec " + line)
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	return func() { cmd.Process.Kill(); cmd.Wait() }
}

// gateOf finds the gate's process: a child of the supervisor's.
func gateOf(t *testing.T, supervisor int) int {
	t.Helper()
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		b, _ := os.ReadFile(dir + "/stat")
		open, end := strings.IndexByte(string(b), '('), strings.LastIndexByte(string(b), ')')
		if open < 0 || end < open || string(b[open+1:end]) != "casemate-gate" {
			continue
		}
		if f := strings.Fields(string(b[end+1:])); len(f) > 1 && f[1] == strconv.Itoa(supervisor) {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			return pid
		}
	}
	return 0
}

// TestGateEnds: without its gate a sandbox has no network, and goes on; without its supervisor neither is left.
func TestGateEnds(t *testing.T) {
	gated(t, func(t *testing.T, s *site) {
		k := s.talk("--allow", "allowed.example:80")
		get := "python3 reach.py allowed.example 80 http"
		if got := k.ask(get); !strings.HasPrefix(got, "GET") {
			t.Fatalf("before: %q", got)
		}
		gate := gateOf(t, k.cmd.Process.Pid)
		if gate == 0 {
			t.Fatal("there is no gate")
		}
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", gate))
		for _, want := range []string{"NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000"} {
			has(t, "the gate's confinement", string(status), want)
		}
		if os.Getuid() == 0 {
			hasNot(t, "the gate's user", string(status), "Uid:\t0")
		}
		if err := unix.Kill(gate, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, patience, "nothing is reached without a gate", func() bool { return !strings.HasPrefix(k.ask(get), "GET") })
		has(t, "the command goes on", k.ask("echo on"), "on")
		k.end()
		has(t, "events", s.events(t), "the gate ended")
		k = s.talk("--allow", "allowed.example:80")
		gate = gateOf(t, k.cmd.Process.Pid)
		if gate == 0 {
			t.Fatal("there is no gate")
		}
		if err := k.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-k.ended
		eventually(t, patience, "the gate ends with its supervisor", func() bool { return unix.Kill(gate, 0) == unix.ESRCH })
	})
}

// TestGateRealClients: tools of every day, with no setting for a proxy.
func TestGateRealClients(t *testing.T) {
	needs(t, "git")
	gated(t, func(t *testing.T, s *site) {
		k := s.talk("--allow", "allowed.example:80,443")
		for _, c := range []struct{ program, line, want string }{
			{"curl", "curl -sS --noproxy '*' --cacert ca.txt https://allowed.example/page", "GET allowed.example /page 0"},
			{"curl", "head -c 3000000 /dev/zero | curl -sS --cacert ca.txt -T - https://allowed.example/up", "PUT allowed.example /up 3000000"},
			{"node", `NODE_EXTRA_CA_CERTS=ca.txt node -e 'fetch("https://allowed.example/page").then(r=>r.text()).then(t=>console.log(t.trim()))'`, "GET allowed.example /page 0"},
		} {
			needs(t, c.program)
			if got := k.ask(c.line); got != c.want {
				t.Errorf("%s: got %q, want %q", c.line, got, c.want)
			}
		}
		has(t, "git", k.ask("git -c http.sslCAInfo=ca.txt ls-remote https://allowed.example/x.git"), "not valid")
		has(t, "git, a denied host", k.ask("git ls-remote https://denied.example/x.git"), "Could not resolve host")
		k.end()
	})
}

// TestGateDocs runs what the how-to shows.
func TestGateDocs(t *testing.T) {
	needs(t, "curl")
	s := newSite(t, best())
	text, err := os.ReadFile("../docs/how-to/reach-the-network.md")
	if err != nil {
		t.Fatal(err)
	}
	runExamples(t, examples(string(text)), "mkdir project && cd project && git init -q\n", s.newWorld())
}

// TestGateOpensNothingElse: all that the table attacks holds beside a gate as it does without one.
func TestGateOpensNothingElse(t *testing.T) {
	gated(t, func(t *testing.T, s *site) {
		out := s.do("validate", "--allow", "allowed.example", "--host-port", "5432")
		if out.exit != 0 || !strings.Contains(out.stdout, "net.default-deny") {
			t.Errorf("validate: %v", out)
		}
	})
}

// TestGateProxy: a machine that has to go out through a proxy does so, with the password that stays outside; the rules hold as ever.
func TestGateProxy(t *testing.T) {
	gated(t, func(t *testing.T, s *site) {
		run := func(setting string, args ...string) output {
			cmd := s.command(append([]string{"run", "--json", "--allow", "*.allowed.example:443", "--allow", "allowed.example:443", "--", "python3", "reach.py"}, args...)...)
			cmd.Env = append(cmd.Env, "HTTPS_PROXY="+setting, "NO_PROXY=api.allowed.example")
			return s.finish(cmd)
		}
		const proxy = "http://user:casemate-test-password@" + nameServer + ":3128"
		if out := run(proxy, "only-the-proxy-knows.allowed.example", "443", "tls"); strings.TrimSpace(out.stdout) != "GET only-the-proxy-knows.allowed.example /page 0" {
			t.Errorf("through the proxy: %v", out)
		}
		if len(s.world.told("proxy CONNECT only-the-proxy-knows.allowed.example:443 Basic ")) == 0 {
			t.Error("the proxy was not asked")
		}
		if s.world.saw("query only-the-proxy-knows.allowed.example") {
			t.Error("its name was looked up beside the proxy")
		}
		out := run(proxy, "denied.example", "443", "tls")
		hasNot(t, "what no rule allows", out.stdout, "GET")
		if n := len(s.world.told("proxy CONNECT denied.example")); n > 0 {
			t.Error("the proxy was asked for what no rule allows")
		}
		before := len(s.world.told("proxy "))
		if out := run(proxy, "api.allowed.example", "443", "tls"); !strings.HasPrefix(out.stdout, "GET") || len(s.world.told("proxy ")) > before {
			t.Errorf("a host of NO_PROXY: %v", out)
		}
		hasNot(t, "the record", s.do("net", "--json").stdout+s.events(t), "casemate-test-password")
		out = run("http://user@"+nameServer+":3129", "allowed.example", "443", "tls")
		hasNot(t, "a proxy that is not there", out.stdout, "GET")
		out = run("socks5://"+nameServer+":1080", "allowed.example", "443", "tls")
		hasNot(t, "a proxy that cannot be used", out.stdout, "GET")
		has(t, "a proxy that cannot be used", s.events(t)+out.stderr, "HTTPS_PROXY")
	})
}

// TestGateWatch: on a second terminal a person sees what was denied and allows it; Enter leaves it denied.
func TestGateWatch(t *testing.T) {
	gated(t, func(t *testing.T, s *site) {
		p, watch := s.watching()
		k := s.talk("--allow", "allowed.example:80")
		id := s.running(t)
		attempt := func(host string) string { return k.ask("python3 reach.py " + host + " 80 http") }
		has(t, "at first", attempt("denied.example"), "refused")
		p.sees("denied denied.example")
		p.sees("May " + id + " reach denied.example? ")
		p.send("\r")
		has(t, "after Enter", attempt("denied.example"), "refused")
		has(t, "another", attempt("api.allowed.example"), "refused")
		p.sees("May " + id + " reach api.allowed.example? ")
		p.send("y\r")
		p.sees("api.allowed.example until its run ends")
		if got := k.ask("python3 reach.py api.allowed.example 443 tls"); got != "GET api.allowed.example /page 0" {
			t.Errorf("after the answer: %q", got)
		}
		has(t, "the other one still", attempt("denied.example"), "refused")
		p.send("\x03")
		if status := p.ends(watch); status != 0 {
			t.Errorf("watch ended with %d", status)
		}
		k.end()
		out := s.outside("timeout --signal=INT 1 " + casemate + " watch --json")
		if strings.Contains(out.stdout, "May ") {
			t.Errorf("it asks without a terminal: %v", out)
		}
	})
}

// withGate has the site's casemate find another program as its gate, or none.
func (s *site) withGate(script string, flags ...string) *exec.Cmd {
	s.t.Helper()
	dir, err := os.MkdirTemp("", "casemate-gates")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		s.t.Fatal(err)
	}
	program, err := os.ReadFile(casemate)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "casemate"), program, 0o755)
	}
	if err == nil && script != "" {
		err = os.WriteFile(filepath.Join(dir, "casemate-gate"), []byte(script), 0o755)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := s.command(append([]string{"run", "--json", "--allow", "allowed.example:80"}, flags...)...)
	cmd.Path, cmd.Args[0] = filepath.Join(dir, "casemate"), filepath.Join(dir, "casemate")
	return cmd
}

// TestGateThatFails: without a gate that says it is confined nothing runs; with one that was taken over, nothing of the supervisor's or of pid 1's is had.
func TestGateThatFails(t *testing.T) {
	needs(t, "python3")
	namespaced(t, func(t *testing.T, s *site) {
		for name, script := range map[string]string{
			"none": "", "one that fails": "#!/bin/sh\necho 'casemate-gate: no Landlock here' >&2\nexit 1\n", "another program": "#!/bin/sh\necho hello >&3\n",
		} {
			out := s.finish(s.withGate(script, "--", "sh", "-c", "echo ran >ran"))
			if out.exit != 125 || !strings.Contains(out.stderr, "casemate-gate") {
				t.Errorf("%s: %v", name, out)
			}
			if script != "" && name == "one that fails" {
				has(t, name, out.stderr, "no Landlock here")
			}
			if held := s.do("diff", "--name-only").stdout; strings.Contains(held, "ran") {
				t.Errorf("%s: the command ran", name)
			}
		}
		hostile := `#!/usr/bin/python3
import json, os, select, socket
s = socket.socket(fileno=3)
s.sendall(b'{"ready":true}')
socket.recv_fds(s, 1 << 17, 16)
odd = 0
for i in range(500):
    for family in (2, 16, 17, 1, 0, -1):
        s.sendall(json.dumps({"socket": family}).encode())
        while select.select([s], [], [], 0)[0]:
            data, fds, _, _ = socket.recv_fds(s, 1 << 17, 16)
            if not data: os._exit(0)
            for fd in fds:
                odd += socket.socket(fileno=os.dup(fd)).family not in (2, 10)
                os.close(fd)
    s.sendall(b"x" * 100 + b"{")
flood = json.dumps({"socket": 2}).encode()
for i in range(4000): s.sendall(flood)
s.sendall(json.dumps({"id": 1, "time": "2026-01-01T00:00:00Z", "verdict": "denied", "name": "odd%d.example" % odd, "why": "the end"}).encode())
while s.recv(1 << 17): pass
`
		cmd := s.withGate(hostile, "--", "sh", "-c", "cat; echo the command went on")
		end, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		heard := make(chan struct{})
		go func() {
			defer close(heard)
			defer end.Close()
			eventually(t, 60*time.Second, "the last word of a gate that was taken over", func() bool {
				record, _ := os.ReadFile(filepath.Join(s.State, "casemate/connections.jsonl"))
				return strings.Contains(string(record), "odd")
			})
		}()
		out := s.finish(cmd)
		<-heard
		if out.exit != 0 || !strings.Contains(out.stdout, "went on") {
			t.Errorf("a gate that was taken over: %v", out)
		}
		if n, told := denials(t, out.stderr)["odd0.example:0"]; !told || n != 1 {
			t.Errorf("a gate that was taken over was not heard to its end, or got what is no TCP socket: %v", out)
		}
	})
}

// TestGateAllowTogether: of many that are allowed at once none is lost.
func TestGateAllowTogether(t *testing.T) {
	gated(t, func(t *testing.T, s *site) {
		k := s.talk("--allow", "allowed.example:80")
		id := s.running(t)
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				if out, err := s.command("allow", id, fmt.Sprintf("net:n%d.allowed.example:80", i)).CombinedOutput(); err != nil {
					t.Errorf("%v: %s", err, out)
				}
			})
		}
		all.Wait()
		for i := range 8 {
			want := fmt.Sprintf("GET n%d.allowed.example /page 0", i)
			eventually(t, patience, want, func() bool { return k.ask(fmt.Sprintf("python3 reach.py n%d.allowed.example 80 http", i)) == want })
		}
		k.end()
	})
}
