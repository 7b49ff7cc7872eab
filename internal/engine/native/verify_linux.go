package native

import (
	"unsafe"

	"casemate.dev/internal/engine/native/inside"
	"casemate.dev/internal/plan"
	"golang.org/x/sys/unix"
)

// What is read back before the command runs.

// verify reads back what the kernel made of the set-up. A mismatch is a failed start: nothing runs.
func verify(p *program, pl *plan.Plan, at *Attach) {
	p.Step("verify privileges")
	status := p.open("/proc/self/status", unix.O_RDONLY)
	buf := p.Buffer(4096)
	n := p.Get(unix.SYS_READ, status.Arg(), buf, inside.Int(4096))
	for _, want := range []string{
		"\nCapInh:\t0000000000000000\n", "\nCapPrm:\t0000000000000000\n", "\nCapEff:\t0000000000000000\n", "\nCapBnd:\t0000000000000000\n",
		"\nCapAmb:\t0000000000000000\n", "\nNoNewPrivs:\t1\n", "\nSeccomp:\t2\n",
	} {
		p.Contains(buf, n.Arg(), want)
	}
	p.Step("verify mounts")
	p.statfs("/proc", unix.PROC_SUPER_MAGIC)
	for _, m := range pl.Mounts {
		if m.Kind == plan.Overlay {
			p.statfs(m.Target, unix.OVERLAYFS_SUPER_MAGIC)
		}
	}
	p.Refused(unix.EROFS, unix.SYS_MKDIRAT, here, p.String("/casemate"), inside.Int(0o700))
	p.Step("verify namespaces")
	for _, ns := range at.Namespaces {
		stat := p.Buffer(int(unsafe.Sizeof(unix.Stat_t{})))
		p.Call(sysNewfstatat, here, p.String("/proc/self/ns/"+ns.name), stat, zero)
		p.Differ(stat, bytesOf(p, ns.id), 16)
	}
	p.Step("verify the system call filter")
	p.Refused(unix.EPERM, unix.SYS_UNSHARE, inside.Int(unix.CLONE_NEWUSER))
}
