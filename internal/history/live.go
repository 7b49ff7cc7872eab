package history

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"casemate.dev/internal/beneath"
	"golang.org/x/sys/unix"
)

// Walk goes through a project, parents first: keep is called for what undo shall be able to bring back, skip for what it shall not touch,
// neither as it is nor beneath.
type Walk func(keep, skip func(rel string) error) error

// Unkept is something that undo will not bring back, and why.
type Unkept struct{ Path, Why string }

// Snapshot opens the entry of a live workspace with all that the project holds, durable when it returns.
func (h *Log) Snapshot(sandbox string, walk Walk) (*Entry, []Unkept, error) {
	e, err := h.Begin(Live, sandbox, 0)
	if err != nil {
		return nil, nil, err
	}
	unkept, err := e.snapshot(walk)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("keep the project as it is: %w", err), e.abandon())
	}
	return e, unkept, nil
}

func (e *Entry) snapshot(walk Walk) (unkept []Unkept, err error) {
	if err := e.record(line{Parent: true, Before: &e.owner}); err != nil {
		return nil, err
	}
	skip := func(rel string) error { return e.record(line{Path: bytes(rel), Skipped: true}) }
	err = walk(func(rel string) error {
		err := e.keepLive(rel)
		switch {
		case err == nil || Hopeless(err):
			return err
		case !errors.Is(err, errOther):
			unkept = append(unkept, Unkept{rel, Reason(err)})
		}
		return skip(rel)
	}, skip)
	if err == nil {
		err = e.Sync()
	}
	return unkept, err
}

// keepLive keeps one path, which the person may be saving just now.
func (e *Entry) keepLive(rel string) (err error) {
	for range 5 {
		if err = e.Keep(rel); !errors.Is(err, beneath.ErrReplaced) {
			break
		}
	}
	return err
}

// Settle ends the entry of a live workspace: what is not as it was is recorded, and what is needs no place on disk any more. It returns how
// many paths were changed. If nothing was, the entry disappears.
func (e *Entry) Settle(walk Walk) (changed int, err error) {
	defer e.close()
	if err := e.flush(true); err != nil {
		return 0, err
	}
	p, err := readEntry(e.h.Dir, e.Number)
	if err != nil {
		return 0, err
	}
	s := &settling{e: e, p: p, used: map[string]bool{}}
	if err := s.unlockAll(); err != nil {
		return 0, err
	}
	for _, rel := range slices.Sorted(maps.Keys(p.Paths)) {
		if err := s.compare(rel, p.Paths[rel]); err != nil {
			return 0, err
		}
	}
	err = walk(s.fresh, func(string) error { return nil })
	if err != nil {
		return 0, err
	}
	if s.changed == 0 {
		err = e.abandon()
	} else {
		err = s.write()
	}
	if err == nil {
		e.dropContents(s.used)
	}
	return s.changed, err
}

// settling compares a project with what it was.
type settling struct {
	e       *Entry
	p       *Past
	lines   []line
	used    map[string]bool // contents that files of the project still hold
	changed int
}

func (s *settling) compare(rel string, q *Path) error {
	if q.Skipped {
		return nil
	}
	now, open, err := s.e.h.look(rel)
	if rel == "" {
		now, err = statFd(s.e.h.project)
	}
	switch {
	case err != nil:
		return fmt.Errorf("look at %q: %w", rel, err)
	case q.Parent || q.Before.Type == Dir && now.Type == Dir && q.Before.Mode == now.Mode:
		if now.Type == Dir && q.Before.Mtime != now.Mtime {
			s.lines = append(s.lines, line{Path: bytes(rel), Before: q.Before, After: &now, Parent: true})
		}
		return nil
	case s.unchanged(q.Before, now, open):
		s.used[contentName(now)] = true
		return nil
	}
	return s.record(rel, q.Before)
}

// unchanged reports whether a path is as it was. A file that was written has another ctime; one that was only touched is read.
func (s *settling) unchanged(before *State, now State, open func() (*os.File, error)) bool {
	switch {
	case before.Type != now.Type || before.Link != now.Link || before.Mode != now.Mode && now.Type != Symlink:
		return false
	case now.Type != File || before.Content == contentName(now):
		return true
	case before.Size != now.Size || before.Mtime != now.Mtime:
		return false
	}
	kept := s.e.openKept(before.Content)
	if kept == nil {
		return false
	}
	defer kept.Close()
	f, err := open()
	if err != nil {
		return false
	}
	defer f.Close()
	return equal(kept, f)
}

