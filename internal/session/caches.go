package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"casemate.dev/internal/cache"
	"casemate.dev/internal/plan"
	"casemate.dev/internal/policy"
	"casemate.dev/internal/store"
	"casemate.dev/internal/workspace"
	"golang.org/x/sys/unix"
)

// caches lays what the project's sandboxes have added to each cache of the policy over the host's.
func (r *Run) caches(req *plan.Request) error {
	if len(r.Policy.Cache) == 0 {
		return nil
	}
	here, err := r.Person.Presets(r.Project)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, v := range r.Policy.Cache {
		if seen[v.V] {
			continue
		}
		seen[v.V] = true
		found, err := cache.Find(here, v.V, cache.Inside{Env: req.Env, Home: req.User.Home})
		if err != nil {
			return &Refusal{fmt.Errorf("cache (%s): %w", v.Origin, err), leaveOut(v.V)}
		}
		if req.Mode == plan.Landlock {
			r.notice("cache %s (%s) begins empty, in the sandbox's own home: without mounts yours cannot be laid under it", v.V, v.Origin)
			continue
		}
		if err := r.layCache(req, v, found); err != nil {
			return err
		}
	}
	return r.placeCaches(req)
}

func leaveOut(name string) string {
	return "leave the cache of " + name + " out: the sandbox's own then begins empty"
}

// layCache plans the mounts of one cache.
func (r *Run) layCache(req *plan.Request, v policy.Value[string], found []cache.Found) error {
	none := true
	for _, f := range found {
		if f.Host == "" {
			continue
		}
		none = false
		if err := r.checkCache(f.Host); err != nil {
			return &Refusal{fmt.Errorf("cache (%s): %s (%s) is taken for the cache of %s, and %w", v.Origin, f.Host, f.From, v.V, err), leaveOut(v.V)}
		}
		var st unix.Stat_t
		if err := unix.Stat(f.Host, &st); err != nil {
			return fmt.Errorf("cache %s: %s: %w", v.V, f.Host, err)
		}
		if int(st.Uid) != r.Person.UID && r.Facts.EUID != 0 { // whose mounts give the owner's files to the sandbox's user
			r.notice("cache %s: %s belongs to another user: what is there can be read inside, and nothing be added to its directories", v.V, f.Host)
		}
		req.Caches = append(req.Caches, plan.Cache{Name: f.Cache, Part: f.Part, What: f.What, Hide: f.Hide, Mount: plan.Mount{
			Kind: plan.Overlay, Source: f.Host, Target: f.Inside, Writable: true, Cache: f.Cache, UID: int(st.Uid), GID: int(st.Gid), Origin: v.Origin.String(),
		}})
	}
	if none && (r.Options.DryRun || v.Origin.Tier == policy.CommandLine) { // a line of a policy says so once, not at every run
		r.notice("cache %s (%s): there is none in %s (%s), so the sandbox's begins empty", v.V, v.Origin, found[0].Said, found[0].From)
	}
	return nil
}

// checkCache refuses to show as a cache what a slip in a setting would make one.
func (r *Run) checkCache(dir string) error {
	switch {
	case within(r.Person.Home, dir):
		return errors.New("it holds your home directory")
	case r.Project != "" && within(r.Project, dir):
		return errors.New("it holds the project, which would show what is hidden in it")
	case r.Project != "" && within(dir, r.Project):
		return errors.New("it lies in the project, where an agent can write")
	case within(r.Store.Root, dir) || within(dir, r.Store.Root):
		return errors.New("it holds casemate's own state, or lies in it")
	}
	for _, s := range shared {
		if dir == s {
			return errors.New("it belongs to the system and to everybody")
		}
	}
	return nil
}

