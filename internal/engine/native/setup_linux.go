package native

import (
	"encoding/binary"
	"fmt"
	"path"
	"strconv"
	"strings"
	"unsafe"

	"casemate.dev/internal/engine/native/inside"
	"casemate.dev/internal/plan"
	"golang.org/x/sys/unix"
)

// Attach is what connects one sandbox to its supervisor: descriptors of this process that the child inherits.
type Attach struct {
	Control  int    // pid 1's end of the control socket
	Stdio    [3]int // the command's standard streams; -1 is its terminal
	Terminal bool   // give the command a terminal of its own
	Join     []int  // cgroup.procs files, open for writing
	Filter   []unix.SockFilter
	Rlimits  []Rlimit
	Memory   [][2]uintptr // address ranges of this process that pid 1 must not keep
	OOMScore int          // added to the kernel's score, so that the sandbox goes before the user's own programs
	LastCap  int          // the highest capability that this kernel knows
	Winsize  unix.Winsize // of the user's terminal
	Termios  unix.Termios // of the user's terminal, as struct termios2
	CPUs     *unix.CPUSet // the processors to use, where nothing else limits them
	FailStep string       // name or number of a set-up step that shall fail, for the proof that nothing runs then
	Watch    bool         // hand out the sandbox's /proc and workspace, for the supervisor to watch

	KillableWait bool // the kernel lets a process that waits for the supervisor's answer be killed (Linux 5.19)

	Namespaces []namespace    // our own, which the sandbox's must differ from
	Layers     map[int][3]int // as root: each overlay's lower directory, mask and layer, by the index of its mount
	Trees      []int          // as root: the plan's mounts, taken before the clone, by index; -1 where there is none
}

// handle is a descriptor that the sandbox hands to its supervisor before the command starts.
type handle struct {
	bit uint32
	fd  inside.Slot
}

// What a Handles report may carry.
const (
	HandleTerminal  = 1 << iota // the master of the command's terminal
	HandleProc                  // the sandbox's /proc
	HandleWorkspace             // the merged workspace
	HandleCalls                 // the filter's notifications of system calls
	HandleTmp                   // the sandbox's /tmp
	HandleShm                   // the sandbox's /dev/shm
)

// Rlimit is one resource limit of the command and of pid 1.
type Rlimit struct {
	Resource   int
	Soft, Hard uint64
}

const (
	namespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	sealed     = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	hostname   = "casemate"
)

// setUp writes the program that turns a child in new namespaces into the sandbox of the plan. The order is the point: what a later step
// forbids, an earlier one may still need.
func setUp(pl *plan.Plan, at *Attach) *program {
	p := &program{}
	joinLimits(p, at)
	becomeUser(p, pl, at)
	trees := openSources(p, pl, at)
	newRoot(p)
	mounts(p, pl, trees, at)
	loopback(p)
	procSettings(p)
	listeners := network(p, pl)
	maskProc(p)
	leaveHost(p)
	term, fds := terminal(p, at)
	fds = append(fds, handles(p, pl, at)...)
	verifyNetwork(p, pl)
	dropCapabilities(p, at)
	landlock(p, pl)
	rlimits(p, at)
	p.Step("signals of pid 1")
	signals := signalDescriptor(p)
	p.Step("hide pid 1's memory")
	p.prctl(unix.PR_SET_DUMPABLE, 0)
	fds = append(fds, filter(p, pl, at)...)
	verify(p, pl, at)
	handOver(p, at, fds)
	if len(listeners) > 0 {
		p.sendRights(at.Control, inside.Report{Kind: inside.Listeners, Value: uint32(len(listeners))}, listeners)
	}
	forget(p, at)
	command(p, pl, at, signals, term)
	return p
}

