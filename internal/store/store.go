// Package store keeps sandboxes on disk: their directories, locks and records, so that a crash at any point leaves them readable.
package store

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Store is the state directory of one user.
type Store struct{ Root string }

// Record describes one sandbox, running or kept.
type Record struct {
	ID        string            `json:"id"`
	Project   string            `json:"project,omitempty"` // host path; empty without a project
	Command   []string          `json:"command"`
	Mode      string            `json:"mode"`
	Workspace string            `json:"workspace"`          // held, live, readonly, none
	By        string            `json:"by"`                 // overlay, copy, bind, tmpfs
	Born      time.Time         `json:"born"`               // when the layer was made: what the host changed later is a conflict
	Mounted   []time.Time       `json:"mounted,omitempty"`  // when each run's overlay was mounted
	Started   time.Time         `json:"started"`            // of the last run
	Ended     time.Time         `json:"ended,omitzero"`     // zero while it runs, or after a crash
	Network   string            `json:"network,omitempty"`  // gate: what is allowed can be reached, and more be allowed while it runs
	Name      string            `json:"name,omitempty"`     // while it runs: by which others reach it
	Internal  []string          `json:"internal,omitempty"` // while it runs: the private networks that it is on
	Ports     []string          `json:"ports,omitempty"`    // while it runs: HOST:INSIDE, a port of the host's loopback and the one inside that is behind it
	Policy    string            `json:"policy,omitempty"`   // while it runs: what of the policy files does not hold in it, as they changed
	UID       int               `json:"uid"`                // of the sandbox, whose the layer is
	PID       int               `json:"pid"`                // of the supervisor
	PIDStart  uint64            `json:"pid_start,omitzero"` // when that process started (field 22 of proc_pid_stat(5)): its number may become another's
	Exit      int               `json:"exit"`
	Reason    string            `json:"reason,omitempty"`
	Hidden    []string          `json:"rehidden,omitempty"` // paths hidden during the run by a whiteout in the layer, which are no deletions; and those hidden for another reason than a pattern
	Protect   []string          `json:"protect,omitempty"`  // the policy's own protect patterns, for the review
	Hide      []string          `json:"hide,omitempty"`     // the hide patterns in force
	Aliases   map[string]string `json:"aliases,omitempty"`  // paths that the host executes although their names do not say so, with the reason
	Origin    string            `json:"origin,omitempty"`   // the sandbox that this one was copied from
	Forked    time.Time         `json:"forked,omitzero"`    // when
	Snapshot  bool              `json:"snapshot,omitempty"` // no run goes on with it
	Cgroups   []string          `json:"cgroups,omitempty"`
	Objects   string            `json:"objects,omitempty"` // git's object database, which the index kept beside the record speaks of
	Git       map[string]string `json:"git,omitempty"`     // git directories outside of the project with a layer of their own, and the .git in the project that is of each
	Placed    map[string]string `json:"placed,omitempty"`  // git indexes that we laid into the layer, by their path on the host, with their digests
}

// Sandbox is one sandbox's directory.
type Sandbox struct {
	Record  Record
	Dir     string
	Running bool // another process holds the lock
	Damaged bool // there is a record that cannot be read
	Reused  bool // New took the spare one: its directories are there
	locked  bool
	lock    int // descriptor, while locked
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
	// Never short for 8 bytes. Package crypto/rand would cost every start its inits, and unix.Getrandom a page for the kernel's generator in user space.
	unix.RawSyscall(unix.SYS_GETRANDOM, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0)
	for i := range b {
		b[i] = alphabet[b[i]%32]
	}
	return string(b[:])
}

