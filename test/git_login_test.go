package test

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// privateGit serves repositories to whoever has the password that lies in the directory, and tells what it was given.
func privateGit(dir string) error {
	backend := gitBackend(dir)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, ok := r.BasicAuth()
		want, err := os.ReadFile(filepath.Join(dir, "password"))
		given := "nothing"
		if ok && err == nil && password == string(want) {
			given = user + " and the value"
		} else if ok {
			given = "something else"
		}
		fmt.Println("git", r.Host, r.Method, r.URL.Path, given)
		if given != user+" and the value" {
			w.Header().Set("WWW-Authenticate", `Basic realm="private"`)
			http.Error(w, "log in", http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, r)
	})
	overTLS["git.allowed.example"], overTLS["code.allowed.example"] = handler, handler
	return nil
}

const withForge = `secrets:
  forge: {env: FORGE_TOKEN, hosts: [git.allowed.example], place: git}
`

const toForge = `network: {allow: [{host: git.allowed.example}, {host: code.allowed.example, methods: [GET, POST]}]}
`

// TestGitLogsIn: a private repository is cloned, fetched and pushed to with git as it is, and with a credential that git never has.
func TestGitLogsIn(t *testing.T) {
	gated(t, func(t *testing.T, s *site) {
		needs(t, "git")
		random := make([]byte, 16)
		rand.Read(random)
		b := &brokered{s, "forge-" + hex.EncodeToString(random)}
		if err := os.WriteFile(filepath.Join(s.world.dir, "password"), []byte(b.value), 0o644); err != nil {
			t.Fatal(err)
		}
		const as = "git -c user.name=n -c user.email=e "
		repository := filepath.Join(s.world.dir, "git", "private.git")
		commit := func(file string) string {
			return `rm -rf /tmp/seed$$ && git clone -q ` + repository + ` /tmp/seed$$ && cd /tmp/seed$$ && echo ` + file + ` >` + file + ` && git add . && ` + as + `commit -qm ` + file + ` && git push -q origin HEAD:main; cd / && rm -rf /tmp/seed$$`
		}
		if out := s.outside("git init -q --bare -b main " + repository + " && " + commit("first")); out.exit != 0 || strings.Contains(out.stderr, "fatal") {
			t.Fatal(out)
		}
		// The controls: the host turns away who has no credential, inside a sandbox without the secret too, and takes the value.
		const asks = "GIT_TERMINAL_PROMPT=0 git ls-remote "
		if out := s.outside(asks + "https://git.allowed.example/private.git"); out.exit == 0 || !strings.Contains(out.stderr, "could not read Username") {
			t.Fatalf("control, outside: %v", out)
		}
		if out := s.outside(asks + "https://x:" + b.value + "@git.allowed.example/private.git"); out.exit != 0 || !strings.Contains(out.stdout, "refs/heads/main") {
			t.Fatalf("control, outside with the value: %v", out)
		}
		b.approve(toForge)
		if out := s.sh(asks + "https://git.allowed.example/private.git"); out.exit == 0 || !strings.Contains(out.stderr, "could not read Username") {
			t.Fatalf("control, without the secret: %v", out)
		}

		b.secret(b.value, "set", "forge", "--host", "git.allowed.example")
		b.approve(withForge + toForge)
		k := s.talk("--name", "forge")
		if got := k.ask("git clone -q https://git.allowed.example/private.git && cd private && cat first"); got != "first" {
			t.Fatalf("clone: %q, and %q", got, s.world.told("git "))
		}
		if !s.world.saw("git git.allowed.example GET /private.git/info/refs x-access-token and the value") {
			t.Errorf("clone: %q", s.world.told("git "))
		}
		if got := k.ask(`head -c 2000000 /dev/urandom >large && git add large && ` + as + `commit -qm pushed && git push -q origin HEAD`); got != "" { // in chunks, after an empty request
			t.Errorf("push: %q, and %q", got, s.world.told("git "))
		}
		if out := s.outside("git -C " + repository + " log -1 --format=%s main"); out.stdout != "pushed\n" {
			t.Errorf("pushed: %v", out)
		}
		if out := s.outside(commit("later")); out.exit != 0 {
			t.Fatal(out)
		}
		if got := k.ask("git pull -q && cat later"); got != "later" {
			t.Errorf("fetch: %q, and %q", got, s.world.told("git "))
		}
		placeholder := k.ask("echo $FORGE_TOKEN")
		if got := k.ask("env; git config --list; git -c credential.helper= credential fill </dev/null 2>&1; printf 'protocol=https\\nhost=git.allowed.example\\n\\n' | git credential fill"); strings.Contains(got, b.value) || !strings.HasSuffix(got, "password="+placeholder) {
			t.Errorf("inside: %q", got)
		}
		// Elsewhere it is an alarm: at another host, and at this one in a request that is not git's.
		for _, line := range []string{"git ls-remote https://x:$FORGE_TOKEN@code.allowed.example/private.git", "curl -sS -u x:$FORGE_TOKEN https://git.allowed.example/private.git/HEAD"} {
			if got := k.ask(line); !strings.Contains(got, "the placeholder of the secret") {
				t.Errorf("%s: %q", line, got)
			}
		}
		for _, told := range s.world.told("git ") {
			if strings.HasSuffix(told, "something else") {
				t.Errorf("a host was given a placeholder: %s", told)
			}
		}
		b.secret("", "rm", "forge")
		eventually(t, 20*time.Second, "the removed secret is refused", func() bool {
			got := k.ask("git fetch")
			return strings.Contains(got, "remote: denied by casemate: the secret \"forge\"") && strings.Contains(got, "403")
		})
		k.end()
		has(t, "events", s.events(t), `"kind":"alarm","subject":"secret:forge"`)
		b.notInFiles(s.State, s.Work, s.Home)
	})
}
