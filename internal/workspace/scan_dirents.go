package workspace

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dirent is one directory entry as getdents64(2) lists it. It lies in the lister's buffer and is valid only until the next one is read.
type dirent struct {
	raw []byte // the name with its NUL, so that it can be handed to the kernel without a copy
	ino uint64
	typ byte // DT_*; DT_UNKNOWN where the file system does not say
}

// name shares memory with the buffer: clone it to keep it.
func (e *dirent) name() string { return unsafe.String(&e.raw[0], len(e.raw)-1) }

// lister reads directories with one buffer and one stat record, because a walk does so a hundred thousand times.
type lister struct {
	buf  [64 << 10]byte
	stat unix.Statx_t
}

// each calls f for the entries of an open directory. The package os would stat or allocate for each of them.
func (l *lister) each(fd int, f func(dirent) error) error {
	for {
		n, err := unix.Getdents(fd, l.buf[:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return err
		}
		for rest := l.buf[:n]; len(rest) > 0; {
			e, length, err := parseDirent(rest)
			if err != nil {
				return err
			}
			rest = rest[length:]
			if s := e.name(); s == "." || s == ".." {
				continue
			}
			if err := f(e); err != nil {
				return err
			}
		}
	}
}

// direntHeader is the size of d_ino, d_off, d_reclen and d_type before the name in struct linux_dirent64.
const direntHeader = 8 + 8 + 2 + 1

// parseDirent checks what it reads although the kernel wrote it: a FUSE file system is another program.
func parseDirent(b []byte) (e dirent, length int, err error) {
	if len(b) >= direntHeader {
		length = int(binary.NativeEndian.Uint16(b[16:]))
	}
	if length <= direntHeader+1 || length > len(b) {
		return e, 0, fmt.Errorf("directory entry of impossible length %d", length)
	}
	end := bytes.IndexByte(b[direntHeader:length], 0)
	if end <= 0 {
		return e, 0, fmt.Errorf("directory entry without a name")
	}
	return dirent{b[direntHeader : direntHeader+end+1], binary.NativeEndian.Uint64(b), b[18]}, length, nil
}

const scanStatMask = unix.STATX_TYPE | unix.STATX_MODE | unix.STATX_NLINK | unix.STATX_UID | unix.STATX_GID | unix.STATX_INO | unix.STATX_SIZE |
	unix.STATX_MTIME | unix.STATX_CTIME

// statEntry describes an entry of the directory fd itself. The result is valid until the next call.
func (l *lister) statEntry(fd int, e dirent) (*unix.Statx_t, error) {
	const flags = unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT | unix.AT_STATX_DONT_SYNC
	_, _, errno := unix.Syscall6(unix.SYS_STATX, uintptr(fd), uintptr(unsafe.Pointer(&e.raw[0])), flags, scanStatMask, uintptr(unsafe.Pointer(&l.stat)), 0)
	if errno != 0 {
		return nil, errno
	}
	return &l.stat, nil
}

// statName is statEntry for any path beneath fd; "" is fd itself.
func (l *lister) statName(fd int, name string) (*unix.Statx_t, error) {
	const flags = unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT | unix.AT_STATX_DONT_SYNC | unix.AT_EMPTY_PATH
	if err := unix.Statx(fd, name, flags, scanStatMask, &l.stat); err != nil {
		return nil, err
	}
	return &l.stat, nil
}

// direntType is the d_type of a mode.
func direntType(mode uint16) byte { return byte(mode >> 12) }

// readWhole reads a regular file of the host with as few calls as can be: this runs at every start. Opening it does not block, whatever it is.
func readWhole(name string, limit int64) ([]byte, *unix.Stat_t, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	return readOpen(fd, name, limit)
}

func readOpen(fd int, name string, limit int64) ([]byte, *unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, nil, &os.PathError{Op: "stat", Path: name, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > limit {
		return nil, nil, fmt.Errorf("%q is not a file of at most %d bytes", name, limit)
	}
	size := st.Size + 1
	if st.Size == 0 {
		size = min(32<<10, limit) // files of /proc say 0
	}
	buf := make([]byte, size)
	for n := 0; ; {
		got, err := unix.Read(fd, buf[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, nil, &os.PathError{Op: "read", Path: name, Err: err}
		}
		// A short read is the end of a file that says how long it is.
		if n += got; got == 0 || int64(n) > limit || st.Size > 0 && n < len(buf) {
			return buf[:n], &st, nil
		}
		if n == len(buf) {
			buf = append(buf, make([]byte, n)...)
		}
	}
}
