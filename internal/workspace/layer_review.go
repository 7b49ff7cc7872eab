package workspace

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
)

// ChangeOptions says what to look at.
type ChangeOptions struct {
	Paths   []string // these and what lies beneath them; everything if empty
	Built   bool     // list what lies in built directories file by file
	MaxFile int64    // larger files are refused unread; 0 is 4 GiB
	Note    bool     // note which paths the sandbox has its own version of, at the end of a run: in the next one it may make them anew
}

const (
	defaultMaxFile   = 4 << 30
	maxProtectedFile = 16 << 20 // nobody reviews more than that, and consent needs its digest
	maxChanges       = 1 << 20
	maxPath          = 4096 - 256 // of a path beneath the project: room for PATH_MAX and for a temporary name
)

// Changes compares the layer with the project as it is now, sorted by path. Copied up but equal is no change, nor is another mtime, nor are
// directories that only lead to a change. It reads; it may run beside the sandbox, and then what it says may be half of a write.
func (l *Layer) Changes(ctx context.Context, o ChangeOptions) ([]Change, error) {
	if o.Note && l.Kind == OverlayLayer {
		l.fresh = firsts{}
		defer func() { l.fresh = nil }()
	}
	r, err := l.review(ctx, o)
	if err == nil && l.fresh != nil {
		l.firsts = l.fresh
		err = l.firsts.write(l.top)
	}
	if err != nil {
		return nil, err
	}
	return r.changes, nil
}

// review is one walk over a layer.
type review struct {
	l       *Layer
	o       ChangeOptions
	paths   pathSet
	todo    []place
	changes []Change
	sums    map[string]*Change // directories that are one entry

	kept      map[string]bool // host directories that hold something hidden, and so are not gone
	contested map[string]bool // host directories that hold a conflict
	same      []agreed        // what the layer holds without changing anything
}

func (l *Layer) review(ctx context.Context, o ChangeOptions) (*review, error) {
	if err := checkPaths(o.Paths); err != nil {
		return nil, err
	}
	if o.MaxFile == 0 {
		o.MaxFile = defaultMaxFile
	}
	r := &review{l: l, o: o, paths: newPathSet(o.Paths), sums: map[string]*Change{}, kept: map[string]bool{}, contested: map[string]bool{}}
	r.todo = []place{{inside: true, host: true, area: area{git: l.Git, kind: Modified}}}
	for len(r.todo) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		p := r.todo[len(r.todo)-1]
		r.todo = r.todo[:len(r.todo)-1]
		if err := r.directory(&p); err != nil {
			return nil, err
		}
		if len(r.changes) > maxChanges {
			return nil, fmt.Errorf("the layer holds more than %d changes: name a part of the project, or discard it", maxChanges)
		}
	}
	r.finish()
	return r, l.mergeConflicts(ctx, r.changes)
}

func (r *review) directory(p *place) error {
	pairs, err := r.l.pairs(p)
	if err != nil && p.rel == "" {
		return fmt.Errorf("read the layer: %w", err)
	}
	if err != nil {
		r.add(Change{Path: p.rel, Kind: Modified, New: State{Type: Dir}, Refused: fmt.Sprintf("the directory cannot be read: %v", err)})
		return nil
	}
	if p.area.reason == "" {
		p.area.reason = r.l.bareRepository(p, pairs)
	}
	twins := r.l.twins(p, pairs)
	for _, q := range pairs {
		r.entry(p, q, twins[q.name])
	}
	return nil
}

// entry decides what one name of a directory is: nothing, a change, or a directory to walk.
func (r *review) entry(p *place, q pair, twin string) {
	rel := join(p.rel, q.name)
	if !r.paths.leadsTo(rel) {
		return
	}
	dir := q.in.Type == Dir || q.host.Type == Dir
	if r.l.Hidden(rel, dir) {
		r.hidden(rel, q)
		return
	}
	a := r.l.areaOf(p.area, rel, q)
	if len(rel) > maxPath {
		r.refuseLong(rel, q, a)
		return
	}
	r.descend(p, q, rel, a)
	if r.l.ours(rel, q.in) {
		return
	}
	switch kind, changed := r.kindOf(rel, q, a); {
	case changed:
		r.add(r.l.describe(r.o, rel, kind, q, a, twin))
	case !q.same && r.paths.has(rel):
		r.same = append(r.same, agreed{rel, q.host, q.in})
	}
}

