package session

import (
	"path/filepath"
	"strings"

	"casemate.dev/internal/plan"
	"casemate.dev/internal/store"
	"casemate.dev/internal/workspace"
)

// keepTracked sees to it that git inside does not take hidden files for deleted ones (workspace.PlaceIndex). Where it cannot, it says so: then
// `git commit -a` inside would record the deletion.
func (r *Run) keepTracked(user plan.User, layer string, copied bool) {
	rec := &r.Box.Record
	placed := map[string]string{}
	r.surveyed.Placed = map[string]workspace.PlacedIndex{}
	for _, g := range r.surveyed.GitDirs {
		p := workspace.IndexPlace{
			Host: r.Project, Layer: layer, Copied: copied, Hidden: r.surveyed.TrackedIn(g), UID: user.UID, GID: user.GID,
			Placed: rec.Placed[filepath.Join(g.Dir, "index")],
		}
		if len(p.Hidden) == 0 && p.Placed == "" {
			continue
		}
		if !g.Inside {
			p.Host, p.Layer, p.Copied = g.Common, filepath.Join(r.Box.Dir, "git", store.Key(g.Common), "upper"), false
		}
		rel, err := filepath.Rel(p.Host, filepath.Join(g.Dir, "index"))
		if err != nil || strings.HasPrefix(rel, "../") || !exists(p.Layer) {
			continue
		}
		p.Path = rel
		index, err := workspace.PlaceIndex(p)
		if err != nil {
			r.notice("git inside takes hidden files that it tracks for deleted ones (%s): %v", workspace.Visible(g.Path), err)
		}
		if index.Digest != "" {
			placed[filepath.Join(g.Dir, "index")] = index.Digest
			r.surveyed.Placed[g.Path] = index
		}
	}
	rec.Placed = placed
}

// warnOfLiveGit says that nothing of this is done in a live workspace, whose index is the host's own and in use there.
func (r *Run) warnOfLiveGit() {
	for _, h := range r.surveyed.Hidden {
		if h.Tracked {
			r.notice("in a live workspace git inside takes hidden files that it tracks for changed or deleted, and commits go to your repository: name what to commit, or use --workspace held")
			return
		}
	}
}

// placedIn is what was laid into the layer over dir, relative to it.
func placedIn(rec store.Record, dir string) map[string]string {
	in := map[string]string{}
	for file, digest := range rec.Placed {
		if rel, ok := strings.CutPrefix(file, dir+"/"); ok {
			in[rel] = digest
		}
	}
	return in
}
