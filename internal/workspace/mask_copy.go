package workspace

import (
	"errors"
	"fmt"
	"io"
	"os"

	"casemate.dev/internal/beneath"
	"golang.org/x/sys/unix"
)

// sameCopy reports whether a copy was made of the file as it is now: it carries the original's size and time.
func sameCopy(st *unix.Stat_t, n *note) bool {
	return n.typ == unix.DT_LNK || st.Size == n.size && st.Mtim.Nano() == n.mtime
}

// copyForeign copies a file or link that belongs to somebody else into the mask, where it belongs to the sandbox's user. The copy appears under
// its name only when it is whole. A later change by the host does not show inside before the next start.
func (m *Mask) copyForeign(maskDir int, dir string, n *note) error {
	const temp = "copy"
	if err := unix.Unlinkat(m.base.fd, temp, 0); err != nil && err != unix.ENOENT {
		return err
	}
	err := m.copyTo(temp, join(dir, n.name), n)
	if errors.Is(err, beneath.ErrReplaced) || absent(err) {
		return nil // it changed since the scan: its directory has a new stamp, so the next start sees it
	}
	if err != nil {
		return fmt.Errorf("copy %q, which belongs to somebody else: %w", join(dir, n.name), err)
	}
	return unix.Renameat(m.base.fd, temp, maskDir, n.name)
}

func (m *Mask) copyTo(temp, rel string, n *note) error {
	if n.typ == unix.DT_LNK {
		return m.copyLink(temp, rel)
	}
	from, err := m.top.openFile(rel, node{ino: n.ino, dev: m.Survey.dev})
	if err != nil {
		return err
	}
	defer from.Close()
	fd, err := m.base.openNew(temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	to := os.NewFile(uintptr(fd), temp)
	defer to.Close()
	if _, err := io.Copy(to, io.LimitReader(from, maxForeignBytes)); err != nil {
		return err
	}
	if err := m.own(fd); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, uint32(n.perm)|0o400); err != nil { // never set-id: the owner is another now
		return err
	}
	return setTime(m.base.fd, temp, n.mtime)
}

func (m *Mask) copyLink(temp, rel string) error {
	dir, err := m.top.openParent(rel)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	target, err := readLink(dir, baseName(rel))
	if err != nil {
		return err
	}
	if err := unix.Symlinkat(target, m.base.fd, temp); err != nil {
		return err
	}
	if m.ours() {
		return nil
	}
	return unix.Fchownat(m.base.fd, temp, int(m.o.UID), int(m.o.GID), unix.AT_SYMLINK_NOFOLLOW)
}

// ours says whether what this process makes is the sandbox's user's anyway.
func (m *Mask) ours() bool {
	return m.o.UID == uint32(os.Geteuid()) && m.o.GID == uint32(os.Getegid())
}

// own gives a new file to the sandbox's user, if this process works for somebody else.
func (m *Mask) own(fd int) error {
	if m.ours() {
		return nil
	}
	return unix.Fchown(fd, int(m.o.UID), int(m.o.GID))
}
