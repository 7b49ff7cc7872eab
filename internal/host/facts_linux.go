package host

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Quick reads what every start needs to know, in 5 system calls and 3 for each of the at most four settings that this kernel has (1 for each it has not).
// Everything after Facts.Complete stays empty.
func Quick() Facts {
	var f Facts
	f.Arch = runtime.GOARCH
	f.CPUs = runtime.NumCPU() // the runtime has asked already
	f.Inside = os.Getenv("CASEMATE")
	ids(&f)
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		f.Release = unix.ByteSliceToString(u.Release[:])
	}
	f.Major, f.Minor = parseRelease(f.Release)
	f.WSL = wsl(f.Release)
	f.Landlock = landlockABI()
	f.Seccomp = hasSeccomp()
	f.Openat2 = f.AtLeast(5, 6) || !missing(unix.SYS_OPENAT2)
	f.CloseRange = f.AtLeast(5, 9) || !missing(unix.SYS_CLOSE_RANGE)
	f.MountSetattr = f.AtLeast(5, 12) || !missing(unix.SYS_MOUNT_SETATTR)
	f.Overlay = f.AtLeast(5, 11)

	f.MaxUserNamespaces = setting("/proc/sys/user/max_user_namespaces")
	f.UnprivilegedClone = setting("/proc/sys/kernel/unprivileged_userns_clone")
	f.AppArmorRestricts = setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
	if f.AppArmorRestricts == 1 {
		f.AppArmorLabel = read("/proc/self/attr/current")
	}
	return f
}

// Full is Quick and what explains a refusal. It takes some fifty system calls more, so it is for doctor and for a start that failed.
func Full() Facts {
	f := Quick()
	f.Complete = true
	var s unix.Sysinfo_t
	if unix.Sysinfo(&s) == nil {
		f.Memory = int64(s.Totalram) * int64(max(s.Unit, 1))
	}
	f.Executable, _ = os.Readlink("/proc/self/exe")
	f.LSMs = read("/sys/kernel/security/lsm")
	f.AppArmor = read("/sys/module/apparmor/parameters/enabled") == "Y"
	switch read("/sys/fs/selinux/enforce") {
	case "1":
		f.SELinux = "enforcing"
	case "0":
		f.SELinux = "permissive"
	}
	f.Container = container(os.Getenv, exists, whole)
	f.InUserNamespace = inUserNamespace(read("/proc/self/uid_map"))
	f.ProcVisible = procVisible(whole("/proc/self/mountinfo"))
	f.InotifyWatches = setting("/proc/sys/fs/inotify/max_user_watches")
	f.InotifyInstances = setting("/proc/sys/fs/inotify/max_user_instances")
	return f
}

// container guesses what contains this process. Nothing may depend on it but the choice of a remedy: images keep such files when they
// are made into machines.
func container(env func(string) string, exists func(string) bool, read func(string) string) string {
	switch {
	case env("KUBERNETES_SERVICE_HOST") != "":
		return "kubernetes"
	case exists("/run/.containerenv"):
		return "podman"
	case exists("/.dockerenv"):
		return "docker"
	case env("container") != "":
		return env("container")
	}
	if name := read("/run/systemd/container"); name != "" {
		return name
	}
	groups := read("/proc/self/cgroup")
	for _, hint := range [][2]string{{"kubepods", "kubernetes"}, {"docker", "docker"}, {"libpod", "podman"}, {"lxc", "lxc"}, {"containerd", "containerd"}} {
		if strings.Contains(groups, hint[0]) {
			return hint[1]
		}
	}
	return ""
}

func ids(f *Facts) {
	var r, e, s uint32
	get := func(nr uintptr) {
		unix.RawSyscall(nr, uintptr(unsafe.Pointer(&r)), uintptr(unsafe.Pointer(&e)), uintptr(unsafe.Pointer(&s)))
	}
	get(unix.SYS_GETRESUID)
	f.UID, f.EUID = int(r), int(e)
	get(unix.SYS_GETRESGID)
	f.GID, f.EGID = int(r), int(e)
}

// landlockABI asks for the version. A kernel that has Landlock switched off at boot answers EOPNOTSUPP.
func landlockABI() int {
	abi, _, errno := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(abi)
}

// hasSeccomp asks whether a filter may answer with an errno, which changes nothing (seccomp(2), SECCOMP_GET_ACTION_AVAIL).
func hasSeccomp() bool {
	action := uint32(unix.SECCOMP_RET_ERRNO)
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action)))
	return errno == 0
}

// missing calls with arguments that no kernel accepts: enterprise kernels have calls that their version does not tell.
func missing(nr uintptr) bool {
	bad := ^uintptr(0)
	_, _, errno := unix.RawSyscall6(nr, bad, 0, bad, 0, 0, 0)
	return errno == unix.ENOSYS
}

func setting(path string) int {
	n, err := strconv.Atoi(read(path))
	if err != nil {
		return Unknown
	}
	return n
}

// read returns a small kernel file without its last line's end, or nothing. Package os would make twice as many system calls.
func read(path string) string {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	buf := make([]byte, 512)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return ""
	}
	return strings.TrimRight(string(buf[:n]), "\n\x00")
}

// whole reads a kernel file that may be longer than a page, which the kernel gives out in pieces.
func whole(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimRight(string(b), "\n")
}

func exists(path string) bool {
	return unix.Faccessat(unix.AT_FDCWD, path, unix.F_OK, 0) == nil
}
