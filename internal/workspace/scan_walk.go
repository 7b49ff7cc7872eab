package workspace

import (
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"casemate.dev/internal/policy"
	"golang.org/x/sys/unix"
)

const dtDir = byte(unix.DT_DIR)

// stamp identifies one state of a directory's list of names: any link, unlink or rename in it changes its mtime and ctime.
type stamp struct {
	ino          uint64
	mtime, ctime int64 // nanoseconds
}

func stampOf(st *unix.Statx_t) stamp { return stamp{st.Ino, nanos(st.Mtime), nanos(st.Ctime)} }

// racyWindow is how close to a scan a change may be and yet leave the times as they were before the change after it: the time stamps of the
// coarsest file systems (2 s), as git guards against with its "racy" entries.
const racyWindow = 2 * time.Second

type dirFlag uint8

const (
	isHidden  dirFlag = 1 << iota // it is hidden, or lies in a hidden directory: read for inode numbers only
	isRacy                        // changed so shortly before it was read that the stamp proves nothing
	folds                         // finds names whatever their case
	isForeign                     // belongs to somebody else
	unfilled                      // its exact names are not all masked yet
)

// dirRecord is one directory of a project.
type dirRecord struct {
	path   string // relative to the project; "" is the project
	parent int32  // index of the directory it is in; -1 for the project. Parents come before their children
	flags  dirFlag
	perm   uint16
	files  int32 // visible entries that are no directories
	stamp  stamp
	notes  []note
}

func (d *dirRecord) has(f dirFlag) bool { return d.flags&f != 0 }

// dropped is the parent of records that are to be removed.
const dropped = -2

type noteKind uint8

const (
	noteHidden         noteKind = iota // by a pattern
	noteLink                           // visible name of a hidden inode
	noteSocket                         //
	noteClosed                         // directory that cannot be read
	noteMount                          // another mount
	noteVisible                        // an exact name that is visible here: never mask it
	noteForeign                        // belongs to somebody else, to be copied
	noteForeignClosed                  // belongs to somebody else and cannot be read
	noteSymlink                        // link in the place of something protected; detail is where it points
	noteGit                            // entry called .git; detail is the content of a file, or where a link points
	noteCommon                         // commondir in a directory called .git; detail is its content
	noteWorktreeConfig                 // config.worktree in a directory called .git
	noteAlternates                     // .git/objects/info/alternates
	noteBare                           // the directory itself is a bare repository
	noteInode                          // file in a hidden directory
	noteThrough                        // link to what may be hidden by the names that it has through the link; detail is where it points
	noteKinds                          // how many kinds there are
)

// note is what is worth remembering of an entry. Most entries have none.
type note struct {
	kind         noteKind
	typ          byte // DT_*
	perm         uint16
	linked       bool // it has more than one name
	pattern      int32
	ino          uint64
	size         int64
	mtime, ctime int64
	name, detail string
}

// secret reports whether a note is about content that must not be visible under any name.
func (n *note) secret() bool { return (n.kind == noteHidden || n.kind == noteInode) && n.typ != dtDir }

// walk reads directories with at most two goroutines: more only wait for the same disk and the same directory locks.
type walk struct {
	top     *rooted
	hide    *policy.Paths
	o       ScanOptions
	now     int64
	root    string
	also    map[string]bool // hidden because a link gives it a hidden name
	deep    []below         // the hide patterns that name paths
	tangled bool            // more lies behind links than is looked at
	asUs    bool            // what this process may read is what the sandbox may; not so when root scans for somebody else

	mu       sync.Mutex
	more     sync.Cond
	dirs     []dirRecord
	queue    []int32
	busy     int
	err      error
	linked   []linkedFile      // visible files with more than one name
	children map[int32][]int32 // of the directories that are read again
	touched  map[int32]bool    // records that are not as they were
}

type linkedFile struct {
	dir  int32
	ino  uint64
	name string
}

