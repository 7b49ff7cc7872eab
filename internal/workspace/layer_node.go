package workspace

import (
	"errors"

	"golang.org/x/sys/unix"
)

// FileType is what a path is. The zero value is nothing at all.
type FileType string

const (
	Absent  FileType = ""
	File    FileType = "file"
	Dir     FileType = "directory"
	Symlink FileType = "symlink"
	Device  FileType = "device"
	Fifo    FileType = "fifo"
	Socket  FileType = "socket"
)

// State is one side of a change.
type State struct {
	Type FileType `json:"type"`
	Mode uint32   `json:"mode"`           // permission, setuid, setgid and sticky bits
	Size int64    `json:"size"`           // of files
	Link string   `json:"link,omitempty"` // what a symlink holds, never followed
}

// perm is what can cross from a layer to the project: no setuid, setgid or sticky bit does.
func (s State) perm() uint32 { return s.Mode & 0o777 }

// node is a State with what identifies it.
type node struct {
	State
	dev, ino            uint64
	blank               bool // the character device 0:0, which opens nothing
	nlink               uint32
	uid, gid            uint32
	mtime, ctime, btime int64 // nanoseconds since 1970; btime is 0 where the file system does not keep it
}

const statMask = unix.STATX_BASIC_STATS | unix.STATX_BTIME

func statAt(dir int, name string) (node, error) {
	var st unix.Statx_t
	err := unix.Statx(dir, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, statMask, &st)
	if errors.Is(err, unix.ENOENT) {
		return node{}, nil
	}
	if err != nil {
		return node{}, err
	}
	n := nodeOf(&st)
	if n.Type == Symlink {
		n.Link, err = readLink(dir, name)
	}
	return n, err
}

func statFd(fd int) (node, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, statMask, &st); err != nil {
		return node{}, err
	}
	return nodeOf(&st), nil
}

func readLink(dir int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, buf)
	return string(buf[:max(n, 0)]), err
}

func nodeOf(st *unix.Statx_t) node {
	n := node{
		State: State{Type: typeOf(st.Mode), Mode: uint32(st.Mode) & 0o7777},
		dev:   unix.Mkdev(st.Dev_major, st.Dev_minor), ino: st.Ino,
		blank: uint32(st.Mode)&unix.S_IFMT == unix.S_IFCHR && st.Rdev_major == 0 && st.Rdev_minor == 0,
		nlink: st.Nlink, uid: st.Uid, gid: st.Gid,
		mtime: nanos(st.Mtime), ctime: nanos(st.Ctime),
	}
	if n.Type == File {
		n.Size = int64(st.Size)
	}
	if st.Mask&unix.STATX_BTIME != 0 {
		n.btime = nanos(st.Btime)
	}
	return n
}

func nanos(t unix.StatxTimestamp) int64 { return t.Sec*1e9 + int64(t.Nsec) }

func typeOf(mode uint16) FileType {
	switch uint32(mode) & unix.S_IFMT {
	case unix.S_IFREG:
		return File
	case unix.S_IFDIR:
		return Dir
	case unix.S_IFLNK:
		return Symlink
	case unix.S_IFIFO:
		return Fifo
	case unix.S_IFSOCK:
		return Socket
	default:
		return Device
	}
}
