package session

import (
	"os"
	"path"
	"path/filepath"
	"slices"

	"casemate.dev/internal/workspace"
)

// LeftHidden lists the directories of the project from which files were taken, and in which nothing is left but what the sandbox could not see: whoever
// renamed or deleted the directory inside did so to all of it.
func (r *Review) LeftHidden(outcomes []workspace.Outcome) (dirs []string) {
	looked := map[string]bool{}
	for i := range outcomes {
		o := &outcomes[i]
		dir := path.Dir(o.Path)
		if o.Status != workspace.Applied || o.Kind != workspace.Deleted || dir == "." || looked[dir] {
			continue
		}
		looked[dir] = true
		left, err := os.ReadDir(filepath.Join(r.Box.Record.Project, dir))
		seen := func(e os.DirEntry) bool { return !r.Hidden(path.Join(dir, e.Name()), e.IsDir()) }
		if err == nil && len(left) > 0 && !slices.ContainsFunc(left, seen) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}
