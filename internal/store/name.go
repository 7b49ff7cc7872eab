package store

import (
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Name is the name of a running sandbox, held for as long as the process lives or until it is released.
type Name struct {
	path string
	fd   int
}

// TakeName takes a name that no other running sandbox has. The kernel gives it back when the process ends, however it ends.
func (s *Store) TakeName(name string) (*Name, error) { return s.takeName(name, 5) }

// FreeName takes it only if it is free at once, to tidy up after whoever had it.
func (s *Store) FreeName(name string) (*Name, error) { return s.takeName(name, 0) }

func (s *Store) takeName(name string, patience int) (*Name, error) {
	dir := filepath.Join(s.Root, "names")
	if err := MakeDir(dir); err != nil {
		return nil, err
	}
	n := &Name{path: filepath.Join(dir, name)}
	for tries := range 100 {
		fd, err := unix.Open(n.path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, fmt.Errorf("name %q: %w", name, err)
		}
		if unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}) != nil {
			unix.Close(fd)
			if tries >= patience {
				break
			}
			time.Sleep(10 * time.Millisecond) // who tidies up has it for a moment
			continue
		}
		var held, there unix.Stat_t
		if unix.Fstat(fd, &held) == nil && unix.Stat(n.path, &there) == nil && held.Ino == there.Ino && held.Dev == there.Dev {
			n.fd = fd
			return n, nil
		}
		unix.Close(fd) // whoever had it removed the file in between
	}
	return nil, fmt.Errorf("name %q: %w", name, ErrRunning)
}

// Release gives it back.
func (n *Name) Release() {
	unix.Unlink(n.path) // while it is locked, so that nobody who holds the new file is robbed of it
	unix.Close(n.fd)
}
