package workspace

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// applyWhile applies, and does something on the host when all was carried, before it is noted what was applied.
func (f *fixture) applyWhile(o ApplyOptions, do func()) []Outcome {
	f.Helper()
	l := f.open()
	l.log.Step = func(name string) {
		if name == "done" {
			do()
		}
	}
	out, err := l.Apply(f.Context(), o)
	must(f, err)
	return out
}

// What the host writes while Apply still goes on is the host's, not what was applied: the sandbox's next change is a conflict with it.
func TestApplyLeavesWhatTheHostWritesMeanwhile(t *testing.T) {
	const theirs = "the host's\n"
	save := func(t *testing.T, path string) {
		must(t, os.WriteFile(path+".new", []byte(theirs), 0o644))
		must(t, os.Rename(path+".new", path))
	}
	hosts := []struct {
		name string
		do   func(t *testing.T, path string)
	}{
		{"written over", func(t *testing.T, path string) { must(t, os.WriteFile(path, []byte(theirs), 0o644)) }},
		{"saved by rename", save},
	}
	scripts := map[string]string{"modified": "echo in > a", "added": "echo in > b", "deleted": "rm a", "another mode": "chmod 755 a", "equal already": "echo same > a; echo other > c"}
	kinds(t, func(t *testing.T, kind LayerKind) {
		for _, host := range hosts {
			for name, script := range scripts {
				if name == "equal already" && kind == OverlayLayer {
					continue // it stays in the layer as it is
				}
				t.Run(name+" then "+host.name, func(t *testing.T) {
					f := newFixture(t, kind, map[string]string{"a": "old\n", "z": "z\n"})
					rel := "a"
					if name == "added" {
						rel = "b"
					}
					f.run(script)
					if name == "equal already" {
						f.put(filepath.Join(f.project, rel), "same\n")
					}
					f.applyWhile(ApplyOptions{Running: true}, func() { host.do(t, filepath.Join(f.project, rel)) })
					goOn := "echo more >> " + rel
					if kind == OverlayLayer { // a new mount would be another run, to which the host's is nothing new
						in := filepath.Join(f.inside(), rel)
						if st, err := os.Lstat(in); err == nil && !st.Mode().IsRegular() {
							must(t, os.Remove(in)) // the whiteout
						}
						f.put(in, "more\n") // into the same file, if there is one: a new one is TestConflictsOutliveTheEntry's
					} else {
						f.run(goOn)
					}
					out := outcomeLines(f.apply(ApplyOptions{Running: true}))
					if got, err := os.ReadFile(filepath.Join(f.project, rel)); string(got) != theirs {
						t.Errorf("the host has %q (%v), and wrote %q", got, err, theirs)
					}
					if !strings.Contains(out, "conflict") {
						t.Errorf("no conflict is named:\n%s", out)
					}
				})
			}
		}
	})
}

// What nobody touches meanwhile stays known as applied.
func TestApplyWhileRunningGoesOn(t *testing.T) {
	kinds(t, func(t *testing.T, kind LayerKind) {
		f := newFixture(t, kind, map[string]string{"a": "old\n", "d/x": "1\n", "m": "m\n"})
		f.run("echo in > a; mkdir -p n/o; echo n > n/o/f; chmod 755 m; rm d/x; ln -s a l; chmod 700 d")
		f.apply(ApplyOptions{Running: true})
		f.wantChanges(ChangeOptions{})
		f.put(filepath.Join(f.inside(), "a"), "again\n")
		f.put(filepath.Join(f.inside(), "n/o/f"), "again\n")
		f.wantChanges(ChangeOptions{}, "modified changed a", "modified changed n/o/f")
		f.apply(ApplyOptions{Running: true})
		f.wantChanges(ChangeOptions{})
	})
}

// sly writes other content of the same size into a file of the host's and sets its time back.
func sly(t testing.TB, path, content string) {
	t.Helper()
	was, err := os.Stat(path)
	must(t, err)
	must(t, os.WriteFile(path, []byte(content), 0o644))
	must(t, os.Chtimes(path, time.Time{}, was.ModTime()))
}

// Only the ctime tells that the host wrote what has the size and the time of what was applied.
func TestApplyKnowsItsOwnByTheChangeTime(t *testing.T) {
	f := newFixture(t, OverlayLayer, map[string]string{"a": "old\n"})
	f.run("echo in > a")
	f.apply(ApplyOptions{Running: true})
	sly(t, filepath.Join(f.project, "a"), "me\n")
	f.put(filepath.Join(f.inside(), "a"), "in\nmore\n")
	if got, want := outcomeLines(f.apply(ApplyOptions{Running: true})), "held modified a (conflict: the host changed it after the sandbox did)\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
