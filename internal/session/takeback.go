package session

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"casemate.dev/internal/beneath"
	"casemate.dev/internal/event"
	"golang.org/x/sys/unix"
)

// takeBack watches a live project and moves what the host would execute, and what did not exist at the start, out of it. Who made it cannot
// be told: what the person makes meanwhile is moved too, and where to is said. Between its making and the move the host could execute it.
type takeBack struct {
	project      string
	root         int    // the project
	to           string // where it is moved
	guarded      func(rel string, link bool) bool
	taken        func(rel, where string)
	events       *os.File
	dirs         map[int32]string
	roots        []string
	repositories map[string]bool   // directories that were taken as bare repositories
	number       int               // of what was taken
	before       map[string]string // protected paths that existed at the start: read-only inside, or links
	closed       map[string]bool   // directories that we could not look into at the start
}

const takeMask = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_CLOSE_WRITE | unix.IN_ONLYDIR | unix.IN_DONT_FOLLOW | unix.IN_EXCL_UNLINK

func (s *supervision) watchLive() {
	r := s.run
	if r.guarded == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	h := &rehiding{cancel: cancel, done: make(chan struct{})}
	s.taking = h
	go func() {
		defer close(h.done)
		h.err = r.takeBack(ctx, h)
	}()
}

func (r *Run) takeBack(ctx context.Context, h *rehiding) error {
	root, err := unix.Open(r.Project, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("watch the project: %w", err)
	}
	t := &takeBack{project: r.Project, root: root, to: filepath.Join(r.Box.Dir, "taken"), guarded: r.guarded.guarded, before: r.guarded.before, roots: r.roots, repositories: map[string]bool{}, closed: map[string]bool{}, events: os.NewFile(uintptr(fd), "inotify"), dirs: map[int32]string{}}
	defer t.events.Close()
	t.taken = func(rel, where string) {
		h.events = append(h.events, event.Event{Time: time.Now().UTC(), Sandbox: r.Box.Record.ID, Kind: event.Denied, Subject: rel, Rule: "built-in list of what a host executes",
			Allow: "move it back from " + where, Detail: "appeared in the live project and was taken back"})
		h.taken = append(h.taken, rel)
	}
	for _, root := range r.roots {
		t.watch(root, false)
	}
	stop := context.AfterFunc(ctx, func() { t.events.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		var buf [16 << 10]byte
		n, err := t.events.Read(buf[:])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			for _, root := range r.roots {
				t.look(root) // what came with the sandbox's last breath
			}
			return nil
		}
		if err != nil {
			return err
		}
		t.handle(buf[:n])
	}
}

// watch adds a directory and those below it. In one that is new, everything is looked at: it may have been filled before it was watched.
func (t *takeBack) watch(rel string, isNew bool) {
	var opened []openedDir // each in the one before it
	defer func() { t.putBack(opened, "") }()
	filepath.WalkDir(filepath.Join(t.project, rel), func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		name, err := filepath.Rel(t.project, p)
		if err != nil {
			return nil
		}
		opened = t.putBack(opened, name)
		if isNew && t.existed(name) {
			return skip(d) // nothing was made in there inside, and the person may have closed it
		}
		switch {
		case !d.IsDir() || readable(p, d):
		case !isNew:
			t.closed[name] = true
		default: // what the owner may not look into cannot be watched
			if mode, ok := t.unlock(p); ok && t.wasClosed(name) {
				opened = append(opened, openedDir{name, mode})
			}
		}
		if isNew && name != "." && (t.guarded(name, d.Type()&fs.ModeSymlink != 0) && !(d.IsDir() && d.Name() == ".git") || d.IsDir() && t.repository(name)) {
			t.take(name)
			return skip(d)
		}
		if !d.IsDir() {
			return nil
		}
		if up := filepath.Dir(name); filepath.Base(up) == "objects" && filepath.Base(filepath.Dir(up)) == ".git" && filepath.Base(name) != "info" {
			return fs.SkipDir // only objects/info holds what git obeys
		}
		if wd, err := unix.InotifyAddWatch(int(t.events.Fd()), p, takeMask); err == nil {
			t.dirs[int32(wd)] = name
		}
		return nil
	})
}

