package workspace

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"casemate.dev/internal/history"
	"golang.org/x/sys/unix"
)

// bigProject is what the random tests edit.
func bigProject() map[string]string {
	files := map[string]string{"link -> top": "", "top": "top\n", "empty/": "", "run*": "#!/bin/sh\n", "d/link -> ../top": ""}
	for i := range 4 {
		for j := range 4 {
			files[fmt.Sprintf("d%d/e%d/f", i, j)] = strings.Repeat(fmt.Sprintf("%d %d\n", i, j), 50)
			files[fmt.Sprintf("d%d/a%d", i, j)] = fmt.Sprintf("a %d %d\n", i, j)
		}
	}
	return files
}

// What Apply leaves on the host is what the sandbox saw, and the layer holds nothing any more; and that twice, as a kept layer goes on.
func TestApplyAgainstTheMergedTree(t *testing.T) {
	kinds(t, func(t *testing.T, kind LayerKind) {
		for seed := range uint64(12) {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				f := newFixture(t, kind, bigProject())
				for round := range uint64(3) {
					want := f.child(job{Seed: seed*10 + round, Steps: 60})
					f.wantApplied(want, f.applyNamed())
				}
			})
		}
	})
}

// wantApplied checks that the host has the tree and the layer nothing.
func (f *fixture) wantApplied(want map[string]string, outcomes []Outcome) {
	f.Helper()
	if got := snapshot(f, f.project); !maps.Equal(got, want) {
		f.Fatalf("the project is not what the sandbox saw:\n%s\noutcomes:\n%s", difference(want, got), outcomeLines(outcomes))
	}
	f.wantChanges(ChangeOptions{})
	if f.kind == OverlayLayer {
		if left := snapshot(f, f.inside()); len(left) > 0 {
			f.Errorf("the layer still holds %v", slices.Sorted(maps.Keys(left)))
		}
	}
}

// applyNamed applies every change by its name, because a random link may point out of the project.
func (f *fixture) applyNamed() []Outcome {
	f.Helper()
	paths := []string{""}
	for _, c := range f.changes(ChangeOptions{}) {
		paths = append(paths, c.Path)
	}
	return f.apply(ApplyOptions{Paths: paths})
}

func difference(want, got map[string]string) string {
	var b strings.Builder
	all := maps.Clone(want)
	maps.Copy(all, got)
	for _, p := range slices.Sorted(maps.Keys(all)) {
		if want[p] != got[p] {
			fmt.Fprintf(&b, "%s: want %.60q, got %.60q\n", p, want[p], got[p])
		}
	}
	return b.String()
}

// Applying in parts, in any order, changes nothing inside, and ends where applying all does.
func TestApplyInParts(t *testing.T) {
	kinds(t, func(t *testing.T, kind LayerKind) {
		for seed := range uint64(8) {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				f := newFixture(t, kind, bigProject())
				want := f.child(job{Seed: 1000 + seed, Steps: 80})
				for i, c := range f.changes(ChangeOptions{}) {
					if i%3 == int(seed%3) {
						f.apply(ApplyOptions{Paths: []string{c.Path}})
						if got := f.child(job{Script: "true"}); !maps.Equal(got, want) {
							t.Fatalf("after %s %s, the sandbox sees another tree:\n%s", c.Kind, c.Path, difference(want, got))
						}
					}
				}
				f.wantApplied(want, f.applyNamed())
			})
		}
	})
}

