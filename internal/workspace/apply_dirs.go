package workspace

import (
	"errors"
	"fmt"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// parent opens the host directory that a change belongs in, made by this Apply if the layer made it.
func (a *application) parent(rel string) (int, error) {
	fd, err := a.l.project.openParent(rel)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	dir := parentOf(rel)
	in, err := a.l.inside.stat(dir)
	if err != nil {
		return -1, err
	}
	if in.Type != Dir || a.forbidden(dir) {
		return -1, unix.ENOENT
	}
	above, err := a.parent(dir)
	if err != nil {
		return -1, err
	}
	defer unix.Close(above)
	if err := a.mkdir(above, dir, in.perm()); err != nil {
		return -1, err
	}
	return a.l.project.openParent(rel)
}

// forbidden reports a directory that must not be made for what is in it.
func (a *application) forbidden(dir string) bool {
	i, listed := a.at[dir]
	if !listed {
		return false
	}
	out := &a.outcomes[i]
	return out.Status == Held && (out.Refused != "" || out.ByName != "")
}

func (a *application) mkdir(parent int, rel string, perm uint32) error {
	name := path.Base(rel)
	if err := unix.Mkdirat(parent, name, 0o700); err != nil {
		return err
	}
	fd, err := (&rooted{fd: parent}).openDir(name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := a.own(fd, node{}); err != nil {
		return err
	}
	a.modeLater(rel, perm)
	return chmodKeeping(fd, perm|0o700)
}

// makeDir makes a directory, in the place of a file or a link if the layer says so.
func (a *application) makeDir(i int) error {
	c := &a.outcomes[i].Change
	parent, err := a.parent(c.Path)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	name := path.Base(c.Path)
	now, err := statAt(parent, name)
	if err != nil {
		return err
	}
	if now.Type == Dir && c.Kind == Added { // made for something in it
		return nil
	}
	if !now.unchangedSince(c.host) {
		return errChanged
	}
	if now.Type != Absent {
		if err := unix.Unlinkat(parent, name, 0); err != nil {
			return err
		}
	}
	return a.mkdir(parent, c.Path, c.New.perm())
}

// lateMode is a directory that gives up its owner's rights when everything is in it.
type lateMode struct {
	rel  string
	perm uint32
}

func (a *application) modeLater(rel string, perm uint32) {
	if perm&0o700 != 0o700 {
		a.late = append(a.late, lateMode{rel, perm})
	}
}

func (a *application) lateModes() error {
	for _, m := range slices.Backward(a.late) {
		fd, err := a.l.project.open(m.rel, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW)
		if err == nil {
			err = chmodKeeping(fd, m.perm)
			unix.Close(fd)
		}
		if i, listed := a.at[m.rel]; err != nil && listed {
			if err := a.finish(i, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// chmodKeeping sets the permission bits, and leaves the setgid or sticky bit that a directory of the host has or inherited.
func chmodKeeping(fd int, perm uint32) error {
	now, err := statFd(fd)
	if err != nil {
		return err
	}
	if now.Type == Dir {
		perm |= now.Mode & 0o7000
	}
	if perm == now.Mode {
		return nil
	}
	return chmodFd(fd, perm)
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

// changeMode changes the permission bits of what is there. A directory gives up its owner's bits last.
func (a *application) changeMode(i int) error {
	c := &a.outcomes[i].Change
	if c.New.Type == Dir && c.New.perm()&0o700 != 0o700 {
		a.modeLater(c.Path, c.New.perm())
		return nil
	}
	fd, err := a.l.project.open(c.Path, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if now, err := statFd(fd); err != nil || !now.unchangedSince(c.host) {
		return errors.Join(err, errChanged)
	}
	return chmodKeeping(fd, c.New.perm())
}
