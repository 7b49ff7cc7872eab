package workspace

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// wanted is what a mask holds under a name.
type wanted struct {
	typ  byte // DT_CHR: a whiteout; DT_REG, DT_LNK: a copy; DT_DIR
	copy *note
	dir  int32 // the directory's index
}

// reconcile makes the mask hold what the survey says, in the directories whose record is new and wherever the mask has been tampered with.
// Nothing is ever torn down to be built again: running sandboxes look through the mask.
func (m *Mask) reconcile(fresh []int32) (changed bool, err error) {
	dirs := m.Survey.dirs
	todo := make([]bool, len(dirs))
	for _, i := range fresh {
		todo[i] = true
	}
	m.distrust(todo)
	if !slices.Contains(todo, true) {
		return false, nil
	}
	need, children := m.needed()
	for i := range dirs {
		if !need[i] || !todo[i] {
			continue
		}
		missing, err := m.reconcileDir(&dirs[i], children[int32(i)])
		if err != nil {
			return false, fmt.Errorf("mask of directory %q: %w", dirs[i].path, err)
		}
		for _, c := range missing {
			todo[c] = true // it comes later: children follow their parents
		}
	}
	return true, m.setTimes(need, todo)
}

// setTimes comes last, because making a directory changes the times of the one that it is in.
func (m *Mask) setTimes(need, done []bool) error {
	dirs := m.Survey.dirs
	stale := slices.Clone(done)
	for i := range dirs {
		if done[i] && dirs[i].parent >= 0 {
			stale[dirs[i].parent] = true
		}
	}
	for i := range dirs {
		if need[i] && stale[i] {
			if err := setTime(m.base.fd, join("tree", dirs[i].path), dirs[i].stamp.mtime); err != nil {
				return err
			}
		}
	}
	return nil
}

// distrust adds the directories in which a hidden entry is not masked, although the index says so: somebody cleaned up.
func (m *Mask) distrust(todo []bool) {
	for i := range m.Survey.dirs {
		d := &m.Survey.dirs[i]
		for k := range d.notes {
			if todo[i] || d.has(isHidden) {
				break
			}
			n := &d.notes[k]
			var st unix.Stat_t
			if n.masks() && (unix.Fstatat(m.base.fd, join("tree", join(d.path, n.name)), &st, unix.AT_SYMLINK_NOFOLLOW) != nil || !isWhiteout(&st)) {
				todo[i] = true
			}
		}
	}
}

func isWhiteout(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 }

// masks reports whether the entry is hidden by a whiteout.
func (n *note) masks() bool {
	switch n.kind {
	case noteHidden, noteLink, noteSocket, noteClosed:
		return true
	}
	return false
}

// needed returns which directories need one in the mask (those with something to mask, copy or own, and all above them), and which of
// them are in which.
func (m *Mask) needed() (need []bool, children map[int32][]int32) {
	dirs := m.Survey.dirs
	need = make([]bool, len(dirs))
	children = make(map[int32][]int32, len(dirs)/4)
	w := walk{hide: m.hide}
	for i := len(dirs) - 1; i >= 0; i-- {
		d := &dirs[i]
		if d.has(isHidden) {
			continue
		}
		need[i] = need[i] || i == 0 || d.has(isForeign) || len(w.exactIn(d.path)) > 0 ||
			slices.ContainsFunc(d.notes, func(n note) bool { return n.masks() || n.kind == noteForeign })
		if need[i] && d.parent >= 0 {
			need[d.parent] = true
			children[d.parent] = append(children[d.parent], int32(i))
		}
	}
	return need, children
}

// reconcileDir brings one directory of the mask up to date, but for absent names, which fill adds. It returns which of the children are missing.
func (m *Mask) reconcileDir(d *dirRecord, children []int32) (missing []int32, err error) {
	md, err := m.openDir(d, true)
	if err != nil {
		return nil, err
	}
	defer md.close()
	want := m.wantedIn(d, children)
	lacking := m.absentNames(d)
	if !md.made {
		if lacking, err = m.clean(md.fd, want, lacking); err != nil {
			return nil, err
		}
	}
	for name, v := range want {
		switch {
		case v.typ == dtDir:
			missing = append(missing, v.dir)
		case v.copy != nil:
			err = m.copyForeign(md.fd, d.path, v.copy)
		default:
			err = m.white.link(md.fd, name)
		}
		if err != nil {
			return nil, err
		}
	}
	d.flags &^= unfilled
	if len(lacking) > 0 {
		d.flags |= unfilled
	}
	return missing, md.finish(m, d)
}

