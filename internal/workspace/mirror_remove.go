package workspace

import (
	"errors"

	"golang.org/x/sys/unix"
)

// remove takes away what the host no longer has.
func (m *Mirror) remove(rel string, up node) error {
	dir, err := m.openMerged(parentOf(rel))
	if err != nil {
		return ignoreGone(err)
	}
	defer unix.Close(dir)
	in, err := statAt(dir, baseName(rel))
	switch {
	case err != nil:
		return err
	case in.Type == Absent:
		return nil
	case in.Type == Dir:
		return m.removeDir(dir, rel, 0)
	}
	was, known := m.log.at[rel]
	old := &was
	if !known {
		old = nil
	}
	r := mirrorRecord{Path: []byte(rel), Temp: m.temp()}
	if in, err = m.before(dir, rel, old); err != nil {
		return err
	}
	undo, err := m.log.intend(r)
	if err != nil {
		return err
	}
	move := func(from, to string) error {
		return m.as(func() error { return unix.Renameat2(dir, from, dir, to, unix.RENAME_NOREPLACE) })
	}
	if err := move(baseName(rel), r.Temp); err != nil {
		return errors.Join(ignoreGone(err), undo())
	}
	if err := m.unharmed(join(parentOf(rel), r.Temp), old, in); err != nil {
		return m.putBack(rel, old, in, errors.Join(err, move(r.Temp, baseName(rel)), undo(), errPutBack))
	}
	if err := m.as(func() error { return unix.Unlinkat(dir, r.Temp, 0) }); err != nil {
		return err
	}
	return m.log.done(rel)
}

// removeDir removes a directory and what is not the sandbox's own in it.
func (m *Mirror) removeDir(parent int, rel string, depth int) error {
	if depth > maxRehideDepth {
		return errors.New("it is too deep")
	}
	fd, err := (&rooted{fd: parent}).open(baseName(rel), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return ignoreGone(err)
	}
	err = m.removeIn(fd, rel, depth)
	unix.Close(fd) // what is open is not forgotten
	if err == nil {
		err = m.removeEmpty(parent, rel)
	}
	if err != unix.ENOENT { // else the host's directory is gone under the one that was looked up
		return err
	}
	if m.dropCaches() {
		return m.removeDir(parent, rel, depth+1)
	}
	m.lost[rel] = true
	return m.log.put(mirrorRecord{Path: []byte(rel)}) // an empty directory stays in view
}

func (m *Mirror) removeIn(fd int, rel string, depth int) error {
	names, err := namesIn(fd)
	if err != nil && !absent(err) {
		return err
	}
	for _, name := range names {
		child := join(rel, name)
		up, err := m.upper.stat(child)
		if err != nil {
			return err
		}
		in, err := statAt(fd, name)
		switch {
		case err != nil:
			return err
		case in.Type == Dir:
			err = m.removeDir(fd, child, depth+1)
		case up.Type == Absent || m.log.mine(m.upper, child, up):
			err = m.remove(child, up)
		}
		if err != nil && !errors.Is(err, unix.ENOTEMPTY) {
			return err
		}
	}
	return nil
}

func (m *Mirror) removeEmpty(parent int, rel string) error {
	undo, err := m.log.intend(mirrorRecord{Path: []byte(rel)})
	if err != nil {
		return err
	}
	if err = m.as(func() error { return unix.Unlinkat(parent, baseName(rel), unix.AT_REMOVEDIR) }); err != nil {
		if e := undo(); e != nil {
			return e
		}
	}
	return err
}

func ignoreGone(err error) error {
	if absent(err) {
		return nil
	}
	return err
}

// dropCaches makes the kernel forget every name of the view that nobody uses at the moment. Only root may ask for it; it is for directories that the
// host removed, which nothing else takes out of the view.
func (m *Mirror) dropCaches() bool {
	if m.drops++; m.drops > maxDrops {
		return false
	}
	fd, err := unix.Fspick(m.merged.fd, "", unix.FSPICK_EMPTY_PATH|unix.FSPICK_CLOEXEC)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	_, _, errno := unix.Syscall6(unix.SYS_FSCONFIG, uintptr(fd), unix.FSCONFIG_CMD_RECONFIGURE, 0, 0, 0, 0)
	m.forgot = m.forgot || errno == 0
	return errno == 0
}

// maxDrops is how often that is done for one batch of changes.
const maxDrops = 20
