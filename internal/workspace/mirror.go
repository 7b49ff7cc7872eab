package workspace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// MirrorOptions says where the host's changes are mirrored to.
type MirrorOptions struct {
	Merged int    // the merged root of the running sandbox
	Upper  int    // the root of its own layer
	Log    string // path of the MirrorLog
	Layer  string // the directory of the layer
	UID    int    // of the sandbox: what is made belongs to it
	GID    int

	// Tell is called, from the goroutine of Watcher.Run, for each conflict and for what is not mirrored.
	Tell func(Mirrored)
}

// Mirrored is something to be said about a path.
type Mirrored struct {
	Path     string
	Conflict bool // the sandbox changed it too: its own version stays inside, the host's on the host
	Why      string
}

// Mirror carries what the host changes in a project into the merged view of a running sandbox, which overlayfs alone does not: a name that was
// looked up inside goes on showing what it was then, and no change below raises an event inside.
//
// What nobody inside has looked up needs nothing, as the next look finds the host's entry. For the rest the host's new content is written through
// the merged mount, which gives correct reads and events, and is noted in a MirrorLog so that it counts neither as a change nor as a conflict.
// The sandbox's own changes always win inside: an entry that it made, changed or deleted is left alone and told as a conflict.
//
// The merged view is hostile: a path is resolved beneath its root, never through a link and never into another mount, and every entry is
// opened without waiting. From the host's side nothing is followed out of the project either.
//
// NOT promised: an order among files, a state between two saves that follow within milliseconds, what lies in directories that are not
// watched, and devices, sockets and fifos. See docs/why/mirror.md.
type Mirror struct {
	o       MirrorOptions
	merged  *rooted
	upper   *rooted
	project *rooted
	root    string // the project's path
	log     *MirrorLog
	hidden  func(rel string, n node) bool
	foreign walk // says what of other owners may be read
	ignored *ignoreRules
	repos   map[string]*mirrorRepo
	survey  *Survey

	dirty       map[string]touch
	first, last time.Time // of the changes that wait
	tries       map[string]int
	told        map[string]hostStamp
	written     int64
	drops       int  // how often everything unused was forgotten for this batch
	forgot      bool // dropCaches made the kernel forget names, also of directories that somebody watches
	tried       bool // tryCache has run
	noCached    bool // the kernel does not say what is cached
	temps       int
	lost        map[string]bool // directories that the host removed or renamed
}

// touch is what is known about a changed path.
type touch struct {
	saved bool // it was written, made or removed, not only touched
	made  bool // it was made or renamed there
	dir   bool // it is, or was, a directory
	force bool // nothing of the host shows through there by itself
}

// How long a change waits for the next, so that a batch arrives as one.
const (
	mirrorQuiet = 8 * time.Millisecond
	mirrorLate  = 120 * time.Millisecond
	mirrorRetry = 50 * time.Millisecond
	mirrorTries = 40
)

// What is mirrored at most.
const (
	maxMirrorFile  = 32 << 20
	maxMirrorTotal = 1 << 30
)

// NewMirror prepares to mirror into one sandbox. Give it to a Watcher of the same project, and Close it after the Watcher's end.
func NewMirror(m *Mask, o MirrorOptions) (*Mirror, error) {
	log, err := OpenMirrorLog(o.Log)
	if err != nil {
		return nil, fmt.Errorf("mirror of project %q: %w", m.Survey.Root, err)
	}
	r := &Mirror{
		o: o, merged: &rooted{o.Merged, "merged"}, upper: &rooted{o.Upper, "upper"}, project: m.top, root: m.Survey.Root, log: log,
		foreign: walk{o: m.o.ScanOptions, asUs: os.Geteuid() == int(m.o.UID)}, survey: m.Survey,
		dirty: map[string]touch{}, tries: map[string]int{}, told: map[string]hostStamp{}, lost: map[string]bool{}, repos: map[string]*mirrorRepo{},
	}
	r.ignored = newIgnoreRules(r.project, r.root)
	return r, nil
}

// Close closes the log.
func (m *Mirror) Close() error { return m.log.Close() }

// touch notes that the host changed a path.
func (m *Mirror) touch(rel string, t touch) {
	if rel == "" || len(rel) > maxPath {
		return
	}
	now := time.Now()
	if len(m.dirty) == 0 {
		m.first = now
	}
	m.last = now
	old := m.dirty[rel]
	m.dirty[rel] = touch{old.saved || t.saved, old.made || t.made, old.dir || t.dir, old.force || t.force}
	if baseName(rel) == ".gitignore" {
		m.ignored = newIgnoreRules(m.project, m.root)
	}
}