// New makes a sandbox directory and locks it. Where an earlier run of the project has left a spare one, that is taken: to make and remove
// five directories takes longer than the sandbox does. Dead finds none in between, as it waits for its turn.
func (s *Store) New(project string) (*Sandbox, error) {
	turn, err := s.turn(unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	defer unix.Close(turn)
	b := s.named(newID())
	if project != "" && s.takeSpare(b, project) {
		if b.Lock() == nil {
			b.Reused = true
			return b, nil
		}
		b = s.named(newID()) // who put it aside has not let go of it yet; what is left there is found dead
	}
	if err := MakeDir(b.Dir); err != nil {
		return nil, fmt.Errorf("sandbox directory: %w", err)
	}
	return b, b.Lock()
}

// turn takes the lock of the directory of all sandboxes: shared to make one, alone to look for dead ones.
func (s *Store) turn(how int) (int, error) {
	fd, err := unix.Open(s.sandboxes(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		if err := MakeDir(s.sandboxes()); err != nil {
			return -1, fmt.Errorf("sandboxes: %w", err)
		}
		fd, err = unix.Open(s.sandboxes(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return -1, fmt.Errorf("sandboxes: %w", err)
	}
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Flock(fd, how)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("sandboxes: %w", err)
	}
	return fd, nil
}

// Dead locks and returns those of the listed sandboxes that have no record and whose maker is gone: it was killed before the command started. The
// lock tells, as the kernel drops it with the process; nobody is making one meanwhile, and whoever has made one holds its lock.
func (s *Store) Dead(list []*Sandbox) []*Sandbox {
	unrecorded := func(b *Sandbox) bool { return b.Record.Started.IsZero() && !b.Damaged }
	if !slices.ContainsFunc(list, func(b *Sandbox) bool { return unrecorded(b) && !b.Running }) {
		return nil
	}
	turn, err := s.turn(unix.LOCK_EX | unix.LOCK_NB)
	if err != nil {
		return nil // the next time
	}
	defer unix.Close(turn)
	var dead []*Sandbox
	for _, b := range list {
		if !unrecorded(b) || !exists(b.Dir) || b.Lock() != nil {
			continue
		}
		if now := s.read(b.Record.ID); !unrecorded(now) { // it ran and ended since it was listed
			b.Unlock()
			continue
		}
		dead = append(dead, b)
	}
	return dead
}

func exists(dir string) bool {
	var st unix.Stat_t
	return unix.Lstat(dir, &st) == nil
}

func (s *Store) named(id string) *Sandbox {
	return &Sandbox{Record: Record{ID: id}, Dir: filepath.Join(s.sandboxes(), id)}
}

// spares is how many sandboxes that hold nothing a project keeps: for as many runs at once as may follow each other.
const spares = 4

func (s *Store) spare(project string, n int) string {
	return filepath.Join(s.Project(project), "spare"+strconv.Itoa(n))
}

// Spare puts a sandbox whose layer holds nothing aside for the project's next run, unless there are enough already. Only a layer over the same
// project may be used again.
func (s *Store) Spare(b *Sandbox, project string) bool {
	if project == "" {
		return false
	}
	unix.Unlink(b.record())
	for n := range spares {
		if unix.Rename(b.Dir, s.spare(project, n)) == nil {
			b.Unlock() // not before: another run would take it for the kept layer of a crash, and lose it by the rename
			return true
		}
	}
	return false
}

// takeSpare makes one of them b's.
func (s *Store) takeSpare(b *Sandbox, project string) bool {
	for n := range spares {
		if unix.Rename(s.spare(project, n), b.Dir) == nil {
			return true
		}
	}
	return false
}

// ErrRunning says that another process holds the sandbox: as a rule one that runs it. InUse says which.
var ErrRunning = errors.New("the sandbox is in use")

// Runs reports whether the process that holds the sandbox is one that runs a command in it, as the record says. Others look at it, or change it.
func (b *Sandbox) Runs() bool {
	start, err := ProcessStart(b.Record.PID)
	return b.Record.PID > 1 && b.Record.Ended.IsZero() && err == nil && start == b.Record.PIDStart
}

// InUse is ErrRunning in the words for this sandbox, with what to do.
func (b *Sandbox) InUse() error { return &inUse{b.Record.ID, b.Runs()} }

type inUse struct {
	id   string
	runs bool
}

func (u *inUse) Error() string {
	if u.runs {
		return "sandbox " + u.id + " is running"
	}
	return "sandbox " + u.id + " is being used by another casemate command"
}

func (u *inUse) Is(target error) bool { return target == ErrRunning }

// Hint is what to do.
func (u *inUse) Hint() string {
	if u.runs {
		return "wait for its end"
	}
	return "try again when that has ended"
}

// Lock takes the sandbox for this process. The kernel releases it when the process ends, however it ends.
func (b *Sandbox) Lock() error {
	path := filepath.Join(b.Dir, "lock")
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err == unix.EACCES {
		b.allow()
		fd, err = unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	}
	if err != nil {
		return fmt.Errorf("lock of sandbox %s: %w", b.Record.ID, err)
	}
	if err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		unix.Close(fd)
		return b.InUse()
	}
	b.lock, b.locked = fd, true
	return nil
}

// allow gives us back the rights to what is ours alone. A umask has taken them, and nothing could remove it without.
func (b *Sandbox) allow() {
	_ = unix.Chmod(b.Dir, 0o700)
	_ = unix.Fchmodat(unix.AT_FDCWD, filepath.Join(b.Dir, "lock"), 0o600, unix.AT_SYMLINK_NOFOLLOW)
}

// isLocked asks for the lock without taking it (fcntl(2), F_OFD_GETLK): taken for a moment, as flock(2) would, it were in the way of a run.
func isLocked(fd int) bool {
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	return unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &lock) != nil || lock.Type != unix.F_UNLCK
}

// Unlock lets other processes take the sandbox.
func (b *Sandbox) Unlock() {
	if b.locked {
		unix.Close(b.lock)
		b.locked = false
	}
}

// MakeDir makes a private directory and what is missing above it. One that exists is left as it is.
func MakeDir(dir string) error {
	err := unix.Mkdir(dir, 0o700)
	if err == unix.ENOENT {
		if err := MakeDir(filepath.Dir(dir)); err != nil {
			return err
		}
		err = unix.Mkdir(dir, 0o700)
	}
	if err == nil || err == unix.EEXIST {
		return nil
	}
	return &fs.PathError{Op: "make directory", Path: dir, Err: err}
}

// Save writes the record: whole or not at all, also when casemate is killed; with sync also when the machine stops.
func (b *Sandbox) Save(sync bool) error {
	r := b.Record
	r.each(escape)
	return replace(b.record(), append(r.encode(), '\n'), 0o600, sync)
}

func (b *Sandbox) record() string { return filepath.Join(b.Dir, "sandbox.json") }

// Forget removes the record: from then on the rest is a leftover, and no run goes on with what is still there of it.
func (b *Sandbox) Forget() error {
	if err := os.Remove(b.record()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("sandbox %s: %w", b.Record.ID, err)
	}
	return nil
}

// Layer returns the directory of the change layer.
func (b *Sandbox) Layer() string { return filepath.Join(b.Dir, "layer") }

// maxRecord is more than a command line and the paths of a hostile project come to.
const maxRecord = 256 << 20

// Reload reads the record again.
func (s *Store) Reload(b *Sandbox) { b.Record = s.read(b.Record.ID).Record }

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
	b := s.named(id)
	data, err := Read(b.record(), maxRecord)
	if errors.Is(err, fs.ErrPermission) {
		b.allow()
		data, err = Read(b.record(), maxRecord)
	}
	b.Damaged = err != nil && !errors.Is(err, fs.ErrNotExist)
	if err == nil {
		var r Record
		if b.Damaged = json.Unmarshal(data, &r) != nil || r.ID != id; !b.Damaged {
			r.each(unescape)
			b.Record = r
		}
	}
	if fd, err := unix.Open(filepath.Join(b.Dir, "lock"), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0); err == nil {
		b.Running = isLocked(fd)
		unix.Close(fd)
	}
	return b
}

