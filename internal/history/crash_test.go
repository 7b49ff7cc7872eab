package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// childJob is what a child process does until it is killed, at the given step.
type childJob struct {
	Dir, Log string
	Undo     bool
	KillAt   int
	Many     bool
	Full     bool // in a user namespace, with small file systems
}

const childVariable = "CASEMATE_HISTORY_CHILD"

// TestChild is no test: it applies, or undoes, and kills itself.
func TestChild(t *testing.T) {
	data := os.Getenv(childVariable)
	if data == "" {
		return
	}
	var j childJob
	must(t, json.Unmarshal([]byte(data), &j))
	if j.Full {
		fullDisk(t, j)
		return
	}
	p := &project{t, j.Dir, j.Log}
	h := p.open()
	n := 0
	h.Step = func(string) {
		if n++; n == j.KillAt {
			unix.Kill(os.Getpid(), unix.SIGKILL)
		}
	}
	if j.Undo {
		p.undo(h, UndoOptions{})
		return
	}
	_, wants := everything()
	p.carry(h, more(wants, j.Many)...)
}

func more(wants []want, many bool) []want {
	for i := 0; many && i < 40; i++ {
		wants = append(wants, file(fmt.Sprintf("many%d", i), fmt.Sprint(i)))
	}
	return wants
}

// child runs a job and reports whether it was killed.
func child(t *testing.T, j childJob) (killed bool) {
	t.Helper()
	data, err := json.Marshal(j)
	must(t, err)
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), childVariable+"="+string(data))
	if j.Full {
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return true
	}
	if err != nil {
		t.Fatalf("child: %v\n%s", err, out)
	}
	return false
}

// Killed at any step, an apply has left each file old or new, and nothing of its own once somebody has looked; undo brings back what was there.
func TestKilledAtAnyStep(t *testing.T) {
	for _, many := range []bool{false, true} {
		files, wants := everything()
		done := newProject(t, files)
		done.carry(done.open(), more(wants, many)...)
		after := done.tree()
		for at, killed := 1, true; killed; at++ {
			if many && at%7 != 0 {
				continue
			}
			p := newProject(t, files)
			before := p.tree()
			killed = child(t, childJob{Dir: p.dir, Log: p.log, KillAt: at, Many: many})
			oldOrNew(t, fmt.Sprintf("killed at step %d of the apply", at), p.tree(), before, after)
			h := p.open()
			must(t, h.Recover())
			noTemporaries(t, p)
			if _, err := h.List(); err != nil {
				t.Errorf("killed at step %d: %v", at, err)
			}
			middle := p.tree()
			_, out, err := h.Undo(t.Context(), UndoOptions{})
			if err != nil && !errors.Is(err, ErrNothing) {
				t.Fatalf("killed at step %d: %v", at, err)
			}
			for _, o := range out {
				if o.Status != Undone && o.Status != Already {
					t.Errorf("killed at step %d: %s: %s %s", at, o.Path, o.Status, o.Why)
				}
			}
			if got, want := plainTree(p.tree()), plainTree(before); !maps.Equal(got, want) {
				t.Fatalf("killed at step %d and undone, it is another tree:\n%s\nit was\n%s", at, difference(want, got), difference(before, middle))
			}
			if !killed && at < 20 {
				t.Errorf("it has only %d steps", at)
			}
		}
	}
}

// Killed at any step, an undo has left each file as it was before it or after it, and the next one finishes it, exactly.
func TestUndoKilledAtAnyStep(t *testing.T) {
	for at, killed := 1, true; killed; at++ {
		files, wants := everything()
		p := newProject(t, files)
		before := p.tree()
		h := p.open()
		p.carry(h, wants...)
		after := p.tree()
		killed = child(t, childJob{Dir: p.dir, Log: p.log, Undo: true, KillAt: at})
		oldOrNew(t, fmt.Sprintf("killed at step %d of the undo", at), p.tree(), after, before)
		must(t, h.Recover())
		noTemporaries(t, p)
		_, out, err := h.Undo(t.Context(), UndoOptions{Number: 1})
		must(t, err)
		for _, o := range out {
			if o.Status != Undone && o.Status != Already {
				t.Errorf("killed at step %d: %s: %s %s", at, o.Path, o.Status, o.Why)
			}
		}
		if got, want := plainTree(p.tree()), plainTree(before); !maps.Equal(got, want) {
			t.Fatalf("killed at step %d and undone again, it is another tree:\n%s", at, difference(want, got))
		}
		if !killed && at < 20 {
			t.Errorf("it has only %d steps", at)
		}
	}
}

