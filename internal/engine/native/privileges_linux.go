package native

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"casemate.dev/internal/engine/native/inside"
	"casemate.dev/internal/plan"
	"golang.org/x/sys/unix"
)

// Who the sandbox's processes are, and what is taken from them.

// becomeUser maps the one id. setgroups must be denied first: a process that could drop groups would gain what a group is denied
// (CVE-2018-7169).
func becomeUser(p *program, pl *plan.Plan, at *Attach) {
	p.Step("map the user id")
	if pl.Mode == plan.Root {
		p.prctl(unix.PR_SET_DUMPABLE, 1) // changing the thread's ids cleared it, and /proc/self would be root's
	}
	if at.OOMScore > 0 {
		p.writeFile("/proc/self/oom_score_adj", fmt.Sprint(at.OOMScore))
	}
	p.writeFile("/proc/self/setgroups", "deny")
	p.writeFile("/proc/self/uid_map", fmt.Sprintf("%d %d 1\n", pl.User.UID, pl.User.UID))
	p.writeFile("/proc/self/gid_map", fmt.Sprintf("%d %d 1\n", pl.User.GID, pl.User.GID))
	if pl.Mode == plan.Root { // the saved id is still root's
		p.Call(unix.SYS_SETRESGID, inside.Int(pl.User.GID), inside.Int(pl.User.GID), inside.Int(pl.User.GID))
		p.Call(unix.SYS_SETRESUID, inside.Int(pl.User.UID), inside.Int(pl.User.UID), inside.Int(pl.User.UID))
	}
	p.Step("die with the supervisor")
	p.prctl(unix.PR_SET_PDEATHSIG, uint64(unix.SIGKILL))
	p.Step("own session keyring")
	p.Try(unix.ENOSYS, unix.SYS_KEYCTL, inside.Int(unix.KEYCTL_JOIN_SESSION_KEYRING), zero)
}

// dropCapabilities empties all five sets for pid 1 and everything after it (the ambient one falls with the inheritable one), and locks the bits that could give some back.
func dropCapabilities(p *program, at *Attach) {
	p.Step("drop capabilities")
	for c := 0; c <= at.LastCap; c++ {
		p.prctl(unix.PR_CAPBSET_DROP, uint64(c))
	}
	const locked = 1<<0 | 1<<1 | 1<<2 | 1<<3 | 1<<5 | 1<<6 | 1<<7 // NOROOT, NO_SETUID_FIXUP, KEEP_CAPS off, NO_CAP_AMBIENT_RAISE, each locked
	p.prctl(unix.PR_SET_SECUREBITS, locked)
	header := bytesOf(p, unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3})
	p.Call(unix.SYS_CAPSET, header, bytesOf(p, [2]unix.CapUserData{}))
	p.Step("no new privileges")
	p.prctl(unix.PR_SET_NO_NEW_PRIVS, 1)
}

// filter installs the system call filter, the last thing that the set-up needs privileges of any kind for.
func filter(p *program, pl *plan.Plan, at *Attach) []handle {
	p.Step("system call filter")
	code := p.Bytes(unsafe.Slice((*byte)(unsafe.Pointer(&at.Filter[0])), len(at.Filter)*int(unsafe.Sizeof(at.Filter[0]))))
	length := make([]byte, 8)
	binary.NativeEndian.PutUint16(length, uint16(len(at.Filter)))
	prog := p.Bytes(append(length, make([]byte, 8)...))
	p.Pointer(prog, 8, code)
	if !pl.Syscalls.Rename && !pl.Syscalls.Metadata {
		p.Call(unix.SYS_SECCOMP, inside.Int(unix.SECCOMP_SET_MODE_FILTER), zero, prog)
		return nil
	}
	flags := unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
	if at.KillableWait {
		flags |= unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	}
	fd := p.Get(unix.SYS_SECCOMP, inside.Int(unix.SECCOMP_SET_MODE_FILTER), inside.Int(flags), prog)
	return []handle{{HandleCalls, fd}}
}
