package workspace

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Appeared is a hidden name that the host made while a sandbox ran.
type Appeared struct {
	Path    string
	Dir     bool
	Pattern int // index of the pattern that hides it; -1 for another name of a hidden file, and for a socket
}

// Watcher hides what appears on the host while a sandbox runs. Names that are hidden everywhere were masked before the start; for the others
// there is a window between the host's change and the watcher's answer, in which the sandbox can look the name up and open it: what it has
// open stays open. That is why a plan calls patterns watched, not enforced.
//
// NOT covered: directories beyond the budget, changes on network file systems, which raise no events, and a directory that the host
// deletes and makes again while the sandbox has it in use: until the kernel forgets the old one, only Rehide hides there.
type Watcher struct {
	mask   *Mask
	appear func(Appeared)
	events *os.File
	fd     int
	budget int
	top    *rooted
	dirs   map[int32]string // watch descriptor to directory
	watch  walk             // for its patterns
	l      *lister
	secret map[uint64]bool // inodes that are hidden
	mirror *Mirror         // nil if the host's changes are not mirrored

	// Unwatched is how many directories are not watched because the budget is used up. It is final once Run has called ready.
	Unwatched int
}

// NewWatcher prepares to watch the project of a mask. appear is called, from the goroutine of Run, for each hidden name that turns up; when it is
// called, the mask hides the name from whoever has not looked it up, and Rehide does the rest. budget is the number of directories to watch,
// 0 for a quarter of what this user may watch: editors need the others.
func NewWatcher(m *Mask, budget int, appear func(Appeared)) (*Watcher, error) {
	if budget == 0 {
		budget = watchBudget()
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch project %q: %w (see fs.inotify.max_user_instances)", m.Survey.Root, err)
	}
	w := &Watcher{mask: m, appear: appear, events: os.NewFile(uintptr(fd), "inotify"), fd: fd, budget: budget, top: m.top, dirs: map[int32]string{}, l: new(lister)}
	w.watch.hide = m.hide
	w.secret = hiddenInodes(m.Survey.dirs)
	return w, nil
}

// Mirror makes the watcher mirror what the host changes. Call it before Run.
func (w *Watcher) Mirror(m *Mirror) {
	w.mirror = m
	m.hidden = func(rel string, n node) bool {
		hidden, _ := w.watch.match(parentOf(rel), baseName(rel), n.Type == Dir)
		return hidden || n.Type == Socket || n.Type == File && n.nlink > 1 && w.secret[n.ino]
	}
}

// Close releases what the watcher holds. Call it after Run has returned.
func (w *Watcher) Close() error { return w.events.Close() }

func watchBudget() int {
	text, err := os.ReadFile("/proc/sys/fs/inotify/max_user_watches")
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return n / 4
}

