package limits

import (
	"slices"
	"time"
)

// dir is the group of a controller.
func (g *Group) dir(controller string) (directory, bool) {
	for _, d := range g.dirs {
		if slices.Contains(d.controllers, controller) {
			return d, true
		}
	}
	return directory{}, false
}

// Usage is what the sandbox has used. What no group counts is -1.
type Usage struct {
	Memory, Peak int64 // bytes, page cache included
	Pids         int
	CPU          time.Duration
}

// Usage reads the groups' counters.
func (g *Group) Usage() Usage {
	u := Usage{Memory: -1, Peak: -1, Pids: -1, CPU: -1}
	if d, ok := g.dir("memory"); ok {
		now, peak := "memory.usage_in_bytes", "memory.max_usage_in_bytes"
		if d.v2() {
			now, peak = "memory.current", "memory.peak" // the peak since Linux 5.19
		}
		u.Memory, u.Peak = counter(d.path+"/"+now), counter(d.path+"/"+peak)
	}
	if d, ok := g.dir("pids"); ok {
		u.Pids = int(counter(d.path + "/pids.current"))
	}
	for _, d := range g.dirs {
		if d.v2() {
			data, _ := readShow(d.path + "/cpu.stat")
			u.CPU = time.Duration(field(data, "usage_usec")) * time.Microsecond
		} else if n := counter(d.path + "/cpuacct.usage"); n >= 0 { // where cpu and cpuacct share a hierarchy
			u.CPU = time.Duration(n)
		}
	}
	return u
}

func counter(path string) int64 {
	data, err := readShow(path)
	if err != nil {
		return -1
	}
	return number(data)
}

// OOM is how many processes the kernel killed because the memory limit was reached.
func (g *Group) OOM() int {
	d, ok := g.dir("memory")
	if !ok {
		return 0
	}
	file := "memory.oom_control"
	if d.v2() {
		file = "memory.events"
	}
	data, _ := readShow(d.path + "/" + file)
	return int(max(field(data, "oom_kill"), 0))
}

// ForksRefused is how often the pids limit refused a new process or thread.
func (g *Group) ForksRefused() int {
	d, ok := g.dir("pids")
	if !ok {
		return 0
	}
	data, _ := readShow(d.path + "/pids.events")
	return int(max(field(data, "max"), 0))
}
