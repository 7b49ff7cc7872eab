package host

import (
	"strings"
	"syscall"
	"testing"
)

// good is a machine on which nothing is refused.
func good() Facts {
	return Facts{
		Release: "6.8.0-45-generic", Major: 6, Minor: 8, Arch: "amd64", UID: 1000, EUID: 1000, Landlock: 4, Seccomp: true, Openat2: true, MountSetattr: true,
		CloseRange: true, Overlay: true, MaxUserNamespaces: 96343, UnprivilegedClone: Unknown, AppArmorRestricts: Unknown, Complete: true,
		ProcVisible: true, Executable: "/home/u/bin/casemate", LSMs: "lockdown,capability,yama,apparmor",
	}
}

func TestDiagnose(t *testing.T) {
	for _, c := range []struct {
		name    string
		errno   syscall.Errno
		step    string
		change  func(*Facts)
		cause   string
		remedy  string
		certain bool // UserNamespaces knows it without a try
	}{
		{"sysctl 0", syscall.ENOSPC, "new namespaces", func(f *Facts) { f.MaxUserNamespaces = 0 }, "switched off", "user.max_user_namespaces=15000", true},
		{"sysctl 0 as EUSERS", syscall.EUSERS, "new namespaces", func(f *Facts) { f.MaxUserNamespaces = 0 }, "switched off", "sysctl.d/90-casemate.conf", true},
		{"Debian's sysctl", syscall.EPERM, "new namespaces", func(f *Facts) { f.UnprivilegedClone = 0 }, "only for root", "kernel.unprivileged_userns_clone=1", true},
		{"Ubuntu's AppArmor at clone", syscall.EACCES, "new namespaces", func(f *Facts) { f.AppArmorRestricts = 1; f.AppArmorLabel = "unconfined" }, "AppArmor", "profile casemate /home/u/bin/casemate flags=(unconfined) {\n  userns,", true},
		{"Ubuntu's AppArmor at the map", syscall.EPERM, "map the user id", func(f *Facts) { f.AppArmorRestricts = 1; f.AppArmorLabel = "unconfined" }, "AppArmor", "apparmor_parser -r /etc/apparmor.d/casemate", true},
		{"Ubuntu's AppArmor at a mount", syscall.EACCES, "mount /tmp", func(f *Facts) { f.AppArmorRestricts = 1 }, "AppArmor", "include <tunables/global>", true},
		{"profile there, something else refuses", syscall.EPERM, "new namespaces", func(f *Facts) { f.AppArmorRestricts = 1; f.AppArmorLabel = "casemate (unconfined)" }, "no setting shows", "journalctl", false},
		{"restriction off", syscall.EPERM, "new namespaces", func(f *Facts) { f.AppArmorRestricts = 0; f.UnprivilegedClone = 1 }, "no setting shows", "journalctl", false},
		{"WSL 1", syscall.EINVAL, "new namespaces", func(f *Facts) { f.WSL = 1 }, "WSL 1", "wsl --set-version", true},
		{"inside itself", syscall.EPERM, "new namespaces", func(f *Facts) { f.Inside = "k7"; f.Container = "docker" }, `inside the sandbox "k7"`, "run the command directly", false},
		{"inside itself, its own sysctl 0", syscall.ENOSPC, "new namespaces", func(f *Facts) { f.Inside = "k7"; f.MaxUserNamespaces = 0 }, `inside the sandbox "k7"`, "run the command directly", false},
		{"limit reached", syscall.ENOSPC, "new namespaces", nil, "limit of namespaces", "user.max_user_namespaces=30000", false},
		{"Docker's filter", syscall.EPERM, "new namespaces", func(f *Facts) { f.Container = "docker" }, "container (docker)", "--security-opt seccomp=unconfined", false},
		{"Docker's filter, clone3", syscall.ENOSYS, "new namespaces", func(f *Facts) { f.Container = "docker" }, "container (docker)", "--security-opt seccomp=unconfined", false},
		{"Docker's AppArmor", syscall.EACCES, "private mounts", func(f *Facts) { f.Container = "docker" }, "container (docker)", "--security-opt apparmor=unconfined", false},
		{"Docker's masked proc", syscall.EPERM, "mount /proc", func(f *Facts) { f.Container = "docker"; f.ProcVisible = false }, "/proc are covered", "systempaths=unconfined", false},
		{"Podman's masked proc", syscall.EPERM, "mount /proc", func(f *Facts) { f.Container = "podman"; f.ProcVisible = false }, "/proc are covered", "unmask=ALL", false},
		{"Kubernetes' masked proc", syscall.EPERM, "mount /proc", func(f *Facts) { f.Container = "kubernetes"; f.ProcVisible = false }, "/proc are covered", "procMount: Unmasked", false},
		{"old kernel", syscall.EINVAL, "new namespaces", func(f *Facts) { f.Major, f.Minor, f.Release = 5, 4, "5.4.0" }, "(5.4.0) cannot", "Linux 5.12", false},
		{"kernel without a namespace", syscall.EINVAL, "new namespaces", nil, "built without", "CONFIG_USER_NS", false},
		{"too many processes", syscall.EAGAIN, "new namespaces", nil, "limit of processes", "ulimit -u", false},
		{"id not mapped outside", syscall.EPERM, "map the user id", nil, "may not be mapped", "uid_map", false},
		{"no overlay module", syscall.ENODEV, "overlay of /home/u/p", nil, "module", "modprobe overlay", false},
		{"overlay before 5.11", syscall.EPERM, "overlay of /home/u/p", func(f *Facts) { f.Overlay = false; f.Release = "5.4.0" }, "(5.4.0) cannot mount an overlay", "5.11", false},
		{"state on overlay or NFS", syscall.EINVAL, "overlay of /home/u/p", nil, "state directory", "XDG_STATE_HOME", false},
		{"state in the project", syscall.ELOOP, "overlay of /home/u", nil, "in one another", "XDG_STATE_HOME", false},
		{"no mount_setattr", syscall.ENOSYS, "open /usr", nil, "mount_setattr", "5.12", false},
		{"source replaced", syscall.ESTALE, "open /home/u/.pyenv", nil, "was replaced", "try again", false},
		{"Landlock off at boot", syscall.EOPNOTSUPP, "Landlock rules", nil, "switched off at boot", "lsm=landlock,lockdown,capability,yama,apparmor", false},
		{"no seccomp", syscall.EINVAL, "system call filter", nil, "no system call filters", "CONFIG_SECCOMP_FILTER", false},
		{"few descriptors", syscall.EBADF, "descriptors of pid 1", nil, "so few files", "ulimit -Hn", false},
		{"out of descriptors", syscall.EMFILE, "standard streams", nil, "open files", "ulimit -n", false},
		{"nothing known", syscall.EIO, "standard streams", nil, "", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := good()
			if c.change != nil {
				c.change(&f)
			}
			cause, remedy := Diagnose(c.errno, c.step, f)
			if !strings.Contains(cause, c.cause) || !strings.Contains(remedy, c.remedy) || (cause == "") != (c.cause == "") {
				t.Errorf("cause  %q\nremedy %q", cause, remedy)
			}
			ok, sure, _ := f.UserNamespaces()
			if ok == c.certain {
				t.Errorf("UserNamespaces: %v", ok)
			}
			if !ok && sure != cause {
				t.Errorf("before the try %q, after it %q", sure, cause)
			}
		})
	}
}

// The profile is given to root to install, so a path must not be able to say anything in it.
func TestAppArmorProfileQuotes(t *testing.T) {
	for _, c := range []struct{ name, path, line string }{
		{"plain", "/usr/local/bin/casemate", "profile casemate /usr/local/bin/casemate flags=(unconfined) {"},
		{"space", "/home/a b/casemate", `profile casemate "/home/a b/casemate" flags=(unconfined) {`},
		{"pattern", "/home/*/c[1]{x}?", `profile casemate /home/\*/c\[1\]\{x\}\? flags=(unconfined) {`},
		{"quote", `/home/"x, y`, `profile casemate "/home/\"x, y" flags=(unconfined) {`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if p := AppArmorProfile(c.path); !strings.Contains(p, c.line+"\n") {
				t.Errorf("no line %q in\n%s", c.line, p)
			}
		})
	}
	if c := AppArmorCommands("/x\nEOF\nrm -rf /"); strings.Contains(c, "rm -rf") {
		t.Errorf("a path with a line end went into the commands:\n%s", c)
	}
}