// kindOf compares the two sides of a name.
func (r *review) kindOf(rel string, q pair, a area) (kind ChangeKind, changed bool) {
	in, host := q.in, q.host
	switch {
	case q.same:
		return "", false
	case in.Type == Absent && host.Type == Absent:
		return "", false // deleted on both sides
	case in.Type == Absent:
		return Deleted, q.gone
	case host.Type == Absent:
		return Added, true
	case in.Type != host.Type:
		return TypeChanged, true
	case in.Type == Symlink:
		return Modified, in.Link != host.Link
	case in.Type == File && r.l.differ(rel, in, host, r.o.MaxFile) && !(a.git != "" && r.l.refreshed(rel)):
		return Modified, true
	}
	return ModeChanged, in.perm() != host.perm()
}

// descend leaves the directories on either side for later.
func (r *review) descend(p *place, q pair, rel string, a area) {
	next := place{rel: rel, inside: q.in.Type == Dir, host: q.host.Type == Dir, area: a}
	switch {
	case next.inside && next.host:
		next.opaque, next.made = p.opaque, p.made
	case next.host:
		next.made = q.made
	}
	if next.inside || next.host && (q.gone || q.in.Type != Absent) {
		r.todo = append(r.todo, next)
	}
}

// hidden handles a name that the sandbox could not see. What the host has there is neither read nor deleted, and stays where it is, so no
// directory above it goes either.
func (r *review) hidden(rel string, q pair) {
	if q.host.Type != Absent {
		markAbove(r.kept, rel)
	}
	if q.in.Type == Absent {
		return
	}
	kind := Added
	if q.host.Type != Absent {
		kind = Modified
	}
	r.add(Change{Path: rel, Kind: kind, Old: q.host.State, New: q.in.State, in: q.in, host: q.host,
		Refused: "the host's own is hidden from the sandbox, so what was made there stays inside"})
}

func (r *review) refuseLong(rel string, q pair, a area) {
	if q.in.Type == Absent {
		return
	}
	c := r.l.describe(r.o, rel, Added, pair{name: q.name, in: node{State: State{Type: q.in.Type}}}, a, "")
	c.Refused = "its path is too long for other programs"
	r.add(c)
}

func markAbove(set map[string]bool, rel string) {
	for dir := parentOf(rel); dir != ""; dir = parentOf(dir) {
		set[dir] = true
	}
}

// add records a change, or adds it to the directory that stands for it.
func (r *review) add(c Change) {
	if c.Conflict != "" {
		markAbove(r.contested, c.Path)
	}
	if !r.paths.has(c.Path) {
		return
	}
	c.classify()
	if c.sum == nil {
		r.changes = append(r.changes, c)
		return
	}
	if c.directory() && c.Path != c.sum.Path {
		return
	}
	s := r.sums[c.sum.Path]
	if s == nil {
		s = c.sum
		r.sums[c.sum.Path] = s
	}
	if !c.directory() {
		s.Count++
		s.Bytes += c.New.Size
	}
}

// finish settles what only the whole walk can tell.
func (r *review) finish() {
	for _, s := range r.sums {
		s.classify()
		r.changes = append(r.changes, *s)
	}
	r.changes = slices.DeleteFunc(r.changes, func(c Change) bool {
		return c.Kind == Deleted && c.Old.Type == Dir && r.kept[c.Path]
	})
	for i := range r.changes {
		c := &r.changes[i]
		goes := c.Old.Type == Dir && (c.Kind == Deleted || c.Kind == TypeChanged)
		if goes && r.kept[c.Path] {
			c.Refused = "the host's directory holds files hidden from the sandbox, so it stays"
		}
		if goes && r.contested[c.Path] && c.Conflict == "" {
			c.Conflict = "it holds what the host changed"
		}
		c.classify()
	}
	r.protectLinked()
	r.impliedDirectories()
	slices.SortFunc(r.changes, func(a, b Change) int { return cmp.Compare(a.Path, b.Path) })
}

