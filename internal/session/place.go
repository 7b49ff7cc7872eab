package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"casemate.dev/internal/host"
	"casemate.dev/internal/limits"
	"casemate.dev/internal/plan"
	"casemate.dev/internal/policy"
	"casemate.dev/internal/store"
	"casemate.dev/internal/workspace"
	"golang.org/x/sys/unix"
)

// place makes or finds what belongs to this run on disk: its directory, the change layer, the mask and the home.
func (r *Run) place(req *plan.Request) error {
	if r.Options.DryRun {
		return r.wouldPlace(req)
	}
	if err := r.sandbox(req.User); err != nil {
		return err
	}
	if r.keepsHome() {
		if err := r.home(req); err != nil {
			return err
		}
	}
	if req.Mode == plan.Landlock {
		if err := r.placeFallback(req); err != nil {
			return err
		}
	}
	switch {
	case req.Project == "":
		return nil
	case r.Policy.Files.Workspace.V == policy.Live && req.Mode != plan.Landlock:
		return r.live(req)
	case req.Mode == plan.Landlock || r.Options.Copy || r.Kept && r.Box.Record.By == "copy":
		return r.copy(req)
	}
	err := r.layer(req)
	var refused *workspace.RefusedError
	if !errors.As(err, &refused) {
		return err
	}
	if r.Kept {
		return &Refusal{err, "look at the kept changes first: casemate diff; or start anew: casemate run --fresh"}
	}
	r.notice("held in a copy of the project instead of an overlay: %v", err)
	if err := workspace.Discard(context.Background(), r.Box.Layer()); err != nil {
		return err
	}
	return r.copy(req)
}

// placeFallback makes what the mode without namespaces needs in place of mounts: a home and a temporary directory of the sandbox's own.
func (r *Run) placeFallback(req *plan.Request) error {
	req.Tmp = filepath.Join(r.Box.Dir, "tmp")
	if err := r.ownDirectory(req.Tmp, req.User); err != nil {
		return err
	}
	if req.Home == "" {
		req.Home = filepath.Join(r.Box.Dir, "home")
		if err := r.ownDirectory(req.Home, req.User); err != nil {
			return err
		}
	}
	req.User.Home = req.Home
	return nil
}

// copy makes the change layer a copy of the project without what is hidden.
func (r *Run) copy(req *plan.Request) error {
	if err := r.ownDirectory(r.Box.Layer(), req.User); err != nil {
		return err
	}
	req.Copy = filepath.Join(r.Box.Layer(), "copy")
	if req.Mode == plan.Landlock {
		rel, err := filepath.Rel(r.Project, req.Dir)
		if err != nil {
			return err
		}
		req.Dir = filepath.Join(req.Copy, rel)
	}
	if r.Kept {
		return nil
	}
	hide, err := policy.CompilePaths(hidePatterns(r.Policy.Files))
	if err != nil {
		return err
	}
	survey, err := r.survey(req, hide)
	if err != nil {
		return err
	}
	var also []string
	for _, h := range survey.Hidden {
		also = append(also, h.Path)
	}
	skipped, err := workspace.CopyIn(context.Background(), r.Project, r.Box.Layer(), workspace.HiddenBy(hide, also))
	if err != nil {
		return fmt.Errorf("copy of the project: %w", err)
	}
	for _, s := range skipped {
		r.notice("%s is not in the copy: %s", workspace.Visible(s.Path), s.Why)
	}
	r.keepTracked(req.User, req.Copy, true)
	if r.Facts.EUID == 0 {
		return r.giveAway(req.Copy, req.User)
	}
	return nil
}

// giveAway makes the copy belong to the sandbox's user. Nothing of the sandbox runs yet.
func (r *Run) giveAway(dir string, user plan.User) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, user.UID, user.GID)
	})
}

