package workspace

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mirroring is a sandbox beside which the host's changes are mirrored, as a session does it.
type mirroring struct {
	*maskFixture
	s    *inside
	log  string
	mu   sync.Mutex
	said []Mirrored
	stop func()
}

func (f *maskFixture) mirror() *mirroring {
	f.Helper()
	f.prepare()
	return f.mirrorInto(f.enter(f.m.Dir))
}

func (f *maskFixture) mirrorInto(s *inside) *mirroring {
	f.Helper()
	x := &mirroring{maskFixture: f, s: s, log: filepath.Join(f.dir, "mirror.log")}
	merged, err := openRooted(x.s.root)
	must(f, err)
	upper, err := openRooted(x.s.upper)
	must(f, err)
	w, err := NewWatcher(f.m, 0, func(a Appeared) {
		_, err := Rehide(merged.fd, upper.fd, a.Path)
		must(f, err)
	})
	must(f, err)
	m, err := NewMirror(f.m, MirrorOptions{Merged: merged.fd, Upper: upper.fd, Log: x.log, Layer: filepath.Dir(x.s.upper), UID: int(f.o.UID), GID: int(f.o.GID), Tell: func(m Mirrored) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.said = append(x.said, m)
	}})
	must(f, err)
	w.Mirror(m)
	ctx, cancel := context.WithCancel(f.Context())
	ready, done := make(chan bool), make(chan error, 1)
	go func() { done <- w.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		f.Fatalf("watcher: %v", err)
	}
	x.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			f.Errorf("watcher: %v", err)
		}
		w.Close()
		m.Close()
		merged.close()
		upper.close()
	})
	f.Cleanup(x.stop)
	return x
}

// settle ends the sandbox and settles its layer.
func (x *mirroring) settle() {
	x.Helper()
	x.stop()
	x.s.end()
	must(x, SettleMirror(filepath.Dir(x.s.upper), x.project, x.log))
}

// end ends the shell, and with it the mount.
func (s *inside) end() {
	s.in.Close()
	s.cmd.Wait()
}

// patient is how long a test waits for what has to come: it ends as soon as it does, and machines are busy.
const patient = 30 * time.Second

