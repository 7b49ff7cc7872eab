package enginetest

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// row is a system call that must be refused. The arguments are such that nothing happens when it is not.
func row(id, title, guarantee string, control Control, nr uintptr, args ...uintptr) Case {
	return Case{ID: id, Group: "kernel", Title: title, Guarantee: guarantee, Control: control, Attack: func(*Env) Outcome {
		_, errno := sys(nr, args...).do()
		if refused(errno) {
			return held("%v", errno)
		}
		return open("the kernel was reached: %v", errno)
	}}
}

// maybe marks a control that some kernels refuse by themselves.
func maybe(c Case, why string) Case {
	c.Optional = why
	return c
}

// namespace is a kind of namespace that clone and unshare can make.
type namespace struct {
	name string
	flag uintptr
}

func newNamespaces() []namespace {
	return []namespace{
		{"mount", unix.CLONE_NEWNS}, {"uts", unix.CLONE_NEWUTS}, {"ipc", unix.CLONE_NEWIPC}, {"pid", unix.CLONE_NEWPID}, {"net", unix.CLONE_NEWNET},
		{"cgroup", unix.CLONE_NEWCGROUP}, {"user", unix.CLONE_NEWUSER},
	}
}

func kernelCases() []Case {
	bad := ^uintptr(0) // -1, a descriptor or pointer that is none
	p := func() uintptr { return addr(page()) }
	at := bad - 99 // AT_FDCWD
	root := text("/")
	empty := text("")
	cases := []Case{
		maybe(row("K01.setup", "io_uring_setup", surface, Outside, unix.SYS_IO_URING_SETUP, 1, p()), "kernel.io_uring_disabled"),
		maybe(row("K01.enter", "io_uring_enter", surface, Outside, unix.SYS_IO_URING_ENTER, bad, 0, 0, 0, 0, 0), "kernel.io_uring_disabled"),
		maybe(row("K01.register", "io_uring_register", surface, Outside, unix.SYS_IO_URING_REGISTER, bad, 0, 0, 0), "kernel.io_uring_disabled"),
		maybe(row("K02.bpf", "bpf", surface, Outside, unix.SYS_BPF, 0xffff, p(), 64), "kernel.unprivileged_bpf_disabled"),
		maybe(row("K02.perf", "perf_event_open of itself", surface, Outside, unix.SYS_PERF_EVENT_OPEN, perfSelf(), 0, bad, bad, 0), "kernel.perf_event_paranoid"),
		row("K02.userfaultfd", "userfaultfd", surface, Outside, unix.SYS_USERFAULTFD, 1 /* UFFD_USER_MODE_ONLY */),
		{ID: "K02.userfaultfd-device", Group: "kernel", Title: "/dev/userfaultfd", Guarantee: surface, Control: AsRoot, Optional: "the device may be missing", Attack: func(*Env) Outcome {
			return unless(canOpen("/dev/userfaultfd", unix.O_RDWR), "opening it")
		}},
		row("K03.add-key", "add_key", keys, Outside, unix.SYS_ADD_KEY, text("user"), text("casemate"), text("x"), 1, bad-1 /* the process keyring */),
		row("K03.request-key", "request_key", keys, Outside, unix.SYS_REQUEST_KEY, text("user"), text("casemate-none"), 0, 0),
		row("K03.persistent", "keyctl: the user's persistent keyring", keys, Outside, unix.SYS_KEYCTL, unix.KEYCTL_GET_PERSISTENT, bad, bad-1),
		row("K03.session", "keyctl: the session keyring", keys, Outside, unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, bad-2, 0),
		{ID: "K03.proc", Group: "kernel", Title: "list keys in /proc/keys", Guarantee: keys, Control: Outside, Attack: func(*Env) Outcome {
			for _, name := range []string{"/proc/keys", "/proc/key-users"} {
				if b, err := readSome(name); err == nil && len(b) > 0 {
					return open("%s: %d bytes", name, len(b))
				}
			}
			return held("neither /proc/keys nor /proc/key-users says anything")
		}},

		row("K04.open-tree", "open_tree", surface, Outside, unix.SYS_OPEN_TREE, at, root, 0),
		row("K04.open-tree-clone", "open_tree(CLONE)", surface, Scratch, unix.SYS_OPEN_TREE, at, text("/proc"), unix.OPEN_TREE_CLONE),
		maybe(row("K04.open-tree-attr", "open_tree_attr", surface, Outside, 467, at, root, 0, 0, 0), "Linux 6.15"),
		row("K04.move-mount", "move_mount", surface, Scratch, unix.SYS_MOVE_MOUNT, bad, empty, bad, empty, unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH),
		row("K04.fsopen", "fsopen", surface, Scratch, unix.SYS_FSOPEN, text("tmpfs"), 0),
		row("K04.fsconfig", "fsconfig", surface, Outside, unix.SYS_FSCONFIG, bad, 0, 0, 0, 0),
		row("K04.fsmount", "fsmount", surface, Scratch, unix.SYS_FSMOUNT, bad, 0, 0),
		row("K04.fspick", "fspick", surface, Scratch, unix.SYS_FSPICK, at, text("/proc"), 0),
		row("K04.mount-setattr", "mount_setattr", surface, Outside, unix.SYS_MOUNT_SETATTR, at, root, bad, p(), 32),
		maybe(row("K04.listmount", "listmount", surface, Outside, 458, 0, 0, 0, 0), "Linux 6.8"),
		maybe(row("K04.statmount", "statmount", surface, Outside, 457, 0, 0, 0, 0), "Linux 6.8"),
		maybe(row("K04.listns", "listns", surface, Outside, 470, 0, 0, 0, 0), "Linux 6.19"),
		row("K05.clone3", "clone3", surface, Outside, unix.SYS_CLONE3, p(), 0),
		{ID: "K05.newuser", Group: "kernel", Title: "clone3 with a new user namespace", Guarantee: surface, Control: Outside, Attack: clone3NewUser},

		maybe(row("K08.kexec", "kexec_load", surface, AsRoot, unix.SYS_KEXEC_LOAD, 0, bad, 0, bad), "the kernel may be built without it"),
		maybe(row("K08.init-module", "init_module", surface, AsRoot, unix.SYS_INIT_MODULE, 0, 0, bad), "the kernel may be built without it"),
		maybe(row("K08.finit-module", "finit_module", surface, AsRoot, unix.SYS_FINIT_MODULE, bad, bad, 0), "the kernel may be built without it"),
		maybe(row("K08.delete-module", "delete_module", surface, AsRoot, unix.SYS_DELETE_MODULE, bad, 0), "the kernel may be built without it"),
		row("K08.reboot", "reboot", surface, AsRoot, unix.SYS_REBOOT, 0, 0, 0, 0), // no magic number: EINVAL
		row("K08.swapon", "swapon", surface, AsRoot, unix.SYS_SWAPON, bad, 0),
		row("K08.swapoff", "swapoff", surface, AsRoot, unix.SYS_SWAPOFF, bad, 0),
		row("K08.acct", "acct", surface, AsRoot, unix.SYS_ACCT, bad),
		row("K08.quotactl", "quotactl", surface, Outside, unix.SYS_QUOTACTL, 0xff, 0, 0, 0),
		row("K08.settimeofday", "settimeofday", surface, Outside, unix.SYS_SETTIMEOFDAY, badTime(), 0),
		row("K08.clock-settime", "clock_settime", surface, Outside, unix.SYS_CLOCK_SETTIME, 0, badTime()),
		row("K08.adjtimex", "adjtimex that changes the clock", surface, AsRoot, unix.SYS_ADJTIMEX, badTimex()),
		row("K08.clock-adjtime", "clock_adjtime that changes the clock", surface, AsRoot, unix.SYS_CLOCK_ADJTIME, 0, badTimex()),
		row("K08.sethostname", "sethostname", surface, Scratch, unix.SYS_SETHOSTNAME, text("evil"), 4),
		row("K08.setdomainname", "setdomainname", surface, Scratch, unix.SYS_SETDOMAINNAME, text("evil"), 4),
		row("K08.vhangup", "vhangup", surface, None, unix.SYS_VHANGUP),
		row("K08.syslog", "syslog", surface, AsRoot, unix.SYS_SYSLOG, 10, 0, 0),
		row("K10.get-mempolicy", "get_mempolicy", surface, Outside, unix.SYS_GET_MEMPOLICY, p(), 0, 0, 0, 0),
		row("K10.set-mempolicy", "set_mempolicy", surface, Outside, unix.SYS_SET_MEMPOLICY, 0, 0, 0),
		row("K10.mbind", "mbind", surface, Outside, unix.SYS_MBIND, 0, 0, 0, 0, 0, 0),
		row("K10.migrate-pages", "migrate_pages", surface, Outside, unix.SYS_MIGRATE_PAGES, 0, 0, 0, 0),
		row("K10.move-pages", "move_pages", surface, Outside, unix.SYS_MOVE_PAGES, 0, 0, 0, 0, 0, 0),
		maybe(row("K10.home-node", "set_mempolicy_home_node", surface, Outside, unix.SYS_SET_MEMPOLICY_HOME_NODE, 0, 0, 0, bad), "Linux 5.17"),
		row("K11.fanotify", "fanotify_init", surface, Outside, unix.SYS_FANOTIFY_INIT, unix.FAN_CLASS_NOTIF|unix.FAN_REPORT_FID, 0),
		row("K11.fanotify-mark", "fanotify_mark", surface, Outside, unix.SYS_FANOTIFY_MARK, bad, unix.FAN_MARK_ADD, 1, at, root),
		row("K11.quotactl-fd", "quotactl_fd", surface, Outside, unix.SYS_QUOTACTL_FD, bad, 0, 0, 0),
		row("K11.process-madvise", "process_madvise", surface, Outside, unix.SYS_PROCESS_MADVISE, bad, 0, 0, 0, 0),
		maybe(row("K11.memfd-secret", "memfd_secret", surface, Outside, unix.SYS_MEMFD_SECRET, 0), "secretmem.enable"),
		maybe(row("K11.kcmp", "kcmp", surface, Outside, unix.SYS_KCMP, uintptr(os.Getpid()), uintptr(os.Getpid()), 0, 0, 1), "CONFIG_KCMP"),
		row("E32.personality", "personality: no address randomisation", surface, Outside, unix.SYS_PERSONALITY, 0x0040000),
		row("E32.read-implies-exec", "personality: READ_IMPLIES_EXEC", surface, Outside, unix.SYS_PERSONALITY, 0x0400000),
		row("E32.personality-high", "personality with high bits set", surface, Outside, unix.SYS_PERSONALITY, 1<<32|0x0040000),
		row("X.ptrace", "ptrace(TRACEME)", surface, Outside, unix.SYS_PTRACE, 0),
		row("X.process-vm", "process_vm_readv of itself", surface, Outside, unix.SYS_PROCESS_VM_READV, uintptr(os.Getpid()), 0, 0, 0, 0, 0),
		row("X.pidfd-getfd", "pidfd_getfd", surface, Outside, unix.SYS_PIDFD_GETFD, bad, 0, 0),
		maybe(row("X.lsm-self-attr", "lsm_get_self_attr", surface, Outside, 459, 100, 0, 0, 0), "Linux 6.8"),
		maybe(row("X.file-setattr", "file_setattr", surface, Outside, 469, bad, empty, p(), 24, 0x1000), "Linux 6.17"),
		{ID: "K15.notifier", Group: "kernel", Title: "become the notifier of an own filter", Guarantee: surface, Control: Outside, Attack: newListener},
		{ID: "K17.sysfs", Group: "kernel", Title: "read hardware, power, debug and trace files in /sys", Guarantee: surface, Control: Outside, Attack: func(*Env) Outcome {
			n := 0
			for _, pattern := range []string{"/sys/class/dmi/id/*", "/sys/kernel/debug/*", "/sys/kernel/tracing/*", "/sys/power/*", "/sys/kernel/uevent*", "/sys/firmware/*", "/sys/kernel/mm/*/*", "/sys/block/*", "/sys/class/net/*", "/sys/module/*/parameters/*", "/sys/fs/cgroup/*"} {
				found, _ := filepath.Glob(pattern)
				n += len(found)
				if len(found) > 0 {
					return open("%s and %d more", found[0], len(found)-1)
				}
			}
			return held("%d files", n)
		}},
		{ID: "K17.write", Group: "kernel", Title: "open a file of /sys for writing", Guarantee: surface, Control: AsRoot, Attack: func(*Env) Outcome { return writableBelow("/sys", 20000) }},
		{ID: "X.proc-sys", Group: "kernel", Title: "open a file of /proc/sys for writing", Guarantee: surface, Control: AsRoot, Attack: func(*Env) Outcome { return writableBelow("/proc/sys", 20000) }},
		{ID: "X.proc-files", Group: "kernel", Title: "open files of /proc that steer the kernel for writing", Guarantee: surface, Control: AsRoot, Attack: func(*Env) Outcome {
			for _, name := range []string{"sysrq-trigger", "irq/default_smp_affinity", "acpi/wakeup", "mtrr", "timer_list", "slabinfo", "bus/pci/devices", "scsi/scsi", "fs/binfmt_misc/register", "kpagecount", "asound/version", "latency_stats", "driver/rtc", "tty/driver", "1/oom_score_adj", "1/timens_offsets"} {
				if canWrite("/proc/"+name) == nil {
					return open("/proc/%s", name)
				}
			}
			return held("none")
		}},
		{ID: "X.proc-secrets", Group: "kernel", Title: "read files of /proc that show the host: kcore, kpageflags, keys, timer_list, modules, iomem", Guarantee: surface, Control: AsRoot, Attack: func(*Env) Outcome {
			for _, name := range []string{"kcore", "kpageflags", "kpagecount", "timer_list", "sched_debug", "slabinfo", "vmallocinfo", "pagetypeinfo", "latency_stats"} {
				f, err := os.OpenFile("/proc/"+name, os.O_RDONLY|unix.O_NONBLOCK, 0)
				if err != nil {
					continue
				}
				b := make([]byte, 16)
				n, _ := f.Read(b)
				f.Close()
				if n > 0 {
					return open("/proc/%s", name)
				}
			}
			return held("none")
		}},
		{ID: "K19.kallsyms", Group: "kernel", Title: "read kernel addresses", Guarantee: surface, Control: AsRoot, Attack: func(*Env) Outcome {
			b, err := readSome("/proc/kallsyms")
			if err != nil {
				return held("%v", err)
			}
			line, _, _ := bytes.Cut(b, []byte("\n"))
			address, _, _ := bytes.Cut(line, []byte(" "))
			if strings.Trim(string(address), "0") == "" {
				return held("addresses are zero (%d bytes)", len(b))
			}
			return open("%s", line)
		}},
		{ID: "K19.dmesg", Group: "kernel", Title: "read the kernel's log", Guarantee: surface, Control: AsRoot, Attack: func(*Env) Outcome {
			buf := page()
			n, errno := sys(unix.SYS_SYSLOG, 3, addr(buf), 4096).do()
			if errno == 0 && n > 0 {
				return open("%d bytes", n)
			}
			return first(unless(canOpen("/dev/kmsg", unix.O_RDONLY), "opening /dev/kmsg"), held("%v", errno))
		}},
		{ID: "K20.register", Group: "kernel", Title: "register a binary format", Guarantee: surface, Control: None, NoControl: "binfmt_misc need not be mounted on the host", Attack: func(*Env) Outcome {
			return unless(canOpen("/proc/sys/fs/binfmt_misc/register", unix.O_WRONLY), "opening it")
		}},
		{ID: "X.cgroup-release", Group: "kernel", Title: "mount a cgroup hierarchy for its release_agent (CVE-2022-0492)", Guarantee: surface, Control: Scratch, Attack: func(*Env) Outcome { return mount("cgroup2", "/tmp", "cgroup2", 0) }},
		{ID: "K20.mount", Group: "kernel", Title: "mount binfmt_misc", Guarantee: surface, Control: Scratch, Optional: "Linux 6.7", Attack: func(*Env) Outcome { return mount("b", "/tmp", "binfmt_misc", 0) }},
		{ID: "N22.sysfs", Group: "network", Title: "mount sysfs", Guarantee: surface, Control: Scratch, Attack: func(*Env) Outcome { return mount("s", "/tmp", "sysfs", 0) }},
		{ID: "F29.tmpfs", Group: "files", Title: "mount over the project", Guarantee: surface, Control: Scratch, Attack: func(e *Env) Outcome { return mount("t", e.Work, "tmpfs", 0) }},
		{ID: "F29.bind", Group: "files", Title: "bind-mount", Guarantee: surface, Control: Scratch, Attack: func(e *Env) Outcome { return mount("/usr", "/tmp", "", unix.MS_BIND) }},
		{ID: "F29.proc", Group: "files", Title: "mount a fresh proc", Guarantee: surface, Control: Scratch, Attack: func(e *Env) Outcome { return mount("p", "/tmp", "proc", 0) }},
		{ID: "F29.overlay", Group: "files", Title: "mount an overlay", Guarantee: surface, Control: Scratch, Attack: func(e *Env) Outcome {
			return mountData("o", "/tmp", "overlay", "lowerdir=/usr:/etc,userxattr")
		}},
		{ID: "F29.remount", Group: "files", Title: "remount what is read-only writable", Guarantee: surface, Control: Scratch, Attack: eachMount("remounting", func(path string) error {
			return unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_NOSUID|unix.MS_NODEV, "")
		})},
		{ID: "F29.umount", Group: "files", Title: "unmount a mask, /proc or anything", Guarantee: surface, Control: Scratch, Attack: eachMount("unmounting", func(path string) error {
			return unix.Unmount(path, unix.MNT_DETACH)
		})},
		{ID: "F29.private", Group: "files", Title: "change propagation", Guarantee: surface, Control: Scratch, Attack: func(*Env) Outcome {
			return unless(unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, ""), "making / shared")
		}},
		{ID: "F29.pivot", Group: "files", Title: "pivot_root", Guarantee: surface, Control: None, NoControl: "the mount table of a plain user namespace refuses it too", Attack: func(*Env) Outcome {
			return forked("pivot_root", 0, sys(unix.SYS_PIVOT_ROOT, text("."), text(".")))
		}},
		{ID: "F29.nested", Group: "files", Title: "unmount from a nested user namespace", Guarantee: surface, Control: Outside, Optional: "unprivileged user namespaces may be off", Attack: func(*Env) Outcome {
			return forked("unmounting in a nested namespace", unix.CLONE_NEWUSER|unix.CLONE_NEWNS, sys(unix.SYS_MOUNT, text("t"), text("/proc"), text("tmpfs"), 0, 0))
		}},
		{ID: "P09.clone", Group: "processes", Title: "clone(NEWUSER)", Guarantee: surface, Control: Outside, Optional: "unprivileged user namespaces may be off", Attack: func(*Env) Outcome {
			return forked("clone(NEWUSER)", unix.CLONE_NEWUSER)
		}},
		{ID: "P09.unshare", Group: "processes", Title: "unshare(NEWUSER)", Guarantee: surface, Control: Outside, Optional: "unprivileged user namespaces may be off", Attack: func(*Env) Outcome {
			return forked("unshare(NEWUSER)", 0, sys(unix.SYS_UNSHARE, unix.CLONE_NEWUSER))
		}},
		{ID: "P09.program", Group: "processes", Title: "unshare -Ur", Guarantee: surface, Control: Outside, Optional: "unprivileged user namespaces may be off", Attack: func(*Env) Outcome {
			out, ok := program("/", "unshare", "-Ur", "id", "-u")
			if !ok {
				return notRun("%s", out)
			}
			if strings.TrimSpace(out) == "0" {
				return open("uid 0 in a nested namespace")
			}
			return held("%s", brief(out))
		}},
		{ID: "P09.sysctl", Group: "processes", Title: "the second lock: max_user_namespaces", Guarantee: surface, Control: Outside, Optional: "unprivileged user namespaces may be off", Attack: func(e *Env) Outcome {
			if link, err := os.Readlink("/proc/self/ns/user"); err == nil && link == e.HostNS["user"] && e.Control == "" {
				return notRun("the user namespace is the host's: only the filter holds here")
			}
			b, err := readSome("/proc/sys/user/max_user_namespaces")
			if err != nil {
				return held("%v", err)
			}
			if v := strings.TrimSpace(string(b)); v != "0" {
				return open("it is %s", v)
			}
			return held("it is 0")
		}},
		{ID: "K06.setns", Group: "kernel", Title: "setns into the own namespace", Guarantee: surface, Control: Scratch, Attack: func(*Env) Outcome {
			fd, err := unix.Open("/proc/self/ns/uts", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return held("%v", err)
			}
			return forked("setns", 0, sys(unix.SYS_SETNS, uintptr(fd), 0))
		}},
		{ID: "X.timens", Group: "kernel", Title: "unshare a time namespace and shift the clock", Guarantee: surface, Control: Scratch, Attack: func(*Env) Outcome {
			return forked("unshare(NEWTIME)", 0, sys(unix.SYS_UNSHARE, unix.CLONE_NEWTIME))
		}},
		{ID: "X.timens-offsets", Group: "kernel", Title: "write the time namespace's offsets", Guarantee: surface, Control: None, NoControl: "offsets are writable only between unshare and the first fork", Attack: func(*Env) Outcome {
			return unless(os.WriteFile("/proc/self/timens_offsets", []byte("monotonic 86400 0\n"), 0), "writing timens_offsets")
		}},
		{ID: "X.ns-ioctl", Group: "kernel", Title: "walk to the parent's user namespace by ioctl", Guarantee: surface, Control: None,
			NoControl: "the kernel hands out nothing above the caller's own namespace; this watches that no descriptor of it is there", Attack: nsParent},
		{ID: "F28.block", Group: "files", Title: "make a block device", Guarantee: privilege, Control: AsRoot, Attack: func(e *Env) Outcome { return makeNode(e, unix.S_IFBLK, unix.Mkdev(254, 0)) }},
		{ID: "F28.mem", Group: "files", Title: "make /dev/null, /dev/mem and /dev/kmsg", Guarantee: privilege, Control: AsRoot, Attack: func(e *Env) Outcome {
			return first(makeNode(e, unix.S_IFCHR, unix.Mkdev(1, 3)), makeNode(e, unix.S_IFCHR, unix.Mkdev(1, 1)), makeNode(e, unix.S_IFCHR, unix.Mkdev(1, 11)))
		}},
		{ID: "F28.list", Group: "files", Title: "find more devices than a program needs", Guarantee: denyRead, Control: Outside, Attack: listDevices},
		{ID: "F28.open", Group: "files", Title: "open kmsg, mem, kvm, fuse, tun, vsock, loop-control, uinput, dri, the disks", Guarantee: denyRead, Control: AsRoot, Attack: func(*Env) Outcome {
			for _, name := range []string{"kmsg", "mem", "kvm", "fuse", "net/tun", "vsock", "vhost-net", "loop-control", "loop0", "uinput", "dri/card0", "dri/renderD128", "sda", "vda", "nvme0", "console", "tty0", "ttyS0", "vcs", "rtc0", "hwrng", "btrfs-control", "cpu_dma_latency", "autofs", "mapper/control", "snd/controlC0", "video0", "input/event0", "userfaultfd", "ptp0", "bus/usb"} {
				if err := canOpen("/dev/"+name, unix.O_RDONLY); err == nil {
					return open("/dev/%s", name)
				}
			}
			return held("none")
		}},
		{ID: "F28.nodev", Group: "files", Title: "find a mount without nodev", Guarantee: privilege, Control: Outside, Attack: func(e *Env) Outcome { return mountsLack(e, "nodev") }},
		{ID: "E24.io-uring-socket", Group: "kernel", Title: "open a filtered socket through io_uring", Guarantee: surface, Control: Outside, Optional: "kernel.io_uring_disabled", Attack: uringSocket},
	}
	cases[indexOf(cases, "K08.vhangup")].NoControl = "it would hang up the terminal of whoever runs the tests as root"
	for _, ns := range newNamespaces() {
		name, flag := ns.name, ns.flag
		cases = append(cases,
			Case{ID: "K06.clone-" + name, Group: "kernel", Title: "clone with a new " + name + " namespace", Guarantee: surface, Control: Scratch, Attack: func(*Env) Outcome {
				return forked("clone", flag)
			}},
			Case{ID: "K06.unshare-" + name, Group: "kernel", Title: "unshare the " + name + " namespace", Guarantee: surface, Control: Scratch, Attack: func(*Env) Outcome {
				return forked("unshare", 0, sys(unix.SYS_UNSHARE, flag))
			}})
	}
	return cases
}

