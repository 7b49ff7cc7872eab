package test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The login of a person who uses Claude Code, as it was, and as the vendor's stand-in renews it.
const (
	claudeTokens = "platform.claude.com" // where that is done
	oldAccess    = "sk-ant-oat01-the-old-access-token-0123456789"
	oldRefresh   = "sk-ant-ort01-the-old-refresh-token-0123456789"
	newAccess    = "sk-ant-oat01-the-new-access-token-0123456789abcdef"
	newRefresh   = "sk-ant-ort01-the-new-refresh-token-0123456789abcdef"
)

// heldVariable names a file without which the vendor's stand-in does not answer.
const heldVariable = "CASEMATE_TEST_WORLD_HELD"

// tokenEndpoint renews a login once: each refresh token is good for one use.
type tokenEndpoint struct {
	mu   sync.Mutex
	good string
}

func (e *tokenEndpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var in map[string]string
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in["refresh_token"] != e.good {
		fmt.Println("refused", r.Host)
		w.WriteHeader(http.StatusBadRequest)
		reply(w, fields{"error": "invalid_grant"})
		return
	}
	fmt.Println("asked", r.Host)
	for file := os.Getenv(heldVariable); file != "" && !isThere(file); {
		time.Sleep(20 * time.Millisecond)
	}
	fmt.Println("renewed", r.Host, r.Method, r.URL.Path, in["grant_type"])
	e.good = newRefresh
	reply(w, fields{"access_token": newAccess, "refresh_token": newRefresh, "expires_in": 28800, "token_type": "Bearer"})
}

// logIn writes the file of a login that is over, as Claude Code leaves it.
func (s *site) logIn() (file string) {
	s.t.Helper()
	file = filepath.Join(s.Home, ".claude", ".credentials.json")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		s.t.Fatal(err)
	}
	text := fmt.Sprintf(`{"claudeAiOauth":{"accessToken":%q,"refreshToken":%q,"expiresAt":1000,"scopes":["user:inference"],"subscriptionType":"max"},"mcpOAuth":{}}`, oldAccess, oldRefresh)
	_ = os.Remove(file) // of the fixtures
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return file
}

