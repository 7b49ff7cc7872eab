package enginetest

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func itoa(n int) string { return strconv.Itoa(n) }

// secretNames are the parts of variable names that stand for a credential or a door to the host.
func secretNames() []string {
	return []string{"key", "token", "secret", "passw", "aws_", "github_", "anthropic", "openai", "ssh_auth", "dbus", "gpg", "xdg_runtime", "wsl_interop", "docker_host", "wayland", "display"}
}

// loaderNames are variables that make a program load or run something.
func loaderNames() []string {
	return []string{
		"LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "NODE_OPTIONS", "PYTHONSTARTUP", "PYTHONPATH", "BASH_ENV", "ENV", "GIT_DIR", "GIT_CONFIG_COUNT",
		"GIT_SSH_COMMAND", "GIT_EXTERNAL_DIFF", "PERL5OPT", "RUBYOPT", "JAVA_TOOL_OPTIONS", "GLIBC_TUNABLES", "PROMPT_COMMAND", "MALLOC_TRACE",
	}
}

func procCases() []Case {
	onHost := func(id, title string, attack func(e *Env, pid int) Outcome) Case {
		return Case{ID: id, Group: "processes", Title: title, Guarantee: isolation, Control: Outside, Attack: func(e *Env) Outcome {
			if e.HostPID == 0 {
				return notRun("no host process is known")
			}
			if !e.isTarget(e.HostPID) {
				return held("process %d here is not the host's", e.HostPID)
			}
			return attack(e, e.HostPID)
		}}
	}
	signal := func(id, title string, attack func(e *Env, pid int) Outcome) Case {
		c := onHost(id, title, attack)
		c.Guarantee = signals
		return c
	}
	try := func(id, title string, nr uintptr, args func(pid uintptr) []uintptr) Case {
		return onHost(id, title, func(_ *Env, pid int) Outcome {
			r, errno := sys(nr, args(uintptr(pid))...).do()
			if errno != 0 {
				return held("%v", errno)
			}
			return open("it returned %d", r)
		})
	}
	return []Case{
		{ID: "P01.list", Group: "processes", Title: "find a host process in /proc", Guarantee: isolation, Control: Outside, Attack: func(e *Env) Outcome {
			for _, pid := range pids() {
				b, _ := os.ReadFile("/proc/" + pid + "/cmdline")
				if e.HostMark != "" && bytes.Contains(b, []byte(e.HostMark)) {
					return open("process %s is the host's", pid)
				}
			}
			return held("%d processes, none the host's", len(pids()))
		}},
		{ID: "P01.ps", Group: "processes", Title: "find it with ps", Guarantee: isolation, Control: Outside, Attack: func(e *Env) Outcome {
			out, ok := program("/", "ps", "axww")
			if !ok {
				return notRun("%s", out)
			}
			if strings.Contains(out, e.HostMark) {
				return open("ps names it")
			}
			return held("%d lines", strings.Count(out, "\n"))
		}},
		{ID: "X.hostname", Group: "processes", Title: "learn the host's name", Guarantee: isolation, Control: Outside, Attack: func(e *Env) Outcome {
			var u unix.Utsname
			if err := unix.Uname(&u); err != nil {
				return held("%v", err)
			}
			name := unix.ByteSliceToString(u.Nodename[:])
			if digest(name) == e.HostName {
				return open("it is %s", name)
			}
			return held("here it is %s", name)
		}},
		{ID: "X.namespaces", Group: "processes", Title: "share a namespace with the host", Guarantee: isolation, Control: Outside, Attack: func(e *Env) Outcome {
			for _, ns := range []string{"user", "mnt", "pid", "net", "ipc", "uts", "cgroup"} {
				link, err := os.Readlink("/proc/self/ns/" + ns)
				if err == nil && e.HostNS[ns] != "" && link == e.HostNS[ns] {
					return open("%s is the host's", link)
				}
			}
			return held("seven of its own")
		}},
		signal("P14.signal", "signal a host process", func(e *Env, pid int) Outcome {
			return unless(unix.Kill(pid, unix.SIGUSR1), "kill")
		}),
		signal("P14.tgkill", "signal it by thread", func(e *Env, pid int) Outcome {
			return unless(unix.Tgkill(pid, pid, unix.SIGUSR1), "tgkill")
		}),
		signal("P14.pidfd", "signal it by pidfd", func(e *Env, pid int) Outcome {
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				return held("pidfd_open: %v", err)
			}
			return unless(unix.PidfdSendSignal(fd, unix.SIGUSR1, nil, 0), "pidfd_send_signal")
		}),
		signal("P14.sigqueue", "queue a signal to it", func(e *Env, pid int) Outcome {
			info := page()
			*(*int32)(unsafe.Pointer(&info[0])) = int32(unix.SIGUSR1)
			*(*int32)(unsafe.Pointer(&info[8])) = -1 // SI_QUEUE
			_, errno := sys(unix.SYS_RT_SIGQUEUEINFO, uintptr(pid), uintptr(unix.SIGUSR1), addr(info)).do()
			if errno != 0 {
				return held("%v", errno)
			}
			return open("rt_sigqueueinfo succeeded")
		}),
		{ID: "P14.everyone", Group: "processes", Title: "signal every process there is: kill(-1)", Guarantee: signals, Control: Scratch, Attack: func(e *Env) Outcome {
			if e.Control == "" && e.sharesPids() {
				return notRun("there is no pid namespace to confine it, and the whole machine is not a test")
			}
			err := unix.Kill(-1, unix.SIGWINCH) // ignored by default; the fixtures' process counts it
			if e.Control == Scratch {
				return unless(err, "kill(-1)")
			}
			return asks("%v", err)
		}},
		try("X.prlimit", "change a host process's limits", unix.SYS_PRLIMIT64, func(pid uintptr) []uintptr { return []uintptr{pid, unix.RLIMIT_CORE, addr(page()), 0} }),
		try("X.setpriority", "change its priority", unix.SYS_SETPRIORITY, func(pid uintptr) []uintptr { return []uintptr{unix.PRIO_PROCESS, pid, 19} }),
		try("X.affinity", "change its processors", unix.SYS_SCHED_SETAFFINITY, func(pid uintptr) []uintptr {
			mask := page()
			mask[0] = 0xff
			return []uintptr{pid, 8, addr(mask)}
		}),
		try("X.scheduler", "change its scheduler", unix.SYS_SCHED_SETSCHEDULER, func(pid uintptr) []uintptr { return []uintptr{pid, 3 /* SCHED_BATCH */, addr(page())} }),
		try("X.ioprio", "change its I/O priority", unix.SYS_IOPRIO_SET, func(pid uintptr) []uintptr { return []uintptr{1, pid, 3 << 13} }),
		try("X.getpgid", "ask for its process group", unix.SYS_GETPGID, func(pid uintptr) []uintptr { return []uintptr{pid} }),
		try("X.seize", "trace it", unix.SYS_PTRACE, func(pid uintptr) []uintptr { return []uintptr{unix.PTRACE_SEIZE, pid, 0, 0} }),
		onHost("X.vm-read", "read its memory", func(e *Env, pid int) Outcome { return vmRead(pid) }),
		onHost("X.environ", "read its environment", func(e *Env, pid int) Outcome { return e.read("/proc/" + itoa(pid) + "/environ") }),
		onHost("X.oom-score", "make it the OOM killer's victim", func(e *Env, pid int) Outcome {
			return unless(canOpen("/proc/"+itoa(pid)+"/oom_score_adj", unix.O_WRONLY), "opening for writing")
		}),
		onHost("X.root-link", "reach the host's files through its root", func(e *Env, pid int) Outcome {
			return first(e.read("/proc/"+itoa(pid)+"/root"+e.Canary), e.read("/proc/"+itoa(pid)+"/cwd/"+filepath.Base(e.Canary)))
		}),
		{ID: "X.shm", Group: "processes", Title: "attach the host's System V shared memory", Guarantee: isolation, Control: Outside, Attack: func(e *Env) Outcome {
			if e.Segment == 0 {
				return notRun("the host has none")
			}
			id, errno := sys(unix.SYS_SHMGET, uintptr(e.Segment), 0, 0).do()
			if errno != 0 {
				return held("shmget: %v", errno)
			}
			if at, errno := sys(unix.SYS_SHMAT, id, 0, 0).do(); errno == 0 {
				return open("attached at %#x", at)
			}
			return open("shmget found it")
		}},

		{ID: "X.mqueue", Group: "processes", Title: "open the host's message queue", Guarantee: isolation, Control: Outside, Attack: func(e *Env) Outcome {
			if e.Queue == "" {
				return notRun("the host has none")
			}
			_, errno := sys(unix.SYS_MQ_OPEN, text(e.Queue), unix.O_RDWR).do()
			if errno != 0 {
				return held("mq_open: %v", errno)
			}
			return open("mq_open found it")
		}},

		{ID: "P05.names", Group: "processes", Title: "find credentials in the environment", Guarantee: cleanEnv, Control: Outside, Env: true, Attack: func(e *Env) Outcome {
			for _, kv := range os.Environ() {
				name, value, _ := strings.Cut(kv, "=")
				if leaked := e.leak([]byte(value)); leaked != "" {
					return open("%s holds %s", name, leaked)
				}
				for _, part := range secretNames() {
					if strings.Contains(strings.ToLower(name), part) && e.HostVars[name] == digest(value) {
						return open("%s is the host's", name)
					}
				}
			}
			return held("%d variables, none the host's secret", len(os.Environ()))
		}},
		{ID: "P06.loader", Group: "processes", Title: "inherit variables that make programs load something", Guarantee: cleanEnv, Control: Outside, Env: true, Attack: func(e *Env) Outcome {
			for _, name := range loaderNames() {
				if value, set := os.LookupEnv(name); set && e.HostVars[name] == digest(value) {
					return open("%s=%s is the host's", name, value)
				}
			}
			return held("none")
		}},
		{ID: "P05.memory", Group: "processes", Title: "find the host's secrets in the memory and stack of the own process", Guarantee: cleanEnv, Control: Outside, Env: true, Attack: func(e *Env) Outcome {
			return first(e.read("/proc/self/environ"), e.read("/proc/"+itoa(os.Getppid())+"/environ"), e.read("/proc/"+itoa(os.Getppid())+"/cmdline"))
		}},
	}
}

