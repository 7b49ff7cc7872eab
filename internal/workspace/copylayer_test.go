package workspace

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestCopyIn(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	must(t, os.WriteFile(secret, []byte("CANARY"), 0o644))
	f := newFixture(t, CopyLayer, map[string]string{
		"a": "a\n", "run*": "#!\n", "d/x": "x\n", "empty/": "", "l -> a": "", "up -> ../../secret": "", ".env": "S", "d/.env": "S", "secrets/k": "K", "ro/f": "f\n", "new\nline\x1b": "n",
	})
	must(t, os.Symlink(secret, filepath.Join(f.project, "out")))
	must(t, unix.Mkfifo(filepath.Join(f.project, "fifo"), 0o644))
	must(t, os.Chmod(filepath.Join(f.project, "ro"), 0o555))
	must(t, unix.Chmod(filepath.Join(f.project, "run"), 0o4755))
	old := time.Now().Add(-time.Hour)
	for _, name := range []string{"a", "d/x", "d"} {
		must(t, os.Chtimes(filepath.Join(f.project, name), old, old))
	}
	f.hide = []string{".env", "secrets"}
	skipped, err := CopyIn(t.Context(), f.project, f.dir, f.hidden)
	must(t, err)
	if want := []Skipped{{"fifo", "a fifo is not copied"}}; !reflect.DeepEqual(skipped, want) {
		t.Errorf("skipped %v", skipped)
	}
	want := snapshot(t, f.project)
	maps.DeleteFunc(want, func(path, _ string) bool { return path == "fifo" || f.hidden(path, false) || path == "secrets/k" })
	if got := snapshot(t, f.inside()); !maps.Equal(got, want) {
		t.Errorf("the copy differs:\n%s", difference(want, got))
	}
	for _, name := range []string{"a", "d/x", "d"} {
		if st, err := os.Lstat(filepath.Join(f.inside(), name)); err != nil || !st.ModTime().Equal(old) {
			t.Errorf("%s: %v, want %v (%v)", name, st.ModTime(), old, err)
		}
	}
	if st, _ := os.Stat(filepath.Join(f.inside(), "run")); st.Sys().(*syscall.Stat_t).Mode&0o7000 != 0 {
		t.Error("the copy is setuid")
	}
	f.wantChanges(ChangeOptions{})
	restoreModes(t, f.project)
}

// A sandbox can set a file's times back, but not its ctime: it does not look untouched.
func TestForgedTimesDoNotHideAChange(t *testing.T) {
	f := newFixture(t, CopyLayer, map[string]string{"a": "one\n"})
	f.run("cp -p a ../old; printf 'two\\n' > a; touch -r ../old a; rm ../old")
	f.wantChanges(ChangeOptions{}, "modified changed a")
}

func TestCopyInOfSparseFiles(t *testing.T) {
	f := newFixture(t, CopyLayer, map[string]string{"s": "begin"})
	must(t, os.Truncate(filepath.Join(f.project, "s"), 1<<32))
	f.start()
	st, err := os.Stat(f.hand("s"))
	must(t, err)
	if blocks := st.Sys().(*syscall.Stat_t).Blocks; st.Size() != 1<<32 || blocks > 1024 {
		t.Errorf("%d bytes in %d blocks", st.Size(), blocks)
	}
}

func TestCopyInAsRootGivesToTheOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away (CAP_CHOWN)")
	}
	f := newFixture(t, CopyLayer, map[string]string{"d/a": "a\n"})
	must(t, os.Chown(f.project, 1234, 1235))
	f.start()
	for _, name := range []string{".", "d", "d/a"} {
		n, err := statAt(unix.AT_FDCWD, filepath.Join(f.inside(), name))
		if err != nil || n.uid != 1234 || n.gid != 1235 {
			t.Errorf("%s belongs to %d:%d (%v)", name, n.uid, n.gid, err)
		}
	}
}

// What may not be read is left out and said, and the host's stays.
func TestCopyInLeavesOutWhatMayNotBeRead(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read everything (CAP_DAC_READ_SEARCH)")
	}
	f := newFixture(t, CopyLayer, map[string]string{"a": "a\n", "d/x": "x\n"})
	must(t, os.Chmod(filepath.Join(f.project, "a"), 0))
	must(t, os.Chmod(filepath.Join(f.project, "d"), 0))
	defer os.Chmod(filepath.Join(f.project, "d"), 0o755)
	skipped, err := CopyIn(t.Context(), f.project, f.dir, f.hidden)
	must(t, err)
	if len(skipped) != 2 {
		t.Errorf("skipped %v", skipped)
	}
}

func TestDamagedManifestIsSaid(t *testing.T) {
	f := newFixture(t, CopyLayer, map[string]string{"a": "a\n"})
	f.start()
	name := filepath.Join(f.dir, manifestName)
	data, err := os.ReadFile(name)
	must(t, err)
	for _, damaged := range []string{"", string(data[:len(data)-1]), strings.Replace(string(data), "file", "file x", 1)} {
		must(t, os.WriteFile(name, []byte(damaged), 0o600))
		if _, err := OpenLayer(LayerOptions{Dir: f.dir, Project: f.project, Kind: CopyLayer}); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%q: %v", damaged, err)
		}
	}
}

func FuzzManifest(f *testing.F) {
	m := newManifest()
	m.set("a/b\n\xff", node{State: State{Type: Symlink, Mode: 0o777, Link: "x y\n"}, mtime: -1, ino: 1 << 63}, node{ino: 3, ctime: 4})
	f.Add(m.encode())
	f.Add(manifestHeader)
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		m, ok := decodeManifest(s)
		if !ok {
			return
		}
		again, ok := decodeManifest(m.encode())
		if !ok || !reflect.DeepEqual(again.entries, m.entries) {
			t.Errorf("%q does not survive", s)
		}
	})
}
