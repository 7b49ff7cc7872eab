package workspace

import (
	"errors"

	"golang.org/x/sys/unix"
)

// announceWrite raises the events of a write without writing: preallocating what is there already changes nothing, and counts as one.
func (m *Mirror) announceWrite(rel string, fd int, mtime int64) error {
	unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, 1) // where the file system cannot, closing raises an event still
	parent, err := m.upper.openParent(rel)
	if err != nil {
		return ignoreGone(err)
	}
	defer unix.Close(parent)
	return ignoreGone(setTime(parent, baseName(rel), mtime))
}

// announceGone raises the events of a removal for an entry that nobody inside has looked up, and that the view has forgotten with the host: it
// appears, empty, and goes.
func (m *Mirror) announceGone(rel string, isDir bool) error {
	dir, err := m.openMerged(parentOf(rel))
	if err != nil {
		return ignoreGone(err)
	}
	defer unix.Close(dir)
	r := mirrorRecord{Path: []byte(rel), Type: File, Mode: 0o600, Sum: sumBytes(nil), Temp: m.temp()}
	if n, err := statAt(dir, baseName(rel)); err != nil || n.Type != Absent { // the mask has such a directory
		return errors.Join(err, m.remove(rel, node{}))
	}
	if isDir {
		r.Type = Dir
	}
	undo, err := m.log.intend(r)
	if err != nil {
		return err
	}
	if isDir {
		err = m.as(func() error { return unix.Mkdirat(dir, baseName(rel), 0) })
	} else {
		err = m.as(func() error {
			if err := m.prepare(dir, r.Temp, node{State: State{Type: File, Mode: 0o600}}, nil); err != nil {
				return err
			}
			return m.discardTemp(dir, r.Temp, unix.Renameat2(dir, r.Temp, dir, baseName(rel), unix.RENAME_NOREPLACE))
		})
	}
	if err != nil {
		return errors.Join(undo(), ignoreExisting(ignoreGone(err)))
	}
	return m.remove(rel, node{})
}

// What a new directory may hold to be made inside as one, with the event of its making. A larger one is only shown.
const (
	maxAnnounced      = 512
	maxAnnouncedBytes = 16 << 20
)

// announce is about a new directory that nobody inside has looked for. Overlayfs shows it by itself, and so refuses to make it, which alone would
// raise the event that watchers of directories wait for; so for that moment a whiteout in the layer hides it.
func (m *Mirror) announce(rel string, host node) error {
	entries, bytes := maxAnnounced, int64(maxAnnouncedBytes)
	if !m.small(rel, &entries, &bytes) {
		return m.chmod(rel, host)
	}
	if parent := parentOf(rel); parent != "" {
		if up, err := m.upper.stat(parent); err == nil && up.Type == Absent {
			if n, err := m.project.stat(parent); err != nil || n.Type != Dir || m.chmod(parent, n) != nil {
				return m.chmod(rel, host)
			}
		}
	}
	parent, err := m.upper.openParent(rel)
	if err != nil {
		return ignoreGone(err)
	}
	defer unix.Close(parent)
	undo, err := m.log.intend(mirrorRecord{Path: []byte(rel)})
	if err != nil {
		return err
	}
	if err := makeWhiteout(parent, baseName(rel)); err != nil {
		return errors.Join(undo(), ignoreExisting(err))
	}
	if err := m.makeDir(rel, host); err != nil {
		return err
	}
	if up, err := statAt(parent, baseName(rel)); err == nil && up.blank { // somebody looked it up in that moment
		unix.Unlinkat(parent, baseName(rel), 0)
		return errors.Join(undo(), m.chmod(rel, host))
	}
	return nil
}

func (m *Mirror) small(rel string, entries *int, bytes *int64) bool {
	fd, err := m.project.openDir(rel)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	names, err := namesIn(fd)
	if *entries -= len(names); err != nil || *entries < 0 {
		return false
	}
	for _, name := range names {
		n, err := statAt(fd, name)
		if *bytes -= n.Size; err != nil || *bytes < 0 {
			return false
		}
		if n.Type == Dir && !m.small(join(rel, name), entries, bytes) {
			return false
		}
	}
	return true
}
