package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"casemate.dev/internal/commits"
	"casemate.dev/internal/store"
	"casemate.dev/internal/workspace"
	"golang.org/x/sys/unix"
)

// Commits is the commits of a sandbox, checked and ready to be put on a branch of the host.
type Commits struct {
	*commits.Transfer
	Box   *store.Sandbox
	layer *workspace.Layer // of a git directory outside of the project; nil if it lies in it
}

// OpenCommits takes the commits that were made in the sandbox out of its layer. Close it.
func (r *Review) OpenCommits(ctx context.Context, p Person) (_ *Commits, err error) {
	rec := r.Box.Record
	g, err := workspace.FindGitDir(rec.Project)
	if err != nil {
		return nil, &Refusal{err, "git init on the host, and apply files: casemate apply"}
	}
	c := &Commits{Box: r.Box}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	o := commits.Options{Layer: r.Layer, Judge: r.Layer, Project: rec.Project, Scratch: r.Box.Dir, Environ: p.Environ}
	over := rec.Project
	if !g.Inside {
		if c.layer, err = openGitLayer(r.Box, g.Common); err != nil {
			return nil, err
		}
		o.Layer, over = c.layer, g.Common
	}
	if o.GitDir, err = relative(over, g.Dir); err != nil {
		return nil, err
	}
	if o.Common, err = relative(over, g.Common); err != nil {
		return nil, err
	}
	o.Objects, o.Shallow = filepath.Join(g.Common, "objects"), filepath.Join(g.Common, "shallow")
	if o.User, err = owner(g.Common); err != nil {
		return nil, err
	}
	if o.User != nil { // the person's own directory is closed to them
		o.Scratch = os.TempDir()
	}
	if o.Known, err = c.known(); err != nil {
		return nil, err
	}
	c.Transfer, err = commits.Open(ctx, o)
	return c, err
}

// relative is filepath.Rel with "" for the directory itself.
func relative(dir, path string) (string, error) {
	rel, err := filepath.Rel(dir, path)
	if rel == "." {
		rel = ""
	}
	return rel, err
}

// owner is whose repository it is, if root works for somebody else.
func owner(dir string) (*commits.User, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return nil, fmt.Errorf("repository %q: %w", dir, err)
	}
	if os.Geteuid() != 0 || st.Uid == 0 {
		return nil, nil
	}
	return &commits.User{UID: st.Uid, GID: st.Gid}, nil
}

// known reads which commits were re-created before, so that those that follow build on the same.
func (c *Commits) known() (map[string]string, error) {
	raw, err := os.ReadFile(c.file())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	known := map[string]string{}
	if err == nil {
		err = json.Unmarshal(raw, &known)
	}
	return known, err
}

func (c *Commits) file() string { return filepath.Join(c.Box.Dir, "commits.json") }

// Put re-creates the commits on a branch and remembers which became which.
func (c *Commits) Put(ctx context.Context, branch string, consent map[string]string) (commits.Result, error) {
	result, err := c.Recreate(ctx, branch, consent)
	if err != nil {
		return result, err
	}
	raw, err := json.Marshal(result.Created)
	if err != nil {
		return result, err
	}
	return result, errors.Join(os.WriteFile(c.file()+".new", raw, 0o600), os.Rename(c.file()+".new", c.file()))
}

// DefaultBranch is a branch of the sandbox's own: no name that was chosen inside can stand for something else outside.
func (c *Commits) DefaultBranch() string { return "casemate/" + c.Box.Record.ID }

// Close removes what is temporary.
func (c *Commits) Close() (err error) {
	if c.Transfer != nil {
		err = c.Transfer.Close()
	}
	if c.layer != nil {
		err = errors.Join(err, c.layer.Close())
	}
	return err
}
