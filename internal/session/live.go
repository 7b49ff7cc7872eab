package session

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"casemate.dev/internal/plan"
	"casemate.dev/internal/policy"
	"casemate.dev/internal/workspace"
)

// live lays mounts over the hidden and protected paths that exist in a live workspace. A mount over a path falls when one of its parents
// can be renamed, so every directory between it and the project's root becomes a mount point of its own.
func (r *Run) live(req *plan.Request) error {
	hide, err := policy.CompilePaths(hidePatterns(r.Policy.Files))
	if err != nil {
		return err
	}
	protect, err := policy.CompilePaths(values(r.Policy.Files.Protect))
	if err != nil {
		return err
	}
	c := cover{project: r.Project, hide: hide, protected: func(rel string) bool { _, ok := workspace.ProtectedPath(rel, protect); return ok },
		pinned: map[string]bool{}, before: map[string]string{}, links: map[uint64][]string{}, secret: map[uint64]bool{}}
	if err := filepath.WalkDir(r.Project, c.visit); err != nil {
		return fmt.Errorf("look through the project: %w", err)
	}
	c.coverLinks()
	if len(c.mounts) > maxLive {
		return &Refusal{fmt.Errorf("a live workspace of this project would need %d mounts, and at most %d are made", len(c.mounts), maxLive), "use a held workspace, which needs one: --workspace held"}
	}
	req.Live, r.protected, r.before = c.mounts, c.protected, c.before
	return nil
}

// mounted stands for a path that is covered by a mount; no link can lead there.
const mounted = ""

// maxLive bounds the mounts of a live workspace: each costs the start time, and the kernel allows 100,000 in a namespace.
const maxLive = 3000

// cover collects what must be mounted over a live project.
type cover struct {
	project   string
	hide      *policy.Paths
	protected func(rel string) bool
	mounts    []plan.Mount
	pinned    map[string]bool
	before    map[string]string   // protected paths that exist
	links     map[uint64][]string // names of inodes with several
	secret    map[uint64]bool     // inodes with a hidden name
}

func (c *cover) visit(p string, d fs.DirEntry, err error) error {
	if err != nil {
		return err
	}
	rel, err := filepath.Rel(c.project, p)
	if err != nil || rel == "." {
		return err
	}
	hidden, _ := c.hide.Match(rel, d.IsDir())
	if d.Type().IsRegular() {
		c.note(rel, d, hidden)
	}
	switch {
	case hidden && d.IsDir():
		c.over(rel, plan.Mount{Kind: plan.Tmpfs, Size: 4096, Perm: 0o555})
		return fs.SkipDir
	case hidden:
		c.over(rel, null())
	case d.IsDir() && d.Name() == ".git": // git must work: what it executes, in there, is protected entry by entry
	case c.protected(rel):
		if d.Type()&fs.ModeSymlink != 0 {
			c.before[rel], _ = os.Readlink(p)
			return nil // a mount cannot cover a link; who replaces it makes something new
		}
		c.before[rel] = mounted
		c.over(rel, plan.Mount{Kind: plan.Bind, Self: true})
		if d.IsDir() {
			return fs.SkipDir
		}
	}
	return nil
}

func null() plan.Mount { return plan.Mount{Kind: plan.Bind, Source: "/dev/null", File: true} }

// over adds a mount and pins what lies above it.
func (c *cover) over(rel string, m plan.Mount) {
	for dir := path.Dir(rel); dir != "." && !c.pinned[dir]; dir = path.Dir(dir) {
		c.pinned[dir] = true
		target := filepath.Join(c.project, dir)
		c.mounts = append(c.mounts, plan.Mount{Kind: plan.Bind, Source: target, Target: target, Self: true, Writable: true})
	}
	m.Target = filepath.Join(c.project, rel)
	if m.Self {
		m.Source = m.Target
	}
	c.mounts = append(c.mounts, m)
}

// note remembers names of files that have several: one with a hidden name is hidden under all of them.
func (c *cover) note(rel string, d fs.DirEntry, hidden bool) {
	info, err := d.Info()
	if err != nil {
		return
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
		c.secret[st.Ino] = c.secret[st.Ino] || hidden
		if !hidden {
			c.links[st.Ino] = append(c.links[st.Ino], rel)
		}
	}
}

func (c *cover) coverLinks() {
	for ino, secret := range c.secret {
		for _, rel := range c.links[ino] {
			if secret {
				c.over(rel, null())
			}
		}
	}
}