func (r *Run) wouldPlace(req *plan.Request) error {
	dir := filepath.Join(r.Store.Root, "sandboxes", "new")
	if r.keepsHome() {
		req.Home = filepath.Join(r.Store.Project(r.Project), r.homeName(req.User))
	}
	if req.Project != "" {
		req.Mask, req.Layer = filepath.Join(r.Store.Project(r.Project), "mask"), filepath.Join(dir, "layer")
	}
	return nil
}

// homeName is "home", and where root runs casemate one for each user that its sandboxes are: a home that another user has filled is never
// given away, as nothing could do that safely while a sandbox may be running in it.
func (r *Run) homeName(user plan.User) string {
	if r.Facts.EUID == 0 {
		return fmt.Sprintf("home-%d", user.UID)
	}
	return "home"
}

// keepsHome says whether this run has a home that another run will see. One without a project has none to keep it for: a home that all such runs
// shared would carry what one left in it, such as a ~/.bashrc, to the next, whatever that is about.
func (r *Run) keepsHome() bool {
	return r.Policy.Home.V == policy.HomeProject && r.Project != ""
}

// Clean removes what runs left that were killed before their command started.
func Clean(p Person, st *store.Store) error {
	list, err := st.List()
	if err == nil {
		discardDead(st, list, func() limits.Facts { return limits.Detect(p.UID, !host.Quick().AtLeast(5, 14)) })
	}
	return err
}

// discardDead removes their control groups as well: nothing names those of one that was killed as it made them.
func discardDead(st *store.Store, list []*store.Sandbox, offers func() limits.Facts) {
	for _, b := range st.Dead(list) {
		limits.RemoveLeftovers(limits.Leftovers(offers(), func(group string) bool {
			id, _, _ := strings.Cut(group, "-")
			return id != b.Record.ID
		}))
		discard(b)
		b.Unlock()
	}
}

// sandbox goes on with the project's kept layer, or makes a new sandbox. A layer that another run has is left to it.
func (r *Run) sandbox(user plan.User) error {
	list, err := r.Store.List()
	if err != nil {
		return err
	}
	discardDead(r.Store, list, func() limits.Facts { return r.Offers })
	if r.Options.Sandbox != "" {
		return r.goOnWith(r.Options.Sandbox, user)
	}
	if r.Project != "" && r.Policy.Files.Workspace.V == policy.Held && !r.Options.Fresh {
		for _, b := range list {
			if r.goOn(b, user) {
				return nil
			}
		}
	}
	box, err := r.Store.New(r.Project)
	if err != nil {
		return err
	}
	r.Box = box
	r.Box.Record.Born = time.Now().UTC() // the local zone would have to be read from a file
	return nil
}

// goOn takes a kept sandbox of this project, unless another run has it or it is of another user. The sandbox is this run's only once it is taken: what is
// given up with a run is thrown away.
func (r *Run) goOn(b *store.Sandbox, user plan.User) bool {
	rec := b.Record
	if rec.Snapshot || rec.Project != r.Project || rec.Workspace != string(policy.Held) || rec.UID != user.UID || b.Running || !b.HasLayer() || b.Lock() != nil {
		return false
	}
	if err := r.take(b); err != nil {
		r.notice("not going on with sandbox %s, which holds changes: %v", rec.ID, err)
		b.Unlock()
		return false
	}
	r.Box = b
	if r.Kept {
		r.notice("going on with the changes of sandbox %s (--fresh starts anew)", rec.ID)
	}
	return true
}

// take makes a locked sandbox ready to be gone on with.
func (r *Run) take(b *store.Sandbox) error {
	rec := b.Record
	if err := settle(b); err != nil {
		return err
	}
	if rec.Ended.IsZero() { // a crash left what was mirrored
		if err := settleMirror(b, r.Project); err != nil {
			return err
		}
	}
	if rec.By == "overlay" && isEmpty(filepath.Join(b.Layer(), "upper")) && !holdsGit(b) { // a crash left it: there is nothing to go on with
		b.Record = store.Record{ID: rec.ID, Born: time.Now().UTC()}
		return nil
	}
	b.Record.PID = 0
	if err := b.Save(false); err != nil { // whoever reads the record while this run is prepared must not take the old process for its own
		return err
	}
	r.Kept = true
	return nil
}

