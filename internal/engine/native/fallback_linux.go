package native

import (
	"casemate.dev/internal/engine/native/inside"
	"casemate.dev/internal/plan"
	"fmt"
	"golang.org/x/sys/unix"
)

// setUpFallback writes the program of the mode without namespaces: Landlock and a stricter system call filter are the only walls. The first
// process stays outside of them, unreachable by signals (Landlock ABI 6) and by ptrace, and ends everything that the command leaves behind.
//
// Not protected here, and so said by the plan: names, sizes and times of files outside can be read (stat), processes of the host can be
// listed, and the terminal is one of the host's.
func setUpFallback(pl *plan.Plan, at *Attach) *program {
	p := &program{}
	control := keep(p, at)
	joinLimitsOnly(p, at)
	if at.OOMScore > 0 {
		p.Step("go first when memory is short")
		p.writeFile("/proc/self/oom_score_adj", fmt.Sprint(at.OOMScore))
	}
	p.Step("own session keyring")
	p.Try(unix.ENOSYS, unix.SYS_KEYCTL, inside.Int(unix.KEYCTL_JOIN_SESSION_KEYRING), zero)
	p.Step("inherit orphans")
	p.prctl(unix.PR_SET_CHILD_SUBREAPER, 1)
	term, fds := terminal(p, at)
	rlimits(p, at)
	p.Step("no new privileges")
	p.prctl(unix.PR_SET_NO_NEW_PRIVS, 1)
	p.Step("hide the first process's memory")
	p.prctl(unix.PR_SET_DUMPABLE, 0)
	if at.Watch {
		fds = append(fds, handle{HandleProc, p.open("/proc", unix.O_RDONLY|unix.O_DIRECTORY)})
	}
	handOver(p, at, fds)
	p.Step("fork the command")
	p.Fork(control, true)
	standardStreams(p, at, term)
	landlock(p, pl, nil)
	p.Step(WorkDir)
	p.Call(unix.SYS_CHDIR, p.String(pl.Command.Dir))
	announced := filter(p, pl, at)
	p.Step("verify the system call filter")
	p.Refused(unix.EPERM, unix.SYS_UNSHARE, inside.Int(unix.CLONE_NEWUSER))
	handOver(p, at, announced)
	execute(p, pl)
	return p
}
