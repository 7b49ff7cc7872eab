package history

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"

	"casemate.dev/internal/beneath"
	"golang.org/x/sys/unix"
)

// Entry is an entry that is being written. It is for one goroutine at a time.
type Entry struct {
	Number int

	h        *Log
	what     What
	token    string
	held     int // the open- file, locked
	dir      int
	journal  int
	objects  int
	contents int // shared by the entries of live workspaces
	next     int // number of the next object
	buffer   []byte
	kept     map[string]bool
	parents  map[string]State // directories in which something was changed, as they were
	changed  int
	few      bool           // so few files that they are synced one by one
	others   map[uint64]int // a descriptor on each other file system that was written to
	owner    State          // the project's root
}

func newEntry(h *Log) *Entry {
	return &Entry{h: h, held: -1, dir: -1, journal: -1, objects: -1, contents: -1, kept: map[string]bool{}, parents: map[string]State{}, others: map[uint64]int{}}
}

const (
	newFile = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	openDir = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
)

// create makes the entry's files, durable before anything is changed.
func (e *Entry) create(first head) (err error) {
	if e.held, err = unix.Openat(e.h.dir, openPrefix+strconv.Itoa(e.Number), newFile, 0o600); err != nil {
		return err
	}
	if err := unix.Flock(e.held, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	e.h.step("opened")
	if e.dir, err = unix.Openat(e.h.dir, strconv.Itoa(e.Number), openDir, 0); err != nil {
		return err
	}
	if e.journal, err = unix.Openat(e.dir, journalName, newFile|unix.O_APPEND, 0o600); err != nil {
		return err
	}
	if e.owner, err = statFd(e.h.project); err != nil {
		return err
	}
	data, err := json.Marshal(first)
	if err != nil {
		return fmt.Errorf("bug: history: %v", err)
	}
	e.buffer = append(data, '\n')
	if err := e.flush(true); err != nil {
		return err
	}
	if err := unix.Fsync(e.dir); err != nil {
		return err
	}
	return unix.Fsync(e.h.dir)
}

// Resume opens an unfinished entry of a live workspace whose process has died, or returns nil if there is none of that number any more.
func (h *Log) Resume(number int) (*Entry, error) {
	e, err := h.take(number)
	if e == nil || err != nil {
		return nil, err
	}
	p, err := readEntry(h.Dir, number)
	if err == nil {
		e.token, e.what = p.token, p.What
		for rel, q := range p.Paths {
			e.kept[rel] = q.Before != nil
			if q.Before != nil {
				e.next = max(e.next, q.Before.Object)
			}
		}
		err = e.reopen()
	}
	if err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

func (e *Entry) reopen() (err error) {
	if e.owner, err = statFd(e.h.project); err != nil {
		return err
	}
	if e.dir, err = unix.Openat(e.h.dir, strconv.Itoa(e.Number), openDir, 0); err != nil {
		return err
	}
	e.journal, err = unix.Openat(e.dir, journalName, unix.O_RDWR|unix.O_APPEND|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return cutTorn(e.journal)
}

// cutTorn removes a last line that a crash did not let be finished, so that the next one stands by itself.
func cutTorn(fd int) error {
	end, err := unix.Seek(fd, 0, 2)
	if err != nil {
		return err
	}
	var b [1]byte
	for at := end; at > 0; at-- {
		if _, err := unix.Pread(fd, b[:], at-1); err != nil {
			return err
		}
		if b[0] == '\n' {
			if at == end {
				return nil
			}
			return unix.Ftruncate(fd, at)
		}
	}
	return unix.Ftruncate(fd, 0)
}

// Keep keeps what the project has at a path, unless it was kept before in this entry.
func (e *Entry) Keep(rel string) error {
	if e.kept[rel] {
		return nil
	}
	if !beneath.Valid(rel) {
		return fmt.Errorf("bug: %q is no path in a project", rel)
	}
	parent, err := beneath.Parent(e.h.project, rel)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	before, err := statAt(parent, path.Base(rel))
	if err == nil {
		before, err = e.keepAt(parent, path.Base(rel), before)
	}
	if err != nil {
		return err
	}
	return e.record(line{Path: bytes(rel), Before: &before})
}

// Aside keeps what somebody would have put at a path: Undo of this entry puts it there, if the host has still what it has now.
func (e *Entry) Aside(rel string, s State, content *os.File) (err error) {
	if content != nil {
		if s.Object, err = e.keepContent(content, s.Size); err != nil {
			return err
		}
	}
	if err := e.record(line{Path: bytes(rel), Before: &s}); err != nil {
		return err
	}
	return e.After(rel)
}

// After says what a path is now, by which undo tells later whether the host moved on.
func (e *Entry) After(rel string) error {
	after, err := e.after(rel)
	if err != nil {
		return err
	}
	e.changed++
	return e.record(line{Path: bytes(rel), After: &after})
}

func (e *Entry) after(rel string) (State, error) {
	parent, err := beneath.Parent(e.h.project, rel)
	if beneath.Absent(err) {
		return State{}, nil
	}
	if err != nil {
		return State{}, err
	}
	defer unix.Close(parent)
	after, err := statAt(parent, path.Base(rel))
	if err == nil && after.Type == File && after.Size <= maxDigest {
		var f *os.File
		if f, err = openSame(parent, path.Base(rel), after); err == nil {
			after.Digest, err = digest(f)
			f.Close()
		}
	}
	if errors.Is(err, unix.EACCES) {
		err = nil // known by its size and time, then
	}
	return after, err
}

var errOther = errors.New("it is no file, directory or link, so it could not be brought back")

// keepAt keeps the content and the attributes of an entry that was seen as s.
func (e *Entry) keepAt(parent int, name string, s State) (State, error) {
	switch s.Type {
	case Other:
		return s, errOther
	case Dir:
		fd, err := beneath.Open(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
		if err == nil { // one that may not be read has no attributes that we could
			s.Attributes = attributes(fd)
			unix.Close(fd)
		}
		return s, nil
	case File:
		f, err := openSame(parent, name, s)
		if err != nil {
			return s, err
		}
		defer f.Close()
		s.Attributes = attributes(int(f.Fd()))
		if e.what == Live {
			s.Content, err = e.shareContent(f, s)
		} else {
			s.Object, err = e.keepContent(f, s.Size)
		}
		if err != nil {
			return s, err
		}
		if now, err := statFd(int(f.Fd())); err != nil || !s.same(now) {
			return s, errors.Join(err, beneath.ErrReplaced)
		}
	}
	return s, nil
}

func (e *Entry) keepContent(f *os.File, size int64) (int, error) {
	if err := e.openObjects(); err != nil {
		return 0, err
	}
	e.next++
	fd, err := unix.Openat(e.objects, strconv.Itoa(e.next), newFile, 0o600)
	if errors.Is(err, unix.EEXIST) { // of a process that died before it said so
		fd, err = unix.Openat(e.objects, strconv.Itoa(e.next), unix.O_WRONLY|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return 0, fmt.Errorf("keep it: %w", err)
	}
	object := os.NewFile(uintptr(fd), "object")
	defer object.Close()
	err = beneath.Copy(object, f, size)
	if err == nil && e.few {
		err = unix.Fsync(fd)
	}
	if err != nil {
		_ = unix.Unlinkat(e.objects, strconv.Itoa(e.next), 0)
		return 0, fmt.Errorf("keep it: %w", err)
	}
	return e.next, nil
}

func (e *Entry) openObjects() (err error) {
	if e.objects >= 0 {
		return nil
	}
	if err := unix.Mkdirat(e.dir, "objects", 0o700); err != nil && err != unix.EEXIST {
		return fmt.Errorf("keep it: %w", err)
	}
	if e.objects, err = unix.Openat(e.dir, "objects", openDir, 0); err != nil {
		e.objects = -1
	}
	return err
}

// record adds a line to the journal; flush writes it.
func (e *Entry) record(l line) error {
	data, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("bug: history: %v", err)
	}
	if l.Before != nil && !l.Parent {
		e.kept[string(l.Path)] = true
	}
	e.buffer = append(append(e.buffer, data...), '\n')
	if len(e.buffer) > 1<<16 {
		return e.flush(false)
	}
	return nil
}

func (e *Entry) flush(sync bool) error {
	for len(e.buffer) > 0 {
		n, err := unix.Write(e.journal, e.buffer)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("write history entry %d: %w", e.Number, err)
		}
		e.buffer = e.buffer[max(n, 0):]
	}
	e.buffer = nil
	if sync {
		if err := unix.Fsync(e.journal); err != nil {
			return fmt.Errorf("write history entry %d: %w", e.Number, err)
		}
	}
	return nil
}

// Sync makes durable all that was kept so far. Only then may the project be changed.
func (e *Entry) Sync() error {
	if err := e.flush(e.few); err != nil {
		return err
	}
	if !e.few {
		if err := unix.Syncfs(e.dir); err != nil {
			return fmt.Errorf("write history entry %d: %w", e.Number, err)
		}
		return nil
	}
	if e.objects >= 0 {
		if err := unix.Fsync(e.objects); err != nil {
			return fmt.Errorf("write history entry %d: %w", e.Number, err)
		}
	}
	return unix.Fsync(e.dir)
}

// End ends the entry. One in which nothing was changed disappears.
func (e *Entry) End() error { return e.end(false) }

func (e *Entry) end(complete bool) error {
	defer e.close()
	if e.changed == 0 {
		return e.abandon()
	}
	err := e.record(line{End: true, Complete: complete})
	if err == nil {
		err = e.flush(true)
	}
	if err == nil {
		err = unlinkOpen(e.h.dir, e.Number)
	}
	return err
}

// abandon removes an entry of which nothing came.
func (e *Entry) abandon() error {
	err := os.RemoveAll(path.Join(e.h.Dir, strconv.Itoa(e.Number)))
	if err == nil {
		err = unlinkOpen(e.h.dir, e.Number)
	}
	e.close()
	return err
}

func (e *Entry) close() {
	for _, fd := range []*int{&e.held, &e.dir, &e.journal, &e.objects, &e.contents} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
	for _, fd := range e.others {
		unix.Close(fd)
	}
	e.others = nil
}