func newWalk(top *rooted, hide *policy.Paths, o ScanOptions, now time.Time) *walk {
	if hide == nil {
		hide, _ = policy.CompilePaths(nil)
	}
	w := &walk{top: top, hide: hide, o: o, now: now.UnixNano(), touched: map[int32]bool{}}
	w.asUs = os.Geteuid() != 0 || o.UID == 0
	w.more.L = &w.mu
	w.deep = belowPatterns(w.hide.Patterns())
	return w
}

// run reads everything, or what has changed since old, and returns the indexes of the directories whose record is new, parents first.
func (w *walk) run(old []dirRecord) (fresh []int32, err error) {
	if len(old) == 0 || w.leadOn(old) { // what a link leads to may have changed where nothing says so
		return w.everything()
	}
	before := hiddenInodes(old)
	w.dirs = old
	if err := w.refresh(); err != nil {
		return nil, err
	}
	if w.newlyLinked(before) || w.leadOn(w.dirs) {
		return w.everything()
	}
	w.hideLinks()
	w.showUnlinked()
	return w.finish(), nil
}

func (w *walk) everything() (fresh []int32, err error) {
	if err := w.all(); err != nil {
		return nil, err
	}
	if w.leadOn(w.dirs) {
		if w.also = w.through(); len(w.also) > 0 {
			if err := w.all(); err != nil {
				return nil, err
			}
		}
	}
	w.hideLinks()
	return w.finish(), nil
}

// all reads every directory.
func (w *walk) all() error {
	clear(w.touched)
	w.linked, w.children = nil, nil
	w.dirs = []dirRecord{{parent: -1}}
	w.queue = []int32{0}
	return w.drain()
}

// finish drops what is gone.
func (w *walk) finish() (fresh []int32) {
	to := w.compact()
	for i := range w.touched {
		if to[i] >= 0 {
			fresh = append(fresh, to[i])
		}
	}
	slices.Sort(fresh)
	return fresh
}

// compact removes dropped records and all below them, and returns where the indexes went (-1: nowhere).
func (w *walk) compact() []int32 {
	to := make([]int32, len(w.dirs))
	kept := w.dirs[:0]
	for i, d := range w.dirs {
		switch {
		case d.parent == dropped, d.parent >= 0 && to[d.parent] < 0:
			to[i] = -1
			continue
		case d.parent >= 0:
			d.parent = to[d.parent]
		}
		to[i] = int32(len(kept))
		kept = append(kept, d)
	}
	w.dirs = kept
	return to
}

// drain works the queue off. The second goroutine is worth its start only if there is something to share.
func (w *walk) drain() error {
	var helper sync.WaitGroup
	helping := false
	w.work(new(lister), func() {
		if !helping && len(w.queue) > 16 {
			helping = true
			helper.Go(func() { w.work(new(lister), func() {}) })
		}
	})
	helper.Wait()
	return w.err
}

// work takes directories until none is left and nobody can add any.
func (w *walk) work(l *lister, before func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.err == nil {
		if len(w.queue) == 0 && w.busy == 0 {
			break
		}
		if len(w.queue) == 0 {
			w.more.Wait()
			continue
		}
		before()
		i := w.queue[len(w.queue)-1]
		w.queue = w.queue[:len(w.queue)-1]
		w.busy++
		d := w.dirs[i]
		w.mu.Unlock()
		r := reading{w: w, l: l, dir: dirRecord{path: d.path, parent: d.parent, flags: d.flags & isHidden}, index: i}
		err := r.read()
		w.mu.Lock()
		w.busy--
		w.took(&r, err)
		w.more.Signal()
	}
	w.more.Broadcast()
}

