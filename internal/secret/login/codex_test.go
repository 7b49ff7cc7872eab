package login

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// jwt is a token that says when it ends, such as Codex has.
func jwt(id string, expires time.Time) string {
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(`{"alg":"RS256"}`)) + "." + part([]byte(fmt.Sprintf(`{"jti":%q,"exp":%d}`, id, expires.Unix()))) + ".c2lnbmF0dXJl"
}

const account = "5f2c1b8e-0000-4000-8000-0123456789ab"

// inCodex is Codex's file, with things in it that are not ours.
func inCodex(access, refresh, last string) string {
	return fmt.Sprintf(`{"auth_mode":"chatgpt","OPENAI_API_KEY":null,"tokens":{"id_token":"the.old.id","access_token":%q,"refresh_token":%q,"account_id":%q,"later":{"n":12345678901234567890}},"last_refresh":%s,"agent_identity":null}`, access, refresh, account, last)
}

func codexFile(t *testing.T, name, contents string) File {
	t.Helper()
	dir := filepath.Join(t.TempDir(), ".codex")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := At(name, filepath.Join(dir, "auth.json"))
	if err == nil {
		err = os.WriteFile(f.Path, []byte(contents), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func codexVendor(t *testing.T, lasts time.Duration) *vendor {
	v := newVendor(t, oldRefresh)
	v.jwt = func() string { return jwt(v.good, time.Now().Add(lasts)) }
	return v
}

func TestCodexRenewed(t *testing.T) {
	old := jwt("old", time.Now().Add(-time.Hour))
	f := codexFile(t, "codex", inCodex(old, oldRefresh, `"2026-01-02T03:04:05.123456789Z"`))
	v := codexVendor(t, 10*24*time.Hour)
	got, until, err := v.get(f)
	if err != nil || strings.Count(got, ".") != 2 || got == old || time.Until(until) < 9*24*time.Hour {
		t.Fatalf("%q until %v, %v", got, until, err)
	}
	want := map[string]string{"grant_type": "refresh_token", "refresh_token": oldRefresh, "client_id": "app_EMoamEEZ73f0CkXaXp7hrann", "at": "auth.openai.com/oauth/token"}
	if fmt.Sprint(v.asked) != fmt.Sprint([]map[string]string{want}) {
		t.Errorf("asked %v", v.asked)
	}
	now := contents(t, f)
	for _, kept := range []string{`"auth_mode":"chatgpt"`, `"OPENAI_API_KEY":null`, account, `"later":{"n":12345678901234567890}`, got, v.good, `"id_token":"of-` + v.good} {
		if !strings.Contains(now, kept) {
			t.Errorf("%s is not in %s", kept, now)
		}
	}
	for _, gone := range []string{old, oldRefresh, "the.old.id", "2026-01-02"} {
		if strings.Contains(now, gone) {
			t.Errorf("%s is in %s", gone, now)
		}
	}
	alone(t, f)
	if again, _, err := v.get(f); err != nil || again != got || len(v.asked) != 1 {
		t.Errorf("%q, %v, asked %d times", again, err, len(v.asked))
	}
}

// TestCodexEnds is about when a token is renewed, and what cannot be used.
func TestCodexEnds(t *testing.T) {
	now := time.Now()
	stamp := func(ago time.Duration) string { return `"` + now.Add(-ago).UTC().Format(time.RFC3339Nano) + `"` }
	good, over := jwt("good", now.Add(time.Hour)), jwt("over", now.Add(-time.Minute))
	for name, c := range map[string]struct {
		contents string
		down     bool
		asks     int
		want     string // "new", or a part of the error after a "!"
	}{
		"an hour left":               {inCodex(good, oldRefresh, stamp(9*24*time.Hour)), false, 0, good},
		"a minute left":              {inCodex(jwt("", now.Add(time.Minute)), oldRefresh, stamp(0)), false, 1, "new"},
		"a minute left, and offline": {inCodex(jwt("x", now.Add(time.Minute)), oldRefresh, stamp(0)), true, 1, jwt("x", now.Add(time.Minute))},
		"over, and offline":          {inCodex(over, oldRefresh, stamp(0)), true, 1, "!answers 503"},
		"no JWT, renewed lately":     {inCodex("opaque-access", oldRefresh, stamp(time.Hour)), false, 0, "opaque-access"},
		"no JWT, renewed long ago":   {inCodex("opaque-access", oldRefresh, stamp(9*24*time.Hour)), false, 1, "new"},
		"no JWT, and no time":        {inCodex("opaque-access", oldRefresh, "null"), false, 0, "opaque-access"},
		"a JWT of year 300000":       {inCodex("a."+base64.RawURLEncoding.EncodeToString([]byte(`{"exp":9e12}`))+".c", oldRefresh, stamp(time.Hour)), false, 0, "a." + base64.RawURLEncoding.EncodeToString([]byte(`{"exp":9e12}`)) + ".c"},
		"over, nothing to renew":     {inCodex(over, "", stamp(0)), false, 0, "!has nothing by which"},
		"refused":                    {inCodex(over, "another", stamp(0)), false, 1, "!codex login"},
		"an API key":                 {`{"auth_mode":"apikey","OPENAI_API_KEY":"sk-0123456789"}`, false, 0, "!nobody is logged in to Codex"},
		"logged out":                 {`{"OPENAI_API_KEY":null,"tokens":null}`, false, 0, "!nobody is logged in"},
		"no token":                   {inCodex("", oldRefresh, stamp(0)), false, 0, "!nobody is logged in"},
		"a list":                     {`[]`, false, 0, "!damaged"},
		"cut off":                    {inCodex(good, oldRefresh, stamp(0))[:90], false, 0, "!damaged"},
		"tokens of another sort":     {`{"tokens":"x"}`, false, 0, "!damaged"},
		"a number for a token":       {`{"tokens":{"access_token":5}}`, false, 0, "!damaged"},
		"a time that is none":        {inCodex(good, oldRefresh, `"yesterday"`), false, 0, "!damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			f := codexFile(t, "codex", c.contents)
			v := codexVendor(t, time.Hour)
			if c.down {
				v.fail = func(w http.ResponseWriter) bool { w.WriteHeader(503); return true }
			}
			got, _, err := v.get(f)
			said, wrong := strings.CutPrefix(c.want, "!")
			var help interface{ Hint() string }
			text := fmt.Sprint(err)
			if errors.As(err, &help) {
				text += help.Hint()
			}
			switch {
			case wrong && (err == nil || !strings.Contains(text, said)),
				!wrong && err != nil,
				!wrong && c.want != "new" && got != c.want,
				c.want == "new" && got != jwtOf(contents(t, f)),
				len(v.asked) != c.asks:
				t.Errorf("%q, %s, asked %d times", got, text, len(v.asked))
			}
			if len(v.asked) == 0 && contents(t, f) != c.contents {
				t.Errorf("it is %s", contents(t, f))
			}
			alone(t, f)
		})
	}
}

// jwtOf is the access token in a file.
func jwtOf(contents string) string {
	_, after, _ := strings.Cut(contents, `"access_token":"`)
	token, _, _ := strings.Cut(after, `"`)
	return token
}

// TestCodexAccount: the account's number is read from the same file, and never has anybody asked.
func TestCodexAccount(t *testing.T) {
	v := codexVendor(t, time.Hour)
	got, until, err := v.get(codexFile(t, CodexAccount, inCodex(jwt("", time.Unix(1000, 0)), oldRefresh, "null")))
	if err != nil || got != account || !until.IsZero() || len(v.asked) > 0 {
		t.Errorf("%q until %v, %v, asked %d times", got, until, err, len(v.asked))
	}
	_, _, err = v.get(codexFile(t, CodexAccount, strings.ReplaceAll(inCodex(jwt("", time.Now()), oldRefresh, "null"), account, "")))
	wantProblem(t, err, "nobody is logged in", "codex login")
}

// codex renews as Codex does on the host: without a lock, and in place.
func (v *vendor) codex(f File) error {
	b, err := os.ReadFile(f.Path)
	if err != nil {
		return err
	}
	a, err := f.ask(context.Background(), v.client, b)
	if err != nil {
		return err
	}
	out, err := f.form.renewed(b, a, time.Now())
	if err != nil {
		return err
	}
	return os.WriteFile(f.Path, out, 0o600)
}

// TestCodexBeside: casemates that find the login over at once get one new login, and leave what Codex has put there meanwhile.
func TestCodexBeside(t *testing.T) {
	f := codexFile(t, "codex", inCodex(jwt("", time.Unix(1000, 0)), oldRefresh, "null"))
	v := codexVendor(t, time.Hour)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, _, err := v.get(f); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(v.asked) != 1 || v.reused > 0 {
		t.Errorf("asked %d times, %d of them in vain", len(v.asked), v.reused)
	}
	alone(t, f)

	for name, meanwhile := range map[string]func(f File, other *vendor) error{
		"Codex has renewed it with another login": func(f File, other *vendor) error {
			other.good = "of-another-login"
			if err := os.WriteFile(f.Path, []byte(inCodex(jwt("", time.Unix(1000, 0)), other.good, "null")), 0o600); err != nil {
				return err
			}
			return other.codex(f)
		},
		"logged in with an API key": func(f File, _ *vendor) error { return os.WriteFile(f.Path, []byte(`{"OPENAI_API_KEY":"sk-1"}`), 0o600) },
		"logged out":                func(f File, _ *vendor) error { return os.Remove(f.Path) },
	} {
		t.Run(name, func(t *testing.T) {
			f := codexFile(t, "codex", inCodex(jwt("", time.Unix(1000, 0)), oldRefresh, "null"))
			v, other := codexVendor(t, time.Hour), codexVendor(t, 2*time.Hour)
			var left string
			v.meet = func() {
				if err := meanwhile(f, other); err != nil {
					t.Error(err)
				}
				left = contentsOf(f)
			}
			_ = f.Renew(t.Context(), v.client, time.Now)
			if now := contentsOf(f); now != left || len(v.asked) != 1 {
				t.Errorf("it is %s", now)
			}
			if drafts, _ := filepath.Glob(f.Path + "?*"); len(drafts) > 0 {
				t.Errorf("left %q", drafts)
			}
		})
	}
}

// TestCodexKilled: the answer is on the disk, and whoever wrote it was killed before it was in its place.
func TestCodexKilled(t *testing.T) {
	f := codexFile(t, "codex", inCodex(jwt("", time.Unix(1000, 0)), oldRefresh, "null"))
	after := inCodex(jwt("", time.Now().Add(time.Hour)), "the-next-one", "null")
	if err := os.WriteFile(f.draftOf(oldRefresh), []byte(after), 0o600); err != nil {
		t.Fatal(err)
	}
	v := codexVendor(t, time.Hour)
	if _, _, err := v.get(f); err != nil || len(v.asked) > 0 || contents(t, f) != after {
		t.Errorf("%v, asked %d times; %s", err, len(v.asked), contents(t, f))
	}
	alone(t, f)
}

func FuzzCodex(f *testing.F) {
	f.Add([]byte(inCodex(jwt("", time.Unix(5, 0)), oldRefresh, `"2026-01-02T03:04:05Z"`)))
	f.Add([]byte(`{"tokens":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := (codex{}).read(b); err != nil {
			return
		}
		out, err := codex{}.renewed(b, answer{Access: "a", Refresh: "r", ID: "i"}, time.Unix(5000, 0))
		if err != nil {
			t.Fatalf("%q was read, and cannot be renewed: %v", b, err)
		}
		if now, err := (codex{}).read(out); err != nil || now.access != "a" || now.refresh != "r" || !now.expires.Equal(time.Unix(5000, 0).Add(unread)) {
			t.Errorf("%q became %q", b, out)
		}
	})
}
