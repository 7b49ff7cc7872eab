package workspace

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// trackedCache remembers which hidden paths git tracks, for as long as neither the paths nor the git indexes change.
type trackedCache struct {
	key   string
	paths []string
}

// findTracked marks the hidden entries that git tracks. It reads git's index instead of running git, which would execute what the repository's
// config says.
func (s *Survey) findTracked(cache trackedCache) trackedCache {
	if len(s.Hidden) == 0 {
		return trackedCache{}
	}
	key := s.trackedKey()
	if key != cache.key {
		cache = trackedCache{key: key}
		for _, g := range s.GitDirs {
			found, err := s.trackedIn(g)
			if err != nil {
				s.find("tracked", g.Path, Reported, "whether git tracks what is hidden cannot be said: %v", err)
				cache.key = "" // say so again next time
			}
			cache.paths = append(cache.paths, found...)
		}
		slices.Sort(cache.paths)
	}
	for i := range s.Hidden {
		h := &s.Hidden[i]
		if _, h.Tracked = slices.BinarySearch(cache.paths, h.Path); h.Tracked {
			s.find("tracked", h.Path, Reported, "git tracks it, so its content is in the object database, where hiding it does not reach: "+
				"remove it from git's history, and replace what it holds")
		}
	}
	return cache
}

// trackedKey changes with the hidden paths and with every write of a git index, which git replaces by rename.
func (s *Survey) trackedKey() string {
	var b strings.Builder
	for _, h := range s.Hidden {
		fmt.Fprintf(&b, "%s\x00", h.Path)
	}
	for _, g := range s.GitDirs {
		var st unix.Statx_t
		err := unix.Statx(unix.AT_FDCWD, filepath.Join(g.Dir, "index"), 0, scanStatMask, &st)
		fmt.Fprintf(&b, "%s\x00%v %v %d %v\x00", g.Path, err == nil, stampOf(&st), st.Size, g.Verified)
	}
	return b.String()
}

// trackedIn returns the hidden paths of one working tree that its index holds.
func (s *Survey) trackedIn(g GitDir) ([]string, error) {
	worktree := parentOf(g.Path)
	var wanted []string // relative to the working tree, sorted
	for _, h := range s.Hidden {
		if under(h.Path, worktree) && !s.inNestedRepository(h.Path, worktree) {
			wanted = append(wanted, strings.TrimPrefix(h.Path[len(worktree):], "/"))
		}
	}
	if len(wanted) == 0 || !g.Inside && !g.Verified {
		return nil, nil
	}
	found, err := trackedPaths(g.Dir, wanted)
	for i, name := range found {
		found[i] = join(worktree, name)
	}
	return found, err
}

func (s *Survey) inNestedRepository(path, worktree string) bool {
	for _, g := range s.GitDirs {
		if other := parentOf(g.Path); len(other) > len(worktree) && under(other, worktree) && under(path, other) {
			return true
		}
	}
	return false
}

// maxIndex bounds the memory that a git index may take: about five million files.
const maxIndex = 512 << 20

// trackedPaths returns which of the sorted paths an index file lists, itself or something beneath.
func trackedPaths(gitDir string, wanted []string) ([]string, error) {
	index, _, err := readWhole(filepath.Join(gitDir, "index"), maxIndex)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	found, base, err := matchIndex(index, wanted)
	if err != nil || base == "" {
		return found, err
	}
	// A split index lists only what changed since the shared one. What the shared one has and this one deleted counts as tracked: its content is
	// still in the object database.
	shared, _, err := readWhole(filepath.Join(gitDir, "sharedindex."+base), maxIndex)
	if err != nil {
		return found, err
	}
	more, _, err := matchIndex(shared, wanted)
	found = append(found, more...)
	slices.Sort(found)
	return slices.Compact(found), err
}

// matchIndex reads git's index format (gitformat-index(5)), versions 2 to 4. base is the hash of the shared index, if this one is split.
// Hashes are 20 bytes, or 32 in a SHA-256 repository; the index does not say, so the size that reads without contradiction is taken.
func matchIndex(index []byte, wanted []string) (found []string, base string, err error) {
	for _, hash := range []int{20, 32} {
		if found, base, err = matchIndexOf(index, wanted, hash); err == nil {
			return found, base, nil
		}
	}
	return nil, "", err
}

var errIndex = errors.New("the git index is not in a known format")

const (
	indexHeader    = 12 // signature, version, number of entries
	indexStat      = 40 // stat data before the hash
	indexFlags     = 2
	indexExtended  = 0x4000
	indexNameMask  = 0xfff
	indexAlignment = 8
)