// until waits for a line of shell inside to print what is wanted.
func (x *mirroring) until(script, want string) {
	x.Helper()
	var got string
	for end := time.Now().Add(patient); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if got = x.s.sh(script); got == want {
			return
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.Errorf("inside, %q gives %q, want %q; said: %+v", script, got, want, x.said)
}

func (x *mirroring) conflicts() (paths []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, m := range x.said {
		if m.Conflict {
			paths = append(paths, m.Path)
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

func (x *mirroring) unconflicted() {
	x.Helper()
	if c := x.conflicts(); len(c) > 0 {
		x.Errorf("conflicts: %q", c)
	}
}

// changed lists what a review of the layer shows.
func (x *mirroring) changed() (lines []string) {
	x.Helper()
	log, err := OpenMirrorLog(x.log)
	must(x, err)
	l, err := OpenLayer(LayerOptions{Dir: filepath.Dir(x.s.upper), Project: x.project, Kind: OverlayLayer, Born: time.Now().Add(-time.Hour), Mirrored: log})
	must(x, err)
	defer l.Close()
	changes, err := l.Changes(x.Context(), ChangeOptions{})
	must(x, err)
	for _, c := range changes {
		line := fmt.Sprintf("%s %s", c.Kind, c.Path)
		if c.Conflict != "" {
			line += " conflict"
		}
		lines = append(lines, line)
	}
	return lines
}

func (x *mirroring) shell(script string) {
	x.Helper()
	cmd := exec.Command("/bin/sh", "-ec", script)
	cmd.Dir = x.project
	if out, err := cmd.CombinedOutput(); err != nil {
		x.Fatalf("%s: %v\n%s", script, err, out)
	}
}

func TestMirrorShowsTheHostsChanges(t *testing.T) {
	for _, c := range []struct {
		name         string
		inside, host string
		script, want string
	}{
		{"save in place", "cat a/x", "echo new >a/x", "cat a/x", "new"},
		{"save in place, twice", "cat a/x", "echo new >a/x; sleep 0.2; echo newer >a/x", "cat a/x", "newer"},
		{"save in place, shorter", "cat a/x", "echo much longer than >a/x; sleep 0.2; printf s >a/x", "cat a/x", "s"},
		{"save by rename", "cat a/x", "echo new >a/.x.tmp; mv a/.x.tmp a/x", "cat a/x; ls -A a", "new\nx\ny"},
		{"save by rename, again", "cat a/x", "echo new >a/t; mv a/t a/x; sleep 0.2; echo newer >a/t; mv a/t a/x", "cat a/x", "newer"},
		{"by rename, then in place", "cat a/x", "echo new >a/t; mv a/t a/x; sleep 0.2; echo newer >>a/x", "cat a/x", "new\nnewer"},
		{"a new file", "ls a; cat a/new", "echo new >a/new", "cat a/new", "new"},
		{"a file whose absence was seen", "cat a/new", "echo new >a/new", "cat a/new", "new"},
		{"a deleted file", "cat a/x", "rm a/x", "cat a/x; ls a", "cat: a/x: No such file or directory\ny"},
		{"deleted and made again", "cat a/x", "rm a/x; sleep 0.2; echo again >a/x", "cat a/x", "again"},
		{"a renamed file", "cat a/x; cat a/z", "mv a/x a/z", "cat a/z; cat a/x", "secret a/x" + "cat: a/x: No such file or directory"},
		{"a mode", "ls -l a/x", "chmod 750 a/x", "stat -c %a a/x", "750"},
		{"a link", "cat a/l", "ln -s x a/l", "readlink a/l", "x"},
		{"another link", "cat a/x", "ln -s x a/l; sleep 0.1; ln -sfn y a/l", "readlink a/l", "y"},
		{"a file becomes a link", "cat a/x", "ln -sf y a/x", "readlink a/x", "y"},
		{"a new directory", "ls d", "mkdir -p d/e; echo 1 >d/e/f", "cat d/e/f; ls d", "1\ne"},
		{"a new directory that nobody looked for", "ls", "mkdir -p d/e; echo 1 >d/e/f", "cat d/e/f; ls d", "1\ne"},
		{"a renamed directory", "cat deep/er/f; ls deep", "mv deep other", "cat other/er/f; cat deep/er/f", "secret deep/er/fcat: deep/er/f: No such file or directory"},
		{"a directory becomes a file", "cat deep/er/f", "rm -r deep; echo file >deep", "cat deep", "file"},
		{"a file becomes a directory", "cat a/x", "rm a/x; mkdir a/x; echo 1 >a/x/y", "cat a/x/y", "1"},
		{"an emptied file", "cat a/x", ": >a/x", "cat a/x", ""},
		{"in a directory that was never looked at", "true", "echo new >deep/er/f", "cat deep/er/f", "new"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if os.Geteuid() != 0 && c.name == "a directory becomes a file" {
				t.Skip("only root can make the kernel forget a directory that the host removed and the sandbox looked at")
			}
			x := newMaskFixture(t, []string{".env"}, "a/x", "a/y", "deep/er/f").mirror()
			x.s.sh(c.inside)
			x.shell(c.host)
			x.until(c.script, c.want)
			x.unconflicted()
			shown := x.changed() // what is looked at may be half mirrored
			for end := time.Now().Add(patient); len(shown) > 0 && time.Now().Before(end); shown = x.changed() {
				time.Sleep(2 * time.Millisecond)
			}
			if len(shown) > 0 {
				t.Errorf("a review shows while it runs: %q", shown)
			}
			x.settle()
			if left := names(t, x.s.upper); len(left) > 0 {
				t.Errorf("left in the layer: %q", left)
			}
			if _, err := os.Lstat(x.log); err == nil {
				t.Error("the log is still there")
			}
		})
	}
}

func TestMirrorKeepsBothSides(t *testing.T) {
	for _, c := range []struct {
		name         string
		inside, host string
		script, want string
		conflict     []string
		changed      []string
	}{
		{"both write", "echo mine >a/x", "echo host >a/x", "cat a/x", "mine", []string{"a/x"}, []string{"modified a/x conflict"}},
		{"both write, by rename", "echo mine >a/x", "echo host >t; mv t a/x", "cat a/x", "mine", []string{"a/x"}, []string{"modified a/x conflict"}},
		{"deleted inside", "rm a/x", "echo host >a/x", "ls a", "y", []string{"a/x"}, []string{"deleted a/x conflict"}},
		{"deleted by the host", "echo mine >a/x", "rm a/x", "cat a/x", "mine", []string{"a/x"}, []string{"added a/x conflict"}},
		{"deleted above by the host", "echo mine >deep/er/f", "mv deep other", "cat deep/er/f", "mine", []string{"deep"}, []string{"added deep", "added deep/er", "added deep/er/f conflict"}},
		{"both make", "echo mine >a/new", "echo host >a/new", "cat a/new", "mine", []string{"a/new"}, []string{"modified a/new conflict"}},
		{"both the same", "echo same >a/x", "echo same >a/x", "cat a/x", "same", nil, nil},
		{"a directory deleted inside", "rm -r deep", "echo host >deep/er/f", "ls -d deep", "ls: cannot access 'deep': No such file or directory", []string{"deep/er/f"}, []string{"deleted deep", "deleted deep/er", "deleted deep/er/f conflict"}},
		{"a mode inside", "chmod 700 a/x", "echo host >a/x", "stat -c %a a/x", "700", []string{"a/x"}, []string{"modified a/x conflict"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newMaskFixture(t, []string{".env"}, "a/x", "a/y", "deep/er/f").mirror()
			x.s.sh(c.inside)
			x.shell(c.host)
			x.shell("echo last >marker")
			x.until("cat marker", "last")
			for end := time.Now().Add(patient); !slices.Equal(x.conflicts(), c.conflict) && time.Now().Before(end); time.Sleep(time.Millisecond) {
			}
			wantPaths(t, "conflicts", x.conflicts(), c.conflict...)
			x.until(c.script, c.want)
			x.settle()
			got := x.changed()
			for i := range got { // what is said about directories that hold a conflict is the review's business
				if strings.HasPrefix(got[i], "deleted deep") && !strings.HasSuffix(got[i], "/f conflict") {
					got[i] = strings.TrimSuffix(got[i], " conflict")
				}
			}
			wantPaths(t, "changes", got, c.changed...)
		})
	}
}

// What was written inside beside a change of the host's stays a conflict when the sandbox makes its own version anew, as a save by rename does.
func TestMirrorConflictsOutliveTheEntry(t *testing.T) {
	x := newMaskFixture(t, nil, "a/x", "a/y", "a/z").mirror()
	x.s.sh("for f in a/x a/y; do echo mine >>$f; done")
	x.shell("for f in a/x a/y a/z; do echo host >>$f; done")
	for end := time.Now().Add(patient); len(x.conflicts()) < 2 && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	x.s.sh("for f in a/x a/z; do cp $f t; echo anew >>t; mv t $f; done; rm a/y")
	want := []string{"modified a/x conflict", "deleted a/y conflict", "modified a/z"}
	wantPaths(t, "while it runs", x.changed(), want...)
	x.settle()
	wantPaths(t, "changes", x.changed(), want...)
}

// What the mirror had shown before what it shows now is a change like any other, if the sandbox writes it again.
func TestMirrorTakesNoRevertForItsOwn(t *testing.T) {
	x := newMaskFixture(t, nil, "a/x", "a/y").mirror()
	x.s.sh("cat a/x a/y")
	for _, v := range []string{"one", "two"} {
		x.shell(fmt.Sprintf("for f in a/x a/y; do echo %s >t; mv t $f; done", v))
		x.until("cat a/x a/y", v+"\n"+v)
	}
	x.shell("echo last >marker")
	x.until("cat marker", "last")
	x.s.sh("echo one >a/x; rm a/y; echo one >a/y")
	x.settle()
	wantPaths(t, "changes", x.changed(), "modified a/x", "modified a/y")
}

// TestMirroredIsTheBase changes inside what was mirrored: a change like any other, and no conflict until the host goes on.
func TestMirroredIsTheBase(t *testing.T) {
	x := newMaskFixture(t, nil, "a/x", "a/y", "a/z").mirror()
	x.s.sh("cat a/x a/y a/z; ls d")
	x.shell("echo one >t; mv t a/x; echo one >a/y; echo one >a/z; mkdir d; echo 1 >d/1; echo 2 >d/2; echo 3 >d/3")
	x.until("cat a/x a/y a/z d/1 d/2 d/3", "one\none\none\n1\n2\n3")
	x.s.sh("echo two >>a/x; rm a/y; rm d/1; echo mine >d/2; echo new >d/new")
	want := []string{"modified a/x", "deleted a/y", "deleted d/1", "modified d/2", "added d/new"}
	wantPaths(t, "while it runs", x.changed(), want...)
	x.settle()
	wantPaths(t, "changes", x.changed(), want...)
	x.shell("echo three >a/x; echo three >d/2")
	wantPaths(t, "changes", x.changed(), "modified a/x conflict", "deleted a/y", "deleted d/1", "modified d/2 conflict", "added d/new")
	if got, err := os.ReadFile(filepath.Join(x.s.upper, "a/x")); string(got) != "one\ntwo\n" {
		t.Errorf("in the layer: %q, %v", got, err)
	}
	must(t, SettleMirror(filepath.Dir(x.s.upper), x.project, x.log)) // again
	wantPaths(t, "changes", x.changed(), "modified a/x conflict", "deleted a/y", "deleted d/1", "modified d/2 conflict", "added d/new")
}

// TestMirrorReachesOpenFiles reads through descriptors that were open before.
func TestMirrorReachesOpenFiles(t *testing.T) {
	x := newMaskFixture(t, nil, "a/x", "a/y").mirror()
	x.s.sh("exec 3<a/x 4<a/y")
	x.shell("echo new >a/x; echo new >t; mv t a/y")
	x.until("cat a/x a/y", "new\nnew")
	if got := x.s.sh("cat <&3; cat <&4"); got != "new\nsecret a/y" {
		t.Errorf("through open descriptors: %q", got)
	}
	x.s.sh("exec 3<a/x")
	x.shell("echo newer >a/x")
	x.until("cat a/x", "newer")
	if got := x.s.sh("cat <&3"); got != "newer" {
		t.Errorf("through an open descriptor: %q", got)
	}
}

// TestMirrorRaisesEvents watches the directory inside.
func TestMirrorRaisesEvents(t *testing.T) {
	for _, c := range []struct {
		name, host, file string
		events           uint32
	}{
		{"in place", "echo new >a/x", "x", unix.IN_MODIFY | unix.IN_CLOSE_WRITE},
		{"by rename", "echo new >t; mv t a/x", "x", unix.IN_MOVED_TO},
		{"new", "echo new >a/new", "new", unix.IN_MOVED_TO},
		{"deleted", "rm a/x", "x", unix.IN_MOVED_FROM},
		{"new directory", "mkdir a/d", "d", unix.IN_CREATE | unix.IN_ISDIR},
		{"deleted directory", "rmdir a/e", "e", unix.IN_DELETE | unix.IN_ISDIR},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newMaskFixture(t, []string{".env"}, "a/x", "a/y", "a/e/")
			x := f.mirror()
			in, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
			must(t, err)
			events := os.NewFile(uintptr(in), "events")
			defer events.Close()
			_, err = unix.InotifyAddWatch(in, x.s.root+"/a", unix.IN_ALL_EVENTS&^(unix.IN_OPEN|unix.IN_ACCESS|unix.IN_CLOSE_NOWRITE))
			must(t, err)
			x.shell(c.host)
			var seen uint32
			deadline := time.AfterFunc(patient, func() { events.Close() })
			defer deadline.Stop()
			var last uint32
			for seen&c.events != c.events {
				buf := make([]byte, 4096)
				n, err := events.Read(buf)
				if err != nil {
					t.Fatalf("events of %q: %#x, want %#x", c.file, seen, c.events)
				}
				for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
					e := b[:unix.SizeofInotifyEvent]
					size := int(e[12])
					if name := strings.TrimRight(string(b[16:16+size]), "\x00"); name == c.file {
						last = uint32(e[4]) | uint32(e[5])<<8 | uint32(e[6])<<16 | uint32(e[7])<<24
						seen |= last
					}
					b = b[16+size:]
				}
			}
		})
	}
}

