package workspace

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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
	m, err := NewMirror(f.m, MirrorOptions{Merged: merged.fd, Upper: upper.fd, Log: x.log, UID: int(f.o.UID), GID: int(f.o.GID), Tell: func(m Mirrored) {
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

// until waits for a line of shell inside to print what is wanted.
func (x *mirroring) until(script, want string) {
	x.Helper()
	var got string
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
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
			if got := x.changed(); len(got) > 0 {
				t.Errorf("a review shows while it runs: %q", got)
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
		{"deleted by the host", "echo mine >a/x", "rm a/x", "cat a/x", "mine", []string{"a/x"}, []string{"added a/x"}},
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
			for end := time.Now().Add(2 * time.Second); !slices.Equal(x.conflicts(), c.conflict) && time.Now().Before(end); time.Sleep(time.Millisecond) {
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
			deadline := time.AfterFunc(5*time.Second, func() { events.Close() })
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