// joinLimits joins the cgroups before anything that could use resources. The namespace comes after it: its root is the cgroup one is in.
func joinLimits(p *program, at *Attach) {
	if len(at.Join) == 0 {
		return
	}
	joinLimitsOnly(p, at)
	p.Step("own cgroup namespace")
	p.Call(unix.SYS_UNSHARE, inside.Int(unix.CLONE_NEWCGROUP))
}

func joinLimitsOnly(p *program, at *Attach) {
	if len(at.Join) > 0 {
		p.Step("join the cgroups")
	}
	for _, fd := range at.Join {
		p.Call(unix.SYS_WRITE, inside.Int(fd), p.String("0"), inside.Int(1))
	}
}

// forget gives back the memory that the child has of its parent: the host's environment and all that the supervisor has read.
func forget(p *program, at *Attach) {
	p.Step("forget the supervisor's memory")
	for _, m := range at.Memory {
		p.Scrub(m[0], m[1]-m[0])
	}
}

func rlimits(p *program, at *Attach) {
	if at.CPUs != nil {
		p.Step("limit processors")
		p.Call(unix.SYS_SCHED_SETAFFINITY, zero, inside.Int(unsafe.Sizeof(*at.CPUs)), bytesOf(p, *at.CPUs))
	}
	for _, r := range at.Rlimits {
		p.Step("limit resource " + strconv.Itoa(r.Resource))
		p.Call(unix.SYS_PRLIMIT64, zero, inside.Int(r.Resource), bytesOf(p, unix.Rlimit{Cur: r.Soft, Max: r.Hard}), zero)
	}
}

// becomeUser maps the one id. setgroups must be denied first: a process that could drop groups would gain what a group is denied
// (CVE-2018-7169).
func becomeUser(p *program, pl *plan.Plan, at *Attach) {
	p.Step("map the user id")
	if pl.Mode == plan.Root {
		p.prctl(unix.PR_SET_DUMPABLE, 1) // changing the thread's ids cleared it, and /proc/self would be root's
	}
	if at.OOMScore > 0 {
		p.writeFile("/proc/self/oom_score_adj", fmt.Sprint(at.OOMScore))
	}
	p.writeFile("/proc/self/setgroups", "deny")
	p.writeFile("/proc/self/uid_map", fmt.Sprintf("%d %d 1\n", pl.User.UID, pl.User.UID))
	p.writeFile("/proc/self/gid_map", fmt.Sprintf("%d %d 1\n", pl.User.GID, pl.User.GID))
	if pl.Mode == plan.Root { // the saved id is still root's
		p.Call(unix.SYS_SETRESGID, inside.Int(pl.User.GID), inside.Int(pl.User.GID), inside.Int(pl.User.GID))
		p.Call(unix.SYS_SETRESUID, inside.Int(pl.User.UID), inside.Int(pl.User.UID), inside.Int(pl.User.UID))
	}
	p.Step("die with the supervisor")
	p.prctl(unix.PR_SET_PDEATHSIG, uint64(unix.SIGKILL))
	p.Step("own session keyring")
	p.Try(unix.ENOSYS, unix.SYS_KEYCTL, inside.Int(unix.KEYCTL_JOIN_SESSION_KEYRING), zero)
}

// openSources takes every host tree that will be seen, while the host's tree is still there, and restricts it before anything is attached.
func openSources(p *program, pl *plan.Plan, at *Attach) []inside.Arg {
	p.Step("private mounts")
	p.Call(unix.SYS_MOUNT, zero, p.String("/"), zero, inside.Int(unix.MS_REC|unix.MS_PRIVATE), zero)
	trees := make([]inside.Arg, len(pl.Mounts))
	for i, m := range pl.Mounts {
		switch {
		case at.Trees != nil && at.Trees[i] >= 0:
			trees[i] = inside.Int(at.Trees[i])
		case m.Kind == plan.Bind && !m.Self:
			p.Step("open " + m.Source)
			fd := p.clone(m.Source)
			if m.Ino != 0 {
				p.sameFile(fd, m.Dev, m.Ino)
			}
			p.restrict(fd, attributes(m))
			trees[i] = fd.Arg()
		case m.Kind == plan.Overlay && pl.Mode != plan.Root:
			p.Step("overlay of " + m.Source)
			trees[i] = overlay(p, m).Arg()
		}
	}
	return trees
}