func equal(a, b io.Reader) bool {
	x, y := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(a, x)
		m, _ := io.ReadFull(b, y)
		if !slices.Equal(x[:n], y[:m]) {
			return false
		}
		if err != nil {
			return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		}
	}
}

// fresh records a path that was not there.
func (s *settling) fresh(rel string) error {
	for at := rel; at != ""; at = beneath.Dir(at) {
		if q := s.p.Paths[at]; q != nil && (at == rel || q.Skipped) {
			return nil
		}
	}
	s.unlock(rel)
	return s.record(rel, &State{})
}

func (s *settling) record(rel string, before *State) error {
	after, err := s.e.after(rel)
	if err != nil {
		return fmt.Errorf("look at %q: %w", rel, err)
	}
	if before.Type == Absent && (after.Type == Absent || after.Type == Other) {
		return nil
	}
	if before.Content != "" {
		if err := s.e.own(before.Content); err != nil {
			return err
		}
	}
	s.changed++
	s.lines = append(s.lines, line{Path: bytes(rel), Before: before, After: &after})
	return nil
}

// unlockAll opens the directories and files that the sandbox closed to their owner: what lies in one could be neither compared, kept nor brought back,
// so a run that ends with chmod(1) would keep all it did. The project's own directory, of which the entry keeps no more than its time, gets back the mode it had.
func (s *settling) unlockAll() error {
	now, err := statFd(s.e.h.project)
	if root := s.p.Paths[""]; err == nil && root != nil && root.Before != nil && root.Before.Mode != now.Mode {
		err = chmodFd(s.e.h.project, root.Before.Mode)
	}
	if err != nil {
		return fmt.Errorf("give the project's directory its mode back: %w", err)
	}
	for _, rel := range slices.Sorted(maps.Keys(s.p.Paths)) {
		if q := s.p.Paths[rel]; !q.Skipped && q.Before != nil && q.Before.Mode&needed(*q.Before) == needed(*q.Before) {
			s.unlock(rel)
		}
	}
	return nil
}

// unlock gives the owner of a directory every right to it, and of a file that to read it. It follows no link.
func (s *settling) unlock(rel string) {
	fd, err := beneath.Open(s.e.h.project, rel, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if now, err := statFd(fd); err == nil && now.Mode&needed(now) != needed(now) {
		_ = chmodFd(fd, now.Mode|needed(now))
	}
}

// needed are the rights without which undo can do nothing with an entry of ours.
func needed(s State) uint32 {
	switch s.Type {
	case Dir:
		return 0o700
	case File:
		return 0o400
	}
	return 0
}

// write replaces the journal, in one step, with one that says what was changed and that it is the end: cut short before, everything is compared
// again; after it, there is nothing to be done.
func (s *settling) write() error {
	e := s.e
	data, err := os.ReadFile(filepath.Join(s.p.dir, journalName))
	if err != nil {
		return fmt.Errorf("history entry %d: %w", e.Number, err)
	}
	out := slices.Clip(data[:slices.Index(data, 0x0a)+1])
	for _, l := range append(s.lines, line{End: true, Complete: true}) {
		text, err := json.Marshal(l)
		if err != nil {
			return fmt.Errorf("bug: history: %v", err)
		}
		out = append(append(out, text...), '\n')
	}
	if e.objects >= 0 {
		if err := unix.Fsync(e.objects); err != nil {
			return fmt.Errorf("write history entry %d: %w", e.Number, err)
		}
	}
	e.h.step("settle")
	if err := replaceFile(e.dir, journalName, out); err != nil {
		return fmt.Errorf("write history entry %d: %w", e.Number, err)
	}
	e.h.step("settled")
	return unlinkOpen(e.h.dir, e.Number)
}

// replaceFile puts a complete and durable file in the place of another.
func replaceFile(dir int, name string, data []byte) error {
	tmp := name + ".new"
	fd, err := unix.Openat(dir, tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), tmp)
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := unix.Renameat(dir, tmp, dir, name); err != nil {
		return err
	}
	return unix.Fsync(dir)
}

// Unfinished lists the entries of live workspaces whose process has died.
func (h *Log) Unfinished() ([]int, error) {
	_, unended, err := h.numbers()
	if err != nil {
		return nil, err
	}
	var found []int
	for _, n := range unended {
		p, err := readEntry(h.Dir, n)
		if err != nil || p.What != Live || p.Ended {
			continue
		}
		e, err := h.take(n)
		if err != nil || e == nil {
			continue
		}
		e.close()
		found = append(found, n)
	}
	return found, nil
}
