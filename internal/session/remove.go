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
			if box.Runs() {
				err = &Refusal{err, "wait for its end, or end it: casemate rm --force " + box.Record.ID}
			}
			return err
		}
		if err := end(st, box); err != nil {
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
	return removeHomes(st.Project(box.Record.Project))
}

func removeHomes(dir string) error {
	homes, err := filepath.Glob(filepath.Join(dir, "home*"))
	for _, h := range homes {
		err = errors.Join(err, removeHome(h))
	}
	return err
}

func removeHome(home string) error {
	err := workspace.Discard(context.Background(), home)
	if gone := os.Remove(laidFile(home)); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return err
}

// RemoveHome deletes one home, if no sandbox of its project runs. Most projects have a home and no sandbox: what was held is applied or discarded,
// and the home stays.
func RemoveHome(st *store.Store, home string) error {
	if err := homeInUse(st, filepath.Dir(home)); err != nil {
		return err
	}
	return removeHome(home)
}

// RemoveHomes deletes all those of the project in the state directory dir.
func RemoveHomes(st *store.Store, dir string) error {
	if err := homeInUse(st, dir); err != nil {
		return err
	}
	return removeHomes(dir)
}

// homeInUse says which sandbox has the home of the project in the state directory dir now.
func homeInUse(st *store.Store, dir string) error {
	list, err := st.List()
	if err != nil {
		return err
	}
	for _, b := range list {
		if b.Running && st.Project(b.Record.Project) == dir {
			if !b.Runs() {
				return b.InUse()
			}
			return &Refusal{fmt.Errorf("sandbox %s, which has this home, is running", b.Record.ID), "wait for its end, or end it: casemate rm --force --home " + b.Record.ID}
		}
	}
	return nil
}

// end kills the supervisor, with which its sandbox ends, and takes the lock that it leaves. The record may be of an earlier run while the next one
// is prepared, and numbers of processes are used again: only the process that started when the record says is signalled, by a descriptor.
func end(st *store.Store, box *store.Sandbox) error {
	deadline := time.Now().Add(5 * time.Second)
	for {
		err := box.Lock()
		if err == nil || !errors.Is(err, store.ErrRunning) {
			return err
		}
		st.Reload(box)
		known, err := kill(box.Record.PID, box.Record.PIDStart)
		if err != nil {
			return fmt.Errorf("end sandbox %s: %w", box.Record.ID, err)
		}
		if time.Now().After(deadline) {
			if !known {
				return fmt.Errorf("sandbox %s: its supervisor is not known yet, or runs in another container; try again", box.Record.ID)
			}
			return fmt.Errorf("sandbox %s: its supervisor (process %d) was killed and has not ended", box.Record.ID, box.Record.PID)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// kill ends the process with this number if it is the one that started then.
func kill(pid int, start uint64) (known bool, err error) {
	if pid <= 1 || start == 0 {
		return false, nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false, nil // it is gone
	}
	defer unix.Close(fd)
	if now, err := store.ProcessStart(pid); err != nil || now != start { // of the process that the descriptor holds: its number is not free before
		return false, nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return true, err
	}
	return true, nil
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
