package limits

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Leftovers are the groups of sandboxes that no longer live, found beneath our own group. A session elsewhere in the tree has its own, so
// a sandbox's record should keep its Dirs as well.
func Leftovers(f Facts, live func(id string) bool) []string {
	var found []string
	for _, base := range f.bases() {
		entries, err := names(base)
		if err != nil {
			continue
		}
		for _, name := range entries {
			if id, ours := strings.CutPrefix(name, prefix); ours && !live(id) {
				found = append(found, filepath.Join(base, name))
			}
		}
	}
	return found
}

// bases are the directories beneath which groups of ours can be.
func (f *Facts) bases() []string {
	var dirs []string
	for _, h := range f.V1 {
		if h.Why == "" {
			dirs = append(dirs, f.root+h.Dir)
		}
	}
	if f.V2 != nil && f.V2.Why == "" {
		dirs = append(dirs, strings.TrimSuffix(f.root+f.V2.Dir, "/"+leaf)) // we may have stepped into a leaf ourselves
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// names lists a directory.
func names(dir string) ([]string, error) {
	fd, err := openat(unix.AT_FDCWD, dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var found []string
	for buf := make([]byte, 8192); ; {
		n, err := unix.ReadDirent(fd, buf)
		if n <= 0 {
			return found, err
		}
		for e := range entries(buf[:n]) {
			found = append(found, string(e.name))
		}
	}
}

// RemoveLeftovers ends what still runs in such groups and removes them. Paths that are not control groups of ours are refused: they may
// come from a file.
func RemoveLeftovers(dirs []string) error {
	var errs []error
	var ours []string
	for _, dir := range dirs {
		var s unix.Statfs_t
		switch err := unix.Statfs(dir, &s); {
		case err == unix.ENOENT:
		case err != nil || s.Type != unix.CGROUP_SUPER_MAGIC && s.Type != unix.CGROUP2_SUPER_MAGIC || !strings.HasPrefix(filepath.Base(dir), prefix):
			errs = append(errs, fmt.Errorf("%q is not a control group of a sandbox", dir))
		default:
			ours = append(ours, dir)
		}
	}
	errs = append(errs, kill(ours), removeAll(ours))
	return errors.Join(errs...)
}
