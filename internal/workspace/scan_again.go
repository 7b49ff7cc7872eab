package workspace

import (
	"slices"
	"sync"
)

// refresh reads again what changed since w.dirs was recorded.
func (w *walk) refresh() error {
	w.children = map[int32][]int32{}
	w.queue = w.changed()
	if len(w.queue) == 0 {
		return nil
	}
	for _, i := range w.queue {
		w.children[i] = nil
	}
	for i := range w.dirs {
		parent := w.dirs[i].parent
		if siblings, again := w.children[parent]; again {
			w.children[parent] = append(siblings, int32(i))
		}
	}
	return w.drain()
}

// changed returns the directories whose names, or whose noted entries, may not be what was recorded.
func (w *walk) changed() []int32 {
	const worthSharing = 512
	half := len(w.dirs)
	var back []int32
	var helper sync.WaitGroup
	if half > worthSharing {
		half /= 2
		helper.Go(func() { back = w.changedIn(half, len(w.dirs)) })
	}
	front := w.changedIn(0, half)
	helper.Wait()
	return append(front, back...)
}

func (w *walk) changedIn(from, to int) (changed []int32) {
	l := new(lister)
	for i := from; i < to; i++ {
		if d := &w.dirs[i]; d.has(isRacy) || !w.same(l, d) {
			changed = append(changed, int32(i))
		}
	}
	return changed
}

// same looks the directory up by its path. If a parent has been replaced by a link, this may look elsewhere; but nothing elsewhere has the same
// inode number and times, and what differs is opened again without following links.
func (w *walk) same(l *lister, d *dirRecord) bool {
	st, err := l.statName(w.top.fd, d.path)
	if err != nil || stampOf(st) != d.stamp {
		return false
	}
	for i := range d.notes {
		switch n := &d.notes[i]; n.kind {
		case noteClosed, noteMount:
			return false // what became of it shows only in itself
		case noteForeign, noteForeignClosed:
			st, err := l.statName(w.top.fd, join(d.path, n.name))
			if err != nil || st.Ino != n.ino || int64(st.Size) != n.size || nanos(st.Mtime) != n.mtime || nanos(st.Ctime) != n.ctime {
				return false
			}
		}
	}
	return true
}

// keptChildren returns the names of the known directories that are still in a directory that was read again, and drops the others.
func (w *walk) keptChildren(r *reading) map[string]bool {
	children := w.children[r.index]
	if len(children) == 0 {
		return nil
	}
	listed := make(map[string]dirFlag, len(r.subdirs))
	for _, sub := range r.subdirs {
		listed[sub.name] = sub.flags
	}
	kept := make(map[string]bool, len(children))
	for _, i := range children {
		c := &w.dirs[i]
		name := baseName(c.path)
		if flags, ok := listed[name]; ok && c.parent != dropped && flags == c.flags&isHidden {
			kept[name] = true
		} else {
			c.parent = dropped
		}
	}
	return kept
}

// newlyLinked reports whether something became hidden that may have other names in directories that did not change.
func (w *walk) newlyLinked(before map[uint64]bool) bool {
	for i := range w.touched {
		for _, n := range w.dirs[i].notes {
			if n.secret() && n.linked && !before[n.ino] {
				return true
			}
		}
	}
	return false
}

// showUnlinked makes names visible again whose hidden twin is gone.
func (w *walk) showUnlinked() {
	var hidden map[uint64]bool
	for i := range w.dirs {
		d := &w.dirs[i]
		if !slices.ContainsFunc(d.notes, func(n note) bool { return n.kind == noteLink }) {
			continue
		}
		if hidden == nil {
			hidden = hiddenInodes(w.dirs)
		}
		kept := slices.DeleteFunc(slices.Clone(d.notes), func(n note) bool { return n.kind == noteLink && !hidden[n.ino] })
		if len(kept) < len(d.notes) {
			d.notes = kept
			w.touched[int32(i)] = true
		}
	}
}
