package workspace

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// manifest says what a copy layer was copied from. It lies beside the copy, out of the sandbox's reach.
type manifest struct {
	entries  map[string]baseEntry
	children map[string][]string // names by directory
}

// baseEntry is what the host had when it was copied, and what identifies the untouched copy.
type baseEntry struct {
	State
	mtime, ctime int64
	ino          uint64
	copyIno      uint64
	copyCtime    int64
}

const (
	manifestName   = "manifest"
	manifestHeader = "casemate manifest 1\n"
)

func newManifest() manifest {
	return manifest{map[string]baseEntry{}, map[string][]string{}}
}

func (m manifest) set(rel string, host, in node) {
	if _, ok := m.entries[rel]; !ok {
		m.children[parentOf(rel)] = append(m.children[parentOf(rel)], path.Base(rel))
	}
	m.entries[rel] = baseEntry{host.State, host.mtime, host.ctime, host.ino, in.ino, in.ctime}
}

func (m manifest) remove(rel string) {
	dir := parentOf(rel)
	m.children[dir] = slices.DeleteFunc(m.children[dir], func(s string) bool { return s == path.Base(rel) })
	delete(m.entries, rel)
}

// holds reports whether in is the copy as it was made.
func (b baseEntry) holds(in node) bool {
	if b.Type == Dir {
		return in.Type == Dir && in.perm() == b.perm()
	}
	return in.Type == b.Type && in.ino == b.copyIno && in.ctime == b.copyCtime
}

// isHost reports whether the host's entry is what was copied. The times of a directory change with its entries.
func (b baseEntry) isHost(n node) bool {
	if b.Type == Dir {
		return n.Type == Dir
	}
	return n.State == b.State && n.mtime == b.mtime && n.ctime == b.ctime && n.ino == b.ino
}

// write puts the manifest into the layer's directory, all of it or none.
func (m manifest) write(top *rooted) error {
	fd, err := unix.Openat(top.fd, manifestName+".new", unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("write the manifest of %q: %w", top.name, err)
	}
	f := os.NewFile(uintptr(fd), manifestName)
	_, err = f.WriteString(m.encode())
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = unix.Renameat(top.fd, manifestName+".new", top.fd, manifestName)
	}
	if err == nil {
		err = unix.Fsync(top.fd)
	}
	if err != nil {
		return fmt.Errorf("write the manifest of %q: %w", top.name, err)
	}
	return nil
}

func (m manifest) encode() string {
	var b strings.Builder
	b.WriteString(manifestHeader)
	for rel, e := range m.entries {
		fmt.Fprintf(&b, "%s %o %d %d %d %d %d %d\x00%s\x00%s\x00", e.Type, e.Mode, e.Size, e.mtime, e.ctime, e.ino, e.copyIno, e.copyCtime, rel, e.Link)
	}
	return b.String()
}

func readManifest(top *rooted) (manifest, error) {
	data, err := readBeside(top, manifestName)
	if err == nil && data == nil {
		return manifest{}, fmt.Errorf("the copy in %q was never finished: discard it", top.name)
	}
	if err != nil {
		return manifest{}, err
	}
	m, ok := decodeManifest(string(data))
	if !ok {
		return manifest{}, fmt.Errorf("the manifest of %q is damaged: what the sandbox changed cannot be told any more; its files are in %q", top.name, path.Join(top.name, "copy"))
	}
	return m, nil
}

func decodeManifest(s string) (manifest, bool) {
	m := newManifest()
	s, ok := strings.CutPrefix(s, manifestHeader)
	for ok && s != "" {
		var head, rel, link string
		if head, s, ok = strings.Cut(s, "\x00"); !ok {
			break
		}
		if rel, s, ok = strings.Cut(s, "\x00"); !ok {
			break
		}
		if link, s, ok = strings.Cut(s, "\x00"); !ok {
			break
		}
		var e baseEntry
		if e, ok = decodeEntry(head); ok {
			e.Link = link
			m.entries[rel] = e
			m.children[parentOf(rel)] = append(m.children[parentOf(rel)], path.Base(rel))
		}
	}
	return m, ok
}

func decodeEntry(head string) (e baseEntry, ok bool) {
	f := strings.Fields(head)
	if len(f) != 8 {
		return e, false
	}
	e.Type, ok = FileType(f[0]), true
	signed := func(s string) int64 {
		v, err := strconv.ParseInt(s, 10, 64)
		ok = ok && err == nil
		return v
	}
	unsigned := func(s string, base int) uint64 {
		v, err := strconv.ParseUint(s, base, 64)
		ok = ok && err == nil
		return v
	}
	e.Mode = uint32(unsigned(f[1], 8))
	e.Size, e.mtime, e.ctime = signed(f[2]), signed(f[3]), signed(f[4])
	e.ino, e.copyIno, e.copyCtime = unsigned(f[5], 10), unsigned(f[6], 10), signed(f[7])
	return e, ok
}
