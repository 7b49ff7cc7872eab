package limits

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// prefix begins the name of every control group of ours, so that what is left of a crash can be found.
const prefix = "casemate-"

// patience bounds every wait for the kernel: to empty a group, to freeze it, to let a directory go.
const patience = 2 * time.Second

// Group is the control groups of one sandbox: one directory in each v1 hierarchy, or one in the v2 tree, or both, or none.
type Group struct {
	name   string
	dirs   []directory
	join   []int
	into   int      // the v2 directory, opened when asked for; -1 before
	ice    string   // where Freeze makes a directory, if dirs has none that freezes
	icy    bool     // and whether it did
	vacant string   // the v2 group that we left for a leaf of it
	added  []string // the controllers that we switched on there
}

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

// Create makes the groups that hold s and writes the limits. Nothing is in them yet: the child joins by itself (JoinFDs, or Into). On an
// error nothing is left. Without any usable hierarchy the group is empty, which is not an error: By told so before.
//
// A v1 hierarchy costs a mkdir, an open, write and close for the limit, and an open for joining: 12 calls for memory, pids and cpu by
// weight, which needs no limit. With swap on, memory takes 6 more.
func Create(f Facts, id string, s Set) (*Group, error) {
	return create(f, id, s, func(path string) error { return unix.Mkdir(path, 0o755) })
}

func create(f Facts, id string, s Set, mkdir func(string) error) (*Group, error) {
	if !plain(id) {
		return nil, fmt.Errorf("%q cannot be part of a control group's name", id)
	}
	g := &Group{name: prefix + id, into: -1}
	base, err := g.delegation(f, s, mkdir)
	if err == nil {
		g.ice = f.ice(base, g.name)
		err = g.make(directories(f, base, g.name, s), mkdir)
	}
	if err != nil {
		g.Joined()
		return nil, errors.Join(err, g.Remove())
	}
	return g, nil
}

// plain says whether an id is safe in a path, in a unit name and in a D-Bus string.
func plain(id string) bool {
	for _, r := range id {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' {
			return false
		}
	}
	return id != "" && len(id) <= 64
}

func (g *Group) make(dirs []directory, mkdir func(string) error) error {
	for _, d := range dirs {
		if err := mkdir(d.path); err != nil {
			return &fs.PathError{Op: "make the control group", Path: d.path, Err: err}
		}
		g.dirs = append(g.dirs, d)
		for _, s := range d.settings {
			if err := s.write(d.path); err != nil {
				return err
			}
		}
		fd, err := openat(unix.AT_FDCWD, d.path+"/"+d.join, unix.O_WRONLY)
		if err != nil {
			return &fs.PathError{Op: "open", Path: d.path + "/" + d.join, Err: err}
		}
		g.join = append(g.join, fd)
	}
	return nil
}

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

// JoinFDs are the descriptors to which the child writes "0" to enter the groups; they are close-on-exec. The child must still have a single
// thread. The kernel judges by the credentials of the opener, us (CVE-2021-4197, Linux 5.16), so it works from within a user namespace.
// A child in its own cgroup namespace should join before it unshares that, or /proc/self/cgroup shows a path outside its root.
func (g *Group) JoinFDs() []int { return slices.Clone(g.join) }