// hasNewLogin checks that the person's file has the login that the vendor gave, and is theirs alone.
func (s *site) hasNewLogin(file string) {
	s.t.Helper()
	text := read(s.t, file)
	for _, want := range []string{newAccess, newRefresh, `"subscriptionType":"max"`, `"mcpOAuth":{}`} {
		has(s.t, "the person's login", text, want)
	}
	if st, err := os.Stat(file); err != nil || st.Mode() != 0o600 {
		s.t.Errorf("it is %v, %v", st.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Dir(file) + "/.*"); len(left) != 1 {
		s.t.Errorf("beside it: %q", left)
	}
}

// withModels is a site in a world with the stand-ins for vendors.
func withModels(t *testing.T, env ...string) *site {
	s := newSite(t, best())
	var end func()
	s.world, end = startWorld(t, append(env, modelsVariable+"=1")...)
	t.Cleanup(end)
	return s
}

// asAgent is an agent that asks its model with what it has been given, and shows that.
const asAgent = `#!/bin/sh
echo "login=$CLAUDE_CODE_OAUTH_TOKEN key=$ANTHROPIC_API_KEY"
curl -sS -o /dev/null -d '{}' -H "Authorization: Bearer $CLAUDE_CODE_OAUTH_TOKEN" https://api.anthropic.com/v1/messages
grep -rlE "sk-ant-o[ar]t01-the-" "$HOME" /tmp 2>/dev/null
echo the agent is done
`

// TestLoginIsAskedOnce: who is logged in outside is asked once whether the agent may use that; the login is renewed outside, and nothing of it is inside.
func TestLoginIsAskedOnce(t *testing.T) {
	needs(t, "curl")
	const question = "Use your Claude login through the gate? It stays outside. [Y/n]"
	s := withModels(t)
	s.put("bin/claude", asAgent, 0o755)
	s.Accept()
	file := s.logIn()
	run := func(flags ...string) (*person, func() int) {
		p := sitDown(t)
		cmd := s.command(append(append([]string{"run", "--workspace", "held"}, flags...), "--then", "keep", "--", "./bin/claude")...)
		p.start(cmd)
		return p, func() int { return p.ends(cmd) }
	}
	none := func(shown string) {
		t.Helper()
		if strings.Contains(shown, question) || !strings.Contains(shown, "login= key=") {
			t.Errorf("the terminal shows %q", shown)
		}
	}
	has(t, "the agents", s.do("agents").stdout, " here ")
	has(t, "the plan", s.do("plan", "--", "./bin/claude").stdout, "you are logged in here")
	none(s.run("--", "./bin/claude").stdout) // nobody is there to be asked
	p, end := run("--login", "no")
	none(p.sees("the agent is done"))
	end()
	p, end = run() // Ctrl-C is no answer
	p.sees(question)
	p.send("\x03")
	if status := end(); status != 125 {
		t.Errorf("Ctrl-C at the question: exit %d", status)
	}
	p, end = run()
	p.sees(question)
	p.send("n\r")
	none(p.sees("the agent is done"))
	end()
	p, end = run() // the answer is kept
	none(p.sees("the agent is done"))
	end()
	if text := read(t, file); !strings.Contains(text, oldRefresh) || len(s.world.told("renewed ")) > 0 {
		t.Fatalf("it was used: %s", text)
	}

	p, end = run("--login", "ask")
	p.sees(question)
	p.send("\r")
	shown := p.sees("the agent is done")
	if status := end(); status != 0 || !strings.Contains(shown, "login=sk-ant-oat01-") || strings.Contains(shown, newAccess) || strings.Contains(shown, "/home") {
		t.Errorf("exit %d; the terminal shows %q", status, shown)
	}
	s.world.renewedOnce(t, newAccess)
	s.hasNewLogin(file)
	has(t, "the agents", s.do("agents").stdout, "here, used")
	has(t, "the plan", s.do("plan", "--", "./bin/claude").stdout, "use the secret claude (inside: a placeholder in CLAUDE_CODE_OAUTH_TOKEN) in requests to api.anthropic.com:443, as bearer, if the store has it and not anthropic")
	if out := s.run("--", "true"); out.exit != 0 || strings.Contains(out.stdout+out.stderr, question) { // other commands have none of it
		t.Error(out)
	}

	k := s.talk("--preset", "claude")
	placeholder := k.ask("echo $CLAUDE_CODE_OAUTH_TOKEN")
	if len(placeholder) < 20 || placeholder == newAccess {
		t.Errorf("inside: %q", placeholder)
	}
	for i, token := range []string{newAccess, newRefresh, oldAccess, oldRefresh} {
		b := &brokered{s, token}
		if i < 2 {
			b.notInProcesses(k.cmd.Process.Pid, placeholder)
		}
		b.notInFiles(s.State, s.Work, filepath.Join(s.Home, ".config"))
	}
	k.end()

	(&brokered{s, apiKey}).secret(apiKey, "set", "anthropic") // a key is their word, too
	if out := s.run("--", "./bin/claude"); !strings.Contains(out.stdout, "login= key=sk-") {
		t.Errorf("with a key: %v", out)
	}
	if out := s.run("--login", "yes", "--", "./bin/claude"); !strings.Contains(out.stdout, "login=sk-ant-oat01-") || !strings.Contains(out.stdout, "key=\n") {
		t.Errorf("with a key, and --login yes: %v", out)
	}
	if out := s.run("--login", "yes", "--env", "ANTHROPIC_API_KEY=mine", "--", "./bin/claude"); out.exit != 125 || !strings.Contains(out.stderr, "given otherwise") {
		t.Errorf("--login yes and --env: %v", out)
	}
	// The control: without the broker the token is inside, and what holds it is found.
	out := s.run("--env", "CLAUDE_CODE_OAUTH_TOKEN="+newAccess, "--", "sh", "-c", "./bin/claude; echo $CLAUDE_CODE_OAUTH_TOKEN > ~/leaked")
	if !strings.Contains(out.stdout, newAccess) || len(filesWith(t, s.State, newAccess)) == 0 {
		t.Errorf("control: %v", out)
	}
}

// renewedOnce checks that the model was asked with the token, and that the login was renewed once.
func (w *world) renewedOnce(t *testing.T, token string) {
	t.Helper()
	if asked := w.told("model "); !slices.ContainsFunc(asked, func(l string) bool {
		return strings.HasPrefix(l, "model api.anthropic.com POST ") && strings.HasSuffix(l, " "+token)
	}) {
		t.Errorf("the model was asked: %q", asked)
	}
	if got := w.told("renewed "); !slices.Equal(got, []string{"renewed " + claudeTokens + " POST /v1/oauth/token refresh_token"}) || len(w.told("refused ")) > 0 {
		t.Errorf("the vendor was asked: %q", got)
	}
}

// TestLoginRefused: a login that the vendor does not renew is told to the person, and stays as it is.
func TestLoginRefused(t *testing.T) {
	needs(t, "curl")
	s := withModels(t)
	s.put("bin/claude", strings.Replace(asAgent, "-o /dev/null ", "", 1), 0o755)
	s.Accept()
	file := s.logIn()
	spoiled := strings.Replace(read(t, file), oldRefresh, "sk-ant-ort01-refused", 1)
	if err := os.WriteFile(file, []byte(spoiled), 0o600); err != nil {
		t.Fatal(err)
	}
	out := s.run("--login", "yes", "--", "./bin/claude")
	if out.exit != 125 || !strings.Contains(out.stderr, "refuses another") || !strings.Contains(out.stderr, "/login") || read(t, file) != spoiled {
		t.Errorf("%v; %s", out, read(t, file))
	}
	// A login that ends while it is in use: what asks inside is told so.
	good := strings.Replace(spoiled, `"expiresAt":1000`, fmt.Sprintf(`"expiresAt":%d`, time.Now().Add(time.Hour).UnixMilli()), 1)
	if err := os.WriteFile(file, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	if out = s.run("--login", "yes", "--", "./bin/claude"); !strings.Contains(out.stdout, "the agent is done") {
		t.Errorf("control: %v", out)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if out = s.run("--", "./bin/claude"); !strings.Contains(out.stdout, "nobody is logged in to Claude Code") {
		t.Errorf("logged out: %v", out)
	}
	if _, err := os.Lstat(file); err == nil {
		t.Error("there is a login again")
	}
}

// TestLoginOutlivesTheRun: casemate is killed while the vendor answers, whose answer uses the old refresh token up. The new one is in the person's file all the same.
func TestLoginOutlivesTheRun(t *testing.T) {
	held := filepath.Join(t.TempDir(), "answer")
	s := withModels(t, heldVariable+"="+held)
	file := s.logIn()
	s.put("bin/claude", asAgent, 0o755)
	s.Accept()
	cmd := s.command("run", "--login", "yes", "--", "./bin/claude")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "the vendor is asked", func() bool { return s.world.saw("asked " + claudeTokens) })
	killed := append(below(cmd.Process.Pid), cmd.Process.Pid)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if err := os.WriteFile(held, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "the file has the new login", func() bool { return strings.Contains(read(t, file), newRefresh) })
	eventually(t, 30*time.Second, "nobody is left", func() bool {
		return !slices.ContainsFunc(killed, func(pid int) bool { return isThere(fmt.Sprintf("/proc/%d/fd", pid)) })
	})
	s.hasNewLogin(file)
}
