package syscalls

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// attempt is a call that does no harm, whether it is refused or not, as root or not.
type attempt struct {
	call  string // a name, or "number" for a call that has none: then it is the first of args
	about string
	args  []uintptr
	want  expected
}

// expected is what must become of an attempt, said here again so that a row cannot vanish unseen. A zero means what the field before it does.
type expected struct {
	plain    Answer // allowed if zero
	devel    Answer
	fallback Answer // of plain, not of devel
	strict   Answer // in fallback without the metadata hook
	limits   Answer // with limits held by affinity and by watching
}

var allowed = expected{}

func refused(a Answer) expected    { return expected{plain: a} }
func inFallback(a Answer) expected { return expected{fallback: a} }
func inStrict(a Answer) expected   { return expected{strict: a} }

func (e expected) with(opts Options) Answer {
	if e.plain == 0 {
		e.plain = Allow
	}
	answer := e.plain
	for _, more := range []struct {
		holds  bool
		answer Answer
	}{
		{opts.Devel, e.devel},
		{opts.Fallback, e.fallback},
		{opts.Fallback && !opts.MetadataHook, e.strict},
		{opts.Affinity && opts.Watched, e.limits},
	} {
		if more.holds && more.answer != 0 {
			answer = more.answer
		}
	}
	return answer
}

// whole lists the calls that are refused whatever their arguments.
var whole = []struct {
	want  expected
	calls string
}{
	{refused(EPERM), "unshare setns mount umount2 pivot_root chroot name_to_handle_at open_by_handle_at bpf perf_event_open userfaultfd " +
		"add_key request_key keyctl fanotify_init fanotify_mark memfd_secret " +
		"move_pages migrate_pages mbind set_mempolicy set_mempolicy_home_node get_mempolicy process_vm_writev pidfd_getfd kcmp process_madvise " +
		"kexec_load kexec_file_load init_module finit_module delete_module create_module reboot swapon swapoff acct quotactl quotactl_fd vhangup " +
		"syslog iopl ioperm settimeofday clock_settime adjtimex clock_adjtime sethostname setdomainname"},
	{refused(ENOSYS), "clone3 openat2 open_tree open_tree_attr move_mount fsopen fsconfig fsmount fspick mount_setattr statmount listmount listns " +
		"io_uring_setup io_uring_enter io_uring_register modify_ldt uselib ustat sysfs _sysctl nfsservctl lookup_dcookie get_kernel_syms query_module " +
		"afs_syscall getpmsg putpmsg security tuxcall vserver " +
		"lsm_get_self_attr lsm_set_self_attr lsm_list_modules file_getattr file_setattr rseq_slice_yield"},
	{expected{plain: EPERM, devel: Allow}, "ptrace process_vm_readv"},
	{expected{plain: EAFNOSUPPORT, fallback: EPERM}, "socket"},
	{inFallback(EPERM), "connect setpriority ioprio_set"},
	{inFallback(ENOSYS), "shmget shmat shmctl msgget msgsnd msgrcv msgctl semget semop semtimedop semctl mq_open mq_unlink"},
	{inStrict(EPERM), "chown fchown lchown fchownat utime utimes utimensat futimesat inotify_add_watch"},
	{inFallback(EOPNOTSUPP), "setxattr lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat"},
	{allowed, "uprobe"},
}

// result is what an attempt met, and what the table says it should meet.
type result struct {
	Call, About string
	Row         int           // in the table, or -1
	Answer      Answer        // the table's
	Want        Answer        // the test's
	Errno       syscall.Errno // 0 for success
}

// capability lists denied calls to which the kernel gives the same answer if the process has no capability, so that the filter shows only as root.
var capability = []string{
	"acct", "delete_module", "fanotify_init", "finit_module", "init_module", "ioperm", "iopl", "kexec_file_load", "kexec_load", "mknod block", "mknodat block",
	"pivot_root", "reboot", "setdomainname", "sethostname", "socket packet", "socket packet by type", "socket raw", "socket raw 6", "swapoff", "syslog", "vhangup",
}