// Find returns the sandbox whose id is, or starts with, the given text, or which runs under it as its name.
func (s *Store) Find(id string) (*Sandbox, error) {
	list, err := s.List()
	if err != nil {
		return nil, err
	}
	var found []*Sandbox
	for _, b := range list {
		if b.Record.ID == id || b.Running && b.Record.Name == id && id != "" {
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

// WriteFile replaces the file at path: readers and crashes see the old or the new content, never a part, also when the machine stops.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	return replace(path, data, perm, true)
}

// replace writes with system calls alone: package os would register the file with the network poller, for seven calls more. Without sync
// a machine that stops may leave the file empty or old, which suits a record that every start writes: waiting for a disk takes longer
// than the whole start.
func replace(path string, data []byte, perm fs.FileMode, sync bool) error {
	temporary := path + ".new" + strconv.Itoa(os.Getpid()) // another process may be writing the same
	fd, err := unix.Open(temporary, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, uint32(perm))
	if err != nil {
		return &fs.PathError{Op: "write", Path: path, Err: err}
	}
	for len(data) > 0 && err == nil {
		var n int
		n, err = unix.Write(fd, data)
		data = data[max(n, 0):]
	}
	if err == nil && sync {
		err = unix.Fsync(fd)
	}
	if e := unix.Close(fd); err == nil {
		err = e
	}
	if err == nil {
		err = unix.Rename(temporary, path)
	}
	if err != nil {
		unix.Unlink(temporary)
		return &fs.PathError{Op: "write", Path: path, Err: err}
	}
	return nil
}

// Read returns a small file whole, with three system calls. It never opens a device or waits for a fifo.
func Read(path string, limit int) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New("not a regular file")}
	}
	if st.Size > int64(limit) {
		return nil, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("%d bytes long, and at most %d are read", st.Size, limit)}
	}
	buf := make([]byte, st.Size) // what is appended meanwhile is not read
	n := 0
	for n < len(buf) {
		r, err := unix.Read(fd, buf[n:])
		if err != nil && err != unix.EINTR {
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		}
		if r == 0 && err == nil {
			break
		}
		n += max(r, 0)
	}
	return buf[:n], nil
}

