package login

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestOneRenewalOfMany: all who find the login over at once get one new login.
func TestOneRenewalOfMany(t *testing.T) {
	f := expired(t)
	v := newVendor(t, oldRefresh)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if got, _, err := v.get(f); err != nil || got != "sk-ant-oat01-access-1" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	all.Wait()
	if len(v.asked) != 1 || v.reused > 0 {
		t.Errorf("asked %d times, %d of them in vain", len(v.asked), v.reused)
	}
	alone(t, f)
}

// agent renews as Claude Code does on the host: under its locks, with a look at the file, and by a new file.
func (v *vendor) agent(f File) error {
	dir := filepath.Dir(f.Path)
	for _, path := range []string{filepath.Join(dir, renewLock), dir + ".lock"} {
		for os.Mkdir(path, 0o777) != nil {
			time.Sleep(time.Millisecond)
		}
		defer os.Remove(path)
	}
	b, err := os.ReadFile(f.Path)
	if err != nil {
		return err
	}
	a, err := f.ask(context.Background(), v.client, b)
	if err != nil {
		return err
	}
	write := filepath.Join(dir, writeLock)
	for os.Mkdir(write, 0o777) != nil {
		time.Sleep(time.Millisecond)
	}
	defer os.Remove(write)
	out, err := claude{}.renewed(b, a, time.Now())
	if err == nil {
		err = os.WriteFile(f.Path+".tmp", out, 0o600)
	}
	if err == nil {
		err = os.Rename(f.Path+".tmp", f.Path)
	}
	return err
}

// TestBesideTheAgent: casemates and the agent itself renew the same login again and again, and no refresh token is used twice or lost.
func TestBesideTheAgent(t *testing.T) {
	f := expired(t)
	v := newVendor(t, oldRefresh)
	v.seconds = 60 // each finds it about to end
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			for range 10 {
				if err := f.Renew(t.Context(), v.client, time.Now); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Go(func() {
		for range 10 {
			if err := v.agent(f); err != nil {
				t.Error(err)
			}
		}
	})
	all.Wait()
	if v.reused > 0 || len(v.asked) != 40 || !strings.Contains(contents(t, f), v.good) {
		t.Errorf("asked %d times, %d in vain; %s", len(v.asked), v.reused, contents(t, f))
	}
	alone(t, f)
}

// TestMeanwhile is what happens to the file while the vendor is asked: by somebody who takes no lock.
func TestMeanwhile(t *testing.T) {
	newer := written("sk-ant-oat01-of-another-login", "of-another-login", time.Now().Add(time.Hour).UnixMilli())
	for name, c := range map[string]struct {
		meanwhile  func(f File) error
		has, hasNo string
		wrong      string
	}{
		"logged in anew":   {func(f File) error { return os.WriteFile(f.Path, []byte(newer), 0o600) }, "of-another-login", "refresh-1", ""},
		"logged out":       {func(f File) error { return os.WriteFile(f.Path, []byte(`{"mcpOAuth":{}}`), 0o600) }, "mcpOAuth", "refresh-1", "nobody is logged in"},
		"the file is gone": {func(f File) error { return os.Remove(f.Path) }, "", "", "nobody is logged in"},
		"damaged":          {func(f File) error { return os.WriteFile(f.Path, []byte(`{"cla`), 0o600) }, "refresh-1", "", ""},
		"something else in it": {func(f File) error {
			return os.WriteFile(f.Path, []byte(strings.Replace(contentsOf(f), `"mcpOAuth":{`, `"mcpOAuth":{"new":1,`, 1)), 0o600)
		}, `"new":1`, oldRefresh, ""},
		"the token taken out": {func(f File) error {
			return os.WriteFile(f.Path, []byte(strings.Replace(contentsOf(f), oldRefresh, "", 1)), 0o600)
		}, "refresh-1", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := expired(t)
			v := newVendor(t, oldRefresh)
			v.meet = func() {
				if err := c.meanwhile(f); err != nil {
					t.Error(err)
				}
			}
			err := f.Renew(t.Context(), v.client, time.Now)
			if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
				t.Error(err)
			}
			if now := contentsOf(f); !strings.Contains(now, c.has) || c.hasNo != "" && strings.Contains(now, c.hasNo) {
				t.Errorf("it is %s", now)
			}
			if left, _ := filepath.Glob(f.Path + "?*"); len(left) > 0 {
				t.Errorf("left %q", left)
			}
		})
	}
}

func contentsOf(f File) string { b, _ := os.ReadFile(f.Path); return string(b) }

