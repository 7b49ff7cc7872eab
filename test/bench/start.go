package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"casemate.dev/test/bench/count"
	"golang.org/x/sys/unix"
)

func version(b *bench) ([]row, error) {
	all, err := rounds(b.rounds, b.plain(b.casemate, "--version"), b.plain(b.empty))
	if err != nil {
		return nil, err
	}
	r := compare("--version / empty Go program", walls(all[0]), walls(all[1]), 1.6, 1.3)
	return []row{r}, nil
}

const startNote = "Default policy (overlay, limits, Landlock, filter, events) against bubblewrap --unshare-all with a filter of 35 entries: " +
	"no Landlock, no limits, no held changes. The project has two files and was last changed more than two seconds before."

func start(b *bench) ([]row, error) {
	all, err := rounds(b.rounds, b.ours("true"), b.bwrap("true"), b.plain("/bin/true"))
	if err != nil {
		return nil, err
	}
	r := compare("start of true / bwrap", walls(all[0]), walls(all[1]), 1.5, 1.0)
	r.Note = startNote
	bare := compare("start of true / bare", walls(all[0]), walls(all[2]), 0, 0)
	rows := []row{r, bare}
	if b.root {
		if all, err = rounds(b.rounds, b.asRoot(b.ours("true")), b.asRoot(b.bwrap("true"))); err != nil {
			return nil, err
		}
		rows = append(rows, compare("start of true, root / bwrap", walls(all[0]), walls(all[1]), 1.5, 1.0))
	}
	return rows, nil
}

// counted counts system calls under ptrace, and context switches without.
func counted(b *bench) ([]row, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, err
	}
	defer unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	ours, peer := b.ours("true"), b.bwrap("true")
	ours.orphans, peer.orphans = true, true
	var made, waiting, threads []float64
	for i := range 8 {
		c, err := count.UntilExec(ours.argv, ours.env(), ours.dir, ours.cred, "true")
		if err != nil {
			return nil, err
		}
		if c.Execs != 1 {
			return nil, fmt.Errorf("%d programs executed to start one", c.Execs)
		}
		if time.Sleep(50 * time.Millisecond); i < 3 { // the first ones prepare /etc and indexes, and believe nothing that changed a moment ago
			continue
		}
		made, waiting, threads = append(made, float64(c.Made)), append(waiting, float64(c.Waiting)), append(threads, float64(c.Threads))
	}
	theirs, err := b.countPeer()
	if err != nil {
		return nil, err
	}
	all, err := rounds(b.rounds, ours, peer)
	if err != nil {
		return nil, err
	}
	calls := row{
		What: "system calls until exec", Ours: fmt.Sprint(median(made)), Peer: fmt.Sprint(theirs.Made), Value: median(made), Goal: 600, Then: 250, Count: true, Rounds: len(made),
		Note: fmt.Sprintf("Counted with PTRACE_SYSCALL over all processes and threads until the command's execve succeeds. Not in it: %.0f calls of idle threads and of the Go runtime's clock "+
			"(nanosleep, futex, epoll_pwait, preemption), whose number grows with the time that tracing takes. %.0f threads and processes, no other program executed. bwrap: %d besides %d.",
			median(waiting), median(threads), theirs.Waiting, theirs.Made),
	}
	return []row{calls, switches(all[0], all[1])}, nil
}

// countPeer counts bubblewrap without its filter, which has to come in a descriptor: three calls fewer.
func (b *bench) countPeer() (count.Calls, error) {
	w := b.bwrap("true")
	argv := make([]string, 0, len(w.argv))
	for i := 0; i < len(w.argv); i++ {
		if w.argv[i] == "--seccomp" {
			i++
			continue
		}
		argv = append(argv, w.argv[i])
	}
	return count.UntilExec(argv, w.env(), w.dir, w.cred, "true")
}

func switches(ours, peer []used) row {
	of := func(all []used) []float64 {
		out := make([]float64, len(all))
		for i, u := range all {
			out[i] = float64(u.switches)
		}
		return out
	}
	m := median(of(ours))
	return row{
		What: "context switches to exit", Ours: fmt.Sprint(m), Peer: fmt.Sprint(median(of(peer))), Value: m, Then: 15, Count: true, Rounds: len(ours),
		Note: "Voluntary and involuntary, from the rusage of all processes, those included that the peer does not wait for (they come to the measuring program as their subreaper).",
	}
}

