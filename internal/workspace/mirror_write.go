package workspace

import (
	"errors"
	"fmt"
	"io"

	"casemate.dev/internal/beneath"
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
	if err != nil {
		err = errors.Join(m.discardTemp(dir, r.Temp, err), undo())
	}
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

// writtenTo reports whether a program has the layer's file open for writing: then the kernel grants no read lease (fcntl(2)).
func (m *Mirror) writtenTo(rel string, n node) bool {
	f, err := m.upper.openFile(rel, n)
	if err != nil {
		return false
	}
	defer f.Close()
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	if err == nil {
		unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
	}
	return err == unix.EAGAIN
}

// writeInPlace writes the host's new content into the file that programs inside may have open.
func (m *Mirror) writeInPlace(rel string, host node, fresh bool) error {
	content, host, err := m.read(rel, host)
	if err != nil {
		return err
	}
	r := mirrorRecord{Path: []byte(rel), Type: File, Mode: host.perm(), Size: int64(len(content)), Sum: sumBytes(content), Host: stampOfHost(host)}
	if fresh {
		return m.copyUp(rel, r, host)
	}
	return m.overwrite(rel, r, host, content)
}

// copyUp is about a file whose content is right inside already, as it is the host's own: only the event is missing, and nothing raises one without
// copying the file into the layer.
func (m *Mirror) copyUp(rel string, r mirrorRecord, host node) error {
	undo, err := m.log.intend(r)
	if err != nil {
		return err
	}
	fd, err := m.openToWrite(rel)
	if err != nil {
		return errors.Join(ignoreGone(err), undo())
	}
	defer unix.Close(fd)
	up, err := m.upper.stat(rel)
	if err != nil || up.Type != File {
		return errors.Join(err, undo())
	}
	sum, err := contentSum(m.upper, rel, up)
	if err != nil {
		return errors.Join(err, undo())
	}
	if sum != r.Sum {
		// The host wrote on while it was copied; a copy carries the time of what it was made from, and a write of the sandbox a later one.
		now, err := m.project.stat(rel)
		if err != nil || up.mtime > now.mtime {
			return errors.Join(err, undo())
		}
		r.Sum, r.Size = sum, up.Size
		r.Host.Mtime = 0
	}
	r.Mode = up.Mode
	if err := m.log.put(r); err != nil {
		return err
	}
	if r.Host.Mtime == 0 {
		return errBusy
	}
	return m.announceWrite(rel, fd, host.mtime)
}

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

func ignoreGone(err error) error {
	if absent(err) {
		return nil
	}
	return err
}

// openToWrite opens a file of the merged view for writing; overlayfs copies it into the layer. It waits for nobody.
func (m *Mirror) openToWrite(rel string) (fd int, err error) {
	how := unix.OpenHow{Flags: unix.O_WRONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC, Resolve: mirrorResolve}
	err = m.as(func() error {
		fd, err = unix.Openat2(m.merged.fd, rel, &how)
		return err
	})
	if err == unix.EAGAIN { // a lease that a program inside holds
		return -1, errBusy
	}
	if err != nil {
		return -1, err
	}
	if n, err := statFd(fd); err != nil || n.Type != File {
		unix.Close(fd)
		return -1, unix.ENOENT
	}
	return fd, nil
}

// overwrite writes into the mirror's own file in the layer, so that overlayfs shows it in whatever has the file open. Under a write lease nobody
// else has it open, and who opens it waits (fcntl(2)); where others read it, it is written while no writer is there.
func (m *Mirror) overwrite(rel string, r mirrorRecord, host node, content []byte) error {
	up, err := m.upper.stat(rel)
	if err != nil {
		return err
	}
	if m.writtenTo(rel, up) {
		return errBusy
	}
	fd, err := m.upper.open(rel, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return ignoreGone(err)
	}
	defer unix.Close(fd)
	unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_WRLCK) // refused while others read it, and then a writer may come between; see docs/why/mirror.md
	release := func() { unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK) }
	defer release()
	now, err := statFd(fd)
	if err != nil || now.ino != up.ino || !m.lastWritten(rel, fd, now) {
		return errors.Join(err, errBusy)
	}
	r.Open = true
	if _, err := m.log.intend(r); err != nil {
		return err
	}
	if err := writeOver(fd, content, host.perm()); err != nil {
		return err
	}
	release()
	w, err := m.openToWrite(rel)
	if err == nil {
		err = m.announceWrite(rel, w, host.mtime)
		unix.Close(w)
	}
	return errors.Join(ignoreGone(err), m.log.done(rel))
}

