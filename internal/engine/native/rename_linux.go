package native

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Renames helps directories of the project to be renamed inside. In an overlay that an ordinary user mounts, rename(2) of a directory that
// comes from below gives EXDEV, and programs that do not copy by themselves, such as git mv, fail. So the filter announces every rename
// (seccomp_unotify(2)); when its source is such a directory it is first made to lie wholly in the layer, and then the kernel goes on with
// the call as it is.
//
// Letting the call continue is no security decision: the caller could change the path in between, and would only get the EXDEV that it
// would have got anyway. Everything the supervisor does here it does on descriptors of the sandbox's own overlay, never across a mount or a
// link.
type Renames struct {
	FD        int      // the filter's notifications
	Workspace int      // the merged workspace
	Path      string   // where the workspace is, inside
	Project   string   // the lower directory on the host
	Upper     string   // the upper directory on the host
	Mounts    []string // what is mounted in the workspace, inside
	FSUID     int      // the sandbox's user: what is made here belongs to it
	FSGID     int
}

// What one rename may cost the supervisor, which cannot watch limits meanwhile. Beyond it the caller gets the EXDEV.
const maxMoved = 20_000

// seccompNotif and seccompNotifResp are the kernel's structures of seccomp_unotify(2).
type seccompNotif struct {
	id         uint64
	pid, flags uint32
	data       struct {
		nr   int32
		arch uint32
		ip   uint64
		args [6]uint64
	}
}

type seccompNotifResp struct {
	id    uint64
	val   int64
	err   int32
	flags uint32
}

// Answer takes one notification and answers it. It never blocks on the sandbox.
func (r *Renames) Answer() {
	var n seccompNotif
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(r.FD), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n))); e != 0 {
		return // the caller is gone
	}
	r.prepare(&n)
	resp := seccompNotifResp{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	unix.Syscall(unix.SYS_IOCTL, uintptr(r.FD), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&resp)))
}

// prepare makes the source of the rename a directory of the layer if it is one of the project. Whatever cannot be done is left: the kernel
// answers the caller.
func (r *Renames) prepare(n *seccompNotif) {
	base, name := int32(unix.AT_FDCWD), n.data.args[0]
	if n.data.nr != sysRename {
		base, name = int32(n.data.args[0]), n.data.args[1]
	}
	old, ok := readString(int(n.pid), uintptr(name))
	if !ok {
		return
	}
	parent, leaf, ok := r.locate(int(n.pid), base, old)
	if !ok {
		return
	}
	defer unix.Close(parent)
	if !r.fromBelow(parent, leaf) || r.holdsMount(parent, leaf) {
		return
	}
	restore := setFSUser(r.FSUID, r.FSGID)
	defer restore()
	m := mover{left: maxMoved, fromBelow: r.fromBelow}
	m.lift(parent, leaf)
}

// readString reads a path from the memory of the caller. The process is stopped in its call; another thread of it may change the bytes,
// which makes this path a hint and nothing more.
func readString(pid int, addr uintptr) (string, bool) {
	buf := make([]byte, unix.PathMax)
	length := len(buf)
	for length > 0 {
		local := []unix.Iovec{{Base: &buf[0]}}
		local[0].SetLen(length)
		n, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: addr, Len: length}}, 0)
		if i := bytes.IndexByte(buf[:max(n, 0)], 0); i >= 0 {
			return string(buf[:i]), true
		}
		if err != unix.EFAULT {
			return "", false
		}
		length = int(-addr & 4095) // the string may lie before an unmapped page
		if length == 0 || length >= len(buf) {
			return "", false
		}
		buf = buf[:length]
	}
	return "", false
}

// locate opens the directory that holds the named entry, if the entry is a directory of the workspace.
func (r *Renames) locate(pid int, base int32, name string) (parent int, leaf string, ok bool) {
	name = strings.TrimRight(name, "/")
	dir, leaf := path.Split(name)
	if leaf == "" || leaf == "." || leaf == ".." {
		return -1, "", false
	}
	from := r.Workspace
	if path.IsAbs(name) {
		if dir != r.Path+"/" && !strings.HasPrefix(dir, r.Path+"/") {
			return -1, "", false
		}
		dir = strings.TrimLeft(dir[len(r.Path):], "/")
	} else {
		link := fmt.Sprintf("/proc/%d/cwd", pid)
		if base != unix.AT_FDCWD {
			link = fmt.Sprintf("/proc/%d/fd/%d", pid, base)
		}
		fd, err := unix.Open(link, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, "", false
		}
		defer unix.Close(fd)
		from = fd
	}
	if dir == "" {
		dir = "."
	}
	parent, err := unix.Openat2(from, dir, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV})
	if err != nil {
		return -1, "", false
	}
	if !isDirectory(parent, leaf) || !sameDevice(parent, r.Workspace) {
		unix.Close(parent)
		return -1, "", false
	}
	return parent, leaf, true
}

