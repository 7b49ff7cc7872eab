package history

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"

	"casemate.dev/internal/beneath"
	"golang.org/x/sys/unix"
)

// contentsName is the directory, beside the entries, with what the files of live workspaces held: one copy for each state in which a run found
// a file. The next run that finds it in the same state needs no other. Its files never share an inode with the project's.
const contentsName = "contents"

// maxCopied is the largest file that is copied where the file system cannot share content. A larger one is not kept.
const maxCopied = 256 << 20

var errLarge = errors.New("it is larger than 256 MiB, and this file system cannot share its content")

// contentName names what a file holds without reading it. Whoever writes a file changes its ctime, and nobody can set that back; but see timeless.
func contentName(s State) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", s.Dev, s.Ino, s.Size, uint64(s.Mtime), uint64(s.Ctime))
}

func validContentName(name string) bool {
	for _, c := range []byte(name) {
		if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(name) < unix.NAME_MAX
}

func (e *Entry) openContents() (err error) {
	if e.contents >= 0 {
		return nil
	}
	if err := unix.Mkdirat(e.h.dir, contentsName, 0o700); err != nil && err != unix.EEXIST {
		return fmt.Errorf("keep it: %w", err)
	}
	if e.contents, err = unix.Openat(e.h.dir, contentsName, openDir, 0); err != nil {
		e.contents = -1
	}
	return err
}

// shareContent sees to it that the content of an open file is kept, and returns its name.
func (e *Entry) shareContent(f *os.File, s State) (string, error) {
	if err := e.openContents(); err != nil {
		return "", err
	}
	name, plain := contentName(s), contentName(s)
	if timeless(int(f.Fd())) {
		name += "-" + e.token // a copy of this run's own, which compares by what it holds
	}
	if exists(e.contents, name) {
		return name, nil
	}
	tmp := "new-" + e.token + "-" + strconv.Itoa(e.Number)
	fd, err := unix.Openat(e.contents, tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return "", fmt.Errorf("keep it: %w", err)
	}
	out := os.NewFile(uintptr(fd), tmp)
	defer out.Close()
	switch {
	case s.Size <= maxCopied:
		err = beneath.Copy(out, f, s.Size)
	case unix.IoctlFileClone(fd, int(f.Fd())) != nil:
		err = errLarge
	}
	var now State
	if err == nil {
		now, err = statFd(int(f.Fd()))
	}
	if err == nil && contentName(now) != plain {
		err = beneath.ErrReplaced
	}
	if err == nil {
		err = unix.Renameat(e.contents, tmp, e.contents, name)
	}
	if err != nil {
		_ = unix.Unlinkat(e.contents, tmp, 0)
		return "", fmt.Errorf("keep it: %w", err)
	}
	return name, nil
}

// timeless says that a file lies where a write through a shared mapping, after a read through the same, changes neither mtime nor ctime: the pages of a
// file system in memory are never written back, so the kernel does not watch them for it (vma_wants_writenotify).
func timeless(fd int) bool {
	var fs unix.Statfs_t
	err := unix.Fstatfs(fd, &fs)
	return err != nil || fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC
}

// own gives the entry a name of its own for a content, which outlives the shared one.
func (e *Entry) own(name string) error {
	if err := e.openContents(); err != nil {
		return err
	}
	if err := e.openObjects(); err != nil {
		return err
	}
	err := unix.Linkat(e.contents, name, e.objects, name, 0)
	if err != nil && err != unix.EEXIST {
		return fmt.Errorf("history %q: %w", path.Join(e.h.Dir, contentsName, name), err)
	}
	return nil
}

// openKept opens a content, or nil if it is gone.
func (e *Entry) openKept(name string) *os.File {
	if e.openContents() != nil {
		return nil
	}
	fd, err := unix.Openat(e.contents, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), name)
}

// dropContents removes what no file of the project holds any more, unless another live run may still need it.
func (e *Entry) dropContents(used map[string]bool) {
	_, unended, err := e.h.numbers()
	if err != nil || len(unended) > 1 || e.openContents() != nil {
		return
	}
	fd, err := unix.Openat(e.contents, ".", openDir, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	names, _ := beneath.Names(fd)
	for _, name := range names {
		if !used[name] {
			_ = unix.Unlinkat(fd, name, 0)
		}
	}
}