func attributes(m plan.Mount) uint64 {
	a := uint64(sealed)
	if !m.Writable {
		a |= unix.MOUNT_ATTR_RDONLY
	}
	if m.NoExec {
		a |= unix.MOUNT_ATTR_NOEXEC
	}
	return a
}

// Overlay layers are named by descriptors with fixed numbers, so that no path has to be quoted in mount options.
const (
	lowerFD = 200 + iota
	maskFD
	layerFD
)

func overlay(p *program, m plan.Mount) inside.Slot {
	p.place(p.open(m.Source, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW), lowerFD, m)
	p.place(p.open(m.Mask, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW), maskFD, plan.Mount{})
	p.place(p.open(m.Layer, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW), layerFD, plan.Mount{})
	return p.overlayOf(m, lowerFD, maskFD, layerFD)
}

func (p *program) overlayOf(m plan.Mount, lower, mask, layer int) inside.Slot {
	at := func(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }
	// Unmounting an overlay syncs the whole file system that its layer is on, which takes as long as everybody else's writes do. A volatile one
	// does not; the supervisor syncs a layer that is kept. The kernel leaves a mark, to be removed before the next mount: the layer is sound
	// unless the machine itself stopped during the run (overlayfs.rst, Volatile mount).
	mark := at(layer) + "/work/work/incompat/volatile"
	p.Try(unix.ENOENT, unix.SYS_UNLINKAT, here, p.String(mark+"/dirty"), zero)
	p.Try(unix.ENOENT, unix.SYS_UNLINKAT, here, p.String(mark), inside.Int(unix.AT_REMOVEDIR))
	attributes := uint64(sealed)
	if m.ReadOnly {
		attributes |= unix.MOUNT_ATTR_RDONLY
	}
	return p.filesystem("overlay", attributes, "lowerdir="+at(mask)+":"+at(lower), "upperdir="+at(layer)+"/upper", "workdir="+at(layer)+"/work", "userxattr", "volatile")
}

func (p *program) place(fd inside.Slot, number int, m plan.Mount) {
	if m.Ino != 0 {
		p.sameFile(fd, m.Dev, m.Ino)
	}
	p.Call(unix.SYS_DUP3, fd.Arg(), inside.Int(number), inside.Int(unix.O_CLOEXEC))
}

// newRoot makes an empty root in memory and goes there. It is attached over the old root, where pivot_root will find it.
func newRoot(p *program) {
	p.Step("new root")
	root := p.filesystem("tmpfs", sealed, "size=1M", "nr_inodes=4096", "mode=755")
	p.Call(unix.SYS_MOVE_MOUNT, root.Arg(), p.String(""), here, p.String("/"), inside.Int(unix.MOVE_MOUNT_F_EMPTY_PATH))
	p.Call(unix.SYS_FCHDIR, root.Arg())
}

