package limits

import (
	"math"
	"strconv"
)

// directory is one control group to make, and what to write there.
type directory struct {
	path        string
	controllers []string
	settings    []setting
	join        string // the file that a process writes "0" to
}

type setting struct {
	file, value string
	optional    bool // some kernels lack it
}

func (d directory) v2() bool { return d.join == "cgroup.procs" }

func (s setting) write(dir string) error {
	err := write(dir+"/"+s.file, s.value)
	if s.optional && missing(err) {
		return nil
	}
	return err
}

// directories says which groups to make for s. base is our own v2 group where v2 holds limits, or "".
func directories(f Facts, base, name string, s Set) []directory {
	var dirs []directory
	for _, c := range wanted() {
		w := f.way(c)
		if w == byNothing || !needs(c, s) {
			continue
		}
		d := directory{path: base + "/" + name, join: "cgroup.procs"}
		settings := v2Settings(c, s)
		if w == byV1 {
			own, _ := f.v1(c)
			// Writing 0 to tasks moves the one thread of the new child, and so does not wait for a lock that stops all forks of the machine:
			// cgroup.procs does, and its first writer pays an RCU grace period (4 to 15 ms measured; kernel/cgroup/cgroup.c, cgroup_attach_lock).
			d = directory{path: f.root + own + "/" + name, join: "tasks"}
			settings = v1Settings(c, s, f.Swap > 0)
		}
		d.controllers, d.settings = []string{c}, settings
		dirs = merge(dirs, d)
	}
	return dirs
}

// merge adds d, or what d sets to a directory that is there already: v1 controllers may share a hierarchy, in v2 all do.
func merge(dirs []directory, d directory) []directory {
	for i := range dirs {
		if dirs[i].path == d.path {
			dirs[i].controllers = append(dirs[i].controllers, d.controllers...)
			dirs[i].settings = append(dirs[i].settings, d.settings...)
			return dirs
		}
	}
	return append(dirs, d)
}

// v1Settings: the weight of a group is that of one process beside it, which is the share we want, so cpu needs a setting for a quota only.
func v1Settings(controller string, s Set, swap bool) []setting {
	switch {
	case controller == "memory" && swap:
		n := strconv.FormatInt(s.Memory, 10)
		// memsw may not be below the memory limit, hence the order; kernels started with swapaccount=0 lack it.
		return []setting{{file: "memory.limit_in_bytes", value: n}, {file: "memory.memsw.limit_in_bytes", value: n, optional: true},
			{file: "memory.swappiness", value: "0"}}
	case controller == "memory":
		return []setting{{file: "memory.limit_in_bytes", value: strconv.FormatInt(s.Memory, 10)}}
	case controller == "pids":
		return []setting{{file: "pids.max", value: strconv.Itoa(s.Pids)}}
	case s.CPUs > 0: // per 100 ms, the default period of CFS
		return []setting{{file: "cpu.cfs_quota_us", value: quota(s.CPUs)}}
	}
	return nil
}

func v2Settings(controller string, s Set) []setting {
	switch {
	case controller == "memory":
		return []setting{{file: "memory.max", value: strconv.FormatInt(s.Memory, 10)},
			{file: "memory.swap.max", value: "0", optional: true},  // absent from kernels without swap
			{file: "memory.oom.group", value: "1", optional: true}} // since Linux 4.19
	case controller == "pids":
		return []setting{{file: "pids.max", value: strconv.Itoa(s.Pids)}}
	case s.CPUs > 0:
		return []setting{{file: "cpu.max", value: quota(s.CPUs) + " 100000"}}
	}
	return nil // cpu.weight is 100 by default, as for every group beside it
}

func quota(cpus float64) string {
	return strconv.FormatInt(max(int64(math.Round(cpus*100_000)), 1000), 10) // 1 ms is the least the kernel takes
}
