package history

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// all keeps everything but what is called ignored.
func (p *project) all(keep, skip func(rel string) error) error {
	return filepath.WalkDir(p.dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == p.dir {
			return err
		}
		rel, _ := filepath.Rel(p.dir, name)
		if d.Name() == "ignored" {
			if d.IsDir() {
				return errors.Join(skip(rel), fs.SkipDir)
			}
			return skip(rel)
		}
		return keep(rel)
	})
}

// disturb is what an agent may do to a project.
func (p *project) disturb() {
	p.put("changed", "new content")
	p.put("new/file", "new")
	must(p, os.Chmod(p.path("mode"), 0o755))
	must(p, os.Remove(p.path("gone")))
	must(p, os.RemoveAll(p.path("dir")))
	p.put("dir", "a file in the place of a directory")
	must(p, os.Remove(p.path("link")))
	must(p, os.Symlink("elsewhere", p.path("link")))
	must(p, os.Rename(p.path("moved"), p.path("there")))
	must(p, os.Remove(p.path("piped")))
	must(p, unix.Mkfifo(p.path("piped"), 0o644))
	must(p, os.RemoveAll(p.path("fifos")))
	must(p, unix.Mkfifo(p.path("fifos"), 0o644))
	p.put("ignored", "whatever")
	was, err := statAt(unix.AT_FDCWD, p.path("sly")) // the same length, and the time set back
	must(p, err)
	for now := was; now.Ctime == was.Ctime; { // the clock of a file system has ticks
		must(p, os.WriteFile(p.path("sly"), []byte("SLY"), 0o644))
		must(p, os.Chtimes(p.path("sly"), time.Unix(0, was.Mtime), time.Unix(0, was.Mtime)))
		now, err = statAt(unix.AT_FDCWD, p.path("sly"))
		must(p, err)
	}
}

func liveProject(t *testing.T) *project {
	files := map[string]string{
		"changed": "content", "mode": "m", "gone": "gone", "dir/a": "a", "dir/b/c": "c", "dir/empty/": "", "link -> changed": "",
		"piped": "was a file", "fifos/in/deep": "deep", "fifos/x": "x", "moved": "moved", "ignored": "as before", "sly": "sly", "same": "same", "name\nwith \xff": "odd",
	}
	return newProject(t, files)
}

func TestLiveIsUndone(t *testing.T) {
	for _, c := range []struct {
		name string
		die  bool
	}{{"ended", false}, {"its process died", true}} {
		t.Run(c.name, func(t *testing.T) {
			p := liveProject(t)
			was := p.tree()
			log := p.open()
			e, unkept, err := log.Snapshot("box", p.all)
			must(t, err)
			if len(unkept) > 0 {
				t.Errorf("not kept: %v", unkept)
			}
			p.disturb()
			if c.die {
				e.close()
				numbers, err := log.Unfinished()
				must(t, err)
				if len(numbers) != 1 {
					t.Fatalf("unfinished: %v", numbers)
				}
				e, err = log.Resume(numbers[0])
				must(t, err)
			}
			changed, err := e.Settle(p.all)
			must(t, err)
			if changed != 19 {
				t.Errorf("%d paths were changed", changed)
			}
			_, outcomes, err := log.Undo(context.Background(), UndoOptions{})
			must(t, err)
			for _, o := range outcomes {
				if o.Status != Undone {
					t.Errorf("%q: %s %s", o.Path, o.Status, o.Why)
				}
			}
			now := p.tree()
			if now["ignored"] == was["ignored"] {
				t.Error("what is not ours to undo was undone")
			}
			was["ignored"] = now["ignored"]
			if d := difference(was, now); d != "" {
				t.Error(d)
			}
		})
	}
}

