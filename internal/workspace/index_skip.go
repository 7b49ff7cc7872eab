package workspace

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"strings"
)

// Flags of an index entry (gitformat-index(5)).
const (
	indexStages       = 0x3000
	indexSkipWorktree = 0x4000 // of the extended flags, which version 2 does not have
)

var (
	errIndexSum   = errors.New("the checksum of the git index does not hold")
	errIndexSplit = errors.New("the git index is split: git update-index --no-split-index makes it one file again")
)

// skipWorktree returns a git index in which every entry that is one of paths (relative to the working tree), or lies in one, has the skip-worktree bit, and how many did not
// have it before. With it git takes the file for one that is not checked out on purpose: its absence is no deletion (git-update-index(1)).
// What else the index holds stays, but for the two extensions that only say where in the file things are.
//
// The bytes may be hostile: the sandbox writes its own index.
func skipWorktree(index []byte, paths []string) (out []byte, set int, err error) {
	wanted := make(map[string]bool, len(paths))
	for _, p := range paths {
		wanted[p] = true
	}
	for _, hash := range indexHashes(index) {
		e := indexEditor{indexReader: indexReader{hash: hash}, paths: wanted}
		if out, err = e.edit(index); err == nil {
			return out, e.set, nil
		}
	}
	if err == nil {
		err = errIndexSum
	}
	return nil, 0, err
}

// indexHashes returns the sizes of a hash that the index may be made of: the one whose checksum holds, or either if it has none
// (index.skipHash).
func indexHashes(index []byte) (sizes []int) {
	for _, size := range []int{sha1.Size, sha256.Size} {
		if len(index) < indexHeader+size {
			continue
		}
		body, sum := index[:len(index)-size], index[len(index)-size:]
		switch {
		case bytes.Equal(sum, indexSum(body, size)):
			return []int{size}
		case bytes.Equal(sum, make([]byte, size)):
			sizes = append(sizes, size)
		}
	}
	return sizes
}

func indexSum(body []byte, size int) []byte {
	if size == sha1.Size {
		sum := sha1.Sum(body)
		return sum[:]
	}
	sum := sha256.Sum256(body)
	return sum[:]
}

type indexEditor struct {
	indexReader
	paths map[string]bool
	out   []byte
	set   int
}

func (e *indexEditor) edit(index []byte) ([]byte, error) {
	if len(index) < indexHeader+e.hash || string(index[:4]) != "DIRC" {
		return nil, errIndex
	}
	version, count := binary.BigEndian.Uint32(index[4:]), binary.BigEndian.Uint32(index[8:])
	if version < 2 || version > 4 {
		return nil, errIndex
	}
	sum := index[len(index)-e.hash:]
	e.rest, e.packed = index[indexHeader:len(index)-e.hash], version == 4
	e.out = append(make([]byte, 0, len(index)+64), index[:indexHeader]...)
	for range count {
		if err := e.copyEntry(); err != nil {
			return nil, err
		}
	}
	if e.set > 0 && version == 2 {
		binary.BigEndian.PutUint32(e.out[4:], 3)
	}
	if err := e.copyExtensions(); err != nil {
		return nil, err
	}
	if bytes.Equal(sum, make([]byte, e.hash)) {
		return append(e.out, sum...), nil
	}
	return append(e.out, indexSum(e.out, e.hash)...), nil
}

// copyEntry copies one entry, with the bit if it is one of those that need it.
func (e *indexEditor) copyEntry() error {
	was := e.rest
	name, err := e.entry()
	if err != nil {
		return err
	}
	raw := was[:len(was)-len(e.rest)]
	at := indexStat + e.hash // of the flags
	flags := binary.BigEndian.Uint16(raw[at:])
	start := len(e.out)
	switch extended := flags&indexExtended != 0; {
	case flags&indexStages != 0 || !e.wanted(name), extended && binary.BigEndian.Uint16(raw[at+indexFlags:])&indexSkipWorktree != 0:
		e.out = append(e.out, raw...)
		return nil
	case extended:
		e.out = append(e.out, raw...)
		e.out[start+at+indexFlags] |= indexSkipWorktree >> 8
	default:
		e.out = append(e.out, raw[:at]...)
		e.out = binary.BigEndian.AppendUint16(e.out, flags|indexExtended)
		e.out = binary.BigEndian.AppendUint16(e.out, indexSkipWorktree)
		e.appendName(raw[at+indexFlags:], name, start)
	}
	e.set++
	return nil
}

// appendName ends an entry that has grown. From version 4 on nothing is aligned.
func (e *indexEditor) appendName(rest, name []byte, start int) {
	if e.packed {
		e.out = append(e.out, rest...)
		return
	}
	e.out = append(e.out, name...)
	length := len(e.out) - start
	e.out = append(e.out, make([]byte, indexAlignment-length%indexAlignment)...)
}

// wanted reports whether the entry is one of the paths or lies in one.
func (e *indexEditor) wanted(name []byte) bool {
	if e.paths[string(name)] {
		return true
	}
	for i, c := range name {
		if c == '/' && e.paths[string(name[:i])] {
			return true
		}
	}
	return false
}

// copyExtensions leaves out the end of index entry and index entry offset table, which hold places in the old file and only speed up reading.
func (e *indexEditor) copyExtensions() error {
	for len(e.rest) > 0 {
		if len(e.rest) < 8 {
			return errIndex
		}
		name, size := string(e.rest[:4]), int64(binary.BigEndian.Uint32(e.rest[4:]))
		if size > int64(len(e.rest)-8) {
			return errIndex
		}
		body := e.rest[8 : 8+size]
		if name == "link" && (len(body) < e.hash || !bytes.Equal(body[:e.hash], make([]byte, e.hash))) {
			return errIndexSplit
		}
		if name != "EOIE" && name != "IEOT" {
			e.out = append(e.out, e.rest[:8+size]...)
		}
		e.rest = e.rest[8+size:]
	}
	return nil
}

// TrackedIn returns what is hidden and tracked in the working tree of a git directory, relative to that tree.
func (s *Survey) TrackedIn(g GitDir) []string {
	worktree := parentOf(g.Path)
	var paths []string
	for _, h := range s.Hidden {
		if h.Tracked && under(h.Path, worktree) && !s.inNestedRepository(h.Path, worktree) {
			paths = append(paths, strings.TrimPrefix(h.Path[len(worktree):], "/"))
		}
	}
	return paths
}
