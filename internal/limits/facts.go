package limits

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Facts is what this machine offers for holding limits. It is printed by doctor.
type Facts struct {
	UID         int         `json:"uid"`
	Memory      int64       `json:"memory"`              // bytes a sandbox could have at most: the machine's, or those of the group we are in
	Swap        int64       `json:"swap"`                // bytes of swap that are on
	Files       uint64      `json:"files"`               // our hard limit of open files
	OpenFiles   uint64      `json:"open_files"`          // and the soft one
	Processes   uint64      `json:"processes"`           // our soft limit of processes: a user namespace is held to that of who made it
	FileSize    uint64      `json:"file_size"`           // our hard limit of one file's bytes
	PidsPerUser bool        `json:"pids_per_user"`       // a kernel before 5.14 counts RLIMIT_NPROC over all of a user's processes
	V1          []Hierarchy `json:"cgroup_v1,omitempty"` // one row per controller that limits use
	V2          *Unified    `json:"cgroup_v2,omitempty"`
	Systemd     *Systemd    `json:"systemd,omitempty"` // asked only where the above cannot hold memory and pids

	Mounts []byte `json:"-"` // /proc/self/mountinfo as Detect read it, for others who need it; nil: it could not be read

	root string // of the file system; a test has its own
}

// Hierarchy is one controller of cgroup v1.
type Hierarchy struct {
	Controller string `json:"controller"`
	Dir        string `json:"dir"`           // our own group
	Why        string `json:"why,omitempty"` // why it cannot be used
}

// Unified is the cgroup v2 tree.
type Unified struct {
	Dir         string   `json:"dir"`                   // our own group
	Controllers []string `json:"controllers,omitempty"` // what a group of ours could be limited in
	Enable      []string `json:"enable,omitempty"`      // those that must be switched on for it
	Leaf        bool     `json:"leaf,omitempty"`        // for that our own process must move into a leaf: a group with controllers has no processes of its own
	Why         string   `json:"why,omitempty"`         // why it cannot be used
}

// Systemd is a service manager that may give us a group of our own.
type Systemd struct {
	Socket      string   `json:"socket"`
	Controllers []string `json:"controllers"`
}

// wanted are the controllers that hold limits.
func wanted() []string { return []string{"memory", "pids", "cpu"} }

// Detect looks at this process's own place in the trees. It runs at every start: about 20 system calls, and none that writes. pidsPerUser says that the
// kernel is older than 5.14.
func Detect(uid int, pidsPerUser bool) Facts {
	f := detect("", uid, os.Getenv("XDG_RUNTIME_DIR"))
	f.PidsPerUser = pidsPerUser
	return f
}

func detect(root string, uid int, runtimeDir string) Facts {
	f := Facts{UID: uid, root: root}
	f.machine()
	mountinfo, err := read(root + "/proc/self/mountinfo")
	own, err2 := readShow(root + "/proc/self/cgroup")
	if err != nil || err2 != nil {
		return f // no /proc: no control groups either
	}
	f.Mounts = mountinfo
	mounts, members := parseMounts(mountinfo), parseMemberships(own)
	for _, c := range wanted() {
		if dir, ok := place(mounts, members, c); ok {
			f.V1 = append(f.V1, Hierarchy{Controller: c, Dir: dir, Why: unwritable(root + dir)})
		}
	}
	if dir, ok := place(mounts, members, ""); ok {
		f.V2 = f.unified(dir)
		f.askSystemd(mounts, runtimeDir)
	}
	f.ceiling()
	return f
}

// machine fills in what does not depend on control groups.
func (f *Facts) machine() {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		f.Memory, f.Swap = int64(info.Totalram)*int64(info.Unit), int64(info.Totalswap)*int64(info.Unit)
	}
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) == nil {
		f.OpenFiles, f.Files = min(1024, files.Max), files.Max
	}
	// The Go runtime raised our own soft limit at its start (package syscall, rlimit.go); what it was is what the process that started us has.
	if parent := os.Getppid(); parent > 0 && unix.Prlimit(parent, unix.RLIMIT_NOFILE, nil, &files) == nil {
		f.OpenFiles = min(files.Cur, f.Files)
	}
	f.Processes, f.FileSize = own(unix.RLIMIT_NPROC).Cur, own(unix.RLIMIT_FSIZE).Max
}

func own(resource int) unix.Rlimit {
	limit := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	_ = unix.Getrlimit(resource, &limit) // fails for no resource that there is
	return limit
}

// place finds our own group in the hierarchy of a controller, or in v2 for "".
func place(mounts []cgroupMount, members []membership, controller string) (string, bool) {
	path, found := "", false
	for _, m := range members {
		if controller == "" && len(m.controllers) == 0 || controller != "" && slices.Contains(m.controllers, controller) {
			path, found = m.path, true
		}
	}
	if !found {
		return "", false
	}
	for _, m := range slices.Backward(mounts) {
		if m.v2 == (controller == "") && (m.v2 || slices.Contains(m.controllers, controller)) {
			return m.directory(path)
		}
	}
	return "", false
}

