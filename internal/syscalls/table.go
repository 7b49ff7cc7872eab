package syscalls

import "golang.org/x/sys/unix"

// Numbers that golang.org/x/sys/unix has no name for, or only for one machine.
const (
	createsFile = unix.O_CREAT | 0o20000000 // O_CREAT, __O_TMPFILE: the flags with which open(2) heeds its mode

	namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

	socketType = 0xf // SOCK_TYPE_MASK: the rest of socket(2)'s second argument are flags

	ioprioProcess = 1          // IOPRIO_WHO_PROCESS
	fsGetXattr    = 0x801c581f // FS_IOC_FSGETXATTR
	fsFiemap      = 0xc020660b // FS_IOC_FIEMAP
	ioctlType     = 0xff00     // the letter of a request, as _IOC(2) packs it

	perLinux32 = 0x8     // personality(2): PER_LINUX32, what setarch i386 sets
	uname26    = 0x20000 // UNAME26, a kernel that calls itself 2.6

	x32Bit = 0x40000000 // __X32_SYSCALL_BIT
	newest = 471        // the newest reviewed number: rseq_slice_yield
)

// The rows for what no name in the table covers. Compile builds them in; they stand here so that the table is whole.
var (
	foreign = Row{
		Calls: "(any)", When: "made for another architecture, such as by int 0x80", Answer: Kill,
		Reason: "the same number is another call there, so that the rest of the table would not hold",
		Source: "seccomp(2), Caveats; measured: int 0x80 ran a refused call past a filter without this row",
	}
	x32 = Row{
		Calls: "(any)", When: "made through the x32 entry", Answer: ENOSYS,
		Reason: "the same calls under other numbers; hardly a kernel has it and no tool needs it",
		Source: "seccomp(2), Notes",
	}
	unreviewed = Row{
		Calls: "(any)", When: "not in the reviewed list, which ends with number 471", Answer: ENOSYS,
		Reason: "nobody has looked at what it opens; programs take the answer for an older kernel",
		Source: "moby issue 42680: a filter that answers EPERM to new calls breaks new C libraries",
	}
	rest = Row{
		Calls: "(any other)", Answer: Allow,
		Reason: "tool chains need breadth; what these calls reach is decided by namespaces, mounts, Landlock and limits",
	}
)