// impliedDirectories asks for no consent to directories as such. A protected one is made with the first thing in it that may cross, and goes
// when nothing is left in it; an empty .vscode would be a stub.
func (r *review) impliedDirectories() {
	led := map[string]bool{}
	for i := range r.changes {
		markAbove(led, r.changes[i].Path)
	}
	implied := func(c *Change) bool { return c.Protected != "" && c.directory() && !c.summarised() && led[c.Path] }
	r.changes = slices.DeleteFunc(r.changes, func(c Change) bool { return c.Kind == Added && c.Refused == "" && implied(&c) })
	for i := range r.changes {
		if c := &r.changes[i]; c.Kind == Deleted && implied(c) {
			c.Protected, c.Digest = "", ""
			c.classify()
		}
	}
}

// protectLinked protects what a protected name would come to mean: `.vscode -> notes` makes notes/tasks.json one, and a link in the place of
// a directory that holds something protected does the same. Links lead to links, so it goes on until nothing more is found.
func (r *review) protectLinked() {
	var links []*Change
	for i := range r.changes {
		if c := &r.changes[i]; c.New.Type == Symlink {
			r.protectLink(c)
			links = append(links, c)
		}
	}
	targets := map[string]string{}
	for {
		left := slices.DeleteFunc(slices.Clone(links), func(c *Change) bool {
			if c.Protected != "" {
				r.followLink(c, targets)
			}
			return c.Protected != ""
		})
		if len(left) == len(links) {
			return
		}
		links = left
		r.protectTargets(targets)
	}
}

// protectLink protects a link that stands for a directory that may hold something protected.
func (r *review) protectLink(c *Change) {
	why, leads := r.l.Leads(c.Path)
	if c.Protected != "" || !leads {
		return
	}
	c.Protected = "a link in the place of a directory: " + why
	r.l.bind(c)
	c.classify()
}

// followLink adds to targets where a protected link leads, and the links on the way, as the sandbox sees it and by the names alone.
func (r *review) followLink(c *Change, targets map[string]string) {
	why := fmt.Sprintf("%s, through the link %s", c.Protected, Quote(c.Path))
	add := func(rel string) {
		if _, known := targets[rel]; !known {
			targets[rel] = why
		}
	}
	nothing := func(string) (node, error) { return node{}, nil }
	for _, stat := range []func(string) (node, error){nothing, r.l.seen} {
		if to, inside := follow(c.Path, c.New.Link, r.l.Project, stat, add); inside {
			add(to)
		}
	}
}

func (r *review) protectTargets(targets map[string]string) {
	for i := range r.changes {
		c := &r.changes[i]
		for dir := c.Path; c.Protected == ""; dir = parentOf(dir) {
			if c.Protected = targets[dir]; c.Protected != "" {
				r.l.bind(c)
				c.classify()
			}
			if dir == "" {
				break
			}
		}
	}
}

// pathSet is a set of paths and what lies beneath them. The empty set holds everything.
type pathSet struct{ in, above map[string]bool }

// checkPaths refuses what does not name something in the project.
func checkPaths(paths []string) error {
	for _, p := range paths {
		if c := path.Clean(p); path.IsAbs(c) || c == ".." || strings.HasPrefix(c, "../") {
			return fmt.Errorf("path %s is not in the project: name it relative to the project's root", Quote(p))
		}
	}
	return nil
}

func newPathSet(paths []string) pathSet {
	s := pathSet{in: map[string]bool{}, above: map[string]bool{}}
	for _, p := range paths {
		p = strings.Trim(path.Clean("/"+p), "/")
		s.in[p] = true
		markAbove(s.above, p)
	}
	return s
}

func (s pathSet) has(rel string) bool {
	if len(s.in) == 0 || s.in[""] {
		return true
	}
	for ; rel != ""; rel = parentOf(rel) {
		if s.in[rel] {
			return true
		}
	}
	return false
}

// names reports whether this very path was given.
func (s pathSet) names(rel string) bool { return s.in[rel] }

// leadsTo reports whether rel is in the set or leads to what is.
func (s pathSet) leadsTo(rel string) bool { return s.above[rel] || s.has(rel) }