// layer prepares the project's mask and the change layer.
func (r *Run) layer(req *plan.Request) error {
	layer := r.Box.Layer()
	if r.Box.Reused && r.Facts.EUID == 0 { // the project's owner, and with him the sandbox's user, may be another than last time
		if err := r.reuseAs(layer, req.User); err != nil {
			return err
		}
	}
	if !r.Kept && !r.Box.Reused { // what a run left that was killed before it changed anything
		unix.Rmdir(filepath.Join(layer, "upper"))
	}
	if !r.Box.Reused {
		for _, d := range []string{layer, filepath.Join(layer, "upper"), filepath.Join(layer, "work")} {
			if err := r.ownDirectory(d, req.User); err != nil {
				return err
			}
		}
	}
	if !r.Kept { // the root of the merged view shows the upper directory's mode
		os.Chmod(filepath.Join(layer, "upper"), os.FileMode(r.found.Mode&0o777))
	}
	req.Layer = layer
	if err := r.mask(req); err != nil {
		return err
	}
	if len(r.Policy.Files.Write) > 0 {
		if err := r.writeThrough(req); err != nil {
			return err
		}
	}
	if err := r.gitDirectories(req); err != nil {
		return err
	}
	r.keepTracked(req.User, filepath.Join(layer, "upper"), false)
	return nil
}

// reuseAs throws a spare layer away that is another user's: the kernel has made directories in it that only they may change.
func (r *Run) reuseAs(layer string, user plan.User) error {
	var st unix.Stat_t
	if unix.Lstat(filepath.Join(layer, "upper"), &st) == nil && int(st.Uid) == user.UID && int(st.Gid) == user.GID {
		return nil
	}
	r.Box.Reused = false
	if err := workspace.Discard(context.Background(), layer); err != nil {
		return fmt.Errorf("sandbox directory: %w", err)
	}
	return nil
}

// ownDirectory makes a directory that belongs to the sandbox's user.
func (r *Run) ownDirectory(dir string, user plan.User) error {
	if err := store.MakeDir(dir); err != nil {
		return fmt.Errorf("sandbox directory: %w", err)
	}
	return r.own(dir, user)
}

func (r *Run) own(dir string, user plan.User) error {
	if r.Facts.EUID == 0 {
		if err := os.Lchown(dir, user.UID, user.GID); err != nil {
			return fmt.Errorf("sandbox directory: %w", err)
		}
	}
	return nil
}

// home prepares the sandbox's own home and, in it, the places that will be mounted on. An earlier run could write there, so each step is
// taken by descriptor and what is in the way of a mount is removed: it would not be visible anyway.
func (r *Run) home(req *plan.Request) error {
	key := r.Store.Project(r.Project)
	req.Home = filepath.Join(key, r.homeName(req.User))
	if req.Mode == plan.Landlock { // the paths that programs keep in it hold in this mode only
		req.Home = filepath.Join(key, "home-fallback")
	}
	if err := unix.Mkdir(req.Home, 0o700); err != unix.EEXIST {
		if err := store.MakeDir(req.Home); err != nil {
			return fmt.Errorf("home of the sandbox: %w", err)
		}
		if err := store.Note(key, r.Project); err != nil { // for casemate ps: which project the directory is of
			return err
		}
	}
	if err := r.own(req.Home, req.User); err != nil || req.Mode != plan.Landlock {
		return err
	}
	fd, err := openOwn(unix.AT_FDCWD, req.Home) // the others open it for the places to mount on
	if err != nil {
		return fmt.Errorf("home of the sandbox: %w", err)
	}
	return unix.Close(fd)
}
