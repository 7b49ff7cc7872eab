package session

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"casemate.dev/internal/plan"
	"casemate.dev/internal/store"
	"casemate.dev/internal/workspace"
	"golang.org/x/sys/unix"
)

// gitLayer is where a sandbox has its layer over a git directory outside of the project.
func gitLayer(box *store.Sandbox, common string) string {
	return filepath.Join(box.Dir, "git", store.Key(common))
}

// gitDirectories lays an overlay over each git directory outside of the project that a working tree in it belongs to, so that git works
// inside. What git writes there is held in a layer of its own, of which commits can be taken (OpenCommits) and nothing can be applied.
func (r *Run) gitDirectories(req *plan.Request) error {
	seen := map[string]bool{}
	for _, g := range r.masked.Survey.GitDirs {
		if g.Inside || !g.Verified || seen[g.Common] || within(g.Common, r.Store.Root) || within(r.Person.Home, g.Common) {
			continue
		}
		seen[g.Common] = true
		dir := gitLayer(r.Box, g.Common)
		if !r.Kept { // what a run left that was killed before it changed anything
			unix.Rmdir(filepath.Join(dir, "upper"))
		}
		for _, d := range []string{filepath.Dir(dir), dir, filepath.Join(dir, "upper"), filepath.Join(dir, "work")} {
			if err := r.ownDirectory(d, req.User); err != nil {
				return err
			}
		}
		if err := r.ownDirectory(filepath.Join(dir, "mask"), plan.User{UID: req.Owner, GID: req.Group}); err != nil {
			return err
		}
		r.noteGit(g)
		req.Git = append(req.Git, plan.Mount{Kind: plan.Overlay, Source: g.Common, Target: g.Common, Mask: filepath.Join(dir, "mask"), Layer: dir, Writable: true, Origin: g.Path + " belongs to it"})
	}
	return nil
}

// noteGit has the review know of the layer, and the person of what becomes of what git writes there.
func (r *Run) noteGit(g workspace.GitDir) {
	rec := &r.Box.Record
	if rec.Git == nil {
		rec.Git = map[string]string{}
	}
	rec.Git[g.Common] = g.Path
	of := ""
	if g.Path != ".git" {
		of = " of the project's own repository only"
	}
	r.notice("git's data of %s is in %s: what git writes there inside is held with the sandbox, and casemate apply --commit takes the commits%s", g.Path, g.Common, of)
}

// holdsGit says, without looking further, whether a layer over a git directory holds anything.
func holdsGit(box *store.Sandbox) bool {
	uppers, _ := filepath.Glob(filepath.Join(box.Dir, "git", "*", "upper"))
	return slices.ContainsFunc(uppers, func(upper string) bool { return !isEmpty(upper) })
}

// openGitLayer opens the layer over a git directory outside of the project.
func openGitLayer(box *store.Sandbox, common string) (*workspace.Layer, error) {
	rec, dir := box.Record, gitLayer(box, common)
	if !exists(dir) {
		return nil, fmt.Errorf("sandbox %s holds nothing of git's data in %s", rec.ID, common)
	}
	return workspace.OpenLayer(workspace.LayerOptions{
		Dir: dir, Project: common, Kind: workspace.OverlayLayer, Git: rec.Git[common], Born: rec.Born, Mounted: rec.Mounted, Placed: placedIn(rec, common),
	})
}

// Changes is Layer.Changes with what is held of git's data outside of the project: one change for each git directory, as of one inside.
func (r *Review) Changes(ctx context.Context, o workspace.ChangeOptions) ([]workspace.Change, error) {
	changes, err := r.Layer.Changes(ctx, o)
	if err != nil {
		return nil, err
	}
	if others := r.gitChanges(ctx, o.Paths); len(others) > 0 {
		changes = append(changes, others...)
		slices.SortStableFunc(changes, func(a, b workspace.Change) int { return strings.Compare(a.Path, b.Path) })
	}
	return changes, nil
}

// gitChanges are those beside the project's own. One that cannot be read is one all the same: its sandbox is not thrown away for that.
func (r *Review) gitChanges(ctx context.Context, paths []string) (changes []workspace.Change) {
	rec := r.Box.Record
	for _, common := range slices.Sorted(maps.Keys(rec.Git)) {
		name := rec.Git[common]
		if !named(paths, name) || isEmpty(filepath.Join(gitLayer(r.Box, common), "upper")) {
			continue
		}
		found, err := gitChangesIn(ctx, r.Box, common)
		if err != nil {
			dir := workspace.State{Type: workspace.Dir}
			found = []workspace.Change{{Path: name, Kind: workspace.Modified, Class: workspace.ClassRefused, Old: dir, New: dir, Refused: fmt.Sprintf("what git wrote inside cannot be read: %v", err)}}
		}
		changes = append(changes, found...)
	}
	return changes
}

func gitChangesIn(ctx context.Context, box *store.Sandbox, common string) ([]workspace.Change, error) {
	layer, err := openGitLayer(box, common)
	if err != nil {
		return nil, err
	}
	defer layer.Close()
	return layer.Changes(ctx, workspace.ChangeOptions{})
}

// named says whether a path is one of those given or lies in one. None means all.
func named(paths []string, name string) bool {
	return len(paths) == 0 || slices.ContainsFunc(paths, func(p string) bool {
		return p == "" || p == name || strings.HasPrefix(name, p+"/")
	})
}

// withGit adds to the outcomes of an apply what stays inside of git's data outside of the project.
func (r *Review) withGit(ctx context.Context, outcomes []workspace.Outcome, paths []string) []workspace.Outcome {
	for _, c := range r.gitChanges(ctx, paths) {
		outcomes = append(outcomes, workspace.Outcome{Change: c, Status: workspace.Held, Why: c.Refused})
	}
	return outcomes
}
