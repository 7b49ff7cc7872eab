package workspace

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// reading is one directory while it is read.
type reading struct {
	w       *walk
	l       *lister
	fd      int
	index   int32
	dir     dirRecord
	subdirs []subdir
	linked  []linkedFile
	exact   []string // names to be masked in this directory
	bare    int      // which parts of a bare repository it has
	probed  bool     // whether it tells case apart is known

	exactFirst [256]bool // bytes that a name in exact begins with
}

type subdir struct {
	name  string
	flags dirFlag
}

// beneathHere resolves without leaving the project, through no link and onto no other mount, not even one of the same file system.
const beneathHere = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

func (r *reading) open() (err error) {
	name := r.dir.path
	if name == "" {
		name = "."
	}
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: beneathHere}
	for {
		if r.fd, err = unix.Openat2(r.w.top.fd, name, &how); err != unix.EINTR && err != unix.EAGAIN {
			return err
		}
	}
}

func (r *reading) read() error {
	if err := r.open(); err != nil {
		return err
	}
	defer unix.Close(r.fd)
	st, err := r.l.statName(r.fd, "")
	if err != nil {
		return err
	}
	if !r.w.may(st, 4|1) {
		return unix.EACCES
	}
	r.describe(st)
	if err := r.l.each(r.fd, r.entry); err != nil {
		return err
	}
	if r.bare == bareParts && !inGitDir(r.dir.path) {
		r.note(note{kind: noteBare, pattern: -1})
	}
	return nil
}

// describe takes the stamp before the names are read, so that a change meanwhile shows next time.
func (r *reading) describe(st *unix.Statx_t) {
	d := &r.dir
	d.stamp, d.perm = stampOf(st), st.Mode&0o7777
	if max(d.stamp.mtime, d.stamp.ctime) >= r.w.now-int64(racyWindow) {
		d.flags |= isRacy
	}
	if r.w.foreign(st) {
		d.flags |= isForeign
	}
	if d.has(isHidden) {
		return
	}
	r.exact = r.w.exactIn(d.path)
	for _, name := range r.exact {
		r.exactFirst[name[0]] = true
	}
}

func (r *reading) note(n note) { r.dir.notes = append(r.dir.notes, n) }

// entry decides about one name.
func (r *reading) entry(e dirent) error {
	if e.typ == unix.DT_UNKNOWN {
		st, err := r.l.statEntry(r.fd, e)
		if err != nil {
			return gone(err)
		}
		e.typ = direntType(st.Mode)
	}
	if !r.probed {
		r.probeCase(e)
	}
	if r.dir.has(isHidden) {
		return r.secret(e, noteInode, -1)
	}
	if hidden, pattern := r.w.match(r.dir.path, e.name(), e.typ == dtDir); hidden {
		return r.secret(e, noteHidden, int32(pattern))
	}
	if e.typ == unix.DT_LNK && r.w.mayLeadOn(r.dir.path, e.name()) {
		if err := r.keep(noteThrough, e); err != nil {
			return err
		}
	}
	return r.visible(e)
}

func (r *reading) visible(e dirent) error {
	if r.exactFirst[e.raw[0]] && slices.Contains(r.exact, e.name()) {
		r.note(note{kind: noteVisible, typ: e.typ, pattern: -1, name: strings.Clone(e.name())})
	}
	if err := r.special(e); err != nil {
		return err
	}
	if e.typ == dtDir {
		r.subdirs = append(r.subdirs, subdir{strings.Clone(e.name()), 0})
		return nil
	}
	r.dir.files++
	return r.file(e)
}

// secret remembers the inode of something hidden, so that its other names can be found.
func (r *reading) secret(e dirent, kind noteKind, pattern int32) error {
	n := note{kind: kind, typ: e.typ, pattern: pattern, ino: e.ino, name: strings.Clone(e.name())}
	if e.typ == dtDir {
		r.subdirs = append(r.subdirs, subdir{n.name, isHidden})
	} else {
		st, err := r.l.statEntry(r.fd, e)
		if err != nil {
			return gone(err)
		}
		n.ino, n.linked = st.Ino, st.Nlink > 1
	}
	if e.typ == unix.DT_LNK && kind == noteHidden {
		var err error
		if n.detail, err = readLink(r.fd, n.name); err != nil && !absent(err) {
			return err
		}
	}
	r.note(n)
	return nil
}

