package workspace

import (
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"casemate.dev/internal/history"
	"casemate.dev/internal/merge"
	"golang.org/x/sys/unix"
)

// LayerKind says how a layer holds what a sandbox changed.
type LayerKind string

const (
	OverlayLayer LayerKind = "overlay" // upper/ and work/ of an overlayfs mounted with userxattr
	CopyLayer    LayerKind = "copy"    // copy/, a whole copy of the project, and manifest, what it was copied from (CopyIn)
)

// LayerOptions says where a layer is and what the policy says about the project's paths.
type LayerOptions struct {
	Dir     string // holds the layer; nobody but the user can write to it, and nothing inside reaches it but the directory mounted from it
	Project string // the root of the project on the host
	Kind    LayerKind
	Git     string     // Project is the git directory of the entry of this path in a working tree: all that changed in it is one change of that path
	Base    merge.Base // of three-way merges; none if empty
	History string     // the project's history (package history); empty: one of the layer's own, which goes with it

	// Born is when the layer was created, before its first mount; Mounted is when each run with it began, before its mount, oldest first.
	// They decide whether the sandbox can have seen what the host has now. Mounted may be empty; then Born stands for it.
	Born    time.Time
	Mounted []time.Time

	Mirrored *MirrorLog // what was mirrored from the host into the layer, which is no change; nil if nothing was

	Placed map[string]string // what Casemate itself laid into the layer, by path, with its digest (PlaceIndex): no change while it is as it was

	Classifier
}

// Classifier answers for paths relative to the project. A nil function answers no, but for those that say otherwise.
type Classifier struct {
	Hidden    func(rel string, dir bool) bool                           // the sandbox could not see it; what lies beneath is not asked about
	Protected func(rel string) (reason string, ok bool)                 // the host executes it without being asked
	Leads     func(rel string) (reason string, ok bool)                 // a directory of this name may hold what is Protected; nil: LeadsToProtected
	Marked    func(rel string, content []byte) (reason string, ok bool) // a build or a test run executes it; content may be cut, or nil
	Ignored   func(rel string, dir bool) bool                           // nil: the .gitignore files of the project on the host
	Tracked   func(rel string, dir bool) bool                           // git tracks it, or something beneath it, so no ignore rule makes it built; nil: by the index that is the Base
}

// Layer is what a sandbox changed, seen from the host. What it holds was written by whatever ran inside and is hostile: it is read by descriptor
// only, no path in it is ever resolved by this process, and nothing in it is executed, followed or trusted.
//
// A Layer is for one goroutine at a time.
type Layer struct {
	LayerOptions
	top     *rooted // Dir
	inside  *rooted // upper/ or copy/
	project *rooted
	log     *history.Log
	applied map[string]applied // to the host while the layer was mounted; nil if nothing was
	base    manifest           // of a copy layer
	births  births             // of a forked layer
	firsts  firsts             // of an overlay's
	fresh   firsts             // what a walk collects for the next ones; nil if it does not
	listed  bool               // born is filled in
	born    indexPaths         // see trackedAtBirth
	buffers [2][]byte
}

// OpenLayer opens a layer and its project, and removes from the project what an Apply that was killed left there. Close it.
func OpenLayer(o LayerOptions) (_ *Layer, err error) {
	l := &Layer{LayerOptions: o}
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	if l.Project, err = filepath.Abs(o.Project); err != nil {
		return nil, err
	}
	if l.top, err = openRooted(o.Dir); err != nil {
		return nil, err
	}
	if l.project, err = openRooted(l.Project); err != nil {
		return nil, err
	}
	switch o.Kind {
	case OverlayLayer:
		l.inside, err = l.top.openHostile("upper")
	case CopyLayer:
		if l.inside, err = l.top.openHostile("copy"); err == nil {
			l.base, err = readManifest(l.top)
		}
	default:
		err = fmt.Errorf("layer %q is of no known kind: %q", o.Dir, o.Kind)
	}
	if err != nil {
		return nil, err
	}
	l.fillClassifier()
	if l.History == "" {
		l.History = filepath.Join(o.Dir, "history")
	}
	if l.log, err = history.Open(l.History, l.Project); err != nil {
		return nil, err
	}
	if err := l.readApplied(); err != nil {
		return nil, err
	}
	if l.births, err = readBirths(l.top); err != nil {
		return nil, err
	}
	if l.firsts, err = readFirsts(l.top); err != nil {
		return nil, err
	}
	return l, l.log.Recover()
}

