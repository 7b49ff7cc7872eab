package history

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// project is a directory of files with a history.
type project struct {
	testing.TB
	dir, log string
}

func newProject(t testing.TB, files map[string]string) *project {
	t.Helper()
	top := t.TempDir()
	p := &project{t, filepath.Join(top, "project"), filepath.Join(top, "history")}
	must(t, os.Mkdir(p.dir, 0o755))
	for name, content := range files {
		p.put(name, content)
	}
	p.age()
	t.Cleanup(func() { // what may not be written to could not be removed
		_ = filepath.WalkDir(p.dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				err = os.Chmod(path, 0o755)
			}
			return err
		})
	})
	return p
}

func (p *project) path(name string) string { return filepath.Join(p.dir, name) }

func (p *project) put(name, content string) {
	p.Helper()
	if link, target, ok := strings.Cut(name, " -> "); ok {
		must(p, os.MkdirAll(filepath.Dir(p.path(link)), 0o755))
		must(p, os.Symlink(target, p.path(link)))
		return
	}
	if strings.HasSuffix(name, "/") {
		must(p, os.MkdirAll(p.path(name), 0o755))
		return
	}
	must(p, os.MkdirAll(filepath.Dir(p.path(name)), 0o755))
	must(p, os.WriteFile(p.path(name), []byte(content), 0o644))
}

// age gives everything an odd time of its own, so that a time that is not restored shows.
func (p *project) age() {
	at := time.Now().Add(-time.Hour).UnixNano()
	must(p, filepath.WalkDir(p.dir, func(path string, _ fs.DirEntry, err error) error {
		at += 1000000007
		ts := unix.NsecToTimespec(at)
		return errors.Join(err, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
	}))
}

func (p *project) open() *Log {
	p.Helper()
	h, err := Open(p.log, p.dir)
	must(p, err)
	p.Cleanup(func() { h.Close() })
	return h
}

// tree describes everything, with modes, times and attributes.
func (p *project) tree() map[string]string {
	p.Helper()
	tree := map[string]string{}
	must(p, filepath.WalkDir(p.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(p.dir, path)
		s, err := statAt(unix.AT_FDCWD, path)
		if err != nil {
			return err
		}
		what := fmt.Sprintf("%s %04o %d %q", s.Type, s.Mode, s.Mtime, s.Link)
		if s.Type == File {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			what += fmt.Sprintf(" %d %x", len(data), sha256.Sum256(data))
		}
		if s.Type == File || s.Type == Dir {
			fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW, 0)
			if err != nil {
				return err
			}
			a := attributes(fd)
			unix.Close(fd)
			for _, k := range slices.Sorted(maps.Keys(a)) {
				what += fmt.Sprintf(" %s=%q", k, a[k])
			}
		}
		tree[rel] = what
		return nil
	}))
	return tree
}

func difference(want, got map[string]string) string {
	var b strings.Builder
	all := maps.Clone(want)
	maps.Copy(all, got)
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if want[k] != got[k] {
			fmt.Fprintf(&b, "%q:\n\twant %s\n\tgot  %s\n", k, want[k], got[k])
		}
	}
	return b.String()
}

// want is one thing that a test does to the project.
type want struct {
	path    string
	state   State
	content string
}

func file(path, content string) want {
	return want{path, State{Type: File, Mode: 0o644, Size: int64(len(content))}, content}
}
func dir(path string) want      { return want{path, State{Type: Dir, Mode: 0o755}, ""} }
func link(path, to string) want { return want{path, State{Type: Symlink, Link: bytes(to)}, ""} }
func gone(path string) want     { return want{path, State{}, ""} }
func mode(path string, m uint32) want {
	return want{path, State{Type: Other, Mode: m}, ""} // the type is that of what is there
}

func (p *project) steps(h *Log, wants []want) (steps []*Step) {
	p.Helper()
	for _, w := range wants {
		now, _, err := h.look(w.path)
		must(p, err)
		s := &Step{Path: w.path, Seen: now, Want: w.state}
		if w.state.Type == Other {
			s.ModeOnly, s.Want.Type = true, now.Type
		}
		if w.state.Type == File {
			s.Fill = func(f *os.File) error { _, err := f.WriteString(w.content); return err }
		}
		steps = append(steps, s)
	}
	return steps
}

// carry does it all, and fails the test if anything was not done.
func (p *project) carry(h *Log, wants ...want) *Entry {
	p.Helper()
	e, err := h.Begin(Apply, "test", 0)
	must(p, err)
	steps := p.steps(h, wants)
	must(p, e.Carry(context.Background(), steps))
	for _, s := range steps {
		if !s.Done {
			p.Errorf("%s: %v", s.Path, s.Err)
		}
	}
	must(p, e.End())
	return e
}

func (p *project) undo(h *Log, o UndoOptions) []Outcome {
	p.Helper()
	_, out, err := h.Undo(context.Background(), o)
	must(p, err)
	return out
}