func (m *Mask) wantedIn(d *dirRecord, children []int32) map[string]wanted {
	want := make(map[string]wanted, len(children)+len(d.notes))
	for _, c := range children {
		want[baseName(m.Survey.dirs[c].path)] = wanted{typ: dtDir, dir: c}
	}
	for k := range d.notes {
		switch n := &d.notes[k]; {
		case n.masks():
			want[n.name] = wanted{typ: unix.DT_CHR}
		case n.kind == noteForeign:
			want[n.name] = wanted{typ: n.typ, copy: n}
		}
	}
	return want
}

// absentNames are the names to mask although nothing of that name is there, or what is there is hidden anyway.
func (m *Mask) absentNames(d *dirRecord) []string {
	w := walk{hide: m.hide}
	names := w.exactIn(d.path)
	for _, n := range d.notes {
		if n.kind == noteVisible {
			names = slices.DeleteFunc(slices.Clone(names), func(s string) bool { return s == n.name })
		}
	}
	return names
}

// clean removes what a directory of the mask holds and should not. What is right stays, and is taken off want. It returns which of the absent
// names are not masked yet.
func (m *Mask) clean(fd int, want map[string]wanted, absent []string) (lacking []string, err error) {
	var entries []dirent
	err = new(lister).each(fd, func(e dirent) error {
		entries = append(entries, dirent{bytes.Clone(e.raw), e.ino, e.typ})
		return nil
	})
	if err != nil {
		return nil, err
	}
	there := make(map[string]bool, len(entries))
	for i := range entries {
		name := entries[i].name()
		st, white, err := m.white.look(fd, name, &entries[i])
		if err != nil {
			return nil, err
		}
		v, expected := want[name]
		switch typ := direntType(uint16(st.Mode)); {
		case white && (v.typ == unix.DT_CHR || !expected && slices.Contains(absent, name)):
			there[name] = true
			delete(want, name)
		case expected && typ == dtDir && v.typ == dtDir:
			delete(want, name)
		case expected && v.copy != nil && typ == v.typ && sameCopy(&st, v.copy):
			delete(want, name)
		default:
			if err := removeTree(fd, name, st.Mode); err != nil {
				return nil, err
			}
		}
	}
	for _, name := range absent {
		if _, now := want[name]; !there[name] && !now {
			lacking = append(lacking, name)
		}
	}
	return lacking, nil
}

// removeTree removes an entry of a mask and all beneath it, whatever modes it copied from the project.
func removeTree(dir int, name string, mode uint32) error {
	if mode&unix.S_IFMT != unix.S_IFDIR {
		return unix.Unlinkat(dir, name, 0)
	}
	if err := unix.Fchmodat(dir, name, 0o700, 0); err != nil {
		return err
	}
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	names, err := namesIn(fd)
	if err != nil {
		return err
	}
	for _, n := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(fd, n, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if err := removeTree(fd, n, st.Mode); err != nil {
			return err
		}
	}
	return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
}

// fill masks absent names in directories that still lack them, at most links names but at least one directory's, so that it comes to an end however many
// names a policy has. It returns how many directories it finished.
func (m *Mask) fill(links int) (filled int, err error) {
	var lacking []int32
	for i := range m.Survey.dirs {
		if d := &m.Survey.dirs[i]; d.has(unfilled) {
			lacking = append(lacking, int32(i))
		}
	}
	m.Survey.byDepth(lacking)
	for _, i := range lacking {
		d := &m.Survey.dirs[i]
		names := m.absentNames(d)
		if links -= len(names); links < 0 && filled > 0 {
			break
		}
		if err := m.fillDir(d, names); err != nil {
			return filled, fmt.Errorf("mask of directory %q: %w", d.path, err)
		}
		d.flags &^= unfilled
		filled++
	}
	m.Pending = len(lacking) - filled
	return filled, nil
}

