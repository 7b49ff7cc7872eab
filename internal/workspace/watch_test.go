package workspace

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// watched runs a watcher that hides what appears in a sandbox, as a session does.
type watched struct {
	*maskFixture
	s  *inside
	w  *Watcher
	mu sync.Mutex

	appeared []string
	removed  []string
	stop     func() error
}

func (f *maskFixture) watch(budget int) *watched {
	f.Helper()
	x := &watched{maskFixture: f}
	f.prepare()
	x.s = f.enter(f.m.Dir)
	merged, upper := x.s.trees(f)
	var err error
	x.w, err = NewWatcher(f.m, budget, func(a Appeared) {
		removed, err := Rehide(merged.fd, upper.fd, a.Path)
		if err != nil {
			f.Errorf("rehide: %v", err)
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		x.appeared = append(x.appeared, a.Path)
		x.removed = append(x.removed, removed...)
	})
	must(f, err)
	ctx, cancel := context.WithCancel(f.Context())
	ready, done := make(chan bool), make(chan error, 1)
	go func() { done <- x.w.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		f.Fatalf("watcher: %v", err)
	}
	x.stop = sync.OnceValue(func() error { cancel(); return <-done })
	f.Cleanup(func() {
		if err := x.stop(); err != nil {
			f.Errorf("watcher: %v", err)
		}
		x.w.Close()
	})
	return x
}

// trees opens what the sandbox sees and what it wrote.
func (s *inside) trees(t testing.TB) (merged, upper *rooted) {
	t.Helper()
	merged, err := openRooted(s.root)
	must(t, err)
	t.Cleanup(merged.close)
	upper, err = openRooted(s.upper)
	must(t, err)
	t.Cleanup(upper.close)
	return merged, upper
}

// wait until the watcher has dealt with a path.
func (x *watched) wait(path string) {
	x.Helper()
	for end := time.Now().Add(patient); time.Now().Before(end); time.Sleep(time.Millisecond) {
		x.mu.Lock()
		seen := slices.Contains(x.appeared, path)
		x.mu.Unlock()
		if seen {
			return
		}
	}
	x.Fatalf("%q was not noticed; only %q", path, x.appeared)
}

func TestWatcherHidesWhatAppears(t *testing.T) {
	patterns := []string{".env", "*.pem", "private*/", "!ok.pem"}
	for _, c := range []struct {
		name   string
		before string // inside, before it appears
		host   func(f *watched)
		wait   string
		script string
	}{
		{"a file", "", func(f *watched) { f.put("a/x.pem", "secret") }, "a/x.pem", "cat a/x.pem; ls a"},
		{"a file whose absence was seen", "cat a/x.pem; ls a", func(f *watched) { f.put("a/x.pem", "secret") }, "a/x.pem", "cat a/x.pem"},
		{"a file that is renamed into place", "", func(f *watched) {
			f.put("a/tmp", "secret")
			must(f, os.Rename(f.project+"/a/tmp", f.project+"/a/x.pem"))
		}, "a/x.pem", "cat a/x.pem"},
		{"an exact name, for the record", "", func(f *watched) { f.put("a/.env", "secret") }, "a/.env", "cat a/.env"},
		{"in a new directory", "", func(f *watched) { f.put("n/deep/er/.env", "secret") }, "n/deep/er/.env", "cat n/deep/er/.env"},
		{"in a directory that is moved in", "", func(f *watched) {
			must(f, os.MkdirAll(f.dir+"/elsewhere/b", 0o755))
			must(f, os.WriteFile(f.dir+"/elsewhere/b/x.pem", []byte("secret"), 0o644))
			must(f, os.Rename(f.dir+"/elsewhere", f.project+"/moved"))
		}, "moved/b/x.pem", "cat moved/b/x.pem"},
		{"in a directory that was renamed", "", func(f *watched) {
			must(f, os.Rename(f.project+"/a", f.project+"/b"))
			f.put("b/x.pem", "secret")
		}, "b/x.pem", "cat b/x.pem"},
		{"a hidden directory", "", func(f *watched) { f.put("private1/x/y", "secret") }, "private1", "cat private1/x/y; find private1"},
		{"later in a new directory", "", func(f *watched) {
			f.put("n/deep/first.pem", "secret")
			f.wait("n/deep/first.pem")
			f.put("n/deep/second.pem", "secret")
		}, "n/deep/second.pem", "cat n/deep/*"},
		{"another name of a hidden file", "", func(f *watched) { must(f, os.Link(f.project+"/old.pem", f.project+"/a/innocent")) }, "a/innocent", "cat a/innocent"},
		{"another name of a file that was hidden meanwhile", "", func(f *watched) {
			f.put("a/x.pem", "secret")
			f.wait("a/x.pem")
			must(f, os.Link(f.project+"/a/x.pem", f.project+"/innocent"))
		}, "innocent", "cat innocent"},
		{"a socket", "", func(f *watched) { must(f, unix.Mknod(f.project+"/a/sock", unix.S_IFSOCK|0o600, 0)) }, "a/sock", "ls a | sed s/sock/secret/"},
		{"after its whiteout was deleted by making and removing the name", "", func(f *watched) {
			f.put("a/x.pem", "secret")
			f.wait("a/x.pem")
			f.s.sh("touch a/x.pem; rm a/x.pem")
		}, "a/x.pem", "cat a/x.pem"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newMaskFixture(t, patterns, "a/main.go", "old.pem").watch(0)
			if c.before != "" {
				f.s.sh(c.before)
			}
			c.host(f)
			f.wait(c.wait)
			if got := f.s.sh(c.script); strings.Contains(got, "secret") {
				t.Errorf("inside: %q", got)
			}
		})
	}
}

