package workspace

import (
	"bytes"
	"context"

	"casemate.dev/internal/merge"
)

// maxMerges bounds how many files are merged in one look: each costs a process.
const maxMerges = 2000

// mergeConflicts merges the conflicts that are changes of text on both sides, where they fit together, with what git's index had when the layer was born as the
// common ancestor. A protected change is not merged: consent is to bytes that one side wrote. Nor is one of a copy, which could not take the
// host's part in. What cannot be merged keeps both sides, so an ancestor that cannot be had is no error.
func (l *Layer) mergeConflicts(ctx context.Context, changes []Change) error {
	if l.Base.Index == "" || l.Kind == CopyLayer {
		return nil
	}
	var paths []string
	var todo []*Change
	for i := range changes {
		c := &changes[i]
		if c.Conflict != "" && c.mergeable() && len(todo) < maxMerges {
			todo, paths = append(todo, c), append(paths, c.Path)
		}
	}
	if len(todo) == 0 {
		return nil
	}
	git, err := merge.New()
	if err != nil {
		return nil
	}
	defer git.Close()
	bases, err := git.Blobs(ctx, l.Base, paths)
	if err != nil {
		return ctx.Err()
	}
	for _, c := range todo {
		if base, tracked := bases[c.Path]; tracked {
			l.mergeOne(ctx, git, c, base)
		}
	}
	return ctx.Err()
}

func (c *Change) mergeable() bool {
	return c.Kind == Modified && c.Old.Type == File && c.New.Type == File && c.Refused == "" && c.Protected == "" && c.ByName == ""
}

func (l *Layer) mergeOne(ctx context.Context, git *merge.Git, c *Change, base []byte) {
	host, sandbox, why := l.contents(c)
	if why != "" || host.opaque || sandbox.opaque || bytes.IndexByte(base[:min(len(base), binaryProbe)], 0) >= 0 {
		return
	}
	merged, clean, err := git.Three(ctx, base, host.data, sandbox.data)
	switch {
	case err != nil:
	case clean:
		c.Merged, c.Conflict, c.union = c.Conflict, "", merged
		c.classify()
	default:
		c.Conflict += ", in the same lines"
	}
}
