package workspace

import (
	"errors"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// keptMasks is how many masks of one project stay when another one is made: each change of the hide patterns makes one.
const keptMasks = 3

// pruneMasks removes the masks of a project that were last changed longest ago, unless a sandbox uses them. They are caches: whoever needs one
// again gets it anew. What cannot be removed stays.
func pruneMasks(dir string) {
	entries, err := os.ReadDir(filepath.Join(dir, "index"))
	if err != nil || len(entries) <= keptMasks {
		return
	}
	age := func(e os.DirEntry) int64 {
		st, err := e.Info()
		if err != nil {
			return 0
		}
		return st.ModTime().UnixNano()
	}
	slices.SortFunc(entries, func(a, b os.DirEntry) int { return int(min(1, max(-1, age(b)-age(a)))) })
	for _, e := range entries[keptMasks:] {
		_ = removeMask(dir, e.Name())
	}
}

// removeMask removes one mask, whose directories may have modes with which os.RemoveAll would fail.
func removeMask(dir, name string) error {
	index := filepath.Join(dir, "index", name)
	base, err := openRooted(filepath.Join(dir, "mask", name))
	if errors.Is(err, unix.ENOENT) {
		return os.Remove(index)
	}
	if err != nil {
		return err
	}
	defer base.close()
	if err := unix.Flock(base.fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return &os.PathError{Op: "remove (a sandbox uses it)", Path: base.name, Err: err}
	}
	if err := os.Remove(index); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return removeTree(unix.AT_FDCWD, base.name, unix.S_IFDIR)
}