// A write through a mapping changes no time where files lie in memory. It is undone all the same.
func TestLiveUndoesWhatChangedNoTime(t *testing.T) {
	var fs unix.Statfs_t
	if err := unix.Statfs("/dev/shm", &fs); err != nil || fs.Type != unix.TMPFS_MAGIC {
		t.Fatalf("there is no tmpfs at /dev/shm to test in: %v", err)
	}
	dir, err := os.MkdirTemp("/dev/shm", "casemate-history-")
	must(t, err)
	defer os.RemoveAll(dir)
	p := newProject(t, nil)
	p.dir = dir
	p.put("mapped", strings.Repeat("as it was\n", 500))
	p.put("same", "same")
	p.age()
	was := p.tree()
	log := p.open()
	for range 2 { // the second finds the copy of the first
		e, _, err := log.Snapshot("box", p.all)
		must(t, err)
		f, err := os.OpenFile(p.path("mapped"), os.O_RDWR, 0)
		must(t, err)
		memory, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		must(t, err)
		copy(memory, append([]byte("evil"), memory[4:]...)) // read first
		must(t, errors.Join(unix.Munmap(memory), f.Close()))
		now, _, err := log.look("mapped")
		must(t, err)
		if data, _ := os.ReadFile(p.path("mapped")); contentName(now) != nameOf(t, p, e, "mapped") || !strings.HasPrefix(string(data), "evil") {
			t.Fatal("control: the write changed a time, or nothing")
		}
		if changed, err := e.Settle(p.all); err != nil || changed != 1 {
			t.Errorf("%d changed, %v", changed, err)
		}
		p.undo(log, UndoOptions{})
		if d := difference(plainTree(was), plainTree(p.tree())); d != "" {
			t.Error(d)
		}
	}
}

// nameOf is how the entry knows what a file held, without what makes it the entry's own.
func nameOf(t *testing.T, p *project, e *Entry, rel string) string {
	t.Helper()
	past, err := readEntry(p.log, e.Number)
	must(t, err)
	return strings.TrimSuffix(past.Paths[rel].Before.Content, "-"+e.token)
}

func TestLiveWithoutChangeLeavesNothing(t *testing.T) {
	p := liveProject(t)
	log := p.open()
	for range 2 {
		e, _, err := log.Snapshot("box", p.all)
		must(t, err)
		must(t, os.Chmod(p.path("same"), 0o600))
		must(t, os.Chmod(p.path("same"), 0o644)) // another ctime, and nothing else
		if changed, err := e.Settle(p.all); err != nil || changed != 0 {
			t.Errorf("%d changed, %v", changed, err)
		}
	}
	list, err := log.List()
	must(t, err)
	if len(list) != 0 {
		t.Errorf("%d entries", len(list))
	}
}

// What two runs find in the same state is kept once, and what no file holds any more goes, unless an entry needs it.
func TestContentsAreShared(t *testing.T) {
	t.Setenv("TMPDIR", "/var/tmp") // where files lie in memory, their times do not say that nothing changed
	p := liveProject(t)
	log := p.open()
	run := func(do func()) {
		t.Helper()
		e, _, err := log.Snapshot("box", p.all)
		must(t, err)
		do()
		_, err = e.Settle(p.all)
		must(t, err)
	}
	contents := func() map[string]uint64 {
		found := map[string]uint64{}
		dir := filepath.Join(p.log, contentsName)
		names, err := os.ReadDir(dir)
		must(t, err)
		for _, d := range names {
			var st unix.Stat_t
			must(t, unix.Lstat(filepath.Join(dir, d.Name()), &st))
			found[d.Name()] = st.Ino
		}
		return found
	}
	run(func() {})
	first := contents()
	run(func() {})
	for name, ino := range contents() {
		if first[name] != ino {
			t.Errorf("%q was copied again", name)
		}
	}
	run(func() { p.put("changed", "something else") })
	if n := len(contents()); n != len(first)-1 {
		t.Errorf("%d contents are kept, there were %d and one file was changed", n, len(first))
	}
	list, err := log.List()
	must(t, err)
	if len(list) != 1 {
		t.Fatalf("%d entries", len(list))
	}
	run(func() {})
	_, outcomes, err := log.Undo(context.Background(), UndoOptions{})
	must(t, err)
	if data, _ := os.ReadFile(p.path("changed")); string(data) != "content" {
		t.Errorf("changed holds %q: %v", data, outcomes)
	}
}

// A file that cannot be kept is said, and undo does not touch it.
func TestLiveSaysWhatItCannotKeep(t *testing.T) {
	p := liveProject(t)
	must(t, os.WriteFile(p.path("huge"), nil, 0o644))
	must(t, os.Truncate(p.path("huge"), maxCopied+1))
	must(t, unix.Mkfifo(p.path("fifo"), 0o600))
	log := p.open()
	e, unkept, err := log.Snapshot("box", p.all)
	must(t, err)
	if len(unkept) > 1 || len(unkept) == 1 && unkept[0].Path != "huge" { // none where the file system shares
		t.Errorf("not kept: %v", unkept)
	}
	must(t, os.Remove(p.path("fifo")))
	if changed, err := e.Settle(p.all); err != nil || changed != 0 {
		t.Errorf("%d changed, %v", changed, err)
	}
}
