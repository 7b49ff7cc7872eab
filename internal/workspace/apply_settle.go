package workspace

import (
	"errors"
	"fmt"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// agreed is a path at which the project has what the layer says: both sides as they were when that was so. Looked at again they may be others.
type agreed struct {
	path     string
	host, in node
}

// settle takes out of the layer what the project has now: what was applied, which is durable on the host, and what the layer only repeats.
func (a *application) settle(same []agreed) error {
	if err := a.notePartial(); err != nil {
		return err
	}
	if a.o.Running && a.l.Kind == OverlayLayer {
		return a.noteApplied()
	}
	var done []agreed
	for i := range a.outcomes {
		out := &a.outcomes[i]
		if _, partial := a.partial(&out.Change); partial || out.Status != Applied && out.Status != Merged && out.Status != Dropped {
			continue
		}
		at := agreed{path: out.Path, in: out.in}
		if a.l.Kind == CopyLayer {
			var still bool
			var err error
			if at.host, still, err = a.leftAt(out); err != nil {
				return err
			}
			if !still { // it stays a change, and is a conflict now
				continue
			}
		}
		done = append(done, at)
	}
	return a.l.settle(done, same, a.left)
}

// left are paths of which the layer's side leaves although the host has another.
func (l *Layer) settle(applied, same []agreed, left map[string]bool) error {
	if len(same) > 0 { // an Apply that was cut short may have put it there a moment ago
		if err := unix.Syncfs(l.project.fd); err != nil {
			return fmt.Errorf("write the changes to disk: %w", err)
		}
	}
	all := append(applied, same...)
	switch {
	case len(all) == 0:
		return nil
	case l.Kind == CopyLayer:
		return l.settleCopy(all)
	}
	paths := make([]string, len(all))
	for i := range all {
		paths[i] = all[i].path
	}
	return l.settleOverlay(paths, left)
}

// settleCopy makes what the host and the copy had when they agreed the base of later comparisons.
func (l *Layer) settleCopy(all []agreed) error {
	for _, at := range all {
		l.settleEntry(at)
		if err := l.settleAbove(at.path); err != nil {
			return err
		}
	}
	return l.base.write(l.top)
}

func (l *Layer) settleEntry(at agreed) {
	_, known := l.base.entries[at.path]
	switch {
	case at.in.Type == Absent && at.host.Type == Absent && known:
		l.base.remove(at.path)
	case at.in.Type != Absent && at.in.Type == at.host.Type:
		l.base.set(at.path, at.host, at.in)
	}
}

// settleAbove makes the directories known that were made for a path.
func (l *Layer) settleAbove(rel string) error {
	for dir := parentOf(rel); dir != ""; dir = parentOf(dir) {
		if _, known := l.base.entries[dir]; known {
			return nil
		}
		in, err := l.inside.stat(dir)
		if err != nil {
			return err
		}
		host, err := l.project.stat(dir)
		if err != nil {
			return err
		}
		if in.Type == Dir && host.Type == Dir {
			l.base.set(dir, host, in)
		}
	}
	return nil
}

// settleOverlay removes entries from the upper directory, without changing what a later mount of it shows.
func (l *Layer) settleOverlay(paths []string, left map[string]bool) error {
	s := overlaySettler{l: l, open: map[string]bool{}, left: left}
	slices.Sort(paths)
	var errs []error
	dirs := map[string]bool{}
	for _, rel := range paths {
		markAbove(dirs, rel)
		isDir, err := s.drop(rel)
		if isDir {
			dirs[rel] = true
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s is applied, but stays in the layer: %w", Quote(rel), err))
		}
	}
	deepest := make([]string, 0, len(dirs))
	for dir := range dirs {
		deepest = append(deepest, dir)
	}
	slices.Sort(deepest)
	for _, dir := range slices.Backward(deepest) {
		s.dropDir(dir)
	}
	return errors.Join(append(errs, l.forgetFirsts())...)
}

type overlaySettler struct {
	l    *Layer
	open map[string]bool // directories through which the host's entries show
	left map[string]bool
}

// drop removes one entry that is no directory.
func (s *overlaySettler) drop(rel string) (isDir bool, err error) {
	in, err := s.l.inside.stat(rel)
	if err != nil || in.Type == Absent { // it lay under a directory that the layer deleted as a whole
		return false, err
	}
	if in.Type == Dir {
		return true, nil
	}
	host, err := s.l.project.stat(rel)
	if err != nil {
		return false, err
	}
	gone := in.blank || in.Type == File && host.Type == Absent // a whiteout of either kind
	if !s.left[rel] && (gone && host.Type != Absent || !gone && host.Type != in.Type) {
		return false, nil // not what the host has after all
	}
	if err := s.show(parentOf(rel)); err != nil {
		return false, err
	}
	return false, s.unlink(rel, 0)
}

// dropDir removes a directory that says nothing any more. It stays if anything is left in it.
func (s *overlaySettler) dropDir(rel string) {
	in, err := s.l.inside.stat(rel)
	if err != nil || in.Type != Dir {
		return
	}
	host, err := s.l.project.stat(rel)
	if err != nil || host.Type != Dir || host.perm() != in.perm() {
		return
	}
	if s.empty(rel) && s.show(rel) == nil {
		_ = s.unlink(rel, unix.AT_REMOVEDIR)
	}
}

func (s *overlaySettler) empty(rel string) bool {
	fd, err := s.l.inside.openDir(rel)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	names, err := namesIn(fd)
	return err == nil && len(names) == 0
}

// unlink removes an entry even if the sandbox took away the right to write to its directory, and leaves that as it was.
func (s *overlaySettler) unlink(rel string, flags int) error {
	parent, err := s.l.inside.openDir(parentOf(rel))
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	return writableFor(parent, func() error { return unix.Unlinkat(parent, path.Base(rel), flags) })
}

func writableFor(dir int, do func() error) error {
	err := do()
	if !errors.Is(err, unix.EACCES) {
		return err
	}
	n, err := statFd(dir)
	if err != nil {
		return err
	}
	if err := unix.Fchmod(dir, n.Mode|0o700); err != nil {
		return err
	}
	return errors.Join(do(), unix.Fchmod(dir, n.Mode))
}

// show makes the host's entries show through a directory of the layer and all above it, which an opaque one prevents, and writes what it said in
// another way: a whiteout for each entry that stays deleted, opaque on each directory below. Only then can an entry leave.
// What the host changed since the directory became opaque shows from then on: the host's side of that conflict wins, and nothing is lost.
func (s *overlaySettler) show(dir string) error {
	if s.open[dir] {
		return nil
	}
	if dir != "" {
		if err := s.show(parentOf(dir)); err != nil {
			return err
		}
	}
	fd, err := s.l.inside.openDir(dir)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	attr, err := readOverlayDir(fd)
	if err == nil && attr.opaque {
		err = writableFor(fd, func() error { return s.pushDown(dir, fd) })
	}
	if err == nil {
		s.open[dir] = true
	}
	return err
}

func (s *overlaySettler) pushDown(dir string, upper int) error {
	host, err := s.l.project.openDir(dir)
	if absent(err) {
		return nil // nothing could show
	}
	if err != nil {
		return err
	}
	defer unix.Close(host)
	self, err := statFd(upper)
	if err != nil {
		return err
	}
	names, err := namesIn(host)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := s.pushEntry(join(dir, name), upper, host, name, s.l.firsts.since(dir, s.l.births.of(self))); err != nil {
			return err
		}
	}
	return unix.Fremovexattr(upper, xattrOpaque)
}

func (s *overlaySettler) pushEntry(rel string, upper, host int, name string, since int64) error {
	below, err := statAt(host, name)
	if err != nil {
		return err
	}
	in, err := statAt(upper, name)
	switch {
	case err != nil:
		return err
	case in.Type == Dir && below.Type == Dir:
		return s.makeOpaque(upper, name)
	case in.Type != Absent || s.l.Hidden(rel, below.Type == Dir) || s.l.unseen(below, s.l.firsts.since(rel, since)) != "":
		return nil
	}
	return unix.Mknodat(upper, name, unix.S_IFCHR, 0) // a whiteout, which anybody may make since Linux 5.8
}

func (s *overlaySettler) makeOpaque(parent int, name string) error {
	fd, err := (&rooted{fd: parent}).openDir(name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fsetxattr(fd, xattrOpaque, []byte("y"), 0)
}