// Joined closes the descriptors; call it as soon as the child exists, which has its own copies.
func (g *Group) Joined() {
	for _, fd := range append(g.join, g.into) {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	g.join, g.into = nil, -1
}

// Into is a descriptor for clone3's CLONE_INTO_CGROUP where all limits are held by v2, or -1. It is cheaper than JoinFDs there, which
// must not be used as well: no lock that stops all forks is needed.
func (g *Group) Into() int {
	if g.into < 0 && len(g.dirs) == 1 && g.dirs[0].v2() {
		if fd, err := openat(unix.AT_FDCWD, g.dirs[0].path, unix.O_RDONLY|unix.O_DIRECTORY); err == nil {
			g.into = fd
		}
	}
	return g.into
}

func (d directory) v2() bool { return d.join == "cgroup.procs" }

// Dirs are the directories to remove, in order, if we cannot do it ourselves because we were killed. One that does not exist is no error:
// the last may be made only when the sandbox is frozen. Where that one has a file freezer.state, "THAWED" must be written to it first, or
// the processes in it cannot die.
func (g *Group) Dirs() []string {
	var paths []string
	for _, d := range g.dirs {
		paths = append(paths, d.path)
	}
	if g.ice != "" {
		paths = append(paths, g.ice)
	}
	return paths
}

// Remove deletes the groups. The kernel lets a directory go a moment after its last process has ended, so it is tried for up to 2 s.
func (g *Group) Remove() error {
	g.Joined()
	err := removeAll(g.Dirs())
	return errors.Join(err, g.comeBack())
}

func removeAll(dirs []string) error {
	deadline, wait := time.Now().Add(patience), 50*time.Microsecond
	for _, dir := range dirs {
		for {
			err := unix.Rmdir(dir)
			if err == nil || err == unix.ENOENT {
				break
			}
			if err != unix.EBUSY && err != unix.EINTR || time.Now().After(deadline) {
				return &fs.PathError{Op: "remove the control group", Path: dir, Err: err}
			}
			time.Sleep(wait)
			wait = min(2*wait, 10*time.Millisecond)
		}
	}
	return nil
}

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
			data, _ := read(d.path + "/cpu.stat")
			u.CPU = time.Duration(field(data, "usage_usec")) * time.Microsecond
		} else if n := counter(d.path + "/cpuacct.usage"); n >= 0 { // where cpu and cpuacct share a hierarchy
			u.CPU = time.Duration(n)
		}
	}
	return u
}

func counter(path string) int64 {
	data, err := read(path)
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
	data, _ := read(d.path + "/" + file)
	return int(max(field(data, "oom_kill"), 0))
}

// ForksRefused is how often the pids limit refused a new process or thread.
func (g *Group) ForksRefused() int {
	d, ok := g.dir("pids")
	if !ok {
		return 0
	}
	data, _ := read(d.path + "/pids.events")
	return int(max(field(data, "max"), 0))
}

// Leftovers are the groups of sandboxes that no longer live, found beneath our own group. A session elsewhere in the tree has its own, so
// a sandbox's record should keep its Dirs as well.
func Leftovers(f Facts, live func(id string) bool) []string {
	var found []string
	for _, base := range f.bases() {
		entries, err := names(base)
		if err != nil {
			continue
		}
		for _, name := range entries {
			if id, ours := strings.CutPrefix(name, prefix); ours && !live(id) {
				found = append(found, filepath.Join(base, name))
			}
		}
	}
	return found
}

// bases are the directories beneath which groups of ours can be.
func (f *Facts) bases() []string {
	var dirs []string
	for _, h := range f.V1 {
		if h.Why == "" {
			dirs = append(dirs, f.root+h.Dir)
		}
	}
	if f.V2 != nil && f.V2.Why == "" {
		dirs = append(dirs, f.root+f.V2.Dir)
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// names lists a directory.
func names(dir string) ([]string, error) {
	fd, err := openat(unix.AT_FDCWD, dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var found []string
	for buf := make([]byte, 8192); ; {
		n, err := unix.ReadDirent(fd, buf)
		if n <= 0 {
			return found, err
		}
		for e := range entries(buf[:n]) {
			found = append(found, string(e.name))
		}
	}
}

// RemoveLeftovers ends what still runs in such groups and removes them. Paths that are not control groups of ours are refused: they may
// come from a file.
func RemoveLeftovers(dirs []string) error {
	var errs []error
	var ours []string
	for _, dir := range dirs {
		var s unix.Statfs_t
		switch err := unix.Statfs(dir, &s); {
		case err == unix.ENOENT:
		case err != nil || s.Type != unix.CGROUP_SUPER_MAGIC && s.Type != unix.CGROUP2_SUPER_MAGIC || !strings.HasPrefix(filepath.Base(dir), prefix):
			errs = append(errs, fmt.Errorf("%q is not a control group of a sandbox", dir))
		default:
			ours = append(ours, dir)
		}
	}
	errs = append(errs, kill(ours), removeAll(ours))
	return errors.Join(errs...)
}