// maxEvents is where the file of events is put aside for a new one. One old one is kept.
const maxEvents = 16 << 20

// Record appends whole lines to the file of events that all sandboxes share. One write of an O_APPEND file is not mixed with another's.
func (s *Store) Record(lines []byte) error {
	path := filepath.Join(s.Root, "events.jsonl")
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	n, err := unix.Write(fd, lines)
	end, e := unix.Seek(fd, 0, unix.SEEK_CUR)
	switch {
	case err == nil && n < len(lines): // a full disk
		var st unix.Stat_t
		if e == nil && unix.Fstat(fd, &st) == nil && st.Size == end { // or the next one's would go on in the middle of this line
			unix.Ftruncate(fd, end-int64(n))
		}
		return &fs.PathError{Op: "write", Path: path, Err: unix.ENOSPC}
	case err != nil:
		return &fs.PathError{Op: "write", Path: path, Err: err}
	case e == nil && end > maxEvents:
		return os.Rename(path, path+".1")
	}
	return nil
}

// ConnectionsPath is the record of connections that sandboxes made or tried, a line of JSON each.
func (s *Store) ConnectionsPath() string { return filepath.Join(s.Root, "connections.jsonl") }

// OldConnectionsPath is the one before, which was put aside.
func (s *Store) OldConnectionsPath() string { return s.ConnectionsPath() + ".1" }

// Connections opens that record for appending. Like the events it is put aside when it is long; one old one is kept. Whoever goes on with what this
// returned for long may be writing to the old one.
func (s *Store) Connections() (*os.File, error) {
	path := s.ConnectionsPath()
	for {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		mine, err := f.Stat()
		if err != nil || mine.Size() <= maxEvents || unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil { // another one puts it aside
			return f, nil
		}
		now, err := os.Lstat(path)
		if err == nil && os.SameFile(now, mine) { // nobody has since: it must not take the new one for the old
			err = os.Rename(path, s.OldConnectionsPath())
		}
		f.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
}

// HasLayer says whether the sandbox has a change layer to go on with.
func (b *Sandbox) HasLayer() bool {
	st, err := os.Lstat(b.Layer())
	return err == nil && st.IsDir()
}

// Note writes beside a project's directories which project they are of, unless it is written already.
func Note(dir, project string) error {
	path := filepath.Join(dir, "project")
	if old, err := Read(path, unix.PathMax); err == nil && string(old) == project {
		return nil
	}
	return replace(path, []byte(project), 0o600, false)
}
