package native

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Metadata changes modes and times of files for a sandbox without namespaces, and watches directories for it. Landlock has no rule for these
// calls: who owns a file may change it wherever it lies, and who may list a directory sees what others do in it. So the filter announces them (seccomp_unotify(2)), and the supervisor makes the change itself, on a descriptor of a file
// that lies in one of the sandbox's own trees. No call ever continues: whatever the caller does to its memory, its links or its descriptors
// meanwhile, the change is made to the file that was looked at, or not at all.
//
// The same user owns everything here, so a file of these trees is one that the caller could have changed. Owners stay as they are.
type Metadata struct {
	FD    int // the filter's notifications
	trees []ownTree
}

// NewMetadata answers for the trees below the directories, which nothing inside can move.
func NewMetadata(fd int, dirs []string) (*Metadata, error) {
	m := &Metadata{FD: fd}
	for _, dir := range dirs {
		t, err := openTree(dir)
		if err != nil {
			m.Close()
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
		m.trees = append(m.trees, t)
	}
	return m, nil
}

// Close lets go of the trees, not of the notifications.
func (m *Metadata) Close() {
	for _, t := range m.trees {
		unix.Close(t.fd)
	}
}

// Announced says whether this process can be told of a sandbox's calls: the kernel gives one listener to a process and its children, and a
// container's own may be it. The filter that finds out allows everything, and ends with the thread that has it.
func Announced() bool {
	answer := make(chan bool)
	go func() { answer <- listens() }()
	return <-answer
}

// announced is one call that the filter announces: which of its arguments is what, -1 for none.
type announced struct {
	nr       int32
	change   change
	dir      int8 // the descriptor that a path is relative to, or that is meant
	path     int8
	value    int8 // the mode, the owner (the group follows), where the times are, or what to watch for
	flags    int8
	nofollow bool
	layout   layout // of the times
}

type change uint8

const (
	mode change = iota
	owner
	times
	watch
)

type layout uint8

const (
	timespecs layout = iota // two struct timespec
	timevals                // two struct timeval
	utimbuf                 // two seconds
)

// announcedCalls are those that every architecture has; oldCalls are those that only some have.
var announcedCalls = [...]announced{
	{nr: unix.SYS_FCHMOD, change: mode, dir: 0, path: -1, value: 1, flags: -1},
	{nr: unix.SYS_FCHMODAT, change: mode, dir: 0, path: 1, value: 2, flags: -1},
	{nr: unix.SYS_FCHMODAT2, change: mode, dir: 0, path: 1, value: 2, flags: 3},
	{nr: unix.SYS_FCHOWN, change: owner, dir: 0, path: -1, value: 1, flags: -1},
	{nr: unix.SYS_FCHOWNAT, change: owner, dir: 0, path: 1, value: 2, flags: 4},
	{nr: unix.SYS_UTIMENSAT, change: times, dir: 0, path: 1, value: 2, flags: 3},
	{nr: unix.SYS_INOTIFY_ADD_WATCH, change: watch, dir: -1, path: 1, value: 2, flags: -1},
}

func announcedCall(nr int32) *announced {
	for _, list := range [][]announced{announcedCalls[:], oldCalls[:]} {
		for i := range list {
			if list[i].nr == nr {
				return &list[i]
			}
		}
	}
	return nil
}

// Answer takes one notification and answers it. It never waits for the sandbox.
func (m *Metadata) Answer() {
	var n seccompNotif
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(m.FD), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n))); e != 0 {
		return // the caller is gone
	}
	value, e := m.perform(&n)
	resp := seccompNotifResp{id: n.id, val: value, err: -int32(e)}
	unix.Syscall(unix.SYS_IOCTL, uintptr(m.FD), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&resp)))
}

// perform does what one call asks for.
func (m *Metadata) perform(n *seccompNotif) (value int64, e unix.Errno) {
	c := announcedCall(n.data.nr)
	if c == nil {
		return 0, unix.ENOSYS
	}
	r, e := c.read(n)
	if e != 0 {
		return 0, e
	}
	if !m.waits(n) {
		return 0, unix.EPERM
	}
	fd, e := m.find(int(n.pid), r)
	if e != 0 {
		return 0, e
	}
	defer unix.Close(fd)
	if r.change == watch {
		return m.watch(n, r, fd)
	}
	return 0, r.apply(fd)
}

// waits says whether the caller is still in its call. Only then is it certain that what was taken from a process of its number was its own.
func (m *Metadata) waits(n *seccompNotif) bool {
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(m.FD), unix.SECCOMP_IOCTL_NOTIF_ID_VALID, uintptr(unsafe.Pointer(&n.id)))
	return e == 0
}