// Run watches until the context ends, and returns nil then. Beside that it masks the names that PrepareMask left for later. ready, if not nil,
// is called when everything is watched that will be.
func (w *Watcher) Run(ctx context.Context, ready func()) error {
	stop := context.AfterFunc(ctx, func() { w.events.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if w.mirror != nil {
		w.mirror.learnRepos()
	}
	if err := w.watchAll(ctx); err != nil {
		return err
	}
	if ready != nil {
		ready()
	}
	w.mirrorDue(ctx) // what changed before the watching began
	for ctx.Err() == nil {
		if err := w.turn(); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		w.mirrorDue(ctx)
	}
	return nil
}

// mirrorDue mirrors what waits once it is time, and sees to it that the next turn ends by then.
func (w *Watcher) mirrorDue(ctx context.Context) {
	if w.mirror == nil {
		return
	}
	if due := w.mirror.due(); !due.IsZero() && !time.Now().Before(due) {
		w.mirror.flush(ctx)
	}
	w.events.SetReadDeadline(w.mirror.due())
	if ctx.Err() != nil { // it ended before the deadline was set: its own would be lost
		w.events.SetReadDeadline(time.Unix(1, 0))
	}
}

// turn handles the events that are there, or waits for some if nothing is left to mask.
func (w *Watcher) turn() error {
	var buf [16 << 10]byte
	if w.mask.Pending > 0 {
		const links = 1000
		if more, err := w.mask.fillBatch(links); err != nil || !more {
			w.mask.Pending = 0
			return err
		}
		n, err := unix.Read(w.fd, buf[:])
		if err == unix.EAGAIN || err == unix.EINTR {
			return nil
		}
		if err != nil {
			return err
		}
		return w.handle(buf[:n])
	}
	n, err := w.events.Read(buf[:])
	if err != nil {
		return err
	}
	return w.handle(buf[:n])
}

// watchAll adds the directories known from the scan, those nearest to the root first, and looks again at those that changed since.
func (w *Watcher) watchAll(ctx context.Context) error {
	s := w.mask.Survey
	var order []int32
	for i := range s.dirs {
		if d := &s.dirs[i]; !d.has(isHidden) && (!exempt(d.path) || w.mirror != nil && !objectsDir(d.path)) {
			order = append(order, int32(i))
		}
	}
	s.byDepth(order)
	if w.mirror != nil && len(order) > w.budget {
		w.mirror.ignoredLast(s, order)
	}
	var known map[string]bool
	for _, i := range order {
		d := &s.dirs[i]
		if ctx.Err() != nil {
			return nil
		}
		if err := w.add(d.path); err != nil {
			return err
		}
		if st, err := w.l.statName(w.top.fd, d.path); err == nil && stampOf(st) == d.stamp {
			continue
		}
		if known == nil {
			known = s.knownPaths()
			if w.mirror != nil {
				w.mirror.dropCaches() // for what was removed, whose names nobody knows
			}
		}
		if err := w.look(d.path, known); err != nil {
			return err
		}
	}
	return nil
}

// knownPaths are the directories and hidden entries that the mask already deals with.
func (s *Survey) knownPaths() map[string]bool {
	known := make(map[string]bool, len(s.dirs))
	for i := range s.dirs {
		known[s.dirs[i].path] = true
		for _, n := range s.dirs[i].notes {
			if n.masks() {
				known[join(s.dirs[i].path, n.name)] = true
			}
		}
	}
	return known
}

// mirroredEvents are what mirroring needs beside the events for hiding.
const mirroredEvents = unix.IN_CLOSE_WRITE | unix.IN_MODIFY | unix.IN_ATTRIB | unix.IN_DELETE

const watchedEvents = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_ONLYDIR | unix.IN_DONT_FOLLOW | unix.IN_EXCL_UNLINK

// add watches one directory. That something else may be found by the path (a parent was just replaced by a link) does no harm: an event only
// makes the watcher look at the project itself.
func (w *Watcher) add(dir string) error {
	if len(w.dirs) >= w.budget {
		w.Unwatched++
		return nil
	}
	events := uint32(watchedEvents)
	if w.mirror != nil {
		events |= mirroredEvents
	}
	wd, err := unix.InotifyAddWatch(w.fd, join(w.mask.Survey.Root, dir), events)
	switch {
	case err == unix.ENOSPC: // the user's other programs use what the budget left them and more
		w.giveBack()
		w.Unwatched++
	case absent(err) || err == unix.EACCES:
	case err != nil:
		return fmt.Errorf("watch directory %q: %w", dir, err)
	default:
		w.dirs[int32(wd)] = dir
	}
	return nil
}

// giveBack leaves some watches to the user's other programs, once this one has met the limit: those added last matter least.
func (w *Watcher) giveBack() {
	w.budget = len(w.dirs) - len(w.dirs)/4
	newest := make([]int32, 0, len(w.dirs))
	for wd := range w.dirs {
		newest = append(newest, wd)
	}
	slices.Sort(newest)
	for _, wd := range newest[w.budget:] {
		delete(w.dirs, wd)
		w.Unwatched++
		_, _ = unix.InotifyRmWatch(w.fd, uint32(wd))
	}
}

// handle reads inotify events: struct inotify_event, then the name padded with NULs.
func (w *Watcher) handle(buf []byte) error {
	for len(buf) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(buf))
		mask := binary.NativeEndian.Uint32(buf[4:])
		size := int(binary.NativeEndian.Uint32(buf[12:]))
		name := buf[unix.SizeofInotifyEvent:]
		name = name[:min(size, len(name))]
		buf = buf[unix.SizeofInotifyEvent+len(name):]
		if err := w.event(wd, mask, strings.TrimRight(string(name), "\x00")); err != nil {
			return err
		}
	}
	return nil
}

func (w *Watcher) event(wd int32, mask uint32, name string) error {
	if mask&unix.IN_Q_OVERFLOW != 0 {
		return w.lookEverywhere()
	}
	dir, ok := w.dirs[wd]
	isDir := mask&unix.IN_ISDIR != 0
	if ok && name != "" && w.mirror != nil {
		w.mirror.changed(join(dir, name), mask)
	}
	switch {
	case !ok:
	case mask&unix.IN_IGNORED != 0:
		delete(w.dirs, wd)
	case mask&unix.IN_MOVED_FROM != 0 && isDir:
		w.forget(join(dir, name))
	case mask&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0:
		return w.entry(dir, name, isDir, nil)
	}
	return nil
}

// forget stops watching a directory that is now called something else, and all beneath it.
func (w *Watcher) forget(gone string) {
	for wd, dir := range w.dirs {
		if under(dir, gone) {
			delete(w.dirs, wd)
			_, _ = unix.InotifyRmWatch(w.fd, uint32(wd)) // it may be gone already
		}
	}
}

// lookEverywhere makes up for events that the kernel dropped.
func (w *Watcher) lookEverywhere() error {
	if w.mirror != nil {
		w.mirror.missed()
	}
	known := w.mask.Survey.knownPaths()
	all := make([]string, 0, len(w.dirs))
	for _, dir := range w.dirs {
		known[dir] = true
		all = append(all, dir)
	}
	for _, dir := range all {
		if err := w.look(dir, known); err != nil {
			return err
		}
	}
	return nil
}

