package session

import (
	"fmt"
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
			p.Host, p.Layer, p.Copied = g.Common, filepath.Join(gitLayer(r.Box, g.Common), "upper"), false
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

// liveGit is about a live workspace, whose index is the host's own and in use there, so that nothing of this is done. A hidden file that git tracks is a
// device there: git says that it changed, and cannot commit it. A hidden directory is empty: a git commit -a would record that all in it was
// deleted, in the person's own repository, so the run is refused.
func (r *Run) liveGit() error {
	said := false
	for _, h := range r.surveyed.Hidden {
		if h.Tracked && h.Dir {
			return &Refusal{fmt.Errorf("git tracks what lies in %s, which is hidden: in a live workspace a commit inside would delete it from your repository", workspace.Quote(h.Path)), "hold the changes instead: --workspace held; or git rm -r --cached " + workspace.Quote(h.Path)}
		}
		if h.Tracked && !said {
			r.notice("in a live workspace git inside takes hidden files that it tracks for changed, and cannot commit them: name what to commit, or use --workspace held")
			said = true
		}
	}
	return nil
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
