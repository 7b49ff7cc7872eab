package workspace

import (
	"fmt"
	"os"
	"path"

	"casemate.dev/internal/beneath"
	"golang.org/x/sys/unix"
)

// rooted is a directory held by descriptor. Everything beneath it is reached through that descriptor and never through a symbolic link,
// whoever planted one and whenever (beneath.Open).
type rooted struct {
	fd   int
	name string // for messages
}

// openRooted opens a directory by a path that is trusted.
func openRooted(name string) (*rooted, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open directory %q: %w", name, err)
	}
	return &rooted{fd, name}, nil
}

// openChild opens the directory name of the trusted directory r, which an attacker may own but did not place.
func (r *rooted) openChild(name string) (*rooted, error) {
	fd, err := r.openDir(name)
	if err != nil {
		return nil, fmt.Errorf("open directory %q: %w", path.Join(r.name, name), err)
	}
	return &rooted{fd, path.Join(r.name, name)}, nil
}

// openHostile is openChild for a directory whose owner inside may have taken every right to it away, which says nothing about the project.
func (r *rooted) openHostile(name string) (*rooted, error) {
	fd, err := openUnlocked(r.fd, name)
	if err != nil {
		return nil, fmt.Errorf("open directory %q: %w", path.Join(r.name, name), err)
	}
	return &rooted{fd, path.Join(r.name, name)}, nil
}

func (r *rooted) close() {
	if r != nil {
		unix.Close(r.fd)
	}
}

// open opens rel ("" is the directory itself). With O_PATH|O_NOFOLLOW, a link as the last component is opened as itself.
func (r *rooted) open(rel string, flags int) (int, error) {
	return beneath.Open(r.fd, rel, flags)
}

// openDir opens a directory for reading its entries and for work by descriptor in it.
func (r *rooted) openDir(rel string) (int, error) {
	return r.open(rel, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
}

// openFile opens the regular file that was seen as want. Whatever lies there now, opening it neither blocks (a fifo) nor takes a terminal,
// and unless it is the very inode that was seen, it is not used.
func (r *rooted) openFile(rel string, want node) (*os.File, error) {
	fd, err := r.open(rel, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, err
	}
	got, err := statFd(fd)
	if err == nil && (got.Type != File || got.dev != want.dev || got.ino != want.ino) {
		err = beneath.ErrReplaced
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), rel), nil
}

// stat describes rel itself. What is not there has no type, and so has what lies behind something that is not a directory.
func (r *rooted) stat(rel string) (node, error) {
	if rel == "" {
		return statFd(r.fd)
	}
	fd, err := r.openParent(rel)
	if absent(err) {
		return node{}, nil
	}
	if err != nil {
		return node{}, err
	}
	defer unix.Close(fd)
	return statAt(fd, path.Base(rel))
}

// openParent opens the directory that holds rel, for calls that name an entry in it.
func (r *rooted) openParent(rel string) (int, error) {
	return r.open(parentOf(rel), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW)
}

// absent reports that a path leads nowhere without following a link.
func absent(err error) bool { return beneath.Absent(err) }

// parentOf is path.Dir with "" for the root.
func parentOf(rel string) string { return beneath.Dir(rel) }

// under reports whether rel is dir or lies beneath it; everything lies beneath "".
func under(rel, dir string) bool {
	return dir == "" || rel == dir || len(rel) > len(dir) && rel[len(dir)] == '/' && rel[:len(dir)] == dir
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// namesIn lists an open directory from its beginning, in the order of the file system, and leaves the descriptor open.
func namesIn(fd int) ([]string, error) { return beneath.Names(fd) }
