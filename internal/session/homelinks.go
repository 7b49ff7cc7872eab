package session

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"casemate.dev/internal/plan"
	"golang.org/x/sys/unix"
)

// linkHome lays links in the home of a sandbox without mounts, to what of the person's home it may read: programs look for their caches and tool
// chains below $HOME. A link opens nothing, only the rules do.
func (r *Run) linkHome(req *plan.Request) error {
	var shown []string
	for _, t := range req.Tools {
		shown = append(shown, t.Target)
	}
	for _, v := range r.Policy.Files.Read {
		shown = append(shown, plan.Expand(v.V, r.Person.Home))
	}
	slices.Sort(shown) // what contains another comes before it
	root, err := unix.Open(req.Home, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("home of the sandbox: %w", err)
	}
	defer unix.Close(root)
	last := ""
	for _, p := range shown {
		rel, below := strings.CutPrefix(p, r.Person.Home+"/")
		if !below || last != "" && within(rel, last) {
			continue
		}
		if err := linkBeneath(root, rel, p, req.User); err != nil { // what an earlier run left is in the way
			r.notice("no link to %s in the home of the sandbox: %v", p, err)
		}
		last = rel
	}
	return nil
}

// linkBeneath lays one link. An earlier run could write in the home, so every step is taken by descriptor; a file or directory that it made in
// the link's place stays.
func linkBeneath(root int, rel, to string, user plan.User) error {
	dir, name := filepath.Split(rel)
	if dir = strings.TrimSuffix(dir, "/"); dir != "" {
		if err := makeBeneath(root, dir, false, user); err != nil {
			return err
		}
	} else {
		dir = "."
	}
	parent, err := unix.Openat2(root, dir, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS})
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	var st unix.Stat_t
	if unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
		if st.Mode&unix.S_IFMT != unix.S_IFLNK {
			return nil
		}
		if err := unix.Unlinkat(parent, name, 0); err != nil {
			return err
		}
	}
	return unix.Symlinkat(to, parent, name)
}
