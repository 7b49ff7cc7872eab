package login

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"casemate.dev/internal/secret"
)

// vendor is a token endpoint whose refresh tokens are good for one use, as RFC 6749's section 6 allows and OAuth 2.1 wants of public clients: a second use ends the
// login. That is what makes a lost one, or two renewals at once, a logged-out person.
type vendor struct {
	mu      sync.Mutex
	good    string // the refresh token that is
	asked   []map[string]string
	reused  int
	seconds int64
	fail    func(w http.ResponseWriter) bool // answers instead
	jwt     func() string                    // Codex's vendor's access tokens, which say themselves when they end
	meet    func()                           // runs when it is asked, before it answers
	client  *http.Client
}

func newVendor(t *testing.T, good string) *vendor {
	v := &vendor{good: good, seconds: 28800}
	s := httptest.NewUnstartedServer(v)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	v.client = Client()
	transport := v.client.Transport.(*http.Transport)
	transport.Proxy = nil
	transport.TLSClientConfig = &tls.Config{RootCAs: roots, ServerName: "example.com"}
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, s.Listener.Addr().String())
	}
	return v
}

func (v *vendor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in map[string]string
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || r.Method != http.MethodPost {
		http.Error(w, "no", http.StatusBadRequest)
		return
	}
	in["at"] = r.Host + r.URL.Path
	if v.meet != nil {
		v.meet()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asked = append(v.asked, in)
	if v.fail != nil && v.fail(w) {
		return
	}
	if in["refresh_token"] != v.good {
		v.reused++
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"error":"invalid_grant","error_description":"`+in["refresh_token"]+`"}`)
		return
	}
	v.good = fmt.Sprintf("refresh-%d-of-the-login", len(v.asked))
	if v.jwt != nil {
		json.NewEncoder(w).Encode(map[string]any{"access_token": v.jwt(), "refresh_token": v.good, "id_token": "of-" + v.good})
		return
	}
	json.NewEncoder(w).Encode(map[string]any{"access_token": fmt.Sprintf("sk-ant-oat01-access-%d", len(v.asked)), "refresh_token": v.good, "expires_in": v.seconds, "token_type": "Bearer"})
}

const (
	oldAccess  = "sk-ant-oat01-the-old-one"
	oldRefresh = "sk-ant-ort01-the-old-one"
)

// written is Claude Code's file, with things in it that are not ours.
func written(access, refresh string, expires int64) string {
	return fmt.Sprintf(`{"claudeAiOauth":{"accessToken":%q,"refreshToken":%q,"expiresAt":%d,"scopes":["user:inference","user:profile"],"subscriptionType":"max","rateLimitTier":null},"mcpOAuth":{"a|1":{"accessToken":"of a server","expiresAt":12345678901234567890}}}`, access, refresh, expires)
}

func file(t *testing.T, contents string) File {
	t.Helper()
	home := t.TempDir()
	dir := filepath.Join(home, ".claude")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, ".credentials.json")
	if err := os.WriteFile(path, []byte(contents), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := At("claude", path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func expired(t *testing.T) File { return file(t, written(oldAccess, oldRefresh, 1000)) }

// get is what a use of the login does.
func (v *vendor) get(f File) (string, time.Time, error) {
	value, until, err := f.Get(context.Background(), time.Now, func(ctx context.Context) error { return f.Renew(ctx, v.client, time.Now) })
	var s string
	if err == nil {
		err = value.Use(func(b []byte) error { s = string(b); return nil })
	}
	return s, until, err
}

func contents(t *testing.T, f File) string {
	t.Helper()
	b, err := os.ReadFile(f.Path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// alone checks that nothing but the login is left.
func alone(t *testing.T, f File) {
	t.Helper()
	for dir, want := range map[string]string{filepath.Dir(f.Path): filepath.Base(f.Path), filepath.Dir(filepath.Dir(f.Path)): filepath.Base(filepath.Dir(f.Path))} {
		list, err := os.ReadDir(dir)
		if err != nil || len(list) != 1 || list[0].Name() != want {
			t.Errorf("in %s: %v, %v", dir, list, err)
		}
	}
}

func TestRenewed(t *testing.T) {
	f := expired(t)
	v := newVendor(t, oldRefresh)
	before := time.Now()
	got, until, err := v.get(f)
	if err != nil || got != "sk-ant-oat01-access-1" || until.Before(before.Add(7*time.Hour)) {
		t.Fatalf("%q until %v, %v", got, until, err)
	}
	want := map[string]string{"grant_type": "refresh_token", "refresh_token": oldRefresh, "client_id": "9d1c250a-e61b-44d9-88ed-5944d1962f5e", "scope": "user:inference user:profile", "at": "platform.claude.com/v1/oauth/token"}
	if fmt.Sprint(v.asked) != fmt.Sprint([]map[string]string{want}) {
		t.Errorf("asked %v", v.asked)
	}
	now := contents(t, f)
	for _, kept := range []string{`"subscriptionType":"max"`, `"rateLimitTier":null`, `"mcpOAuth":{"a|1":{"accessToken":"of a server","expiresAt":12345678901234567890}}`, v.good, got} {
		if !strings.Contains(now, kept) {
			t.Errorf("%s is not in %s", kept, now)
		}
	}
	if strings.Contains(now, oldAccess) || strings.Contains(now, oldRefresh) {
		t.Errorf("it has the old ones: %s", now)
	}
	if st, err := os.Stat(f.Path); err != nil || st.Mode() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	alone(t, f)
	// A login that is good is used as it is.
	if again, _, err := v.get(f); err != nil || again != got || len(v.asked) != 1 {
		t.Errorf("%q, %v, asked %d times", again, err, len(v.asked))
	}
}

// TestWhenItEnds is about the clock: what is written in the file is a time of day of this machine's.
func TestWhenItEnds(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		contents string
		down     bool // nobody answers
		asks     int
		want     string // "": an error
	}{
		"an hour left":                {written(oldAccess, oldRefresh, now.Add(time.Hour).UnixMilli()), false, 0, oldAccess},
		"a minute left":               {written(oldAccess, oldRefresh, now.Add(time.Minute).UnixMilli()), false, 1, "sk-ant-oat01-access-1"},
		"a minute left, and offline":  {written(oldAccess, oldRefresh, now.Add(time.Minute).UnixMilli()), true, 1, oldAccess},
		"over, and offline":           {written(oldAccess, oldRefresh, now.Add(-time.Minute).UnixMilli()), true, 1, ""},
		"the clock was in 1970":       {written(oldAccess, oldRefresh, 0), false, 1, "sk-ant-oat01-access-1"},
		"before 1970":                 {written(oldAccess, oldRefresh, -5), false, 1, "sk-ant-oat01-access-1"},
		"no end":                      {`{"claudeAiOauth":{"accessToken":"` + oldAccess + `","refreshToken":null,"expiresAt":null}}`, false, 0, oldAccess},
		"over, with nothing to renew": {`{"claudeAiOauth":{"accessToken":"` + oldAccess + `","refreshToken":"","expiresAt":1}}`, false, 0, ""},
		"a number with a fraction":    {strings.Replace(written(oldAccess, oldRefresh, 1), `"expiresAt":1,`, `"expiresAt":1.5e3,`, 1), false, 1, "sk-ant-oat01-access-1"},
	} {
		t.Run(name, func(t *testing.T) {
			f := file(t, c.contents)
			v := newVendor(t, oldRefresh)
			if c.down {
				v.fail = func(w http.ResponseWriter) bool { w.WriteHeader(503); return true }
			}
			got, _, err := v.get(f)
			if got != c.want || (err == nil) != (c.want != "") || len(v.asked) != c.asks {
				t.Errorf("%q, %v, asked %d times", got, err, len(v.asked))
			}
			if c.down && contents(t, f) != c.contents {
				t.Errorf("it is %s", contents(t, f))
			}
			alone(t, f)
		})
	}
	// Whatever a vendor says of the time, the new refresh token is kept.
	for seconds, want := range map[int64]time.Duration{0: 10 * time.Minute, -1: 10 * time.Minute, 1 << 62: 10 * 365 * 24 * time.Hour} {
		f, v := expired(t), newVendor(t, oldRefresh)
		v.seconds = seconds
		if got, until, err := v.get(f); err != nil || got != "sk-ant-oat01-access-1" || time.Until(until).Round(time.Hour/2) != want.Round(time.Hour/2) || !strings.Contains(contents(t, f), v.good) {
			t.Errorf("%d seconds: %q until %v, %v", seconds, got, until, err)
		}
	}
	// A clock that jumps ahead meanwhile.
	f, v := expired(t), newVendor(t, oldRefresh)
	ahead := func() time.Time { return now.AddDate(1, 0, 0) }
	_, _, err := f.Get(t.Context(), ahead, func(ctx context.Context) error { return f.Renew(ctx, v.client, time.Now) })
	wantProblem(t, err, "just renewed", "clock")
}

// TestNotRenewed are the answers and files of which nothing comes, and which change nothing.
func TestNotRenewed(t *testing.T) {
	answers := func(status int, body string) func(http.ResponseWriter) bool {
		return func(w http.ResponseWriter) bool { w.WriteHeader(status); io.WriteString(w, body); return true }
	}
	for name, c := range map[string]struct {
		fail           func(http.ResponseWriter) bool
		sentence, hint string
		refused        bool
	}{
		"refused":      {answers(400, `{"error":"invalid_grant","error_description":"`+oldRefresh+`"}`), "refuses another (400, invalid_grant)", "/login", true},
		"refused, too": {answers(401, `{"type":"error","error":{"type":"authentication_error","message":"`+oldRefresh+`"}}`), "refuses another (401, authentication_error)", "/login", true},
		"an odd code":  {answers(400, `{"error":"`+oldRefresh+`"}`), "refuses another (400)", "/login", true},
		"forbidden":    {answers(403, `{"error":{"type":"permission_error"}}`), "refuses another (403, permission_error)", "/login", true},
		"kept out":     {answers(403, `<html>are you a robot?`), "answers 403", "later", false},
		"moved":        {answers(404, `{"error":"not_found"}`), "answers 404, not_found", "later", false},
		"too many":     {answers(429, `{}`), "answers 429", "later", false},
		"broken":       {answers(500, `<html>`+oldRefresh), "answers 500", "later", false},
		"led elsewhere": {func(w http.ResponseWriter) bool {
			w.Header().Set("Location", "https://elsewhere.example/")
			w.WriteHeader(307)
			return true
		}, "answers 307", "later", false},
		"no login": {answers(200, `{"access_token":"","refresh_token":"x"}`), "what is no login", "try again", false},
		"no JSON":  {answers(200, `<html>`+oldRefresh), "what is no login", "try again", false},
	} {
		t.Run(name, func(t *testing.T) {
			f := expired(t)
			before := contents(t, f)
			v := newVendor(t, oldRefresh)
			v.fail = c.fail
			_, _, err := v.get(f)
			wantProblem(t, err, c.sentence, c.hint)
			if contents(t, f) != before || errors.As(err, new(*Refused)) != c.refused {
				t.Errorf("it is %s, and %v", contents(t, f), err)
			}
			alone(t, f)
		})
	}
	f := expired(t)
	v := newVendor(t, oldRefresh)
	v.client.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: errors.New("network is unreachable")}
	}
	_, _, err := v.get(f)
	wantProblem(t, err, "platform.claude.com cannot be asked for another: network is unreachable", "online")
	v = newVendor(t, oldRefresh)
	v.client.Transport.(*http.Transport).TLSClientConfig.ServerName = "" // the certificate is another host's
	_, _, err = v.get(f)
	wantProblem(t, err, "cannot be asked", "online")
	if len(v.asked) > 0 {
		t.Errorf("asked %v", v.asked)
	}
}

func wantProblem(t *testing.T, err error, sentence, hint string) {
	t.Helper()
	var p *secret.Problem
	if err == nil || !strings.Contains(err.Error(), sentence) || !errors.As(err, &p) || !strings.Contains(p.Help, hint) {
		t.Fatalf("%v, %+v; want %q and %q", err, p, sentence, hint)
	}
	if text := fmt.Sprintf("%v %+v", err, p); strings.Contains(text, oldRefresh) || strings.Contains(text, oldAccess) {
		t.Errorf("it says a token: %s", text)
	}
}

func TestRefusedFiles(t *testing.T) {
	good := written(oldAccess, oldRefresh, time.Now().Add(time.Hour).UnixMilli())
	for name, c := range map[string]struct {
		spoil          func(t *testing.T, path string) error
		sentence, hint string
	}{
		"not there":        {func(_ *testing.T, p string) error { return os.Remove(p) }, "nobody is logged in to Claude Code", "/login"},
		"no directory":     {func(_ *testing.T, p string) error { return os.RemoveAll(filepath.Dir(p)) }, "nobody is logged in", "/login"},
		"logged out":       {write(`{"mcpOAuth":{}}`), "nobody is logged in", "/login"},
		"logged out, null": {write(`{"claudeAiOauth":null}`), "nobody is logged in", "/login"},
		"no access token":  {write(`{"claudeAiOauth":{"accessToken":""}}`), "nobody is logged in", "/login"},
		"cut":              {write(good[:len(good)/2]), "damaged", "/login"},
		"empty":            {write(""), "damaged", "/login"},
		"another form":     {write(`{"claudeAiOauth":["` + oldAccess + `"]}`), "damaged", "/login"},
		"read by others":   {func(_ *testing.T, p string) error { return os.Chmod(p, 0o644) }, "mode 0644", "chmod 600"},
		"directory":        {func(_ *testing.T, p string) error { return os.Chmod(filepath.Dir(p), 0o777) }, "others may write into", "chmod go-w"},
		"a link": {func(t *testing.T, p string) error {
			return errors.Join(os.Rename(p, p+".real"), os.Symlink(p+".real", p))
		}, "symbolic link", "the file itself"},
		"two names": {func(_ *testing.T, p string) error { return os.Link(p, p+".2") }, "2 names", "other name"},
		"no file":   {func(_ *testing.T, p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) }, "is no file", ""},
		"someone's": {func(t *testing.T, p string) error {
			if os.Getuid() != 0 {
				return errors.Join(os.Remove(p), os.Symlink("/etc/passwd", p)) // nobody else's file can be put there by others than root
			}
			return os.Chown(p, 1234, 1234)
		}, map[bool]string{true: "belongs to user 1234", false: "symbolic link"}[os.Getuid() == 0], ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := file(t, good)
			v := newVendor(t, oldRefresh)
			if got, _, err := v.get(f); err != nil || got != oldAccess {
				t.Fatalf("control: %q, %v", got, err)
			}
			if err := c.spoil(t, f.Path); err != nil {
				t.Fatal(err)
			}
			_, _, err := v.get(f)
			wantProblem(t, err, c.sentence, c.hint)
			if len(v.asked) > 0 {
				t.Errorf("asked %v", v.asked)
			}
		})
	}
}

func write(contents string) func(*testing.T, string) error {
	return func(_ *testing.T, path string) error { return os.WriteFile(path, []byte(contents), 0o600) }
}

func TestWhere(t *testing.T) {
	home := t.TempDir()
	k, _ := KindOf("claude")
	env := map[string]string{"HOME": home}
	where := func() (string, error) { return k.Where(func(name string) string { return env[name] }) }
	_, err := where()
	wantProblem(t, err, "nobody is logged in", "/login")
	real := filepath.Join(home, "dotfiles")
	if err := errors.Join(os.Mkdir(real, 0o700), os.Symlink(real, filepath.Join(home, ".claude"))); err != nil {
		t.Fatal(err)
	}
	if got, err := where(); err != nil || got != filepath.Join(real, ".credentials.json") {
		t.Errorf("%q, %v", got, err)
	}
	env["CLAUDE_CONFIG_DIR"] = t.TempDir()
	if got, err := where(); err != nil || got != filepath.Join(env["CLAUDE_CONFIG_DIR"], ".credentials.json") {
		t.Errorf("%q, %v", got, err)
	}
	env["CLAUDE_CONFIG_DIR"] = "below"
	if got, err := where(); err == nil {
		t.Errorf("%q", got)
	}
	for _, path := range []string{"x", "/a/../b", ""} {
		if _, err := At("claude", path); err == nil {
			t.Errorf("%q is taken", path)
		}
	}
	if _, err := At("nobody", "/x"); err == nil {
		t.Error("an unknown login is taken")
	}
}

// TestFailuresAreRemembered, so that what runs inside cannot have the vendor asked for each of its requests.
func TestFailuresAreRemembered(t *testing.T) {
	f := expired(t)
	v := newVendor(t, "another")
	r := &Renewer{Do: func(ctx context.Context, f File) error { return f.Renew(ctx, v.client, time.Now) }}
	for range 3 {
		if err := r.Renew(t.Context(), f); !errors.As(err, new(*Refused)) {
			t.Fatal(err)
		}
	}
	if len(v.asked) != 1 {
		t.Errorf("asked %d times", len(v.asked))
	}
	v.good = "a-new-login"
	if err := os.WriteFile(f.Path, []byte(written(oldAccess, v.good, 1000)+" "), 0o600); err != nil { // the person has logged in again
		t.Fatal(err)
	}
	v.seconds = 60 // which is too little to use it without another
	for range 3 {
		if err := r.Renew(t.Context(), f); err != nil {
			t.Error(err)
		}
	}
	if len(v.asked) != 2 {
		t.Errorf("asked %d times", len(v.asked))
	}
}

func FuzzClaude(f *testing.F) {
	f.Add([]byte(written(oldAccess, oldRefresh, 5)))
	f.Add([]byte(`{"claudeAiOauth":null}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		tok, err := claude{}.read(b)
		if err != nil {
			return
		}
		out, err := claude{}.renewed(b, answer{Access: "a", Refresh: "r", Seconds: 60}, time.UnixMilli(5000))
		if err != nil {
			t.Fatalf("%q was read as %v, and cannot be renewed: %v", b, tok.expires, err)
		}
		if now, err := (claude{}).read(out); err != nil || now.access != "a" || now.refresh != "r" || now.expires.UnixMilli() != 65000 {
			t.Errorf("%q became %q", b, out)
		}
	})
}

// TestReasonQuotesNothing: what a transport says of a proxy has the proxy's address in it, and perhaps a password, and the sandbox reads why it was refused.
func TestReasonQuotesNothing(t *testing.T) {
	const said = `invalid proxy address "http://me:hunter2@proxy:99999"`
	c := &http.Client{Transport: &http.Transport{Proxy: func(*http.Request) (*url.URL, error) { return nil, errors.New(said) }}}
	_, err := c.Get("https://127.0.0.1:1/") // and nothing is sent
	if err == nil || !strings.Contains(err.Error(), "hunter2") {
		t.Fatalf("control: the transport says %v", err)
	}
	if got := reason(err).Error(); strings.Contains(got, "hunter2") || !strings.Contains(got, "HTTPS_PROXY") {
		t.Errorf("the reason is %q", got)
	}
}
