package limits

import (
	"bytes"
	"encoding/binary"
	"iter"
	"unsafe"

	"golang.org/x/sys/unix"
)

// entry is one name in a directory. It is valid until the buffer it came from is filled again.
type entry struct {
	kind byte // unix.DT_DIR and so on, or DT_UNKNOWN
	name []byte
}

// entries walks a buffer filled by getdents64(2), leaving out "." and "..".
func entries(buf []byte) iter.Seq[entry] {
	return func(yield func(entry) bool) {
		for len(buf) > 0 {
			e, size := nextEntry(buf)
			if size == 0 {
				return
			}
			buf = buf[size:]
			if s := string(e.name); s != "." && s != ".." && !yield(e) {
				return
			}
		}
	}
}

// nextEntry returns the first record of buf and its size, which is 0 if there is none.
func nextEntry(buf []byte) (entry, int) {
	const name = int(unsafe.Offsetof(unix.Dirent{}.Name))
	if len(buf) < name {
		return entry{}, 0
	}
	size := int(binary.NativeEndian.Uint16(buf[unsafe.Offsetof(unix.Dirent{}.Reclen):]))
	if size < name || size > len(buf) {
		return entry{}, 0
	}
	e := entry{kind: buf[unsafe.Offsetof(unix.Dirent{}.Type)], name: buf[name:size]}
	if end := bytes.IndexByte(e.name, 0); end >= 0 {
		e.name = e.name[:end]
	}
	return e, size
}
