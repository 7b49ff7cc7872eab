package session

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
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
	survey, err := r.survey(req, hide)
	if err != nil {
		return err
	}
	r.warnOfLiveGit()
	c := cover{project: r.Project, hide: hide, protected: func(rel string) bool {
		_, ok := workspace.ProtectedPath(rel, protect)
		return ok || aliased(survey.Aliases, rel)
	},
		pinned: map[string]bool{}, before: map[string]string{}, links: map[uint64][]string{}, secret: map[uint64]bool{}}
	if err := filepath.WalkDir(r.Project, c.visit); err != nil {
		return fmt.Errorf("look through the project: %w", err)
	}
	c.coverLinks()
	r.roots = []string{"."}
	if len(c.mounts) > maxLive {
		return &Refusal{fmt.Errorf("a live workspace of this project would need %d mounts, and at most %d are made", len(c.mounts), maxLive), "use a held workspace, which needs one: --workspace held"}
	}
	req.Live, r.protected, r.before = c.mounts, c.protected, c.before
	return nil
}

// writeThrough lays the same mounts over what is hidden and protected in the parts of a held project that are written through.
func (r *Run) writeThrough(req *plan.Request) error {
	hide, err := policy.CompilePaths(hidePatterns(r.Policy.Files))
	if err != nil {
		return err
	}
	protect, err := policy.CompilePaths(values(r.Policy.Files.Protect))
	if err != nil {
		return err
	}
	c := cover{project: r.Project, hide: hide, protected: func(rel string) bool {
		_, ok := workspace.ProtectedPath(rel, protect)
		return ok || aliased(r.surveyed.Aliases, rel)
	}, pinned: map[string]bool{}, before: map[string]string{}, links: map[uint64][]string{}, secret: map[uint64]bool{}}
	for _, v := range r.Policy.Files.Write {
		rel := path.Clean(v.V)
		if strings.Contains("/"+rel+"/", "/.git/") || c.protected(rel) {
			return &Refusal{fmt.Errorf("files.write (%s): %q is executed by the host or belongs to git, and cannot be written through", v.Origin, v.V), "name a directory of results, such as ./generated"}
		}
		if err := filepath.WalkDir(filepath.Join(r.Project, rel), c.visit); err != nil {
			return fmt.Errorf("files.write (%s): %w", v.Origin, err)
		}
		r.roots = append(r.roots, rel)
	}
	c.coverLinks()
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

// survey looks through the project where no mask is prepared, and tells what it found.
func (r *Run) survey(req *plan.Request, hide *policy.Paths) (*workspace.Survey, error) {
	s, err := workspace.Scan(r.Project, hide, workspace.ScanOptions{UID: uint32(req.Owner), GID: uint32(req.Group), Home: r.Person.Home, State: r.Store.Root})
	if err != nil {
		return nil, err
	}
	r.surveyed = s
	r.findings(s)
	return s, nil
}

// aliased says whether a path, or one above it, is executed by the host although its name does not say so.
func aliased(aliases map[string]string, rel string) bool {
	for dir := rel; dir != "." && dir != ""; dir = path.Dir(dir) {
		if _, is := aliases[dir]; is {
			return true
		}
	}
	return false
}
