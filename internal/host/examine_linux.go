package host

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Check is one thing that was looked at or tried.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Needed bool   `json:"needed"` // without it the native engine refuses, or falls back where the policy allows it
	Detail string `json:"detail"` // what was found; when not OK, the failed step and the likely cause
	Remedy string `json:"remedy,omitempty"`
}

// Examine tries, in children that leave nothing behind, each mechanism that the native engine needs. A layer is tried in dir, which must be
// where sandboxes are kept. redirect is what leads connections to the gate, as the engine would send it. Run as root it tries as root, although the engine
// will take on the sandbox's user first.
func Examine(f Facts, dir string, redirect []byte) []Check {
	checks := []Check{kernel(f)}
	for _, try := range []func(Facts, string) Check{
		userNamespace, otherNamespaces, mounting, mountByDescriptor, layer, proc, loopback, gate(redirect), landlock, filter,
	} {
		checks = append(checks, try(f, dir))
	}
	return append(checks, watches(f), surroundings(f))
}

func kernel(f Facts) Check {
	c := Check{Name: "kernel", Needed: true, OK: f.AtLeast(5, 12) && f.WSL != 1, Detail: "Linux " + f.Release + " on " + f.Arch}
	if !c.OK {
		c.Remedy = "use Linux 5.12 or newer (5.13 for Landlock)"
	}
	return c
}

// result makes a check of an attempt.
func result(f Facts, c Check, t *attempt) Check {
	step, errno := t.try()
	return judged(f, c, step, errno)
}

func judged(f Facts, c Check, step string, errno syscall.Errno) Check {
	c.OK = errno == 0
	if !c.OK {
		cause, remedy := Diagnose(errno, step, f)
		c.Detail = fmt.Sprintf("step %q: %v", step, errno)
		if cause != "" {
			c.Detail += ": " + cause
		}
		c.Remedy = remedy
	}
	return c
}

func userNamespace(f Facts, _ string) Check {
	return result(f, Check{Name: "user namespaces", Needed: true, Detail: "can be made, and our own id mapped"}, newAttempt(unix.CLONE_NEWUSER).mapUser(f))
}

func otherNamespaces(f Facts, _ string) Check {
	kinds := []struct {
		name string
		flag uint64
	}{
		{"mount", unix.CLONE_NEWNS}, {"pid", unix.CLONE_NEWPID}, {"net", unix.CLONE_NEWNET},
		{"ipc", unix.CLONE_NEWIPC}, {"uts", unix.CLONE_NEWUTS}, {"cgroup", unix.CLONE_NEWCGROUP},
	}
	var good []string
	for _, k := range kinds {
		c := result(f, Check{Name: "other namespaces", Needed: true}, newAttempt(unix.CLONE_NEWUSER|k.flag))
		if !c.OK {
			c.Detail = k.name + " namespace: " + c.Detail
			return c
		}
		good = append(good, k.name)
	}
	return Check{Name: "other namespaces", Needed: true, OK: true, Detail: strings.Join(good, ", ")}
}

// inMounts starts an attempt in new user, mount and pid namespaces with the host's mounts out of reach.
func inMounts(f Facts) *attempt {
	return newAttempt(unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID).mapUser(f).private()
}

func mounting(f Facts, dir string) Check {
	t := inMounts(f).at("mount "+dir).mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=4k")
	t.call(unix.SYS_MKDIRAT, cwd, t.text(dir+"/pts"), 0o755)
	t.at("mount /dev/pts").mount("devpts", dir+"/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666")
	return result(f, Check{Name: "mounts", Needed: true, Detail: "memory and terminal file systems can be mounted"}, t)
}