// TestKilled: whatever a process that was killed has left, the next one goes on from there, and no new refresh token is lost.
func TestKilled(t *testing.T) {
	renewed := func(f File) []byte {
		out, err := claude{}.renewed([]byte(contentsOf(f)), answer{Access: "sk-ant-oat01-of-the-draft", Refresh: "refresh-of-the-draft", Seconds: 28800}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	leave := func(refresh string, text []byte) func(File) error {
		return func(f File) error {
			d, err := f.newDraft(refresh, len(text))
			if err == nil && text != nil {
				err = d.write(text)
			}
			return errors.Join(err, d.file.Close())
		}
	}
	for name, c := range map[string]struct {
		left func(f File) error
		want string
		asks int
	}{
		"before the answer":        {leave(oldRefresh, nil), "sk-ant-oat01-access-1", 1},
		"in the middle of writing": {func(f File) error { return leave(oldRefresh, renewed(f)[:100])(f) }, "sk-ant-oat01-access-1", 1},
		"as soon as it was written": {func(f File) error {
			text := renewed(f)
			d, err := f.newDraft(oldRefresh, len(text))
			if err == nil {
				_, err = d.file.WriteAt(text, 0)
			}
			return errors.Join(err, d.file.Close())
		}, "sk-ant-oat01-of-the-draft", 0},
		"the same, where room cannot be reserved": {func(f File) error {
			text := renewed(f)
			d, err := f.newDraft(oldRefresh, len(text))
			if err == nil {
				err = fill(d.file, len(text)+1000)
			}
			if err == nil {
				_, err = d.file.WriteAt(text, 0)
			}
			return errors.Join(err, d.file.Close())
		}, "sk-ant-oat01-of-the-draft", 0},
		"before the answer, where room cannot be reserved": {func(f File) error {
			d, err := f.newDraft(oldRefresh, 100)
			return errors.Join(err, fill(d.file, 100), d.file.Close())
		}, "sk-ant-oat01-access-1", 1},
		"before the file was replaced": {func(f File) error { return leave(oldRefresh, renewed(f))(f) }, "sk-ant-oat01-of-the-draft", 0},
		"of another login":             {func(f File) error { return leave("of-an-earlier-one", renewed(f))(f) }, "sk-ant-oat01-access-1", 1},
		"the locks": {func(f File) error {
			long := time.Now().Add(-2 * time.Minute)
			dir := filepath.Dir(f.Path)
			var err error
			for _, path := range []string{filepath.Join(dir, renewLock), dir + ".lock", filepath.Join(dir, writeLock)} {
				err = errors.Join(err, os.Mkdir(path, 0o777), os.Chtimes(path, long, long))
			}
			return err
		}, "sk-ant-oat01-access-1", 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := expired(t)
			if err := c.left(f); err != nil {
				t.Fatal(err)
			}
			v := newVendor(t, oldRefresh)
			got, _, err := v.get(f)
			if err != nil || got != c.want || len(v.asked) != c.asks {
				t.Errorf("%q, %v, asked %d times", got, err, len(v.asked))
			}
			alone(t, f)
		})
	}
}

// TestLocksAreHeeded: nothing is sent while the agent holds a lock, and what it has renewed meanwhile is used.
func TestLocksAreHeeded(t *testing.T) {
	for _, lock := range []string{renewLock, "../.claude.lock"} {
		f := expired(t)
		path := filepath.Join(filepath.Dir(f.Path), lock)
		if err := os.Mkdir(path, 0o777); err != nil {
			t.Fatal(err)
		}
		v := newVendor(t, oldRefresh)
		ended := make(chan error, 1)
		go func() { ended <- f.Renew(context.Background(), v.client, time.Now) }()
		if err := os.WriteFile(f.Path+".tmp", []byte(written("sk-ant-oat01-of-the-agent", "of-the-agent", time.Now().Add(time.Hour).UnixMilli())), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(f.Path+".tmp", f.Path); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil || len(v.asked) > 0 {
			t.Errorf("%s: %v, asked %d times", lock, err, len(v.asked))
		}
		if st, err := os.Stat(path); err != nil || !st.IsDir() {
			t.Errorf("%s: the agent's lock is gone: %v", lock, err)
		}
	}
	// Nobody renews: there is an end to waiting.
	f := expired(t)
	if err := os.Mkdir(filepath.Join(filepath.Dir(f.Path), renewLock), 0o777); err != nil {
		t.Fatal(err)
	}
	_, err := makeLock(t.Context(), filepath.Join(filepath.Dir(f.Path), renewLock), renewStale, time.Now().Add(time.Second/5), func() bool { return false })
	wantProblem(t, err, "another program is renewing", "remove the lock")
	ctx, leave := context.WithCancel(t.Context())
	leave()
	if err := f.Renew(ctx, newVendor(t, oldRefresh).client, time.Now); !isBusy(err) {
		t.Errorf("left: %v", err)
	}
	// A lock that was taken over is not ours any more, and stays.
	m, err := makeLock(t.Context(), f.Path+".x", renewStale, time.Now(), nil)
	if err != nil || !m.ours() {
		t.Fatal(err)
	}
	if err := os.Rename(f.Path+".x", f.Path+".y"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(f.Path+".x", 0o777); err != nil {
		t.Fatal(err)
	}
	if m.remove(); m.ours() {
		t.Error("another's lock is ours")
	}
	if err := unix.Access(f.Path+".x", unix.F_OK); err != nil {
		t.Error("another's lock was removed")
	}
}

// TestNothingIsSentThatCannotBeKept: where the new login could not be written, the old one is not used up.
func TestNothingIsSentThatCannotBeKept(t *testing.T) {
	f := expired(t)
	v := newVendor(t, oldRefresh)
	if err := os.Mkdir(f.draftOf(oldRefresh), 0o700); err != nil { // in the way, for root too
		t.Fatal(err)
	}
	if err := os.WriteFile(f.draftOf(oldRefresh)+"/x", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := f.Renew(t.Context(), v.client, time.Now)
	if err == nil || !strings.Contains(err.Error(), "could not be written") || len(v.asked) > 0 {
		t.Errorf("%v, asked %d times", err, len(v.asked))
	}
}
