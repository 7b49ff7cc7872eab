package workspace

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// fork copies the fixture's layer, as another sandbox of the same project has it.
func (f *fixture) fork() *fixture {
	f.Helper()
	g := *f
	g.dir = filepath.Join(f.TempDir(), "fork")
	if _, err := ForkLayer(f.Context(), f.dir, g.dir, f.kind, nil); err != nil {
		f.Fatal(err)
	}
	must(f, os.MkdirAll(filepath.Join(g.dir, "work"), 0o755)) // which a run makes
	f.Cleanup(func() {
		if err := Discard(context.Background(), g.dir); err != nil {
			f.Error(err)
		}
	})
	return &g
}

// everything describes each entry of a layer's tree by all that a fork must carry, and opens what is closed.
func everything(t testing.TB, dir string) map[string]string {
	t.Helper()
	tree, first := map[string]string{}, map[uint64]string{}
	var walk func(rel string)
	walk = func(rel string) {
		path := filepath.Join(dir, rel)
		var st unix.Stat_t
		must(t, unix.Lstat(path, &st))
		what := fmt.Sprintf("%o %d %d %d", st.Mode, st.Uid, st.Size, st.Mtim.Nano())
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFCHR:
			what = fmt.Sprintf("whiteout %d %d", st.Rdev, st.Mtim.Nano())
		case unix.S_IFDIR:
			what = fmt.Sprintf("%o %d %d", st.Mode, st.Uid, st.Mtim.Nano())
		case unix.S_IFLNK:
			to, err := os.Readlink(path)
			must(t, err)
			what += to
		case unix.S_IFREG:
			must(t, os.Chmod(path, 0o600))
			data, err := os.ReadFile(path)
			must(t, err)
			what += fmt.Sprintf(" %x holes:%v", sha256.Sum256(data), st.Blocks*512 < st.Size)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
			if first[st.Ino] == "" {
				first[st.Ino] = rel
			}
			what += " is " + first[st.Ino]
		}
		if kind := st.Mode & unix.S_IFMT; kind == unix.S_IFREG || kind == unix.S_IFDIR {
			must(t, os.Chmod(path, 0o700))
			list := make([]byte, 4096)
			n, err := unix.Listxattr(path, list)
			must(t, err)
			names := strings.Fields(strings.ReplaceAll(string(list[:n]), "\x00", " "))
			slices.Sort(names)
			for _, name := range names {
				value := make([]byte, 4096)
				n, err := unix.Getxattr(path, name, value)
				must(t, err)
				what += fmt.Sprintf(" %s=%q", name, value[:n])
			}
		}
		tree[rel] = what
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			entries, err := os.ReadDir(path)
			must(t, err)
			for _, e := range entries {
				walk(filepath.Join(rel, e.Name()))
			}
		}
	}
	walk(".")
	return tree
}

const forkScript = `
echo more >> a; rm b; rm -r d; mkdir d; echo n > d/n; mv e e2 2>/dev/null || true
ln -s ../../etc/passwd link; mkfifo pipe; echo one > h1; ln h1 h2; mkdir deep; ln h1 deep/h3; rm g1 g2
truncate -s 8M sparse; printf x | dd of=sparse bs=1 seek=4194304 conv=notrunc 2>/dev/null
: > "$(printf 'two\nlines\033[2J\377')"; chmod 4751 run; touch -d 2001-02-03T04:05:06.789 a h1; chmod 1777 deep; touch -h -d 2002-01-01 link
echo secret > none; chmod 000 none; mkdir -p shut/in; echo x > shut/in/x; chmod 400 shut/in; chmod 000 shut; touch -d 2003-01-01 d
`

var forkProject = map[string]string{"a": "1\n", "b": "2\n", "d/x": "x\n", "d/sub/y": "y\n", "run*": "#!/bin/sh\n", "e": "e\n", "g1": "", "g2": "", "untouched": "u\n"}

