// Package history is what the project's files were before Casemate changed them, so that undo brings them back exactly.
//
// A Log is the history of one project, in its state directory: history/NUMBER/ is an Entry, with a journal of what each path was and became, and
// the content that was replaced in objects/. Whoever changes files of a project opens an entry first:
//
//   - Who replaces files (apply, undo) hands all of it to Entry.Carry, which keeps each path, makes that durable, and only then changes it, in
//     one step for each file.
//   - Who cannot be there when files change (a live workspace) has all of it kept at the start by Log.Snapshot, and at the end what is not as it
//     was recorded by Entry.Settle. If the process died, Log.Resume opens the entry again.
//
// Then Log.Undo brings it back, unless the host moved on since, and what it does is an entry too. Nothing here is ever removed but by Log.Remove.
package history

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"casemate.dev/internal/beneath"
	"golang.org/x/sys/unix"
)

// Log is the history of one project.
type Log struct {
	Dir     string // of the history; nobody but the user can write to it, and no sandbox reaches it
	Project string

	// Step, if set, is called before each step after which a crash would leave something else behind. It is for tests.
	Step func(name string)

	dir, project int
	lock         int
	locked       bool
}

// Open opens the history of a project, and makes its directory on first use (Begin).
func Open(dir, project string) (*Log, error) {
	fd, err := unix.Open(project, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open directory %q: %w", project, err)
	}
	return &Log{Dir: dir, Project: project, dir: -1, project: fd}, nil
}

// Close closes the descriptors.
func (h *Log) Close() error {
	h.Unlock()
	if h.dir >= 0 {
		unix.Close(h.dir)
	}
	return unix.Close(h.project)
}

func (h *Log) step(name string) {
	if h.Step != nil {
		h.Step(name)
	}
}

// patience is how long one who applies or undoes waits for another.
const patience = 2 * time.Second

// Lock keeps others from applying or undoing in the same project.
func (h *Log) Lock() error { return h.lockFor(patience) }

func (h *Log) lockFor(patience time.Duration) error {
	if err := h.open(); err != nil {
		return err
	}
	fd, err := unix.Openat(h.dir, "lock", unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("history %q: %w", h.Dir, err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			h.lock, h.locked = fd, true
			return nil
		}
		if err != unix.EINTR && err != unix.EWOULDBLOCK || time.Now().After(deadline) {
			unix.Close(fd)
			return fmt.Errorf("another process applies or undoes changes of %q", h.Project)
		}
	}
}

// Unlock lets the others.
func (h *Log) Unlock() {
	if h.locked {
		unix.Close(h.lock)
		h.locked = false
	}
}