// lastWritten reports whether an open file of the layer is as the mirror left it. To open it once more would be to wait for our own lease.
func (m *Mirror) lastWritten(rel string, fd int, n node) bool {
	r := m.log.at[rel]
	if n.Size != r.Size || n.Mode != r.Mode || n.Size > maxMirrorFile {
		return false
	}
	content := make([]byte, n.Size)
	for at := 0; at < len(content); {
		k, err := unix.Pread(fd, content[at:], int64(at))
		if err != nil || k == 0 {
			return false
		}
		at += k
	}
	return sumBytes(content) == r.Sum
}

// writeOver never empties the file in between.
func writeOver(fd int, content []byte, perm uint32) error {
	for at := 0; at < len(content); {
		n, err := unix.Pwrite(fd, content[at:], int64(at))
		if err != nil {
			return err
		}
		at += n
	}
	if err := unix.Ftruncate(fd, int64(len(content))); err != nil {
		return err
	}
	return unix.Fchmod(fd, perm)
}

// read reads the host's entry as it is at one moment: a file that changes meanwhile is tried again.
func (m *Mirror) read(rel string, host node) ([]byte, node, error) {
	if host.Type != File {
		return nil, host, nil
	}
	if host.Size > maxMirrorFile {
		return nil, host, fmt.Errorf("it is too large: %s, and the limit is %s", humanBytes(host.Size), humanBytes(maxMirrorFile))
	}
	if m.written += host.Size; m.written > maxMirrorTotal {
		return nil, host, fmt.Errorf("more than %s were mirrored in this run: what the sandbox looked at before stays as it was", humanBytes(maxMirrorTotal))
	}
	f, err := m.project.openFile(rel, host)
	if errors.Is(err, beneath.ErrReplaced) || absent(err) {
		return nil, host, errBusy
	}
	if err != nil {
		return nil, host, err
	}
	defer f.Close()
	content := make([]byte, host.Size)
	n, err := io.ReadFull(f, content)
	if err != nil && n < len(content) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, host, err
	}
	after, err := statFd(int(f.Fd()))
	if err != nil {
		return nil, host, err
	}
	if n < len(content) || after.Size != host.Size || after.mtime != host.mtime {
		return nil, host, errBusy
	}
	if host.Size == 0 || !gitIndex(rel) {
		return content, host, nil
	}
	return m.editIndex(rel, content), host, nil
}

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
	return m.as(func() error { return unix.Unlinkat(dir, r.Temp, 0) })
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

// makeDir makes a directory that is not there inside. It hides what the host has in it, so everything is mirrored.
func (m *Mirror) makeDir(rel string, host node) error {
	dir, err := m.openMerged(parentOf(rel))
	if err != nil {
		return ignoreGone(err)
	}
	defer unix.Close(dir)
	undo, err := m.log.intend(mirrorRecord{Path: []byte(rel), Type: Dir, Mode: host.perm(), Host: stampOfHost(host)})
	if err != nil {
		return err
	}
	err = m.as(func() error { return unix.Mkdirat(dir, baseName(rel), host.perm()) })
	if err != nil {
		return errors.Join(undo(), ignoreExisting(err))
	}
	if err := m.chmod(rel, host); err != nil {
		return err
	}
	return m.fill(rel)
}

func ignoreExisting(err error) error {
	if err == unix.EEXIST {
		return nil
	}
	return err
}

// chmod sets a directory's mode in the view, against any umask. Setting the same raises an event, and copies the directory into the layer.
func (m *Mirror) chmod(rel string, host node) error {
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC, Resolve: mirrorResolve}
	return ignoreGone(m.as(func() error {
		fd, err := unix.Openat2(m.merged.fd, rel, &how)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Fchmod(fd, host.perm())
	}))
}

func (m *Mirror) mode(rel string, host node) error { return m.chmod(rel, host) }

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