// isTarget is true when the pid is the fixtures' process, and not one that has the same number here.
func (e *Env) isTarget(pid int) bool {
	if e.Control != "" {
		return true
	}
	b, err := os.ReadFile("/proc/" + itoa(pid) + "/cmdline")
	if err == nil {
		return bytes.Contains(b, []byte(e.HostMark))
	}
	return e.sharesPids()
}

// vmRead reads a word of another process. An address that is not mapped there gives EFAULT only after the permission check.
func vmRead(pid int) Outcome {
	buf := make([]byte, 8)
	_, err := unix.ProcessVMReadv(pid, []unix.Iovec{{Base: &buf[0], Len: 8}}, []unix.RemoteIovec{{Base: 0x400000, Len: 8}}, 0)
	if err == nil || err == unix.EFAULT {
		return open("process_vm_readv was let through: %v", err)
	}
	return held("process_vm_readv: %v", err)
}

// initCases attack pid 1, which must be as confined as the command and keep nothing of the host.
func initCases() []Case {
	on1 := func(id, title string, attack func(*Env) Outcome) Case {
		return Case{ID: id, Group: "processes", Title: title, Guarantee: isolation, Control: Scratch, Attack: func(e *Env) Outcome {
			if o, machine := e.initIsTheMachines(); machine {
				return o
			}
			return attack(e)
		}}
	}
	file := func(id, title, path string, flags int) Case {
		return on1(id, title, func(*Env) Outcome { return unless(canOpen(path, flags), "opening "+path) })
	}
	raw := func(id, title string, nr uintptr, args ...uintptr) Case {
		return on1(id, title, func(*Env) Outcome {
			_, errno := sys(nr, args...).do()
			if errno == 0 || errno == unix.EFAULT || errno == unix.EBADF || errno == unix.EINVAL {
				return open("it was let through: %v", errno)
			}
			return held("%v", errno)
		})
	}
	return []Case{
		on1("P02.environ", "read the environment of pid 1", func(e *Env) Outcome {
			b, err := readSome("/proc/1/environ")
			if err != nil {
				return held("%v", err)
			}
			if len(bytes.Trim(b, "\x00")) > 0 {
				return open("%d bytes, %q", len(b), e.leak(b))
			}
			return held("it is empty")
		}),
		on1("P02.all", "find the host's secrets in any process: environ, cmdline, maps, fd, mountinfo", func(e *Env) Outcome {
			n := 0
			for _, pid := range pids() {
				for _, name := range []string{"environ", "cmdline", "comm", "mountinfo", "maps", "cgroup", "status", "auxv", "wchan", "stack", "limits", "sched", "net/unix", "timens_offsets"} {
					b, err := readSome("/proc/" + pid + "/" + name)
					if err == nil {
						n++
					}
					if leaked := e.leak(b); leaked != "" {
						return open("/proc/%s/%s holds %s", pid, name, leaked)
					}
				}
			}
			return held("%d files read", n)
		}),
		file("P03.mem", "open the memory of pid 1 for writing", "/proc/1/mem", unix.O_RDWR),
		file("P03.mem-read", "open it for reading", "/proc/1/mem", unix.O_RDONLY),
		file("P03.root", "open the root of pid 1", "/proc/1/root/", unix.O_RDONLY|unix.O_DIRECTORY),
		file("P03.cwd", "open its working directory", "/proc/1/cwd/", unix.O_RDONLY|unix.O_DIRECTORY),
		file("P03.exe", "open its program, a file of the host (CVE-2019-5736)", "/proc/1/exe", unix.O_RDONLY),
		file("P03.fd", "list its descriptors", "/proc/1/fd", unix.O_RDONLY|unix.O_DIRECTORY),
		file("P03.ns", "open its namespaces", "/proc/1/ns/mnt", unix.O_RDONLY),
		file("P03.maps", "read its memory map", "/proc/1/maps", unix.O_RDONLY),
		file("P03.auxv", "read its auxiliary vector", "/proc/1/auxv", unix.O_RDONLY),
		on1("P03.descriptors", "reach a descriptor of pid 1 or of any other process that is not ours", foreignDescriptors),
		on1("P03.oom", "make it the OOM killer's victim", func(*Env) Outcome {
			return unless(os.WriteFile("/proc/1/oom_score_adj", []byte("1000"), 0), "writing oom_score_adj")
		}),
		on1("P03.writes", "open for writing what /proc has of it: maps of ids, memory flags, scores", func(*Env) Outcome {
			for _, name := range []string{"uid_map", "gid_map", "projid_map", "setgroups", "clear_refs", "coredump_filter", "autogroup", "oom_adj", "oom_score_adj", "loginuid", "timens_offsets", "sched", "pagemap"} {
				if canWrite("/proc/1/"+name) == nil {
					return open("/proc/1/%s", name)
				}
			}
			return held("none")
		}),
		raw("P03.seize", "trace it: ptrace seize", unix.SYS_PTRACE, unix.PTRACE_SEIZE, 1, 0, 0),
		raw("P03.vm-write", "write its memory: process_vm_writev", unix.SYS_PROCESS_VM_WRITEV, 1, iovec(), 1, iovec(), 1, 0),
		on1("P03.vm-read", "read its memory: process_vm_readv", func(*Env) Outcome { return vmRead(1) }),
		on1("P03.pidfd-getfd", "take a descriptor from it: pidfd_getfd", func(*Env) Outcome {
			fd, err := unix.PidfdOpen(1, 0)
			if err != nil {
				return held("pidfd_open: %v", err)
			}
			for n := range 64 {
				if got, err := unix.PidfdGetfd(fd, n, 0); err == nil {
					return open("descriptor %d of init is %d here", n, got)
				}
			}
			_, err = unix.PidfdGetfd(fd, 0, 0)
			if err == unix.EBADF {
				return open("it was let through: %v", err)
			}
			return held("%v", err)
		}),
		on1("P03.setns", "enter its namespaces by pidfd", func(*Env) Outcome {
			fd, err := unix.PidfdOpen(1, 0)
			if err != nil {
				return held("pidfd_open: %v", err)
			}
			return forked("setns", 0, sys(unix.SYS_SETNS, uintptr(fd), unix.CLONE_NEWUTS|unix.CLONE_NEWIPC))
		}),
		raw("P03.kcmp", "compare its descriptors: kcmp", unix.SYS_KCMP, 1, 1, 0, 0, 0),
		advisory(raw("X.prlimit-init", "change its limits", unix.SYS_PRLIMIT64, 1, unix.RLIMIT_CORE, text("\x00"), 0), selfHarm),
		advisory(raw("X.affinity-init", "change its processors", unix.SYS_SCHED_SETAFFINITY, 1, 8, text("\xff")), selfHarm),
		{ID: "D06.descriptors", Group: "fds", Title: "find descriptors of the supervisor's: seccomp, pidfd, namespace, cgroup, tun", Guarantee: fdsClosed, Control: Scratch, Attack: func(e *Env) Outcome {
			if o, machine := e.initIsTheMachines(); machine {
				return o
			}
			return foreignDescriptors(e)
		}},
		{ID: "P16.reparent", Group: "processes", Title: "become a child of something outside the sandbox", Guarantee: isolation, Control: None, NoControl: "outside, every parent is outside", Attack: func(e *Env) Outcome {
			if e.sharesPids() {
				return notRun("no pid namespace")
			}
			if os.Getppid() == 0 {
				return open("the parent lies outside the pid namespace")
			}
			return held("the parent is %d", os.Getppid())
		}},
	}
}

