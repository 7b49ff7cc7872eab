// Package store keeps sandboxes on disk: their directories, locks and records, so that a crash at any point leaves them readable.
package store

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Store is the state directory of one user.
type Store struct{ Root string }

// Record describes one sandbox, running or kept.
type Record struct {
	ID        string      `json:"id"`
	Project   string      `json:"project,omitempty"` // host path; empty without a project
	Command   []string    `json:"command"`
	Mode      string      `json:"mode"`
	Workspace string      `json:"workspace"`         // held, live, readonly, none
	By        string      `json:"by"`                // overlay, copy, bind, tmpfs
	Born      time.Time   `json:"born"`              // when the layer was made: what the host changed later is a conflict
	Mounted   []time.Time `json:"mounted,omitempty"` // when each run's overlay was mounted
	Started   time.Time   `json:"started"`           // of the last run
	Ended     time.Time   `json:"ended,omitzero"`    // zero while it runs, or after a crash
	PID       int         `json:"pid"`               // of the supervisor
	Exit      int         `json:"exit"`
	Reason    string      `json:"reason,omitempty"`
	Hidden    []string    `json:"rehidden,omitempty"` // paths hidden during the run by a whiteout in the layer, which are no deletions
	Protect   []string    `json:"protect,omitempty"`  // the policy's own protect patterns, for the review
	Hide      [][]string  `json:"hide,omitempty"`     // the hide patterns in force, as policy.HideSets gives them
	Cgroups   []string    `json:"cgroups,omitempty"`
}

// Sandbox is one sandbox's directory.
type Sandbox struct {
	Record  Record
	Dir     string
	Running bool // another process holds the lock
	lock    *os.File
}

// Open finds the user's state directory and makes it if need be. A directory that another user owns or can write is refused: who can write
// it could change what is applied to the host.
func Open(stateHome, home string) (*Store, error) {
	if stateHome == "" {
		if home == "" {
			return nil, errors.New("neither XDG_STATE_HOME nor HOME is set, so there is no place to keep sandboxes")
		}
		stateHome = filepath.Join(home, ".local", "state")
	}
	if !filepath.IsAbs(stateHome) {
		return nil, fmt.Errorf("XDG_STATE_HOME is %q, which is not an absolute path", stateHome)
	}
	s := &Store{Root: filepath.Join(stateHome, "casemate")}
	st, err := os.Lstat(s.Root)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(s.Root, 0o700); err != nil {
			return nil, fmt.Errorf("state directory: %w", err)
		}
		st, err = os.Lstat(s.Root)
	}
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	return s, trusted(s.Root, st)
}

func trusted(path string, st fs.FileInfo) error {
	if !st.IsDir() {
		return fmt.Errorf("state directory %q is not a directory", path)
	}
	if owner := int(st.Sys().(*syscall.Stat_t).Uid); owner != os.Geteuid() {
		return fmt.Errorf("state directory %q belongs to user %d, not to you: move it away or set XDG_STATE_HOME", path, owner)
	}
	if st.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("state directory %q can be written by others (mode %o): chmod 700 it after looking at what is in it", path, st.Mode().Perm())
	}
	return nil
}

// Key names a project's own directory: stable, and free of the path's bytes.
func Key(project string) string {
	sum := sha256.Sum256([]byte(project))
	return hex.EncodeToString(sum[:8])
}

// Project returns the directory with a project's mask, index and home.
func (s *Store) Project(project string) string {
	return filepath.Join(s.Root, "projects", Key(project))
}

// Etc returns the directory with prepared /etc trees.
func (s *Store) Etc() string { return filepath.Join(s.Root, "etc") }

func (s *Store) sandboxes() string { return filepath.Join(s.Root, "sandboxes") }

const alphabet = "abcdefghijkmnpqrstuvwxyz23456789" // 32 letters that are told apart when read aloud

func newID() string {
	var b [8]byte
	rand.Read(b[:])
	for i := range b {
		b[i] = alphabet[b[i]%32]
	}
	return string(b[:])
}