// request is one call, read from the caller.
type request struct {
	change   change
	dir      int32
	name     string
	itself   bool // the descriptor is meant, not a path
	nofollow bool
	mode     uint32
	uid, gid uint32
	times    [2]unix.Timespec
	inotify  int32
	mask     uint32 // of events
}

func (c *announced) read(n *seccompNotif) (r request, e unix.Errno) {
	r = request{change: c.change, dir: unix.AT_FDCWD, nofollow: c.nofollow, itself: c.path < 0}
	if c.dir >= 0 {
		r.dir = int32(n.data.args[c.dir])
	}
	if c.path >= 0 {
		at := uintptr(n.data.args[c.path])
		var ok bool
		if at == 0 && c.change == times && c.dir >= 0 {
			r.itself = true
		} else if r.name, ok = readString(int(n.pid), at); !ok {
			return r, unreadable(n, at)
		}
	}
	if c.flags >= 0 {
		flags := uint32(n.data.args[c.flags])
		if flags&^(unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH) != 0 {
			return r, unix.EINVAL
		}
		r.nofollow = flags&unix.AT_SYMLINK_NOFOLLOW != 0
		r.itself = r.itself || r.name == "" && flags&unix.AT_EMPTY_PATH != 0
	}
	if r.name == "" && !r.itself {
		return r, unix.ENOENT
	}
	switch value := n.data.args[c.value]; c.change {
	case mode:
		r.mode = uint32(value) & 0o7777
	case owner:
		r.uid, r.gid = uint32(value), uint32(n.data.args[c.value+1])
	case times:
		return r, r.readTimes(int(n.pid), uintptr(value), c.layout)
	case watch:
		r.inotify, r.mask = int32(n.data.args[0]), uint32(value)
		r.nofollow = r.mask&unix.IN_DONT_FOLLOW != 0
	}
	return r, 0
}

// unreadable tells a pointer that leads nowhere from memory that the kernel keeps from us (Yama's ptrace_scope of 2, an outer filter).
func unreadable(n *seccompNotif, at uintptr) unix.Errno {
	if at < 4096 || readMemory(int(n.pid), at, make([]byte, 1)) == unix.EFAULT {
		return unix.EFAULT
	}
	return unix.EPERM
}

func readMemory(pid int, addr uintptr, buf []byte) error {
	local := []unix.Iovec{{Base: &buf[0]}}
	local[0].SetLen(len(buf))
	n, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: addr, Len: len(buf)}}, 0)
	if err == nil && n < len(buf) {
		err = unix.EFAULT
	}
	return err
}

func (r *request) readTimes(pid int, at uintptr, l layout) unix.Errno {
	if at == 0 {
		r.times = [2]unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}
		return 0
	}
	var buf [32]byte
	words := 4
	if l == utimbuf {
		words = 2
	}
	switch readMemory(pid, at, buf[:8*words]) {
	case nil:
	case unix.EFAULT:
		return unix.EFAULT
	default:
		return unix.EPERM
	}
	word := func(i int) int64 { return int64(binary.NativeEndian.Uint64(buf[8*i:])) }
	for i := range r.times {
		switch l {
		case timespecs:
			r.times[i] = unix.Timespec{Sec: word(2 * i), Nsec: word(2*i + 1)}
		case timevals:
			micro := word(2*i + 1)
			if micro < 0 || micro >= 1_000_000 {
				return unix.EINVAL
			}
			r.times[i] = unix.Timespec{Sec: word(2 * i), Nsec: 1000 * micro}
		case utimbuf:
			r.times[i] = unix.Timespec{Sec: word(i)}
		}
	}
	return 0
}

// apply changes the file that the descriptor, an O_PATH one, stands for. The link in /proc leads to that file and nowhere else.
func (r *request) apply(fd int) unix.Errno {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return errno(err)
	}
	self := fmt.Sprintf("/proc/self/fd/%d", fd)
	switch r.change {
	case mode:
		if r.mode&unix.S_ISUID != 0 {
			return unix.EPERM // as the filter says in every mode
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			r.mode &^= unix.S_ISGID
		}
		return errno(unix.Fchmodat(unix.AT_FDCWD, self, r.mode, 0))
	case owner:
		const same = ^uint32(0)
		if (r.uid == same || r.uid == st.Uid) && (r.gid == same || r.gid == st.Gid) {
			return 0
		}
		return unix.EPERM
	}
	return errno(unix.UtimesNanoAt(unix.AT_FDCWD, self, r.times[:], 0))
}

func errno(err error) unix.Errno {
	if err == nil {
		return 0
	}
	if e, ok := err.(unix.Errno); ok {
		return e
	}
	return unix.EPERM
}
