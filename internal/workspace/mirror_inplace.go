package workspace

import (
	"errors"
	"fmt"
	"io"

	"casemate.dev/internal/beneath"
	"golang.org/x/sys/unix"
)

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
	if sum != r.Sum { // the host wrote on while it was copied, or the sandbox wrote since
		now, err := m.project.stat(rel)
		if err != nil || !copied(up, now) {
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

// copied reports whether a file of the layer is as overlayfs copied it: with the time of what it was made from, which is before its own birth. Within one
// tick of the clock the two are equal, also after a write of the sandbox; then it counts as copied if the host's own is no older.
func copied(up, host node) bool {
	return up.mtime < up.btime || up.mtime == up.btime && up.mtime <= host.mtime
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
	return m.placeIndex(rel, content), host, nil
}