// New makes a sandbox directory and locks it.
func (s *Store) New() (*Sandbox, error) {
	id := newID()
	dir := filepath.Join(s.sandboxes(), id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("sandbox directory: %w", err)
	}
	b := &Sandbox{Record: Record{ID: id}, Dir: dir}
	return b, b.Lock()
}

// ErrRunning says that another process runs the sandbox.
var ErrRunning = errors.New("the sandbox is running")

// Lock takes the sandbox for this process. The kernel releases it when the process ends, however it ends.
func (b *Sandbox) Lock() error {
	f, err := os.OpenFile(filepath.Join(b.Dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("sandbox %s: %w", b.Record.ID, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return fmt.Errorf("sandbox %s: %w", b.Record.ID, ErrRunning)
	}
	b.lock = f
	return nil
}

// Unlock lets other processes take the sandbox.
func (b *Sandbox) Unlock() {
	if b.lock != nil {
		b.lock.Close()
		b.lock = nil
	}
}

// Save writes the record: whole or not at all, whenever the machine stops.
func (b *Sandbox) Save() error {
	data, err := json.MarshalIndent(b.Record, "", "\t")
	if err != nil {
		return fmt.Errorf("bug: sandbox record: %v", err)
	}
	return WriteFile(filepath.Join(b.Dir, "sandbox.json"), append(data, '\n'), 0o600)
}

// Layer returns the directory of the change layer.
func (b *Sandbox) Layer() string { return filepath.Join(b.Dir, "layer") }

// Events returns the file that the sandbox's events are appended to.
func (b *Sandbox) Events() string { return filepath.Join(b.Dir, "events.jsonl") }

// List returns all sandboxes, newest run first. A directory without a readable record, as a crash may leave one, has only an ID.
func (s *Store) List() ([]*Sandbox, error) {
	names, err := os.ReadDir(s.sandboxes())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("sandboxes: %w", err)
	}
	var list []*Sandbox
	for _, n := range names {
		if n.IsDir() {
			list = append(list, s.read(n.Name()))
		}
	}
	slices.SortFunc(list, func(a, b *Sandbox) int { return b.Record.Started.Compare(a.Record.Started) })
	return list, nil
}

func (s *Store) read(id string) *Sandbox {
	b := &Sandbox{Record: Record{ID: id}, Dir: filepath.Join(s.sandboxes(), id)}
	if data, err := os.ReadFile(filepath.Join(b.Dir, "sandbox.json")); err == nil {
		var r Record
		if json.Unmarshal(data, &r) == nil && r.ID == id {
			b.Record = r
		}
	}
	if f, err := os.Open(filepath.Join(b.Dir, "lock")); err == nil {
		b.Running = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
		f.Close()
	}
	return b
}

// Find returns the sandbox whose id is, or starts with, the given text.
func (s *Store) Find(id string) (*Sandbox, error) {
	list, err := s.List()
	if err != nil {
		return nil, err
	}
	var found []*Sandbox
	for _, b := range list {
		if b.Record.ID == id {
			return b, nil
		}
		if id != "" && strings.HasPrefix(b.Record.ID, id) {
			found = append(found, b)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("there is no sandbox %q: casemate ps -a lists them", id)
	case 1:
		return found[0], nil
	default:
		return nil, fmt.Errorf("%q is the beginning of %d sandboxes: give more letters", id, len(found))
	}
}

// WriteFile replaces the file at path: readers and crashes see the old or the new content, never a part.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, perm)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		os.Remove(path + ".new")
	}
	return err
}

// HasLayer says whether the sandbox has a change layer to go on with.
func (b *Sandbox) HasLayer() bool {
	st, err := os.Lstat(b.Layer())
	return err == nil && st.IsDir()
}

// Note writes beside a project's directories which project they are of, unless it is written already.
func Note(dir, project string) error {
	path := filepath.Join(dir, "project")
	if old, err := os.ReadFile(path); err == nil && string(old) == project {
		return nil
	}
	return WriteFile(path, []byte(project), 0o600)
}