// openedDir is a directory that the person had closed, or that lies in such a one: it is opened for the look only.
type openedDir struct {
	rel  string
	mode uint32
}

// putBack gives those that do not hold rel the mode that they had. Whoever has changed it since has the last word.
func (t *takeBack) putBack(opened []openedDir, rel string) []openedDir {
	for n := len(opened); n > 0 && (rel == "" || !within(rel, opened[n-1].rel)); n-- {
		last := opened[n-1]
		opened = opened[:n-1]
		if fd, mode, err := t.directory(last.rel); err == nil {
			if mode == unlocked {
				unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), last.mode)
			}
			unix.Close(fd)
		}
	}
	return opened
}

func (t *takeBack) wasClosed(rel string) bool {
	for ; rel != "."; rel = filepath.Dir(rel) {
		if t.closed[rel] {
			return true
		}
	}
	return false
}

const unlocked = 0o700 // to take something out of a directory is to write to it

// unlock gives the owner the rights to a directory of the project, and says which mode it had.
func (t *takeBack) unlock(p string) (mode uint32, ok bool) {
	rel, err := filepath.Rel(t.project, p)
	if err != nil {
		return 0, false
	}
	fd, mode, err := t.directory(rel)
	if err != nil {
		return 0, false
	}
	defer unix.Close(fd)
	return mode, unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), unlocked) == nil
}

// directory finds a directory of the project. The sandbox may put a link in its place at any moment, so it is changed by descriptor and no link is
// followed: a mode changed through a link would be that of something of the person's.
func (t *takeBack) directory(rel string) (fd int, mode uint32, err error) {
	fd, err = unix.Openat2(t.root, rel, &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS})
	if err != nil {
		return -1, 0, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return -1, 0, err
	}
	return fd, st.Mode & 0o7777, nil
}

// look goes through the whole project once more.
func (t *takeBack) look(rel string) { t.watch(rel, true) }

func skip(d fs.DirEntry) error {
	if d.IsDir() {
		return fs.SkipDir
	}
	return nil
}

func (t *takeBack) handle(events []byte) {
	for len(events) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(events))
		mask := binary.NativeEndian.Uint32(events[4:])
		size := int(binary.NativeEndian.Uint32(events[12:]))
		name := strings.TrimRight(string(events[unix.SizeofInotifyEvent:unix.SizeofInotifyEvent+size]), "\x00")
		events = events[unix.SizeofInotifyEvent+size:]
		if mask&unix.IN_Q_OVERFLOW != 0 {
			for _, root := range t.roots {
				t.look(root)
			}
			continue
		}
		dir, known := t.dirs[wd]
		if !known || name == "" {
			continue
		}
		rel := filepath.Join(dir, name)
		switch {
		case t.guarded(rel, mask&unix.IN_ISDIR == 0 && t.isLink(rel)) && !(mask&unix.IN_ISDIR != 0 && name == ".git"):
			t.take(rel)
		case mask&unix.IN_ISDIR != 0:
			t.watch(rel, true)
		}
		if t.repository(dir) {
			t.take(dir)
		}
	}
}

func (t *takeBack) isLink(rel string) bool {
	_, err := os.Readlink(filepath.Join(t.project, rel))
	return err == nil
}

// repository says whether a directory is such a one, or was: what is laid there again, piece by piece, goes the same way.
func (t *takeBack) repository(rel string) bool {
	if !t.repositories[rel] && t.bare(rel) {
		t.repositories[rel] = true
	}
	return t.repositories[rel]
}

// bare says whether a directory is a git repository laid in plain files, whose settings git would heed in it. Its name tells nothing.
func (t *takeBack) bare(rel string) bool {
	if rel == "." || filepath.Base(rel) == ".git" {
		return false
	}
	for _, name := range []string{"HEAD", "objects", "refs"} {
		if _, err := os.Lstat(filepath.Join(t.project, rel, name)); err != nil {
			return false
		}
	}
	return !strings.Contains("/"+rel+"/", "/.git/")
}

