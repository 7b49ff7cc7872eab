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
	"golang.org/x/sys/unix"
)

// Review is a sandbox's change layer, opened to be looked at, applied or discarded.
type Review struct {
	*workspace.Layer
	Box    *store.Sandbox
	Others []string // other sandboxes of the same project that hold changes

	runs bool
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
	if err := settleEnded(box); err != nil {
		return nil, fmt.Errorf("changes of sandbox %s: %w", rec.ID, err)
	}
	mirrored, err := workspace.OpenMirrorLog(workspace.MirrorLogOf(box.Dir))
	if err != nil {
		return nil, fmt.Errorf("changes of sandbox %s: %w", rec.ID, err)
	}
	layer, err := workspace.OpenLayer(workspace.LayerOptions{
		Mirrored: mirrored, Dir: box.Layer(), Project: rec.Project, Kind: workspace.LayerKind(rec.By), History: historyOf(box), Base: baseOf(box), Born: rec.Born, Mounted: rec.Mounted, Placed: placedIn(rec, rec.Project), Classifier: classify,
	})
	if err != nil {
		return nil, fmt.Errorf("changes of sandbox %s: %w", rec.ID, err)
	}
	return &Review{Layer: layer, Box: box, Others: others}, nil
}

// historyOf is where the history of a sandbox's project is.
func historyOf(box *store.Sandbox) string {
	st := store.Store{Root: filepath.Dir(filepath.Dir(box.Dir))}
	return filepath.Join(st.Project(box.Record.Project), "history")
}

