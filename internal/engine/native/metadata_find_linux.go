package native

import (
	"fmt"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ownTree is a directory of the sandbox's own, with everything below it on the same mount.
type ownTree struct {
	fd    int
	mount uint64   // the mount's number
	names []string // how paths to it begin: as it was asked for, and as the kernel says
}

func openTree(dir string) (ownTree, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return ownTree{}, err
	}
	t := ownTree{fd: fd, names: []string{path.Clean(dir)}}
	where, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err == nil {
		t.mount, err = mountOf(fd)
	}
	if err != nil {
		unix.Close(fd)
		return ownTree{}, err
	}
	if where != t.names[0] {
		t.names = append(t.names, where)
	}
	return t, nil
}

func mountOf(fd int) (uint64, error) {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st)
	if err == nil && st.Mask&unix.STATX_MNT_ID == 0 {
		err = unix.ENOTSUP
	}
	return st.Mnt_id, err
}

// find opens what a call is about, if it lies in a tree of the sandbox's own. Nothing is opened but for its name (O_PATH), and by nobody's
// rights: a path is resolved below the tree's directory by the kernel, which lets no "..", link or mount lead out of it (openat2(2)).
func (m *Metadata) find(pid int, r request) (int, unix.Errno) {
	if r.itself {
		return m.descriptor(pid, r.dir)
	}
	name := r.name
	if !path.IsAbs(name) {
		dir, err := os.Readlink(linkOf(pid, r.dir))
		if err != nil {
			return -1, unix.EBADF
		}
		if !path.IsAbs(dir) {
			return -1, unix.ENOTDIR
		}
		name = dir + "/" + name
	}
	name = squeeze(name)
	if n, rest, ok := descriptorIn(pid, name); ok {
		if rest == "" && !r.nofollow {
			return m.descriptor(pid, n)
		}
		dir, err := os.Readlink(linkOf(pid, n))
		if rest == "" || err != nil || !path.IsAbs(dir) {
			return -1, unix.EPERM
		}
		name = dir + rest
	}
	t, rel, ok := m.place(name)
	if !ok {
		return -1, unix.EPERM
	}
	return m.open(t, rel, r.nofollow)
}

func linkOf(pid int, fd int32) string {
	if fd == unix.AT_FDCWD {
		return fmt.Sprintf("/proc/%d/cwd", pid)
	}
	return fmt.Sprintf("/proc/%d/fd/%d", pid, fd)
}

// descriptorIn knows the names of the caller's own descriptors, which would be ours if we resolved them: C libraries use them to change what
// they hold open by O_PATH.
func descriptorIn(pid int, name string) (n int32, rest string, ok bool) {
	for _, prefix := range []string{"/proc/self/fd/", "/proc/thread-self/fd/", fmt.Sprintf("/proc/%d/fd/", pid), "/dev/fd/"} {
		if after, found := strings.CutPrefix(name, prefix); found {
			digits, _, _ := strings.Cut(after, "/")
			v, err := strconv.ParseInt(digits, 10, 32)
			return int32(v), after[len(digits):], err == nil && v >= 0
		}
	}
	return 0, "", false
}

// descriptor opens what a descriptor of the caller stands for. It may be a file that has no name any more.
func (m *Metadata) descriptor(pid int, fd int32) (int, unix.Errno) {
	own, err := unix.Open(linkOf(pid, fd), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return -1, unix.EBADF
	} else if err != nil {
		return -1, unix.EPERM
	}
	if !m.owns(own) {
		unix.Close(own)
		return -1, unix.EPERM
	}
	return own, 0
}

// owns says whether a file lies in one of the trees. The kernel names it as of now; the number of the mount keeps out what has the same name
// in another mount namespace. Hard links are no way around: Landlock lets none be made between the trees and anything outside.
func (m *Metadata) owns(fd int) bool {
	where, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return false
	}
	t, _, ok := m.place(where)
	if !ok {
		return false
	}
	mount, err := mountOf(fd)
	return err == nil && mount == t.mount
}