func mounts(p *program, pl *plan.Plan, trees []inside.Arg, at *Attach) {
	made := map[string]bool{"/": true}
	for i, m := range pl.Mounts {
		p.Step("mount " + m.Target)
		under := cover(pl.Mounts[:i], m.Target)
		switch {
		case under == nil:
			directories(p, made, path.Dir(m.Target))
		case under.Kind == plan.Tmpfs:
			directories(p, made, path.Dir(m.Target))
		}
		switch m.Kind {
		case plan.Symlink:
			p.Call(unix.SYS_SYMLINKAT, p.String(m.Source), here, p.String(relative(m.Target)))
			continue
		case plan.Bind, plan.Overlay, plan.Tmpfs:
			if under != nil && under.Kind != plan.Tmpfs {
				on := p.openBeneath(relative(m.Target))
				if m.Self {
					trees[i] = p.again(on, m)
				}
				if m.Kind == plan.Tmpfs {
					trees[i] = p.filesystem("tmpfs", attributes(m), fmt.Sprintf("size=%d", m.Size), fmt.Sprintf("mode=%o", m.Perm)).Arg()
				}
				if layers, root := at.Layers[i]; root {
					for _, fd := range layers {
						p.attachOn(inside.Int(fd), on)
					}
					trees[i] = p.overlayOf(m, layers[0], layers[1], layers[2]).Arg()
				}
				p.attachOn(trees[i], on)
				continue
			}
			mountPoint(p, made, m)
			if layers, root := at.Layers[i]; root {
				trees[i] = overlayOfTrees(p, m, layers)
			}
			if m.Kind != plan.Tmpfs {
				p.attach(trees[i], m.Target)
				continue
			}
			p.Call(unix.SYS_MOUNT, p.String("tmpfs"), p.String(relative(m.Target)), p.String("tmpfs"), inside.Int(unix.MS_NOSUID|unix.MS_NODEV), p.String(fmt.Sprintf("size=%d,mode=%o", m.Size, m.Perm)))
		case plan.Proc:
			mountPoint(p, made, m)
			p.Call(unix.SYS_MOUNT, p.String("proc"), p.String(relative(m.Target)), p.String("proc"), inside.Int(unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC), zero)
			p.statfs(relative(m.Target), unix.PROC_SUPER_MAGIC)
		case plan.Devices:
			mountPoint(p, made, m)
			devices(p, m)
		}
	}
}

// again takes what is mounted at an opened place, to be mounted over itself: read-only, or only so that its parents cannot be renamed.
func (p *program) again(on inside.Slot, m plan.Mount) inside.Arg {
	fd := p.Get(unix.SYS_OPEN_TREE, on.Arg(), p.String(""), inside.Int(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|unix.AT_EMPTY_PATH))
	p.restrict(fd, attributes(m))
	return fd.Arg()
}

// overlayOfTrees makes the overlay from trees that root has taken. A layer must lie in the mounter's own mount namespace, so they are
// attached where the overlay will cover them: below it nothing can reach them again, as nothing inside can unmount.
func overlayOfTrees(p *program, m plan.Mount, layers [3]int) inside.Arg {
	for _, fd := range layers {
		p.attach(inside.Int(fd), m.Target)
	}
	return p.overlayOf(m, layers[0], layers[1], layers[2]).Arg()
}

// cover returns the mount that a target lies on, or nil for the root.
func cover(mounts []plan.Mount, target string) *plan.Mount {
	var best *plan.Mount
	for i, m := range mounts {
		if m.Kind != plan.Symlink && strings.HasPrefix(target, m.Target+"/") && (best == nil || len(m.Target) > len(best.Target)) {
			best = &mounts[i]
		}
	}
	return best
}

func mountPoint(p *program, made map[string]bool, m plan.Mount) {
	if made[m.Target] {
		return
	}
	made[m.Target] = true
	if m.File {
		p.Call(unix.SYS_MKNODAT, here, p.String(relative(m.Target)), inside.Int(unix.S_IFREG|0o444), zero)
		return
	}
	p.Call(unix.SYS_MKDIRAT, here, p.String(relative(m.Target)), inside.Int(0o755))
}

func directories(p *program, made map[string]bool, dir string) {
	if made[dir] {
		return
	}
	directories(p, made, path.Dir(dir))
	made[dir] = true
	p.Try(unix.EEXIST, unix.SYS_MKDIRAT, here, p.String(relative(dir)), inside.Int(0o755))
}

var nodes = []struct {
	name         string
	major, minor uint32
}{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}}

