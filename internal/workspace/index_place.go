package workspace

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// IndexPlace says where a layer holds a git index, and what is hidden from that working tree.
type IndexPlace struct {
	Host   string   // what the layer lies over: the project, or a git directory outside of it
	Layer  string   // the layer's own directory: upper/ or copy/
	Copied bool     // it is a copy, through which the host's does not show
	Path   string   // of the index, relative to both
	Hidden []string // hidden and tracked, relative to the working tree
	Placed string   // the digest that an earlier call returned
	UID    int      // of the sandbox, whose the layer is
	GID    int
}

// PlacedIndex is an index of ours in a layer.
type PlacedIndex struct {
	Digest  string // of the file; empty if there is none
	meaning string // what it says, and what the host's said that it was made from (indexMeaning)
}

// PlaceIndex sees to it that git inside takes no hidden file for a deleted one: the index that the sandbox sees, the host's or its own, gets the
// skip-worktree bit for each. So neither `git commit -a` nor `git add -A` nor `git stash` records a deletion.
//
// An index of ours is no change of the sandbox's, and what it was made from may change on the host until the next start: then it is made anew.
// It returns the digest by which it is known. The layer must not be mounted. It is hostile, and the host's index may be:
// both are read within bounds and by descriptor.
func PlaceIndex(p IndexPlace) (placed PlacedIndex, err error) {
	layer, host, err := p.open()
	if err != nil {
		return placed, err
	}
	defer layer.close()
	defer host.close()
	own, n, err := readBeneath(layer, p.Path)
	if err != nil {
		return placed, err
	}
	from := n
	switch ours := digestOf(own) == p.Placed; {
	case n.Type != Absent && n.Type != File:
		return placed, nil // deleted inside, or no index at all
	case n.Type == File && (!ours || p.Copied):
		return p.editOwn(layer, own, n)
	default:
		if own, from, err = readBeneath(host, p.Path); err != nil {
			return placed, err
		}
		if from.Type != File {
			return placed, removeFile(layer, p.Path, n)
		}
	}
	index, set, err := skipWorktree(own, p.Hidden)
	if err != nil {
		return placed, err
	}
	if set == 0 {
		return placed, removeFile(layer, p.Path, n)
	}
	if err := p.makeParents(layer, host); err != nil || !p.reaches(layer) {
		return placed, err
	}
	return placedIndex(index), p.write(layer, index, from)
}

func placedIndex(index []byte) PlacedIndex { return PlacedIndex{digestOf(index), indexMeaning(index)} }

func (p IndexPlace) open() (layer, host *rooted, err error) {
	top, err := openRooted(path.Dir(p.Layer))
	if err != nil {
		return nil, nil, err
	}
	defer top.close()
	if layer, err = top.openHostile(path.Base(p.Layer)); err != nil {
		return nil, nil, err
	}
	if host, err = openRooted(p.Host); err != nil {
		layer.close()
		return nil, nil, err
	}
	return layer, host, nil
}

// editOwn sets the bits in an index that the sandbox wrote: it stays the sandbox's. That of a new copy is as good as the host's.
func (p IndexPlace) editOwn(layer *rooted, own []byte, n node) (placed PlacedIndex, err error) {
	index, set, err := skipWorktree(own, p.Hidden)
	if err != nil || set == 0 {
		return placed, err
	}
	if p.Copied {
		placed = placedIndex(index)
	}
	return placed, p.write(layer, index, n)
}

// makeParents makes the directories above the index in an overlay's upper directory, as the host has them.
func (p IndexPlace) makeParents(layer, host *rooted) error {
	for i, c := range p.Path {
		if c != '/' {
			continue
		}
		rel := p.Path[:i]
		like, err := host.stat(rel)
		if err != nil {
			return err
		}
		parent, err := layer.openDir(parentOf(rel))
		if absent(err) {
			return nil
		}
		if err != nil {
			return err
		}
		err = p.makeDir(parent, path.Base(rel), like)
		unix.Close(parent)
		if err != nil {
			return err
		}
	}
	return nil
}

func (p IndexPlace) makeDir(parent int, name string, like node) error {
	err := unix.Mkdirat(parent, name, 0o700)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	if err != nil {
		return err
	}
	fd, err := (&rooted{fd: parent}).openDir(name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return errors.Join(p.give(fd), unix.Fchmod(fd, like.perm()|0o700))
}

func (p IndexPlace) give(fd int) error {
	if unix.Geteuid() != 0 {
		return nil
	}
	return unix.Fchown(fd, p.UID, p.GID)
}

// reaches reports whether the host's directory shows through the layer: nobody inside has removed or replaced one above the index.
func (p IndexPlace) reaches(layer *rooted) bool {
	for dir := parentOf(p.Path); dir != ""; dir = parentOf(dir) {
		fd, err := layer.openDir(dir)
		if err != nil {
			return false
		}
		attr, err := readOverlayDir(fd)
		unix.Close(fd)
		if err != nil || attr.opaque {
			return false
		}
	}
	return true
}

// write replaces the index by rename. It keeps the time of what it was made from: git reads again what is younger than its index.
func (p IndexPlace) write(layer *rooted, index []byte, from node) error {
	dir, err := layer.openDir(parentOf(p.Path))
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	const temporary = "index.casemate"
	if err := unix.Unlinkat(dir, temporary, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	fd, err := unix.Openat(dir, temporary, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	err = writeAll(fd, index)
	if err == nil {
		err = errors.Join(p.give(fd), unix.Fchmod(fd, from.perm()|0o600))
	}
	unix.Close(fd)
	if err == nil {
		err = setTime(dir, temporary, from.mtime)
	}
	if err == nil {
		err = unix.Renameat(dir, temporary, dir, path.Base(p.Path))
	}
	if err != nil {
		unix.Unlinkat(dir, temporary, 0)
		return fmt.Errorf("git index %q in the layer: %w", p.Path, err)
	}
	return nil
}

func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// removeFile takes an index of ours that is no longer needed out of the layer.
func removeFile(layer *rooted, rel string, n node) error {
	if n.Type != File {
		return nil
	}
	dir, err := layer.openParent(rel)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	return unix.Unlinkat(dir, path.Base(rel), 0)
}

// readBeneath reads a file within the bounds of an index. What is not there, or is no file, has no content.
func readBeneath(r *rooted, rel string) ([]byte, node, error) {
	n, err := r.stat(rel)
	if n.blank {
		n.Type = Device
	}
	if err != nil || n.Type != File {
		return nil, n, err
	}
	if n.Size > maxIndex {
		return nil, n, fmt.Errorf("%q is larger than %d bytes", rel, maxIndex)
	}
	f, err := r.openFile(rel, n)
	if err != nil {
		return nil, n, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxIndex))
	return b, n, err
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// ours reports whether a file of the layer is as Casemate placed it there.
func (l *Layer) ours(rel string, in node) bool {
	digest := l.Placed[rel]
	if digest == "" || in.Type != File || !strings.HasSuffix(rel, "index") {
		return false
	}
	own, _, err := readBeneath(l.inside, rel)
	return err == nil && digestOf(own) == digest
}

// refreshed reports whether a git index says what the host's says, and differs only in what git notes as it looks at the files (git status).
func (l *Layer) refreshed(rel string) bool {
	if path.Base(rel) != "index" {
		return false
	}
	own, _, err := readBeneath(l.inside, rel)
	if err != nil {
		return false
	}
	meaning := indexMeaning(own)
	if meaning == "" {
		return false
	}
	host, _, err := readBeneath(l.project, rel)
	return err == nil && meaning == indexMeaning(host)
}
