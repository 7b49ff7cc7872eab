// Package limits holds a sandbox to its share of the machine: by control groups where the kernel lets us, by resource limits, and by watching where it offers neither.
package limits

import (
	"strconv"
	"time"
)

// Set is what one sandbox may use of the machine. A zero field is no limit.
type Set struct {
	Memory int64         `json:"memory,omitempty"` // bytes: memory, swap and tmpfs together
	Disk   int64         `json:"disk,omitempty"`   // bytes in the layer and the home, unlinked files that are still open included
	Pids   int           `json:"pids,omitempty"`   // processes and threads together
	CPUs   float64       `json:"cpus,omitempty"`   // cores; zero is a fair share by weight
	Files  int           `json:"files,omitempty"`  // open files of one process; zero is as on the host
	Time   time.Duration `json:"time,omitempty"`   // wall clock, while the machine is awake
	Idle   time.Duration `json:"idle,omitempty"`   // without output and without CPU time worth mentioning
}

const (
	kib = int64(1) << 10
	mib = int64(1) << 20
	gib = int64(1) << 30
)

// Defaults are the limits of a sandbox whose policy names none. On a terminal a person sees that something hangs; elsewhere nobody does.
func Defaults(memTotal, diskFree int64, terminal bool) Set {
	s := Set{
		Memory: memTotal / 4 * 3,
		Pids:   4096,
		Disk:   max(min(20*gib, diskFree/2), mib), // never zero, which would be no limit
	}
	if !terminal {
		s.Time = 6 * time.Hour
	}
	return s
}

// size prints bytes as people write them in a policy.
func size(n int64) string {
	for _, u := range []struct {
		bytes int64
		name  string
	}{{gib, " GiB"}, {mib, " MiB"}, {kib, " KiB"}} {
		if n >= u.bytes {
			return strconv.FormatFloat(float64(n*10/u.bytes)/10, 'f', -1, 64) + u.name
		}
	}
	return strconv.FormatInt(n, 10) + " bytes"
}
