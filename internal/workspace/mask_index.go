package workspace

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
)

// The index of a mask: a signature, the project's path and the mask's inode, the directories with their notes, which hidden files git tracks, and
// a checksum over all of it. Numbers are varints or, where they are large anyway, eight bytes; text is preceded by its length.
const indexSignature = "casemate mask index " + maskVersion + "\n"

var errCorrupt = errors.New("the mask's index is corrupt")

// checksum finds accidents, not attacks: nobody but the user can write the index. Package hash/crc32 would be faster on long indexes, and takes
// 0.3 ms to fill its tables, which every start would pay.
func checksum(b []byte) uint32 {
	h := fnv.New32a()
	h.Write(b)
	return h.Sum32()
}

func encodeIndex(root string, tree uint64, s scanned) []byte {
	size := 4096
	for i := range s.dirs {
		size += 64 + len(s.dirs[i].path) + 64*len(s.dirs[i].notes)
	}
	e := indexWriter(append(make([]byte, 0, size), indexSignature...))
	e.text(root)
	e.fixed(tree)
	e.num(uint64(len(s.dirs)))
	for i := range s.dirs {
		e.dir(i, &s.dirs[i])
	}
	e.text(s.tracked.key)
	e.num(uint64(len(s.tracked.paths)))
	for _, p := range s.tracked.paths {
		e.text(p)
	}
	return binary.LittleEndian.AppendUint32(e, checksum(e))
}

type indexWriter []byte

func (e *indexWriter) num(n uint64)   { *e = binary.AppendUvarint(*e, n) }
func (e *indexWriter) fixed(n uint64) { *e = binary.LittleEndian.AppendUint64(*e, n) }
func (e *indexWriter) text(s string) {
	e.num(uint64(len(s)))
	*e = append(*e, s...)
}

func (e *indexWriter) dir(i int, d *dirRecord) {
	e.text(d.path)
	e.num(uint64(i - int(d.parent)))
	*e = append(*e, byte(d.flags))
	e.num(uint64(d.perm))
	e.num(uint64(d.files))
	e.fixed(d.stamp.ino)
	e.fixed(uint64(d.stamp.mtime))
	e.fixed(uint64(d.stamp.ctime))
	e.num(uint64(len(d.notes)))
	for k := range d.notes {
		e.note(&d.notes[k])
	}
}

func (e *indexWriter) note(n *note) {
	linked := byte(0)
	if n.linked {
		linked = 1
	}
	*e = append(*e, byte(n.kind), n.typ, linked)
	e.num(uint64(n.perm))
	e.num(uint64(n.pattern + 1))
	e.fixed(n.ino)
	e.num(uint64(n.size))
	e.fixed(uint64(n.mtime))
	e.fixed(uint64(n.ctime))
	e.text(n.name)
	e.text(n.detail)
}

// decodeIndex is tolerant of nothing: an index that is not whole and sound is no index.
func decodeIndex(raw []byte) (root string, tree uint64, s scanned, err error) {
	body := len(raw) - 4
	if body < len(indexSignature) || string(raw[:len(indexSignature)]) != indexSignature || checksum(raw[:body]) != binary.LittleEndian.Uint32(raw[body:]) {
		return "", 0, s, errCorrupt
	}
	return decodeIndexBody(raw[:body])
}

func decodeIndexBody(raw []byte) (root string, tree uint64, s scanned, err error) {
	r := indexText{rest: string(raw[len(indexSignature):])}
	root, tree = r.text(), r.fixed()
	const leastDir, leastNote, leastPath = 32, 30, 1
	s.dirs = make([]dirRecord, r.count(leastDir))
	for i := range s.dirs {
		r.dir(i, s.dirs, leastNote)
	}
	s.tracked.key = r.text()
	s.tracked.paths = make([]string, r.count(leastPath))
	for i := range s.tracked.paths {
		s.tracked.paths[i] = r.text()
	}
	if r.bad || r.rest != "" {
		return "", 0, scanned{}, errCorrupt
	}
	return root, tree, s, nil
}

// indexText reads from one string, which all names in the records share.
type indexText struct {
	rest string
	bad  bool
}

func (r *indexText) take(n uint64) string {
	if n > uint64(len(r.rest)) {
		r.bad, r.rest = true, ""
		return ""
	}
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

func (r *indexText) byte() byte {
	if s := r.take(1); s != "" {
		return s[0]
	}
	return 0
}

func (r *indexText) num() (n uint64) {
	for shift := 0; shift < 64; shift += 7 {
		b := r.byte()
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return n
		}
	}
	r.bad = true
	return 0
}

func (r *indexText) fixed() (n uint64) {
	for i, c := range []byte(r.take(8)) {
		n |= uint64(c) << (8 * i)
	}
	return n
}

func (r *indexText) text() string { return r.take(r.num()) }

// count reads a number of things that take at least so many bytes each, so that a wrong one cannot ask for more memory than the file is long.
func (r *indexText) count(least int) int {
	n := r.num()
	if n > uint64(len(r.rest)/least) {
		r.bad, r.rest = true, ""
		return 0
	}
	return int(n)
}

func (r *indexText) dir(i int, dirs []dirRecord, leastNote int) {
	d := &dirs[i]
	d.path = r.text()
	up := r.num()
	d.flags = dirFlag(r.byte())
	d.perm = uint16(r.num())
	d.files = int32(r.num())
	d.stamp = stamp{r.fixed(), int64(r.fixed()), int64(r.fixed())}
	if up < 1 || up > uint64(i)+1 || (up == uint64(i)+1) != (i == 0) {
		r.bad = true
		return
	}
	d.parent = int32(i - int(up))
	if i > 0 && (parentOf(d.path) != dirs[d.parent].path || baseName(d.path) == "") || i == 0 && d.path != "" {
		r.bad = true
	}
	d.notes = make([]note, r.count(leastNote))
	for k := range d.notes {
		r.note(&d.notes[k])
	}
}

func (r *indexText) note(n *note) {
	n.kind, n.typ, n.linked = noteKind(r.byte()), r.byte(), r.byte() != 0
	n.perm = uint16(r.num())
	n.pattern = int32(r.num()) - 1
	n.ino = r.fixed()
	n.size = int64(r.num())
	n.mtime, n.ctime = int64(r.fixed()), int64(r.fixed())
	n.name, n.detail = r.text(), r.text()
	if n.kind >= noteKinds {
		r.bad = true
	}
}
