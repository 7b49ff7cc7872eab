package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Cache is a directory of a package manager: the host's, under what the project's sandboxes have added to it.
type Cache struct {
	Name  string // in the policy
	Part  string
	What  string   // is in it, for people
	Hide  []string // relative
	Mount Mount
}

// caches mounts each cache where the tool inside looks for it. That place is made in the sandbox's own home or in the empty root; one that lies in
// something of the host's must be there already.
func (p *Plan) caches(r Request) error {
	for _, c := range r.Caches {
		m := c.Mount
		if r.Project != "" && (within(m.Target, r.Project) || within(r.Project, m.Target)) {
			return fmt.Errorf("cache (%s): inside, %s looks for its cache in %s, which is the project's place: change the variable that says so", m.Origin, c.Name, m.Target)
		}
		if i := slices.IndexFunc(p.Mounts, func(o Mount) bool { return o.Target == m.Target }); i >= 0 {
			return fmt.Errorf("cache (%s): inside, %s looks for its cache in %s, where something else is (%s): leave one of them out", m.Origin, c.Name, m.Target, cmp.Or(p.Mounts[i].Origin, "which every sandbox has"))
		}
		if on := cover(p.Mounts, m.Target); on != nil && on.Kind != Tmpfs && on.Target != r.User.Home && (on.Kind != Bind || on.Source+strings.TrimPrefix(m.Target, on.Target) != m.Source) {
			return fmt.Errorf("cache (%s): inside, %s looks for its cache in %s, which cannot be made in %s: change the variable that says so", m.Origin, c.Name, m.Target, on.Target)
		}
		p.mount(m)
	}
	return nil
}

// cover is the mount that a path lies on, if it is not the root.
func cover(mounts []Mount, target string) (best *Mount) {
	for i, m := range mounts {
		if m.Kind != Symlink && strings.HasPrefix(target, m.Target+"/") && (best == nil || len(m.Target) > len(best.Target)) {
			best = &mounts[i]
		}
	}
	return best
}