func (m *Mask) fillDir(d *dirRecord, names []string) error {
	md, err := m.openDir(d, false)
	if errors.Is(err, unix.ENOENT) {
		return nil // the watcher of another sandbox, or the user, removed it: the next start sees to it
	}
	if err != nil {
		return err
	}
	defer md.close()
	for _, name := range names {
		if err := m.white.link(md.fd, name); err != nil {
			return err
		}
	}
	if err := md.finish(m, d); err != nil {
		return err
	}
	return setTime(m.base.fd, md.path, d.stamp.mtime)
}

// maskDir is one open directory of the mask.
type maskDir struct {
	fd   int
	made bool
	path string
	perm uint32
}

// openDir opens the mask's directory for d, and makes it if asked to.
func (m *Mask) openDir(d *dirRecord, create bool) (md maskDir, err error) {
	md.path = join("tree", d.path)
	perm := uint32(d.perm)&0o777 | 0o700
	if create {
		err = unix.Mkdirat(m.base.fd, md.path, perm)
		if md.made = err == nil; err != nil && err != unix.EEXIST {
			return md, err
		}
	}
	if md.made && m.umask != nil {
		md.perm = perm &^ *m.umask
	} else {
		var st unix.Stat_t
		if err := unix.Fstatat(m.base.fd, md.path, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return md, err
		}
		md.perm = st.Mode & 0o7777
		if md.made { // asking for the umask would change it for the whole process, so learn it
			m.umask = new(perm &^ md.perm)
		}
	}
	if md.perm&0o700 != 0o700 {
		md.perm = 0o700
		if err := unix.Fchmodat(m.base.fd, md.path, md.perm, 0); err != nil {
			return md, err
		}
	}
	md.fd, err = unix.Openat(m.base.fd, md.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	return md, err
}

func (md *maskDir) close() { unix.Close(md.fd) }

// finish gives the directory the owner and mode that it shows inside: overlayfs takes them, and the times, from the uppermost layer.
func (md *maskDir) finish(m *Mask, d *dirRecord) error {
	if md.made {
		if err := m.own(md.fd); err != nil {
			return err
		}
	}
	if perm := uint32(d.perm) & 0o1777; md.perm != perm {
		if err := unix.Fchmod(md.fd, perm); err != nil {
			return err
		}
	}
	return nil
}

func setTime(dir int, name string, mtime int64) error {
	ts := unix.NsecToTimespec(mtime)
	return unix.UtimesNanoAt(dir, name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

// whiteouts makes whiteouts as further names of one inode, which is several times cheaper than an inode each.
type whiteouts struct {
	base   *rooted
	source string // the inode in use
	n      int    // how many inodes are full: file systems limit the names of one (65000 on ext4)
	known  map[uint64]bool
}

// look describes an entry of the mask, and says whether it is a whiteout. Of the many names of one inode, only the first is looked up.
func (w *whiteouts) look(dir int, name string, e *dirent) (st unix.Stat_t, white bool, err error) {
	if e.typ == unix.DT_CHR && w.known[e.ino] {
		return unix.Stat_t{Mode: unix.S_IFCHR}, true, nil
	}
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil || !isWhiteout(&st) {
		return st, false, err
	}
	if w.known == nil {
		w.known = map[uint64]bool{}
	}
	w.known[e.ino] = true
	return st, true, nil
}

func (w *whiteouts) link(dir int, name string) error {
	for range 1000 {
		if w.source == "" {
			w.source = fmt.Sprintf("whiteout.%d", w.n)
		}
		switch err := unix.Linkat(w.base.fd, w.source, dir, name, 0); err {
		case nil, unix.EEXIST:
			return nil
		case unix.ENOENT:
			if err := makeWhiteout(w.base.fd, w.source); err != nil && err != unix.EEXIST {
				return &os.PathError{Op: "make a whiteout (mknod c 0 0) in", Path: w.base.name, Err: err}
			}
		case unix.EMLINK:
			w.n++
			w.source = ""
		default: // no hard links here
			if err := makeWhiteout(dir, name); err != nil && err != unix.EEXIST {
				return &os.PathError{Op: "make a whiteout (mknod c 0 0) in", Path: w.base.name, Err: err}
			}
			return nil
		}
	}
	return errors.New("bug: a thousand whiteout inodes are full")
}

// makeWhiteout needs no privilege since Linux 5.8: device 0:0 gives access to nothing.
func makeWhiteout(dir int, name string) error { return unix.Mknodat(dir, name, unix.S_IFCHR|0o600, 0) }
