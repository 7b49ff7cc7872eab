package test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// realAgent is one, installed by test/setup.sh, and how it is driven without a person.
type realAgent struct {
	name string // of its preset, and of the program
	file string // below the directory that test/setup.sh installs into, a pattern
	node bool   // the program is a script for node
	host string // of its model, where the stand-in answers
	key  string // the name of its secret
	args []string

	login loggedIn // it has no key, and the person's login
}

const apiKey = "sk-stand-in-0123456789abcdef0123456789abcdef"

// agentFile is where an agent is, or "".
func agentFile(a realAgent) string {
	cache, _ := os.UserCacheDir()
	for _, dir := range []string{"/var/cache", cache} {
		if found := glob(filepath.Join(dir, "casemate-test", a.name, a.file)); len(found) > 0 {
			return found[0]
		}
	}
	return ""
}

// works has the agent run one command inside, and judges by what that left in the layer and by what the model's stand-in saw: an agent's exit status says
// little.
func (a realAgent) works(t *testing.T) {
	t.Helper()
	if os.Getuid() == 0 {
		t.Skip("an agent is an ordinary user's")
	}
	file := agentFile(a)
	if file == "" {
		t.Skipf("%s is not installed: test/setup.sh does it", a.name)
	}
	s := newSite(t, best())
	var end func()
	s.world, end = startWorld(t, modelsVariable+"=1")
	t.Cleanup(end)
	s.put("README.md", "a project\n", 0o644)
	s.Accept()

	value, secrets, elsewhere := apiKey, []string{apiKey}, "" // what the model sees, what is nowhere inside, and who else is asked
	flags := []string{"--read", packages(file)}
	if l := a.login; l.file != "" {
		s.logInto(l)
		defer s.hasNew(l)
		value, secrets, elsewhere = l.newAccess, []string{l.oldAccess, l.oldRefresh, l.newAccess, l.newRefresh}, l.vendor
		if l.account != "" {
			secrets = append(secrets, l.account)
			defer func() {
				if seen := s.world.told("account " + a.host); !slices.Contains(seen, "account "+a.host+" "+l.account) {
					t.Errorf("the model saw no account: %q", seen)
				}
			}()
		}
		flags = append(flags, "--login", "yes")
	} else {
		(&brokered{s, apiKey}).secret(apiKey, "set", a.key)
	}
	argv := append([]string{file}, a.args...)
	if a.node {
		argv = append([]string{"node"}, argv...)
		flags = append(flags, "--preset", a.name)
	}
	out := s.run(slices.Concat(flags, []string{"--"}, argv)...)
	told := func() string { return out.stdout + out.stderr + "\n" + strings.Join(s.world.told(""), "\n") }

	ran, err := os.ReadFile(filepath.Join(s.State, "casemate", "sandboxes", out.result.Sandbox, "layer", "upper", "proof.txt"))
	if err != nil || string(ran) != out.result.Sandbox {
		t.Fatalf("the proof is %q, %v\n%s", ran, err, told())
	}
	if isThere(filepath.Join(s.Work, "proof.txt")) {
		t.Error("the proof is in the project")
	}
	eventually(t, 20*time.Second, "the model is told the result", func() bool { return s.world.saw("result " + a.host) })
	asked := s.world.told("model ")
	if !slices.ContainsFunc(asked, func(l string) bool {
		return strings.HasPrefix(l, "model "+a.host+" POST ") && strings.HasSuffix(l, " "+value)
	}) {
		t.Errorf("the model saw no key: %q", asked)
	}
	for _, line := range s.world.told("query ") {
		if line != "query "+a.host && line != "query "+elsewhere {
			t.Errorf("%s", line)
		}
	}
	for _, line := range s.world.told("accepted ") {
		if line != "accepted "+modelHosts[a.host]+":443" && line != "accepted "+modelHosts[elsewhere]+":443" {
			t.Errorf("%s", line)
		}
	}
	if list := denials(t, out.stderr); len(list) > 0 {
		t.Errorf("it asked for more than its preset opens: %v", list)
	}
	has(t, "casemate net", s.do("net").stdout, a.host)
	if err := os.WriteFile(filepath.Join(s.Home, "control"), []byte("key="+secrets[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	if control := filesWith(t, s.Home, secrets[0]); len(control) != 1 {
		t.Errorf("control: the key is found in %q", control)
	}
	for _, text := range secrets {
		if where := filesWith(t, s.State, text); len(where) > 0 {
			t.Errorf("the key is inside, or on record: %q", where)
		}
	}
}

// filesWith lists the files below a directory that have a text in them.
func filesWith(t *testing.T, dir, text string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if errors.Is(err, fs.ErrPermission) && d.Name() == "work" { // overlayfs's own
			return filepath.SkipDir
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if strings.Contains(string(content), text) {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return files
}

// packages is the directory of packages that a file is of.
func packages(file string) string {
	before, _, _ := strings.Cut(file, "/node_modules/")
	return before + "/node_modules"
}

func TestAgentClaude(t *testing.T) {
	realAgent{name: "claude", file: "node_modules/@anthropic-ai/claude-code-linux-*/claude", host: "api.anthropic.com", key: "anthropic",
		args: []string{"-p", "leave a proof", "--dangerously-skip-permissions"}}.works(t)
}

// TestAgentClaudeLogin: a login that is over as the run begins is renewed outside, and Claude Code works with it.
func TestAgentClaudeLogin(t *testing.T) {
	realAgent{name: "claude", file: "node_modules/@anthropic-ai/claude-code-linux-*/claude", host: "api.anthropic.com", login: claudeLogin(),
		args: []string{"-p", "leave a proof", "--dangerously-skip-permissions"}}.works(t)
}

// TestAgentCodexLogin: the same for Codex and a ChatGPT account.
func TestAgentCodexLogin(t *testing.T) {
	realAgent{name: "codex", file: "node_modules/@openai/codex-linux-*/vendor/*/bin/codex", host: "chatgpt.com", login: codexLogin(),
		args: []string{"exec", "--skip-git-repo-check", "leave a proof"}}.works(t)
}

func TestAgentCodex(t *testing.T) {
	realAgent{name: "codex", file: "node_modules/@openai/codex-linux-*/vendor/*/bin/codex", host: "api.openai.com", key: "openai",
		args: []string{"exec", "--skip-git-repo-check", "leave a proof"}}.works(t)
}
