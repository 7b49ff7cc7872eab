package stores

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"casemate.dev/internal/secret"
	"casemate.dev/internal/secret/book"
)

const real = "sk-ant-api03-Zk3vQ8aXw2"

func value(t testing.TB, s string) secret.Value {
	t.Helper()
	v, err := secret.New([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func text(t testing.TB, v secret.Value) (s string) {
	t.Helper()
	if err := v.Use(func(b []byte) error { s = string(b); return nil }); err != nil {
		t.Fatal(err)
	}
	return s
}

func from(vars map[string]string) Host {
	return Host{Getenv: func(name string) string { return vars[name] }, Value: func(string) (secret.Value, error) { return secret.Value{}, secret.ErrWiped }}
}

func get(t *testing.T, s book.Source, h Host) (secret.Value, error) {
	t.Helper()
	store, err := Open(&book.Entry{Name: "anthropic", Source: s}, h)
	if err != nil {
		return secret.Value{}, err
	}
	v, _, err := store.Get(t.Context())
	return v, err
}

func TestFileAndEnv(t *testing.T) {
	b := &book.Book{}
	b.SetValue("anthropic", value(t, real))
	h := from(map[string]string{"KEY": real})
	h.Value = func(name string) (secret.Value, error) { return b.Value(name).Copy() }
	for _, s := range []book.Source{{Store: book.File}, {Store: book.Env, Variable: "KEY"}} {
		v, err := get(t, s, h)
		if err != nil || text(t, v) != real {
			t.Errorf("%+v: %v", s, err)
		}
	}
	v, _ := get(t, book.Source{Store: book.File}, h)
	b.Wipe()
	if text(t, v) != real {
		t.Error("the book's end took the value from under its user")
	}
	if _, err := get(t, book.Source{Store: book.File}, h); err == nil {
		t.Error("a wiped book gives a value")
	}
	_, err := get(t, book.Source{Store: book.Env, Variable: "OTHER"}, h)
	wantProblem(t, err, "OTHER is not set", "export")
}

func TestCommand(t *testing.T) {
	dir := t.TempDir()
	script := func(body string) command {
		path := filepath.Join(dir, fmt.Sprintf("c%d", len(glob(dir))))
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return command{[]string{"/bin/sh", path, "an argument; touch " + dir + "/shell $(id)"}, 30 * time.Second}
	}
	for name, c := range map[string]struct{ body, want, sentence, hint string }{
		"prints":        {body: "echo " + real, want: real},
		"no line break": {body: "printf %s " + real, want: real},
		"several lines": {body: "echo " + real + "; echo two", want: real + "\ntwo"},
		"argument":      {body: `echo "$1"`, want: "an argument; touch " + dir + "/shell $(id)"},
		"no input":      {body: "cat; echo " + real, want: real},
		"nothing":       {body: "true", sentence: "printed nothing", hint: "run it yourself"},
		"fails":         {body: "echo not signed in >&2; exit 3", sentence: "exit status 3", hint: "run it yourself"},
		"fails loudly":  {body: "echo " + real + "; echo key " + real + " is bad >&2; exit 3", sentence: "exit status 3", hint: "run it yourself"},
	} {
		t.Run(name, func(t *testing.T) {
			v, _, err := script(c.body).Get(t.Context())
			if c.sentence != "" {
				wantProblem(t, err, c.sentence, c.hint)
			} else if err != nil || text(t, v) != c.want {
				t.Errorf("%v", err)
			}
		})
	}
	if _, _, err := script("head -c 100000 /dev/zero").Get(t.Context()); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("too long: %v", err)
	}
	_, _, err := command{[]string{"/nowhere/op"}, time.Minute}.Get(t.Context())
	wantProblem(t, err, "no such file", "another command")
	slow := script("sleep 600 & echo $! > " + dir + "/pid; wait")
	slow.timeout = time.Second
	_, _, err = slow.Get(t.Context())
	wantProblem(t, err, "did not end within 1s", "run it yourself")
	if pid, err := os.ReadFile(dir + "/pid"); err == nil { // a machine that is too busy to write it has started nothing
		ended(t, strings.TrimSpace(string(pid)))
	}
	if _, err := os.Stat(dir + "/shell"); err == nil {
		t.Error("a shell read the arguments")
	}
}

// ended waits until a process is gone, or dead and waiting for its parent.
func ended(t *testing.T, pid string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
	}
	t.Errorf("process %s goes on", pid)
}

func glob(dir string) []string { list, _ := filepath.Glob(dir + "/*"); return list }

func TestResolve(t *testing.T) {
	got, err := Resolve([]string{"sh", "-c", "x"})
	if err != nil || !strings.HasPrefix(got[0], "/") || got[2] != "x" {
		t.Errorf("%q, %v", got, err)
	}
	t.Chdir(t.TempDir())
	if err := os.WriteFile("op", []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", ".:/bin")
	for _, argv := range [][]string{nil, {"op"}, {"./op"}, {"no-such-program"}} {
		if got, err := Resolve(argv); err == nil {
			t.Errorf("%q is %q", argv, got)
		}
	}
}

// kv is a KV version 2 server, written from the published API, because none can be installed here:
// https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2.
type kv struct {
	mu       sync.Mutex
	versions []map[string]any // of secret/data/team/anthropic
	sealed   bool
	asked    []string
	race     func() // runs before a write is looked at
}

func (s *kv) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.Method+" "+r.URL.Path)
	fail := func(status int, errs ...string) {
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(map[string]any{"errors": errs})
	}
	switch {
	case s.sealed:
		fail(503, "Vault is sealed")
	case r.Header.Get("X-Vault-Token") != "hvs.token" || r.Header.Get("X-Vault-Namespace") != "team-a":
		fail(403, "permission denied")
	case r.URL.Path == "/v1/away/data/x":
		http.Redirect(w, r, "http://127.0.0.1:1/stolen", http.StatusTemporaryRedirect)
	case r.URL.Path == "/v1/huge/data/x":
		io.WriteString(w, strings.Repeat(" ", maxAnswer+1))
	case r.URL.Path == "/v1/odd/data/x":
		io.WriteString(w, "<html>"+real)
	case r.URL.Path != "/v1/secret/data/team/anthropic":
		fail(404)
	case r.Method == http.MethodPost:
		if s.race != nil {
			s.race()
			s.race = nil
		}
		var in struct {
			Data    map[string]any
			Options struct{ CAS *int }
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			fail(400, err.Error())
			return
		}
		if in.Options.CAS == nil || *in.Options.CAS != len(s.versions) {
			fail(400, "check-and-set parameter did not match the current version")
			return
		}
		s.versions = append(s.versions, in.Data)
		json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"version": len(s.versions)}})
	case len(s.versions) == 0:
		fail(404)
	default:
		n := len(s.versions)
		answer := map[string]any{"data": map[string]any{"data": s.versions[n-1], "metadata": map[string]any{"version": n, "created_time": "2026-11-22T12:00:00Z"}}}
		if s.versions[n-1] == nil { // the newest one was deleted
			w.WriteHeader(404)
		}
		json.NewEncoder(w).Encode(answer)
	}
}

