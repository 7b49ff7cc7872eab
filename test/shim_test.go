package test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestShim: plain claude runs in a sandbox, with a home of its own and what the preset says, and nothing is told: streams go through byte for byte. Inside
// it is only the agent, and the wrapper settings of editors lead to the same.
func TestShim(t *testing.T) {
	s := newSite(t, best())
	program := func(name, text string) string {
		t.Helper()
		path := filepath.Join(s.Home, name)
		s.atHome(name, "#!/bin/sh\n"+text)
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const fake = `[ -z "$CASEMATE" ] || echo said >>~/.claude/history
[ "$1" != tell ] || { echo "$CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC $(cat ~/.claude/CLAUDE.md) $2 ${CASEMATE:+inside}"; cat ~/.claude/settings.json; exit 0; }
cat; exit 5
`
	program(".local/bin/claude", fake)
	bundled := program(".vscode/extensions/anthropic.claude-code-9/resources/native-binary/claude", fake)
	s.atHome(".claude/CLAUDE.md", "instructions\n")
	s.atHome(".claude/settings.json", `{"model":"opus","env":{"ANTHROPIC_API_KEY":"SECRET"},"apiKeyHelper":"SECRET"}`)
	if err := os.Chmod(filepath.Join(s.Home, ".claude/CLAUDE.md"), 0o644); err != nil {
		t.Fatal(err)
	}

	out := s.do("shim", "install", "claude")
	shim := filepath.Join(s.State, "casemate/shims/claude")
	if out.exit != 0 || strings.TrimSpace(out.stdout) != "export PATH="+filepath.Dir(shim)+":$PATH" {
		t.Fatalf("shim install: %v", out)
	}
	has(t, "shim install", out.stderr, `"claudeCode.claudeProcessWrapper": "`+shim+`"`)

	run := func(in []byte, env string, argv ...string) (stdout, stderr string, status int) {
		t.Helper()
		var o, e bytes.Buffer
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = s.Work, bytes.NewReader(in), &o, &e
		cmd.Env = append(s.environ(), "PATH="+filepath.Dir(shim)+":"+filepath.Join(s.Home, ".local/bin")+":/usr/bin:/bin", "ANTHROPIC_API_KEY=SECRET")
		if env != "" {
			cmd.Env = append(cmd.Env, env)
		}
		_ = cmd.Run()
		return o.String(), e.String(), cmd.ProcessState.ExitCode()
	}
	noise := make([]byte, 1<<20)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	if o, e, status := run(noise, "", shim); o != string(noise) || e != "" || status != 5 {
		t.Errorf("through the shim: %d of %d bytes, status %d, standard error %q", len(o), len(noise), status, e)
	}
	const inside, settings = "1 instructions a  b inside\n", "{\n  \"model\": \"opus\"\n}\n"
	for name, argv := range map[string][]string{
		"by its name": {shim, "tell", "a  b"}, "as an editor's wrapper": {shim, bundled, "tell", "a  b"}, "by casemate run": {casemate, "run", "--quiet", "--", "claude", "tell", "a  b"},
	} {
		if o, e, status := run(nil, "", argv...); o != inside+settings || e != "" || status != 0 {
			t.Errorf("%s: %q, status %d, standard error %q", name, o, status, e)
		}
	}
	if o, e, status := run(nil, "CASEMATE=x", shim, "tell", "a  b"); o != inside+settings || e != "" || status != 0 {
		t.Errorf("with the variable of a sandbox, outside: %q, status %d, standard error %q", o, status, e)
	}
	if o, e, status := run(nil, "CASEMATE=x", "setpriv", "--no-new-privs", shim, "tell", "a  b"); o != " instructions a  b inside\n"+`{"model":"opus","env":{"ANTHROPIC_API_KEY":"SECRET"},"apiKeyHelper":"SECRET"}` || e != "" || status != 0 {
		t.Errorf("inside already: %q, status %d, standard error %q", o, status, e)
	}
	if o, _, _ := run(nil, "", casemate, "run", "--quiet", "--preset", "none", "--", "env"); strings.Contains(o, "CLAUDE_CODE") {
		t.Errorf("another command has it, too: %q", o)
	}

	// What it left in the home.
	has(t, "home ls", s.do("home", "ls").stdout, tailOf(s.Work, 42))
	diff := s.do("home", "diff").stdout
	has(t, "home diff", diff, ".claude/history\n")
	has(t, "home diff", diff, ".claude/settings.json  (casemate's)\n")
	hasNot(t, "home diff", diff, "CLAUDE.md")
	if out := s.do("home", "reset"); out.exit != 0 {
		t.Errorf("home reset: %v", out)
	}
	if out := s.do("home", "diff"); out.exit != 125 || !strings.Contains(out.stderr, "no home yet") {
		t.Errorf("home diff after reset: %v", out)
	}

	// Who is logged in is seen by the file's being there.
	s.atHome(".claude/.credentials.json", "SECRET")
	out = s.do("agents", "--json")
	var agents []struct {
		Name   string
		Logins []struct{ Where, Path string }
	}
	if err := json.Unmarshal([]byte(out.stdout), &agents); err != nil {
		t.Fatal(err)
	}
	for _, a := range agents {
		if login := len(a.Logins) == 1 && a.Logins[0].Where == "here"; a.Name == "claude" && !login {
			t.Errorf("%+v", a)
		}
	}
	for _, l := range strings.Split(s.do("agents").stdout+s.do("home", "ls").stdout+s.do("shim", "list").stdout, "\n") {
		if len([]rune(l)) > 80 || strings.Contains(l, "SECRET") {
			t.Errorf("%q", l)
		}
	}
	if out := s.do("shim", "remove", "claude"); out.exit != 0 || isThere(shim) {
		t.Errorf("shim remove: %v", out)
	}
}

// tailOf is the end of a path, as lists show a long one.
func tailOf(path string, n int) string {
	if len(path) > n {
		return path[len(path)-n+1:]
	}
	return path
}

// TestAgentDocs runs what the how-to shows, with an agent that does what the model would have had it do.
func TestAgentDocs(t *testing.T) {
	text, err := os.ReadFile("../docs/how-to/run-claude-code.md")
	if err != nil {
		t.Fatal(err)
	}
	runExamples(t, examples(string(text)), scratch+`cd ..
mkdir -p ~/.local/bin && printf '#!/bin/sh\nsed -i "s/[+]/*/" total.sh; echo said >>~/.claude/history.jsonl\n' >~/.local/bin/claude && chmod 755 ~/.local/bin/claude
PATH=~/.local/bin:$PATH
`, nil)
}
