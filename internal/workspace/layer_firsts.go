package workspace

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// firsts says when the sandbox first had a version of its own of a path. The birth time of the layer's entry tells that of the entry only, and a sandbox
// makes a new one whenever it likes: a save by rename, git stash, rm and a new file. What it wrote then is still not based on what the host wrote after
// the first.
//
// They are noted at the end of each run, and by the mirror whenever it finds that both sides have changed a path. Not known is what was made anew within a
// run before the mirror could look (some 50 ms), or in a run whose supervisor was killed.
type firsts map[string]first

type first struct {
	Path []byte `json:"p"`
	Made int64  `json:"m"`           // nanoseconds since 1970
	Gone bool   `json:"g,omitempty"` // the host removed its own while the sandbox had its version
}

const firstsName = "firsts"

// since is when the sandbox began to have its own version of rel, of which the entry there now was made at the given time.
func (f firsts) since(rel string, made int64) int64 {
	if at, known := f[rel]; known && at.Made < made {
		return at.Made
	}
	return made
}

func (f firsts) add(at first) {
	if old, known := f[string(at.Path)]; known {
		at.Made, at.Gone = min(at.Made, old.Made), at.Gone || old.Gone
	}
	f[string(at.Path)] = at
}

// ForgetFirsts is for a layer with nothing in it.
func ForgetFirsts(dir string) error { return ignoreNoFile(os.Remove(filepath.Join(dir, firstsName))) }

func readFirsts(top *rooted) (firsts, error) {
	data, err := readBeside(top, firstsName)
	if err != nil {
		return nil, err
	}
	found := firsts{}
	for line := range strings.Lines(string(data)) {
		var at first
		if json.Unmarshal([]byte(line), &at) == nil { // one that a crash cut short was never acted on
			found.add(at)
		}
	}
	return found, nil
}

func (f firsts) write(top *rooted) error {
	var text []byte
	for _, at := range f {
		line, err := json.Marshal(at)
		if err != nil {
			return fmt.Errorf("bug: %v", err)
		}
		text = append(append(text, line...), '\n')
	}
	return replaceBeside(top, firstsName, text)
}

// noteFirst adds one while the sandbox runs.
func noteFirst(dir string, at first) error {
	line, err := json.Marshal(at)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, firstsName), os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(addLine(f, line), f.Close())
}

// goneSince reports whether the host removed rel, or a directory above it that it still has not got, while the sandbox had its own version.
func (l *Layer) goneSince(rel string) bool {
	for ; rel != ""; rel = parentOf(rel) {
		if l.firsts[rel].Gone {
			n, err := l.project.stat(rel)
			return err == nil && n.Type == Absent
		}
	}
	return false
}

// noteFirsts collects what of a directory is the sandbox's own, for the runs that follow.
func (l *Layer) noteFirsts(p *place, opaque bool, found []pair) {
	if l.fresh == nil {
		return
	}
	if opaque {
		l.fresh.add(first{Path: []byte(p.rel), Made: p.made})
	}
	for i := range found {
		q := &found[i]
		rel := join(p.rel, q.name)
		old, known := l.firsts[rel]
		gone := old.Gone && q.host.Type == Absent
		if q.made > 0 && (known || q.own) && (q.in.Type != Dir || gone) {
			l.fresh.add(first{[]byte(rel), q.made, gone})
		}
	}
}

// forgetFirsts drops what the layer says nothing of any more: there the sandbox has no version of its own.
func (l *Layer) forgetFirsts() error {
	left := firsts{}
	for rel, at := range l.firsts {
		in, err := l.inside.stat(rel)
		if err != nil {
			return err
		}
		switch {
		case in.Type == Absent && !l.covered(rel), in.Type == Dir && !at.Gone && !l.isOpaque(rel):
			continue
		}
		left[rel] = at
	}
	if len(left) == len(l.firsts) {
		return nil
	}
	l.firsts = left
	return left.write(l.top)
}

// covered reports whether a directory above rel is gone, or made anew, in the layer.
func (l *Layer) covered(rel string) bool {
	for dir := parentOf(rel); dir != ""; dir = parentOf(dir) {
		in, err := l.inside.stat(dir)
		if err != nil || in.Type != Absent && (in.Type != Dir || l.isOpaque(dir)) {
			return true
		}
	}
	return false
}

func (l *Layer) isOpaque(rel string) bool {
	fd, err := l.inside.openDir(rel)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	attr, err := readOverlayDir(fd)
	return err == nil && attr.opaque
}