func TestVault(t *testing.T) {
	s := &kv{}
	server := httptest.NewServer(s)
	defer server.Close()
	h := from(map[string]string{"VAULT_TOKEN": "hvs.token"})
	source := book.Source{Store: book.Vault, Address: server.URL, Namespace: "team-a", Mount: "secret", Path: "team/anthropic", Field: "key"}
	_, err := get(t, source, h)
	wantProblem(t, err, "there is no secret at /v1/secret/data/team/anthropic", "KV version 2")

	store, err := newVault(source, h.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	put := func(v string) error { return store.Put(context.Background(), value(t, v)) }
	if err := put("first-value"); err != nil {
		t.Fatal(err)
	}
	s.versions[0]["owner"] = "somebody"
	if err := put(real); err != nil {
		t.Fatal(err)
	}
	if v, err := get(t, source, h); err != nil || text(t, v) != real || s.versions[1]["owner"] != "somebody" {
		t.Errorf("%v, %v", err, s.versions)
	}
	s.race = func() { s.versions = append(s.versions, map[string]any{"key": "of somebody else"}) }
	if err := put("mine"); err == nil || !strings.Contains(err.Error(), "check-and-set") || s.versions[len(s.versions)-1]["key"] != "of somebody else" {
		t.Errorf("a write in between is lost: %v", err)
	}
	s.versions = append(s.versions, nil)
	if _, err := get(t, source, h); err == nil {
		t.Error("a deleted version is read")
	}
	if err := put(real); err != nil {
		t.Errorf("after a deleted version: %v", err)
	}

	for _, c := range []struct {
		name, sentence, hint string
		change               func(*book.Source)
		env                  map[string]string
	}{
		{"field", `no text in a field "other"`, "--field", func(s *book.Source) { s.Field = "other" }, nil},
		{"token", "permission denied", "log in", nil, map[string]string{"VAULT_TOKEN": "wrong"}},
		{"no token", "no token", "vault login", nil, map[string]string{"HOME": "/nowhere"}},
		{"namespace", "permission denied", "log in", func(s *book.Source) { s.Namespace = "" }, nil},
		{"nobody there", "cannot be reached", "running", func(s *book.Source) { s.Address = "http://127.0.0.1:1" }, nil},
		{"unencrypted", "unencrypted", "https", func(s *book.Source) { s.Address = "http://vault.example" }, nil},
		{"climbing", "no path", "MOUNT/PATH", func(s *book.Source) { s.Path = "../../sys/seal" }, nil},
		{"query", "no path", "MOUNT/PATH", func(s *book.Source) { s.Path = "x?list=true" }, nil},
		{"no address", "no server", "https", func(s *book.Source) { s.Address = "" }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			other, vars := source, c.env
			if c.change != nil {
				c.change(&other)
			}
			if vars == nil {
				vars = map[string]string{"VAULT_TOKEN": "hvs.token"}
			}
			_, err := get(t, other, from(vars))
			wantProblem(t, err, c.sentence, c.hint)
		})
	}
	for mount, want := range map[string]string{"away": "307", "huge": "longer than", "odd": "none of KV version 2"} {
		other := source
		other.Mount, other.Path = mount, "x"
		if _, err := get(t, other, h); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), real) {
			t.Errorf("%s: %v", mount, err)
		}
	}
	s.sealed = true
	_, err = get(t, source, h)
	wantProblem(t, err, "sealed", "vault status")
}