func TestApplyOnce(t *testing.T) {
	tests := []struct {
		name    string
		project map[string]string
		script  string
		o       ApplyOptions
		want    string
		tree    map[string]string // content by path; "" for what must be absent
	}{
		{
			name: "built files stay", project: map[string]string{".gitignore": "/out"}, script: "mkdir out; echo o > out/o; echo n > n",
			want: "applied added n\nheld added out (built files stay inside unless asked for)\n", tree: map[string]string{"n": "n\n", "out/o": ""},
		}, {
			name: "built files go when asked for", project: map[string]string{".gitignore": "/out"}, script: "mkdir out; echo o > out/o", o: ApplyOptions{Built: true},
			want: "applied added out\napplied added out/o\n", tree: map[string]string{"out/o": "o\n"},
		}, {
			name: "a part with the directories it needs", script: "mkdir -p a/b; echo 1 > a/b/1; echo 2 > a/b/2; echo 3 > 3", o: ApplyOptions{Paths: []string{"a/b/1"}},
			want: "applied added a/b/1\n", tree: map[string]string{"a/b/1": "1\n", "a/b/2": "", "3": ""},
		}, {
			name: "a dry run", project: map[string]string{"a": "1\n"}, script: "echo 2 > a", o: ApplyOptions{DryRun: true},
			want: "planned modified a\n", tree: map[string]string{"a": "1\n"},
		}, {
			name: "a link out needs its name", script: "ln -s /etc/shadow report; ln -s ../x up; ln -s in ok; mkdir d; ln -s ../in d/ok; ln -s ../../x d/up", o: ApplyOptions{Paths: []string{"up", "report", "d", "ok"}},
			want: "applied added d\napplied added d/ok\nheld added d/up (it points out of the project: name it to apply it)\napplied added ok\napplied added report\napplied added up\n",
		}, {
			name: "a directory is kept for what was not applied", project: map[string]string{"d/a": "1\n", "d/b": "1\n"}, script: "rm -r d", o: ApplyOptions{Paths: []string{"d/a"}},
			want: "applied deleted d/a\n", tree: map[string]string{"d/a": "", "d/b": "1\n"},
		}, {
			name: "directories that may not be written to", script: "mkdir -p ro/in; echo 1 > ro/in/f; chmod 555 ro/in ro",
			want: "applied added ro\napplied added ro/in\napplied added ro/in/f\n", tree: map[string]string{"ro/in/f": "1\n"},
		}, {
			name: "a new file that nobody may write to", script: "echo 1 > f; chmod 444 f", want: "applied added f\n", tree: map[string]string{"f": "1\n"},
		},
	}
	kinds(t, func(t *testing.T, kind LayerKind) {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				f := newFixture(t, kind, test.project)
				f.run(test.script)
				if got := outcomeLines(f.apply(test.o)); got != test.want {
					t.Errorf("got\n%swant\n%s", got, test.want)
				}
				for path, want := range test.tree {
					got, err := os.ReadFile(filepath.Join(f.project, path))
					if string(got) != want || want == "" && !errors.Is(err, fs.ErrNotExist) {
						t.Errorf("%s holds %q (%v), want %q", path, got, err, want)
					}
				}
				restoreModes(t, f.project)
			})
		}
	})
}

// restoreModes lets the test's directory be removed.
func restoreModes(t *testing.T, dir string) {
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(path, 0o755)
		}
		return err
	}))
}

func TestApplyIsAloneWithItsLayer(t *testing.T) {
	f := newFixture(t, OverlayLayer, nil)
	f.run("echo > a")
	other := f.open()
	must(t, other.lock())
	if _, err := f.open().Apply(t.Context(), ApplyOptions{}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Error(err)
	}
	if err := Discard(t.Context(), f.dir); err == nil {
		t.Error("discarded what another process applies")
	}
	other.unlock()
}

// The setuid bit of a new file stays behind; the setgid bit of a host directory stays where it is.
func TestApplyNormalisesModes(t *testing.T) {
	f := newFixture(t, OverlayLayer, map[string]string{"d/": "", "a": "1\n"})
	must(t, unix.Chmod(filepath.Join(f.project, "d"), 0o2755))
	f.run("echo x > s; chmod 6755 s; chmod 2700 d; mkdir d/new; chmod 1777 d/new; echo y > a; chmod 4755 a")
	for _, c := range f.changes(ChangeOptions{}) {
		if c.New.Type == File && !slices.Contains(c.Notes, "its setuid, setgid or sticky bit stays behind") {
			t.Errorf("%s: nothing said about its bits: %v", c.Path, c.Notes)
		}
	}
	f.apply(ApplyOptions{})
	for path, want := range map[string]uint32{"s": 0o755, "d": 0o2700, "d/new": 0o2777, "a": 0o755} {
		n, err := statAt(unix.AT_FDCWD, filepath.Join(f.project, path))
		if err != nil || n.Mode != want {
			t.Errorf("%s has mode %o, want %o (%v)", path, n.Mode, want, err)
		}
	}
	f.wantChanges(ChangeOptions{})
}

func TestApplyAsRootGivesToTheOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away (CAP_CHOWN)")
	}
	f := newFixture(t, OverlayLayer, map[string]string{"old": "1"})
	must(t, os.Chown(f.project, 1234, 1235))
	f.run("echo 2 > old; mkdir d; echo 3 > d/new; ln -s old l")
	f.apply(ApplyOptions{})
	for _, path := range []string{"old", "d", "d/new", "l"} {
		n, err := statAt(unix.AT_FDCWD, filepath.Join(f.project, path))
		if err != nil || n.uid != 1234 || n.gid != 1235 {
			t.Errorf("%s belongs to %d:%d (%v)", path, n.uid, n.gid, err)
		}
	}
}