func indexOf(cases []Case, id string) int {
	for i, c := range cases {
		if c.ID == id {
			return i
		}
	}
	panic("bug: no case " + id)
}

func mount(source, target, kind string, flags uintptr) Outcome {
	return unless(unix.Mount(source, target, kind, flags, ""), "mounting")
}

func mountData(source, target, kind, data string) Outcome {
	return unless(unix.Mount(source, target, kind, 0, data), "mounting")
}

// eachMount tries something on every mount, the latest first.
func eachMount(what string, try func(path string) error) func(*Env) Outcome {
	return func(*Env) Outcome {
		b, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			b = []byte("0 0 0:0 / /proc x\n0 0 0:0 / / x\n0 0 0:0 / /usr x\n")
		}
		lines := strings.Split(strings.TrimSpace(string(b)), "\n")
		var last error
		for i := len(lines) - 1; i >= 0; i-- {
			f := strings.Fields(lines[i])
			if len(f) < 5 {
				continue
			}
			if last = try(f[4]); last == nil {
				return open("%s %s succeeded", what, f[4])
			}
		}
		return held("%s %d mounts: %v", what, len(lines), last)
	}
}

// writableBelow opens files for writing, and writes nothing.
func writableBelow(root string, most int) Outcome {
	n, found := 0, ""
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil //nolint:nilerr // what cannot be listed cannot be written either
		}
		if n++; n > most {
			return fs.SkipAll
		}
		// The settings of the own, empty network namespace harm nobody.
		if d.Type().IsRegular() && !strings.HasPrefix(path, "/proc/sys/net/") && canWrite(path) == nil {
			found = path
			return fs.SkipAll
		}
		return nil
	})
	if found != "" {
		return open("%s can be opened for writing", found)
	}
	return held("none of %d files", n)
}

