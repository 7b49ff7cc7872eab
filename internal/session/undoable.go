package session

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"casemate.dev/internal/event"
	"casemate.dev/internal/history"
	"casemate.dev/internal/plan"
	"casemate.dev/internal/policy"
	"casemate.dev/internal/store"
	"casemate.dev/internal/workspace"
)

// undoable is the entry in the project's history by which a live run can be undone.
type undoable struct {
	log    *history.Log
	entry  *history.Entry
	keeper *workspace.Keeper
}

// LiveChanges says what a live run did to the project.
type LiveChanges struct {
	Entry int `json:"entry"` // in the history; casemate undo takes it
	Paths int `json:"paths"` // changed
}

// keep keeps the project as it is before a live run, in the state directory, where nothing inside can reach it.
func (r *Run) keep() (err error) {
	if r.Project == "" || r.Plan.Mode == plan.Landlock || r.Plan.Workspace.Kind != string(policy.Live) {
		return nil
	}
	u, err := openUndoable(r.Store, r.Project, hidePatterns(r.Policy.Files), r.alsoHidden())
	if err != nil {
		return err
	}
	if err := u.settleUnfinished(); err != nil {
		u.close()
		return err
	}
	if r.Options.Progress != nil {
		r.Options.Progress("keeping the project as it is, so that this run can be undone")
	}
	var unkept []history.Unkept
	if u.entry, unkept, err = u.log.Snapshot(r.Box.Record.ID, u.keeper.Walk); err != nil {
		u.close()
		return &Refusal{err, "make room in " + r.Store.Root + ", or hold the changes instead: --workspace held"}
	}
	for _, k := range unkept {
		r.emit(event.Event{Kind: event.Warned, Subject: k.Path, Detail: "undo will not bring it back: " + k.Why})
	}
	r.unkept = unkept
	r.undoable = u
	return nil
}

// alsoHidden are the paths that are hidden for another reason than their name.
func (r *Run) alsoHidden() (paths []string) {
	if r.surveyed != nil {
		for _, h := range r.surveyed.Hidden {
			paths = append(paths, h.Path)
		}
	}
	return paths
}

// settle records what a live run did. It must come after everything of the sandbox has ended.
func (r *Run) settle() (*LiveChanges, error) {
	u := r.undoable
	if u == nil {
		return nil, nil
	}
	defer u.close()
	number := u.entry.Number
	paths, err := u.entry.Settle(u.keeper.Walk)
	if err != nil {
		return nil, fmt.Errorf("record what the live run changed (casemate undo tries again): %w", err)
	}
	if paths == 0 {
		return nil, nil
	}
	return &LiveChanges{number, paths}, nil
}

// SettleUnfinished records what live runs did to a project whose supervisor was killed, so that they can be undone.
func SettleUnfinished(st *store.Store, project string) error {
	u, err := openUndoable(st, project, nil, nil)
	if err != nil {
		return err
	}
	defer u.close()
	return u.settleUnfinished()
}

func openUndoable(st *store.Store, project string, hide, also []string) (*undoable, error) {
	hidden, err := policy.CompilePaths(hide)
	if err != nil {
		return nil, err
	}
	keeper, err := workspace.NewKeeper(project, workspace.HiddenBy(hidden, also))
	if err != nil {
		return nil, err
	}
	log, err := history.Open(filepath.Join(st.Project(project), "history"), project)
	if err != nil {
		keeper.Close()
		return nil, err
	}
	return &undoable{log: log, keeper: keeper}, nil
}

func (u *undoable) close() {
	u.keeper.Close()
	u.log.Close()
}

func (u *undoable) settleUnfinished() error {
	numbers, err := u.log.Unfinished()
	if err != nil {
		return err
	}
	for _, n := range numbers {
		entry, e := u.log.Resume(n)
		if entry != nil && e == nil {
			_, e = entry.Settle(u.keeper.Walk)
		}
		if e != nil {
			err = errors.Join(err, fmt.Errorf("settle the live run of history entry %d: %w", n, e))
		}
	}
	return err
}

// Unkept names what of a live project cannot be brought back.
func (r *Run) Unkept() string {
	if len(r.unkept) == 0 {
		return ""
	}
	var names []string
	for _, k := range r.unkept[:min(len(r.unkept), 3)] {
		names = append(names, fmt.Sprintf("%s (%s)", workspace.Visible(k.Path), k.Why))
	}
	more := ""
	if n := len(r.unkept) - len(names); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return "undo will not bring back " + strings.Join(names, ", ") + more
}
