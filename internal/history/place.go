package history

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"casemate.dev/internal/beneath"
	"golang.org/x/sys/unix"
)

// stage does all that can be done before the batch is durable: it makes directories, changes modes, and writes files and links under temporary
// names. What is only removed, or takes no content, is ready at once.
func (c *carrying) stage(ctx context.Context, todo []*Step) (ready []staged, stop error) {
	for _, s := range todo {
		if err := ctx.Err(); err != nil {
			return ready, err
		}
		if s.Err != nil || s.Done || !c.e.kept[s.Path] {
			continue
		}
		var err error
		switch {
		case s.ModeOnly:
			err = c.changeMode(s)
		case s.Want.Type == Absent:
			ready = append(ready, staged{Step: s})
			continue
		case s.Want.Type == Dir:
			err = c.makeDir(s)
		default:
			st := staged{Step: s, tmp: c.name()}
			if err = c.stageOne(&st); err == nil {
				ready = append(ready, st)
				continue
			}
		}
		if err := c.went(s, err); err != nil {
			return ready, err
		}
	}
	return ready, nil
}

// Temporary reports whether a name is one that Carry writes under: what has it is no file of the project's, and soon gone.
func Temporary(name string) bool {
	rest, ours := strings.CutPrefix(name, tmpPrefix)
	if !ours || len(rest) < tokenLength+2 || rest[tokenLength] != '-' {
		return false
	}
	return strings.Trim(rest[:tokenLength], "0123456789abcdef") == "" && strings.Trim(rest[tokenLength+1:], "0123456789") == ""
}

func (c *carrying) name() string {
	c.tmp++
	return fmt.Sprintf("%s%s-%d", tmpPrefix, c.e.token, c.tmp)
}

// stageOne writes a file or a link beside its destination, and records what it will be known by.
func (c *carrying) stageOne(s *staged) error {
	parent, err := beneath.Parent(c.e.h.project, s.Path)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	if s.Want.Type == Symlink {
		err = c.stageLink(parent, s)
	} else {
		err = c.stageFile(parent, s)
	}
	if err == nil {
		s.state, err = c.stagedState(parent, s.tmp)
	}
	if err == nil {
		err = c.e.record(line{Path: bytes(s.Path), After: &s.state})
	}
	if err != nil {
		_ = unix.Unlinkat(parent, s.tmp, 0)
	}
	return err
}

func (c *carrying) stagedState(parent int, tmp string) (State, error) {
	after, err := statAt(parent, tmp)
	if err != nil || after.Type != File || after.Size > maxDigest {
		return after, err
	}
	fd, err := unix.Openat(parent, tmp, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EACCES) { // a mode that forbids its owner to read: known by inode and time
		return after, nil
	}
	if err != nil {
		return after, err
	}
	f := os.NewFile(uintptr(fd), tmp)
	defer f.Close()
	after.Digest, err = digest(f)
	return after, err
}

