package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"casemate.dev/internal/policy"
	"casemate.dev/internal/store"
	"casemate.dev/internal/workspace"
)

// Review is a sandbox's change layer, opened to be looked at, applied or discarded.
type Review struct {
	*workspace.Layer
	Box    *store.Sandbox
	Others []string // other sandboxes of the same project that hold changes
}

// OpenReview opens the layer of the named sandbox, or of the project's newest one.
func OpenReview(p Person, id string) (*Review, error) {
	st, err := store.Open(p.StateHome, p.Home)
	if err != nil {
		return nil, err
	}
	box, others, err := chooseSandbox(st, p.FindProject(), id)
	if err != nil {
		return nil, err
	}
	return openReview(box, others)
}

func openReview(box *store.Sandbox, others []string) (*Review, error) {
	rec := box.Record
	classify, err := classifier(rec)
	if err != nil {
		return nil, err
	}
	layer, err := workspace.OpenLayer(workspace.LayerOptions{
		Dir: box.Layer(), Project: rec.Project, Kind: workspace.LayerKind(rec.By), Born: rec.Born, Mounted: rec.Mounted, Classifier: classify,
	})
	if err != nil {
		return nil, fmt.Errorf("changes of sandbox %s: %w", rec.ID, err)
	}
	return &Review{layer, box, others}, nil
}

func chooseSandbox(st *store.Store, project, id string) (*store.Sandbox, []string, error) {
	if id != "" {
		box, err := st.Find(id)
		if err == nil && (box.Record.Workspace != string(policy.Held) || !box.HasLayer()) {
			err = fmt.Errorf("sandbox %s holds no changes", box.Record.ID)
		}
		return box, nil, err
	}
	list, err := st.List()
	if err != nil {
		return nil, nil, err
	}
	var found *store.Sandbox
	var others []string
	for _, b := range list {
		if b.Record.Project != project || b.Record.Workspace != string(policy.Held) || !b.HasLayer() {
			continue
		}
		if found == nil {
			found = b
		} else {
			others = append(others, b.Record.ID)
		}
	}
	if found == nil {
		return nil, nil, ErrNoChanges
	}
	return found, others, nil
}

// ErrNoChanges says that no sandbox holds changes of the project.
var ErrNoChanges = errors.New("no sandbox holds changes of this project")

// classifier answers from what the run recorded, not from the policy of today: what was hidden then was not seen.
func classifier(rec store.Record) (workspace.Classifier, error) {
	hide, err := policy.CompilePaths(rec.Hide)
	if err != nil {
		return workspace.Classifier{}, err
	}
	protect, err := policy.CompilePaths(rec.Protect)
	if err != nil {
		return workspace.Classifier{}, err
	}
	return workspace.Classifier{
		Hidden: workspace.HiddenBy(hide, rec.Hidden),
		Protected: func(rel string) (string, bool) {
			if why, alias := workspace.Aliased(rec.Aliases, rel); alias {
				return why, true
			}
			return workspace.ProtectedPath(rel, protect)
		},
		Leads:  func(rel string) (string, bool) { return workspace.LeadsToProtected(rel, protect, rec.Aliases) },
		Marked: workspace.MarkedPath,
	}, nil
}

// Paths makes paths as a person types them, relative to the working directory, relative to the project.
func (r *Review) Paths(typed []string) ([]string, error) {
	var paths []string
	for _, p := range typed {
		abs, err := filepath.Abs(p)
		if err != nil {
			return nil, err
		}
		rel, err := filepath.Rel(r.Box.Record.Project, abs)
		if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
			return nil, fmt.Errorf("%q is not in the project %q", p, r.Box.Record.Project)
		}
		if rel == "." {
			return nil, nil // everything
		}
		paths = append(paths, rel)
	}
	return paths, nil
}

// Hold keeps the sandbox from running while changes are applied.
func (r *Review) Hold() error {
	if err := r.Box.Lock(); err != nil {
		return &Refusal{err, "wait for its end, or end it: casemate rm --force " + r.Box.Record.ID}
	}
	return nil
}

// Done removes the sandbox once its layer holds nothing any more.
func (r *Review) Done() error {
	changes, err := r.Changes(context.Background(), workspace.ChangeOptions{})
	if err != nil || len(changes) > 0 {
		return err
	}
	return discard(r.Box)
}

// Discard removes the sandbox with its layer; the home stays.
func (r *Review) Discard() error {
	if err := r.Hold(); err != nil {
		return err
	}
	defer r.Box.Unlock()
	return discard(r.Box)
}

// discard removes a sandbox that this process has locked. If we are killed meanwhile, the next run must not go on with half of a copy.
func discard(box *store.Sandbox) error {
	if err := box.Forget(); err != nil {
		return err
	}
	for _, dir := range []string{box.Layer(), filepath.Join(box.Dir, "tmp"), filepath.Join(box.Dir, "home"), filepath.Join(box.Dir, "git"), filepath.Join(box.Dir, "taken")} {
		if err := workspace.Discard(context.Background(), dir); err != nil {
			return fmt.Errorf("sandbox %s: %w", box.Record.ID, err)
		}
	}
	return os.RemoveAll(box.Dir)
}