// place finds the tree that an absolute path leads into, by its text.
func (m *Metadata) place(name string) (t *ownTree, rel string, ok bool) {
	for _, name := range []string{name, path.Clean(name)} {
		for i := range m.trees {
			for _, own := range m.trees[i].names {
				if rest, found := strings.CutPrefix(name, own); found && (rest == "" || rest[0] == '/') {
					return &m.trees[i], "." + rest, true
				}
			}
		}
	}
	return nil, "", false
}

// squeeze takes out what means nothing in a path: "//" and "/./".
func squeeze(name string) string {
	for strings.Contains(name, "/./") {
		name = strings.ReplaceAll(name, "/./", "/")
	}
	for strings.Contains(name, "//") {
		name = strings.ReplaceAll(name, "//", "/")
	}
	return name
}

// Bounds of one search: links that lead from tree to tree, and times that the kernel sees renames elsewhere and says "again".
const (
	maxLinks = 8
	maxAgain = 64
)

// open resolves a path below a tree. A link that names an absolute path is followed by us, into the trees only.
func (m *Metadata) open(t *ownTree, rel string, nofollow bool) (int, unix.Errno) {
	for range maxLinks {
		fd, err := t.open(rel, nofollow)
		switch err {
		case nil:
			return fd, 0
		case unix.EXDEV:
		default:
			return -1, errno(err)
		}
		name, ok := t.leaves(rel, nofollow)
		if !ok {
			return -1, unix.EPERM
		}
		if t, rel, ok = m.place(name); !ok {
			return -1, unix.EPERM
		}
	}
	return -1, unix.ELOOP
}

func (t *ownTree) open(rel string, nofollow bool) (fd int, err error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV}
	if nofollow {
		how.Flags |= unix.O_NOFOLLOW
	}
	for range maxAgain {
		if fd, err = unix.Openat2(t.fd, rel, &how); err != unix.EAGAIN {
			break
		}
	}
	return fd, err
}

// leaves finds where a path leaves the tree, and the absolute path that it goes on with, once the link there has been followed or the ".." by
// which it left been taken away.
func (t *ownTree) leaves(rel string, nofollow bool) (name string, ok bool) {
	parts := strings.Split(rel, "/")
	for i := range parts {
		if nofollow && i == len(parts)-1 {
			break
		}
		dir, rest := strings.Join(parts[:i], "/"), parts[i+1:]
		target, leads, err := t.link(strings.Join(parts[:i+1], "/"))
		if err != nil {
			break
		}
		if !leads {
			continue
		}
		if !path.IsAbs(target) {
			target = t.names[0] + "/" + dir + "/" + target
		}
		return squeeze(strings.Join(append([]string{target}, rest...), "/")), true
	}
	clean := path.Clean(t.names[0] + "/" + rel)
	return clean, !within(clean, t.names[0])
}

// link reads a link that leads out of the tree.
func (t *ownTree) link(rel string) (target string, leads bool, err error) {
	fd, err := t.open(rel, true)
	if err != nil {
		return "", false, err
	}
	defer unix.Close(fd)
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil || n == 0 || n == len(buf) {
		return "", false, nil // no link
	}
	through, err := t.open(rel, false)
	if err == nil {
		unix.Close(through)
	}
	return string(buf[:n]), err == unix.EXDEV, nil
}

// within says whether inner is outer or below it. Both must be clean.
func within(inner, outer string) bool {
	return inner == outer || strings.HasPrefix(inner, outer+"/")
}

// listens tries to get a listener, on a thread of its own that ends with it.
func listens() bool {
	runtime.LockOSThread() // and never unlocked: the thread must not be used again
	if unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != nil {
		return false
	}
	allow := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}
	prog := unix.SockFprog{Len: 1, Filter: &allow}
	fd, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&prog)))
	if e != 0 {
		return false
	}
	unix.Close(int(fd))
	return true
}
