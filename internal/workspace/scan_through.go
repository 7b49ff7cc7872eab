package workspace

import (
	"path"

	"golang.org/x/sys/unix"
)

// A link gives what it leads to a second name: with `.aws -> raws`, raws/credentials is .aws/credentials, which a pattern hides. Through the
// link it cannot be hidden, as an overlay resolves links, so it is hidden under its own name. The same is done for what a hidden link
// leads to. Not followed are links in hidden directories, and what appears behind a link during a run.

// mayLeadOn says whether the names behind a link may be hidden although their own are not.
func (w *walk) mayLeadOn(dir, name string) bool {
	if exempt(dir) {
		return false
	}
	if hidden, _ := w.hide.MatchIn(dir, name, true); hidden {
		return true // a pattern for directories
	}
	for range leadsInto(join(dir, name), w.deep) {
		return true
	}
	return false
}

// leadOn reports whether there is a link that gives something a hidden name.
func (w *walk) leadOn(dirs []dirRecord) bool {
	for i := range dirs {
		for k := range dirs[i].notes {
			if dirs[i].notes[k].leads() {
				return true
			}
		}
	}
	return false
}

func (n *note) leads() bool {
	return n.kind == noteThrough || n.kind == noteHidden && n.typ == unix.DT_LNK && n.pattern >= 0
}

// Links in circles give everything names without end. So many entries are looked at, behind so many links in a row.
const (
	maxThrough     = 50_000
	maxThroughDeep = 4
)

// through is one look behind links.
type through struct {
	w    *walk
	s    Survey // for its root
	also map[string]bool
	left int
	deep int
	seen map[string]bool
}

// through returns what links give hidden names.
func (w *walk) through() map[string]bool {
	t := through{w: w, s: Survey{Root: w.root}, also: map[string]bool{}, left: maxThrough, seen: map[string]bool{}}
	for i := range w.dirs {
		d := &w.dirs[i]
		for k := range d.notes {
			if n := &d.notes[k]; n.leads() && !d.has(isHidden) {
				t.link(join(d.path, n.name), d.path, n.detail)
			}
		}
	}
	w.tangled = t.left < 0
	return t.also
}

// link looks behind one link, which is called rel and lies in dir.
func (t *through) link(rel, dir, target string) {
	_, end, inside := t.s.trail(dir, target)
	if !inside || t.seen[rel+"\x00"+end] {
		return
	}
	t.seen[rel+"\x00"+end] = true
	if hidden, _ := t.w.match(parentOf(rel), baseName(rel), true); hidden {
		t.hide(end, rel)
		return
	}
	if end == "." {
		end = ""
	}
	if t.deep++; t.deep <= maxThroughDeep {
		t.directory(rel, end)
	}
	t.deep--
}

// hide hides a path unless a pattern excepts it, or the link lies in it: a link to its own parent would hide the project.
func (t *through) hide(end, link string) {
	if end == "." || under(link, end) {
		return
	}
	if hidden, pattern := t.w.hide.Match(end, true); hidden || pattern < 0 {
		t.also[end] = true
	}
}

// directory compares the names in a directory of the project as if they lay in the directory called as.
func (t *through) directory(as, rel string) {
	r := reading{w: t.w, dir: dirRecord{path: rel}}
	if len(as) > maxPath || r.open() != nil {
		return
	}
	defer unix.Close(r.fd)
	names, err := namesIn(r.fd)
	if err != nil {
		return
	}
	for _, name := range names {
		if t.left--; t.left < 0 {
			return
		}
		if hidden, _ := t.w.match(as, name, true); !hidden && !t.w.mayLeadOn(as, name) {
			continue
		}
		st, err := statAt(r.fd, name)
		if err != nil {
			continue
		}
		t.entry(path.Join(as, name), join(rel, name), st)
	}
}

func (t *through) entry(as, rel string, st node) {
	isDir := st.Type == Dir || st.Type == Symlink
	if hidden, _ := t.w.match(parentOf(as), baseName(as), isDir); hidden {
		t.hide(rel, "")
		if st.Type == Symlink {
			t.link(as, parentOf(rel), st.Link)
		}
		return
	}
	if !isDir || !t.w.mayLeadOn(parentOf(as), baseName(as)) {
		return
	}
	if st.Type == Symlink {
		t.link(as, parentOf(rel), st.Link)
	} else if !t.seen[as+"\x00"+rel] {
		t.seen[as+"\x00"+rel] = true
		t.directory(as, rel)
	}
}