// devices makes /dev in the root's own memory: six device files of the host, checked to be what their names say (CVE-2025-31133), a terminal
// file system of its own, and links.
func devices(p *program, m plan.Mount) {
	quiet := bytesOf(p, unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC})
	for _, n := range nodes {
		node := p.String("dev/" + n.name)
		p.Call(unix.SYS_MKNODAT, here, node, inside.Int(unix.S_IFREG|0o666), zero)
		p.Call(unix.SYS_MOUNT, p.String("/dev/"+n.name), node, zero, inside.Int(unix.MS_BIND), zero)
		p.device(node, n.major, n.minor)
		p.Call(unix.SYS_MOUNT_SETATTR, here, node, zero, quiet, inside.Int(mountAttrSize))
	}
	for _, d := range []string{"pts", "shm"} {
		p.Call(unix.SYS_MKDIRAT, here, p.String("dev/"+d), inside.Int(0o755))
	}
	p.Call(unix.SYS_MOUNT, p.String("devpts"), p.String("dev/pts"), p.String("devpts"), inside.Int(unix.MS_NOSUID|unix.MS_NOEXEC), p.String("newinstance,ptmxmode=0666,mode=0620"))
	p.Call(unix.SYS_MOUNT, p.String("tmpfs"), p.String("dev/shm"), p.String("tmpfs"), inside.Int(unix.MS_NOSUID|unix.MS_NODEV), p.String(fmt.Sprintf("size=%d,mode=1777", m.Size)))
	for _, l := range [][2]string{{"pts/ptmx", "ptmx"}, {"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"}} {
		p.Call(unix.SYS_SYMLINKAT, p.String(l[0]), here, p.String("dev/"+l[1]))
	}
}

// loopback brings up lo, the only interface of the empty network namespace.
func loopback(p *program) {
	p.Step("loopback")
	s := p.Get(unix.SYS_SOCKET, inside.Int(unix.AF_INET), inside.Int(unix.SOCK_DGRAM|unix.SOCK_CLOEXEC), zero)
	request := make([]byte, 40) // struct ifreq: name, then flags
	copy(request, "lo")
	binary.NativeEndian.PutUint16(request[16:], unix.IFF_UP|unix.IFF_RUNNING)
	p.Call(unix.SYS_IOCTL, s.Arg(), inside.Int(unix.SIOCSIFFLAGS), p.Bytes(request))
	p.Step("host name")
	p.Call(unix.SYS_SETHOSTNAME, p.String(hostname), inside.Int(len(hostname)))
}

// procSettings writes the settings of our own namespaces. Nested user namespaces are the way to more kernel surface, so they are refused
// twice: here and by the system call filter.
func procSettings(p *program) {
	p.Step("no nested user namespaces")
	p.writeFile("proc/sys/user/max_user_namespaces", "0")
	p.Step("low ports for programs inside")
	fd := p.Get(unix.SYS_OPENAT, here, p.String("proc/sys/net/ipv4/ip_unprivileged_port_start"), inside.Int(unix.O_WRONLY|unix.O_CLOEXEC), zero)
	p.Call(unix.SYS_WRITE, fd.Arg(), p.String("0"), inside.Int(1))
}

// maskProc makes what the kernel lets everybody configure read-only, and hides what tells of the host. Most of it belongs to root on the
// host and is refused anyway: this is the second lock.
func maskProc(p *program) {
	for _, name := range []string{"sys", "irq", "bus", "fs"} {
		p.Step("read-only /proc/" + name)
		p.readOnly("proc/" + name)
	}
	for _, name := range []string{"kcore", "keys", "key-users", "sysrq-trigger", "timer_list", "kmsg", "interrupts", "latency_stats", "sched_debug"} {
		p.Step("hide /proc/" + name)
		p.Try(unix.ENOENT, unix.SYS_MOUNT, p.String("dev/null"), p.String("proc/"+name), zero, inside.Int(unix.MS_BIND), zero)
	}
}