func (c *carrying) stageLink(parent int, s *staged) error {
	if err := unix.Symlinkat(string(s.Want.Link), parent, s.tmp); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		uid, gid := c.e.owner.UID, c.e.owner.GID
		if s.Exact {
			uid, gid = s.Want.UID, s.Want.GID
		}
		if err := unix.Fchownat(parent, s.tmp, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	if s.Exact {
		return setTime(parent, s.tmp, s.Want.Mtime)
	}
	return nil
}

func (c *carrying) stageFile(parent int, s *staged) error {
	fd, err := unix.Openat(parent, s.tmp, newFile&^unix.O_WRONLY|unix.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	out := os.NewFile(uintptr(fd), s.tmp)
	defer out.Close()
	if err := s.Fill(out); err != nil {
		return err
	}
	if err := c.own(fd, s.Step); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, s.mode(State{})); err != nil { // after the owner, whose change clears setuid
		return err
	}
	if s.Exact {
		restoreAttributes(fd, s.Want.Attributes)
		if err := setTime(parent, s.tmp, s.Want.Mtime); err != nil {
			return err
		}
	}
	return c.e.written(fd)
}

// own gives what root made to the project's owner, or to whose it was, and otherwise tries to keep the group of what it replaces.
func (c *carrying) own(fd int, s *Step) error {
	switch {
	case os.Geteuid() == 0 && s.Exact:
		return unix.Fchownat(fd, "", s.Want.UID, s.Want.GID, unix.AT_EMPTY_PATH)
	case os.Geteuid() == 0:
		return unix.Fchownat(fd, "", c.e.owner.UID, c.e.owner.GID, unix.AT_EMPTY_PATH)
	case s.Exact && s.Want.GID != os.Getegid():
		_ = unix.Fchownat(fd, "", -1, s.Want.GID, unix.AT_EMPTY_PATH) // only members of it may
	case s.Seen.Type != Absent && s.Seen.GID != os.Getegid():
		_ = unix.Fchownat(fd, "", -1, s.Seen.GID, unix.AT_EMPTY_PATH)
	}
	return nil
}

// restoreAttributes sets what may be set: security and trusted attributes are root's.
func restoreAttributes(fd int, attributes map[string][]byte) {
	for name, value := range attributes {
		_ = unix.Fsetxattr(fd, name, value, 0)
	}
}

func setTime(dir int, name string, mtime int64) error {
	return unix.UtimesNanoAt(dir, name, []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(mtime)}, unix.AT_SYMLINK_NOFOLLOW)
}

// written makes a new file durable, or remembers the file system it lies on.
func (e *Entry) written(fd int) error {
	if e.few {
		return unix.Fsync(fd)
	}
	n, err := statFd(fd)
	if err != nil || n.Dev == e.owner.Dev || e.others[n.Dev] != 0 {
		return err
	}
	other, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		e.others[n.Dev] = other
	}
	return err
}

// commit makes one change visible, in one step.
func (c *carrying) commit(s staged) error {
	parent, err := beneath.Parent(c.e.h.project, s.Path)
	if beneath.Absent(err) && s.Want.Type == Absent {
		s.Left = &State{}
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	name := path.Base(s.Path)
	now, err := statAt(parent, name)
	if err == nil {
		err = put(parent, name, s, now)
	}
	if err == nil {
		s.left(parent, name, s.state)
	}
	return err
}

// put puts what is staged in the place of what is there now.
func put(parent int, name string, s staged, now State) error {
	switch {
	case s.Want.Type == Absent && now.Type == Absent:
		return nil
	case !s.Seen.unmoved(now):
		return ErrMoved
	case s.Want.Type == Absent && now.Type == Dir:
		return removeDir(parent, name)
	case s.Want.Type == Absent:
		return unix.Unlinkat(parent, name, 0)
	case now.Type == Absent:
		return renameNew(parent, s.tmp, name)
	case now.Type == Dir:
		return overDir(parent, s.tmp, name)
	}
	return unix.Renameat(parent, s.tmp, parent, name)
}

// left notes what is there right after the step, which made it what was said. The name is new, so only the ctime may differ.
//
// Not noticed: a write of the host's within the microseconds before it, if it leaves size and mtime as they were.
func (s *Step) left(parent int, name string, made State) {
	if now, err := statAt(parent, name); err == nil && made.same(now) {
		s.Left = &now
	}
}

// renameNew takes a name that is free. Where the kernel or the file system cannot promise that (NFS, some FUSE), the name was free just now.
func renameNew(parent int, from, to string) error {
	err := unix.Renameat2(parent, from, parent, to, unix.RENAME_NOREPLACE)
	switch {
	case errors.Is(err, unix.EEXIST):
		return ErrMoved
	case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS):
		return unix.Renameat(parent, from, parent, to)
	}
	return err
}

// overDir puts something in the place of an empty directory.
func overDir(parent int, from, to string) error {
	fd, err := beneath.Open(parent, to, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	names, err := beneath.Names(fd)
	unix.Close(fd)
	if err != nil || len(names) > 0 {
		return errors.Join(err, ErrNotEmpty)
	}
	err = unix.Renameat2(parent, from, parent, to, unix.RENAME_EXCHANGE)
	if err == nil {
		return removeDir(parent, from)
	}
	if err := removeDir(parent, to); err != nil {
		return err
	}
	return renameNew(parent, from, to)
}

func removeDir(parent int, name string) error {
	err := unix.Unlinkat(parent, name, unix.AT_REMOVEDIR)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		return ErrNotEmpty
	}
	return err
}

