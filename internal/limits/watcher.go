package limits

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// The reasons for which a Watcher wants the sandbox stopped.
const (
	OverMemory = "memory"
	OverDisk   = "disk"
	OverTime   = "timeout"
	OverIdle   = "idle"
)

// Watch is what a Watcher looks at. The descriptors remain the caller's.
type Watch struct {
	Set   Set   // what to hold: see Facts.Watched
	Proc  int   // the root directory of a proc mounted in the sandbox's pid namespace: all in it, and nothing else, is counted
	Trees []int // directories whose content counts as disk: the layer's upper, the home
	Tmpfs []int // the sandbox's tmpfs mounts, whose content counts as memory
}

// Watcher holds limits where the kernel does not, from the supervisor's own loop: it has no goroutine and no timer.
//
// What it cannot see: memory of the kernel other than page tables (sockets, pipes), and files without a name that only a mapping or a
// message in flight between sockets still holds. Between two looks a sandbox can take more than it may; how much depends on the machine's
// speed, not on us. The host's own reserve of disk is the last line (volume.low).
type Watcher struct {
	start  time.Time
	limit  time.Duration
	checks []check
	procs  *processes
	idle   *idleness
	memory *memoryUse
	disk   *diskUse
	why    string
}

// check is one thing to look at when it is due.
type check struct {
	reason string
	due    time.Time
	look   func(now time.Time) (over string, next time.Duration) // over says in words what exceeds what, or nothing
}

// NewWatcher prepares to watch. start is when the sandbox started; only differences of times count, so a changed clock does not matter,
// and a suspended machine's sleep does not count.
func NewWatcher(on Watch, start time.Time) (*Watcher, error) {
	w := &Watcher{start: start, limit: on.Set.Time}
	if on.Set.Memory > 0 || on.Set.Idle > 0 || on.Set.Disk > 0 {
		p, err := openProcesses(on.Proc)
		if err != nil {
			return nil, err
		}
		w.procs = p
	}
	if on.Set.Memory > 0 {
		m := &memoryUse{limit: on.Set.Memory, procs: w.procs, tmpfs: on.Tmpfs, cpus: runtime.NumCPU()}
		m.begin()
		w.memory = m
		w.checks = append(w.checks, check{OverMemory, start, m.look})
	}
	if on.Set.Disk > 0 && len(on.Trees) > 0 {
		d, err := newDiskUse(on.Set.Disk, on.Trees, w.procs, start)
		if err != nil {
			w.Close()
			return nil, err
		}
		w.disk = d
		w.checks = append(w.checks, check{OverDisk, start, d.look})
	}
	if on.Set.Idle > 0 {
		w.idle = &idleness{limit: on.Set.Idle, procs: w.procs, active: start, sampled: start}
		w.checks = append(w.checks, check{OverIdle, start, w.idle.look})
	}
	return w, nil
}

// Close releases what the Watcher opened.
func (w *Watcher) Close() {
	if w.memory != nil && w.memory.scan != nil {
		w.memory.scan.close()
	}
	if w.disk != nil {
		w.disk.survey.close()
	}
	if w.procs != nil {
		unix.Close(w.procs.fd)
	}
}

// Poll looks at what is due. It returns the reason to stop the sandbox, or when to call again; calling earlier does no harm. It takes some
// microseconds for each process, and a few milliseconds while it looks through files.
func (w *Watcher) Poll(now time.Time) (reason string, next time.Duration) {
	next = time.Hour
	if w.limit > 0 {
		left := w.limit - now.Sub(w.start)
		if left <= 0 {
			w.why = fmt.Sprintf("it ran for %v", w.limit)
			return OverTime, 0
		}
		next = min(next, left)
	}
	for i := range w.checks {
		c := &w.checks[i]
		if !now.Before(c.due) {
			over, again := c.look(now)
			if over != "" {
				w.why = over
				return c.reason, 0
			}
			c.due = now.Add(again)
		}
		next = min(next, c.due.Sub(now))
	}
	return "", max(next, time.Millisecond)
}

// Active says that the sandbox showed a sign of life that is not CPU time: output, or input it was given.
func (w *Watcher) Active(now time.Time) {
	if w.idle != nil {
		w.idle.active = now
	}
}

// Why says in words what made Poll return a reason.
func (w *Watcher) Why() string { return w.why }

// pace is when to look again: sooner the closer use is to its limit, since rate bytes per second may be added meanwhile; but not so often
// that looking, which takes cost, uses more than 0.5 % of a core, or 10 % in the upper half of the budget.
func pace(used, limit, rate int64, cost time.Duration) time.Duration {
	soon, share := 250*time.Millisecond, time.Duration(200)
	if used > limit/2 {
		share = 10
	}
	if room := time.Duration(float64(limit-used) / float64(rate) * float64(time.Second)); room < soon {
		soon = max(room, 10*time.Millisecond)
	}
	return max(soon, min(share*cost, time.Second))
}

// idleness is the time since the sandbox last did something.
type idleness struct {
	limit   time.Duration
	procs   *processes
	active  time.Time // when it last did
	sampled time.Time
	cpu     time.Duration // used by then
}

// look takes anything above 1 % of a core for activity: timers of programs that wait use less, and nothing that works does. A sum that
// fell means that a process ended unwaited for, which is activity too.
func (i *idleness) look(now time.Time) (string, time.Duration) {
	cpu := i.procs.cpu()
	if used, since := cpu-i.cpu, now.Sub(i.sampled); used < 0 || used > max(tick, since/100) {
		i.active = now
	}
	i.cpu, i.sampled = cpu, now
	left := i.limit - now.Sub(i.active)
	if left <= 0 {
		return fmt.Sprintf("it did nothing for %v", i.limit), 0
	}
	return "", min(left, max(i.limit/16, 100*time.Millisecond), 15*time.Second)
}

var errNotProc = errors.New("the directory to watch is not a proc file system")