// hogs measures the tail with two busy processes per core.
func hogs(b *bench) ([]row, error) {
	cores := cpus()
	for range 2 * cores {
		cmd := exec.Command(b.self, "-inside", "spin")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		defer cmd.Wait()
		defer cmd.Process.Kill()
	}
	all, err := rounds(b.rounds, b.ours("true"), b.bwrap("true"))
	if err != nil {
		return nil, err
	}
	ours, peer := quantile(walls(all[0]), 0.9), quantile(walls(all[1]), 0.9)
	r := row{What: "p90 start, 2 hogs per core", Ours: ms(ours), Peer: ms(peer), Value: ours / peer, Goal: 1.5, Then: 1.0, Rounds: b.rounds}
	m := compare("median of the same", walls(all[0]), walls(all[1]), 0, 0)
	r.Note = fmt.Sprintf("%d busy processes of the same scheduling group. x: p90 / p90.", 2*cores)
	return []row{r, m}, nil
}

// rate starts many, two at a time, in blocks that alternate with the peer's.
func rate(b *bench) ([]row, error) {
	const block = 20
	blocks := max(2, b.rounds/5)
	before := b.traces()
	per := func(w way) (float64, error) {
		begin := time.Now()
		var wg sync.WaitGroup
		errs := make([]error, 2)
		for k := range 2 {
			wg.Go(func() {
				for range block / 2 {
					if _, errs[k] = w.once(); errs[k] != nil {
						return
					}
				}
			})
		}
		wg.Wait()
		if errs[0] != nil {
			return 0, errs[0]
		}
		return block / time.Since(begin).Seconds(), errs[1]
	}
	ours, peer := b.ours("true"), b.bwrap("true")
	var a, p []float64
	for range blocks {
		x, err := per(ours)
		if err != nil {
			return nil, err
		}
		y, err := per(peer)
		if err != nil {
			return nil, err
		}
		a, p = append(a, x), append(p, y)
	}
	ratio := ratios(a, p)
	left := b.left(before)
	return []row{{
		What: "starts/s, 2 at a time", Ours: fmt.Sprintf("%.0f/s", median(a)), Peer: fmt.Sprintf("%.0f/s", median(p)), Value: median(ratio), P90: quantile(ratio, 0.9),
		Goal: 0.8, Then: 1.2, More: true, Rounds: blocks, Note: fmt.Sprintf("%d blocks of %d starts each, in turn. Left after %d starts: %s.", blocks, block, blocks*block, left),
	}}, nil
}

// traces is what a sandbox could leave on the machine.
func (b *bench) traces() map[string]bool {
	found := map[string]bool{}
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range processes {
		if exe, err := os.Readlink(p + "/exe"); err == nil && strings.HasPrefix(exe, b.dir) && exe != b.self {
			found["process "+p] = true
		} else if line, err := os.ReadFile(p + "/cmdline"); err == nil && strings.HasPrefix(string(line), b.casemate+"\x00") {
			found["process "+p] = true
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, "casemate") {
			found["mount "+line] = true
		}
	}
	for _, pattern := range []string{"/sys/fs/cgroup/casemate*", "/sys/fs/cgroup/*/casemate*", "/sys/fs/cgroup/*/*/casemate*", "/sys/fs/cgroup/*/*/*/casemate*"} {
		dirs, _ := filepath.Glob(pattern)
		for _, d := range dirs {
			found["cgroup "+d] = true
		}
	}
	boxes, _ := os.ReadDir(filepath.Join(b.home, ".local/state/casemate/sandboxes"))
	for _, d := range boxes {
		found["sandbox "+d.Name()] = true
	}
	return found
}

// left says what is there that was not there before, once teardown had its time.
func (b *bench) left(before map[string]bool) string {
	var more []string
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		more = nil
		for name := range b.traces() {
			if !before[name] {
				more = append(more, name)
			}
		}
		if len(more) == 0 {
			return "nothing (processes, mounts, cgroups, state)"
		}
	}
	return fmt.Sprintf("%d: %s", len(more), more[0])
}