func (h *Log) open() error {
	if h.dir >= 0 {
		return nil
	}
	err := os.Mkdir(h.Dir, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		err = os.MkdirAll(h.Dir, 0o700)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("history: %w", err)
	}
	if h.dir, err = unix.Open(h.Dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err != nil {
		h.dir = -1
		return fmt.Errorf("open history %q: %w", h.Dir, err)
	}
	return nil
}

const (
	tokenLength = 24
	openPrefix  = "open-" // the file by which an entry that is being written is known, and locked
	tmpPrefix   = ".casemate-"
)

// Begin opens a new entry. of is the entry that an undo undoes. It happens under the lock: another process' Recover would take one that is half made
// for one whose process was killed.
func (h *Log) Begin(what What, sandbox string, of int) (*Entry, error) {
	if !h.locked {
		if err := h.Lock(); err != nil {
			return nil, err
		}
		defer h.Unlock()
	}
	var b [tokenLength / 2]byte
	if _, err := unix.Getrandom(b[:], 0); err != nil {
		return nil, fmt.Errorf("make a name for temporary files: %w", err)
	}
	e := newEntry(h)
	e.token, e.what = hex.EncodeToString(b[:]), what
	numbers, _, err := h.numbers()
	if err != nil {
		return nil, err
	}
	for e.Number = last(numbers) + 1; ; e.Number++ {
		err := unix.Mkdirat(h.dir, strconv.Itoa(e.Number), 0o700)
		if err == nil {
			break
		}
		if err != unix.EEXIST {
			return nil, fmt.Errorf("make an entry in %q: %w", h.Dir, err)
		}
	}
	h.step("named")
	if err := e.create(head{1, what, sandbox, h.Project, of, time.Now().UTC(), e.token}); err != nil {
		e.abandon()
		return nil, fmt.Errorf("make an entry in %q: %w", h.Dir, err)
	}
	return e, nil
}

func last(numbers []int) int {
	if len(numbers) == 0 {
		return 0
	}
	return numbers[len(numbers)-1]
}

// numbers lists the entries, and those that were not ended.
func (h *Log) numbers() (all, unended []int, err error) {
	names, err := os.ReadDir(h.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("history: %w", err)
	}
	for _, d := range names {
		if n, err := strconv.Atoi(d.Name()); err == nil && n > 0 && d.IsDir() {
			all = append(all, n)
		}
		if text, ok := strings.CutPrefix(d.Name(), openPrefix); ok {
			if n, err := strconv.Atoi(text); err == nil && n > 0 {
				unended = append(unended, n)
			}
		}
	}
	slices.Sort(all)
	slices.Sort(unended)
	return all, unended, nil
}

// Numbers lists the entries, oldest first.
func (h *Log) Numbers() ([]int, error) {
	all, _, err := h.numbers()
	return all, err
}

// Has says whether there is an entry of that number.
func (h *Log) Has(number int) bool {
	all, _, err := h.numbers()
	return err == nil && slices.Contains(all, number)
}

// Recover cleans up after processes that were killed while they changed the project: the temporary files go. What they had changed is on record
// and can be undone. Entries of live workspaces are left for Resume. While another process applies or undoes, it leaves all of it for the next time.
func (h *Log) Recover() error {
	all, unended, err := h.numbers()
	if err != nil || len(unended) == 0 && !h.unmade(last(all)) {
		return err
	}
	if !h.locked {
		if h.lockFor(0) != nil {
			return nil
		}
		defer h.Unlock()
	}
	if h.unmade(last(all)) {
		_ = os.Remove(filepath.Join(h.Dir, strconv.Itoa(last(all)))) // nothing was written for it
	}
	for _, n := range unended {
		if err := h.recover(n); err != nil {
			return err
		}
	}
	return nil
}

// unmade reports an entry whose process was killed before it wrote anything.
func (h *Log) unmade(number int) bool {
	names, err := os.ReadDir(filepath.Join(h.Dir, strconv.Itoa(number)))
	_, e := os.Lstat(filepath.Join(h.Dir, openPrefix+strconv.Itoa(number)))
	return number > 0 && err == nil && len(names) == 0 && errors.Is(e, fs.ErrNotExist)
}

func (h *Log) recover(number int) error {
	e, err := h.take(number)
	if e == nil || err != nil {
		return err
	}
	defer e.close()
	p, err := readEntry(h.Dir, number)
	if errors.Is(err, errEmpty) { // it fell before the first line was whole, so nothing was changed
		return e.abandon()
	}
	if err != nil {
		return nil // damaged: List says so, and nothing of it is touched
	}
	if p.What == Live && !p.Ended {
		return nil
	}
	for dir := range p.directories() {
		h.removeTemporaries(dir, tmpPrefix+p.token+"-")
	}
	return unlinkOpen(h.dir, number)
}

// take locks an entry that was not ended, or returns nil if its writer lives.
func (h *Log) take(number int) (*Entry, error) {
	if err := h.open(); err != nil {
		return nil, err
	}
	e := newEntry(h)
	e.Number = number
	fd, err := unix.Openat(h.dir, openPrefix+strconv.Itoa(number), unix.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("history entry %d: %w", number, err)
	}
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != nil {
		unix.Close(fd)
		return nil, nil
	}
	e.held = fd
	return e, nil
}

// directories are those that temporary files of the entry may lie in.
func (p *Past) directories() map[string]bool {
	dirs := map[string]bool{}
	for rel, q := range p.Paths {
		if !q.Parent {
			dirs[beneath.Dir(rel)] = true
		}
	}
	return dirs
}

func (h *Log) removeTemporaries(dir, prefix string) {
	fd, err := beneath.Open(h.project, dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return // it is not there any more, or was never made
	}
	defer unix.Close(fd)
	names, _ := beneath.Names(fd)
	for _, name := range names {
		if strings.HasPrefix(name, prefix) {
			if unix.Unlinkat(fd, name, 0) == unix.EISDIR {
				_ = unix.Unlinkat(fd, name, unix.AT_REMOVEDIR)
			}
		}
	}
}

func unlinkOpen(dir, number int) error {
	err := unix.Unlinkat(dir, openPrefix+strconv.Itoa(number), 0)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("end history entry %d: %w", number, err)
	}
	return nil
}

// List reads all entries, newest first. Those that cannot be read are told by the error, beside the others.
func (h *Log) List() ([]*Past, error) {
	numbers, _, err := h.numbers()
	if err != nil {
		return nil, err
	}
	var list []*Past
	var errs []error
	for _, n := range slices.Backward(numbers) {
		p, err := readEntry(h.Dir, n)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		list = append(list, p)
	}
	return list, errors.Join(errs...)
}

// Size is what an entry takes on disk, in bytes. Content that is shared with the project's files (FICLONE) counts in full.
func (p *Past) Size() int64 {
	var sum int64
	_ = filepath.WalkDir(p.dir, func(path string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil && unix.Lstat(path, &st) == nil {
			sum += st.Blocks * 512
		}
		return nil
	})
	return sum
}

// Remove deletes entries for good: what they keep cannot be brought back any more. One that is being written is refused.
func (h *Log) Remove(numbers ...int) error {
	for _, n := range numbers {
		e, err := h.take(n)
		if err != nil {
			return err
		}
		if e == nil && exists(h.dir, openPrefix+strconv.Itoa(n)) {
			return fmt.Errorf("history entry %d is being written", n)
		}
		err = os.RemoveAll(filepath.Join(h.Dir, strconv.Itoa(n)))
		if err == nil {
			err = unlinkOpen(h.dir, n)
		}
		if e != nil {
			e.close()
		}
		if err != nil {
			return fmt.Errorf("remove history entry %d: %w", n, err)
		}
	}
	return nil
}

func exists(dir int, name string) bool {
	return unix.Faccessat(dir, name, unix.F_OK, unix.AT_SYMLINK_NOFOLLOW) == nil
}