// TestMirrorCatchesUp changes the project before anybody watches.
func TestMirrorCatchesUp(t *testing.T) {
	f := newMaskFixture(t, []string{".env"}, "a/x", "a/y", "a/z", "b/x")
	f.prepare()
	s := f.enter(f.m.Dir)
	s.sh("cat a/x a/y; cat a/new; ls b")
	f.put("a/t", "new")
	must(t, os.Rename(f.project+"/a/t", f.project+"/a/x"))
	f.put("a/new", "new")
	x := f.mirrorInto(s)
	x.until("cat a/x a/new a/y", "newnewsecret a/y")
	x.quiesce()
	for _, name := range []string{"y", "z"} {
		if _, err := os.Lstat(x.s.upper + "/a/" + name); err == nil {
			t.Errorf("mirrored: %q, which had not changed", name)
		}
	}
	x.settle()
}

// TestMirrorGoesOnAfterAnApply makes both sides alike, and lets the host go on.
func TestMirrorGoesOnAfterAnApply(t *testing.T) {
	x := newMaskFixture(t, nil, "a/x").mirror()
	x.s.sh("echo mine >a/x")
	x.shell("echo mine >a/x")
	x.quiesce()
	x.shell("echo host >a/x")
	x.until("cat a/x", "host")
	x.unconflicted()
	x.settle()
	wantPaths(t, "changes", x.changed())
}

