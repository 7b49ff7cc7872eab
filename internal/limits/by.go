package limits

import (
	"math"
	"slices"
	"strconv"
	"time"
)

// Strength is how firmly a limit is held.
type Strength string

const (
	Held    Strength = "enforced" // the kernel refuses or kills at the limit
	Watched Strength = "watched"  // the supervisor looks regularly and stops the sandbox: it can be overrun for a moment
	Unheld  Strength = "none"
)

// Enforced is one line of the plan: a limit, and what holds it.
type Enforced struct {
	Name     string   `json:"name"` // memory, pids, cpu, disk, open files, core, time, idle
	Value    string   `json:"value"`
	By       string   `json:"by,omitempty"`
	Strength Strength `json:"strength"`
}

// way is a mechanism that holds a controller's limit.
type way int

const (
	byNothing way = iota
	byV1
	byV2
	bySystemd
)

// way chooses the mechanism. Groups that we can make ourselves come first: they need no conversation.
func (f *Facts) way(controller string) way {
	if _, ok := f.v1(controller); ok {
		return byV1
	}
	if f.V2 != nil && f.V2.Why == "" && slices.Contains(f.V2.Controllers, controller) {
		return byV2
	}
	if f.Systemd != nil && slices.Contains(f.Systemd.Controllers, controller) {
		return bySystemd
	}
	return byNothing
}

func (w way) text(controller string) string {
	switch w {
	case byV1:
		return "cgroup v1 " + controller
	case byV2:
		return "cgroup v2"
	case bySystemd:
		return "systemd scope, cgroup v2"
	}
	return ""
}

// By says what holds each limit of s on a machine with these facts.
func By(f Facts, s Set) []Enforced {
	return []Enforced{f.byMemory(s), f.byPids(s), f.byCPU(s), f.byDisk(s), f.byFiles(s), {"core", "0", "RLIMIT_CORE", Held}, byTime("time", s.Time), byTime("idle", s.Idle)}
}

func (f *Facts) byMemory(s Set) Enforced {
	w := f.way("memory")
	switch {
	case s.Memory == 0:
		return Enforced{"memory", "none", "", Unheld}
	case w != byNothing:
		return Enforced{"memory", size(s.Memory), w.text("memory"), Held}
	}
	// RLIMIT_AS and RLIMIT_DATA count addresses, not memory: JavaScript engines, race detectors and sanitizers reserve terabytes of them.
	return Enforced{"memory", size(s.Memory), watching, Watched}
}

func (f *Facts) byPids(s Set) Enforced {
	w := f.way("pids")
	e := Enforced{"pids", strconv.Itoa(s.Pids), "RLIMIT_NPROC in the user namespace", Held}
	switch {
	case s.Pids == 0:
		return Enforced{"pids", "none", "", Unheld}
	case f.Processes < uint64(s.Pids): // whatever else there is, which an ordinary user could not raise it by
		e.Value, e.By = strconv.FormatUint(f.Processes, 10), "your own limit (ulimit -u)"
		if f.UID != 0 {
			e.By += ", in which your other processes count too"
		}
	case w != byNothing:
		e.By = w.text("pids")
	case f.PidsPerUser:
		e.By = "RLIMIT_NPROC, which counts the user's other processes too before Linux 5.14"
	}
	return e
}

func (f *Facts) byCPU(s Set) Enforced {
	w := f.way("cpu")
	switch {
	case s.CPUs == 0 && w != byNothing:
		return Enforced{"cpu", "by weight", w.text("cpu"), Held}
	case s.CPUs == 0:
		return Enforced{"cpu", "none", "", Unheld}
	case w != byNothing:
		return Enforced{"cpu", cores(s.CPUs), w.text("cpu"), Held}
	}
	return Enforced{"cpu", cores(math.Ceil(s.CPUs)), "CPU affinity, with sched_setaffinity refused", Held}
}

func cores(n float64) string {
	if n == 1 {
		return "1 core"
	}
	return strconv.FormatFloat(n, 'f', -1, 64) + " cores"
}

// watching is the longest time between two looks: most are 250 ms apart, but those that cost much, as with many processes, are further.
const watching = "watched every second or more often"

func (f *Facts) byDisk(s Set) Enforced {
	switch {
	case s.Disk == 0:
		return Enforced{"disk", "none", "", Unheld}
	case f.FileSize < uint64(s.Disk):
		return Enforced{"disk", size(s.Disk), watching + "; for each file your own limit (ulimit -f) of " + size(int64(f.FileSize)), Watched}
	}
	return Enforced{"disk", size(s.Disk), watching + "; RLIMIT_FSIZE for each file", Watched}
}

func (f *Facts) byFiles(s Set) Enforced {
	_, hard := f.files(s)
	return Enforced{"open files", strconv.FormatUint(hard, 10), "RLIMIT_NOFILE", Held}
}

func byTime(name string, d time.Duration) Enforced {
	if d == 0 {
		return Enforced{name, "none", "", Unheld}
	}
	return Enforced{name, d.String(), "the supervisor's clock", Held}
}

// Watched is the part of s that a Watcher must hold, because no group does.
func (f Facts) Watched(s Set) Set {
	w := Set{Disk: s.Disk, Time: s.Time, Idle: s.Idle}
	if f.way("memory") == byNothing {
		w.Memory = s.Memory
	}
	return w
}
