package native

import (
	"strconv"
	"unsafe"

	"casemate.dev/internal/engine/native/inside"
	"golang.org/x/sys/unix"
)

// How the sandbox is held to its share of the machine.

// joinLimits joins the cgroups before anything that could use resources. The namespace comes after it: its root is the cgroup one is in.
func joinLimits(p *program, at *Attach) {
	if len(at.Join) == 0 {
		return
	}
	joinLimitsOnly(p, at)
	p.Step("own cgroup namespace")
	p.Call(unix.SYS_UNSHARE, inside.Int(unix.CLONE_NEWCGROUP))
}

func joinLimitsOnly(p *program, at *Attach) {
	if len(at.Join) > 0 {
		p.Step("join the cgroups")
	}
	for _, fd := range at.Join {
		p.Call(unix.SYS_WRITE, inside.Int(fd), p.String("0"), inside.Int(1))
	}
}

func rlimits(p *program, at *Attach) {
	if at.CPUs != nil {
		p.Step("limit processors")
		p.Call(unix.SYS_SCHED_SETAFFINITY, zero, inside.Int(unsafe.Sizeof(*at.CPUs)), bytesOf(p, *at.CPUs))
	}
	for _, r := range at.Rlimits {
		p.Step("limit " + resource(r.Resource))
		p.Call(unix.SYS_PRLIMIT64, zero, inside.Int(r.Resource), bytesOf(p, unix.Rlimit{Cur: r.Soft, Max: r.Hard}), zero)
	}
}

func resource(number int) string {
	switch number {
	case unix.RLIMIT_CORE:
		return "core files"
	case unix.RLIMIT_FSIZE:
		return "file size"
	case unix.RLIMIT_NOFILE:
		return "open files"
	case unix.RLIMIT_NPROC:
		return "processes"
	}
	return "resource " + strconv.Itoa(number)
}