// selfHarm is why some attacks on pid 1 matter to nobody else.
const selfHarm = "a sandbox may make itself slower or end itself: its first process has no more rights and limits than the command"

// advisory marks an attack whose success is no hole.
func advisory(c Case, why string) Case {
	c.Advisory = why
	return c
}

// iovec is one piece of memory as process_vm_writev wants it.
func iovec() uintptr {
	b := page()
	*(*unix.Iovec)(unsafe.Pointer(&b[0])) = unix.Iovec{Base: &b[64], Len: 8}
	return addr(b)
}

// foreignDescriptors looks through every process's descriptors for one that none of our own could have opened.
func foreignDescriptors(*Env) Outcome {
	seen := 0
	for _, pid := range pids() {
		if pid != "1" && pid == itoa(os.Getppid()) {
			continue // the probe itself, which holds a pidfd of this attack
		}
		dir := "/proc/" + pid + "/fd"
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		if pid == "1" {
			return open("the descriptors of pid 1 can be listed")
		}
		for _, f := range entries {
			link, err := os.Readlink(filepath.Join(dir, f.Name()))
			if err != nil {
				continue
			}
			seen++
			for _, kind := range []string{"anon_inode:seccomp notify", "anon_inode:[pidfd]", "net:[", "mnt:[", "user:[", "/dev/net/tun", "/sys/fs/cgroup", "cgroup.procs"} {
				if strings.Contains(link, kind) {
					return open("process %s holds %s", pid, link)
				}
			}
		}
	}
	return held("%d descriptors of own processes", seen)
}

