package workspace

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// SettleMirror takes out of a layer what a Mirror put there and the sandbox left as it was, so that the host's entries show again and the layer
// holds the sandbox's own changes only. What the sandbox changed stays, and so does the log's line of what it was made from. The layer must not
// be mounted. It may be done again after a kill at any point.
func SettleMirror(layer, project, log string) error {
	g, err := OpenMirrorLog(log)
	if err != nil {
		return err
	}
	top, err := openRooted(layer)
	if err != nil {
		return err
	}
	defer top.close()
	upper, err := top.openHostile("upper")
	if err != nil {
		return err
	}
	defer upper.close()
	host, err := openRooted(project)
	if err != nil {
		return err
	}
	defer host.close()
	s := mirrorSettler{log: g, upper: upper, project: host}
	if s.births, err = readBirths(top); err != nil {
		return err
	}
	if err := s.all(); err != nil {
		return fmt.Errorf("layer %q: take out what was mirrored: %w", layer, err)
	}
	return s.rewrite()
}

func ignoreNoFile(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// Unsettled reports whether a layer may still hold what a mirror put there: its sandbox was killed.
func Unsettled(log string) bool {
	g, err := OpenMirrorLog(log)
	if err != nil {
		return true
	}
	for _, r := range g.at {
		if !r.Base {
			return true
		}
	}
	return false
}

type mirrorSettler struct {
	log            *MirrorLog
	upper, project *rooted
	keep           []mirrorRecord
	births         births // of a forked layer
}

func (s *mirrorSettler) all() error {
	paths := make([]string, 0, len(s.log.at))
	dirs := map[string]bool{}
	for rel := range s.log.at {
		paths = append(paths, rel)
		markAbove(dirs, rel)
	}
	slices.Sort(paths)
	slices.Reverse(paths) // what lies in a directory before it
	if _, known := s.log.at[rootIndex]; !known {
		paths = append(paths, rootIndex)
		markAbove(dirs, rootIndex)
	}
	for _, rel := range paths {
		if err := s.path(rel); err != nil {
			return fmt.Errorf("%s: %w", Quote(rel), err)
		}
	}
	above := make([]string, 0, len(dirs))
	for dir := range dirs {
		above = append(above, dir)
	}
	slices.Sort(above)
	for _, dir := range slices.Backward(above) {
		s.dropDir(dir)
	}
	return nil
}

// path settles one record.
func (s *mirrorSettler) path(rel string) error {
	r, known := s.log.at[rel]
	if gitIndex(rel) && s.sameIndex(rel) {
		return s.unlink(rel)
	}
	if !known {
		return nil
	}
	if r.Temp != "" {
		if err := s.leftover(rel, r); err != nil {
			return err
		}
	}
	up, err := s.upper.stat(rel)
	if err != nil || r.Base && up.Type == Absent {
		return err
	}
	switch {
	case r.Base:
		s.keep = append(s.keep, r)
		return nil
	case r.Type == Absent && up.Type == Dir:
		s.dropDir(rel)
		return nil
	case r.Type == Dir && up.Type == Dir:
		return s.madeDir(rel)
	case up.Type == Absent:
		return s.deletedInMade(rel, r)
	case s.log.mine(s.upper, rel, up):
		return s.unlink(rel)
	case r.Type != Absent:
		r.Base, r.Was, r.Temp = true, nil, ""
		s.keep = append(s.keep, r)
	}
	return nil
}

const rootIndex = ".git/index"

// sameIndex reports whether the layer's git index says what the host's does: git status has only noted there what saves it work. Left in the layer, it
// would contradict what the host commits before the next run.
func (s *mirrorSettler) sameIndex(rel string) bool {
	own, n, err := readBeneath(s.upper, rel)
	if err != nil || n.Type != File {
		return false
	}
	host, _, err := readBeneath(s.project, rel)
	if err != nil {
		return false
	}
	meaning := indexMeaning(own)
	return meaning != "" && meaning == indexMeaning(host)
}

// leftover deals with what a kill left under a temporary name: what the mirror was about to show, or what it had just replaced. If that is the
// sandbox's own, it gets its name back.
func (s *mirrorSettler) leftover(rel string, r mirrorRecord) error {
	temp := join(parentOf(rel), r.Temp)
	n, err := s.upper.stat(temp)
	if err != nil || n.Type == Absent {
		return err
	}
	up, err := s.upper.stat(rel)
	if err != nil {
		return err
	}
	if mirrored := r.holds(s.upper, rel, up) || r.Type == Absent && up.Type == Absent; mirrored && !s.theirs(temp, n, r) {
		return s.unlink(temp)
	} else if !mirrored {
		return s.unlink(temp) // the exchange never came: this is the host's, which the host has
	}
	parent, err := s.upper.openDir(parentOf(rel))
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	return writableFor(parent, func() error { return unix.Renameat(parent, path.Base(temp), parent, path.Base(rel)) })
}

// theirs reports whether an entry under a temporary name may be the sandbox's: it is neither what the mirror made, nor what overlayfs copied from the
// host to exchange it.
func (s *mirrorSettler) theirs(temp string, n node, r mirrorRecord) bool {
	if r.holds(s.upper, temp, n) || r.Was != nil && r.Was.holds(s.upper, temp, n) {
		return false
	}
	if r.Was != nil && r.Was.Type != Absent {
		return true
	}
	return n.mtime >= s.births.of(n) // a copy carries the time of what it was made from
}

// madeDir makes the host's entries show through a directory that the mirror made.
func (s *mirrorSettler) madeDir(rel string) error {
	fd, err := s.upper.openDir(rel)
	if err != nil {
		return err
	}
	attr, err := readOverlayDir(fd)
	if err == nil && attr.opaque {
		err = writableFor(fd, func() error { return unix.Fremovexattr(fd, xattrOpaque) })
	}
	unix.Close(fd)
	if err != nil {
		return err
	}
	s.dropDir(rel)
	return nil
}

// deletedInMade keeps a deletion that needed no whiteout, as the directory hid the host's entry anyway.
func (s *mirrorSettler) deletedInMade(rel string, r mirrorRecord) error {
	if r.Type == Absent || !s.log.made(parentOf(rel)) {
		return nil
	}
	host, err := s.project.stat(rel)
	if err != nil || !r.isHost(s.project, rel, host) {
		return err
	}
	parent, err := s.upper.openDir(parentOf(rel))
	if err != nil {
		return ignoreGone(err)
	}
	defer unix.Close(parent)
	r.Base, r.Was, r.Temp = true, nil, ""
	s.keep = append(s.keep, r)
	return writableFor(parent, func() error { return ignoreExisting(makeWhiteout(parent, path.Base(rel))) })
}

func (s *mirrorSettler) unlink(rel string) error {
	parent, err := s.upper.openDir(parentOf(rel))
	if err != nil {
		return ignoreGone(err)
	}
	defer unix.Close(parent)
	return writableFor(parent, func() error { return ignoreGone(unix.Unlinkat(parent, path.Base(rel), 0)) })
}

// dropDir removes a directory that says nothing: the host has it, with the same rights, and nothing is left in it.
func (s *mirrorSettler) dropDir(rel string) {
	up, err := s.upper.stat(rel)
	if err != nil || up.Type != Dir {
		return
	}
	host, err := s.project.stat(rel)
	made, known := s.log.at[rel]
	ours := known && !made.Base && (made.Type == Dir || made.Type == Absent && host.Type == Absent)
	if err != nil || !ours && (host.Type != Dir || host.perm() != up.perm()) {
		return
	}
	fd, err := s.upper.openDir(rel)
	if err != nil {
		return
	}
	attr, err := readOverlayDir(fd)
	unix.Close(fd)
	if err != nil || attr.opaque {
		return
	}
	parent, err := s.upper.openDir(parentOf(rel))
	if err != nil {
		return
	}
	defer unix.Close(parent)
	_ = writableFor(parent, func() error { return unix.Unlinkat(parent, path.Base(rel), unix.AT_REMOVEDIR) })
}

// rewrite replaces the log by what is still needed of it.
func (s *mirrorSettler) rewrite() error {
	if len(s.keep) == 0 {
		return ignoreNoFile(os.Remove(s.log.path))
	}
	next := &MirrorLog{path: s.log.path + ".new", at: map[string]mirrorRecord{}}
	if err := ignoreNoFile(os.Remove(next.path)); err != nil {
		return err
	}
	for _, r := range s.keep {
		if err := next.put(r); err != nil {
			return err
		}
	}
	if err := next.Close(); err != nil {
		return err
	}
	return os.Rename(next.path, s.log.path)
}

// mirrored sorts out of a directory of the layer what a Mirror put there: it is no change. What the sandbox removed of it, in a directory that the
// mirror made, left no trace but the line in the log.
func (l *Layer) mirrored(p *place, found []pair) []pair {
	g := l.Mirrored
	if g == nil || len(g.at) == 0 {
		return found
	}
	kept := found[:0]
	there := map[string]bool{}
	for _, q := range found {
		rel := join(p.rel, q.name)
		there[q.name] = true
		up := q.in
		up.blank = q.gone
		switch {
		case isMirrorTemp(q.name), q.in.Type != Dir && g.mine(l.inside, rel, up), q.in.Type == Dir && q.host.Type == Absent && l.leftEmpty(g, rel):
			continue
		case g.torn(rel):
			q.moved = "casemate was killed while it wrote the host's version here"
		case q.host.Type != Absent || q.in.Type == File || q.in.Type == Symlink:
			q.moved = l.unseenOf(g, rel, q)
		}
		kept = append(kept, q)
	}
	if l.mirrorMade(p.rel) {
		kept = append(kept, l.removedFromMade(p, there)...)
		p.opaque = false
	}
	return kept
}

// mirrorMade reports whether a directory of the layer is there because the host made it.
func (l *Layer) mirrorMade(rel string) bool { return l.Mirrored != nil && l.Mirrored.made(rel) }

// leftEmpty is about a directory that the host removed, and that the mirror could only empty.
func (l *Layer) leftEmpty(g *MirrorLog, rel string) bool {
	r, known := g.at[rel]
	if !known || r.Type != Absent || r.Base {
		return false
	}
	fd, err := l.inside.openDir(rel)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	names, err := namesIn(fd)
	return err == nil && !slices.ContainsFunc(names, func(name string) bool {
		n, err := statAt(fd, name)
		return err != nil || !n.blank && !(n.Type == Dir && l.leftEmpty(g, join(rel, name)))
	})
}

// unseenOf knows which state of the host's entry the sandbox was shown last.
func (l *Layer) unseenOf(g *MirrorLog, rel string, q pair) string {
	if _, known := g.shown(rel); !known {
		return q.moved
	}
	r := g.at[rel]
	switch {
	case q.host.Type == Absent:
		return hostDeletedIt
	case r.isHost(l.project, rel, q.host):
		return ""
	}
	return "the host changed it after the sandbox did"
}

func (l *Layer) removedFromMade(p *place, there map[string]bool) (found []pair) {
	for rel, r := range l.Mirrored.at {
		if r.Type == Absent || r.Base || parentOf(rel) != p.rel || rel == "" || there[baseName(rel)] || strings.HasSuffix(rel, "/") {
			continue
		}
		host, err := l.project.stat(rel)
		if err != nil || !r.isHost(l.project, rel, host) {
			continue
		}
		found = append(found, pair{name: baseName(rel), host: host, gone: true})
	}
	return found
}

// MirrorLogOf is where the log of a sandbox's directory lies.
func MirrorLogOf(dir string) string { return filepath.Join(dir, "mirror.log") }