// absent lists denied calls to which the kernel gives the same answer because it lacks them.
var absent = []string{
	"_sysctl", "afs_syscall", "get_kernel_syms", "getpmsg", "lookup_dcookie", "nfsservctl", "putpmsg", "query_module", "security", "tuxcall", "uselib", "vserver", // gone
	"file_getattr", "file_setattr", "listns", "lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr", "listmount", "open_tree_attr", "rseq_slice_yield", "statmount", // newer than Linux 6.6
	"socket alg", "socket smc protocol", "socket tipc", // not in every configuration
	"number in a gap", "number of the future", // what the row is for
	"number of x32", // not in this machine's configuration, nor in a distribution's
}

// TestKernelAgrees makes real calls on a thread with the filter and on one without. A denied call must get the table's answer, and another one without
// the filter; an allowed call must fare the same with and without.
func TestKernelAgrees(t *testing.T) {
	control := attemptedBy(t, role{Name: "attempt"})
	decided := map[int]bool{}
	for _, opts := range []Options{{}, {Devel: true}, {Fallback: true}, {Affinity: true, Watched: true}} {
		for i, got := range attemptedBy(t, role{Name: "attempt", Options: opts, Filtered: true}) {
			decided[got.Row] = true
			if got.Answer != got.Want {
				t.Errorf("%+v: the table says %v to %s %s, want %v", opts, got.Answer, got.Call, got.About, got.Want)
			}
			free := control[i].Errno
			name := strings.TrimSpace(fmt.Sprintf("%s %s", got.Call, got.About))
			want := free
			if got.Answer != Allow {
				want = syscall.Errno(got.Answer & unix.SECCOMP_RET_DATA)
			}
			if got.Errno != want {
				t.Errorf("%+v: %s: %v, want %v (without the filter %v)", opts, name, got.Errno, want, free)
			}
			if got.Answer != Allow && free == want && !explained(name) {
				t.Errorf("%+v: %s: %v without the filter too: this proves nothing", opts, name, free)
			}
		}
	}
	for i := range table {
		if r := &table[i]; native.known(r.Calls) != "" && !decided[i] && r.Answer != Notify { // NOTIFY: TestRenameIsNotified, TestMetadataIsNotified
			t.Errorf("no attempt meets row %q %q", r.Calls, r.When)
		}
	}
}

func explained(name string) bool {
	return slices.Contains(absent, name) || slices.Contains(capability, name) && !privileged()
}

