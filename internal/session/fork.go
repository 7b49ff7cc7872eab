package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"casemate.dev/internal/plan"
	"casemate.dev/internal/policy"
	"casemate.dev/internal/store"
	"casemate.dev/internal/workspace"
	"golang.org/x/sys/unix"
)

// Forked is a new sandbox that holds what another one held at one moment.
type Forked struct {
	Sandbox  string   `json:"sandbox"`
	Origin   string   `json:"origin"`
	Snapshot bool     `json:"snapshot"`
	Skipped  []string `json:"skipped,omitempty"` // what is not in the copy, with the reason
}

// forkTries is how often the copy is begun anew because the mirror wrote meanwhile.
const forkTries = 5

// Fork copies the layer of the named sandbox, or of the project's newest one, into a new sandbox. One that runs stands still for that moment. No run
// goes on with a snapshot. The copy is older in the list than the original, so what names no sandbox goes on to mean that one.
func Fork(ctx context.Context, p Person, id string, snapshot bool) (*Forked, error) {
	r, err := OpenReview(p, id)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if err := r.Hold(); err != nil {
		return nil, err
	}
	defer r.Box.Unlock()
	st, err := store.Open(p.StateHome, p.Home)
	if err != nil {
		return nil, err
	}
	box, err := st.New("")
	if err != nil {
		return nil, err
	}
	defer box.Unlock()
	f := &forking{from: r, to: box, result: &Forked{Sandbox: box.Record.ID, Origin: r.Box.Record.ID, Snapshot: snapshot}}
	if err := f.all(ctx); err != nil {
		return nil, errors.Join(err, discard(box))
	}
	return f.result, nil
}

type forking struct {
	from   *Review
	to     *store.Sandbox
	result *Forked
	hidden []string
}

func (f *forking) all(ctx context.Context) error {
	if err := f.copyStill(ctx); err != nil {
		return err
	}
	f.record()
	if f.from.runs && f.to.Record.By == string(workspace.OverlayLayer) {
		if err := settleMirror(f.to, f.to.Record.Project); err != nil {
			return err
		}
	}
	if err := settle(f.to); err != nil {
		return err
	}
	if err := syncLayer(f.to); err != nil {
		return err
	}
	return f.to.Save(true)
}

// copyStill copies while nothing changes. The sandbox stands still if it runs; the mirror of its supervisor does not, and says in its log before
// it writes, so a log that is as it was at the start tells that it did not write.
func (f *forking) copyStill(ctx context.Context) error {
	if !f.from.runs {
		return f.copy(ctx)
	}
	box := f.from.Box
	still, err := freeze(box)
	if err != nil {
		return err
	}
	defer still.thaw()
	log := workspace.MirrorLogOf(box.Dir)
	for range forkTries {
		before := stampOf(log)
		if err := f.copy(ctx); err != nil {
			return err
		}
		if !frozenStill(box.Record.PID) {
			return &Refusal{fmt.Errorf("sandbox %s was ended while its changes were copied", box.Record.ID), "again: casemate fork " + box.Record.ID}
		}
		if !still.stayed() {
			return &Refusal{fmt.Errorf("sandbox %s did not stand still while its changes were copied", box.Record.ID), "again when it has ended"}
		}
		if stampOf(log) == before {
			return nil
		}
		if err := f.clear(); err != nil {
			return err
		}
	}
	return &Refusal{fmt.Errorf("the project changes all the time on the host, and the changes are carried into sandbox %s", box.Record.ID), "again when that has come to rest, or when the sandbox has ended"}
}

// clear removes what was copied, and leaves the new sandbox's lock.
func (f *forking) clear() error {
	os.Remove(filepath.Join(f.to.Dir, "index"))
	os.Remove(workspace.MirrorLogOf(f.to.Dir))
	return errors.Join(workspace.Discard(context.Background(), f.to.Layer()), workspace.Discard(context.Background(), filepath.Join(f.to.Dir, "git")))
}

// frozenStill says whether the first process of a frozen sandbox is there yet: it was killed otherwise, and its layer may have been settled.
func frozenStill(supervisor int) bool {
	all, err := insideOf(supervisor)
	if err != nil {
		return false
	}
	s, ok := readStat(all[0].pid)
	return ok && (s.state == 'T' || s.state == 't')
}

func stampOf(path string) (stamp [3]int64) {
	var st unix.Stat_t
	if unix.Lstat(path, &st) == nil {
		stamp = [3]int64{int64(st.Ino), st.Size, st.Mtim.Nano()}
	}
	return stamp
}