func privilegeCases() []Case {
	alone := func(id, title, why string, attack func(*Env) Outcome) Case {
		return Case{ID: id, Group: "processes", Title: title, Guarantee: privilege, Control: None, NoControl: why, Attack: attack}
	}
	self := func(id, title string, control Control, attack func(*Env) Outcome) Case {
		return Case{ID: id, Group: "processes", Title: title, Guarantee: privilege, Control: control, Attack: attack}
	}
	return []Case{
		self("P11.self", "hold a capability in any of the five sets", Outside, func(*Env) Outcome { return capabilities("/proc/self/status") }),
		self("P11.init", "pid 1 holds a capability", Scratch, func(e *Env) Outcome {
			if o, machine := e.initIsTheMachines(); machine {
				return o
			}
			return capabilities("/proc/1/status")
		}),
		self("P11.securebits", "regain capabilities through uid 0: securebits are not locked", Outside, func(*Env) Outcome {
			const noRootLocked = 0b11 // SECBIT_NOROOT and its lock
			bits, err := unix.PrctlRetInt(unix.PR_GET_SECUREBITS, 0, 0, 0, 0)
			if err != nil {
				return held("%v", err)
			}
			if bits&noRootLocked != noRootLocked {
				return open("securebits are %#x", bits)
			}
			return held("securebits are %#x", bits)
		}),
		self("P11.capset", "raise capabilities: capset, ambient", Scratch, func(*Env) Outcome {
			hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var data [2]unix.CapUserData
			data[0] = unix.CapUserData{Effective: 1 << unix.CAP_SYS_ADMIN, Permitted: 1 << unix.CAP_SYS_ADMIN, Inheritable: 1 << unix.CAP_SYS_ADMIN}
			return unless(unix.Capset(&hdr, &data[0]), "capset")
		}),
		self("F27.no-new-privs", "gain privileges by executing", Outside, func(e *Env) Outcome {
			set, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
			if err != nil || set != 1 {
				return open("NoNewPrivs is %d (%v)", set, err)
			}
			if !e.sharesPids() && statusField("/proc/1/status", "NoNewPrivs") == "0" {
				return open("NoNewPrivs of pid 1 is 0")
			}
			return held("NoNewPrivs is 1")
		}),
		self("F27.nosuid", "find a mount without nosuid", Outside, func(e *Env) Outcome { return mountsLack(e, "nosuid") }),
		self("F27.setuid-program", "become root through a set-uid program", Outside, setuidProgram),
		alone("F27.setuid-copy", "make a set-uid shell", "a set-uid copy of one's own program gives one's own uid", func(e *Env) Outcome {
			sh := lookPath("sh")
			b, err := os.ReadFile(sh)
			if err != nil {
				return notRun("%v", err)
			}
			dir := scratchDir(e)
			copied := filepath.Join(dir, "s")
			defer os.Remove(copied)
			if err := os.WriteFile(copied, b, 0o755); err != nil {
				return notRun("%v", err)
			}
			_ = os.Chmod(copied, 0o4755)
			out, _ := program(dir, copied, "-p", "-c", "grep -E '^(Uid|Gid|Cap)' /proc/self/status; id")
			if strings.Contains(out, "euid=") || strings.Contains(out, "uid=0(") && os.Getuid() != 0 {
				return open("%s", brief(out))
			}
			return held("%s", brief(out))
		}),
		self("F27.setuid-bit", "leave a set-uid or set-gid file for the host", Outside, func(e *Env) Outcome {
			path := filepath.Join(scratchDir(e), "setuid")
			if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
				return held("%v", err)
			}
			return asks("chmod %v, %v", unix.Chmod(path, 0o4755), unix.Chmod(path, 0o6755))
		}),
		self("F27.capability", "give a file capabilities", Scratch, func(e *Env) Outcome {
			path := filepath.Join(scratchDir(e), "capable")
			if err := os.WriteFile(path, nil, 0o755); err != nil {
				return held("%v", err)
			}
			value := make([]byte, 20) // VFS_CAP_REVISION_2, cap_net_bind_service
			value[3], value[5] = 2, 4
			return unless(unix.Setxattr(path, "security.capability", value, 0), "setting security.capability")
		}),
		alone("F27.newuidmap", "run sudo, newuidmap, mount", "what they allow is up to the machine; F27.setuid-program shows that such programs gain uid 0", func(*Env) Outcome {
			var all []string
			for _, argv := range [][]string{{"sudo", "-n", "id"}, {"newuidmap", itoa(os.Getpid()), "0", itoa(os.Getuid()), "1"}, {"mount", "--bind", "/usr", "/usr"}} {
				out, ok := program("/", argv...)
				if ok && strings.Contains(out, "uid=0") && os.Getuid() != 0 {
					return open("%s: %s", argv[0], brief(out))
				}
				all = append(all, brief(out))
			}
			return held("%s", brief(strings.Join(all, "; ")))
		}),
		self("X.setuid", "become another user: setresuid, setresgid, setfsuid", Scratch, func(*Env) Outcome {
			for _, nr := range []uintptr{unix.SYS_SETRESUID, unix.SYS_SETRESGID} {
				for _, id := range []uintptr{0, 1, 65534, 100000} {
					if int(id) == os.Getuid() || int(id) == os.Getgid() {
						continue
					}
					if o := forked("changing the id", 0, sys(nr, id, id, id)); o.Verdict == Open {
						return o
					}
				}
			}
			if os.Getuid() == 0 {
				return open("the uid is 0")
			}
			return held("uid %d, gid %d", os.Getuid(), os.Getgid())
		}),
		self("P13.groups", "keep the caller's supplementary groups", AsRoot, func(e *Env) Outcome {
			groups, err := os.Getgroups()
			if err != nil {
				return held("%v", err)
			}
			for _, g := range groups {
				if g == e.HostGID && g != 0 {
					return open("group %d", g)
				}
			}
			return held("groups %v", groups)
		}),
		self("P13.file", "read a file that only one of those groups may read", AsRoot, func(e *Env) Outcome {
			if e.GroupFile == "" {
				return notRun("the caller has no supplementary group")
			}
			return e.read(e.GroupFile)
		}),
		self("P13.drop", "drop a group that is denied something (CVE-2018-7169)", AsRoot, func(*Env) Outcome {
			return forked("setgroups", 0, sys(unix.SYS_SETGROUPS, 0, 0))
		}),
		maybe(self("X.rlimit", "raise a hard limit", AsRoot, func(*Env) Outcome {
			for _, res := range []int{unix.RLIMIT_NPROC, unix.RLIMIT_CORE, unix.RLIMIT_MEMLOCK} {
				var lim unix.Rlimit
				if err := unix.Getrlimit(res, &lim); err != nil || lim.Max == 0 {
					continue
				}
				lim.Max /= 2
				lim.Cur = min(lim.Cur, lim.Max)
				if unix.Setrlimit(res, &lim) != nil {
					continue
				}
				lim.Max++
				if err := unix.Prlimit(0, res, &lim, nil); err == nil {
					return open("limit %d was raised to %d", res, lim.Max)
				}
			}
			return held("none")
		}), "CAP_SYS_RESOURCE"),
		maybe(self("X.oom-lower", "lower the own OOM score below the host's", AsRoot, func(*Env) Outcome {
			return unless(os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0), "writing -1000")
		}), "CAP_SYS_RESOURCE"),
		self("X.realtime", "take a real-time priority", AsRoot, func(*Env) Outcome {
			param := page()
			param[0] = 1
			return forked("sched_setscheduler(FIFO)", 0, sys(unix.SYS_SCHED_SETSCHEDULER, 0, 1, addr(param)))
		}),
		self("X.chroot", "chroot, and climb out", Scratch, func(e *Env) Outcome { return forked("chroot", 0, sys(unix.SYS_CHROOT, text("/tmp"))) }),
		alone("X.dumpable", "regain a dumpable init by PR_SET_PTRACER", "only Yama knows the call; P03.mem-read shows the same without it", func(e *Env) Outcome {
			if o, machine := e.initIsTheMachines(); machine {
				return o
			}
			_ = unix.Prctl(unix.PR_SET_PTRACER, ^uintptr(0), 0, 0, 0)
			return unless(canOpen("/proc/1/mem", unix.O_RDONLY), "opening /proc/1/mem")
		}),
		{ID: "P22.memfd", Group: "processes", Title: "gain something by executing from memory", Guarantee: privilege, Control: Outside, Attack: func(e *Env) Outcome { return e.viaMemory() }},
		{ID: "P23.loader", Group: "processes", Title: "gain something by running a program through ld.so or a copy of it", Guarantee: denyRead, Control: Outside, Attack: func(e *Env) Outcome {
			cat := lookPath("cat")
			if cat == "" {
				return notRun("cat is not installed")
			}
			loaders, _ := filepath.Glob("/lib*/ld-linux*")
			for _, ld := range append(loaders, "") {
				argv := []string{ld, cat, e.Canary}
				if ld == "" {
					argv = []string{cat, e.Canary}
				}
				if out, _ := program("/", argv...); e.leak([]byte(out)) != "" {
					return open("%s read it", argv[0])
				}
			}
			return held("%d loaders tried", len(loaders))
		}},
	}
}

