package session

import (
	"os"
	"path/filepath"
	"time"

	"casemate.dev/internal/event"
	"casemate.dev/internal/store"
	"casemate.dev/internal/workspace"
)

// mirror makes the watcher carry the host's changes into the running sandbox. Whoever watches for hidden files works without it too.
func (r *Run) mirror(w *workspace.Watcher, merged, upper int, h *rehiding) (done func()) {
	m, err := workspace.NewMirror(r.masked, workspace.MirrorOptions{
		Merged: merged, Upper: upper, Log: workspace.MirrorLogOf(r.Box.Dir), Layer: r.Box.Layer(), UID: r.Plan.User.UID, GID: r.Plan.User.GID,
		Tell: func(m workspace.Mirrored) {
			if len(h.events) < maxMirrorEvents {
				h.events = append(h.events, r.mirrored(m))
			}
		},
	})
	if err != nil {
		h.events = append(h.events, r.mirrored(workspace.Mirrored{Why: "the host's changes are not mirrored: " + err.Error()}))
		return func() {}
	}
	w.Mirror(m)
	return func() { m.Close() }
}

func (r *Run) mirrored(m workspace.Mirrored) event.Event {
	e := event.Event{Time: time.Now().UTC(), Sandbox: r.Box.Record.ID, Kind: event.Warned, Subject: m.Path, Detail: m.Why}
	if m.Conflict {
		e.Kind, e.Detail = event.Conflict, m.Why+"; the sandbox's version stays inside, and the host's on the host"
	}
	return e
}

// maxMirrorEvents bounds what one run records: a build on the host can touch a hundred thousand files.
const maxMirrorEvents = 1000

// settleMirror leaves in the layer only what the sandbox did. Nothing may have it mounted.
func settleMirror(box *store.Sandbox, project string) error {
	if isEmpty(filepath.Join(box.Layer(), "upper")) {
		os.Remove(workspace.MirrorLogOf(box.Dir)) // of what is not there any more
		return nil
	}
	return workspace.SettleMirror(box.Layer(), project, workspace.MirrorLogOf(box.Dir))
}

// settleEnded does the same for a sandbox whose supervisor was killed before it could.
func settleEnded(box *store.Sandbox) error {
	log := workspace.MirrorLogOf(box.Dir)
	if box.Running || !exists(log) || !workspace.Unsettled(log) || box.Lock() != nil {
		return nil
	}
	defer box.Unlock()
	return settleMirror(box, box.Record.Project)
}
