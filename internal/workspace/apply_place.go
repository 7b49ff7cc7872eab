package workspace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// A batch is staged, made durable by one syncfs(2), and then renamed into place.
const (
	batchFiles = 256
	batchBytes = 64 << 20
)

// staged is a change whose content lies beside its destination.
type staged struct {
	i   int // outcome
	tmp string
}

// place brings changes to the host, batch by batch.
func (a *application) place(ctx context.Context, todo []int) error {
	for len(todo) > 0 {
		n, bytes := 0, int64(0)
		for n < len(todo) && n < batchFiles && (n == 0 || bytes < batchBytes) {
			bytes += a.outcomes[todo[n]].New.Size
			n++
		}
		if err := a.placeBatch(ctx, todo[:n]); err != nil {
			return err
		}
		todo = todo[n:]
	}
	return nil
}

func (a *application) placeBatch(ctx context.Context, todo []int) error {
	if err := a.announce(todo); err != nil {
		return err
	}
	ready, stop := a.stage(ctx, todo)
	if err := a.sync(); err != nil {
		for _, s := range ready {
			a.dropStaged(s)
		}
		return err
	}
	for _, s := range ready {
		err := a.commit(s)
		if err != nil {
			a.dropStaged(s)
		}
		if err := a.finish(s.i, err); err != nil && stop == nil {
			stop = err
		}
	}
	return stop
}

// stage does all that can be done before the batch is durable: it makes directories and writes files and links under temporary names.
func (a *application) stage(ctx context.Context, todo []int) (ready []staged, stop error) {
	for _, i := range todo {
		if err := ctx.Err(); err != nil {
			return ready, err
		}
		c := &a.outcomes[i].Change
		var err error
		switch {
		case c.Kind == ModeChanged:
			err = a.changeMode(i)
		case c.New.Type == Dir:
			err = a.makeDir(i)
		default:
			var s staged
			if s, err = a.stageOne(i); err == nil {
				ready = append(ready, s)
				continue
			}
		}
		if err := a.finish(i, err); err != nil {
			return ready, err
		}
	}
	return ready, nil
}

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

// own gives what root made to the project's owner, and otherwise tries to keep the group of what it replaces.
func (a *application) own(fd int, old node) error {
	if os.Geteuid() == 0 {
		return unix.Fchownat(fd, "", int(a.owner.uid), int(a.owner.gid), unix.AT_EMPTY_PATH)
	}
	if old.Type != Absent && int(old.gid) != os.Getegid() {
		_ = unix.Fchownat(fd, "", -1, int(old.gid), unix.AT_EMPTY_PATH) // only members of it may
	}
	return nil
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

// stageOne writes a file or a link beside its destination.
func (a *application) stageOne(i int) (staged, error) {
	s := staged{i: i, tmp: a.journal.name(i)}
	c := &a.outcomes[i].Change
	parent, err := a.parent(c.Path)
	if err != nil {
		return s, err
	}
	defer unix.Close(parent)
	if c.New.Type == Symlink {
		err = a.stageLink(parent, s.tmp, c)
	} else {
		err = a.stageFile(parent, s.tmp, c)
	}
	if err != nil {
		_ = unix.Unlinkat(parent, s.tmp, 0)
	}
	return s, err
}

func (a *application) stageLink(parent int, tmp string, c *Change) error {
	if err := unix.Symlinkat(c.New.Link, parent, tmp); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		return unix.Fchownat(parent, tmp, int(a.owner.uid), int(a.owner.gid), unix.AT_SYMLINK_NOFOLLOW)
	}
	return nil
}

func (a *application) stageFile(parent int, tmp string, c *Change) error {
	in, err := a.l.inside.openFile(c.Path, c.in)
	if err != nil {
		return err
	}
	defer in.Close()
	fd, err := unix.Openat(parent, tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	out := os.NewFile(uintptr(fd), tmp)
	defer out.Close()
	if err := a.fill(out, in, c); err != nil {
		return err
	}
	if err := a.own(fd, c.host); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, c.New.perm()); err != nil {
		return err
	}
	return a.touched(fd)
}

// touched remembers the file system that a file lies on, for sync.
func (a *application) touched(fd int) error {
	n, err := statFd(fd)
	if err != nil || n.dev == a.owner.dev || a.others[n.dev] != 0 {
		return err
	}
	other, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		a.others[n.dev] = other
	}
	return err
}

// sync makes durable what was written so far: on the project's file system, and on those mounted in it that were written to.
func (a *application) sync() error {
	err := unix.Syncfs(a.l.project.fd)
	for _, fd := range a.others {
		err = errors.Join(err, unix.Syncfs(fd))
	}
	if err != nil {
		return fmt.Errorf("write the changes to disk: %w", err)
	}
	return nil
}

// fill copies the content. Of a protected file, exactly the bytes that were consented to are written, or none stay.
func (a *application) fill(out, in *os.File, c *Change) error {
	if c.Protected == "" {
		return copyData(out, in, c.New.Size)
	}
	h := newDigest(c)
	if _, err := io.Copy(io.MultiWriter(out, h), io.LimitReader(in, c.New.Size+1)); err != nil {
		return err
	}
	if sumOf(h) != a.o.Consent[c.Path] {
		return held("it is not what was shown: look at it again")
	}
	return nil
}

// commit makes one change visible, in one step.
func (a *application) commit(s staged) error {
	c := &a.outcomes[s.i].Change
	parent, err := a.l.project.openParent(c.Path)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	name := path.Base(c.Path)
	now, err := statAt(parent, name)
	if err != nil {
		return err
	}
	switch {
	case !now.unchangedSince(c.host):
		return errChanged
	case now.Type == Dir:
		if err := removeDir(parent, name); err != nil {
			return err
		}
		fallthrough
	case now.Type == Absent:
		err = renameNew(parent, s.tmp, name)
	default:
		err = unix.Renameat(parent, s.tmp, parent, name)
	}
	return err
}

// renameNew takes a name that is free. Where the kernel or the file system cannot promise that (NFS, some FUSE), the name was free just now.
func renameNew(parent int, from, to string) error {
	err := unix.Renameat2(parent, from, parent, to, unix.RENAME_NOREPLACE)
	switch {
	case errors.Is(err, unix.EEXIST):
		return errChanged
	case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS):
		return unix.Renameat(parent, from, parent, to)
	}
	return err
}

// dropStaged takes back what was not committed.
func (a *application) dropStaged(s staged) {
	if s.tmp == "" {
		return
	}
	if parent, err := a.l.project.openParent(a.outcomes[s.i].Path); err == nil {
		_ = unix.Unlinkat(parent, s.tmp, 0)
		unix.Close(parent)
	}
}

// remove deletes what the layer deleted.
func (a *application) remove(c *Change) error {
	parent, err := a.l.project.openParent(c.Path)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	name := path.Base(c.Path)
	now, err := statAt(parent, name)
	if err != nil {
		return err
	}
	switch {
	case now.Type == Absent:
		return nil
	case !now.unchangedSince(c.host):
		return errChanged
	case now.Type == Dir:
		return removeDir(parent, name)
	}
	return unix.Unlinkat(parent, name, 0)
}

func removeDir(parent int, name string) error {
	err := unix.Unlinkat(parent, name, unix.AT_REMOVEDIR)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		return held("the host's directory still holds what was not applied")
	}
	return err
}