func mountByDescriptor(f Facts, dir string) Check {
	t := inMounts(f).at("open /")
	t.add(call{nr: unix.SYS_OPEN_TREE, a: [6]uintptr{cwd, t.text("/"), unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_RECURSIVE}, keepFD: true})
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
	t.keep = append(t.keep, attr)
	t.add(call{nr: unix.SYS_MOUNT_SETATTR, a: [6]uintptr{0, t.text(""), unix.AT_EMPTY_PATH | unix.AT_RECURSIVE, uintptr(unsafe.Pointer(attr)), unsafe.Sizeof(*attr)}, onFD: true})
	t.at("mount " + dir).add(call{nr: unix.SYS_MOVE_MOUNT, a: [6]uintptr{0, t.text(""), cwd, t.text(dir), unix.MOVE_MOUNT_F_EMPTY_PATH}, onFD: true})
	return result(f, Check{Name: "mounts by descriptor", Needed: true, Detail: "open_tree, mount_setattr and move_mount work, recursively"}, t)
}

// layer mounts an overlay whose layers lie in dir. What it makes there is gone afterwards.
func layer(f Facts, dir string) Check {
	c := Check{Name: "change layer", Needed: true}
	place, err := os.MkdirTemp(dir, "doctor-")
	if err != nil {
		c.Detail, c.Remedy = err.Error(), "make the state directory writable, or set XDG_STATE_HOME to one that is"
		return c
	}
	defer os.RemoveAll(place)
	at := func(name string) string { return filepath.Join(place, name) }
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(at(name), 0o700); err != nil {
			c.Detail = err.Error()
			return c
		}
	}
	var fs unix.Statfs_t
	unix.Statfs(place, &fs)
	c.Detail = "an overlay can have its layer in " + dir + " (" + fileSystem(int64(fs.Type)) + ")"
	if strings.ContainsAny(place, `,:\`) { // would need the escapes of overlay's options; the engine passes descriptors
		c.Detail = "not tried: the state directory's name contains , : or \\"
		return c
	}
	t := inMounts(f).at("overlay of " + dir)
	t.mount("overlay", at("merged"), "overlay", unix.MS_NOSUID|unix.MS_NODEV, "userxattr,lowerdir="+at("lower")+",upperdir="+at("upper")+",workdir="+at("work"))
	t.call(unix.SYS_MKDIRAT, cwd, t.text(at("merged/d")), 0o755)
	c = result(f, c, t)
	if !c.OK {
		c.Detail += " (" + dir + " is on " + fileSystem(int64(fs.Type)) + ")"
	}
	return c
}

func fileSystem(magic int64) string {
	switch magic {
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlay"
	case unix.NFS_SUPER_MAGIC:
		return "nfs"
	case unix.ECRYPTFS_SUPER_MAGIC:
		return "ecryptfs"
	case unix.F2FS_SUPER_MAGIC:
		return "f2fs"
	case unix.FUSE_SUPER_MAGIC:
		return "fuse"
	case unix.MSDOS_SUPER_MAGIC:
		return "fat"
	case unix.V9FS_MAGIC:
		return "9p"
	case 0x2fc12fc1:
		return "zfs"
	}
	return fmt.Sprintf("file system %#x", magic)
}

func proc(f Facts, _ string) Check {
	t := inMounts(f).at("mount /proc").mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	return result(f, Check{Name: "process file system", Needed: true, Detail: "a new /proc can be mounted"}, t)
}

func loopback(f Facts, _ string) Check {
	t := newAttempt(unix.CLONE_NEWUSER | unix.CLONE_NEWNET).mapUser(f).at("loopback")
	t.add(call{nr: unix.SYS_SOCKET, a: [6]uintptr{unix.AF_INET, unix.SOCK_DGRAM | unix.SOCK_CLOEXEC}, keepFD: true})
	request := make([]byte, 40) // struct ifreq: name, then flags
	copy(request, "lo")
	request[16] = unix.IFF_UP
	t.keep = append(t.keep, request)
	t.add(call{nr: unix.SYS_IOCTL, a: [6]uintptr{0, unix.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request[0]))}, onFD: true})
	return result(f, Check{Name: "own network", Needed: true, Detail: "an empty network with a working loopback"}, t)
}

// gate tries to lead connections to a gate. The kernel's answer comes as a message, which the child leaves in memory that is shared with us.
func gate(redirect []byte) func(Facts, string) Check {
	return func(f Facts, _ string) Check {
		const step = "redirect to the gate (nf_tables)"
		c := Check{Name: "gate (nf_tables)", Detail: "connections of a sandbox can be led to the gate, so its network can be opened"}
		answer, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
		if err != nil {
			return judged(f, c, step, err.(syscall.Errno))
		}
		defer unix.Munmap(answer)
		t := newAttempt(unix.CLONE_NEWUSER | unix.CLONE_NEWNET).mapUser(f).at(step)
		t.keep = append(t.keep, redirect)
		t.add(call{nr: unix.SYS_SOCKET, a: [6]uintptr{unix.AF_NETLINK, unix.SOCK_RAW | unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER}, keepFD: true})
		t.add(call{nr: unix.SYS_SENDTO, a: [6]uintptr{0, uintptr(unsafe.Pointer(&redirect[0])), uintptr(len(redirect))}, onFD: true})
		t.add(call{nr: unix.SYS_RECVFROM, a: [6]uintptr{0, uintptr(unsafe.Pointer(&answer[0])), uintptr(len(answer)), unix.MSG_DONTWAIT}, onFD: true})
		if c = result(f, c, t); c.OK {
			c = judged(f, c, step, netlinkError(answer))
		}
		return c
	}
}

// netlinkError is what the kernel says in a message of type NLMSG_ERROR: 0 is a yes (netlink(7)).
func netlinkError(answer []byte) syscall.Errno {
	if kind := binary.NativeEndian.Uint16(answer[4:]); kind != unix.NLMSG_ERROR {
		return unix.EPROTO
	}
	return syscall.Errno(-int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])))
}

func noNewPrivs(t *attempt) *attempt {
	return t.at("no new privileges").call(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1)
}

func landlock(f Facts, _ string) Check {
	c := Check{Name: "Landlock", Detail: fmt.Sprintf("ABI %d", f.Landlock)}
	if f.Landlock == 0 {
		c.Detail, c.Remedy = Diagnose(unix.EOPNOTSUPP, "Landlock rules", f)
		return c
	}
	t := noNewPrivs(newAttempt(0)).at("Landlock rules")
	handled := new(uint64)
	*handled = unix.LANDLOCK_ACCESS_FS_WRITE_FILE
	t.keep = append(t.keep, handled)
	t.add(call{nr: unix.SYS_LANDLOCK_CREATE_RULESET, a: [6]uintptr{uintptr(unsafe.Pointer(handled)), 8, 0}, keepFD: true})
	t.add(call{nr: unix.SYS_LANDLOCK_RESTRICT_SELF, onFD: true})
	return result(f, c, t)
}

func filter(f Facts, _ string) Check {
	t := noNewPrivs(newAttempt(0)).at("system call filter")
	allow := &[1]unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}}
	program := &unix.SockFprog{Len: 1, Filter: &allow[0]}
	t.keep = append(t.keep, allow, program)
	t.call(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(program)))
	return result(f, Check{Name: "system call filter", Needed: true, Detail: "can be installed"}, t)
}

// fewWatches is what a project of medium size and an editor need between them.
const fewWatches = 65536

func watches(f Facts) Check {
	c := Check{Name: "file watches", OK: f.InotifyWatches >= fewWatches, Detail: fmt.Sprintf("%d watches, shared with your editor", f.InotifyWatches)}
	if !c.OK {
		c.Detail += "; in a large project, hidden files that appear during a run may be noticed late"
		c.Remedy = sysctl("fs.inotify.max_user_watches=524288")(f)
	}
	return c
}

// surroundings reports what explains the rest.
func surroundings(f Facts) Check {
	says := []string{fmt.Sprintf("uid %d", f.EUID)}
	add := func(ok bool, s string) {
		if ok {
			says = append(says, s)
		}
	}
	add(f.Container != "", "maybe a container ("+f.Container+")")
	add(f.InUserNamespace, "in a user namespace")
	add(f.WSL != 0, fmt.Sprintf("WSL %d", f.WSL))
	add(f.Inside != "", fmt.Sprintf("in the sandbox %q", f.Inside))
	add(f.AppArmor, "AppArmor")
	add(f.SELinux != "", "SELinux "+f.SELinux)
	return Check{Name: "surroundings", OK: true, Detail: strings.Join(says, ", ")}
}
