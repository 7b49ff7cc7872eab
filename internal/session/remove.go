package session

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"casemate.dev/internal/engine/native"
	"casemate.dev/internal/limits"
	"casemate.dev/internal/plan"
	"casemate.dev/internal/store"
	"casemate.dev/internal/workspace"
	"golang.org/x/sys/unix"
)

// Remove deletes a sandbox with its layer, and with home the home of its project.
func Remove(st *store.Store, box *store.Sandbox, home, force bool) error {
	if err := box.Lock(); err != nil {
		if !errors.Is(err, store.ErrRunning) || !force {
			return &Refusal{err, "wait for its end, or end it: casemate rm --force " + box.Record.ID}
		}
		if err := end(box); err != nil {
			return err
		}
	}
	defer box.Unlock()
	if err := discard(box); err != nil {
		return err
	}
	if !home || box.Record.Project == "" {
		return nil
	}
	homes, err := filepath.Glob(filepath.Join(st.Project(box.Record.Project), "home*"))
	for _, h := range homes {
		err = errors.Join(err, workspace.Discard(context.Background(), h))
	}
	return err
}

// end asks the supervisor to end its sandbox, and takes the lock that it leaves. The process is named by its record only while it holds the
// lock, so its number cannot have become another's.
func end(box *store.Sandbox) error {
	if box.Record.PID <= 1 {
		return fmt.Errorf("sandbox %s: its supervisor is not known yet; try again", box.Record.ID)
	}
	if err := unix.Kill(box.Record.PID, unix.SIGKILL); err != nil {
		return fmt.Errorf("end sandbox %s: %w", box.Record.ID, err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for {
		err := box.Lock()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Steps names the set-up steps that the engine takes for the plan.
func (r *Run) Steps() ([]string, error) {
	filter, err := r.filter()
	if err != nil {
		return nil, err
	}
	at := native.Attach{Filter: filter, OOMScore: 300, Terminal: r.Options.Terminal, Watch: r.Plan.Mode != plan.Landlock, Stdio: [3]int{3, 4, 5}}
	for _, l := range r.Plan.Limits {
		if strings.Contains(l.By, "cgroup") {
			at.Join = []int{0}
		}
	}
	for _, l := range limits.Rlimits(r.Set, r.Offers) {
		at.Rlimits = append(at.Rlimits, native.Rlimit(l))
	}
	return native.Program(r.Plan, at).Steps(), nil
}