func isDirectory(parent int, name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// sameDevice: every directory of an overlay has the overlay's own device number, which nothing else has.
func sameDevice(a, b int) bool {
	var sa, sb unix.Stat_t
	return unix.Fstat(a, &sa) == nil && unix.Fstat(b, &sb) == nil && sa.Dev == sb.Dev
}

// fromBelow says whether a directory of the workspace exists in the project too and is not replaced as a whole in the layer.
func (r *Renames) fromBelow(parent int, name string) bool {
	where, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", parent))
	if err != nil || (where != r.Path && !strings.HasPrefix(where, r.Path+"/")) {
		return false
	}
	rel := path.Join(strings.TrimPrefix(where[len(r.Path):], "/"), name)
	var st unix.Stat_t
	if unix.Lstat(path.Join(r.Project, rel), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return false
	}
	for dir := rel; dir != "."; dir = path.Dir(dir) { // an opaque directory cuts off everything below it
		var value [4]byte
		if n, err := unix.Lgetxattr(path.Join(r.Upper, dir), "user.overlay.opaque", value[:]); err == nil && n == 1 && value[0] == 'y' {
			return false
		}
	}
	return true
}

// holdsMount says whether something is mounted in the sandbox at an entry of the workspace or below it. The supervisor is in another mount namespace,
// where the kernel would let it rename that: what is read-only inside would be moved away, and its name be free.
func (r *Renames) holdsMount(parent int, name string) bool {
	where, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", parent))
	if err != nil {
		return true
	}
	entry := path.Join(where, name)
	return slices.ContainsFunc(r.Mounts, func(target string) bool { return target == entry || strings.HasPrefix(target, entry+"/") })
}

// mover lifts directories into the layer, a bounded number of entries at a time.
type mover struct {
	left      int
	fromBelow func(parent int, name string) bool
}

// lift replaces a directory by a new one that holds the same entries. A new directory lies wholly in the layer.
func (m *mover) lift(parent int, name string) bool {
	old, err := unix.Openat2(parent, name, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV})
	if err != nil {
		return false
	}
	dir := os.NewFile(uintptr(old), name)
	defer dir.Close()
	var st unix.Stat_t
	if unix.Fstat(old, &st) != nil {
		return false
	}
	entries, err := dir.ReadDir(m.left + 1)
	if m.left -= len(entries); m.left < 0 || (err != nil && len(entries) > 0) {
		return false
	}
	const temp = ".casemate-rename"
	if unix.Mkdirat(parent, temp, 0o700) != nil {
		return false
	}
	neu, err := unix.Openat(parent, temp, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	defer unix.Close(neu)
	if !m.move(old, neu, entries) {
		m.back(neu, old)
		unix.Unlinkat(parent, temp, unix.AT_REMOVEDIR)
		return false
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	unix.Fchmod(neu, st.Mode&0o7777)
	if unix.Unlinkat(parent, name, unix.AT_REMOVEDIR) != nil || unix.Renameat(parent, temp, parent, name) != nil {
		m.back(neu, old)
		unix.Unlinkat(parent, temp, unix.AT_REMOVEDIR)
		return false
	}
	unix.UtimesNanoAt(parent, name, times, unix.AT_SYMLINK_NOFOLLOW)
	return true
}

func (m *mover) move(old, neu int, entries []os.DirEntry) bool {
	for _, e := range entries {
		if e.IsDir() && m.fromBelow(old, e.Name()) && !m.lift(old, e.Name()) {
			return false
		}
		if unix.Renameat(old, e.Name(), neu, e.Name()) != nil {
			return false
		}
	}
	return true
}

// back returns what was moved, so that a rename that cannot be helped leaves the tree as it was.
func (m *mover) back(from, to int) {
	fd, err := unix.Dup(from)
	if err != nil {
		return
	}
	dir := os.NewFile(uintptr(fd), "moved")
	defer dir.Close()
	unix.Seek(fd, 0, 0)
	entries, _ := dir.ReadDir(-1)
	for _, e := range entries {
		unix.Renameat(from, e.Name(), to, e.Name())
	}
}

// setFSUser makes what this thread creates belong to the sandbox's user: only root is ever somebody else.
func setFSUser(uid, gid int) func() {
	if os.Geteuid() != 0 {
		return func() {}
	}
	unix.RawSyscall(unix.SYS_SETFSGID, uintptr(gid), 0, 0)
	unix.RawSyscall(unix.SYS_SETFSUID, uintptr(uid), 0, 0)
	return func() {
		unix.RawSyscall(unix.SYS_SETFSUID, 0, 0, 0)
		unix.RawSyscall(unix.SYS_SETFSGID, 0, 0, 0)
	}
}
