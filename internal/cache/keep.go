package cache

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"casemate.dev/internal/beneath"
	"casemate.dev/internal/store"
	"golang.org/x/sys/unix"
)

// Set is what one sandbox at a time adds to a project's caches. A layer must not be mounted twice (overlayfs.rst: the result is undefined), so a second
// sandbox that runs in the project at the same time has a set of its own. Sets are numbered, and a run takes the first that is free: alone, it finds what
// the last one has left.
//
//	SET/lock                     held while a sandbox has it
//	SET/running                  the kernel's boot, while what was written may not be on the disk
//	SET/NAME/PART/layer/upper    what was written, and the work directory beside it
//	SET/NAME/PART/mask           whiteouts over what stays out of sight
//	SET/NAME/PART/base           which directory of the host it was over, and when last
type Set struct {
	Dir  string
	Torn bool // the machine stopped while a sandbox ran with it: what is in it may be empty or half written
	lock int
}

// maxSets bounds how many sandboxes of a project run at once with caches.
const maxSets = 64

// Take takes the first free set in a directory.
func Take(dir string) (*Set, error) {
	for i := 1; i <= maxSets; i++ {
		s := &Set{Dir: filepath.Join(dir, strconv.Itoa(i))}
		if err := store.MakeDir(s.Dir); err != nil {
			return nil, err
		}
		switch err := s.take(); {
		case err == nil:
			boot, err := os.ReadFile(filepath.Join(s.Dir, "running"))
			s.Torn = err == nil && string(boot) != bootID()
			return s, nil
		case !errors.Is(err, store.ErrRunning):
			return nil, err
		}
	}
	return nil, fmt.Errorf("%d sandboxes of this project run with caches already", maxSets)
}

func (s *Set) take() error {
	fd, err := unix.Open(filepath.Join(s.Dir, "lock"), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("lock of %q: %w", s.Dir, err)
	}
	if err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		unix.Close(fd)
		return store.ErrRunning
	}
	s.lock = fd
	return nil
}

// Begin says that a sandbox will write. The overlays are mounted volatile: nothing is on the disk before End. This need not be there earlier than what
// will be written, and file systems keep that order; should its content be lost, it is of no known boot.
func (s *Set) Begin() error {
	return os.WriteFile(filepath.Join(s.Dir, "running"), []byte(bootID()), 0o600)
}

// End writes to the disk what was written, and lets go of the set.
func (s *Set) End() error {
	err := error(nil)
	if running := filepath.Join(s.Dir, "running"); present(running) {
		var fd int
		if fd, err = unix.Open(s.Dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
			err = unix.Syncfs(fd)
			unix.Close(fd)
		}
		if err == nil {
			err = os.Remove(running)
		}
	}
	unix.Close(s.lock)
	return err
}

// bootID is another whenever the machine has started anew.
func bootID() string {
	text, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(text))
}

// Names lists the caches of which the set holds something.
func (s *Set) Names() []string {
	return slices.DeleteFunc(children(s.Dir), func(name string) bool { return strings.HasPrefix(name, going) })
}

// going is what the name of a cache that is being removed begins with.
const going = "going-"

// Drop removes what the set holds of the caches, and what an earlier removal has left. A cache is taken out of its place at once: half of one would be taken
// for whole.
func (s *Set) Drop(remove func(dir string) error, names ...string) error {
	left := slices.DeleteFunc(children(s.Dir), func(name string) bool { return !strings.HasPrefix(name, going) })
	for _, name := range left {
		if err := remove(filepath.Join(s.Dir, name)); err != nil {
			return err
		}
	}
	for _, name := range names {
		out := filepath.Join(s.Dir, going+name)
		if err := os.Rename(filepath.Join(s.Dir, name), out); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := remove(out); err != nil {
			return err
		}
	}
	return nil
}

// children are the names of the directories in a directory.
func children(dir string) (names []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

// Mask makes a directory of whiteouts for the paths, as it is laid between the host's cache and what a sandbox writes. remove empties what is there of
// another list. The sandbox cannot change it; own makes a directory belong to the owner of the host's cache.
func Mask(dir string, hide []string, remove func(dir string) error, own func(dir string) error) error {
	list := dir + ".list"
	want := strings.Join(hide, "\n")
	if have, err := os.ReadFile(list); err == nil && string(have) == want && present(dir) {
		return own(dir)
	}
	if err := os.Remove(list); err != nil && !errors.Is(err, os.ErrNotExist) { // first: a list never stands beside half a mask
		return err
	}
	if err := errors.Join(remove(dir), store.MakeDir(dir), own(dir)); err != nil {
		return err
	}
	for _, path := range hide {
		if err := whiteout(dir, path, own); err != nil {
			return fmt.Errorf("hide %q: %w", path, err)
		}
	}
	return store.WriteFile(list, []byte(want), 0o600)
}

func whiteout(dir, path string, own func(dir string) error) error {
	if !beneath.Valid(path) {
		return unix.EINVAL
	}
	if above, name := filepath.Split(path); above != "" {
		for part := range strings.SplitSeq(strings.TrimSuffix(above, "/"), "/") {
			dir = filepath.Join(dir, part)
			if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
				return err
			}
			if err := errors.Join(os.Chmod(dir, 0o755), own(dir)); err != nil { // whatever the umask
				return err
			}
		}
		path = name
	}
	return unix.Mknod(filepath.Join(dir, path), unix.S_IFCHR, 0) // allowed to everybody since Linux 5.8
}

func present(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Note writes which directory of the host a part lies over, and when it did last.
func Note(part, host string) error {
	file := filepath.Join(part, "base")
	if have, err := os.ReadFile(file); err == nil && string(have) == host {
		now := time.Now()
		return os.Chtimes(file, now, now)
	}
	return store.WriteFile(file, []byte(host), 0o600)
}