// leaveHost makes the new root the only one. The old root is detached as a whole: one umount, because each waits for the kernel's grace
// period under load.
func leaveHost(p *program) {
	p.Step("leave the host's tree")
	p.Call(unix.SYS_PIVOT_ROOT, p.String("."), p.String("."))
	p.Call(unix.SYS_UMOUNT2, p.String("."), inside.Int(unix.MNT_DETACH))
	p.Call(unix.SYS_CHDIR, p.String("/"))
	p.Step("read-only root")
	attr := bytesOf(p, unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	p.Call(unix.SYS_MOUNT_SETATTR, here, p.String("/"), zero, attr, inside.Int(mountAttrSize))
}

// dropCapabilities empties all five sets for pid 1 and everything after it, and locks the bits that could give some back.
func dropCapabilities(p *program, at *Attach) {
	p.Step("drop capabilities")
	p.prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL)
	for c := 0; c <= at.LastCap; c++ {
		p.prctl(unix.PR_CAPBSET_DROP, uint64(c))
	}
	const locked = 1<<0 | 1<<1 | 1<<2 | 1<<3 | 1<<5 | 1<<6 | 1<<7 // NOROOT, NO_SETUID_FIXUP, KEEP_CAPS off, NO_CAP_AMBIENT_RAISE, each locked
	p.prctl(unix.PR_SET_SECUREBITS, locked)
	header := bytesOf(p, unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3})
	p.Call(unix.SYS_CAPSET, header, bytesOf(p, [2]unix.CapUserData{}))
	p.Step("no new privileges")
	p.prctl(unix.PR_SET_NO_NEW_PRIVS, 1)
}

// signalDescriptor lets pid 1 wait for children and for its supervisor at once. All signals stay blocked in pid 1. Those that the terminal
// makes of keys reach it instead of the command while that is not the terminal's foreground yet, so it passes them on.
func signalDescriptor(p *program) inside.Slot {
	mask := uint64(0)
	for _, sig := range [...]unix.Signal{unix.SIGCHLD, unix.SIGINT, unix.SIGQUIT, unix.SIGTSTP} {
		mask |= 1 << (uint(sig) - 1)
	}
	return p.Get(unix.SYS_SIGNALFD4, inside.Int(^uintptr(0)), bytesOf(p, mask), inside.Int(8), inside.Int(unix.O_CLOEXEC|unix.O_NONBLOCK))
}

// filter installs the system call filter, the last thing that the set-up needs privileges of any kind for.
func filter(p *program, pl *plan.Plan, at *Attach) []handle {
	p.Step("system call filter")
	code := p.Bytes(unsafe.Slice((*byte)(unsafe.Pointer(&at.Filter[0])), len(at.Filter)*int(unsafe.Sizeof(at.Filter[0]))))
	length := make([]byte, 8)
	binary.NativeEndian.PutUint16(length, uint16(len(at.Filter)))
	prog := p.Bytes(append(length, make([]byte, 8)...))
	p.Pointer(prog, 8, code)
	if !pl.Syscalls.Rename && !pl.Syscalls.Metadata {
		p.Call(unix.SYS_SECCOMP, inside.Int(unix.SECCOMP_SET_MODE_FILTER), zero, prog)
		return nil
	}
	flags := unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
	if at.KillableWait {
		flags |= unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	}
	fd := p.Get(unix.SYS_SECCOMP, inside.Int(unix.SECCOMP_SET_MODE_FILTER), inside.Int(flags), prog)
	return []handle{{HandleCalls, fd}}
}