// unwritable says why no group can be made in dir, or "".
func unwritable(dir string) string {
	if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, 0); err != nil {
		return err.Error()
	}
	return ""
}

// unified looks at v2. Where v1 has the controllers, nothing more needs to be known.
func (f *Facts) unified(dir string) *Unified {
	u := &Unified{Dir: dir, Why: unwritable(f.root + dir)}
	if u.Why != "" || f.lacks() == "" {
		return u
	}
	available, err := words(f.root + dir + "/cgroup.controllers")
	enabled, err2 := words(f.root + dir + "/cgroup.subtree_control")
	if err != nil || err2 != nil {
		u.Why = "its controllers cannot be read"
		return u
	}
	for _, c := range wanted() {
		if _, v1 := f.v1(c); v1 || !slices.Contains(available, c) {
			continue
		}
		u.Controllers = append(u.Controllers, c)
		if !slices.Contains(enabled, c) {
			u.Enable = append(u.Enable, c)
		}
	}
	u.Why = f.settle(u)
	if u.Why != "" {
		u.Controllers, u.Enable, u.Leaf = nil, nil, false
	}
	return u
}

// settle decides how controllers can be switched on below our own group, or says why they cannot. Joining also needs cgroup.procs of
// the common ancestor, which is our own group (cgroup-v2.rst, Delegation Containment).
func (f *Facts) settle(u *Unified) string {
	dir := f.root + u.Dir
	if err := unix.Faccessat(unix.AT_FDCWD, dir+"/cgroup.procs", unix.W_OK, 0); err != nil {
		return "cgroup.procs: " + err.Error()
	}
	if len(u.Enable) == 0 {
		return ""
	}
	if err := unix.Faccessat(unix.AT_FDCWD, dir+"/cgroup.subtree_control", unix.W_OK, 0); err != nil {
		return "cgroup.subtree_control: " + err.Error()
	}
	if unix.Faccessat(unix.AT_FDCWD, dir+"/cgroup.type", unix.F_OK, 0) == unix.ENOENT {
		return "" // the real root may have both processes and controllers below it
	}
	pids, err := words(dir + "/cgroup.procs")
	if err != nil || len(pids) != 1 || pids[0] != strconv.Itoa(os.Getpid()) {
		return "other processes are in our group, and moving them is not ours to do"
	}
	u.Leaf = true
	return ""
}

// lacks names a limit that is on by default and that no usable group holds.
func (f *Facts) lacks() string {
	for _, c := range wanted()[:2] {
		if f.way(c) == byNothing {
			return c
		}
	}
	return ""
}

// askSystemd looks for a service manager, where one is needed and can help: with controllers in v2, so not on hybrid machines.
func (f *Facts) askSystemd(mounts []cgroupMount, runtimeDir string) {
	if f.lacks() == "" || len(f.V1) > 0 || unix.Faccessat(unix.AT_FDCWD, f.root+"/run/systemd/system", unix.F_OK, 0) != nil {
		return
	}
	group, sockets := "", []string{"/run/systemd/private"}
	if f.UID != 0 {
		n := strconv.Itoa(f.UID)
		if runtimeDir == "" {
			runtimeDir = "/run/user/" + n
		}
		group = "/user.slice/user-" + n + ".slice/user@" + n + ".service"
		sockets = []string{filepath.Join(runtimeDir, "systemd/private"), filepath.Join(runtimeDir, "bus")}
	}
	for _, m := range slices.Backward(mounts) {
		if !m.v2 {
			continue
		}
		has, err := words(f.root + m.point + group + "/cgroup.controllers")
		has = slices.DeleteFunc(has, func(c string) bool { return !slices.Contains(wanted(), c) })
		if err != nil || len(has) == 0 {
			return
		}
		for _, s := range sockets {
			if unix.Faccessat(unix.AT_FDCWD, f.root+s, unix.W_OK, 0) == nil {
				f.Systemd = &Systemd{Socket: s, Controllers: has}
				return
			}
		}
		return
	}
}

// ceiling lowers Memory to what our own group may use: in a container the machine's figure would promise memory that is not there.
func (f *Facts) ceiling() {
	var file string
	for _, h := range f.V1 {
		if h.Controller == "memory" {
			file = h.Dir + "/memory.limit_in_bytes"
		}
	}
	if file == "" && f.V2 != nil {
		file = f.V2.Dir + "/memory.max"
	}
	if file == "" {
		return
	}
	if data, err := readShow(f.root + file); err == nil {
		if n := number(data); n > 0 && n < f.Memory {
			f.Memory = n
		}
	}
}

// v1 is our own group of a v1 controller, if we can make groups there.
func (f *Facts) v1(controller string) (string, bool) {
	for _, h := range f.V1 {
		if h.Controller == controller && h.Why == "" {
			return h.Dir, true
		}
	}
	return "", false
}

func words(path string) ([]string, error) {
	data, err := read(path)
	return strings.Fields(string(data)), err
}
