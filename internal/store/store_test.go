package store

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOpenRefusesWhatOthersCouldChange(t *testing.T) {
	tests := []struct {
		name string
		make func(dir string) error
		want string
	}{
		{"writable by others", func(d string) error { return errors.Join(os.Mkdir(d, 0o700), os.Chmod(d, 0o777)) }, "can be written by others"},
		{"a file", func(d string) error { return os.WriteFile(d, nil, 0o600) }, "not a directory"},
		{"a link", func(d string) error { return os.Symlink(os.TempDir(), d) }, "not a directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			home := t.TempDir()
			if err := tt.make(filepath.Join(home, "casemate")); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(home, ""); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := Open(t.TempDir(), ""); err != nil {
		t.Errorf("a fresh directory: %v", err)
	}
}

func TestOneProcessHoldsASandbox(t *testing.T) {
	s := open(t)
	b, err := s.New("")
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.Find(b.Record.ID)
	if err != nil {
		t.Fatal(err)
	}
	if !again.Running || !errors.Is(again.Lock(), ErrRunning) {
		t.Error("a locked sandbox can be locked again")
	}
	b.Unlock()
	if err := again.Lock(); err != nil {
		t.Errorf("after the unlock: %v", err)
	}
}

func TestRecordSurvives(t *testing.T) {
	s := open(t)
	b, err := s.New("")
	if err != nil {
		t.Fatal(err)
	}
	b.Record.Project, b.Record.Started = "/a/b", time.Now().UTC()
	if err := b.Save(true); err != nil {
		t.Fatal(err)
	}
	got, err := s.Find(b.Record.ID[:3])
	if err != nil || got.Record.Project != "/a/b" {
		t.Errorf("read %+v, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(b.Dir, "sandbox.json"), []byte("{half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Find(b.Record.ID); err != nil || got.Record.ID != b.Record.ID {
		t.Errorf("a damaged record hides the sandbox: %+v, %v", got, err)
	}
}

func TestSpareIsUsedOnce(t *testing.T) {
	s := open(t)
	first, err := s.New("/p")
	if err != nil {
		t.Fatal(err)
	}
	if err := MakeDir(s.Project("/p")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(first.Layer(), "upper"), 0o700); err != nil {
		t.Fatal(err)
	}
	if !s.Spare(first, "/p") {
		t.Fatal("not put aside")
	}
	second, err := s.New("/p")
	if err != nil || !second.HasLayer() {
		t.Errorf("the spare was not used: %v", err)
	}
	third, err := s.New("/p")
	if err != nil || third.HasLayer() {
		t.Errorf("the spare was used twice: %v", err)
	}
}

// TestSparesForRunsAtOnce: runs of one project beside each other leave a sandbox each, and no more than there may be.
func TestSparesForRunsAtOnce(t *testing.T) {
	s := open(t)
	if err := MakeDir(s.Project("/p")); err != nil {
		t.Fatal(err)
	}
	var running []*Sandbox
	for range spares + 1 {
		b, err := s.New("/p")
		if err != nil || b.Reused {
			t.Fatalf("reused %v: %v", b.Reused, err)
		}
		running = append(running, b)
	}
	for i, b := range running {
		if aside := s.Spare(b, "/p"); aside != (i < spares) {
			t.Errorf("the %d. one put aside: %v", i+1, aside)
		}
	}
	for i := range spares + 1 {
		if b, err := s.New("/p"); err != nil || b.Reused != (i < spares) {
			t.Errorf("the %d. run goes on with a spare one: %v, %v", i+1, b.Reused, err)
		}
	}
}

// TestSpareIsTakenByOne: a run that finds the sandbox of another just before that puts it aside must not have the directory moved away.
func TestSpareIsTakenByOne(t *testing.T) {
	s := open(t)
	if err := MakeDir(s.Project("/p")); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		defer close(done)
		for range 2000 {
			b, err := s.New("/p")
			if err == nil {
				err = errors.Join(MakeDir(b.Layer()), b.Save(false))
			}
			if err != nil {
				done <- err
				return
			}
			if !s.Spare(b, "/p") {
				b.Unlock()
			}
		}
	}()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			return
		default:
		}
		list, err := s.List()
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range list {
			if !b.Running && b.HasLayer() && b.Lock() == nil {
				for range 20 {
					if !b.HasLayer() {
						t.Fatal("a locked sandbox was moved away")
					}
				}
				b.Unlock()
			}
		}
	}
}

func TestReadTakesOnlyFiles(t *testing.T) {
	dir := t.TempDir()
	if _, err := Read(dir, 10); err == nil {
		t.Error("read a directory")
	}
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, make([]byte, 11), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(big, 10); err == nil {
		t.Error("read more than the limit")
	}
	if b, err := Read(big, 11); err != nil || len(b) != 11 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

// TestHomesHaveNames: a project may have several homes, and each is found by the id that is listed.
func TestHomesHaveNames(t *testing.T) {
	s := open(t)
	dir := s.Project("/p")
	for _, name := range []string{"home", "home-1001", "home-fallback"} {
		if err := MakeDir(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	key := Key("/p")[:8]
	var got []string
	rows, err := s.Usage(true)
	for _, r := range rows {
		got = append(got, r.ID)
		if home, err := s.HomeNamed(r.ID); err != nil || filepath.Base(home) != "home"+strings.TrimPrefix(r.ID, key) {
			t.Errorf("%s is %s, %v", r.ID, home, err)
		}
	}
	if want := []string{key, key + "-1001", key + "-fallback"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}
