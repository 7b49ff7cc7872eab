package history

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"casemate.dev/internal/beneath"
	"golang.org/x/sys/unix"
)

// Type is what a path is. The zero value is nothing at all.
type Type string

const (
	Absent  Type = ""
	File    Type = "file"
	Dir     Type = "directory"
	Symlink Type = "symlink"
	Other   Type = "other" // devices, fifos and sockets: never kept, never replaced
)

// State is what a path was, or is.
type State struct {
	Type  Type   `json:"type"`
	Mode  uint32 `json:"mode,omitempty"` // with setuid, setgid and sticky bits
	Size  int64  `json:"size,omitempty"` // of files
	Mtime int64  `json:"mtime,omitempty"`
	Link  bytes  `json:"link,omitempty"`
	UID   int    `json:"uid,omitempty"`
	GID   int    `json:"gid,omitempty"`

	Attributes map[string][]byte `json:"xattrs,omitempty"`
	Object     int               `json:"object,omitempty"`  // of files before: the number of the kept content
	Content    string            `json:"content,omitempty"` // of files before, in an entry of a live workspace: the name of the kept content
	Digest     string            `json:"digest,omitempty"`  // of files after, unless they are large

	Dev uint64 `json:"dev,omitempty"`
	Ino uint64 `json:"ino,omitempty"`

	Ctime int64  `json:"-"` // other names and a rename change it, so no journal keeps it
	Links uint32 `json:"-"`
}

// bytes is a string that JSON keeps as it is, whatever bytes it holds.
type bytes string

func (b bytes) MarshalText() ([]byte, error) { return []byte(escape(string(b))), nil }
func (b *bytes) UnmarshalText(text []byte) error {
	s, err := unescape(string(text))
	*b = bytes(s)
	return err
}

// escape writes the bytes that no UTF-8 text has, and %, as %XX.
func escape(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == '%' || r == 0 || r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&b, "%%%02X", s[0])
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

func unescape(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", fmt.Errorf("%q ends within an escape", s)
		}
		c, err := hex.DecodeString(s[i+1 : i+3])
		if err != nil {
			return "", fmt.Errorf("%q has an escape that is none", s)
		}
		b.WriteByte(c[0])
		i += 2
	}
	return b.String(), nil
}

const statMask = unix.STATX_BASIC_STATS

// statAt describes an entry of an open directory; what is not there is Absent.
func statAt(dir int, name string) (State, error) {
	var st unix.Statx_t
	err := unix.Statx(dir, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, statMask, &st)
	if errors.Is(err, unix.ENOENT) {
		return State{}, nil
	}
	if err != nil {
		return State{}, err
	}
	s := stateOf(&st)
	if s.Type == Symlink {
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(dir, name, buf)
		if err != nil {
			return State{}, err
		}
		s.Link = bytes(buf[:n])
	}
	return s, nil
}

func statFd(fd int) (State, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, statMask, &st); err != nil {
		return State{}, err
	}
	return stateOf(&st), nil
}

func stateOf(st *unix.Statx_t) State {
	s := State{
		Mode: uint32(st.Mode) & 0o7777, UID: int(st.Uid), GID: int(st.Gid),
		Mtime: st.Mtime.Sec*1e9 + int64(st.Mtime.Nsec),
		Dev:   unix.Mkdev(st.Dev_major, st.Dev_minor), Ino: st.Ino,
	}
	s.Ctime, s.Links = st.Ctime.Sec*1e9+int64(st.Ctime.Nsec), st.Nlink
	switch uint32(st.Mode) & unix.S_IFMT {
	case unix.S_IFREG:
		s.Type, s.Size = File, int64(st.Size)
	case unix.S_IFDIR:
		s.Type = Dir
	case unix.S_IFLNK:
		s.Type = Symlink
	default:
		s.Type = Other
	}
	return s
}

// same reports whether a path still is the very entry that was looked at. ctime is left out: replacing one hard link of a file touches the
// ctime of the others.
func (s State) same(now State) bool {
	return s.Type == now.Type && s.Dev == now.Dev && s.Ino == now.Ino && s.Link == now.Link &&
		(s.Type == Dir || s.Size == now.Size && s.Mtime == now.Mtime && s.Mode == now.Mode)
}

// Untouched reports whether a path still is that entry, and nobody did anything to it since. It is not for directories, which change with their entries.
func (s State) Untouched(now State) bool { return s.same(now) && s.Ctime == now.Ctime }

// unmoved reports whether the host has left alone what a step was decided by. A file with several names may have another ctime by what the steps
// before did to the others; then a write with the same size and a time set back goes unnoticed, and what was written is kept for undo.
func (s State) unmoved(now State) bool {
	if s.Type == File && s.Links == 1 {
		return s.Untouched(now)
	}
	return s.same(now)
}

// holds reports whether what is there now is what s describes, be it another inode or not: open is the entry, if it is a file. It is read, even if
// size and time are the same: a program can set the time back after it wrote. Only a ctime is out of its reach, and that changes without a write, too.
func (s State) holds(now State, open func() (*os.File, error)) bool {
	switch {
	case s.Type != now.Type || s.Mode != now.Mode && s.Type != Symlink:
		return false
	case s.Type != File:
		return s.Link == now.Link
	case s.Content != "":
		return s.Content == contentName(now)
	case s.Size != now.Size:
		return false
	case s.Digest == "": // too large, or not to be read
		return s.Mtime == now.Mtime
	}
	f, err := open()
	if err != nil {
		return false
	}
	defer f.Close()
	sum, err := digest(f)
	return err == nil && sum == s.Digest
}

// maxDigest is the largest file whose content is read to recognise it again. A larger one is known by size, inode and time.
const maxDigest = 64 << 20

func digest(f io.Reader) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// openSame opens the file that was seen as want. Whatever lies there now, opening it neither blocks (a fifo) nor takes a terminal.
func openSame(dir int, name string, want State) (*os.File, error) {
	fd, err := beneath.Open(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, err
	}
	now, err := statFd(fd)
	if err == nil && !want.same(now) {
		err = beneath.ErrReplaced
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// attributes reads the extended attributes of an open file or directory that this process may read.
func attributes(fd int) map[string][]byte {
	size, err := unix.Flistxattr(fd, nil)
	if err != nil || size == 0 {
		return nil // none here, or none on this file system
	}
	names := make([]byte, size)
	if size, err = unix.Flistxattr(fd, names); err != nil {
		return nil
	}
	var found map[string][]byte
	for name := range strings.SplitSeq(strings.TrimRight(string(names[:size]), "\x00"), "\x00") {
		value := make([]byte, 64<<10) // the kernel's limit (XATTR_SIZE_MAX)
		n, err := unix.Fgetxattr(fd, name, value)
		if err != nil || name == "security.selinux" { // the label follows from where the file is
			continue
		}
		if found == nil {
			found = map[string][]byte{}
		}
		found[name] = value[:n:n]
	}
	return found
}

// LinkTo is the state of a symbolic link.
func LinkTo(target string) State { return State{Type: Symlink, Link: bytes(target)} }