// quiesce waits until nothing is left to be mirrored.
func (x *mirroring) quiesce() {
	x.Helper()
	x.s.sh("cat marker")
	x.shell("echo 1 >marker")
	x.until("cat marker", "1")
}

func TestMirrorNeverShowsWhatIsHidden(t *testing.T) {
	f := newMaskFixture(t, []string{".env", "*.pem"}, "a/x", "a/.env", "a/k.pem")
	x := f.mirror()
	x.s.sh("cat a/x a/.env a/k.pem")
	x.shell("echo casemate-secret >t; mv t a/.env; echo casemate-secret >a/k.pem; echo casemate-secret >a/new.pem; mkdir n; echo casemate-secret >n/.env; echo casemate-secret >n/k.pem; ln a/.env a/hard; echo done >a/x")
	x.until("cat a/x", "done")
	if got := x.s.sh("grep -rs casemate-secret . ; cat a/.env n/.env n/k.pem a/k.pem a/new.pem a/hard"); strings.Contains(got, "casemate-secret") {
		t.Errorf("inside: %q", got)
	}
	x.settle()
	for _, path := range treeOf(t, x.s.upper) {
		if strings.Contains(path, "pem -") || strings.Contains(path, "hard -") {
			t.Errorf("in the layer: %s", path)
		}
	}
}