// Close closes the descriptors. The layer stays as it is.
func (l *Layer) Close() error {
	l.top.close()
	l.inside.close()
	l.project.close()
	if l.log != nil {
		l.log.Close()
	}
	l.log = nil
	l.top, l.inside, l.project = nil, nil, nil
	return nil
}

func (l *Layer) fillClassifier() {
	if l.Hidden == nil {
		l.Hidden = func(string, bool) bool { return false }
	}
	if l.Protected == nil {
		l.Protected = func(string) (string, bool) { return "", false }
	}
	if l.Leads == nil {
		l.Leads = func(rel string) (string, bool) { return LeadsToProtected(rel, nil, nil) }
	}
	if l.Marked == nil {
		l.Marked = func(string, []byte) (string, bool) { return "", false }
	}
	if l.Tracked == nil {
		l.Tracked = func(rel string, _ bool) bool { return l.trackedAtBirth().leadsTo(rel) }
	}
	if l.Ignored == nil {
		l.Ignored = newIgnoreRules(l.project, l.Project).match
	}
}

// unseen says why the sandbox cannot have seen the host's entry as it is now, or "" if it has. made is when the layer's own entry (or
// whiteout) was made, 0 if the file system does not say.
//
// An entry untouched since the mount was seen. So was one changed after it, if that was a plain write to the same inode before the layer made
// its own: lower files are read live until then. Anything else (another inode saved over it by rename, which overlayfs may never show to
// a sandbox that had looked the name up before; see research/facts.md) may not have been, and counts as a conflict.
//
// A file's times go on with the clock's tick (4 ms on most kernels), so of two changes in one nothing tells which came first: a conflict too many,
// never one too few. So are all whiteouts of one mount, which may be one inode: what a later deletion saw counts as what the first one saw.
// What the host deleted is deletedByHost's.
//
// Limits. The clock is the host's: if it was set back, an edit can go unnoticed. So can one within the same tick as the mount, and on a file system
// with coarser times than the layer's (up to 2 s), one so soon after the sandbox's own.
// The times of a directory change with its entries, so of a directory only its making is seen.
func (l *Layer) unseen(host node, made int64) string {
	start := l.mountBefore(made)
	switch {
	case host.Type == Dir && host.btime <= start:
		return ""
	case host.ctime <= start:
		return ""
	case made == 0 || host.ctime >= made:
		return "the host changed it after the sandbox did"
	case host.btime == 0 || host.btime > start || host.ctime != host.mtime:
		return "the host replaced it while the sandbox ran"
	}
	return ""
}

// clockTick is how far the times in a file system lag behind the clock at most: 1 to 10 ms. What was written before a run and less than this before its
// mount counts as the run's, with what the host wrote in between; no longer one, as to end a run and begin another takes about as long.
var clockTick = sync.OnceValue(func() int64 {
	var tick unix.Timespec
	if unix.ClockGetres(unix.CLOCK_REALTIME_COARSE, &tick) != nil {
		return int64(10 * time.Millisecond) // HZ=100
	}
	return tick.Nano()
})

// mountBefore returns when the run began that could make an entry at the time made.
func (l *Layer) mountBefore(made int64) int64 {
	start := l.Born.UnixNano()
	if l.Born.IsZero() {
		start = made
	}
	for _, t := range l.Mounted {
		if ns := t.UnixNano(); ns-clockTick() <= made && ns > start {
			start = ns
		}
	}
	return start
}