// take moves one entry out of the project. What is covered by a mount inside existed at the start and was not changed: moving it would
// take the person's own, so entries that were there are left alone.
func (t *takeBack) take(rel string) {
	if t.existed(rel) {
		return
	}
	parent, err := unix.Openat2(t.root, filepath.Dir(rel), &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS})
	if err != nil {
		return
	}
	defer unix.Close(parent)
	if err := os.MkdirAll(t.to, 0o700); err != nil {
		return
	}
	name := filepath.Base(rel)
	t.number++
	where := filepath.Join(t.to, strconv.Itoa(t.number))
	makeMovable(parent, name)
	err = unix.Renameat(parent, name, unix.AT_FDCWD, where)
	if err == unix.EXDEV {
		err = t.carry(parent, name, where)
	}
	if err != nil { // what cannot be moved away gets a name that nobody executes
		inert := fmt.Sprintf("casemate-held-%d-%d", os.Getpid(), t.number)
		if err = unix.Renameat(parent, name, parent, inert); err == nil {
			where = filepath.Join(t.project, filepath.Dir(rel), inert)
		}
	}
	if err == nil {
		t.taken(rel, where)
	}
}

// makeMovable gives the owner all rights on a directory: one that may not be written cannot be moved to another parent (rename(2), EACCES).
func makeMovable(parent int, name string) {
	fd, err := unix.Openat(parent, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), 0o700)
}

// existed says whether the entry, or a directory above it, was there and covered by a mount when the sandbox started.
func (t *takeBack) existed(rel string) bool {
	for p := rel; p != "."; p = filepath.Dir(p) {
		if link, was := t.before[p]; was {
			now, _ := os.Readlink(filepath.Join(t.project, p))
			return now == link // of what is covered by a mount both are empty
		}
	}
	return false
}

// carry moves an entry to another file system, or nothing of it. What is no file, directory or link is only removed.
func (t *takeBack) carry(parent int, name, where string) error {
	room := int64(maxCarried)
	if err := copyOut(parent, name, where, 0, &room); err != nil {
		return errors.Join(err, os.RemoveAll(where))
	}
	return os.RemoveAll(fmt.Sprintf("/proc/self/fd/%d/%s", parent, name))
}

// What is carried at most: the disk it is carried to is the person's, and a file of nothing but holes can be as long as any disk. Each level of
// directories holds a descriptor, and each entry counts as a page.
const (
	maxCarried      = 64 << 20
	maxCarriedDepth = 200
	carriedEntry    = 4 << 10
)

// copyOut copies an entry by descriptor, while the sandbox may swap what it copies: no link is followed, and nothing waits for a fifo.
func copyOut(parent int, name, where string, deep int, room *int64) error {
	if *room -= carriedEntry; *room < 0 {
		return errTooMuch
	}
	var st unix.Stat_t
	if err := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return copyDirectory(parent, name, where, deep, room)
	case unix.S_IFREG:
		return copyFile(parent, name, where, room)
	case unix.S_IFLNK:
		target, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d/%s", parent, name))
		if err != nil {
			return err
		}
		return os.Symlink(target, where)
	}
	return nil
}

var errTooMuch = errors.New("it is too much to be carried to another file system")

func copyDirectory(parent int, name, where string, deep int, room *int64) error {
	if deep > maxCarriedDepth {
		return fmt.Errorf("more than %d directories deep", maxCarriedDepth)
	}
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	if err := os.Mkdir(where, 0o700); err != nil {
		return err
	}
	names, err := dir.Readdirnames(-1)
	for _, n := range names {
		if err == nil {
			err = copyOut(fd, n, filepath.Join(where, n), deep+1, room)
		}
	}
	return err
}

func copyFile(parent int, name, where string, room *int64) error {
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	in := os.NewFile(uintptr(fd), name)
	defer in.Close()
	st, err := in.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return errors.Join(err, fmt.Errorf("%q was replaced", name))
	}
	if *room -= st.Size(); *room < 0 {
		return errTooMuch
	}
	out, err := os.OpenFile(where, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(beneath.Copy(out, in, st.Size()), out.Close())
}

// readable says whether we may look into a directory, as root and the members of its group may whatever its owner may.
func readable(p string, d fs.DirEntry) bool {
	info, err := d.Info()
	return err != nil || info.Mode().Perm()&0o500 == 0o500 || unix.Faccessat(unix.AT_FDCWD, p, unix.R_OK|unix.X_OK, unix.AT_EACCESS|unix.AT_SYMLINK_NOFOLLOW) == nil
}