// verify reads back what the kernel made of the set-up. A mismatch is a failed start: nothing runs.
func verify(p *program, pl *plan.Plan, at *Attach) {
	p.Step("verify privileges")
	status := p.open("/proc/self/status", unix.O_RDONLY)
	buf := p.Buffer(4096)
	n := p.Get(unix.SYS_READ, status.Arg(), buf, inside.Int(4096))
	for _, want := range []string{
		"\nCapInh:\t0000000000000000\n", "\nCapPrm:\t0000000000000000\n", "\nCapEff:\t0000000000000000\n", "\nCapBnd:\t0000000000000000\n",
		"\nCapAmb:\t0000000000000000\n", "\nNoNewPrivs:\t1\n", "\nSeccomp:\t2\n",
	} {
		p.Contains(buf, n.Arg(), want)
	}
	p.Step("verify mounts")
	p.statfs("/proc", unix.PROC_SUPER_MAGIC)
	for _, m := range pl.Mounts {
		if m.Kind == plan.Overlay {
			p.statfs(m.Target, unix.OVERLAYFS_SUPER_MAGIC)
		}
	}
	p.Refused(unix.EROFS, unix.SYS_MKDIRAT, here, p.String("/casemate"), inside.Int(0o700))
	p.Step("verify namespaces")
	for _, ns := range at.Namespaces {
		stat := p.Buffer(int(unsafe.Sizeof(unix.Stat_t{})))
		p.Call(sysNewfstatat, here, p.String("/proc/self/ns/"+ns.name), stat, zero)
		p.Differ(stat, bytesOf(p, ns.id), 16)
	}
	p.Step("verify the system call filter")
	p.Refused(unix.EPERM, unix.SYS_UNSHARE, inside.Int(unix.CLONE_NEWUSER))
}

// Numbers that pid 1 keeps its two descriptors at.
const controlFD = 210

// command adds what happens after the fork: pid 1 stays in its loop, the child becomes the command.
func command(p *program, pl *plan.Plan, at *Attach, signals inside.Slot, term *inside.Slot) {
	p.Step("fork the command")
	p.Call(unix.SYS_DUP3, inside.Int(at.Control), inside.Int(controlFD), inside.Int(unix.O_CLOEXEC))
	p.Call(unix.SYS_DUP3, signals.Arg(), inside.Int(controlFD+1), inside.Int(unix.O_CLOEXEC))
	p.Fork(controlFD, false)
	standardStreams(p, at, term)
	p.Step(WorkDir)
	p.Call(unix.SYS_CHDIR, p.String(pl.Command.Dir))
	execute(p, pl)
}

// standardStreams puts the command in the foreground of its terminal, or in a session of its own, and gives it its three descriptors.
func standardStreams(p *program, at *Attach, term *inside.Slot) {
	if term != nil {
		p.Step("foreground the command")
		p.Call(unix.SYS_SETPGID, zero, zero)
		group := p.Buffer(8)
		p.Store(group, p.Get(unix.SYS_GETPID))
		p.Call(unix.SYS_IOCTL, term.Arg(), inside.Int(unix.TIOCSPGRP), group)
	} else {
		p.Step("own session")
		p.Call(unix.SYS_SETSID)
	}
	p.Step("standard streams")
	for i, fd := range at.Stdio {
		from := inside.Int(fd)
		if fd < 0 {
			from = term.Arg()
		}
		p.Call(unix.SYS_DUP3, from, inside.Int(i), zero)
	}
}

func execute(p *program, pl *plan.Plan) {
	p.Step("close other descriptors")
	p.Call(unix.SYS_CLOSE_RANGE, inside.Int(3), inside.Int(^uint32(0)), inside.Int(unix.CLOSE_RANGE_CLOEXEC))
	p.Step(Execute)
	p.Call(unix.SYS_RT_SIGPROCMASK, inside.Int(unix.SIG_SETMASK), p.Buffer(8), zero, inside.Int(8))
	p.Call(unix.SYS_EXECVE, p.String(pl.Command.Path), p.Strings(pl.Command.Argv), p.Strings(pl.Command.Env))
}

// The steps whose failure is the command's, not the sandbox's.
const (
	Execute = "execute the command"
	WorkDir = "change to the working directory"
)
