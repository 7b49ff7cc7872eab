package workspace

import (
	"context"
	"fmt"
	"os"
	"slices"

	"casemate.dev/internal/beneath"
	"golang.org/x/sys/unix"
)

// treeCopy makes the tree dst like src, directory by directory.
type treeCopy struct {
	src, dst *rooted
	root     node // of src
	dirs     []copiedDir
}

// copiedDir gets its mode and time when everything in it is there.
type copiedDir struct {
	rel string
	node
}

// all calls fill for the root and for each directory that fill adds to dirs, and then finish for all of them, the deepest first.
func (c *treeCopy) all(ctx context.Context, fill, finish func(d copiedDir) error) (err error) {
	if c.root, err = statFd(c.src.fd); err != nil {
		return err
	}
	c.dirs = []copiedDir{{"", c.root}}
	for i := 0; i < len(c.dirs); i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fill(c.dirs[i]); err != nil {
			return err
		}
	}
	for _, d := range slices.Backward(c.dirs) {
		if err := finish(d); err != nil {
			return fmt.Errorf("%s: %w", Quote(d.rel), err)
		}
	}
	return nil
}

// both opens a directory in both trees.
func (c *treeCopy) both(rel string) (from, to int, err error) {
	if from, err = c.src.openDir(rel); err != nil {
		return -1, -1, err
	}
	if to, err = c.dst.openDir(rel); err != nil {
		unix.Close(from)
		return -1, -1, err
	}
	return from, to, nil
}

// copyFile makes the file name in the directory to with the content of in, for us alone.
func copyFile(to int, name string, in *os.File, size int64) (*os.File, error) {
	fd, err := unix.Openat(to, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	out := os.NewFile(uintptr(fd), name)
	if err := beneath.Copy(out, in, size); err != nil {
		out.Close()
		unix.Unlinkat(to, name, 0)
		return nil, err
	}
	return out, nil
}

// own gives an entry the owner that n has, where that is not us: as root. An ordinary user's sandbox can have no other files.
func own(dir int, name string, n node) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return unix.Fchownat(dir, name, int(n.uid), int(n.gid), unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH)
}

func setTimes(dir int, name string, n node) error {
	t := unix.NsecToTimespec(n.mtime)
	return unix.UtimesNanoAt(dir, name, []unix.Timespec{{Nsec: unix.UTIME_OMIT}, t}, unix.AT_SYMLINK_NOFOLLOW)
}