// statusField is one line of a status file.
func statusField(path, name string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if value, found := strings.CutPrefix(line, name+":"); found {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func capabilities(path string) Outcome {
	if _, err := os.Stat(path); err != nil {
		return held("%v", err)
	}
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		if v := statusField(path, set); strings.Trim(v, "0") != "" {
			return open("%s %s", set, v)
		}
	}
	return held("all five are empty")
}

// mountsLack looks for a mount without the option. Mounts of single device files are what nodev would break, and are excepted.
func mountsLack(e *Env, option string) Outcome {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return held("%v", err)
	}
	if link, err := os.Readlink("/proc/self/ns/mnt"); err == nil && link == e.HostNS["mnt"] && e.Control == "" {
		return notRun("the mounts are the host's; what holds here is no_new_privs, and Landlock")
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 6 {
			continue
		}
		var st unix.Stat_t
		isFile := unix.Stat(f[4], &st) == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR
		if option == "nodev" && (isFile || strings.HasPrefix(f[4], "/dev/pts") || strings.Contains(line, " - devpts ")) {
			continue
		}
		n++
		if !strings.Contains(","+f[5]+",", ","+option+",") {
			return open("%s is mounted %s", f[4], f[5])
		}
	}
	return held("all of %d mounts have %s", n, option)
}