// due is when the changes that wait are to be mirrored, or an index is to be looked at again; the zero time if there is nothing to do.
func (m *Mirror) due() time.Time {
	look := m.dueIndex()
	if len(m.dirty) == 0 {
		return look
	}
	if due := m.dueChanges(); look.IsZero() || due.Before(look) {
		return due
	}
	return look
}

func (m *Mirror) dueChanges() time.Time {
	if quiet, late := m.last.Add(mirrorQuiet), m.first.Add(mirrorLate); quiet.Before(late) {
		return quiet
	} else {
		return late
	}
}

// flush mirrors what waits: what is there first, parents before children; then what is gone, children first; then git's own state, its index last.
func (m *Mirror) flush(ctx context.Context) {
	runtime.LockOSThread() // for its file system user
	defer runtime.UnlockOSThread()
	if !m.tried {
		m.tryCache()
	}
	m.lookAtIndexes(time.Now())
	for round := 0; len(m.dirty) > 0 && round < maxRehideDepth; round++ {
		batch := m.dirty
		m.dirty = map[string]touch{}
		m.drops = 0
		var there, gone, state []string
		for rel := range batch {
			n, err := m.project.stat(rel)
			switch {
			case err != nil:
			case gitState(rel):
				state = append(state, rel)
			case n.Type == Absent:
				gone = append(gone, rel)
			default:
				there = append(there, rel)
			}
		}
		slices.Sort(there)
		slices.Sort(gone)
		slices.Reverse(gone)
		slices.SortFunc(state, indexLast)
		again := false
		for _, rel := range slices.Concat(there, gone, state) {
			if ctx.Err() != nil {
				return
			}
			err := m.sync(rel, batch[rel])
			switch {
			case errors.Is(err, errBusy) && m.tries[rel] < mirrorTries:
				m.tries[rel]++
				m.touch(rel, batch[rel])
				again = true
			case errors.Is(err, errBusy):
				delete(m.tries, rel)
				m.conflict(rel, "a program in the sandbox has it open for writing")
			case err != nil:
				m.tell(rel, fmt.Sprintf("not mirrored: %v", err))
			default:
				delete(m.tries, rel)
			}
		}
		if again {
			m.first = time.Now().Add(mirrorRetry - mirrorLate)
			m.last = time.Now().Add(mirrorRetry - mirrorQuiet)
			return
		}
	}
}

// errBusy says to try again in a moment.
var errBusy = errors.New("it is being written")

func (m *Mirror) tell(rel, why string) {
	if m.o.Tell != nil {
		m.o.Tell(Mirrored{Path: rel, Why: why})
	}
}

// conflict tells of a path once for each state of the host's entry.
func (m *Mirror) conflict(rel, why string) {
	n, err := m.project.stat(rel)
	if err != nil {
		return
	}
	stamp := stampOfHost(n)
	if was, told := m.told[rel]; told && was == stamp {
		return
	}
	m.told[rel] = stamp
	if err := m.noteFirst(rel, n.Type == Absent); err != nil {
		m.tell(rel, fmt.Sprintf("the conflict is not noted: %v", err))
	}
	if m.o.Tell != nil {
		m.o.Tell(Mirrored{Path: rel, Conflict: true, Why: why})
	}
}

// noteFirst keeps a conflict in mind even if the sandbox makes its own version anew.
func (m *Mirror) noteFirst(rel string, gone bool) error {
	for own := rel; own != ""; own = parentOf(own) {
		up, err := m.upper.stat(own)
		if err != nil {
			return err
		}
		if up.Type != Absent {
			return noteFirst(m.o.Layer, first{[]byte(rel), up.btime, gone})
		}
	}
	return nil
}

// view is what a program inside finds under a name.
type view int

const (
	unlooked view = iota // nobody has looked since the kernel last forgot it: the next look finds what the host has
	missing              // looked up, and not there
	visible              // looked up, and there
)

// resolveCached makes openat2(2) find only what is in the kernel's cache of names, EAGAIN otherwise (Linux 5.12).
const resolveCached = 0x20

const mirrorResolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// look returns what the merged view shows under a name, without adding to what the kernel has cached: to look it up would make what was fresh stale
// after the host's next change.
func (m *Mirror) look(rel string) (view, node, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: mirrorResolve | resolveCached}
	if m.noCached {
		how.Resolve = mirrorResolve
	}
	var fd int
	var err error
	// As the owner of the directories on the way: asking for anybody else's rights can need more than the cache holds.
	err = m.as(func() error {
		for range 4 { // a rename anywhere on the machine can make it miss
			if fd, err = unix.Openat2(m.merged.fd, rel, &how); err != unix.EAGAIN && err != unix.EINTR {
				break
			}
		}
		return err
	})
	switch {
	case err == unix.EINVAL && !m.noCached:
		m.noCached = true
		return m.look(rel)
	case err == unix.EAGAIN:
		return unlooked, node{}, nil
	case absent(err):
		return missing, node{}, nil
	case err != nil:
		return unlooked, node{}, err
	}
	defer unix.Close(fd)
	n, err := statFd(fd)
	if err == nil && n.Type == Symlink {
		n.Link, err = readLink(fd, "")
	}
	return visible, n, err
}