// TestLogin: whose login it is and where it lies is found once; another store's is none.
func TestLogin(t *testing.T) {
	home := t.TempDir()
	h := from(map[string]string{"HOME": home})
	_, err := FindLogin("claude", h.Getenv)
	wantProblem(t, err, "nobody is logged in to Claude Code", "/login")
	_, err = FindLogin("nobody", h.Getenv)
	wantProblem(t, err, `whose login is "nobody"`, "known are: claude")
	if err := os.Mkdir(filepath.Join(home, ".claude"), 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := FindLogin("claude", h.Getenv)
	if err != nil || s.Path != filepath.Join(home, ".claude", ".credentials.json") || Describe(s) != "login of claude in "+s.Path || Fresh(s.Store) != 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	if err := os.WriteFile(s.Path, []byte(`{"claudeAiOauth":{"accessToken":"`+real+`"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if v, err := get(t, s, h); err != nil || text(t, v) != real {
		t.Error(err)
	}
	for _, other := range []book.Source{{Store: book.Login}, {Store: book.Login, Login: "claude", Path: "x"}, {Store: book.Login, Login: "nobody", Path: s.Path}} {
		if _, err := get(t, other, h); err == nil {
			t.Errorf("%+v is read", other)
		}
	}
}

func TestVaultOverTLS(t *testing.T) {
	server := httptest.NewTLSServer(&kv{versions: []map[string]any{{"key": real}}})
	defer server.Close()
	source := book.Source{Store: book.Vault, Address: server.URL, Namespace: "team-a", Mount: "secret", Path: "team/anthropic", Field: "key"}
	vars := map[string]string{"HOME": t.TempDir()}
	if err := os.WriteFile(filepath.Join(vars["HOME"], ".vault-token"), []byte("hvs.token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := get(t, source, from(vars)); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown certificate is taken: %v", err)
	}
	vars["BAO_CACERT"] = filepath.Join(vars["HOME"], "ca.pem")
	if err := os.WriteFile(vars["BAO_CACERT"], pemOf(server.Certificate().Raw), 0o600); err != nil {
		t.Fatal(err)
	}
	if v, err := get(t, source, from(vars)); err != nil || text(t, v) != real {
		t.Errorf("%v", err)
	}
}

func pemOf(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}) }

// TestAWS: a credential of AWS is one text, whichever way its store has it, and says when it ends.
func TestAWS(t *testing.T) {
	const id, key, token = "ASIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "aToken//Of/Tests=="
	printed := `{"Version": 1, "AccessKeyId": "` + id + `", "SecretAccessKey": "` + key + `", "SessionToken": "` + token + `", "Expiration": "2030-01-02T03:04:05Z"}`
	vars := map[string]string{
		"AWS_ACCESS_KEY_ID": id, "AWS_SECRET_ACCESS_KEY": key, "AWS_SESSION_TOKEN": token, "R2_ACCESS_KEY_ID": id, "R2_SECRET_ACCESS_KEY": key, "ALL": printed,
		"WHOLE_ACCESS_KEY_ID": id + ":" + key, "HALF_ACCESS_KEY_ID": id,
	}
	echo := filepath.Join(t.TempDir(), "echo")
	if err := os.WriteFile(echo, []byte("#!/bin/sh\ncat <<'END'\n"+strings.ReplaceAll(printed, ", ", ",\n  ")+"\nEND\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from book.Source
		want string
		ends bool
	}{
		{book.Source{Store: book.Env, Variable: "AWS_ACCESS_KEY_ID"}, id + ":" + key + ":" + token, false}, {book.Source{Store: book.Env, Variable: "R2_ACCESS_KEY_ID"}, id + ":" + key, false},
		{book.Source{Store: book.Env, Variable: "ALL"}, id + ":" + key + ":" + token, true}, {book.Source{Store: book.Env, Variable: "WHOLE_ACCESS_KEY_ID"}, id + ":" + key, false},
		{book.Source{Store: book.Env, Variable: "HALF_ACCESS_KEY_ID"}, "", false}, {book.Source{Store: book.Env, Variable: "NONE_ACCESS_KEY_ID"}, "", false},
		{book.Source{Store: book.Command, Command: []string{echo}}, id + ":" + key + ":" + token, true},
	} {
		e := &book.Entry{Name: "aws", Kind: "aws", Source: c.from}
		store, err := Open(e, from(vars))
		if err != nil {
			t.Fatal(err)
		}
		v, until, err := Get(t.Context(), store, e)
		if (err == nil) != (c.want != "") || err == nil && text(t, v) != c.want || until.IsZero() == c.ends {
			t.Errorf("%+v: %v, until %v", c.from, err, until)
		}
	}
}
