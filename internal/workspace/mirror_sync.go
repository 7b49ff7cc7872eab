package workspace

import (
	"errors"
	"fmt"

	"casemate.dev/internal/history"
	"golang.org/x/sys/unix"
)

// sync makes the merged view of one path what the host has, unless the sandbox has its own.
func (m *Mirror) sync(rel string, t touch) error {
	host, err := m.project.stat(rel)
	if err != nil || m.passes(rel, host) {
		return err
	}
	m.noteIndex(rel) // also where events were dropped
	up, force, own, err := m.inLayer(rel)
	if err != nil {
		return err
	}
	if own != "" {
		return m.ownAbove(rel, host, own)
	}
	if up.Type != Absent && !m.log.mine(m.upper, rel, up) {
		return m.sandboxs(rel, host, up)
	}
	if m.repoIsOwn(rel) {
		return nil
	}
	see, in, err := m.look(rel)
	if err != nil {
		return err
	}
	return m.carry(rel, t, host, up, see, in, t.force || force)
}

// passes says that a path is none of the mirror's: hidden, of a kind that is not mirrored, or a lock of git, which would stop git inside.
func (m *Mirror) passes(rel string, host node) bool {
	if m.hidden != nil && m.hidden(rel, host) || isMirrorTemp(baseName(rel)) || history.Temporary(baseName(rel)) {
		return true
	}
	switch host.Type {
	case Device, Fifo, Socket:
		return true
	case Absent:
		return false
	}
	if gitLock(rel) {
		return true
	}
	foreign := host.uid != m.foreign.o.UID || host.gid != m.foreign.o.GID
	return foreign && host.Type == File && !m.mayRead(host)
}

// mayRead keeps what only root can read from being copied for somebody else.
func (m *Mirror) mayRead(n node) bool {
	st := unix.Statx_t{Uid: n.uid, Gid: n.gid, Mode: uint16(n.Mode)}
	return m.foreign.may(&st, 4)
}

// inLayer finds the layer's own entry. force says that it lies in a directory that the mirror made, through which nothing of the host shows; own
// names a directory above that the sandbox made, replaced or removed.
func (m *Mirror) inLayer(rel string) (up node, force bool, own string, err error) {
	for i := 0; i < len(rel); i++ {
		if rel[i] != '/' {
			continue
		}
		dir := rel[:i]
		n, err := m.upper.stat(dir)
		switch {
		case err != nil:
			return n, force, "", err
		case n.Type == Absent:
			return node{}, force, "", nil
		case n.Type != Dir && m.log.mine(m.upper, dir, n):
			return node{}, force, "", nil // the host has made it anew, or removed it: its own turn comes
		case n.Type != Dir:
			return n, force, dir, nil
		}
		if m.log.made(dir) {
			force = true
			continue
		}
		if opaque, err := m.opaque(dir); err != nil || opaque {
			return n, force, dir, err
		}
	}
	up, err = m.upper.stat(rel)
	return up, force, "", err
}

func (m *Mirror) opaque(dir string) (bool, error) {
	fd, err := m.upper.openDir(dir)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	attr, err := readOverlayDir(fd)
	return attr.opaque, err
}

// ownAbove is about what lies in a directory of the sandbox's own.
func (m *Mirror) ownAbove(rel string, host node, dir string) error {
	in, err := m.upper.stat(rel)
	if err != nil || host.Type == Dir || host.Type == Absent && in.Type == Absent || m.equal(rel, host, in) {
		return nil
	}
	m.conflict(rel, fmt.Sprintf("the sandbox changed the directory %s", Quote(dir)))
	return nil
}

// sandboxs leaves the sandbox's own entry alone.
func (m *Mirror) sandboxs(rel string, host, up node) error {
	switch {
	case up.blank && host.Type == Absent, up.Type == Dir && host.Type == Dir:
		return nil
	case m.equal(rel, host, up):
		return m.adopt(rel, host, up)
	case up.Type == Dir && host.Type == Absent:
		return m.emptied(rel)
	case m.sameIndex(rel, up):
		return m.replaceOwnIndex(rel, host)
	case gitPath(rel):
		m.repoIsOwn(rel)
		return nil
	}
	m.conflict(rel, "both the sandbox and the host changed it")
	return nil
}

// adopt takes an entry that both sides have alike, as after an apply, for one that was mirrored: what the host does next comes in.
func (m *Mirror) adopt(rel string, host, up node) error {
	r := mirrorRecord{Path: []byte(rel), Type: up.Type, Mode: up.Mode, Size: up.Size, Sum: up.Link, Host: stampOfHost(host)}
	if up.Type == Dir || gitPath(rel) || up.Type == File && up.Mode != host.perm() {
		return nil
	}
	if up.Type == File {
		var err error
		if r.Sum, err = contentSum(m.upper, rel, up); err != nil {
			return err
		}
		if sum, err := contentSum(m.project, rel, host); err != nil || sum != r.Sum {
			return err
		}
	}
	return m.log.put(r)
}

// equal reports whether a layer's entry holds what the host's does.
func (m *Mirror) equal(rel string, host, up node) bool {
	switch {
	case host.Type != up.Type:
		return false
	case host.Type == Symlink:
		return host.Link == up.Link
	case host.Type != File || host.Size != up.Size || host.Size > maxMirrorFile:
		return host.Type == Dir
	}
	a, err := contentSum(m.project, rel, host)
	if err != nil {
		return false
	}
	b, err := contentSum(m.upper, rel, up)
	return err == nil && a == b
}