// file looks at a visible entry that is no directory.
func (r *reading) file(e dirent) error {
	st, err := r.l.statEntry(r.fd, e)
	if err != nil {
		return gone(err)
	}
	if e.typ == unix.DT_SOCK {
		r.note(note{kind: noteSocket, typ: e.typ, pattern: -1, name: strings.Clone(e.name())})
		return nil
	}
	if st.Nlink > 1 {
		r.linked = append(r.linked, linkedFile{r.index, st.Ino, strings.Clone(e.name())})
	}
	if r.w.foreign(st) && (e.typ == unix.DT_REG || e.typ == unix.DT_LNK) {
		r.foreign(e, st)
	}
	return nil
}

func (r *reading) foreign(e dirent, st *unix.Statx_t) {
	n := note{kind: noteForeign, typ: e.typ, pattern: -1, perm: st.Mode & 0o777, ino: st.Ino, size: int64(st.Size), mtime: nanos(st.Mtime), ctime: nanos(st.Ctime)}
	n.name = strings.Clone(e.name())
	mayRead := r.w.may(st, 4) && unix.Faccessat(r.fd, n.name, unix.R_OK, unix.AT_EACCESS|unix.AT_SYMLINK_NOFOLLOW) == nil
	if e.typ == unix.DT_REG && !mayRead {
		n.kind = noteForeignClosed
	}
	r.note(n)
}

// gone forgives an entry that vanished since it was listed: its directory has a new stamp, so the next scan sees it.
func gone(err error) error {
	if absent(err) {
		return nil
	}
	return err
}

// The three names that make a directory a repository for git (its is_git_directory).
const (
	bareHead = 1 << iota
	bareObjects
	bareRefs
	bareParts = bareHead | bareObjects | bareRefs
)

// special remembers entries that mean something to git or to a host that executes files by name.
func (r *reading) special(e dirent) error {
	switch e.name() {
	case ".git":
		return r.keep(noteGit, e)
	case "commondir":
		if baseName(r.dir.path) == ".git" {
			return r.keep(noteCommon, e)
		}
	case "config.worktree":
		if baseName(r.dir.path) == ".git" {
			r.note(note{kind: noteWorktreeConfig, typ: e.typ, pattern: -1})
		}
	case "alternates":
		if strings.HasSuffix("/"+r.dir.path, "/.git/objects/info") {
			return r.keep(noteAlternates, e)
		}
	case "HEAD":
		r.bare |= bareHead
	case "objects":
		r.bare |= bareObjects
	case "refs":
		r.bare |= bareRefs
	}
	if e.typ != unix.DT_LNK {
		return nil
	}
	rel := join(r.dir.path, e.name())
	_, protected := ProtectedPath(rel, r.w.o.Protect)
	if !protected {
		_, protected = LeadsToProtected(rel, r.w.o.Protect, nil)
	}
	if protected {
		return r.keep(noteSymlink, e)
	}
	return nil
}

// keep notes an entry with what it points to.
func (r *reading) keep(kind noteKind, e dirent) (err error) {
	n := note{kind: kind, typ: e.typ, pattern: -1, name: strings.Clone(e.name())}
	switch e.typ {
	case unix.DT_LNK:
		n.detail, err = readLink(r.fd, n.name)
	case unix.DT_REG:
		n.detail, err = readSmall(r.fd, n.name)
	}
	if err == unix.EACCES || absent(err) {
		return nil
	}
	r.note(n)
	return err
}

// maxPointer is more than any pointer file of git holds: one path.
const maxPointer = 8192

// readSmall reads a file that holds a path. Opening it neither blocks nor follows a link, whatever has come there since.
func readSmall(dir int, name string) (string, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	buf := make([]byte, maxPointer)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// probeCase asks the directory for an entry under another case, once per directory that has a name with a letter in it.
func (r *reading) probeCase(e dirent) {
	other, differs := swapCase(e.name())
	if !differs {
		return
	}
	st, err := r.l.statEntry(r.fd, e)
	if err != nil || e.typ != dtDir && st.Nlink > 1 {
		return // two names of one file prove nothing
	}
	r.probed = true
	ino := st.Ino
	if st, err := r.l.statName(r.fd, other); err == nil && st.Ino == ino {
		r.dir.flags |= folds
	}
}

// swapCase turns the ASCII letters of a name over.
func swapCase(name string) (other string, differs bool) {
	b := []byte(name)
	for i, c := range b {
		if c|0x20 >= 'a' && c|0x20 <= 'z' {
			b[i], differs = c^0x20, true
		}
	}
	return string(b), differs
}