// copy copies the layer, those over git directories elsewhere, and what a review of them needs.
func (f *forking) copy(ctx context.Context) error {
	from, to := f.from.Box, f.to
	f.result.Skipped, f.hidden = nil, nil
	err := f.layer(ctx, from.Layer(), to.Layer(), workspace.LayerKind(from.Record.By), func(rel string) {
		if f.from.Hidden(rel, false) {
			f.hidden = append(f.hidden, rel) // the run's own list of these comes only when it ends
		}
	})
	if err != nil {
		return err
	}
	elsewhere, err := filepath.Glob(filepath.Join(from.Dir, "git", "*", "upper"))
	if err != nil {
		return err
	}
	for _, upper := range elsewhere {
		rel, _ := filepath.Rel(from.Dir, filepath.Dir(upper))
		if err := store.MakeDir(filepath.Join(to.Dir, "git")); err != nil {
			return err
		}
		if err := f.layer(ctx, filepath.Dir(upper), filepath.Join(to.Dir, rel), workspace.OverlayLayer, nil); err != nil {
			return err
		}
	}
	for _, name := range []string{"index", filepath.Base(workspace.MirrorLogOf(""))} {
		if err := copyWhole(filepath.Join(from.Dir, name), filepath.Join(to.Dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("copy %s of sandbox %s: %w", name, from.Record.ID, err)
		}
	}
	return nil
}

func (f *forking) layer(ctx context.Context, from, to string, kind workspace.LayerKind, gone func(string)) error {
	skipped, err := workspace.ForkLayer(ctx, from, to, kind, gone)
	for _, s := range skipped {
		f.result.Skipped = append(f.result.Skipped, workspace.Quote(s.Path)+": "+s.Why)
	}
	return err
}

func (f *forking) record() {
	rec := f.from.Box.Record
	rec.ID, rec.Origin, rec.Snapshot, rec.Forked = f.to.Record.ID, f.result.Origin, f.result.Snapshot, time.Now().UTC()
	rec.Started = rec.Started.Add(-1)
	rec.PID, rec.PIDStart, rec.Cgroups = 0, 0, nil
	if f.from.runs {
		rec.Ended, rec.Exit, rec.Reason = rec.Forked, 0, ""
	}
	rec.Mounted, rec.Aliases, rec.Placed, rec.Git = slices.Clone(rec.Mounted), maps.Clone(rec.Aliases), maps.Clone(rec.Placed), maps.Clone(rec.Git)
	rec.Hidden = append(slices.Clone(rec.Hidden), f.hidden...)
	slices.Sort(rec.Hidden)
	rec.Hidden = slices.Compact(rec.Hidden)
	f.to.Record = rec
}

// goOnWith goes on with the sandbox that the person named, or says why not.
func (r *Run) goOnWith(id string, user plan.User) error {
	b, err := r.Store.Find(id)
	if err != nil {
		return err
	}
	rec := b.Record
	switch {
	case r.Policy.Files.Workspace.V != policy.Held:
		return &Refusal{fmt.Errorf("a run goes on with sandbox %s only in a held workspace, and this one is %s", rec.ID, r.Policy.Files.Workspace.V), "casemate run --workspace held --sandbox " + rec.ID + " -- COMMAND"}
	case rec.Workspace != string(policy.Held) || !b.HasLayer():
		return fmt.Errorf("sandbox %s holds no changes to go on with", rec.ID)
	case rec.Project != r.Project:
		return &Refusal{fmt.Errorf("sandbox %s is of another project, %q", rec.ID, rec.Project), "cd there first"}
	case rec.Snapshot:
		return &Refusal{fmt.Errorf("sandbox %s is a snapshot, which stays as it is", rec.ID), "go on with a copy of it: casemate run --sandbox $(casemate fork " + rec.ID + ") -- COMMAND"}
	case rec.UID != user.UID:
		return fmt.Errorf("sandbox %s is of user %d, and this run would be of user %d", rec.ID, rec.UID, user.UID)
	case b.Running && !b.Runs():
		return b.InUse()
	case b.Running:
		return &Refusal{fmt.Errorf("sandbox %s is running", rec.ID), "wait for its end, or go on beside it with a copy: casemate run --sandbox $(casemate fork " + rec.ID + ") -- COMMAND"}
	case !r.goOn(b, user):
		return &Refusal{errors.Join(append([]error{fmt.Errorf("sandbox %s cannot be gone on with now", rec.ID)}, noticed(r.Notices)...)...), "look at it first: casemate diff --sandbox " + rec.ID}
	}
	return nil
}

func noticed(notices []string) (errs []error) {
	for _, n := range notices {
		errs = append(errs, errors.New(n))
	}
	return errs
}