func matchIndexOf(index []byte, wanted []string, hash int) (found []string, base string, err error) {
	if len(index) < indexHeader+hash || string(index[:4]) != "DIRC" {
		return nil, "", errIndex
	}
	version, count := binary.BigEndian.Uint32(index[4:]), binary.BigEndian.Uint32(index[8:])
	if version < 2 || version > 4 {
		return nil, "", errIndex
	}
	r := indexReader{rest: index[indexHeader : len(index)-hash], hash: hash, packed: version == 4}
	next := 0 // the first path that may still come
	for range count {
		name, err := r.entry()
		if err != nil {
			return nil, "", err
		}
		for next < len(wanted) && passed(wanted[next], name) {
			next++
		}
		// Only paths that name begins with have not been passed, so these are few.
		for k := next; k < len(wanted) && wanted[k] <= string(name); k++ {
			if isBeneath(name, wanted[k]) {
				found = append(found, wanted[k])
			}
		}
	}
	base, err = r.sharedBase()
	slices.Sort(found)
	return slices.Compact(found), base, err
}

// passed reports whether no entry from name on can be want or lie in it: entries are sorted by byte.
func passed(want string, name []byte) bool {
	if isBeneath(name, want) {
		return false
	}
	// "a-" sorts between "a" and "a/", so compare with the end of everything beneath.
	n := min(len(want), len(name))
	if c := strings.Compare(string(name[:n]), want[:n]); c != 0 {
		return c > 0
	}
	return len(name) > len(want) && name[len(want)] > '/'
}

func isBeneath(name []byte, want string) bool {
	n := len(want)
	return len(name) >= n && string(name[:n]) == want && (len(name) == n || name[n] == '/')
}

type indexReader struct {
	rest   []byte
	hash   int
	packed bool // version 4: names leave out what they share with the one before
	name   []byte
}

// entry reads one entry and returns its name, valid until the next call.
func (r *indexReader) entry() ([]byte, error) {
	head := indexStat + r.hash + indexFlags
	if len(r.rest) < head+1 {
		return nil, errIndex
	}
	flags := binary.BigEndian.Uint16(r.rest[head-indexFlags:])
	if flags&indexExtended != 0 {
		head += indexFlags
	}
	if len(r.rest) < head {
		return nil, errIndex
	}
	if r.packed {
		return r.packedName(head)
	}
	length := int(flags & indexNameMask)
	if length == indexNameMask || len(r.rest) <= head+length || r.rest[head+length] != 0 {
		if length < indexNameMask {
			return nil, errIndex
		}
		if length = bytes.IndexByte(r.rest[head:], 0); length < indexNameMask {
			return nil, errIndex
		}
	}
	size := (head + length + indexAlignment) / indexAlignment * indexAlignment
	if len(r.rest) < size {
		return nil, errIndex
	}
	name := r.rest[head : head+length]
	r.rest = r.rest[size:]
	return name, nil
}

func (r *indexReader) packedName(head int) ([]byte, error) {
	cut, n := indexOffset(r.rest[head:])
	end := bytes.IndexByte(r.rest[min(head+n, len(r.rest)):], 0)
	if n == 0 || cut > len(r.name) || end < 0 {
		return nil, errIndex
	}
	r.name = append(r.name[:len(r.name)-cut], r.rest[head+n:head+n+end]...)
	r.rest = r.rest[head+n+end+1:]
	return r.name, nil
}

// indexOffset reads the variable-width number that also pack files use for offsets. It returns a length of 0 for a number that is cut off or
// absurd.
func indexOffset(b []byte) (value, length int) {
	for i, c := range b[:min(len(b), 5)] {
		if i > 0 {
			value++
		}
		value = value<<7 | int(c&0x7f)
		if c&0x80 == 0 {
			return value, i + 1
		}
	}
	return 0, 0
}

// sharedBase walks the extensions behind the entries and returns the shared index's hash, if there is one.
func (r *indexReader) sharedBase() (string, error) {
	base := ""
	for len(r.rest) > 0 {
		if len(r.rest) < 8 {
			return "", errIndex
		}
		name, size := string(r.rest[:4]), int64(binary.BigEndian.Uint32(r.rest[4:]))
		if size > int64(len(r.rest)-8) {
			return "", errIndex
		}
		body := r.rest[8 : 8+size]
		if name == "link" && len(body) >= r.hash && !bytes.Equal(body[:r.hash], make([]byte, r.hash)) {
			base = hex.EncodeToString(body[:r.hash])
		}
		r.rest = r.rest[8+size:]
	}
	return base, nil
}