// TestMirrorWritesNothingOutside lets the sandbox plant links, directories and fifos in the place of what is being mirrored, all the time. The control is
// somebody who writes by path.
func TestMirrorWritesNothingOutside(t *testing.T) {
	f := newMaskFixture(t, nil, "a/x", "a/y", "a/z")
	victim := filepath.Join(f.dir, "victim")
	must(t, os.Mkdir(victim, 0o755))
	before := func() {
		for _, name := range []string{"x", "y"} {
			must(t, os.WriteFile(filepath.Join(victim, name), []byte("the host's"), 0o644))
		}
	}
	before()
	harmed := func() (what []string) {
		all, err := os.ReadDir(victim)
		must(t, err)
		for _, e := range all {
			if b, _ := os.ReadFile(filepath.Join(victim, e.Name())); string(b) != "the host's" {
				what = append(what, e.Name())
			}
		}
		if len(all) != 2 {
			what = append(what, fmt.Sprint(len(all), " entries"))
		}
		return what
	}
	const dirs = 120
	for i := range dirs {
		f.put(fmt.Sprintf("d%d/x", i), "project")
	}
	x := f.mirror()
	in := func(p string) string { return filepath.Join(x.s.root, p) }
	var saved atomic.Int64
	stop, swapped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(swapped)
		for i, next := 0, 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if int64(next) < saved.Load() { // each directory once, somewhere in the time that mirroring takes
				time.Sleep(time.Duration(next%12) * time.Millisecond) // the point is that it is any moment
				os.RemoveAll(in(fmt.Sprint("d", next)))
				os.Symlink(victim, in(fmt.Sprint("d", next)))
				next++
			}
			switch i % 5 {
			case 0:
				os.Remove(in("a/x"))
				os.Symlink(victim+"/x", in("a/x"))
			case 1:
				os.Remove(in("a/y"))
				unix.Mkfifo(in("a/y"), 0o666)
			case 2:
				os.Remove(in("a/x"))
				os.Mkdir(in("a/x"), 0o755)
			case 3:
				os.Remove(in("a/x"))
				os.Remove(in("a/y"))
				os.Link(in("a/z"), in("a/y"))
			}
		}
	}()
	for i := range dirs {
		for _, name := range []string{"a/x", "a/y", fmt.Sprintf("d%d/x", i), fmt.Sprintf("d%d/y", i)} {
			if i%2 == 0 {
				f.put(name, fmt.Sprint("mirrored ", i))
			} else {
				must(t, os.WriteFile(f.project+"/t", fmt.Append(nil, "mirrored ", i), 0o644))
				must(t, os.Rename(f.project+"/t", f.project+"/"+name))
			}
		}
		saved.Add(1)
		time.Sleep(6 * time.Millisecond) // a person saves no faster
	}
	if what := harmed(); len(what) > 0 {
		t.Errorf("outside: %q", what)
	}
	naive := false
	for end := time.Now().Add(patient); !naive && time.Now().Before(end); {
		if fd, err := unix.Open(in("a/x"), unix.O_WRONLY|unix.O_TRUNC|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err == nil {
			unix.Write(fd, []byte("naive"))
			unix.Close(fd)
			naive = len(harmed()) > 0
		}
	}
	close(stop)
	<-swapped
	if !naive {
		t.Error("control: writing by path harmed nothing outside either")
	}
	x.shell("echo alive >a/alive")
	x.until("cat a/alive", "alive")
}