func outcomeLines(out []Outcome) string {
	var b strings.Builder
	for _, o := range out {
		fmt.Fprintf(&b, "%s %s", o.Status, o.Path)
		if o.Why != "" {
			fmt.Fprintf(&b, " (%s)", o.Why)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func everything() (map[string]string, []want) {
	return map[string]string{
			"a": "a\n", "empty": "", "binary": "\x00\xff\x00", "d/x": "x\n", "d/e/y": "y\n", "l -> a": "", "swap/in": "in\n", "back": "file\n", "gone/deep/er": "1\n", "gone/l -> deep": "",
			"new\nline\x1b\xff": "odd\n", "modes": "m\n", "modes.d/x": "x\n", "untouched/u": "u\n",
		}, []want{
			file("a", "A\n"), file("empty", "not any more"), file("binary", "\x00\x01"), file("d/x", ""), gone("d/e/y"), gone("d/e"), link("l", "d/x"),
			gone("swap/in"), file("swap", "a file now"), dir("back"), file("back/in", "in\n"), gone("gone/deep/er"), gone("gone/deep"), gone("gone/l"), gone("gone"),
			file("new\nline\x1b\xff", "odder\n"), mode("modes", 0o600), mode("modes.d", 0o500), dir("n"), dir("n/m"), file("n/m/f", "f\n"), link("n/l", "m"), file("top", "t\n"),
		}
}

func TestUndoRestoresExactly(t *testing.T) {
	for _, many := range []bool{false, true} {
		files, wants := everything()
		p := newProject(t, files)
		must(t, unix.Setxattr(p.path("a"), "user.note", []byte("kept\x00"), 0))
		must(t, unix.Setxattr(p.path("gone"), "user.note", []byte("dir"), 0))
		must(t, os.Chmod(p.path("gone/deep"), 0o711))
		must(t, os.Chmod(p.path("binary"), 0o4751))
		p.age()
		if many {
			for i := range 600 {
				wants = append(wants, file(fmt.Sprintf("many%d", i), fmt.Sprint(i)))
			}
		}
		before := p.tree()
		h := p.open()
		p.carry(h, wants...)
		after := p.tree()
		if maps.Equal(before, after) {
			t.Fatal("nothing was done")
		}
		for _, o := range p.undo(h, UndoOptions{}) {
			if o.Status != Undone {
				t.Errorf("%s: %s %s", o.Path, o.Status, o.Why)
			}
		}
		if got := p.tree(); !maps.Equal(got, before) {
			t.Errorf("undone, it is another tree:\n%s", difference(before, got))
		}
		if _, _, err := h.Undo(t.Context(), UndoOptions{}); !errors.Is(err, ErrNothing) {
			t.Errorf("undo again: %v", err)
		}
		p.undo(h, UndoOptions{Number: 2})
		if got := p.tree(); !maps.Equal(got, after) {
			t.Errorf("undoing the undo leads elsewhere:\n%s", difference(after, got))
		}
		p.undo(h, UndoOptions{})
		if got := p.tree(); !maps.Equal(got, before) {
			t.Errorf("undone again, it is another tree:\n%s", difference(before, got))
		}
	}
}

// sly writes other content of the same size into a file and sets its time back, so that only its ctime and its content tell.
func (p *project) sly(name, content string) {
	p.Helper()
	was, err := os.Stat(p.path(name))
	must(p, err)
	p.put(name, content)
	must(p, os.Chtimes(p.path(name), time.Time{}, was.ModTime()))
}

func TestUndoReadsWhatItWouldOverwrite(t *testing.T) {
	p := newProject(t, map[string]string{"a": "old", "b": "old"})
	h := p.open()
	p.carry(h, file("a", "new"), file("b", "new"), file("c", "new"))
	p.sly("a", "his")
	p.sly("c", "his")
	must(t, os.Link(p.path("b"), p.path("other"))) // which changes the ctime, and nothing else
	got := outcomeLines(p.undo(h, UndoOptions{}))
	want := "conflict a (the host changed it since)\nundone b\nconflict c (the host changed it since)\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	for _, name := range []string{"a", "c"} {
		if data, err := os.ReadFile(p.path(name)); string(data) != "his" {
			t.Errorf("%s holds %q (%v)", name, data, err)
		}
	}
}

// Between the look that a step was decided by and the step, too. The ctime of a file with several names changes with what is done to the others.
func TestCarryLeavesWhatWasWrittenSinceItWasSeen(t *testing.T) {
	p := newProject(t, map[string]string{"a": "old", "b": "old"})
	must(t, os.Link(p.path("b"), p.path("c")))
	h := p.open()
	steps := p.steps(h, []want{file("a", "new"), file("b", "new"), file("c", "new")})
	p.sly("a", "his")
	e, err := h.Begin(Apply, "test", 0)
	must(t, err)
	must(t, e.Carry(t.Context(), steps))
	must(t, e.End())
	if !errors.Is(steps[0].Err, ErrMoved) || !steps[1].Done || !steps[2].Done {
		t.Errorf("a: %v, b: %v, c: %v", steps[0].Err, steps[1].Err, steps[2].Err)
	}
	if data, err := os.ReadFile(p.path("a")); string(data) != "his" {
		t.Errorf("a holds %q (%v)", data, err)
	}
}