// table holds the rows in the order in which they are asked. It is data without code, laid out by the compiler: it costs a start nothing.
var table = [...]Row{
	// Without namespaces: what Landlock does not stop. "Measured" means that it succeeded under Landlock ABI 7 on Linux 6.18.

	{
		Calls: "socket", Answer: EPERM, With: withFallback,
		Reason: "there is no network namespace, and Landlock stops neither UDP, MPTCP, vsock and netlink nor connections to the user's unix sockets",
		Source: "measured; landlock(7); Landlock handles unix sockets from ABI 9 and UDP from ABI 10 on",
	},
	{
		Calls: "socketpair", When: "the type is SOCK_DGRAM or SOCK_RAW", Answer: EPERM, With: withFallback,
		Reason: "a datagram pair can send to, and connect to, any unix socket by its path",
		Source: "unix(7); measured",
		args:   []condition{{arg: 1, mask: socketType, in: []uint32{unix.SOCK_DGRAM, unix.SOCK_RAW}}},
	},
	{
		Calls: "connect", Answer: EPERM, With: withFallback,
		Reason: "no socket can be made; what is left is one that was inherited",
		Source: "CVE-2024-21626 is of this kind",
	},
	{
		Calls: "shmget shmat shmctl msgget msgsnd msgrcv msgctl semget semop semtimedop semctl mq_open mq_unlink", Answer: ENOSYS, With: withFallback,
		Reason: "there is no IPC namespace: they reach the segments and queues of the user's other programs, and what they make stays behind",
		Source: "measured: shmat, msgget, mq_unlink; a kernel without CONFIG_SYSVIPC answers the same",
	},
	{
		Calls: "prlimit64", When: "the process is not 0 (itself)", Answer: EPERM, With: withFallback,
		Reason: "changes the limits of any process of the user",
		Source: "prlimit(2); measured",
		args:   []condition{{arg: 0, in: []uint32{0}, not: true}},
	},
	{
		Calls: "setpriority", When: "of one process, and that is 0 (itself)", Answer: Allow, With: withFallback,
		Reason: "nice",
		Source: "setpriority(2)",
		args:   []condition{{arg: 0, in: []uint32{unix.PRIO_PROCESS}}, {arg: 1, in: []uint32{0}}},
	},
	{
		Calls: "setpriority", Answer: EPERM, With: withFallback,
		Reason: "slows down any process of the user",
		Source: "setpriority(2); measured",
	},
	{
		Calls: "ioprio_set", When: "of one process, and that is 0 (itself)", Answer: Allow, With: withFallback,
		Reason: "ionice",
		Source: "ioprio_set(2)",
		args:   []condition{{arg: 0, in: []uint32{ioprioProcess}}, {arg: 1, in: []uint32{0}}},
	},
	{
		Calls: "ioprio_set", Answer: EPERM, With: withFallback,
		Reason: "starves any process of the user of its disk",
		Source: "ioprio_set(2)",
	},
	{
		Calls: "sched_setparam sched_setscheduler sched_setattr sched_setaffinity", When: "the process is not 0 (itself)", Answer: EPERM, With: withFallback,
		Reason: "takes the processor from any process of the user; also refuses pthread_setaffinity_np, which names its own thread by number",
		Source: "sched(7)",
		args:   []condition{{arg: 0, in: []uint32{0}, not: true}},
	},
	{
		Calls: "ioctl", When: "the request reads attributes or extents, or clones or compares ranges", Answer: Allow, With: withFallback,
		Reason: "lsattr, cp --reflink: the destination must be open for writing, or its bytes the same",
		Source: "ioctl_fs(2), ioctl_ficlone(2), ioctl_fideduperange(2)",
		args:   []condition{{arg: 1, in: []uint32{unix.FS_IOC_GETFLAGS, fsGetXattr, fsFiemap, unix.FICLONE, unix.FICLONERANGE, unix.FIDEDUPERANGE}}},
	},
	{
		Calls: "ioctl", When: "the request is a file system's (letters f, X, v, r, 0x94)", Answer: EPERM, With: withFallback,
		Reason: "chattr, fs-verity, fscrypt and btrfs subvolumes ask for a descriptor opened for reading only; Landlock restricts ioctl on devices alone",
		Source: "landlock(7), ABI 5",
		args:   []condition{{arg: 1, mask: ioctlType, in: []uint32{'f' << 8, 'X' << 8, 'v' << 8, 'r' << 8, 0x94 << 8}}},
	},
	{
		Calls: "setxattr lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat", Answer: EOPNOTSUPP, With: withFallback,
		Reason: "they need to own a file, not to be granted it. Programs that copy attributes take the answer for a file system without them",
		Source: "measured; landlock(7), Current limitations",
	},
	{
		Calls: "inotify_add_watch", Answer: EPERM, With: withoutHook,
		Reason: "names every file that is touched in any directory the user may read; also refuses the file watchers of build tools",
		Source: "measured; Landlock has no hook there",
	},
	{
		Calls:  "chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes utimensat futimesat",
		Answer: EPERM, With: withoutHook,
		Reason: "they need to own a file, not to be granted it, by descriptor too: one opened for reading will do. This also refuses git init, npm install and cp -p",
		Source: "measured; landlock(7), Current limitations",
	},

	// Debuggers.

	{
		Calls: "ptrace process_vm_readv", Answer: Allow, With: withDevel,
		Reason: "gdb, strace, delve: on the sandbox's own processes; pid 1 is not dumpable",
		Source: "ptrace(2)",
	},

	// For everybody: namespaces, mounts, and other ways to look behind the sandbox.

	{
		Calls: "clone", When: "a flag asks for a namespace (0x7e020000)", Answer: EPERM,
		Reason: "a new user namespace gives every capability towards kernel code that only root could reach before",
		Source: "CVE-2022-0185, CVE-2022-25636, CVE-2023-32233; Docker",
		args:   []condition{{arg: 0, mask: namespaces}},
	},
	{
		Calls: "clone3", Answer: ENOSYS,
		Reason: "its flags are behind a pointer; C libraries fall back to clone",
		Source: "CVE-2021-41133; moby issue 42680; Docker, flatpak",
	},
	{
		Calls: "unshare setns", Answer: EPERM,
		Reason: "as clone with a namespace",
		Source: "Docker, flatpak",
	},
	{
		Calls: "mount umount2 pivot_root chroot", Answer: EPERM,
		Reason: "change what is visible where",
		Source: "Docker, flatpak",
	},
	{
		Calls:  "open_tree open_tree_attr move_mount fsopen fsconfig fsmount fspick mount_setattr statmount listmount listns",
		Answer: ENOSYS,
		Reason: "the same by the newer interface; the last three describe the host's mounts and namespaces",
		Source: "CVE-2021-41133, CVE-2022-0185; Docker blocks all but statmount and listmount",
	},
	{
		Calls: "name_to_handle_at open_by_handle_at", Answer: EPERM,
		Reason: "open a file by its number, past every mount",
		Source: "the Shocker exploit of 2014; Docker blocks the second",
	},

	// Parts of the kernel with a long record of holes.

	{
		Calls: "io_uring_setup io_uring_enter io_uring_register", Answer: ENOSYS,
		Reason: "a second way to nearly every call, which this filter does not see",
		Source: "CVE-2022-2602, CVE-2023-2598, CVE-2024-0582; Docker",
	},
	{
		Calls: "bpf perf_event_open userfaultfd", Answer: EPERM,
		Reason: "verifiers, counters and fault handlers: kernel code for the few, and the tools of those who exploit the rest",
		Source: "CVE-2021-3490, CVE-2023-2163, CVE-2013-2094; Docker",
	},
	{
		Calls: "uprobe uretprobe", Answer: Allow,
		Reason: "what the kernel writes into a program that the host's administrator traces; anybody else gets SIGILL or an error. Refusing kills the traced program",
		Source: "systemd issue 34615; measured: Linux 6.18 does not ask filters about them",
	},
	{
		Calls: "add_key request_key keyctl", Answer: EPERM,
		Reason: "keyrings belong to the user, not to a namespace: the host's keys are within reach",
		Source: "CVE-2016-0728; measured inside all namespaces; Docker",
	},
	{
		Calls: "fanotify_init fanotify_mark memfd_secret", Answer: EPERM,
		Reason: "watching file systems; memory hidden from the kernel, which also stops hibernation",
		Source: "fanotify(7), memfd_secret(2)",
	},
	{
		Calls: "move_pages migrate_pages mbind set_mempolicy set_mempolicy_home_node get_mempolicy", Answer: EPERM,
		Reason: "placing memory on nodes: bugs, and a way to see and burden the host's",
		Source: "CVE-2010-0415, CVE-2017-7616; Docker, flatpak",
	},
	{
		Calls: "modify_ldt uselib ustat sysfs _sysctl nfsservctl lookup_dcookie get_kernel_syms query_module " +
			"afs_syscall getpmsg putpmsg security tuxcall vserver",
		Answer: ENOSYS,
		Reason: "dead, or alive only for 16-bit programs",
		Source: "CVE-2015-5157 (modify_ldt); Docker blocks all but modify_ldt",
	},
	{
		Calls: "lsm_get_self_attr lsm_set_self_attr lsm_list_modules file_getattr file_setattr rseq_slice_yield", Answer: ENOSYS,
		Reason: "new, and nothing needs them yet; file_setattr does what ioctl does to files in fallback",
		Source: "Docker does not allow them",
	},

	// Other processes.

	{
		Calls: "ptrace process_vm_readv process_vm_writev pidfd_getfd kcmp process_madvise", Answer: EPERM,
		Reason: "read, steer and rob other processes, such as pid 1",
		Source: "ptrace(2); codex; Docker allows the first three",
	},
	{
		Calls: "seccomp", When: "the flags hold SECCOMP_FILTER_FLAG_NEW_LISTENER", Answer: EPERM,
		Reason: "there can be one listener, the supervisor's; other filters on top of this one can only take away more",
		Source: "seccomp_unotify(2)",
		args:   []condition{{arg: 1, mask: unix.SECCOMP_FILTER_FLAG_NEW_LISTENER}},
	},

	// The terminal.

	{
		Calls: "ioctl", When: "the request is TIOCSTI", Answer: EPERM,
		Reason: "types into the terminal's input, which the shell outside reads later",
		Source: "CVE-2017-5226; compared by 32 bits: CVE-2019-10063; flatpak",
		args:   []condition{{arg: 1, in: []uint32{unix.TIOCSTI}}},
	},
	{
		Calls: "ioctl", When: "the request is TIOCLINUX", Answer: EPERM,
		Reason: "selects and pastes on a virtual console",
		Source: "CVE-2023-28100; flatpak",
		args:   []condition{{arg: 1, in: []uint32{unix.TIOCLINUX}}},
	},
	{
		Calls: "ioctl", When: "the request is TIOCCONS", Answer: EPERM,
		Reason: "takes over the output of the console",
		Source: "ioctl_console(2)",
		args:   []condition{{arg: 1, in: []uint32{unix.TIOCCONS}}},
	},
	{
		Calls: "ioctl", When: "the request is TIOCSETD", Answer: EPERM,
		Reason: "loads a line discipline: drivers for modems and radio that any terminal can be given",
		Source: "CVE-2017-2636, CVE-2020-14416, CVE-2023-6546",
		args:   []condition{{arg: 1, in: []uint32{unix.TIOCSETD}}},
	},

	// The network. What may be reached is not decided here, only by what kind of socket.

	{
		Calls: "socket", When: "the family is AF_UNIX", Answer: Allow,
		Reason: "local; the host's sockets are not mounted and abstract ones belong to the network namespace",
		Source: "unix(7)",
		args:   []condition{{arg: 0, in: []uint32{unix.AF_UNIX}}},
	},
	{
		Calls: "socket", When: "AF_INET or AF_INET6, SOCK_STREAM, protocol TCP or 0", Answer: Allow,
		Reason: "TCP",
		Source: "tcp(7)",
		args: []condition{
			{arg: 0, in: []uint32{unix.AF_INET, unix.AF_INET6}},
			{arg: 1, mask: socketType, in: []uint32{unix.SOCK_STREAM}},
			{arg: 2, in: []uint32{0, unix.IPPROTO_TCP}},
		},
	},
	{
		Calls: "socket", When: "AF_INET or AF_INET6, SOCK_DGRAM, protocol UDP or 0", Answer: Allow,
		Reason: "UDP, which the names of hosts are asked by",
		Source: "udp(7)",
		args: []condition{
			{arg: 0, in: []uint32{unix.AF_INET, unix.AF_INET6}},
			{arg: 1, mask: socketType, in: []uint32{unix.SOCK_DGRAM}},
			{arg: 2, in: []uint32{0, unix.IPPROTO_UDP}},
		},
	},
	{
		Calls: "socket", When: "AF_INET or AF_INET6, SOCK_RAW", Answer: EPERM,
		Reason: "packets of one's own making; the kernel answers the same to who has no CAP_NET_RAW",
		Source: "raw(7)",
		args: []condition{
			{arg: 0, in: []uint32{unix.AF_INET, unix.AF_INET6}},
			{arg: 1, mask: socketType, in: []uint32{unix.SOCK_RAW}},
		},
	},
	{
		Calls: "socket", When: "AF_INET or AF_INET6 with any other type or protocol", Answer: EPROTONOSUPPORT,
		Reason: "MPTCP and SMC carry TCP past rules about TCP; SCTP, DCCP and UDP-Lite are rarely used code. SOCK_SEQPACKET with protocol 0 is SCTP, " +
			"SOCK_PACKET a raw socket, SOCK_DGRAM with ICMP is ping: hence a list of what is allowed",
		Source: "measured: MPTCP passes Landlock; CVE-2017-6074 (DCCP), CVE-2021-23133 (SCTP), CVE-2015-3636 (ping)",
		args:   []condition{{arg: 0, in: []uint32{unix.AF_INET, unix.AF_INET6}}},
	},
	{
		Calls: "socket", When: "the family is AF_NETLINK and the protocol NETLINK_ROUTE", Answer: Allow,
		Reason: "C libraries ask for the machine's addresses by it; changing anything takes a capability",
		Source: "rtnetlink(7)",
		args:   []condition{{arg: 0, in: []uint32{unix.AF_NETLINK}}, {arg: 2, in: []uint32{unix.NETLINK_ROUTE}}},
	},
	{
		Calls: "socket", When: "the family is AF_NETLINK with another protocol", Answer: EPROTONOSUPPORT,
		Reason: "netfilter, audit, xfrm, crypto, generic: each a part of the kernel of its own, not all of them namespaced",
		Source: "CVE-2022-25636, CVE-2023-32233; libaudit takes the answer for a kernel without audit",
		args:   []condition{{arg: 0, in: []uint32{unix.AF_NETLINK}}},
	},
	{
		Calls: "socket", Answer: EAFNOSUPPORT,
		Reason: "vsock reaches the hypervisor from any network namespace; packet, alg, xdp, tipc, smc, rds, can, bluetooth and the rest are attack surface",
		Source: "vsock(7), measured; CVE-2017-7308 (packet), CVE-2021-43267 (tipc); Docker blocks alg and vsock, flatpak and codex as here",
	},
	{
		Calls: "socketpair", When: "the family is not AF_UNIX", Answer: EAFNOSUPPORT,
		Reason: "as socket; only unix sockets come in pairs that anybody uses",
		Source: "socketpair(2); codex",
		args:   []condition{{arg: 0, in: []uint32{unix.AF_UNIX}, not: true}},
	},
	{
		Calls: "sendto sendmmsg", When: "the flags hold MSG_FASTOPEN or MSG_OOB", Answer: EPERM,
		Reason: "MSG_FASTOPEN connects without asking Landlock; MSG_OOB is rarely used code under unix sockets",
		Source: "landlock-lsm/linux issue 41, measured; CVE-2025-38236, after which Chromium blocked MSG_OOB",
		args:   []condition{{arg: 3, mask: unix.MSG_FASTOPEN | unix.MSG_OOB}},
	},
	{
		Calls: "sendmsg", When: "the flags hold MSG_FASTOPEN or MSG_OOB", Answer: EPERM,
		Reason: "as sendto",
		Source: "landlock-lsm/linux issue 41; CVE-2025-38236",
		args:   []condition{{arg: 2, mask: unix.MSG_FASTOPEN | unix.MSG_OOB}},
	},
	{
		Calls: "setsockopt", When: "it is TCP_ULP", Answer: EPERM,
		Reason: "loads a protocol, such as the kernel's TLS, on top of a connection; TLS libraries go on without",
		Source: "CVE-2023-0461, CVE-2025-39682",
		args:   []condition{{arg: 1, in: []uint32{unix.SOL_TCP}}, {arg: 2, in: []uint32{unix.TCP_ULP}}},
	},

	// Files. A set-user-ID file gains nothing inside (nosuid, no_new_privs), but one that lands in a live workspace would run as the user for
	// anybody else on the host. Set-group-ID stays allowed: on directories it is how teams share repositories, and the filter cannot tell them
	// from files. So a set-group-ID file, of the one group that is mapped, can be made.

	{
		Calls: "mknod", When: "of a character or block device", Answer: EPERM,
		Reason: "anybody may make device 0:0, which is a whiteout to overlay file systems; the others take a capability. Pipes, sockets and files are made",
		Source: "mknod(2), Linux 5.8; behind nodev",
		args:   []condition{{arg: 1, mask: unix.S_IFMT, in: []uint32{unix.S_IFCHR, unix.S_IFBLK}}},
	},
	{
		Calls: "mknodat", When: "of a character or block device", Answer: EPERM,
		Reason: "as mknod",
		Source: "mknod(2)",
		args:   []condition{{arg: 2, mask: unix.S_IFMT, in: []uint32{unix.S_IFCHR, unix.S_IFBLK}}},
	},
	{
		Calls: "renameat2", When: "the flags hold RENAME_WHITEOUT", Answer: EPERM,
		Reason: "as mknod of device 0:0",
		Source: "rename(2)",
		args:   []condition{{arg: 4, mask: unix.RENAME_WHITEOUT}},
	},
	{
		Calls: "chmod fchmod creat mknod", When: "the mode holds S_ISUID", Answer: EPERM,
		Reason: "makes a set-user-ID file",
		Source: "systemd RestrictSUIDSGID=, Nix",
		args:   []condition{{arg: 1, mask: unix.S_ISUID}},
	},
	{
		Calls: "fchmodat fchmodat2 mknodat", When: "the mode holds S_ISUID", Answer: EPERM,
		Reason: "makes a set-user-ID file",
		Source: "systemd RestrictSUIDSGID=, Nix",
		args:   []condition{{arg: 2, mask: unix.S_ISUID}},
	},
	{
		Calls: "open", When: "it may create a file, and the mode holds S_ISUID", Answer: EPERM,
		Reason: "makes a set-user-ID file",
		Source: "systemd RestrictSUIDSGID=",
		args:   []condition{{arg: 1, mask: createsFile}, {arg: 2, mask: unix.S_ISUID}},
	},
	{
		Calls: "openat", When: "it may create a file, and the mode holds S_ISUID", Answer: EPERM,
		Reason: "makes a set-user-ID file",
		Source: "systemd RestrictSUIDSGID=",
		args:   []condition{{arg: 2, mask: createsFile}, {arg: 3, mask: unix.S_ISUID}},
	},
	{
		Calls: "openat2", Answer: ENOSYS,
		Reason: "its mode is behind a pointer, so it would make set-user-ID files; programs fall back to openat, as on Linux before 5.6",
		Source: "systemd RestrictSUIDSGID=",
	},

	// The host's administration. Most of it takes a capability that the sandbox does not have either.

	{
		Calls:  "kexec_load kexec_file_load init_module finit_module delete_module create_module reboot swapon swapoff acct quotactl quotactl_fd vhangup",
		Answer: EPERM,
		Reason: "administer the host",
		Source: "Docker, flatpak",
	},
	{
		Calls: "syslog", Answer: EPERM,
		Reason: "the host's kernel log: addresses, devices, other people's programs",
		Source: "syslog(2); Docker, flatpak",
	},
	{
		Calls: "iopl ioperm", Answer: EPERM,
		Reason: "input and output past the kernel",
		Source: "iopl(2); Docker",
	},
	{
		Calls: "settimeofday clock_settime adjtimex clock_adjtime", Answer: EPERM,
		Reason: "the host's clock. Reading by the last two is refused with it, since the mode is behind a pointer",
		Source: "adjtimex(2); Docker blocks the first two",
	},
	{
		Calls: "sethostname setdomainname", Answer: EPERM,
		Reason: "the machine's names",
		Source: "Docker",
	},
	{
		Calls: "personality", When: "it is not 0, PER_LINUX32, UNAME26, both, or a question (0xffffffff)", Answer: EPERM,
		Reason: "turns off address space randomisation, makes all that is readable executable",
		Source: "personality(2); Docker",
		args:   []condition{{arg: 0, in: []uint32{0, perLinux32, uname26, perLinux32 | uname26, 0xffffffff}, not: true}},
	},

	// Hooks.

	{
		Calls: "sched_setaffinity", Answer: EPERM, With: withAffinity,
		Reason: "the command would take back the processors that the limit on cores leaves it",
		Source: "sched_setaffinity(2): no privilege is needed",
	},
	{
		Calls: "fallocate", Answer: EOPNOTSUPP, With: withWatched,
		Reason: "one call can take any amount of disk between two looks of the watcher; C libraries write zeros instead, which takes time",
		Source: "fallocate(2); posix_fallocate(3)",
	},
	{
		Calls: "rename renameat renameat2", Answer: Notify, With: withRename,
		Reason: "the supervisor readies a directory of a lower layer, which the overlay could not move, and lets the call go on; no security decision",
		Source: "rename(2), EXDEV; seccomp_unotify(2)",
	},
	{
		Calls: "chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes utimensat futimesat", Answer: Notify, With: withMetadata,
		Reason: "they need to own a file, not to be granted it. The supervisor looks which file is meant and changes it itself if it lies in a tree of the " +
			"sandbox's own; the call never goes on",
		Source: "measured; landlock(7), Current limitations; seccomp_unotify(2)",
	},
	{
		Calls: "inotify_add_watch", Answer: Notify, With: withMetadata,
		Reason: "names every file that is touched in any directory the user may read. The supervisor adds the watch itself if it is of a tree of the sandbox's own",
		Source: "measured; Landlock has no hook there",
	},
}
