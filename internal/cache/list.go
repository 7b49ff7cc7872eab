package cache

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"casemate.dev/internal/store"
	"golang.org/x/sys/unix"
)

// Kept is what a project's sandboxes have added to one cache.
type Kept struct {
	ID      string    `json:"id"` // of the project
	Project string    `json:"project"`
	Cache   string    `json:"cache"`
	Size    int64     `json:"size"` // bytes on disk
	Used    time.Time `json:"used"` // when a run last began with it
	Base    []string  `json:"base"` // the host's directories under it
	Running bool      `json:"running"`
	Sets    []string  `json:"-"` // the sets that hold some of it
}

// List lists what is kept for all projects, by project and name.
func List(st *store.Store) []Kept {
	kept := []Kept{}
	projects := filepath.Join(st.Root, "projects")
	for _, key := range children(projects) {
		for _, name := range children(filepath.Join(projects, key)) {
			if name == "cache" || strings.HasPrefix(name, "cache-") {
				kept = append(kept, listIn(filepath.Join(projects, key), name)...)
			}
		}
	}
	slices.SortFunc(kept, func(a, b Kept) int { return strings.Compare(a.Project+"\x00"+a.Cache, b.Project+"\x00"+b.Cache) })
	return kept
}

// listIn lists what one directory with a project's sets holds.
func listIn(project, dir string) (kept []Kept) {
	path, _ := os.ReadFile(filepath.Join(project, "project"))
	for _, number := range children(filepath.Join(project, dir)) {
		set := &Set{Dir: filepath.Join(project, dir, number)}
		for _, name := range set.Names() {
			i := slices.IndexFunc(kept, func(k Kept) bool { return k.Cache == name })
			if i < 0 {
				i = len(kept)
				kept = append(kept, Kept{ID: fmt.Sprintf("%.8s", filepath.Base(project)), Project: string(path), Cache: name, Base: []string{}})
			}
			kept[i].add(set)
		}
	}
	return kept
}

func (k *Kept) add(set *Set) {
	dir := filepath.Join(set.Dir, k.Cache)
	k.Size += store.Size(dir)
	k.Running = k.Running || set.taken()
	k.Sets = append(k.Sets, set.Dir)
	for _, part := range children(dir) {
		file := filepath.Join(dir, part, "base")
		if base, err := os.ReadFile(file); err == nil && !slices.Contains(k.Base, string(base)) {
			k.Base = append(k.Base, string(base))
		}
		if st, err := os.Stat(file); err == nil && st.ModTime().After(k.Used) {
			k.Used = st.ModTime()
		}
	}
}

// taken asks for the lock without taking it: a run that looks for a free set at this moment must find this one so.
func (s *Set) taken() bool {
	fd, err := unix.Open(filepath.Join(s.Dir, "lock"), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	return unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &lock) != nil || lock.Type != unix.F_UNLCK
}

// Remove removes what is kept of a cache, unless a sandbox runs with it.
func Remove(k Kept, remove func(dir string) error) error {
	var taken []*Set
	defer func() {
		for _, s := range taken {
			unix.Close(s.lock)
		}
	}()
	for _, dir := range k.Sets {
		s := &Set{Dir: dir}
		if err := s.take(); err != nil {
			return err
		}
		taken = append(taken, s)
	}
	for _, s := range taken {
		if err := s.Drop(remove, k.Cache); err != nil {
			return err
		}
	}
	return nil
}
