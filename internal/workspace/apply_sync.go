package workspace

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// fewChanges is up to how many changes are synced one by one with fsync(2). For more, syncfs(2) is quicker, though it waits for whatever else the
// file system has to write.
const fewChanges = 16

// written makes a new file durable, or remembers the file system it lies on.
func (a *application) written(fd int) error {
	if a.few {
		return unix.Fsync(fd)
	}
	n, err := statFd(fd)
	if err != nil || n.dev == a.owner.dev || a.others[n.dev] != 0 {
		return err
	}
	other, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		a.others[n.dev] = other
	}
	return err
}

// syncBatch makes durable what was staged.
func (a *application) syncBatch() error {
	if a.few {
		return nil // each file was
	}
	return a.syncAll()
}

// syncEnd makes all that was done durable: names, deletions and modes too.
func (a *application) syncEnd() error {
	if !a.few || a.syncNames() != nil {
		return a.syncAll()
	}
	return nil
}

// syncNames syncs the directories that were changed, up to the project's root, and what got another mode.
func (a *application) syncNames() error {
	touched := map[string]bool{"": true}
	for i := range a.outcomes {
		out := &a.outcomes[i]
		if out.Status != Applied {
			continue
		}
		markAbove(touched, out.Path)
		if out.Kind == ModeChanged || out.New.Type == Dir {
			touched[out.Path] = true
		}
	}
	for rel := range touched {
		fd, err := a.l.project.open(rel, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY)
		if absent(err) {
			continue // deleted with what was in it
		}
		if err != nil {
			return err
		}
		err = unix.Fsync(fd)
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}

// syncAll syncs the project's file system and those mounted in it that were written to.
func (a *application) syncAll() error {
	err := unix.Syncfs(a.l.project.fd)
	for _, fd := range a.others {
		err = errors.Join(err, unix.Syncfs(fd))
	}
	if err != nil {
		return fmt.Errorf("write the changes to disk: %w", err)
	}
	return nil
}