// drop takes back what was not committed.
func (c *carrying) drop(all []staged) {
	for _, s := range all {
		if s.tmp == "" {
			continue
		}
		if parent, err := beneath.Parent(c.e.h.project, s.Path); err == nil {
			if now, err := statAt(parent, s.tmp); err == nil && now.Type != Dir {
				_ = unix.Unlinkat(parent, s.tmp, 0)
			}
			unix.Close(parent)
		}
	}
}

// makeDir makes a directory, in the place of a file or a link if there is one.
func (c *carrying) makeDir(s *Step) error {
	parent, err := beneath.Parent(c.e.h.project, s.Path)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	name := path.Base(s.Path)
	now, err := statAt(parent, name)
	if err != nil {
		return err
	}
	if now.Type == Dir && s.Seen.Type == Dir { // only what it is like changes
		c.late = append(c.late, s)
		return nil
	}
	if !s.Seen.unmoved(now) {
		return ErrMoved
	}
	into := name
	if now.Type != Absent {
		into = c.name()
	}
	if err := unix.Mkdirat(parent, into, 0o700); err != nil {
		return err
	}
	fd, err := beneath.Open(parent, into, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := c.own(fd, s); err != nil {
		return err
	}
	made, err := statFd(fd)
	if err != nil {
		return err
	}
	if s.Exact || s.Want.Mode&0o700 != 0o700 {
		c.late = append(c.late, s)
	}
	if err := unix.Fchmod(fd, s.Want.Mode&0o777|0o700|made.Mode&0o7000); err != nil || into == name {
		return err
	}
	return exchange(parent, into, name)
}

// exchange puts a new directory in the place of something that is none, which is kept.
func exchange(parent int, from, to string) error {
	if err := unix.Renameat2(parent, from, parent, to, unix.RENAME_EXCHANGE); err == nil {
		return unix.Unlinkat(parent, from, 0)
	}
	if err := unix.Unlinkat(parent, to, 0); err != nil {
		return err
	}
	return renameNew(parent, from, to)
}

// finishDir gives a directory its mode, and what else an exact one has, when everything is in it.
func (c *carrying) finishDir(s *Step) error {
	fd, err := beneath.Open(c.e.h.project, s.Path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	now, err := statFd(fd)
	if err != nil {
		return err
	}
	if s.Exact {
		if dir, err := beneath.Open(c.e.h.project, s.Path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW); err == nil {
			restoreAttributes(dir, s.Want.Attributes)
			unix.Close(dir)
		}
	}
	if mode := s.mode(now); mode != now.Mode {
		if err := chmodFd(fd, mode); err != nil {
			return err
		}
	}
	if !s.Exact {
		return nil
	}
	parent, err := beneath.Parent(c.e.h.project, s.Path)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	return setTime(parent, path.Base(s.Path), s.Want.Mtime)
}

// changeMode changes the permission bits of what is there. A directory may give up its owner's bits only last.
func (c *carrying) changeMode(s *Step) error {
	if s.Want.Type == Dir && s.Want.Mode&0o700 != 0o700 {
		c.late = append(c.late, s)
		return nil
	}
	fd, err := beneath.Open(c.e.h.project, s.Path, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	now, err := statFd(fd)
	if err != nil {
		return err
	}
	if !s.Seen.unmoved(now) {
		return ErrMoved
	}
	if err := chmodFd(fd, s.mode(now)); err != nil || now.Type == Dir {
		return err
	}
	now.Mode = s.mode(now)
	if after, err := statFd(fd); err == nil && now.same(after) {
		s.Left = &after
	}
	return nil
}

// chmodFd is fchmod(2) for any descriptor, also one opened with O_PATH because the mode forbids to read. The link in /proc is the kernel's own
// and leads to the very inode.
func chmodFd(fd int, mode uint32) error {
	err := unix.Fchmod(fd, mode)
	if errors.Is(err, unix.EBADF) {
		err = unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), mode)
	}
	return err
}