// oldOrNew checks that every file is what it was before or after, whole, and that what is in neither is a temporary file.
func oldOrNew(t *testing.T, when string, now, before, after map[string]string) {
	t.Helper()
	now, before, after = plainTree(now), plainTree(before), plainTree(after)
	for path, what := range now {
		known := what == before[path] || fileOnly(what) == fileOnly(after[path])
		if !known && !strings.HasPrefix(what, "directory") && !strings.HasPrefix(filepath.Base(path), tmpPrefix) {
			t.Errorf("%s, %q is neither old nor new: %s", when, path, what)
		}
	}
	for path, what := range before {
		if now[path] == "" && after[path] != "" && !strings.HasPrefix(what, "directory") {
			t.Errorf("%s, %q is gone, and it is there before and after", when, path)
		}
	}
}

// plainTree leaves out the times of directories, which nobody promises after a crash.
func plainTree(tree map[string]string) map[string]string {
	plain := maps.Clone(tree)
	for path, what := range plain {
		if f := strings.Fields(what); f[0] == "directory" {
			f[2] = "-"
			plain[path] = strings.Join(f, " ")
		}
	}
	return plain
}

// fileOnly leaves out the time: that of a new file is when it was made.
func fileOnly(what string) string {
	f := strings.Fields(what)
	if len(f) > 2 {
		f[2] = "-"
	}
	return strings.Join(f, " ")
}

func noTemporaries(t *testing.T, p *project) {
	t.Helper()
	for path := range p.tree() {
		if strings.HasPrefix(filepath.Base(path), tmpPrefix) {
			t.Errorf("%q is left", path)
		}
	}
}

// Who looks for what the dead left takes nothing from the living: an entry that is just being made is none of theirs.
func TestRecoverLeavesTheLivingAlone(t *testing.T) {
	p := newProject(t, map[string]string{"a": "a\n"})
	stop, done := make(chan bool), make(chan bool)
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			h, err := Open(p.log, p.dir)
			if err == nil {
				err = errors.Join(h.Recover(), h.Close())
			}
			if err != nil {
				t.Error(err)
			}
		}
	}()
	h := p.open()
	for i := range 400 {
		e, err := h.Begin(Apply, "", 0)
		if err == nil {
			err = errors.Join(e.Keep("a"), e.Sync(), e.After("a"), e.End())
		}
		if err != nil {
			t.Errorf("entry %d: %v", i, err)
			break
		}
		must(t, h.Remove(e.Number))
	}
	close(stop)
	<-done
}

// A full disk, of the state or of the project, stops an apply or an undo where it stands; with room again, undo brings everything back.
func TestFullDisk(t *testing.T) { child(t, childJob{Full: true, Dir: t.TempDir()}) }

func fullDisk(t *testing.T, j childJob) {
	state, dir := filepath.Join(j.Dir, "state"), filepath.Join(j.Dir, "project")
	for _, d := range []string{state, dir} {
		must(t, os.Mkdir(d, 0o755))
		must(t, unix.Mount("tmpfs", d, "tmpfs", 0, "size=1m"))
	}
	p := &project{t, dir, filepath.Join(state, "history")}
	files := map[string]string{}
	var wants []want
	for i := range 20 {
		files[fmt.Sprintf("f%02d", i)] = strings.Repeat(fmt.Sprint(i%10), 30_000)
		wants = append(wants, file(fmt.Sprintf("f%02d", i), "small\n"))
	}
	for name, content := range files {
		p.put(name, content)
	}
	p.age()
	before := p.tree()
	h := p.open()
	resize := func(d, size string) {
		t.Helper()
		must(t, unix.Mount("tmpfs", d, "tmpfs", unix.MS_REMOUNT, "size="+size))
	}

	// The state's disk is full: what could not be kept was not changed.
	resize(state, "200k")
	e, err := h.Begin(Apply, "", 0)
	must(t, err)
	steps := p.steps(h, wants)
	if err := e.Carry(context.Background(), steps); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("error %v", err)
	}
	for _, s := range steps {
		content, _ := os.ReadFile(p.path(s.Path))
		if s.Done != (string(content) == "small\n") || !s.Done && string(content) != files[s.Path] {
			t.Errorf("%s: done %v, %d bytes", s.Path, s.Done, len(content))
		}
	}
	e.End() // which may find no room for its last line either
	resize(state, "2m")
	h2 := p.open()
	must(t, h2.Recover())
	_, _, err = h2.Undo(context.Background(), UndoOptions{})
	if err != nil && !errors.Is(err, ErrNothing) {
		t.Fatal(err)
	}
	if got := p.tree(); !maps.Equal(plainTree(got), plainTree(before)) {
		t.Fatalf("undone, it is another tree:\n%s", difference(before, got))
	}

	// The project's disk is full when it is undone.
	p.carry(h2, wants...)
	resize(dir, "200k")
	_, out, err := h2.Undo(context.Background(), UndoOptions{})
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("error %v", err)
	}
	if !slices.ContainsFunc(out, func(o Outcome) bool { return o.Status == Failed }) {
		t.Errorf("nothing failed: %s", outcomeLines(out))
	}
	noTemporaries(t, p)
	resize(dir, "2m")
	p.undo(h2, UndoOptions{})
	if got := p.tree(); !maps.Equal(plainTree(got), plainTree(before)) {
		t.Fatalf("undone with room, it is another tree:\n%s", difference(before, got))
	}
}