// placeCaches makes or finds the directories of the project's caches.
func (r *Run) placeCaches(req *plan.Request) error {
	if len(req.Caches) == 0 {
		return nil
	}
	dir := r.cachesDir(req.User)
	set := filepath.Join(dir, "1")
	if !r.Options.DryRun {
		if err := r.takeCaches(dir); err != nil {
			return fmt.Errorf("caches of the project: %w", err)
		}
		set = r.cached.Dir
	}
	for i := range req.Caches {
		c := &req.Caches[i]
		part := filepath.Join(set, c.Name, c.Part)
		c.Mount.Layer, c.Mount.Mask = filepath.Join(part, "layer"), filepath.Join(part, "mask")
		if r.Options.DryRun {
			continue
		}
		if err := r.placeCache(c, part, req.User); err != nil {
			return fmt.Errorf("cache %s of the project: %w", c.Name, err)
		}
	}
	if r.Options.DryRun {
		return nil
	}
	return r.cached.Begin()
}

// cachesDir is where the project's sets are. Without a project there is nobody to keep them for, and they go with the sandbox. As root each user that
// sandboxes are has some, as with homes: what one has filled is never given to another.
func (r *Run) cachesDir(user plan.User) string {
	switch {
	case r.Project == "" && r.Box != nil:
		return filepath.Join(r.Box.Dir, "cache")
	case r.Facts.EUID == 0:
		return filepath.Join(r.Store.Project(r.Project), fmt.Sprintf("cache-%d", user.UID))
	}
	return filepath.Join(r.Store.Project(r.Project), "cache")
}

func (r *Run) takeCaches(dir string) (err error) {
	if r.Project != "" { // for casemate cache ls: which project the directory is of
		key := r.Store.Project(r.Project)
		if err := errors.Join(store.MakeDir(key), store.Note(key, r.Project)); err != nil {
			return err
		}
	}
	if r.cached, err = cache.Take(dir); err != nil {
		return err
	}
	return r.untear()
}

// untear throws away what is half removed, and what was being written when the machine stopped: files may be there that have no content, and a cache can be filled again.
func (r *Run) untear() error {
	if !r.cached.Torn {
		return r.cached.Drop(removeTree)
	}
	names := r.cached.Names()
	for _, name := range names {
		r.notice("what the project's sandboxes had added to the cache of %s is thrown away: the machine stopped before it was on the disk", name)
	}
	return r.cached.Drop(removeTree, names...)
}

func removeTree(dir string) error { return workspace.Discard(context.Background(), dir) }

func (r *Run) placeCache(c *plan.Cache, part string, user plan.User) error {
	upper := filepath.Join(c.Mount.Layer, "upper")
	for _, d := range []string{c.Mount.Layer, upper, filepath.Join(c.Mount.Layer, "work")} {
		if err := r.ownDirectory(d, user); err != nil {
			return err
		}
	}
	if err := os.Chmod(upper, 0o755); err != nil { // it is the root of what is seen inside, where a run can have closed it
		return err
	}
	owner := plan.User{UID: c.Mount.UID, GID: c.Mount.GID}
	if err := cache.Mask(c.Mount.Mask, c.Hide, removeTree, func(d string) error { return r.ownDirectory(d, owner) }); err != nil {
		return err
	}
	return cache.Note(part, c.Mount.Source)
}

// cacheStep says what to do about a cache that cannot be mounted: file systems differ in what an overlay can have below it.
func (r *Run) cacheStep(step, remedy string) string {
	for _, m := range r.Plan.Mounts {
		if m.Cache != "" && (step == "overlay of "+m.Source || step == "open "+m.Source) {
			return strings.TrimPrefix(remedy+"\nor "+leaveOut(m.Cache), "\nor ")
		}
	}
	return remedy
}

// Caches lists what is kept of caches, for all projects.
func Caches(st *store.Store) []cache.Kept { return cache.List(st) }

// RemoveCache removes what a project's sandboxes have added to a cache. The host's own is not touched.
func RemoveCache(k cache.Kept) error {
	err := cache.Remove(k, removeTree)
	if errors.Is(err, store.ErrRunning) {
		return &Refusal{fmt.Errorf("a sandbox of %s is running with its cache of %s", k.Project, k.Cache), "wait for its end: casemate ps lists what runs"}
	}
	return err
}
