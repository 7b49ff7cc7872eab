package workspace

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// What is applied while an overlay is mounted stays in its upper directory: overlayfs says that changing one under a mount is undefined. The
// layer's file "applied" says what the host has from there, so that the host's newer entry is not taken for another's, and that Settle is due.
const appliedName = "applied"

// applied is one line of it: the host's entry as the apply left it.
type applied struct {
	Path  []byte `json:"path"`
	Dev   uint64 `json:"dev"`
	Ino   uint64 `json:"ino"`
	Size  int64  `json:"size"`
	Mtime int64  `json:"mtime"`
	Ctime int64  `json:"ctime"`
}

// is counts any change as one of the host's, also another name for the file: its content is not known, and its mtime is set by whoever wrote it.
func (a applied) is(n node) bool {
	return n.dev == a.Dev && n.ino == a.Ino && n.Size == a.Size && n.mtime == a.Mtime && n.ctime == a.Ctime
}

// noteApplied records what was applied to the host from a layer that is mounted. It comes after everything is durable on the host; lost with a
// crash, it costs a conflict too many and nothing else.
func (a *application) noteApplied() error {
	a.l.noting()
	for i := range a.outcomes {
		out := &a.outcomes[i]
		if out.Status != Applied {
			continue
		}
		host, still, err := a.leftAt(out)
		if err != nil {
			return err
		}
		a.l.note(out.Path, host, still)
	}
	return a.l.writeApplied()
}

// leftAt looks at what the host has where a change was applied, and reports whether it still is what the apply left there. If the host has written
// to it since, or may have, it is the host's, and what the layer has there a conflict with it. Of a directory only the mode was applied.
func (a *application) leftAt(out *Outcome) (host node, still bool, err error) {
	host, err = a.l.project.stat(out.Path)
	if err != nil {
		return host, false, err
	}
	if out.New.Type == Dir {
		return host, host.Type == Dir && host.perm() == out.New.perm(), nil
	}
	left := a.steps[out.Path].Left
	return host, left != nil && left.Untouched(host.seen()), nil
}

func (l *Layer) noting() {
	if l.applied == nil {
		l.applied = map[string]applied{}
	}
}

// note remembers the host's entry as applied from here, or that it is not.
func (l *Layer) note(rel string, host node, ours bool) {
	if !ours {
		delete(l.applied, rel)
		return
	}
	l.applied[rel] = applied{[]byte(rel), host.dev, host.ino, host.Size, host.mtime, host.ctime}
}

// writeApplied replaces the file, or removes it if nothing is left to say.
func (l *Layer) writeApplied() error {
	if len(l.applied) == 0 {
		l.applied = nil
	}
	var text []byte
	for _, a := range l.applied {
		line, err := json.Marshal(a)
		if err != nil {
			return fmt.Errorf("bug: %v", err)
		}
		text = append(append(text, line...), '\n')
	}
	return replaceBeside(l.top, appliedName, text)
}

// readApplied reads it, if it is there. A line that a crash cut short is left out.
func (l *Layer) readApplied() error {
	data, err := readBeside(l.top, appliedName)
	if err != nil || data == nil {
		return err
	}
	l.applied = map[string]applied{}
	for line := range strings.Lines(string(data)) {
		var a applied
		if json.Unmarshal([]byte(line), &a) == nil {
			l.applied[string(a.Path)] = a
		}
	}
	return nil
}

// fromHere reports whether the host's entry is what an apply of this layer put there.
func (l *Layer) fromHere(rel string, host node) bool {
	a, ok := l.applied[rel]
	return ok && a.is(host)
}

// Settle takes out of the layer what was applied while it was mounted, and is there still as it was applied. It must not be mounted any more.
func (l *Layer) Settle(ctx context.Context) error {
	if l.applied == nil {
		return nil
	}
	if err := l.lock(); err != nil {
		return err
	}
	defer l.unlock()
	r, err := l.review(ctx, ChangeOptions{Built: true})
	if err != nil {
		return err
	}
	if err := l.settle(nil, r.same, nil); err != nil {
		return err
	}
	return l.forgetApplied()
}

// forgetApplied keeps only what the sandbox went on with after it was applied: there the layer still differs from the host.
func (l *Layer) forgetApplied() error {
	for rel, a := range l.applied {
		in, err := l.inside.stat(rel)
		if err != nil {
			return err
		}
		host, err := l.project.stat(rel)
		if err != nil {
			return err
		}
		if in.Type == Absent || !a.is(host) {
			delete(l.applied, rel)
		}
	}
	return l.writeApplied()
}
