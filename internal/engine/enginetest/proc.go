package enginetest

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
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
