package native

import (
	"encoding/binary"

	"casemate.dev/internal/engine/native/inside"
	"casemate.dev/internal/plan"
	"golang.org/x/sys/unix"
)

// Landlock access rights by the ABI version that brought them (landlock(7)).
const (
	fsRead  = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	fsFile  = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	fsNodes = unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK
)

func handledAccess(abi int) uint64 {
	bits := 13
	switch {
	case abi >= 5:
		bits = 16 // LANDLOCK_ACCESS_FS_IOCTL_DEV
	case abi >= 3:
		bits = 15 // LANDLOCK_ACCESS_FS_TRUNCATE
	case abi == 2:
		bits = 14 // LANDLOCK_ACCESS_FS_REFER
	}
	return 1<<bits - 1
}

// landlock mirrors the mounts as a second wall: reading everywhere below the root that was built, writing only where a writable mount is.
// It does not cover chmod, chown, utimes, xattrs and stat; those are confined by the mounts alone.
func landlock(p *program, pl *plan.Plan, opened map[string]inside.Slot) {
	abi := pl.Landlock.ABI
	if abi == 0 {
		return
	}
	p.Step("Landlock rules")
	attr := make([]byte, 8, 24) // struct landlock_ruleset_attr: file accesses, network accesses, scopes
	binary.NativeEndian.PutUint64(attr, handledAccess(abi))
	if abi >= 6 {
		attr = attr[:24]
		binary.NativeEndian.PutUint64(attr[16:], unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET|unix.LANDLOCK_SCOPE_SIGNAL)
	}
	rules := p.Get(unix.SYS_LANDLOCK_CREATE_RULESET, p.Bytes(attr), inside.Int(len(attr)), zero)
	handled := handledAccess(abi)
	allow := func(path string, access uint64) {
		rule := make([]byte, 12) // struct landlock_path_beneath_attr, packed
		binary.NativeEndian.PutUint64(rule, access&handled)
		at := p.Bytes(rule)
		fd, already := opened[path]
		if !already {
			fd = p.open(path, unix.O_PATH)
		}
		p.Store(at.Offset(8), fd)
		p.Call(unix.SYS_LANDLOCK_ADD_RULE, rules.Arg(), inside.Int(unix.LANDLOCK_RULE_PATH_BENEATH), at, zero)
		if pl.Mode == plan.Landlock { // there may be more rules than files that may be open
			p.Call(unix.SYS_CLOSE, fd.Arg())
		}
	}
	if pl.Mode != plan.Landlock {
		allow("/dev", fsRead|unix.LANDLOCK_ACCESS_FS_WRITE_FILE|unix.LANDLOCK_ACCESS_FS_IOCTL_DEV)
		allow("/proc", fsRead|unix.LANDLOCK_ACCESS_FS_WRITE_FILE)
	}
	for _, r := range pl.Landlock.Allow {
		access := uint64(fsRead)
		if r.Write {
			access = handled &^ fsNodes
		}
		if r.List {
			access = unix.LANDLOCK_ACCESS_FS_READ_DIR
		}
		if r.File {
			access &= fsFile
		}
		allow(r.Path, access)
	}
	p.Call(unix.SYS_LANDLOCK_RESTRICT_SELF, rules.Arg(), zero)
}
