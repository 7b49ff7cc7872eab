package native

import (
	"encoding/binary"
	"strings"
	"unsafe"

	"casemate.dev/internal/engine/native/inside"
	"golang.org/x/sys/unix"
)

// program adds the calls that the set-up needs, with their structures, to the plain list of package inside.
type program struct{ inside.Program }

var (
	here = inside.Int(unix.AT_FDCWD)
	zero = inside.Int(0)
)

// bytesOf copies a kernel structure into the program's memory. T must not contain Go pointers.
func bytesOf[T any](p *program, v T) inside.Arg {
	return p.Bytes(unsafe.Slice((*byte)(unsafe.Pointer(&v)), unsafe.Sizeof(v)))
}

func (p *program) open(path string, flags int) inside.Slot {
	return p.Get(unix.SYS_OPENAT, here, p.String(path), inside.Int(flags|unix.O_CLOEXEC), zero)
}

// openBeneath opens a path below the current directory as a place to mount on. The path may lead through a directory that an earlier run
// could write, so no link is followed (the lesson of CVE-2025-31133 and its kin).
func (p *program) openBeneath(path string) inside.Slot {
	how := bytesOf(p, unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS})
	return p.Get(unix.SYS_OPENAT2, here, p.String(path), how, inside.Int(unix.SizeofOpenHow))
}

func (p *program) writeFile(path, content string) {
	fd := p.open(path, unix.O_WRONLY)
	p.Call(unix.SYS_WRITE, fd.Arg(), p.String(content), inside.Int(len(content)))
}

// sameFile fails unless the descriptor is the file that was planned.
func (p *program) sameFile(fd inside.Slot, dev, ino uint64) {
	stat := p.Buffer(int(unsafe.Sizeof(unix.Stat_t{})))
	p.Call(unix.SYS_FSTAT, fd.Arg(), stat)
	want := make([]byte, 16) // st_dev and st_ino are the first two words on every 64-bit architecture
	binary.NativeEndian.PutUint64(want, dev)
	binary.NativeEndian.PutUint64(want[8:], ino)
	p.Equal(stat, p.Bytes(want), 16)
}

// device fails unless what is mounted at path is the character device major:minor: a mount source in /dev must not be something planted there.
func (p *program) device(path inside.Arg, major, minor uint32) {
	stat := p.Buffer(int(unsafe.Sizeof(unix.Stat_t{})))
	p.Call(sysNewfstatat, here, path, stat, inside.Int(unix.AT_SYMLINK_NOFOLLOW))
	var want unix.Stat_t
	want.Rdev = unix.Mkdev(major, minor)
	p.Equal(stat.Offset(unsafe.Offsetof(want.Rdev)), bytesOf(p, want.Rdev), 8)
}

const mountAttrSize = unsafe.Sizeof(unix.MountAttr{})

// clone takes a detached copy of the mount tree at path.
func (p *program) clone(path string) inside.Slot {
	return p.Get(unix.SYS_OPEN_TREE, here, p.String(path), inside.Int(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|unix.AT_NO_AUTOMOUNT|unix.AT_SYMLINK_NOFOLLOW))
}

// restrict sets attributes on a whole mount tree; MS_REMOUNT|MS_BIND would reach its top only (CVE-2021-41103's class).
func (p *program) restrict(fd inside.Slot, attributes uint64) {
	attr := bytesOf(p, unix.MountAttr{Attr_set: attributes})
	p.Call(unix.SYS_MOUNT_SETATTR, fd.Arg(), p.String(""), inside.Int(unix.AT_EMPTY_PATH|unix.AT_RECURSIVE), attr, inside.Int(mountAttrSize))
}

// attach mounts a detached tree on a path below the current directory, which must be in memory that only we have written.
func (p *program) attach(fd inside.Arg, target string) {
	p.Call(unix.SYS_MOVE_MOUNT, fd, p.String(""), here, p.String(relative(target)), inside.Int(unix.MOVE_MOUNT_F_EMPTY_PATH))
}

// attachOn mounts a detached tree on an opened directory or file.
func (p *program) attachOn(fd inside.Arg, on inside.Slot) {
	p.Call(unix.SYS_MOVE_MOUNT, fd, p.String(""), on.Arg(), p.String(""), inside.Int(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
}

// readOnly makes what is mounted at path read-only, in place. A kernel without that file has nothing to protect.
func (p *program) readOnly(path string) {
	at, attr := p.String(path), bytesOf(p, unix.MountAttr{Attr_set: sealed | unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOEXEC})
	p.Try(unix.ENOENT, unix.SYS_MOUNT, at, at, zero, inside.Int(unix.MS_BIND|unix.MS_REC), zero)
	p.Try(unix.ENOENT, unix.SYS_MOUNT_SETATTR, here, at, inside.Int(unix.AT_RECURSIVE), attr, inside.Int(mountAttrSize))
}

// mount mounts a new file system on a path below the current directory, or on the root, with options that hold no comma.
func (p *program) mount(kind, target string, flags uintptr, options ...string) {
	at := "/"
	if target != "/" {
		at = relative(target)
	}
	p.Call(unix.SYS_MOUNT, p.String(kind), p.String(at), p.String(kind), inside.Int(flags), p.String(strings.Join(options, ",")))
}

// filesystem creates a file system with options, each "key=value" or "flag", and returns a detached mount of it.
func (p *program) filesystem(kind string, attributes uint64, options ...string) inside.Slot {
	fs := p.Get(unix.SYS_FSOPEN, p.String(kind), inside.Int(unix.FSOPEN_CLOEXEC))
	for _, o := range options {
		key, value, isString := strings.Cut(o, "=")
		if isString {
			p.Call(unix.SYS_FSCONFIG, fs.Arg(), inside.Int(unix.FSCONFIG_SET_STRING), p.String(key), p.String(value), zero)
		} else {
			p.Call(unix.SYS_FSCONFIG, fs.Arg(), inside.Int(unix.FSCONFIG_SET_FLAG), p.String(key), zero, zero)
		}
	}
	p.Call(unix.SYS_FSCONFIG, fs.Arg(), inside.Int(unix.FSCONFIG_CMD_CREATE), zero, zero, zero)
	return p.Get(unix.SYS_FSMOUNT, fs.Arg(), inside.Int(unix.FSMOUNT_CLOEXEC), inside.Int(attributes))
}

// statfs checks of what kind a file system is.
func (p *program) statfs(path string, kind int64) {
	buf := p.Buffer(int(unsafe.Sizeof(unix.Statfs_t{})))
	p.Call(unix.SYS_STATFS, p.String(path), buf)
	p.Equal(buf, bytesOf(p, kind), 8)
}

func (p *program) prctl(args ...uint64) {
	p.Call(unix.SYS_PRCTL, ints(args)...)
}

func ints(values []uint64) []inside.Arg {
	args := make([]inside.Arg, 5)
	for i := range args {
		args[i] = zero
		if i < len(values) {
			args[i] = inside.Int(values[i])
		}
	}
	return args
}

func relative(target string) string {
	if r := strings.TrimPrefix(target, "/"); r != "" {
		return r
	}
	return "."
}
