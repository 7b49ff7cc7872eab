package workspace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Discard removes a layer's directory and all that is in it, whatever a sandbox made of it: modes that forbid everything (overlayfs itself leaves
// work/work with mode 000), names of any bytes, trees deeper than any path can be long. It works by descriptor and follows nothing.
// A directory that is not empty is first moved to the top of the layer, so no walk goes deeper than two levels and no state outlives an
// interruption: Discard again, and it goes on.
//
// It needs to own what it removes, and stops at what it cannot: immutable files, and other file systems, which it does not enter.
func Discard(ctx context.Context, dir string) error {
	above, err := openRooted(filepath.Dir(filepath.Clean(dir)))
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer above.close()
	fd, err := openUnlocked(above.fd, filepath.Base(dir))
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open directory %q: %w", dir, err)
	}
	top := &rooted{fd, dir}
	defer top.close()
	l := &Layer{LayerOptions: LayerOptions{Dir: dir}, top: top}
	if err := l.lock(); err != nil {
		return err
	}
	d := discarder{top: top.fd}
	if err := d.all(ctx); err != nil {
		return fmt.Errorf("discard layer %q: %w", dir, err)
	}
	if err := os.Remove(filepath.Clean(dir)); err != nil {
		return fmt.Errorf("discard layer %q: %w", dir, err)
	}
	return nil
}

type discarder struct {
	top  int
	next int // number of the next directory that is moved up
}

// all empties the layer's directory. Each round empties every directory that lies in it by one level.
func (d *discarder) all(ctx context.Context) error {
	for {
		names, err := namesIn(d.top)
		if err != nil || len(names) == 0 {
			return err
		}
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := d.entry(name); err != nil {
				return fmt.Errorf("%s: %w", Quote(name), err)
			}
		}
	}
}

// entry removes an entry of the layer's own directory, after moving up what lies in it.
func (d *discarder) entry(name string) error {
	gone, err := removeEntry(d.top, name)
	if gone || err != nil {
		return err
	}
	fd, err := openUnlocked(d.top, name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	names, err := namesIn(fd)
	for _, inner := range names {
		if err == nil {
			err = d.lift(fd, inner)
		}
	}
	if err != nil {
		return err
	}
	return unix.Unlinkat(d.top, name, unix.AT_REMOVEDIR)
}

// lift removes an entry of a lower directory or moves it up.
func (d *discarder) lift(dir int, name string) error {
	gone, err := removeEntry(dir, name)
	if gone || err != nil {
		return err
	}
	fd, err := openUnlocked(dir, name) // to move a directory is to write to it
	if err != nil {
		return err
	}
	unix.Close(fd)
	for {
		err := unix.Renameat2(dir, name, d.top, fmt.Sprintf("discarded-%d", d.next), unix.RENAME_NOREPLACE)
		if !errors.Is(err, unix.EEXIST) {
			return err
		}
		d.next++
	}
}

// removeEntry removes an entry unless it is a directory that is not empty.
func removeEntry(dir int, name string) (gone bool, err error) {
	err = unix.Unlinkat(dir, name, 0)
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) {
		err = unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
	}
	switch {
	case err == nil || errors.Is(err, unix.ENOENT):
		return true, nil
	case errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST):
		return false, nil
	}
	return false, err
}

// openUnlocked opens a directory after giving its owner every right to it.
func openUnlocked(dir int, name string) (int, error) {
	r := &rooted{fd: dir}
	fd, err := r.open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fd)
	if n, err := statFd(fd); err != nil || n.perm()&0o700 != 0o700 {
		if err := errors.Join(err, chmodFd(fd, n.perm()|0o700)); err != nil {
			return -1, err
		}
	}
	return r.openDir(name)
}

// chmodFd is fchmod(2) for any descriptor, also one opened with O_PATH because the mode forbids to read. The link in /proc is the kernel's own
// and leads to the very inode.
func chmodFd(fd int, perm uint32) error {
	err := unix.Fchmod(fd, perm)
	if errors.Is(err, unix.EBADF) {
		err = unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), perm)
	}
	return err
}
