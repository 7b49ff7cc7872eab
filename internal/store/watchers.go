package store

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// WatchersPath is the file on which each casemate watch with somebody in front of it holds a lock. It is written to when one comes, and closed when one
// goes, however that ends: both can be heard with inotify(7).
func (s *Store) WatchersPath() string { return filepath.Join(s.Root, "watchers") }

// Watch says that somebody watches, until the file is closed. The locks of several do not exclude each other.
func (s *Store) Watch() (*os.File, error) {
	f, err := os.OpenFile(s.WatchersPath(), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK}); err == nil {
		_, err = f.WriteAt([]byte("\n"), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return f, nil
}

// Watched reports whether anybody watches.
func (s *Store) Watched() bool {
	fd, err := unix.Open(s.WatchersPath(), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return isLocked(fd)
}

// QuestionsDir holds what running sandboxes wait to be answered, a file for each of them.
func (s *Store) QuestionsDir() string { return filepath.Join(s.Root, "questions") }

// Replace is WriteFile for what need not outlive the machine's halt.
func Replace(path string, data []byte) error { return replace(path, data, 0o600, false) }