// tryCache finds out whether the kernel answers from its cache for this view: what is looked up a moment before must be found. Where it is not (some
// network file systems), every name has to be looked up, and all that changes mirrored.
func (m *Mirror) tryCache() {
	const enough = 40
	m.tried = true
	for i := range m.survey.dirs[:min(enough, len(m.survey.dirs))] {
		d := &m.survey.dirs[i]
		fd, err := m.openMerged(d.path)
		if err != nil || d.has(isHidden) {
			continue
		}
		unix.Close(fd)
		if see, _, err := m.look(join(d.path, ".")); err == nil && see == unlooked {
			m.noCached = true
			return
		}
	}
}

// openMerged opens the directory that holds rel in the merged view.
func (m *Mirror) openMerged(dir string) (int, error) {
	if dir == "" {
		dir = "."
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: mirrorResolve}
	for {
		fd, err := unix.Openat2(m.merged.fd, dir, &how)
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

// as does something as the sandbox's user: only root is ever somebody else. The goroutine is locked to its thread.
func (m *Mirror) as(do func() error) error {
	if os.Geteuid() != 0 || m.o.UID == 0 {
		return do()
	}
	unix.RawSyscall(unix.SYS_SETFSGID, uintptr(m.o.GID), 0, 0)
	unix.RawSyscall(unix.SYS_SETFSUID, uintptr(m.o.UID), 0, 0)
	defer func() {
		unix.RawSyscall(unix.SYS_SETFSUID, 0, 0, 0)
		unix.RawSyscall(unix.SYS_SETFSGID, 0, 0, 0)
	}()
	return do()
}

// temp is a name beside rel that tools which watch directories leave alone, as they do editors' backups.
func (m *Mirror) temp() string {
	m.temps++
	return fmt.Sprintf(".casemate-mirror.%d.%d~", os.Getpid(), m.temps)
}

func isMirrorTemp(name string) bool {
	return strings.HasPrefix(name, ".casemate-mirror.") && strings.HasSuffix(name, "~")
}

// cheap says that a path is not worth an event: what git ignores, and what git itself keeps. There only reads are made right.
func (m *Mirror) cheap(rel string) bool {
	if inGitDir(path.Dir(rel)) {
		return !gitState(rel)
	}
	for i := 0; i <= len(rel); i++ {
		if i == len(rel) || rel[i] == '/' {
			if m.ignored.match(rel[:i], i < len(rel)) {
				return true
			}
		}
	}
	return false
}

// changed takes an inotify event of the host's.
func (m *Mirror) changed(rel string, mask uint32) {
	m.noteIndex(rel)
	made := mask&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0
	m.touch(rel, touch{saved: made || mask&(unix.IN_CLOSE_WRITE|unix.IN_MODIFY|unix.IN_DELETE|unix.IN_MOVED_FROM) != 0, made: made, dir: mask&unix.IN_ISDIR != 0})
	if mask&unix.IN_ISDIR != 0 && mask&(unix.IN_DELETE|unix.IN_MOVED_FROM) != 0 {
		m.lost[rel] = true
	}
}

// missed makes up for events that the kernel dropped: what was mirrored is looked at again, and what exists is by the watcher. What was removed meanwhile, and
// had been looked up inside, only root can make the kernel forget.
func (m *Mirror) missed() {
	for rel := range m.log.at {
		m.touch(rel, touch{})
	}
	if !m.dropCaches() {
		m.tell("", "so much changed at once that the kernel dropped events: what the host removed in that moment may still be seen inside")
	}
}

// ignoredLast orders directories so that what git ignores comes after the rest, whose changes matter more to who works on the project.
func (m *Mirror) ignoredLast(s *Survey, dirs []int32) {
	cheap := map[int32]bool{}
	for _, i := range dirs {
		cheap[i] = s.dirs[i].path != "" && m.cheap(s.dirs[i].path)
	}
	slices.SortStableFunc(dirs, func(a, b int32) int {
		switch {
		case cheap[a] == cheap[b]:
			return 0
		case cheap[a]:
			return 1
		}
		return -1
	})
}

// objectsDir reports whether a directory holds git's loose objects, two hundred directories of files that never change: a name that was looked up
// before it was there is found when git looks into its packs and objects again.
func objectsDir(dir string) bool {
	_, in := splitGit(dir)
	return strings.HasPrefix(in, "objects/") && !strings.HasPrefix(in, "objects/pack") && !strings.HasPrefix(in, "objects/info")
}