// TestMirrorUnderTwoHands edits on both sides at once, thousands of times, and then accounts for every file: what the host wrote last is on the host; what
// the sandbox wrote last is inside and in the layer, unless the host has the same; and what the sandbox did not touch is the same on both sides.
func TestMirrorUnderTwoHands(t *testing.T) {
	const files, steps = 24, 4000
	var all []string
	for i := range files {
		all = append(all, fmt.Sprintf("d%d/f%d", i%4, i))
	}
	f := newMaskFixture(t, []string{".env"}, all...)
	x := f.mirror()
	type hand struct {
		root string
		last map[string]string // "" is deleted
	}
	host, sandbox := hand{f.project, map[string]string{}}, hand{x.s.root, map[string]string{}}
	edit := func(h *hand, who string, rnd *rand.Rand, some []string) {
		name := some[rnd.IntN(len(some))]
		path := filepath.Join(h.root, name)
		content := fmt.Sprintf("%s %d %s", who, rnd.Uint64(), strings.Repeat("x", rnd.IntN(300)))
		switch rnd.IntN(6) {
		case 0:
			if os.Remove(path) == nil {
				h.last[name] = ""
			}
		case 1, 2:
			temp := filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s.%d.tmp", who, rnd.IntN(1000)))
			must(t, os.WriteFile(temp, []byte(content), 0o644))
			must(t, os.Rename(temp, path))
			h.last[name] = content
		case 3:
			os.ReadFile(path)
			os.Stat(path)
		default:
			must(t, os.WriteFile(path, []byte(content), 0o644))
			h.last[name] = content
		}
	}
	var both sync.WaitGroup
	both.Go(func() {
		rnd := rand.New(rand.NewPCG(1, 2))
		for i := range steps {
			edit(&host, "host", rnd, all)
			if i%8 == 0 {
				time.Sleep(time.Millisecond) // so that batches end
			}
		}
	})
	both.Go(func() {
		rnd := rand.New(rand.NewPCG(3, 4))
		for i := range steps {
			if i < steps/2 || i%50 == 0 {
				edit(&sandbox, "sandbox", rnd, all[:files/2])
			} else { // it reads everywhere
				os.ReadFile(filepath.Join(x.s.root, all[rnd.IntN(files)]))
			}
			if i%8 == 0 {
				time.Sleep(time.Millisecond) // likewise
			}
		}
	})
	both.Wait()
	x.shell("echo over >over")
	x.until("cat over", "over")
	read := func(root, name string) string { b, _ := os.ReadFile(filepath.Join(root, name)); return string(b) }
	same := func() (wrong []string) {
		for _, name := range all {
			h, in := read(host.root, name), read(sandbox.root, name)
			if want, edited := host.last[name]; edited && h != want {
				wrong = append(wrong, fmt.Sprintf("%s on the host: %.40q, want %.40q", name, h, want))
			}
			if mine, touched := sandbox.last[name]; touched && in != mine && h != mine && in != h {
				wrong = append(wrong, fmt.Sprintf("%s inside: %.40q, want %.40q", name, in, mine))
			} else if !touched && in != h {
				wrong = append(wrong, fmt.Sprintf("%s, which the sandbox did not touch: %.40q, want %.40q (conflict told: %v)", name, in, h, slices.Contains(x.conflicts(), name)))
			}
		}
		return wrong
	}
	for end := time.Now().Add(patient); len(same()) > 0 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
	}
	for _, wrong := range same() {
		t.Error(wrong)
	}
	x.settle()
	lost := 0
	for name, mine := range sandbox.last {
		layer, h := read(x.s.upper, name), read(host.root, name)
		if mine != "" && layer != mine && h != mine {
			lost++
			t.Errorf("%s: the sandbox's last content is gone: layer %.40q, host %.40q, want %.40q", name, layer, h, mine)
		}
	}
	t.Logf("%d steps on each side, %d files changed inside, %d conflicts told, %d lost", steps, len(sandbox.last), len(x.conflicts()), lost)
	for _, name := range names(t, x.s.upper+"/d0") {
		if isMirrorTemp(name) {
			t.Errorf("left in the layer: %s", name)
		}
	}
}