// The host's links lead nowhere: what the layer has beneath a name that is a link there does not go through it.
func TestApplyNeverWritesThroughALink(t *testing.T) {
	f := newFixture(t, OverlayLayer, map[string]string{"d/x": "1\n", "e/x": "1\n", "f": "1\n"})
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "x"), []byte("outside\n"), 0o644))
	f.run("echo in > d/x; echo in > d/n; rm e/x; echo in > f; rm -r e; mkdir -p new/deep; echo in > new/deep/x")
	for _, name := range []string{"d", "e", "f", "new"} {
		must(t, os.RemoveAll(filepath.Join(f.project, name)))
		must(t, os.Symlink(outside, filepath.Join(f.project, name)))
	}
	out := f.apply(ApplyOptions{Paths: []string{""}, Overwrite: []string{"d/x", "d/n", "e/x", "new/deep"}})
	got := snapshot(t, outside)
	if len(got) != 1 || !strings.HasPrefix(got["x"], "file 0644 8 ") {
		t.Errorf("outside is now %v\n%s", got, outcomeLines(out))
	}
}

func TestApplyReportsWhatItCouldNotDo(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root is denied nothing (CAP_DAC_OVERRIDE)")
	}
	f := newFixture(t, OverlayLayer, map[string]string{"ro/a": "1\n", "rw/a": "1\n"})
	f.run("echo 2 > ro/a; echo 2 > rw/a; echo n > ro/n")
	must(t, os.Chmod(filepath.Join(f.project, "ro"), 0o555))
	defer os.Chmod(filepath.Join(f.project, "ro"), 0o755)
	out := outcomeLines(f.apply(ApplyOptions{Paths: []string{"ro/a", "ro/n", "rw"}}))
	want := "failed modified ro/a (permission denied on the host)\nfailed added ro/n (permission denied on the host)\napplied modified rw/a\n"
	if out != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
	must(t, os.Chmod(filepath.Join(f.project, "ro"), 0o755))
	f.apply(ApplyOptions{})
	f.wantChanges(ChangeOptions{})
}

// A full disk loses nothing, leaves nothing half done, and is said.
func TestApplyToAFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small file system (CAP_SYS_ADMIN)")
	}
	f := newFixture(t, OverlayLayer, map[string]string{})
	must(t, unix.Mount("tmpfs", f.project, "tmpfs", 0, "size=1m"))
	defer unix.Unmount(f.project, unix.MNT_DETACH)
	f.put(filepath.Join(f.project, "z"), "1\n")
	f.run("head -c 300000 /dev/urandom > a; head -c 3000000 /dev/urandom > b; head -c 3000 /dev/urandom > c; echo 2 > z")
	out, err := f.open().Apply(t.Context(), ApplyOptions{})
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("error %v", err)
	}
	want := "applied added a\nfailed added b (the disk is full)\nfailed added c (not reached: the disk is full)\nfailed modified z (not reached: the disk is full)\n"
	if got := outcomeLines(out); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := slices.Sorted(maps.Keys(snapshot(t, f.project))); !slices.Equal(got, []string{"a", "z"}) {
		t.Errorf("the project holds %q", got)
	}
	must(t, unix.Mount("tmpfs", f.project, "tmpfs", unix.MS_REMOUNT, "size=8m"))
	f.apply(ApplyOptions{})
	f.wantChanges(ChangeOptions{})
}

// applyJob is what the child that is killed applies.
type applyJob struct{ Project, Dir, Kind string }

const applyVariable = "CASEMATE_WORKSPACE_APPLY"

// TestChildOfApply is no test: it applies a layer until it is killed.
func TestChildOfApply(t *testing.T) {
	data := os.Getenv(applyVariable)
	if data == "" {
		return
	}
	var j applyJob
	must(t, json.Unmarshal([]byte(data), &j))
	f := &fixture{TB: t, kind: LayerKind(j.Kind), project: j.Project, dir: j.Dir}
	fmt.Println("ready")
	f.apply(ApplyOptions{})
}

