package session

import (
	"io/fs"
	"path"
	"path/filepath"

	"casemate.dev/internal/plan"
	"casemate.dev/internal/policy"
	"casemate.dev/internal/workspace"
)

// live lays mounts over the hidden and protected paths that exist in a live workspace. A mount over a path falls when one of its parents
// can be renamed, so every directory between it and the project's root becomes a mount point of its own. What appears later is the watcher's.
func (r *Run) live(req *plan.Request) error {
	hide, err := policy.CompilePaths(hidePatterns(r.Policy.Files))
	if err != nil {
		return err
	}
	protect, err := policy.CompilePaths(values(r.Policy.Files.Protect))
	if err != nil {
		return err
	}
	r.hide = hide
	pinned := map[string]bool{}
	pin := func(rel string) {
		for dir := path.Dir(rel); dir != "." && !pinned[dir]; dir = path.Dir(dir) {
			pinned[dir] = true
			req.Live = append(req.Live, plan.Mount{Kind: plan.Bind, Source: filepath.Join(r.Project, dir), Target: filepath.Join(r.Project, dir), Self: true, Writable: true})
		}
	}
	return filepath.WalkDir(r.Project, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(r.Project, p)
		if err != nil || rel == "." {
			return err
		}
		rel = filepath.ToSlash(rel)
		if hidden, _ := hide.Match(rel, d.IsDir()); hidden {
			pin(rel)
			m := plan.Mount{Kind: plan.Bind, Source: "/dev/null", Target: p, File: true}
			if d.IsDir() {
				m = plan.Mount{Kind: plan.Tmpfs, Target: p, Size: 4096, Perm: 0o555}
			}
			req.Live = append(req.Live, m)
			return skip(d)
		}
		if d.IsDir() && d.Name() == ".git" {
			return nil // git must work: what it executes, in there, is protected entry by entry
		}
		if _, protected := workspace.ProtectedPath(rel, protect); protected && d.Type()&fs.ModeSymlink == 0 {
			pin(rel)
			req.Live = append(req.Live, plan.Mount{Kind: plan.Bind, Source: p, Target: p, Self: true})
			return skip(d)
		}
		return nil
	})
}

func skip(d fs.DirEntry) error {
	if d.IsDir() {
		return fs.SkipDir
	}
	return nil
}