// TestRehideWhatWasLookedUp makes overlayfs show a file before any watcher could act, so that only Rehide can take it away again.
func TestRehideWhatWasLookedUp(t *testing.T) {
	f := newMaskFixture(t, []string{"*.pem", "priv*/"}, "a/main.go")
	f.prepare()
	s := f.enter(f.m.Dir)
	f.put("a/x.pem", "secret")
	f.put("private/deep/key", "secret")
	if got := s.sh("cat a/x.pem private/deep/key"); strings.Count(got, "secret") != 2 {
		t.Fatalf("control: %q", got)
	}
	s.sh("echo mine > private/deep/own; echo mine > a/own.pem; touch private/deep/key")
	merged, upper := s.trees(t)
	must(t, f.m.hideNow("a", "x.pem"))
	if got := s.sh("cat a/x.pem"); !strings.Contains(got, "secret") {
		t.Fatalf("control: the mask alone hides what was looked up: %q", got)
	}
	for rel, want := range map[string][]string{
		"a/x.pem": {"a/x.pem"}, "private": {"private/deep/key"}, "a/own.pem": nil, "a/nothing.pem": nil, "no/such/dir.pem": nil,
	} {
		removed, err := Rehide(merged.fd, upper.fd, rel)
		must(t, err)
		wantPaths(t, rel, removed, want...)
	}
	if got := s.sh("cat a/x.pem private/deep/key"); strings.Contains(got, "secret") {
		t.Errorf("inside: %q", got)
	}
	if got := s.sh("cat private/deep/own a/own.pem"); got != "mine\nmine" {
		t.Errorf("the sandbox's own files: %q", got)
	}
	if got, err := os.ReadFile(f.project + "/private/deep/key"); string(got) != "secret" {
		t.Errorf("on the host: %q, %v", got, err)
	}
}

// TestRehideFollowsNoLink plants links where a trusted process would walk.
func TestRehideFollowsNoLink(t *testing.T) {
	f := newMaskFixture(t, []string{"*.pem"}, "a/main.go")
	f.prepare()
	s := f.enter(f.m.Dir)
	must(t, os.WriteFile(f.dir+"/x.pem", []byte("the host's"), 0o644))
	s.sh(fmt.Sprintf("ln -s %s out; mv a aside; ln -s %s a; ln -s %s/x.pem l.pem", f.dir, f.dir, f.dir))
	merged, upper := s.trees(t)
	for _, rel := range []string{"out/x.pem", "a/x.pem", "l.pem", "../x.pem"} {
		if removed, err := Rehide(merged.fd, upper.fd, rel); len(removed) > 0 {
			t.Errorf("%s: removed %q, %v", rel, removed, err)
		}
	}
	if _, err := os.Stat(f.dir + "/x.pem"); err != nil {
		t.Error(err)
	}
}

func TestWatcherBudget(t *testing.T) {
	f := newMaskFixture(t, []string{"*.pem"}, "a/b/c/x", "d/x")
	x := f.watch(3)
	if x.w.Unwatched != 2 {
		t.Errorf("%d directories unwatched, want 2 of 5", x.w.Unwatched)
	}
	x.put("a/x.pem", "secret") // the ones nearest to the root are watched
	x.wait("a/x.pem")
	must(t, x.stop())
}

// TestWatcherCatchesUp makes the changes between the scan and the watch, and again while events are lost.
func TestWatcherCatchesUp(t *testing.T) {
	f := newMaskFixture(t, []string{"*.pem", ".env"}, "a/b/c/x", "a/old.pem")
	f.prepare()
	f.put("a/b/x.pem", "secret")
	f.put("a/new/.env", "secret")
	var appeared []string
	w, err := NewWatcher(f.m, 0, func(a Appeared) { appeared = append(appeared, a.Path) })
	must(t, err)
	defer w.Close()
	must(t, w.watchAll(t.Context()))
	slices.Sort(appeared)
	wantPaths(t, "appeared", appeared, "a/b/x.pem", "a/new/.env")
	if st, err := os.Lstat(filepath.Join(f.m.Dir, "a/new/.env")); err != nil || st.Mode()&os.ModeCharDevice == 0 {
		t.Errorf("a new directory is not masked: %v", err)
	}
	appeared = nil
	f.put("a/b/c/y.pem", "secret")
	must(t, w.event(-1, unix.IN_Q_OVERFLOW, ""))
	if !slices.Contains(appeared, "a/b/c/y.pem") || slices.Contains(appeared, "a/old.pem") {
		t.Errorf("appeared: %q", appeared)
	}
	// What the watcher has put into the mask is what the next start would put there.
	got := treeOf(t, f.m.Dir)
	f.o.Dir = filepath.Join(f.dir, "fresh")
	if want := treeOf(t, f.prepare().Dir); !slices.Equal(got, want) {
		t.Errorf("mask:\n%s", strings.Join(onlyIn(got, want), "\n"))
	}
}