// Killed at any point, an Apply has lost nothing: every file of the merged tree has its content on the host or in the layer, the host's files are
// whole, old or new; and the next Apply finishes it and leaves nothing behind.
func TestApplyKilledAtAnyPoint(t *testing.T) {
	kinds(t, func(t *testing.T, kind LayerKind) {
		for try := range 8 {
			f := newFixture(t, kind, bigProject())
			f.run(`for i in $(seq 250); do echo new $i > n$i; done; mkdir -p x/y; for i in $(seq 150); do echo x $i > x/y/$i; done; echo more >> top`)
			before := snapshot(t, f.project)
			want := f.child(job{Seed: uint64(try), Steps: 20})
			f.born = time.Time{}
			killApply(t, f, time.Duration(try)*3*time.Millisecond)
			checkNothingLost(t, f, before, want)
			f.born = f.mounted[0]
			f.open() // which cleans up
			for path := range snapshot(t, f.project) {
				if strings.Contains(path, ".casemate-") {
					t.Errorf("%s is left", path)
				}
			}
			f.wantApplied(want, f.applyNamed())
		}
	})
}

// killApply starts to apply and kills it after some time; ending before is fine too.
func killApply(t *testing.T, f *fixture, after time.Duration) {
	t.Helper()
	data, err := json.Marshal(applyJob{f.project, f.dir, string(f.kind)})
	must(t, err)
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestChildOfApply$", "-test.v")
	cmd.Env = append(os.Environ(), applyVariable+"="+string(data))
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	buf := make([]byte, 64)
	for seen := ""; !strings.Contains(seen, "ready"); {
		n, err := out.Read(buf)
		must(t, err)
		seen += string(buf[:n])
	}
	timer := time.AfterFunc(after, func() { cmd.Process.Signal(syscall.SIGKILL) })
	defer timer.Stop()
	go func() {
		for {
			if _, err := out.Read(buf); err != nil {
				return
			}
		}
	}()
	cmd.Wait()
}

func checkNothingLost(t *testing.T, f *fixture, before, want map[string]string) {
	t.Helper()
	host, inside := snapshot(t, f.project), snapshot(t, f.inside())
	for path, what := range want {
		if strings.HasPrefix(what, "dir") || before[path] == what && host[path] == what {
			continue
		}
		if host[path] != what && inside[path] != what {
			t.Errorf("%s is on neither side: %q on the host, %q in the layer", path, host[path], inside[path])
		}
	}
	for path, what := range host {
		ours := strings.HasPrefix(filepath.Base(path), ".casemate-")
		if !ours && !strings.HasPrefix(what, "dir") && what != before[path] && what != want[path] {
			t.Errorf("%s on the host is neither old nor new: %q", path, what)
		}
	}
}

func TestApplyStopsWithItsContext(t *testing.T) {
	f := newFixture(t, OverlayLayer, map[string]string{})
	f.run("for i in $(seq 600); do echo $i > $i; done")
	l := f.open()
	r, err := l.review(t.Context(), ChangeOptions{MaxFile: 0})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a := newApplication(l, r, ApplyOptions{})
	if err := a.run(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if left := snapshot(t, f.project); len(left) != 0 {
		t.Errorf("the project holds %v", left)
	}
}

// 10,000 files, and 40,000 built ones by word, cross and come back.
func TestApplyAndUndoOfManyFiles(t *testing.T) {
	f := newFixture(t, OverlayLayer, map[string]string{".gitignore": "/node_modules\n", "src/old": "old\n"})
	before := snapshot(t, f.project)
	f.run("rm src/old")
	for d := range 100 { // what an overlay would hold
		for i := range 400 {
			f.put(filepath.Join(f.inside(), fmt.Sprintf("node_modules/%d/f%d", d, i)), fmt.Sprint(i))
			if i < 100 {
				f.put(filepath.Join(f.inside(), fmt.Sprintf("src/%d/f%d", d, i)), fmt.Sprint(i))
			}
		}
	}
	out := f.apply(ApplyOptions{})
	if n := countApplied(out); n != 10_000+100+1 {
		t.Fatalf("%d applied", n)
	}
	if got := snapshot(t, f.project); got["node_modules/1/f1"] != "" || got["src/99/f99"] == "" {
		t.Error("the wrong files were applied")
	}
	out = f.apply(ApplyOptions{Built: true})
	if n := countApplied(out); n != 40_000+101 {
		t.Fatalf("%d built files applied", n)
	}
	f.wantChanges(ChangeOptions{Built: true})
	h, err := history.Open(filepath.Join(f.dir, "history"), f.project)
	must(t, err)
	defer h.Close()
	for range 2 {
		if _, _, err := h.Undo(t.Context(), history.UndoOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if got := snapshot(t, f.project); !maps.Equal(got, before) {
		t.Errorf("undone, %d entries instead of %d", len(got), len(before))
	}
}

func countApplied(out []Outcome) (n int) {
	for _, o := range out {
		n += count(o.Status == Applied)
	}
	return n
}
