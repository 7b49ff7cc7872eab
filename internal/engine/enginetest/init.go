package enginetest

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

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
