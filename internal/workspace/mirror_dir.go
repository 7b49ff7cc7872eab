package workspace

import (
	"errors"

	"golang.org/x/sys/unix"
)

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
