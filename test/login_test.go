package test

import (
	"encoding/base64"
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

// loggedIn is one such login.
type loggedIn struct {
	file, text            string // below the home
	vendor                string
	oldAccess, oldRefresh string
	newAccess, newRefresh string
	kept                  []string // what stays in the file
	account               string   // sent beside the token; a part of the text
}

func claudeLogin() loggedIn {
	return loggedIn{
		file: ".claude/.credentials.json", vendor: claudeTokens, oldAccess: oldAccess, oldRefresh: oldRefresh, newAccess: newAccess, newRefresh: newRefresh,
		text: fmt.Sprintf(`{"claudeAiOauth":{"accessToken":%q,"refreshToken":%q,"expiresAt":1000,"scopes":["user:inference"],"subscriptionType":"max"},"mcpOAuth":{}}`, oldAccess, oldRefresh),
		kept: []string{`"subscriptionType":"max"`, `"mcpOAuth":{}`},
	}
}

const codexTokens = "auth.openai.com"

func codexLogin() loggedIn {
	jwt := func(id string, ends int) string {
		part := base64.RawURLEncoding.EncodeToString
		return part([]byte(`{"alg":"RS256"}`)) + "." + part([]byte(fmt.Sprintf(`{"jti":%q,"exp":%d}`, id, ends))) + "." + part([]byte("signature of "+id))
	}
	l := loggedIn{
		file: ".codex/auth.json", vendor: codexTokens, account: "5f2c1b8e-0000-4000-8000-0123456789ab",
		oldAccess: jwt("the-old-one", 1000), oldRefresh: "rt_the-old-refresh-token-0123456789", newAccess: jwt("the-new-one-of-the-two", 4102444800), newRefresh: "rt_the-new-refresh-token-0123456789abcdef",
		kept: []string{`"auth_mode":"chatgpt"`, `"OPENAI_API_KEY":null`, `"account_id":"5f2c1b8e-`},
	}
	l.text = fmt.Sprintf(`{"auth_mode":"chatgpt","OPENAI_API_KEY":null,"tokens":{"id_token":%q,"access_token":%q,"refresh_token":%q,"account_id":%q},"last_refresh":"2026-01-02T03:04:05Z"}`, jwt("id", 1000), l.oldAccess, l.oldRefresh, l.account)
	return l
}

// heldVariable names a file without which the vendor's stand-in does not answer.
const heldVariable = "CASEMATE_TEST_WORLD_HELD"

// tokenEndpoint renews a login once: each refresh token is good for one use.
type tokenEndpoint struct {
	mu   sync.Mutex
	good string
	of   loggedIn
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
	e.good = e.of.newRefresh
	reply(w, fields{"access_token": e.of.newAccess, "refresh_token": e.of.newRefresh, "expires_in": 28800, "token_type": "Bearer"})
}

// logIn writes the file of a login that is over, as Claude Code leaves it.
func (s *site) logIn() (file string) { return s.logInto(claudeLogin()) }

func (s *site) logInto(l loggedIn) (file string) {
	s.t.Helper()
	file = filepath.Join(s.Home, l.file)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		s.t.Fatal(err)
	}
	_ = os.Remove(file) // of the fixtures
	if err := os.WriteFile(file, []byte(l.text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return file
}

// hasNew checks that the person's file has the login that the vendor gave, and is theirs alone.
func (s *site) hasNew(l loggedIn) {
	s.t.Helper()
	file := filepath.Join(s.Home, l.file)
	text := read(s.t, file)
	for _, want := range append([]string{l.newAccess, l.newRefresh}, l.kept...) {
		has(s.t, "the person's login", text, want)
	}
	if st, err := os.Stat(file); err != nil || st.Mode() != 0o600 {
		s.t.Errorf("it is %v, %v", st.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Dir(file) + "/*.casemate-*"); len(left) > 0 {
		s.t.Errorf("beside it: %q", left)
	}
	if left, _ := filepath.Glob(filepath.Dir(file) + "/.*lock"); len(left) > 0 {
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
	s.hasNew(claudeLogin())
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
	s.hasNew(claudeLogin())
}

// asCodex is one that shows how it was started, and asks its model and another part of that web site.
const asCodex = `#!/bin/sh
echo "args=$* login=$CODEX_LOGIN_TOKEN account=$CODEX_LOGIN_ACCOUNT key=$OPENAI_API_KEY"
ask() { curl -sS -o /dev/null -w "$1 %{http_code}\n" -d '{}' -H "Authorization: Bearer $CODEX_LOGIN_TOKEN" -H "ChatGPT-Account-Id: $CODEX_LOGIN_ACCOUNT" "https://chatgpt.com/$1" 2>&1; }
ask backend-api/codex/responses
ask backend-api/me
`

// TestLoginOfCodex: a login with a ChatGPT account is used for requests to the model alone, and its host is open only where it is used.
func TestLoginOfCodex(t *testing.T) {
	needs(t, "curl")
	s, l := withModels(t), codexLogin()
	s.put("bin/codex", asCodex, 0o755)
	s.Accept()
	file := s.logInto(l)
	has(t, "the agents", s.do("agents").stdout, " here ")
	closed := func(what string, out output) {
		t.Helper()
		if strings.Contains(out.stdout, "model_provider") || !strings.Contains(out.stdout, "login= account= key=") || strings.Contains(out.stdout, "responses 2") || s.world.saw("query chatgpt.com") {
			t.Errorf("%s: %v", what, out)
		}
	}
	closed("nobody has said that it is used", s.run("--", "./bin/codex", "exec"))
	(&brokered{s, apiKey}).secret(apiKey, "set", "openai")
	closed("the store has a key", s.run("--", "./bin/codex", "exec"))

	out := s.run("--login", "yes", "--", "./bin/codex", "exec")
	if !strings.Contains(out.stdout, "args=-c model_provider=login exec login=eyJ") || !strings.Contains(out.stdout, "key=\n") || !strings.Contains(out.stdout, "responses 200") || !strings.Contains(out.stdout, "me 403") {
		t.Errorf("with the login: %v", out)
	}
	if asked := s.world.told("model "); !slices.Equal(asked, []string{"model chatgpt.com POST /backend-api/codex/responses " + l.newAccess}) {
		t.Errorf("the model was asked: %q", asked)
	}
	if asked := s.world.told("account "); !slices.Equal(asked, []string{"account chatgpt.com " + l.account}) {
		t.Errorf("the account: %q", asked)
	}
	if got := s.world.told("renewed "); !slices.Equal(got, []string{"renewed " + codexTokens + " POST /oauth/token refresh_token"}) {
		t.Errorf("the vendor was asked: %q", got)
	}
	s.hasNew(l)
	if strings.Contains(out.stdout, l.newAccess) || strings.Contains(out.stdout, l.account) {
		t.Errorf("inside: %v", out)
	}
	has(t, "the agents", s.do("agents").stdout, "here, used")
	has(t, "the plan", s.do("plan", "--", "./bin/codex").stdout, "if the store has it and not openai")
	if out := s.run("--", "./bin/codex", "exec"); !strings.Contains(out.stdout, "args=exec login= account= key=sk-") || strings.Contains(out.stdout, "responses 200") {
		t.Errorf("a key wins: %v", out)
	}
	if out := s.do("secret", "rm", "openai"); out.exit != 0 {
		t.Error(out)
	}
	if out := s.run("--", "./bin/codex", "exec"); !strings.Contains(out.stdout, "login=eyJ") || !strings.Contains(out.stdout, "responses 200") {
		t.Errorf("without a key: %v", out)
	}
	for _, args := range [][]string{{"rm", "codex"}, {"rm", "codex-account"}, {"set", "codex", "--from", "login", "--preset", "codex"}} { // said beforehand
		if out := s.do(append([]string{"secret"}, args...)...); out.exit != 0 {
			t.Error(out)
		}
	}
	asked := len(s.world.told("account chatgpt.com " + l.account))
	if out := s.run("--", "./bin/codex", "exec"); !strings.Contains(out.stdout, "responses 200") || len(s.world.told("account chatgpt.com "+l.account)) != asked+1 {
		t.Errorf("set beforehand: %v", out)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if out := s.run("--login", "yes", "--", "./bin/codex", "exec"); !strings.Contains(out.stderr, "nobody is logged in to Codex") || !strings.Contains(out.stdout, "responses 403") || isThere(file) {
		t.Errorf("logged out: %v", out)
	}
}