func makeNode(e *Env, kind uint32, dev uint64) Outcome {
	path := filepath.Join(scratchDir(e), "node"+e.id)
	defer os.Remove(path)
	return unless(unix.Mknod(path, kind|0o600, int(dev)), "mknod")
}

// listDevices compares /dev with what a program may expect there.
func listDevices(*Env) Outcome {
	entries, err := os.ReadDir("/dev")
	if err != nil {
		return held("%v", err)
	}
	const allowed = " null zero full random urandom tty ptmx pts shm fd stdin stdout stderr console mqueue "
	for _, d := range entries {
		if !strings.Contains(allowed, " "+d.Name()+" ") {
			return open("/dev/%s", d.Name())
		}
	}
	return held("%d entries", len(entries))
}

// perfSelf is an attribute that an ordinary user may use on itself: user mode only.
func perfSelf() uintptr {
	b := page()
	*(*unix.PerfEventAttr)(unsafe.Pointer(&b[0])) = unix.PerfEventAttr{
		Type: unix.PERF_TYPE_SOFTWARE, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{})), Config: unix.PERF_COUNT_SW_TASK_CLOCK,
		Bits: unix.PerfBitExcludeKernel | unix.PerfBitExcludeHv | unix.PerfBitDisabled,
	}
	return addr(b)
}

