package session

import (
	"path/filepath"
	"time"

	"casemate.dev/internal/event"
	"casemate.dev/internal/limits"
	"casemate.dev/internal/plan"
	"golang.org/x/sys/unix"
)

// watchFallback watches time and disk. Without a pid namespace there is only the host's /proc, so memory and idleness of the sandbox cannot
// be told from the user's other programs'; files without a name that those hold open on the same disk are counted too, which can only stop
// the sandbox early.
func (s *supervision) watchFallback() {
	fd, err := unix.Open("/proc", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		s.ended(0, err)
		return
	}
	s.handles = append(s.handles, fd)
	s.run.Set.Memory, s.run.Set.Idle = 0, 0
	s.watchLimits(fd, nil)
}

// watchLimits holds from outside what the kernel does not hold, in the supervisor's own loop.
func (s *supervision) watchLimits(proc int, tmpfs []int) {
	r := s.run
	on := limits.Watch{Set: r.Offers.Watched(r.Set), Proc: proc, Tmpfs: tmpfs}
	carried := int64(0)
	s.loop.At(time.Now().Add(firstLook), func(now time.Time) time.Time {
		if s.over {
			return time.Time{}
		}
		if s.watcher == nil {
			for _, dir := range s.writable() {
				if fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0); err == nil {
					s.handles = append(s.handles, fd)
					on.Trees = append(on.Trees, fd)
				}
			}
			w, err := limits.NewWatcher(on, s.started)
			if err != nil {
				s.ended(0, err)
				return time.Time{}
			}
			s.watcher = w
		}
		if n := s.carried(); n != carried {
			carried = n
			s.watcher.Active(now)
		}
		reason, next := s.watcher.Poll(now)
		if reason == "" {
			return now.Add(next)
		}
		r.emit(event.Event{Kind: event.Limited, Subject: reason, Detail: s.watcher.Why()})
		if reason == limits.OverMemory {
			reason = "oom" // the same word whoever stopped it
		}
		s.stop(reason)
		return time.Time{}
	})
}

// carried counts what the command has written, and what was typed for it.
func (s *supervision) carried() int64 {
	n := s.streams.Carried()
	if s.term != nil {
		n += s.term.Carried()
	}
	return n
}

// firstLook is when the watching of limits begins: most commands are over before there is anything to see.
const firstLook = 50 * time.Millisecond

// writable lists the directories on the host that what the sandbox writes ends up in.
func (s *supervision) writable() []string {
	r := s.run
	if r.Plan.Mode == plan.Landlock {
		return ownTrees(r.Plan)
	}
	var dirs []string
	switch r.Plan.Workspace.By {
	case "overlay":
		dirs = append(dirs, filepath.Join(r.Box.Layer(), "upper"))
	case "copy":
		dirs = append(dirs, filepath.Join(r.Box.Layer(), "copy"))
	}
	for _, m := range r.Plan.Mounts {
		if m.Cache != "" {
			dirs = append(dirs, filepath.Join(m.Layer, "upper"))
		}
		if m.Kind == plan.Bind && m.Writable && m.Source != r.Project {
			dirs = append(dirs, m.Source)
		}
	}
	return dirs
}
