// Package beneath opens and copies what lies beneath a directory, and nothing else, whatever links anybody plants there.
package beneath

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// Open opens rel ("" is the directory itself). openat2(2) does the walk in the kernel, so there is no moment between a check and its use (the
// docker cp class of holes, CVE-2018-15664). With O_PATH|O_NOFOLLOW, a link as the last component is opened as itself.
func Open(dir int, rel string, flags int) (int, error) {
	if rel == "" {
		rel = "."
	}
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	for again := 0; ; {
		fd, err := unix.Openat2(dir, rel, &how)
		if err == unix.EAGAIN && again < maxAgain {
			again++
		} else if err != unix.EINTR {
			return fd, err
		}
	}
}

// maxAgain bounds how often the kernel may say that something was renamed meanwhile. It says the same of a file that another program has a
// lease on, for as long as that takes.
const maxAgain = 256

// Parent opens the directory that holds rel, for calls that name an entry in it.
func Parent(dir int, rel string) (int, error) {
	return Open(dir, Dir(rel), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW)
}

// Dir is path.Dir with "" for the root.
func Dir(rel string) string {
	if i := strings.LastIndexByte(rel, '/'); i >= 0 {
		return rel[:i]
	}
	return ""
}

// Absent reports that a path leads nowhere without following a link.
func Absent(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// Valid reports whether rel is a path that can lie beneath a directory, in its one spelling.
func Valid(rel string) bool {
	if rel == "" || len(rel) > unix.PathMax || strings.IndexByte(rel, 0) >= 0 {
		return false
	}
	for name := range strings.SplitSeq(rel, "/") {
		if name == "" || name == "." || name == ".." || len(name) > unix.NAME_MAX {
			return false
		}
	}
	return true
}

// Names lists an open directory from its beginning, in the order of the file system, and leaves the descriptor open.
func Names(fd int) ([]string, error) {
	if _, err := unix.Seek(fd, 0, 0); err != nil {
		return nil, err
	}
	var names []string
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return names, err
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}