// Applies, undos and undos of undos in any order, against a model that keeps whole trees.
func TestRandomHistory(t *testing.T) {
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 1))
		files, _ := everything()
		p := newProject(t, files)
		h := p.open()
		type kept struct {
			number int
			tree   map[string]string
		}
		var past []kept
		for range 12 {
			if len(past) > 0 && r.IntN(3) == 0 {
				last := past[len(past)-1]
				past = past[:len(past)-1]
				now := p.tree()
				p.undo(h, UndoOptions{Number: last.number})
				if got := p.tree(); !maps.Equal(got, last.tree) {
					t.Fatalf("seed %d: undone, it is another tree:\n%s", seed, difference(last.tree, got))
				}
				if r.IntN(2) == 0 { // and back
					numbers, err := h.Numbers()
					must(t, err)
					p.undo(h, UndoOptions{Number: numbers[len(numbers)-1]})
					if got := p.tree(); !maps.Equal(got, now) {
						t.Fatalf("seed %d: the undo undone, it is another tree:\n%s", seed, difference(now, got))
					}
					past = append(past, last)
				}
				continue
			}
			tree := p.tree()
			if e := p.carry(h, randomWants(r, p)...); h.Has(e.Number) {
				past = append(past, kept{e.Number, tree})
			}
		}
	}
}

// randomWants changes files, links and empty directories that are there, and makes new ones.
func randomWants(r *rand.Rand, p *project) (wants []want) {
	tree := p.tree()
	busy := map[string]bool{} // a path with what is above it: no two steps meet
	for _, path := range slices.Sorted(maps.Keys(tree)) {
		for dir := filepath.Dir(path); dir != "."; dir = filepath.Dir(dir) {
			busy[dir] = true
		}
	}
	for _, path := range slices.Sorted(maps.Keys(tree)) {
		if path == "." || r.IntN(3) > 0 {
			continue
		}
		switch what := tree[path]; {
		case strings.HasPrefix(what, "directory") && busy[path]:
			wants = append(wants, file(path+"/"+fmt.Sprint(r.IntN(1000)), fmt.Sprint(r.Uint64())))
		case r.IntN(4) == 0:
			wants = append(wants, gone(path))
		case r.IntN(4) == 0:
			wants = append(wants, link(path, fmt.Sprint("to", r.IntN(100))))
		case r.IntN(4) == 0 && !strings.HasPrefix(what, "directory"):
			wants = append(wants, dir(path), file(path+"/in", "in\n"))
		case r.IntN(3) == 0 && strings.HasPrefix(what, "file"):
			wants = append(wants, mode(path, 0o600|uint32(r.IntN(0o100))))
		default:
			wants = append(wants, file(path, fmt.Sprint(r.Uint64())))
		}
	}
	return wants
}

// A journal may be damaged in any way: it is read or refused, and an undo of it, however forced, changes nothing outside of the project.
func FuzzJournal(f *testing.F) {
	files, wants := everything()
	p := newProject(f, files)
	p.carry(p.open(), wants...)
	data, err := os.ReadFile(filepath.Join(p.log, "1", journalName))
	must(f, err)
	f.Add(string(data))
	for _, evil := range []string{"../out", "/etc/passwd", "a/../../out", "up/out", "a/b", ".", "", "a//b", "l/x"} {
		line := fmt.Sprintf(`{"path":%q,"before":{"type":"file","mode":420,"size":2,"object":1},"after":{}}`, evil)
		f.Add(strings.SplitAfter(string(data), "\n")[0] + line + "\n")
	}
	f.Fuzz(func(t *testing.T, journal string) {
		past := &Past{Paths: map[string]*Path{}}
		if past.parse(journal) != nil || len(past.Changed()) == 0 {
			return
		}
		p := newProject(t, map[string]string{"a": "a\n", "up -> ..": "", "l -> /tmp": ""})
		outside := filepath.Join(filepath.Dir(p.dir), "out")
		must(t, os.WriteFile(outside, []byte("outside"), 0o644))
		must(t, os.MkdirAll(filepath.Join(p.log, "1", "objects"), 0o700))
		must(t, os.WriteFile(filepath.Join(p.log, "1", journalName), []byte(journal), 0o600))
		must(t, os.WriteFile(filepath.Join(p.log, "1", "objects", "1"), []byte("x\n"), 0o600))
		h := p.open()
		h.Undo(context.Background(), UndoOptions{Number: 1, Force: true})
		h.List()
		if got, err := os.ReadFile(outside); err != nil || string(got) != "outside" {
			t.Errorf("outside of the project: %q %v", got, err)
		}
		names, err := os.ReadDir(filepath.Dir(p.dir))
		must(t, err)
		if len(names) != 3 {
			t.Errorf("beside the project: %v", names)
		}
	})
}