// look goes through a directory's entries, but for what is known.
func (w *Watcher) look(dir string, known map[string]bool) error {
	r := reading{w: &walk{top: w.top}, dir: dirRecord{path: dir}}
	if err := r.open(); err != nil {
		return nil // it is gone, or nobody can look into it
	}
	defer unix.Close(r.fd)
	type entry struct {
		name string
		dir  bool
	}
	var entries []entry
	err := w.l.each(r.fd, func(e dirent) error {
		if name := strings.Clone(e.name()); !known[join(dir, name)] {
			entries = append(entries, entry{name, e.typ == dtDir})
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := w.entry(dir, e.name, e.dir, known); err != nil {
			return err
		}
	}
	return nil
}

// entry hides a new entry, or goes into a new directory.
func (w *Watcher) entry(dir, name string, isDir bool, known map[string]bool) error {
	rel := join(dir, name)
	hidden, pattern := w.watch.match(dir, name, isDir)
	if !isDir && !exempt(dir) {
		hidden = w.secretFile(rel, hidden)
	}
	if hidden {
		// The mask first: from here on nobody who has not looked the name up can see it.
		if err := w.mask.hideNow(dir, name); err != nil {
			return err
		}
		w.appear(Appeared{Path: rel, Dir: isDir, Pattern: pattern})
		return nil
	}
	if w.mirror != nil {
		w.mirror.touch(rel, touch{saved: known == nil, made: known == nil, dir: isDir}) // what is only found may not have changed at all
	}
	if !isDir || exempt(rel) && w.mirror == nil {
		return nil
	}
	// Mask, then watch, then look: what comes in between is masked, or seen twice.
	if err := w.mask.maskNew(rel); err != nil {
		return err
	}
	if err := w.add(rel); err != nil {
		return err
	}
	return w.look(rel, known)
}

// secretFile adds to what a pattern says: another name of a hidden file is hidden too, and so is a socket of the host.
func (w *Watcher) secretFile(rel string, hidden bool) bool {
	st, err := w.l.statName(w.top.fd, rel)
	switch {
	case err != nil:
		return hidden
	case hidden:
		w.secret[st.Ino] = true
		return true
	}
	return st.Mode&unix.S_IFMT == unix.S_IFSOCK || st.Nlink > 1 && w.secret[st.Ino]
}

// hideNow adds a whiteout for an entry that has just appeared.
func (m *Mask) hideNow(dir, name string) error {
	fd, err := m.dirNow(dir)
	if err != nil || fd < 0 {
		return err
	}
	defer unix.Close(fd)
	if err := m.white.link(fd, name); err != nil {
		return err
	}
	return m.mirrorTime(dir)
}

// mirrorTime gives a directory of the mask the time of the project's, after a change to both.
func (m *Mask) mirrorTime(dir string) error {
	st, err := m.top.stat(dir)
	if err != nil || st.Type != Dir {
		return err
	}
	return setTime(m.base.fd, join("tree", dir), st.mtime)
}

// maskNew masks the absent names in a directory that has just appeared.
func (m *Mask) maskNew(dir string) error {
	w := walk{hide: m.hide}
	names := w.exactIn(dir)
	if len(names) == 0 {
		return nil
	}
	fd, err := m.dirNow(dir)
	if err != nil || fd < 0 {
		return err
	}
	defer unix.Close(fd)
	for _, name := range names {
		// A name that only directories are hidden by may be there as a file.
		st, err := m.top.stat(join(dir, name))
		if err != nil {
			return err
		}
		if hidden, _ := w.match(dir, name, st.Type == Dir); st.Type != Absent && !hidden {
			continue
		}
		if err := m.white.link(fd, name); err != nil {
			return err
		}
	}
	return m.mirrorTime(dir)
}

// dirNow opens the mask's directory for one of the project, and makes it, with its parents, if the project has it. It returns -1 if not.
func (m *Mask) dirNow(dir string) (int, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(m.base.fd, join("tree", dir), flags, 0)
	if err == nil || dir == "" {
		return fd, err
	}
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return -1, nil // masked as a whole
	}
	st, err := m.top.stat(dir)
	if err != nil || st.Type != Dir {
		return -1, err
	}
	above, err := m.dirNow(parentOf(dir))
	if err != nil || above < 0 {
		return -1, err
	}
	unix.Close(above)
	d := dirRecord{path: dir, perm: uint16(st.Mode)}
	md, err := m.openDir(&d, true)
	if err != nil {
		return -1, err
	}
	err = md.finish(m, &d)
	if err == nil {
		err = m.mirrorTime(parentOf(dir))
	}
	if err != nil {
		md.close()
		return -1, err
	}
	return md.fd, nil
}