func TestForkIsTheSame(t *testing.T) {
	kinds(t, func(t *testing.T, kind LayerKind) {
		f := newFixture(t, kind, forkProject)
		f.run(forkScript)
		if kind == OverlayLayer {
			must(t, unix.Setxattr(filepath.Join(f.inside(), "d"), xattrEscaped+"mine", []byte("v\x00w"), 0))
		}
		g := f.fork()
		twice := g.fork()
		for _, rel := range []string{"none", "shut"} { // whoever may read them: what was opened is closed again
			if st, err := os.Lstat(filepath.Join(f.inside(), rel)); err != nil || st.Mode().Perm() != 0 {
				t.Errorf("%s of the original was left as %v (%v)", rel, st.Mode(), err)
			}
		}
		want := everything(t, f.inside())
		for name, of := range map[string]*fixture{"fork": g, "fork of a fork": twice} {
			got := everything(t, of.inside())
			for _, rel := range slices.Sorted(maps.Keys(want)) {
				if got[rel] != want[rel] {
					t.Errorf("%s: %q:\n%s\nwant\n%s", name, rel, got[rel], want[rel])
				}
			}
			if len(got) != len(want) {
				t.Errorf("%s has %d entries, want %d", name, len(got), len(want))
			}
			if a, b := lines(f.changes(ChangeOptions{})), lines(of.changes(ChangeOptions{})); a != b {
				t.Errorf("%s: changes\n%s\nwant\n%s", name, b, a)
			}
		}
	})
}

// A copy is younger than what it is a copy of. What the host wrote between the two was not seen, though the file's own time says otherwise.
func TestForkMissesNoConflict(t *testing.T) {
	kinds(t, func(t *testing.T, kind LayerKind) {
		f := newFixture(t, kind, map[string]string{"a": "1\n", "gone": "2\n", "made/x": "3\n", "free": "4\n"})
		f.run("echo inside >> a; rm gone; rm -r made; mkdir made; echo n > made/n; echo inside >> free")
		laterThan(t, f.project)
		for _, name := range []string{"a", "gone", "made/x"} { // in place: the same inode
			must(t, os.WriteFile(filepath.Join(f.project, name), []byte("of the host\n"), 0o644))
		}
		laterThan(t, f.project)
		g := f.fork()
		twice := g.fork()
		conflicts := func(f *fixture) (paths []string) {
			for _, c := range f.changes(ChangeOptions{}) {
				if c.Conflict != "" {
					paths = append(paths, c.Path)
				}
			}
			return paths
		}
		want := []string{"a", "gone", "made/x"}
		for name, of := range map[string]*fixture{"original": f, "fork": g, "fork of a fork": twice} {
			if got := conflicts(of); !slices.Equal(got, want) {
				t.Errorf("%s: conflicts %q, want %q", name, got, want)
			}
		}
		if kind == OverlayLayer { // the control: without the times, they are missed
			must(t, os.Remove(filepath.Join(g.dir, birthsName)))
			if got := conflicts(g); len(got) != 0 {
				t.Errorf("without %s, conflicts %q: this test proves nothing", birthsName, got)
			}
		}
	})
}

// Each side goes on by itself, and overlayfs takes the copied whiteouts and opaque directories for its own.
func TestForkGoesItsOwnWay(t *testing.T) {
	kinds(t, func(t *testing.T, kind LayerKind) {
		f := newFixture(t, kind, map[string]string{"a": "1\n", "b": "2\n", "d/x": "x\n", "d/y": "y\n"})
		f.run("echo more >> a; rm b; rm -r d; mkdir d; echo n > d/n")
		g := f.fork()
		g.run(`test ! -e b; test "$(ls d)" = n; echo fork >> a; echo f > only-fork; rm d/n; echo y > d/y`)
		f.run(`test ! -e b; test "$(ls d)" = n; test ! -e only-fork; echo original >> a`)
		f.wantChanges(ChangeOptions{}, "modified changed a", "deleted changed b", "added changed d/n", "deleted changed d/x", "deleted changed d/y")
		g.wantChanges(ChangeOptions{}, "modified changed a", "deleted changed b", "deleted changed d/x", "added changed only-fork")
		f.apply(ApplyOptions{})
		for _, c := range g.changes(ChangeOptions{}) {
			if c.Path == "a" && c.Conflict == "" {
				t.Error("the original's change of a was applied, and the fork does not say that it conflicts")
			}
		}
	})
}

// What ends the copy leaves no half of a layer that could be taken for a whole one: a copy layer's manifest comes last.
func TestForkStopsWhenItIsTold(t *testing.T) {
	f := newFixture(t, CopyLayer, forkProject)
	f.run("echo more >> a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	to := filepath.Join(t.TempDir(), "fork")
	if _, err := ForkLayer(ctx, f.dir, to, f.kind, nil); err == nil {
		t.Error("copied although it was cancelled")
	}
	if _, err := OpenLayer(LayerOptions{Dir: to, Project: f.project, Kind: f.kind}); err == nil {
		t.Error("half of a copy was opened")
	}
	if _, err := ForkLayer(t.Context(), f.dir, to, f.kind, nil); err == nil || !strings.Contains(err.Error(), syscall.EEXIST.Error()) {
		t.Errorf("copied over what is there: %v", err)
	}
}
