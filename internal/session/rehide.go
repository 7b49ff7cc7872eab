package session

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"casemate.dev/internal/event"
	"casemate.dev/internal/workspace"
	"golang.org/x/sys/unix"
)

// rehiding hides what appears on the host during a run, and mirrors the rest, in a goroutine of its own beside the sandbox. Its owner is the supervision, which
// waits for it.
type rehiding struct {
	cancel context.CancelFunc
	done   chan struct{}
	hidden []string      // paths with a whiteout of ours in the layer; read after done
	taken  []string      // what was taken out of a live project; read after done
	events []event.Event // read after done
	err    error
}

// startRehiding is how long after the start the watching begins. Most commands of a build are over by then; what appears meanwhile is found
// when it begins.
const startRehiding = 30 * time.Millisecond

func (s *supervision) watchProject(merged int) {
	r := s.run
	if r.masked == nil || merged < 0 || r.Plan.Workspace.By != "overlay" {
		return
	}
	s.loop.At(time.Now().Add(startRehiding), func(time.Time) time.Time {
		if !s.over {
			s.hiding = r.rehide(merged)
		}
		return time.Time{}
	})
}

func (r *Run) rehide(merged int) *rehiding {
	ctx, cancel := context.WithCancel(context.Background())
	h := &rehiding{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(h.done)
		h.err = r.hideNew(ctx, merged, h)
	}()
	return h
}

func (r *Run) hideNew(ctx context.Context, merged int, h *rehiding) error {
	upper, err := unix.Open(filepath.Join(r.Box.Layer(), "upper"), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer unix.Close(upper)
	w, err := workspace.NewWatcher(r.masked, 0, func(a workspace.Appeared) {
		removed, err := workspace.Rehide(merged, upper, a.Path)
		h.hidden = append(h.hidden, removed...)
		e := event.Event{Time: time.Now().UTC(), Sandbox: r.Box.Record.ID, Kind: event.Hidden, Subject: a.Path, Detail: "appeared on the host during the run"}
		if err != nil {
			e.Detail += ", and could not be hidden from who had looked it up: " + err.Error()
		}
		h.events = append(h.events, e)
	})
	if err != nil { // then at least the names that hide everywhere
		return errors.Join(err, r.masked.Fill(ctx))
	}
	defer w.Close()
	defer r.mirror(w, merged, upper, h)()
	defer func() { h.watched(r, w.Unwatched) }()
	return w.Run(ctx, nil)
}

// watched says what was beyond the budget.
func (h *rehiding) watched(r *Run, beyond int) {
	if beyond > 0 {
		h.events = append(h.events, r.mirrored(workspace.Mirrored{Why: fmt.Sprintf("%d directories of the project were not watched, so that your other programs keep their share (fs.inotify.max_user_watches): what the host changed in them may not be seen inside", beyond)}))
	}
}

// settle leaves in the layer only what the sandbox did, once nobody has it mounted.
func (h *rehiding) settle(r *Run) {
	if err := settleMirror(r.Box, r.Project); err != nil {
		r.emit(event.Event{Kind: event.Warned, Subject: "mirror", Detail: err.Error()})
	}
}

// stop ends the watching and records what it hid.
func (h *rehiding) stop(r *Run) {
	h.cancel()
	<-h.done
	r.Box.Record.Hidden = append(r.Box.Record.Hidden, h.hidden...)
	r.events = append(r.events, h.events...)
	r.Taken = append(r.Taken, h.taken...)
	if h.err != nil {
		r.emit(event.Event{Kind: event.Warned, Subject: "files.hide-new", Detail: h.err.Error()})
	}
}
