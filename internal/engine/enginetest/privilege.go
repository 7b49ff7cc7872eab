package enginetest

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

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