// badTime has more than a second of nanoseconds: EINVAL before anything is set.
func badTime() uintptr {
	b := page()
	*(*unix.Timespec)(unsafe.Pointer(&b[0])) = unix.Timespec{Sec: 1, Nsec: 2_000_000_000}
	return addr(b)
}

// badTimex asks for an adjustment by an impossible amount: EINVAL for whoever may adjust.
func badTimex() uintptr {
	b := page()
	*(*unix.Timex)(unsafe.Pointer(&b[0])) = unix.Timex{Modes: unix.ADJ_TICK, Tick: 1}
	return addr(b)
}

// clone3NewUser passes real arguments, in a child that ends at once.
func clone3NewUser(*Env) Outcome {
	args := page()
	*(*uint64)(unsafe.Pointer(&args[0])) = unix.CLONE_NEWUSER
	*(*uint64)(unsafe.Pointer(&args[32])) = uint64(unix.SIGCHLD)
	pid, _, errno := syscall.RawSyscall(unix.SYS_CLONE3, addr(args), 88, 0)
	if errno == 0 && pid == 0 {
		for {
			syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
	}
	if errno != 0 {
		return held("%v", errno)
	}
	_, _ = unix.Wait4(int(pid), nil, 0, nil)
	return open("clone3 made a process in a new user namespace")
}

// newListener installs a filter that allows everything and asks for its notifier. It runs in a child, since a filter cannot be taken back.
func newListener(*Env) Outcome {
	prog := page()
	*(*unix.SockFilter)(unsafe.Pointer(&prog[64])) = unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}
	*(*unix.SockFprog)(unsafe.Pointer(&prog[0])) = unix.SockFprog{Len: 1, Filter: (*unix.SockFilter)(unsafe.Pointer(&prog[64]))}
	return forked("seccomp(NEW_LISTENER)", 0,
		sys(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
		sys(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, addr(prog)))
}

// nsParent asks the kernel for the namespace that owns this one.
func nsParent(*Env) Outcome {
	f, err := os.Open("/proc/self/ns/uts")
	if err != nil {
		return held("%v", err)
	}
	defer f.Close()
	own, errno := sys(unix.SYS_IOCTL, f.Fd(), unix.NS_GET_USERNS).do()
	if errno != 0 {
		return held("NS_GET_USERNS: %v", errno)
	}
	parent, errno := sys(unix.SYS_IOCTL, own, unix.NS_GET_PARENT).do()
	if errno == 0 {
		return open("descriptor %d is the parent's user namespace", parent)
	}
	return held("NS_GET_PARENT: %v", errno)
}

// uringSocket makes the ring on which IORING_OP_SOCKET would open a family that the filter refuses.
func uringSocket(*Env) Outcome {
	params := page()
	ring, errno := sys(unix.SYS_IO_URING_SETUP, 4, addr(params)).do()
	if errno != 0 {
		return held("io_uring_setup: %v", errno)
	}
	_ = unix.Close(int(ring))
	return open("a ring was made, and what runs on it passes no filter")
}
