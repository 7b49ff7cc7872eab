package workspace

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// What overlayfs keeps in extended attributes when mounted with userxattr (Documentation/filesystems/overlayfs.rst). A sandbox cannot write them:
// what it sets under this prefix is stored one level deeper, as user.overlay.overlay.*, and means nothing (kernels before 6.7 refuse it).
const (
	xattrOverlay  = "user.overlay."
	xattrOpaque   = xattrOverlay + "opaque"   // y: nothing of the lower directory shows; x: empty files with xattrWhiteout are whiteouts
	xattrWhiteout = xattrOverlay + "whiteout" // on an empty regular file
	xattrRedirect = xattrOverlay + "redirect" // the directory was renamed; never with userxattr
	xattrMetacopy = xattrOverlay + "metacopy" // the content is still below; never with userxattr
	xattrEscaped  = xattrOverlay + "overlay." // what the sandbox set
)

// place is one directory of the walk: the layer's and the project's side of it.
type place struct {
	rel          string
	inside, host bool  // which sides have this directory
	opaque       bool  // nothing of the host's directory shows through the layer's
	made         int64 // where the host's entries are gone: since when, by the layer's account
	area         area
}

// pair is one name of a place.
type pair struct {
	name  string
	in    node   // the layer's own entry
	host  node   // the project's
	gone  bool   // the layer says that the host's entry was deleted
	own   bool   // the layer has an entry of its own, if only to say so
	made  int64  // when the sandbox first had its own version or deleted the host's, 0 if unknown
	same  bool   // known, without reading, to be as it was copied (copy layers)
	moved string // why the host's entry is not what the sandbox saw
}

// pairs lists what differs, or may differ, in a directory.
func (l *Layer) pairs(p *place) ([]pair, error) {
	if l.Kind == CopyLayer {
		return l.copyPairs(p)
	}
	return l.overlayPairs(p)
}

func (l *Layer) overlayPairs(p *place) ([]pair, error) {
	var found []pair
	host, err := l.openSide(l.project, p.rel, p.host)
	if err != nil {
		return nil, err
	}
	defer closeFd(host)
	seen := map[string]bool{}
	if p.inside {
		if found, err = l.upperPairs(p, host); err != nil {
			return nil, err
		}
		for _, q := range found {
			seen[q.name] = true
		}
	}
	if !p.host || p.inside && !p.opaque {
		return found, nil
	}
	below, err := goneIn(host, seen)
	for i := range below {
		below[i].made = l.firsts.since(join(p.rel, below[i].name), p.made)
		below[i].moved = l.unseen(below[i].host, below[i].made)
	}
	l.noteFirsts(p, false, below)
	return append(found, below...), err
}

// upperPairs lists the layer's own entries of a directory, and learns from its attributes whether the host's show through.
func (l *Layer) upperPairs(p *place, host int) ([]pair, error) {
	dir, err := l.inside.openDir(p.rel)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	attr, err := readOverlayDir(dir)
	if err != nil {
		return nil, err
	}
	if attr.opaque && !p.opaque {
		self, err := statFd(dir)
		if err != nil {
			return nil, err
		}
		p.opaque, p.made = true, l.firsts.since(p.rel, l.births.of(self))
	}
	names, err := namesIn(dir)
	if err != nil {
		return nil, err
	}
	found := make([]pair, 0, len(names))
	for _, name := range names {
		q, err := l.upperPair(p, dir, host, name, attr.xwhiteouts)
		if err != nil {
			return nil, err
		}
		found = append(found, q)
	}
	found = l.mirrored(p, found)
	l.noteFirsts(p, attr.opaque && p.opaque, found)
	return found, nil
}

func (l *Layer) upperPair(p *place, dir, host int, name string, xwhiteouts bool) (pair, error) {
	q, rel := pair{name: name, own: true}, join(p.rel, name)
	in, err := statAt(dir, name)
	if err != nil {
		return q, err
	}
	if host >= 0 {
		if q.host, err = statAt(host, name); err != nil {
			return q, err
		}
	}
	q.made = l.firsts.since(rel, l.births.of(in))
	if p.opaque && !l.mirrorMade(p.rel) { // nothing of the host's has been seen there since
		q.made = min(q.made, p.made)
	}
	if in.blank || xwhiteouts && isXattrWhiteout(dir, name, in) {
		q.gone = true
	} else {
		q.in = in
	}
	if q.moved = l.deletedByHost(rel, &q); q.host.Type != Absent && !l.fromHere(rel, q.host) {
		q.moved = l.unseen(q.host, q.made)
	}
	return q, nil
}

// goneIn lists the entries of a host directory that the layer has nothing of, as deleted.
func goneIn(host int, except map[string]bool) ([]pair, error) {
	names, err := namesIn(host)
	if err != nil {
		return nil, err
	}
	var found []pair
	for _, name := range names {
		if except[name] {
			continue
		}
		n, err := statAt(host, name)
		if err != nil {
			return nil, err
		}
		found = append(found, pair{name: name, host: n, gone: true})
	}
	return found, nil
}

func (l *Layer) openSide(side *rooted, rel string, there bool) (int, error) {
	if !there {
		return -1, nil
	}
	return side.openDir(rel)
}

func closeFd(fd int) {
	if fd >= 0 {
		unix.Close(fd)
	}
}

type overlayDir struct{ opaque, xwhiteouts bool }

var errRedirected = errors.New("it carries overlayfs metadata that this layer cannot have (redirect or metacopy)")

func readOverlayDir(fd int) (overlayDir, error) {
	var buf [8]byte
	if _, err := unix.Fgetxattr(fd, xattrRedirect, buf[:0]); err == nil {
		return overlayDir{}, errRedirected
	}
	n, err := unix.Fgetxattr(fd, xattrOpaque, buf[:])
	if err != nil || n != 1 {
		return overlayDir{}, nil // none, or none that overlayfs knows
	}
	return overlayDir{opaque: buf[0] == 'y', xwhiteouts: buf[0] == 'x'}, nil
}

func isXattrWhiteout(dir int, name string, n node) bool {
	if n.Type != File || n.Size != 0 {
		return false
	}
	fd, err := (&rooted{fd: dir}).open(name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	_, err = unix.Fgetxattr(fd, xattrWhiteout, nil)
	return err == nil
}

// attributes lists the extended attributes of an open file that stay behind, by the names the sandbox knows them by.
func attributes(fd int) (dropped []string, err error) {
	size, err := unix.Flistxattr(fd, nil)
	if err != nil || size == 0 {
		return nil, nil // none here, or none on this file system
	}
	buf := make([]byte, size)
	if size, err = unix.Flistxattr(fd, buf); err != nil {
		return nil, nil
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(buf[:size]), "\x00"), "\x00") {
		switch {
		case name == xattrRedirect || name == xattrMetacopy:
			return nil, errRedirected
		case strings.HasPrefix(name, xattrEscaped):
			dropped = append(dropped, xattrOverlay+strings.TrimPrefix(name, xattrEscaped))
		case !strings.HasPrefix(name, xattrOverlay) && name != "security.selinux":
			dropped = append(dropped, name)
		}
	}
	return dropped, nil
}