// carry decides by what is seen inside, and does it.
func (m *Mirror) carry(rel string, t touch, host, up node, see view, in node, force bool) error {
	if force && see == unlooked && up.Type == Absent {
		see = missing
	}
	switch {
	case host.Type == Absent && (see == visible || see == unlooked && up.Type != Absent && !up.blank):
		return m.remove(rel, up)
	case host.Type == Absent && see == unlooked && m.worthTelling(rel, t):
		return m.announceGone(rel, t.dir)
	case host.Type == Absent:
		return nil
	case host.Type == Dir:
		return m.directory(rel, t, host, up, see, in)
	case see == unlooked && up.Type == Absent && (!t.saved || m.cheap(rel) || !m.watchedInside(rel)):
		return nil // the next look finds it
	case see == visible && in.Type == Dir:
		if err := m.remove(rel, up); err != nil {
			return err
		}
	}
	fresh := see == visible && up.Type == Absent && sameEntry(host, in) || see == unlooked && up.Type == Absent && !t.made
	switch {
	case fresh && (!t.saved || m.cheap(rel)):
		return nil // correct already, and nothing to say
	case host.Type == Symlink && see == visible && in.Type == Symlink && in.Link == host.Link && !fresh:
		return nil
	case host.Type == File && up.Type == File && m.showsStill(rel, host, up):
		return nil
	case host.Type == File && m.inPlaceCase(rel, host, up, fresh):
		return m.writeInPlace(rel, host, fresh)
	}
	return m.replace(rel, host)
}

// worthTelling says that the removal of an entry that nobody has looked up is to be seen inside. A directory may be there still, in the mask.
func (m *Mirror) worthTelling(rel string, t touch) bool {
	if t.dir {
		n, err := m.project.stat(parentOf(rel))
		return err == nil && n.Type == Dir
	}
	return t.saved && !t.made && !m.cheap(rel) && m.watchedInside(rel) // what was made in the same batch was never seen
}

// watchedInside says that somebody may have the directory of rel open or watched: the kernel still knows it, or was made to forget what it knew. A
// watch holds no name (inotify(7)), so one in a directory whose name the kernel forgot for lack of memory raises nothing.
func (m *Mirror) watchedInside(rel string) bool {
	dir := parentOf(rel)
	if dir == "" || m.forgot {
		return true
	}
	see, _, err := m.look(dir)
	return err == nil && see == visible
}

// sameEntry says that the view shows the host's entry itself, not an older one.
func sameEntry(host, in node) bool {
	return host.Type == in.Type && host.ino == in.ino && host.Size == in.Size && host.mtime == in.mtime && host.perm() == in.perm()
}

// showsStill says that this very state was mirrored already, and is there.
func (m *Mirror) showsStill(rel string, host, up node) bool {
	stamp, shown := m.shown(rel, up)
	return shown && stamp == stampOfHost(host)
}

// shown returns the state of the host's file that the layer's shows. There is none if it is what the mirror had made before: git inside can put
// that back, byte by byte.
func (m *Mirror) shown(rel string, up node) (hostStamp, bool) {
	stamp, shown := m.log.shown(rel)
	r := m.log.at[rel]
	return stamp, shown && r.holds(m.upper, rel, up)
}

// inPlaceCase says that the host wrote into the file that the sandbox has been shown, so that what has it open inside must see it too.
func (m *Mirror) inPlaceCase(rel string, host, up node, fresh bool) bool {
	if fresh {
		return true
	}
	stamp, shown := m.shown(rel, up)
	return up.Type == File && shown && stamp.Ino == host.ino
}

// directory mirrors a directory that is there. What lies in it has its own turn.
func (m *Mirror) directory(rel string, t touch, host, up node, see view, in node) error {
	if see == visible && in.Type == Dir {
		if m.lost[rel] && up.Type == Absent { // what was looked up is the one that the host removed
			m.dropCaches()
			delete(m.lost, rel)
			if see, _, err := m.look(rel); err == nil && see == visible {
				return m.fill(rel) // name by name: it cannot be listed inside as long as somebody uses the old one
			}
		}
		if up.Type == Absent && in.perm() != host.perm() {
			return m.mode(rel, host)
		}
		return nil
	}
	delete(m.lost, rel)
	switch {
	case see == visible: // a file or link in its place
		if err := m.remove(rel, up); err != nil {
			return err
		}
	case see == unlooked && up.Type == Absent:
		if !t.made || m.cheap(rel) || !m.watchedInside(rel) {
			return nil
		}
		return m.announce(rel, host)
	}
	return m.makeDir(rel, host)
}

// fill mirrors everything in a directory of which the view shows nothing by itself.
func (m *Mirror) fill(rel string) error {
	fd, err := m.project.openDir(rel)
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	names, err := namesIn(fd)
	if err != nil {
		return err
	}
	for _, name := range names {
		m.touch(join(rel, name), touch{saved: true, made: true, force: true})
	}
	return nil
}

// emptied is about a directory that is in the layer because something in it is, and that the host removed.
func (m *Mirror) emptied(rel string) error {
	err := m.remove(rel, node{State: State{Type: Dir}})
	if errors.Is(err, unix.ENOTEMPTY) {
		m.conflict(rel, "the host removed the directory, and the sandbox has changed something in it")
		return nil
	}
	return err
}