func privileged() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	return unix.Capget(&header, &sets[0]) == nil && sets[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

func attemptedBy(t *testing.T, r role) (results []result) {
	t.Helper()
	out, err := output(child(r, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(out), &results); err != nil {
		t.Fatal(err)
	}
	return results
}

// attemptAll is a role: it makes every attempt and prints the results.
func attemptAll(r role, arguments []string) error {
	var results []result
	for _, a := range attempts(fixture{dir: arguments[0]}) {
		number, known := native.number(a.call)
		if a.call == "number" {
			number, known, a.args = uint32(a.args[0]), true, a.args[1:]
		}
		if !known {
			continue
		}
		d := data{number: number, arch: native.audit}
		var args [6]uintptr
		copy(args[:], a.args)
		for i := range args {
			d.args[i] = uint64(args[i])
		}
		row := decide(native, r.Options, d)
		_, _, errno := unix.RawSyscall6(uintptr(number), args[0], args[1], args[2], args[3], args[4], args[5])
		results = append(results, result{a.call, a.about, position(row), row.Answer, a.want.with(r.Options), errno})
	}
	return json.NewEncoder(os.Stdout).Encode(results)
}

// position is where r stands in the table; -1 for the rows beside it.
func position(r *Row) int {
	for i := range table {
		if &table[i] == r {
			return i
		}
	}
	return -1
}

// fixture makes what attempts are made with.
type fixture struct{ dir string }

// pin keeps memory that only a number points to; the collector does not move it.
var pin []any

func (f fixture) pointer(b []byte) uintptr {
	pin = append(pin, b)
	return uintptr(unsafe.Pointer(&b[0]))
}

// path is a path of which nothing is known, and file that of a new file.
func (f fixture) path(name string) uintptr {
	return f.pointer(append([]byte(filepath.Join(f.dir, name)), 0))
}

func (f fixture) file(name string) uintptr {
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte("x"), 0o644); err != nil {
		panic(err)
	}
	return f.path(name)
}

func (f fixture) open(name string) uintptr {
	f.file(name)
	fd, err := unix.Open(filepath.Join(f.dir, name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	return uintptr(fd)
}

const (
	none  = ^uintptr(0)      // no descriptor, no process, no address
	here  = ^uintptr(99)     // AT_FDCWD
	upper = uintptr(1) << 32 // above what the kernel looks at
)

// attempts lists an attempt for each call that is refused as a whole, then those around the conditions of the others.
func attempts(f fixture) (all []attempt) {
	for _, w := range whole {
		for call := range strings.FieldsSeq(w.calls) {
			all = append(all, attempt{call, "", harmless(call), w.want})
		}
	}
	for _, list := range [][]attempt{processes(), requests(f), sockets(f), modes(f)} {
		all = append(all, list...)
	}
	return all
}

// harmless returns arguments that the kernel refuses, if possible only after it has looked at the caller's rights.
func harmless(call string) []uintptr {
	switch call {
	case "unshare", "modify_ldt", "get_mempolicy":
		return []uintptr{0, 0, 0, 0, 0}
	case "init_module": // an empty module; a huge one would make the kernel complain in its log
		return []uintptr{none, 0, none}
	case "msgget", "shmget", "semget": // a key that nobody uses, and not to be created
		return []uintptr{0x7e575e57, 0, 0}
	}
	return []uintptr{none, none, none, none, none, none}
}

func processes() []attempt {
	const invalid = unix.CLONE_SIGHAND // without CLONE_VM the kernel answers EINVAL: nothing is cloned
	self := uintptr(os.Getpid())
	one := uintptr(1)
	return []attempt{
		{"number", "in a gap", []uintptr{400}, refused(ENOSYS)},
		{"number", "of the future", []uintptr{newest + 1}, refused(ENOSYS)},
		{"number", "of x32", []uintptr{x32Bit | 39}, refused(ENOSYS)},
		{"clone", "mount", []uintptr{unix.CLONE_NEWNS | invalid}, refused(EPERM)},
		{"clone", "cgroup", []uintptr{unix.CLONE_NEWCGROUP | invalid}, refused(EPERM)},
		{"clone", "uts", []uintptr{unix.CLONE_NEWUTS | invalid}, refused(EPERM)},
		{"clone", "ipc", []uintptr{unix.CLONE_NEWIPC | invalid}, refused(EPERM)},
		{"clone", "user", []uintptr{unix.CLONE_NEWUSER | invalid}, refused(EPERM)},
		{"clone", "pid", []uintptr{unix.CLONE_NEWPID | invalid}, refused(EPERM)},
		{"clone", "net", []uintptr{unix.CLONE_NEWNET | invalid}, refused(EPERM)},
		{"clone", "nothing", []uintptr{invalid}, allowed},
		{"clone", "thread", []uintptr{unix.CLONE_THREAD | invalid}, allowed},
		{"seccomp", "listener", []uintptr{unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, none}, refused(EPERM)},
		{"seccomp", "listener and threads", []uintptr{unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_TSYNC, none}, refused(EPERM)},
		{"seccomp", "filter", []uintptr{unix.SECCOMP_SET_MODE_FILTER, 0, none}, allowed},
		{"seccomp", "filter for all threads", []uintptr{unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, none}, allowed},
		{"landlock_create_ruleset", "", []uintptr{0, 0, 1}, allowed},
		{"memfd_create", "", []uintptr{none, 0}, allowed},
		{"personality", "no randomisation", []uintptr{0x40000}, refused(EPERM)},
		{"personality", "readable is executable", []uintptr{0x400000 | upper}, refused(EPERM)},
		{"personality", "32 bits", []uintptr{0x8}, allowed},
		{"personality", "old version", []uintptr{0x20000}, allowed},
		{"personality", "32 bits and old version", []uintptr{0x20008}, allowed},
		{"personality", "question", []uintptr{0xffffffff}, allowed},
		{"personality", "plain", []uintptr{0}, allowed},
		{"prlimit64", "by number", []uintptr{self, unix.RLIMIT_CORE, 0, 0}, inFallback(EPERM)},
		{"prlimit64", "own", []uintptr{0, unix.RLIMIT_CORE, 0, 0}, allowed},
		{"setpriority", "by number", []uintptr{unix.PRIO_PROCESS, self, 19}, inFallback(EPERM)},
		{"setpriority", "own group", []uintptr{unix.PRIO_PGRP, 0, 19}, inFallback(EPERM)},
		{"setpriority", "own", []uintptr{unix.PRIO_PROCESS, 0, 19}, allowed},
		{"ioprio_set", "by number", []uintptr{one, self, 3 << 13}, inFallback(EPERM)},
		{"ioprio_set", "own group", []uintptr{2, 0, 3 << 13}, inFallback(EPERM)},
		{"ioprio_set", "own", []uintptr{one, 0, 3 << 13}, allowed},
		{"sched_setaffinity", "by number", []uintptr{self, 0, 0}, expected{fallback: EPERM, limits: EPERM}},
		{"sched_setaffinity", "own", []uintptr{0, 0, 0}, expected{limits: EPERM}},
		{"fallocate", "no file", []uintptr{^uintptr(0), 0, 0, 1}, expected{limits: EOPNOTSUPP}},
		{"sched_setscheduler", "by number", []uintptr{self, 0, 0}, inFallback(EPERM)},
		{"sched_setscheduler", "own", []uintptr{0, 0, 0}, allowed},
		{"sched_setparam", "by number", []uintptr{self, 0}, inFallback(EPERM)},
		{"sched_setparam", "own", []uintptr{0, 0}, allowed},
		{"sched_setattr", "by number", []uintptr{self, 0, 0}, inFallback(EPERM)},
		{"sched_setattr", "own", []uintptr{0, 0, 0}, allowed},
	}
}

func requests(f fixture) []attempt {
	flags := f.pointer(make([]byte, 64))
	fd := f.open("attributes")
	return []attempt{
		{"ioctl", "TIOCSTI", []uintptr{none, unix.TIOCSTI}, refused(EPERM)},
		{"ioctl", "TIOCSTI with an upper bit", []uintptr{none, unix.TIOCSTI | upper}, refused(EPERM)},
		{"ioctl", "TIOCLINUX", []uintptr{none, unix.TIOCLINUX}, refused(EPERM)},
		{"ioctl", "TIOCLINUX with an upper bit", []uintptr{none, unix.TIOCLINUX | upper}, refused(EPERM)},
		{"ioctl", "TIOCCONS", []uintptr{none, unix.TIOCCONS}, refused(EPERM)},
		{"ioctl", "TIOCSETD", []uintptr{none, unix.TIOCSETD}, refused(EPERM)},
		{"ioctl", "TIOCGWINSZ", []uintptr{none, unix.TIOCGWINSZ}, allowed},
		{"ioctl", "FS_IOC_GETFLAGS", []uintptr{fd, unix.FS_IOC_GETFLAGS, flags}, allowed},
		{"ioctl", "FICLONE", []uintptr{fd, unix.FICLONE, none}, allowed},
		{"ioctl", "FS_IOC_FSGETXATTR", []uintptr{fd, 0x801c581f, none}, allowed},
		{"ioctl", "FS_IOC_FIEMAP", []uintptr{fd, 0xc020660b, none}, allowed},
		{"ioctl", "FICLONERANGE", []uintptr{fd, unix.FICLONERANGE, none}, allowed},
		{"ioctl", "FIDEDUPERANGE", []uintptr{fd, unix.FIDEDUPERANGE, none}, allowed},
		{"ioctl", "FS_IOC_SETFLAGS", []uintptr{fd, unix.FS_IOC_SETFLAGS, none}, inFallback(EPERM)},
		{"ioctl", "FS_IOC_FSSETXATTR", []uintptr{fd, 0x401c5820, none}, inFallback(EPERM)},
		{"ioctl", "FS_IOC_ENABLE_VERITY", []uintptr{fd, 0x40806685, none}, inFallback(EPERM)},
		{"ioctl", "BTRFS_IOC_SNAP_CREATE", []uintptr{fd, 0x50009401, none}, inFallback(EPERM)},
		{"ioctl", "EXT4_IOC_SETVERSION", []uintptr{fd, 0x40087602, none}, inFallback(EPERM)},
		{"ioctl", "FAT_IOCTL_SET_ATTRIBUTES", []uintptr{fd, 0x40047211, none}, inFallback(EPERM)},
	}
}

func sockets(f fixture) []attempt {
	pair := f.pointer(make([]byte, 8))
	return []attempt{
		{"socket", "unix", []uintptr{unix.AF_UNIX, unix.SOCK_STREAM | unix.SOCK_CLOEXEC}, inFallback(EPERM)},
		{"socket", "unix seqpacket", []uintptr{unix.AF_UNIX, unix.SOCK_SEQPACKET}, inFallback(EPERM)},
		{"socket", "tcp", []uintptr{unix.AF_INET, unix.SOCK_STREAM | unix.SOCK_NONBLOCK, unix.IPPROTO_TCP}, inFallback(EPERM)},
		{"socket", "tcp 6", []uintptr{unix.AF_INET6 | upper, unix.SOCK_STREAM}, inFallback(EPERM)},
		{"socket", "udp", []uintptr{unix.AF_INET, unix.SOCK_DGRAM | unix.SOCK_CLOEXEC}, inFallback(EPERM)},
		{"socket", "udp 6", []uintptr{unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_UDP}, inFallback(EPERM)},
		{"socket", "raw", []uintptr{unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP}, refused(EPERM)},
		{"socket", "raw 6", []uintptr{unix.AF_INET6, unix.SOCK_RAW | unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6}, refused(EPERM)},
		{"socket", "mptcp", []uintptr{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP}, expected{plain: EPROTONOSUPPORT, fallback: EPERM}},
		{"socket", "mptcp 6 with an upper bit", []uintptr{unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_MPTCP | upper}, expected{plain: EPROTONOSUPPORT, fallback: EPERM}},
		{"socket", "smc protocol", []uintptr{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SMC}, expected{plain: EPROTONOSUPPORT, fallback: EPERM}},
		{"socket", "ping", []uintptr{unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP}, expected{plain: EPROTONOSUPPORT, fallback: EPERM}},
		{"socket", "sctp by type", []uintptr{unix.AF_INET, unix.SOCK_SEQPACKET, 0}, expected{plain: EPROTONOSUPPORT, fallback: EPERM}},
		{"socket", "packet by type", []uintptr{unix.AF_INET, unix.SOCK_PACKET, 0x300}, expected{plain: EPROTONOSUPPORT, fallback: EPERM}},
		{"socket", "route", []uintptr{unix.AF_NETLINK, unix.SOCK_RAW | unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE}, inFallback(EPERM)},
		{"socket", "uevent", []uintptr{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_KOBJECT_UEVENT}, expected{plain: EPROTONOSUPPORT, fallback: EPERM}},
		{"socket", "generic with an upper bit", []uintptr{unix.AF_NETLINK | upper, unix.SOCK_RAW, unix.NETLINK_GENERIC}, expected{plain: EPROTONOSUPPORT, fallback: EPERM}},
		{"socket", "vsock", []uintptr{unix.AF_VSOCK, unix.SOCK_STREAM}, expected{plain: EAFNOSUPPORT, fallback: EPERM}},
		{"socket", "vsock with an upper bit", []uintptr{unix.AF_VSOCK | upper, unix.SOCK_STREAM}, expected{plain: EAFNOSUPPORT, fallback: EPERM}},
		{"socket", "vsock datagram", []uintptr{unix.AF_VSOCK, unix.SOCK_DGRAM}, expected{plain: EAFNOSUPPORT, fallback: EPERM}},
		{"socket", "packet", []uintptr{unix.AF_PACKET, unix.SOCK_RAW, 0x300}, expected{plain: EAFNOSUPPORT, fallback: EPERM}},
		{"socket", "alg", []uintptr{unix.AF_ALG, unix.SOCK_SEQPACKET}, expected{plain: EAFNOSUPPORT, fallback: EPERM}},
		{"socket", "tipc", []uintptr{unix.AF_TIPC, unix.SOCK_STREAM}, expected{plain: EAFNOSUPPORT, fallback: EPERM}},
		{"socketpair", "stream", []uintptr{unix.AF_UNIX, unix.SOCK_STREAM, 0, pair}, allowed},
		{"socketpair", "seqpacket", []uintptr{unix.AF_UNIX, unix.SOCK_SEQPACKET | unix.SOCK_CLOEXEC, 0, pair}, allowed},
		{"socketpair", "datagram", []uintptr{unix.AF_UNIX, unix.SOCK_DGRAM | unix.SOCK_CLOEXEC, 0, pair}, inFallback(EPERM)},
		{"socketpair", "raw", []uintptr{unix.AF_UNIX, unix.SOCK_RAW, 0, pair}, inFallback(EPERM)},
		{"socketpair", "inet", []uintptr{unix.AF_INET, unix.SOCK_STREAM, 0, pair}, refused(EAFNOSUPPORT)},
		{"sendto", "fast open", []uintptr{none, 0, 0, unix.MSG_FASTOPEN}, refused(EPERM)},
		{"sendto", "out of band", []uintptr{none, 0, 0, unix.MSG_OOB | upper}, refused(EPERM)},
		{"sendto", "no signal", []uintptr{none, 0, 0, unix.MSG_NOSIGNAL}, allowed},
		{"sendmsg", "fast open", []uintptr{none, 0, unix.MSG_FASTOPEN | unix.MSG_NOSIGNAL}, refused(EPERM)},
		{"sendmsg", "no signal", []uintptr{none, 0, unix.MSG_NOSIGNAL}, allowed},
		{"sendmmsg", "fast open", []uintptr{none, 0, 0, unix.MSG_FASTOPEN}, refused(EPERM)},
		{"sendmmsg", "no signal", []uintptr{none, 0, 0, unix.MSG_NOSIGNAL}, allowed},
		{"setsockopt", "TCP_ULP", []uintptr{none, unix.SOL_TCP, unix.TCP_ULP}, refused(EPERM)},
		{"setsockopt", "TCP_NODELAY", []uintptr{none, unix.SOL_TCP, unix.TCP_NODELAY}, allowed},
		{"setsockopt", "not of TCP", []uintptr{none, unix.SOL_SOCKET, unix.TCP_ULP}, allowed},
	}
}

func modes(f fixture) []attempt {
	const create = unix.O_CREAT | unix.O_WRONLY | unix.O_CLOEXEC
	dir := f.path(".")
	return []attempt{
		{"mknod", "whiteout", []uintptr{f.path("whiteout"), unix.S_IFCHR | 0o600, 0}, refused(EPERM)},
		{"mknod", "block", []uintptr{f.path("block"), unix.S_IFBLK | 0o600, 0}, refused(EPERM)},
		{"mknod", "pipe", []uintptr{f.path("pipe"), unix.S_IFIFO | 0o600, 0}, allowed},
		{"mknod", "socket", []uintptr{f.path("socket"), unix.S_IFSOCK | 0o600, 0}, allowed},
		{"mknod", "file", []uintptr{f.path("regular"), 0o600, 0}, allowed},
		{"mknod", "set-user-ID", []uintptr{f.path("mknod"), unix.S_IFREG | 0o4755, 0}, refused(EPERM)},
		{"mknodat", "whiteout", []uintptr{here, f.path("whiteout2"), unix.S_IFCHR | 0o600, 0}, refused(EPERM)},
		{"mknodat", "block", []uintptr{here, f.path("block2"), unix.S_IFBLK | 0o600, 0}, refused(EPERM)},
		{"mknodat", "pipe", []uintptr{here, f.path("pipe2"), unix.S_IFIFO | 0o600, 0}, allowed},
		{"mknodat", "set-user-ID", []uintptr{here, f.path("mknodat"), unix.S_IFREG | 0o4755, 0}, refused(EPERM)},
		{"renameat2", "whiteout", []uintptr{here, f.file("old"), here, f.path("new"), unix.RENAME_WHITEOUT}, refused(EPERM)},
		{"renameat2", "exchange", []uintptr{here, f.file("left"), here, f.file("right"), unix.RENAME_EXCHANGE}, allowed},
		{"chmod", "set-user-ID", []uintptr{f.file("chmod"), 0o4755}, refused(EPERM)},
		{"chmod", "set-group-ID", []uintptr{dir, 0o2755}, inStrict(EPERM)},
		{"chmod", "plain", []uintptr{f.file("chmod2"), 0o755}, inStrict(EPERM)},
		{"fchmod", "set-user-ID", []uintptr{f.open("fchmod"), 0o4755 | upper}, refused(EPERM)},
		{"fchmod", "plain", []uintptr{f.open("fchmod2"), 0o755}, inStrict(EPERM)},
		{"fchmodat", "set-user-ID", []uintptr{here, f.file("fchmodat"), 0o6755}, refused(EPERM)},
		{"fchmodat", "plain", []uintptr{here, f.file("fchmodat3"), 0o755}, inStrict(EPERM)},
		{"fchmodat2", "set-user-ID", []uintptr{here, f.file("fchmodat2"), 0o4000, 0}, refused(EPERM)},
		{"fchmodat2", "plain", []uintptr{here, f.file("fchmodat4"), 0o644, 0}, inStrict(EPERM)},
		{"creat", "set-user-ID", []uintptr{f.path("creat"), 0o4755}, refused(EPERM)},
		{"creat", "plain", []uintptr{f.path("creat2"), 0o755}, allowed},
		{"open", "set-user-ID", []uintptr{f.path("open"), create, 0o4755}, refused(EPERM)},
		{"open", "set-user-ID without a name", []uintptr{dir, unix.O_TMPFILE | unix.O_RDWR, 0o4755}, refused(EPERM)},
		{"open", "mode without meaning", []uintptr{f.file("open2"), unix.O_RDONLY, 0o4755}, allowed},
		{"open", "plain", []uintptr{f.path("open3"), create, 0o2755}, allowed},
		{"openat", "set-user-ID", []uintptr{here, f.path("openat"), create, 0o4755}, refused(EPERM)},
		{"openat", "set-user-ID without a name", []uintptr{here, dir, unix.O_TMPFILE | unix.O_RDWR, 0o4755}, refused(EPERM)},
		{"openat", "mode without meaning", []uintptr{here, f.file("openat2"), unix.O_RDONLY, 0o4755}, allowed},
		{"openat", "plain", []uintptr{here, f.path("openat3"), create, 0o755}, allowed},
	}
}