// TestMirrorSettlesAfterAKill makes the states in which a kill can leave the layer.
func TestMirrorSettlesAfterAKill(t *testing.T) {
	type state struct {
		x     *mirroring
		put   func(name, content string) // into the layer
		log   *MirrorLog
		entry func(content string) mirrorRecord
	}
	for _, c := range []struct {
		name string
		make func(s state)
		want []string
	}{
		{"announced, nothing done", func(s state) { must(t, s.log.put(s.entry("host"))) }, nil},
		{"prepared", func(s state) {
			r := s.entry("host")
			r.Temp = ".casemate-mirror.1.1~"
			must(t, s.log.put(r))
			s.put("a/.casemate-mirror.1.1~", "ho")
		}, nil},
		{"exchanged, the old one not removed", func(s state) {
			must(t, s.log.put(s.entry("before")))
			r := s.entry("host")
			r.Temp = ".casemate-mirror.1.1~"
			_, err := s.log.intend(r)
			must(t, err)
			s.put("a/x", "host")
			s.put("a/.casemate-mirror.1.1~", "before")
		}, nil},
		{"exchanged with what the sandbox had just written", func(s state) {
			must(t, s.log.put(s.entry("before")))
			r := s.entry("host")
			r.Temp = ".casemate-mirror.1.1~"
			_, err := s.log.intend(r)
			must(t, err)
			s.put("a/x", "host")
			s.put("a/.casemate-mirror.1.1~", "the sandbox's")
		}, []string{"modified a/x"}},
		{"half written in place", func(s state) {
			must(t, s.log.put(s.entry("before")))
			r := s.entry("host")
			r.Open = true
			_, err := s.log.intend(r)
			must(t, err)
			s.put("a/x", "hofore")
		}, []string{"modified a/x conflict"}},
		{"written in place, not noted", func(s state) {
			r := s.entry("host")
			r.Open = true
			must(t, s.log.put(r))
			s.put("a/x", "host")
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newMaskFixture(t, nil, "a/x").mirror()
			x.stop()
			x.s.end()
			must(t, os.MkdirAll(x.s.upper+"/a", 0o755))
			log, err := OpenMirrorLog(x.log)
			must(t, err)
			host, err := openRooted(x.project)
			must(t, err)
			defer host.close()
			c.make(state{x, func(name, content string) {
				must(t, os.WriteFile(filepath.Join(x.s.upper, name), []byte(content), 0o644))
			}, log, func(content string) mirrorRecord {
				n, err := host.stat("a/x")
				must(t, err)
				return mirrorRecord{Path: []byte("a/x"), Type: File, Mode: 0o644, Size: int64(len(content)), Sum: sumBytes([]byte(content)), Host: stampOfHost(n)}
			}})
			must(t, log.Close())
			layer := filepath.Dir(x.s.upper)
			must(t, SettleMirror(layer, x.project, x.log))
			wantPaths(t, "changes", x.changed(), c.want...)
			must(t, SettleMirror(layer, x.project, x.log))
			wantPaths(t, "changes", x.changed(), c.want...)
			if left := names(t, x.s.upper); len(c.want) == 0 && len(left) > 0 {
				t.Errorf("left in the layer: %q", left)
			}
		})
	}
}