func chooseSandbox(st *store.Store, project, id string) (*store.Sandbox, []string, error) {
	var found *store.Sandbox
	if id != "" {
		box, err := st.Find(id)
		if err == nil && (box.Record.Workspace != string(policy.Held) || !box.HasLayer()) {
			err = fmt.Errorf("sandbox %s holds no changes", box.Record.ID)
		}
		if err != nil {
			return nil, nil, err
		}
		found, project = box, box.Record.Project
	}
	list, err := st.List()
	if err != nil {
		return nil, nil, err
	}
	var others []string
	for _, b := range list {
		if b.Record.Snapshot || found != nil && b.Record.ID == found.Record.ID || b.Record.Project != project || b.Record.Workspace != string(policy.Held) || !b.HasLayer() {
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
	return PathsIn(r.Box.Record.Project, typed)
}

// PathsIn makes paths as a person types them relative to a project. None means all of it.
func PathsIn(project string, typed []string) ([]string, error) {
	var paths []string
	for _, p := range typed {
		if p == "" { // which is the working directory, and with it all of the project: nobody who lacks a variable means that
			return nil, &Refusal{errors.New("a path is empty"), "leave it out to mean the whole project, or write . for this directory"}
		}
		abs, err := filepath.Abs(p)
		if err != nil {
			return nil, err
		}
		rel, err := filepath.Rel(project, abs)
		if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
			return nil, fmt.Errorf("%q is not in the project %q", p, project)
		}
		if rel == "." {
			return nil, nil // everything
		}
		paths = append(paths, rel)
	}
	return paths, nil
}

// Apply is Layer.Apply in the name of this sandbox. One that runs (Hold) stands still for that moment, so that what is applied is of one point in
// time; what was applied then stays in the layer, where it changes nothing any more, until the run ends.
func (r *Review) Apply(ctx context.Context, o workspace.ApplyOptions) ([]workspace.Outcome, error) {
	o.Sandbox = r.Box.Record.ID
	if !r.runs || o.DryRun {
		out, err := r.Layer.Apply(ctx, o)
		return r.withGit(ctx, out, o.Paths), err
	}
	f, err := freeze(r.Box)
	if err != nil {
		return nil, err
	}
	defer f.thaw()
	o.Running = true
	out, err := r.Layer.Apply(ctx, o)
	if err == nil && !f.stayed() {
		err = &Refusal{fmt.Errorf("sandbox %s did not stand still while its changes were applied, so they may be of more than one moment", r.Box.Record.ID), "take them back with casemate undo, and apply when the sandbox has ended"}
	}
	return r.withGit(ctx, out, o.Paths), err
}

// Overlap is a path that another sandbox of the project changed too.
type Overlap struct{ Sandbox, Path string }

// Overlaps finds what applying would make a conflict, or a merge, in other sandboxes of the project.
func (r *Review) Overlaps(ctx context.Context, paths []string) (list []Overlap, err error) {
	if len(r.Others) == 0 {
		return nil, nil
	}
	changes, err := r.Changes(ctx, workspace.ChangeOptions{Paths: paths})
	if err != nil {
		return nil, err
	}
	mine := map[string]bool{}
	for i := range changes {
		if c := &changes[i]; c.Refused == "" && !c.Summarised() && !c.Directory() {
			mine[c.Path] = true
		}
	}
	st := store.Store{Root: filepath.Dir(filepath.Dir(r.Box.Dir))}
	for _, id := range r.Others {
		theirs, e := changesOf(ctx, &st, id, paths)
		err = errors.Join(err, e)
		for _, c := range theirs {
			if mine[c.Path] {
				list = append(list, Overlap{id, c.Path})
			}
		}
	}
	return list, err
}

func changesOf(ctx context.Context, st *store.Store, id string, paths []string) ([]workspace.Change, error) {
	box, err := st.Find(id)
	if err != nil {
		return nil, err
	}
	r, err := openReview(box, nil)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return r.Changes(ctx, workspace.ChangeOptions{Paths: paths})
}

// Hold keeps the sandbox from being started while changes are applied. If it runs, Apply will freeze it.
func (r *Review) Hold() error {
	err := r.Box.Lock()
	if errors.Is(err, store.ErrRunning) && r.Box.Record.PID > 1 {
		r.runs = true
		return nil
	}
	if err != nil {
		return err
	}
	return r.Settle(context.Background())
}

// settle takes out of a layer what was applied while it was mounted, if its run did not come to do that.
func settle(box *store.Sandbox) error {
	if !exists(filepath.Join(box.Layer(), "applied")) {
		return nil
	}
	r, err := openReview(box, nil)
	if err != nil {
		return err
	}
	defer r.Close()
	return r.Settle(context.Background())
}

// Done removes the sandbox once its layer holds nothing any more, unless it runs.
func (r *Review) Done() error {
	if r.runs {
		return nil
	}
	changes, err := r.Changes(context.Background(), workspace.ChangeOptions{})
	if err != nil || len(changes) > 0 {
		return err
	}
	return discard(r.Box)
}

// Discard removes the sandbox with its layer; the home stays.
func (r *Review) Discard() error {
	if err := r.Box.Lock(); err != nil {
		return &Refusal{err, "wait for its end, or end it: casemate rm --force " + r.Box.Record.ID}
	}
	defer r.Box.Unlock()
	return discard(r.Box)
}

// discard removes a sandbox that this process has locked. If we are killed meanwhile, the next run must not go on with half of a copy.
func discard(box *store.Sandbox) error {
	if err := box.Forget(); err != nil {
		return err
	}
	for _, dir := range []string{box.Layer(), filepath.Join(box.Dir, "tmp"), filepath.Join(box.Dir, "home"), filepath.Join(box.Dir, "git"), filepath.Join(box.Dir, "cache"), filepath.Join(box.Dir, "taken")} {
		if err := workspace.Discard(context.Background(), dir); err != nil {
			return fmt.Errorf("sandbox %s: %w", box.Record.ID, err)
		}
	}
	err := os.RemoveAll(box.Dir)
	for again := 0; errors.Is(err, unix.ENOTEMPTY) && again < 3; again++ { // another start, which looks for dead ones, has just opened a lock in it
		err = os.RemoveAll(box.Dir)
	}
	if errors.Is(err, unix.ENOTEMPTY) {
		return nil // without its record it is dead, and that start removes it
	}
	return err
}
