package native

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"casemate.dev/internal/engine/native/inside"
	"casemate.dev/internal/plan"
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

// Orphans are the processes that a first process which was killed, as by the kernel when memory runs out, leaves behind: without a pid namespace
// nothing ends them. They come to this process, which was told to inherit them.
type Orphans struct{ own map[int]bool }

// Inherit is called before the sandbox starts, and when this process has started all others.
func Inherit() (Orphans, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return Orphans{}, fmt.Errorf("inherit orphans: %w", err)
	}
	o := Orphans{map[int]bool{}}
	for _, pid := range ownChildren() {
		o.own[pid] = true
	}
	return o, nil
}

// End kills them until none is left: each may leave others.
func (o Orphans) End() {
	for {
		left := false
		for _, pid := range ownChildren() {
			if !o.own[pid] {
				left = true
				unix.Kill(pid, unix.SIGKILL)
				unix.Wait4(pid, nil, unix.WNOHANG, nil)
			}
		}
		if !left {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func ownChildren() (pids []int) {
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for pid := range strings.FieldsSeq(string(text)) {
			if n, err := strconv.Atoi(pid); err == nil {
				pids = append(pids, n)
			}
		}
	}
	return pids
}