// FuzzMirrorLog reads what a crash, or somebody, left of a log.
func FuzzMirrorLog(f *testing.F) {
	f.Add([]byte(`{"p":"YQ==","t":"file","m":420,"s":4,"d":"00"}` + "\n" + `{"p":"YQ==","v":true}` + "\n{"))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "log")
		must(t, os.WriteFile(path, data, 0o600))
		g, err := OpenMirrorLog(path)
		must(t, err)
		for rel := range g.at {
			g.shown(rel)
			g.torn(rel)
			g.made(rel)
		}
	})
}

// What the host writes into a file that the sandbox was shown is its own, even with the size and the time it had; another name for it is no write.
func TestMirrorKnowsTheHostsFileByItsContent(t *testing.T) {
	x := newMaskFixture(t, nil, "sly", "linked").mirror()
	x.s.sh("cat sly linked")
	x.shell("for f in sly linked; do echo new >t; mv t $f; done")
	x.until("cat sly linked", "new\nnew")
	x.s.sh("echo in >>sly; echo in >>linked")
	x.settle()
	wantPaths(t, "changes", x.changed(), "modified linked", "modified sly")
	sly(t, filepath.Join(x.project, "sly"), "his\n")
	must(t, os.Link(filepath.Join(x.project, "linked"), filepath.Join(x.project, "other")))
	wantPaths(t, "after the host went on", x.changed(), "modified linked", "modified sly conflict")
}
