package workspace

import (
	"errors"

	"golang.org/x/sys/unix"
)

// replace puts the host's file or link in the place of what the view shows, as a save by rename does: prepared under another name, so that no
// reader finds half of it, and what has the old one open keeps it.
//
// What was there is exchanged, not overwritten, and looked at afterwards: if the sandbox has changed it between our look and the exchange, it is put
// back. So nothing of its own is lost, however they race.
func (m *Mirror) replace(rel string, host node) error {
	content, host, err := m.read(rel, host)
	if err != nil {
		return err
	}
	dir, err := m.openMerged(parentOf(rel))
	if absent(err) {
		return nil // the directory is not there inside, or is something else: its own turn comes
	}
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	was, known := m.log.at[rel]
	r := mirrorRecord{Path: []byte(rel), Type: host.Type, Host: stampOfHost(host), Temp: m.temp(), Sum: host.Link}
	if host.Type == File {
		r.Mode, r.Size, r.Sum = host.perm(), int64(len(content)), sumBytes(content)
	}
	undo, err := m.log.intend(r)
	if err != nil {
		return err
	}
	if err := m.as(func() error { return m.prepare(dir, r.Temp, host, content) }); err != nil {
		return errors.Join(m.discardTemp(dir, r.Temp, err), undo())
	}
	old := &was
	if !known {
		old = nil
	}
	below, err := statAt(dir, baseName(rel))
	if err == nil {
		err = m.exchange(dir, rel, r.Temp, old)
	}
	if err == nil {
		return m.log.done(rel)
	}
	err = errors.Join(m.discardTemp(dir, r.Temp, err), undo())
	return m.putBack(rel, old, below, err)
}

// prepare makes the new entry under its temporary name. O_EXCL follows no link.
func (m *Mirror) prepare(dir int, temp string, host node, content []byte) error {
	if host.Type == Symlink {
		if err := unix.Symlinkat(host.Link, dir, temp); err != nil {
			return err
		}
		return setTime(dir, temp, host.mtime)
	}
	fd, err := unix.Openat(dir, temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := writeAll(fd, content); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, host.perm()); err != nil {
		return err
	}
	return setTime(dir, temp, host.mtime)
}

func (m *Mirror) discardTemp(dir int, temp string, why error) error {
	if why != nil {
		m.as(func() error { return unix.Unlinkat(dir, temp, 0) })
	}
	return why
}

// exchange puts temp in the place of rel.
func (m *Mirror) exchange(dir int, rel, temp string, was *mirrorRecord) error {
	name := baseName(rel)
	err := m.as(func() error { return unix.Renameat2(dir, temp, dir, name, unix.RENAME_NOREPLACE) })
	if err != unix.EEXIST {
		return err
	}
	in, err := m.before(dir, rel, was)
	if err != nil {
		return err
	}
	swap := func() error { return unix.Renameat2(dir, name, dir, temp, unix.RENAME_EXCHANGE) } // in this order the last event is of name appearing
	if err := m.as(swap); err != nil {
		return err
	}
	if err := m.unharmed(join(parentOf(rel), temp), was, in); err != nil {
		return errors.Join(err, m.as(swap), errPutBack)
	}
	return m.as(func() error { return unix.Unlinkat(dir, temp, 0) })
}

// errPutBack says that an entry was moved away and back, which copies what came from below into the layer.
var errPutBack = errors.New("it was put back")

// putBack notes that such a copy is not the sandbox's.
func (m *Mirror) putBack(rel string, was *mirrorRecord, below node, why error) error {
	if was != nil || !errors.Is(why, errPutBack) {
		return why
	}
	up, err := m.upper.stat(rel)
	if err != nil || up.Type != File || up.Size != below.Size || up.mtime != below.mtime || up.perm() != below.perm() {
		return why
	}
	sum, err := contentSum(m.upper, rel, up)
	if err != nil {
		return why
	}
	return errors.Join(why, m.log.put(mirrorRecord{Path: []byte(rel), Type: File, Mode: up.Mode, Size: up.Size, Sum: sum}))
}

// before returns what the view shows under a name that the layer has nothing of, or only what the mirror made (was).
func (m *Mirror) before(dir int, rel string, was *mirrorRecord) (node, error) {
	in, err := statAt(dir, baseName(rel)) // before the layer is looked at: then this is the entry below
	if err != nil {
		return in, err
	}
	up, err := m.upper.stat(rel)
	if err == nil && up.Type != Absent && !m.isWas(was, rel, up) {
		err = errBusy // and looked at again
	}
	return in, err
}

func (m *Mirror) isWas(was *mirrorRecord, rel string, n node) bool {
	return was != nil && (was.holds(m.upper, rel, n) || was.Was != nil && was.Was.holds(m.upper, rel, n))
}

// unharmed fails if what was taken from its name is not what was there before, or if somebody is writing to it.
func (m *Mirror) unharmed(rel string, was *mirrorRecord, in node) error {
	out, err := m.upper.stat(rel)
	switch {
	case err != nil:
		return err
	case out.Type == File && m.writtenTo(rel, out):
		return errBusy
	case was != nil && was.Type != Absent:
		if !m.isWas(was, rel, out) {
			return errBusy
		}
	case out.Type != in.Type || out.Link != in.Link:
		return errBusy
	case out.Type == File && (out.mtime != in.mtime || out.Size != in.Size || out.perm() != in.perm()): // copied up just now, with its time
		return errBusy
	}
	return nil
}
