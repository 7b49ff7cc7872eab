package workspace

import (
	"context"
	"errors"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// A batch is staged, made durable, and then renamed into place.
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
	if err := a.syncBatch(); err != nil {
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
	return a.written(fd)
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