// setuidProgram starts one and looks at its effective uid while it waits for input that never comes.
func setuidProgram(*Env) Outcome {
	path := ""
	for _, name := range []string{"/usr/bin/su", "/usr/bin/passwd", "/usr/bin/chfn", "/usr/bin/newgrp"} {
		var st unix.Stat_t
		if unix.Stat(name, &st) == nil && st.Mode&unix.S_ISUID != 0 && st.Uid != uint32(os.Getuid()) || os.Getuid() == 0 && unix.Stat(name, &st) == nil && st.Mode&unix.S_ISUID != 0 {
			path = name
			break
		}
	}
	if path == "" {
		return notRun("no set-uid program can be seen")
	}
	r, w, err := os.Pipe()
	if err != nil {
		return notRun("%v", err)
	}
	defer r.Close()
	defer w.Close()
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return notRun("%v", err)
	}
	defer null.Close()
	attr := &os.ProcAttr{Dir: "/", Files: []*os.File{r, null, null}, Sys: &syscall.SysProcAttr{Setsid: true}}
	if os.Getuid() == 0 {
		attr.Sys.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	p, err := os.StartProcess(path, []string{filepath.Base(path)}, attr)
	if err != nil {
		return held("%v", err)
	}
	uids := strings.Fields(statusField("/proc/"+itoa(p.Pid)+"/status", "Uid"))
	w.Close()
	_ = p.Kill()
	_, _ = p.Wait()
	if len(uids) > 1 && uids[1] == "0" {
		return open("%s ran with effective uid 0", path)
	}
	return held("%s ran with uids %v", path, uids)
}

// viaMemory copies this very program into memory and lets it read the canary and look at its privileges.
func (e *Env) viaMemory() Outcome {
	exe, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return notRun("%v", err)
	}
	fd, err := unix.MemfdCreate("attack", 0)
	if err != nil {
		return held("memfd_create: %v", err)
	}
	f := os.NewFile(uintptr(fd), "attack")
	defer f.Close()
	if _, err := f.Write(exe); err != nil {
		return notRun("%v", err)
	}
	runtime.KeepAlive(exe)
	var outcomes []Outcome
	for _, id := range []string{"F01.open", "F27.no-new-privs", "P11.self", "K02.userfaultfd"} {
		out, _ := program("/", "/proc/self/fd/"+itoa(fd), "case", id)
		if strings.Contains(out, `"verdict":"`+string(Open)+`"`) {
			return open("%s from memory: %s", id, brief(out))
		}
		outcomes = append(outcomes, held("%s", brief(out)))
	}
	return first(outcomes...)
}