// took files what was read, and queues the directories found.
func (w *walk) took(r *reading, err error) {
	parent := r.dir.parent
	if kind, known := closedKind(err); known && parent >= 0 {
		w.dirs[r.index].parent = dropped
		if kind == noteKinds || kind == noteClosed && r.dir.has(isHidden) {
			return // gone, or hidden anyway
		}
		p := &w.dirs[parent]
		p.notes = append(slices.Clip(p.notes), note{kind: kind, typ: dtDir, pattern: -1, name: baseName(r.dir.path)})
		w.touched[parent] = true
		return
	}
	if err != nil {
		w.err = &os.PathError{Op: "read", Path: r.dir.path, Err: err}
		return
	}
	kept := w.keptChildren(r)
	w.dirs[r.index] = r.dir
	w.touched[r.index] = true
	w.linked = append(w.linked, r.linked...)
	for _, sub := range r.subdirs {
		if !kept[sub.name] {
			w.queue = append(w.queue, int32(len(w.dirs)))
			w.dirs = append(w.dirs, dirRecord{path: join(r.dir.path, sub.name), parent: r.index, flags: sub.flags})
		}
	}
}

// closedKind says what an error on opening a directory means; noteKinds is that it is gone.
func closedKind(err error) (noteKind, bool) {
	switch err {
	case unix.EACCES, unix.EPERM, unix.ENAMETOOLONG:
		return noteClosed, true
	case unix.EXDEV:
		return noteMount, true
	case unix.ENOENT, unix.ENOTDIR, unix.ELOOP:
		return noteKinds, true
	}
	return 0, false
}

func (w *walk) foreign(st *unix.Statx_t) bool { return st.Uid != w.o.UID || st.Gid != w.o.GID }

// may asks for the sandbox's user what the kernel has answered already for this process, if the two differ: copying for a user what only root
// can read would open it to them. bits are those of the mode's last digit.
func (w *walk) may(st *unix.Statx_t, bits uint16) bool {
	if w.asUs {
		return true
	}
	switch {
	case st.Uid == w.o.UID:
		bits <<= 6
	case st.Gid == w.o.GID:
		bits <<= 3
	}
	return st.Mode&bits == bits
}

// match asks the patterns, except where none applies.
func (w *walk) match(dir, name string, isDir bool) (hidden bool, pattern int) {
	if exempt(dir) {
		return false, -1
	}
	hidden, pattern = w.hide.MatchIn(dir, name, isDir)
	if !hidden && len(w.also) > 0 && w.also[join(dir, name)] {
		return true, -1
	}
	return hidden, pattern
}

func (w *walk) exactIn(dir string) []string {
	if exempt(dir) {
		return nil
	}
	return w.hide.ExactIn(dir)
}

// exempt says that no pattern applies in a directory: git keeps refs, their logs and objects under names that are not file names. Hiding
// the ref of a branch called `secrets/x` would break the repository and hide no secret.
func exempt(dir string) bool {
	_, in, found := strings.Cut("/"+dir+"/", "/.git/")
	if !found {
		return false
	}
	for part := range strings.SplitSeq(in, "/") {
		if part == "refs" || part == "logs" || part == "objects" {
			return true
		}
	}
	return false
}

// inGitDir reports whether dir is, or lies in, a directory called .git.
func inGitDir(dir string) bool { return strings.Contains("/"+dir+"/", "/.git/") }

func baseName(rel string) string { return rel[strings.LastIndexByte(rel, '/')+1:] }

// hiddenInodes are the inodes that must not be visible under any name.
func hiddenInodes(dirs []dirRecord) map[uint64]bool {
	set := map[uint64]bool{}
	for i := range dirs {
		for k := range dirs[i].notes {
			if n := &dirs[i].notes[k]; n.secret() {
				set[n.ino] = true
			}
		}
	}
	return set
}

// hideLinks hides the visible names of hidden inodes in the directories that were read.
func (w *walk) hideLinks() {
	if len(w.linked) == 0 {
		return
	}
	hidden := hiddenInodes(w.dirs)
	for _, f := range w.linked {
		if d := &w.dirs[f.dir]; hidden[f.ino] && d.parent != dropped {
			d.notes = append(d.notes, note{kind: noteLink, typ: unix.DT_REG, pattern: -1, ino: f.ino, name: f.name, linked: true})
		}
	}
}
