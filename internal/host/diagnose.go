package host

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
)

// diagnosis is one thing that can be wrong.
type diagnosis struct {
	steps  string          // names, or beginnings of names, of the steps it shows at, separated by "|"; empty is any step
	errnos []syscall.Errno // that it shows as; empty is any
	when   func(Facts) bool
	cause  func(Facts) string
	remedy func(Facts) string
}

const (
	namespaceStep = "new namespaces"
	mapStep       = "map the user id|own cgroup namespace"
	mountSteps    = "private mounts|mount |new root|overlay of |leave the host's tree|read-only |hide /proc|open "
	overlayStep   = "overlay of "
	procStep      = "mount /proc"
	capableSteps  = mapStep + "|" + mountSteps + "|loopback|host name|no nested user namespaces|low ports"
)

var refused = []syscall.Errno{syscall.EPERM, syscall.EACCES}

// settings are the diagnoses that a kernel setting proves, without a try. The tables are functions, so that no start pays for making them.
func settings() []diagnosis {
	return []diagnosis{
		{
			steps: namespaceStep,
			when:  func(f Facts) bool { return f.WSL == 1 },
			cause: say("WSL 1 is not a Linux kernel and has no namespaces"),
			remedy: say("in Windows, move this distribution to WSL 2:\n" +
				"  wsl --set-version <distribution> 2"),
		},
		{
			steps:  namespaceStep,
			errnos: []syscall.Errno{syscall.ENOSPC, syscall.EUSERS, syscall.EPERM},
			when:   func(f Facts) bool { return f.MaxUserNamespaces == 0 && f.Inside == "" },
			cause:  say("user namespaces are switched off here (user.max_user_namespaces is 0)"),
			remedy: sysctl("user.max_user_namespaces=15000"),
		},
		{
			steps:  namespaceStep,
			errnos: refused,
			when:   func(f Facts) bool { return f.UnprivilegedClone == 0 },
			cause:  say("user namespaces are only for root here (kernel.unprivileged_userns_clone is 0)"),
			remedy: sysctl("kernel.unprivileged_userns_clone=1"),
		},
		{
			steps:  namespaceStep + "|" + capableSteps,
			errnos: refused,
			when:   func(f Facts) bool { return f.AppArmorRestricts == 1 && unprofiled(f.AppArmorLabel) },
			cause:  say("AppArmor allows user namespaces only to programs that have a profile for it (kernel.apparmor_restrict_unprivileged_userns is 1), and this one has none"),
			remedy: func(f Facts) string { return AppArmorCommands(f.Executable) },
		},
	}
}

// unprofiled says whether a program runs without a profile of its own. Ubuntu's restriction spares those that have one with "userns,".
func unprofiled(label string) bool { return label == "" || label == "unconfined" }

// failures are tried in order after settings; the first that fits is the answer.
func failures() []diagnosis {
	return []diagnosis{
		{
			steps: namespaceStep,
			when:  func(f Facts) bool { return f.Inside != "" },
			cause: func(f Facts) string {
				return fmt.Sprintf("this runs inside the sandbox %q already, which allows no other in it", f.Inside)
			},
			remedy: say("run the command directly, it is confined; or start casemate outside of the sandbox"),
		},
		{
			steps:  namespaceStep,
			errnos: []syscall.Errno{syscall.ENOSPC, syscall.EUSERS},
			cause: func(f Facts) string {
				return fmt.Sprintf("the limit of namespaces is reached (user.max_user_namespaces is %d, the others in /proc/sys/user), or they are nested more than 32 deep", f.MaxUserNamespaces)
			},
			remedy: say("end programs that hold namespaces (lsns lists them), or raise the limit that is reached, for example:\n  sudo sysctl -w user.max_user_namespaces=30000"),
		},
		{
			steps:  procStep,
			errnos: refused,
			when:   func(f Facts) bool { return f.Complete && !f.ProcVisible },
			cause:  say("parts of /proc are covered by other mounts, as containers do; the kernel then refuses to mount a new one"),
			remedy: unmask,
		},
		{
			steps:  namespaceStep + "|" + capableSteps,
			errnos: []syscall.Errno{syscall.EPERM, syscall.EACCES, syscall.ENOSYS},
			when:   func(f Facts) bool { return f.Container != "" },
			cause: func(f Facts) string {
				return fmt.Sprintf("this seems to be a container (%s) whose system call filter or security module refuses namespaces and mounts", f.Container)
			},
			remedy: unmask,
		},
		{
			steps:  namespaceStep,
			errnos: []syscall.Errno{syscall.EINVAL, syscall.ENOSYS},
			when:   tooOld(5, 12),
			cause:  old("make the sandbox's namespaces", 5, 12),
			remedy: say("use Linux 5.12 or newer"),
		},
		{
			steps:  namespaceStep,
			errnos: []syscall.Errno{syscall.EINVAL},
			cause:  say("this kernel was built without one of the namespaces"),
			remedy: say("use a kernel with CONFIG_USER_NS, CONFIG_PID_NS, CONFIG_NET_NS, CONFIG_IPC_NS, CONFIG_UTS_NS and CONFIG_CGROUPS; `casemate doctor` says which one is missing"),
		},
		{
			steps:  namespaceStep,
			errnos: refused,
			cause:  say("user namespaces are refused by something that no setting shows: a system call filter of the service manager (RestrictNamespaces=), a security module, or a chroot"),
			remedy: say("start casemate from a login shell instead; if that fails too, look at `journalctl -k -g 'denied|audit'` for who refused"),
		},
		{
			steps:  namespaceStep,
			errnos: []syscall.Errno{syscall.EAGAIN, syscall.ENOMEM},
			cause:  say("the limit of processes is reached, or memory is used up"),
			remedy: say("end programs, or raise the limit: `ulimit -u` shows it, and so does pids.max of the cgroup in /proc/self/cgroup"),
		},
		{
			steps:  mapStep,
			errnos: refused,
			cause:  say("the user id may not be mapped into the new user namespace: a security module refuses, or the id is not mapped in the namespace that casemate runs in"),
			remedy: say("look at `cat /proc/self/uid_map`: it must contain your own id (`id -u`); and at `journalctl -k -g denied`"),
		},
		{
			steps:  overlayStep,
			errnos: []syscall.Errno{syscall.ENODEV},
			cause:  say("this kernel has no overlay file system, or its module is not loaded, which only root may do"),
			remedy: say("sudo modprobe overlay\n  echo overlay | sudo tee /etc/modules-load.d/overlay.conf"),
		},
		{
			steps:  overlayStep,
			errnos: []syscall.Errno{syscall.EPERM, syscall.EINVAL},
			when:   func(f Facts) bool { return !f.Overlay },
			cause:  old("mount an overlay for ordinary users", 5, 11),
			remedy: say("use Linux 5.11 or newer"),
		},
		{
			steps:  overlayStep,
			errnos: []syscall.Errno{syscall.EINVAL, syscall.EOPNOTSUPP, syscall.EROFS, syscall.EREMOTE},
			cause:  say("the file system of the state directory cannot hold a change layer: another overlay (in a container), NFS, FAT and encrypted home directories cannot"),
			remedy: say("put the state on ext4, xfs, btrfs or tmpfs:\n  export XDG_STATE_HOME=/a/directory/there"),
		},
		{
			steps:  overlayStep,
			errnos: []syscall.Errno{syscall.ELOOP, syscall.EBUSY},
			cause:  say("the project and the state directory lie in one another, or another sandbox has this change layer"),
			remedy: say("put the state elsewhere:\n  export XDG_STATE_HOME=/a/directory/outside/of/the/project"),
		},
		{
			steps:  mountSteps,
			errnos: []syscall.Errno{syscall.ENOSYS},
			cause:  old("attach mounts by descriptor (mount_setattr)", 5, 12),
			remedy: say("use Linux 5.12 or newer"),
		},
		{
			steps:  mountSteps,
			errnos: refused,
			cause:  say("mounting in our own namespaces is refused, by a security module or because the sandbox's user may not reach the place"),
			remedy: say("look at `journalctl -k -g denied`, and check that the sandbox's user may enter every directory of the path"),
		},
		{
			steps:  mountSteps,
			errnos: []syscall.Errno{syscall.ENOSPC},
			cause:  say("the limit of mounts in one namespace is reached (sysctl fs.mount-max)"),
			remedy: sysctl("fs.mount-max=200000"),
		},
		{
			steps:  "open ",
			errnos: []syscall.Errno{syscall.ENOENT, syscall.ESTALE, syscall.ENOTDIR, syscall.ELOOP},
			cause:  say("the place is gone or was replaced since the start was planned"),
			remedy: say("try again"),
		},
		{
			steps:  "Landlock rules",
			errnos: []syscall.Errno{syscall.ENOSYS, syscall.EOPNOTSUPP},
			cause:  say("this kernel has no Landlock, or it is switched off at boot"),
			remedy: func(f Facts) string {
				list := f.LSMs
				if list == "" {
					list = "lockdown,yama,integrity,apparmor"
				}
				return "use Linux 5.13 or newer with CONFIG_SECURITY_LANDLOCK, and add Landlock to the kernel's command line:\n  lsm=landlock," + list
			},
		},
		{
			steps:  "Landlock rules",
			errnos: []syscall.Errno{syscall.E2BIG},
			cause:  say("16 Landlock rule sets are in force on this process already"),
			remedy: say("start casemate from a shell that is less deeply sandboxed"),
		},
		{
			steps:  "system call filter",
			errnos: []syscall.Errno{syscall.EINVAL, syscall.ENOSYS},
			cause:  say("this kernel has no system call filters"),
			remedy: say("use a kernel with CONFIG_SECCOMP_FILTER"),
		},
		{
			steps:  "redirect to the gate",
			errnos: []syscall.Errno{syscall.ENOENT, syscall.EOPNOTSUPP, syscall.EPROTONOSUPPORT, syscall.EAFNOSUPPORT, syscall.EINVAL},
			cause:  say("this kernel lacks a part of nf_tables, which leads connections to the gate, or its module is not loaded"),
			remedy: say("sudo modprobe -a nf_tables nft_chain_nat nft_redir nft_reject_inet\n  printf '%s\\n' nf_tables nft_chain_nat nft_redir nft_reject_inet | sudo tee /etc/modules-load.d/casemate.conf\nor run it without a network"),
		},
		{
			steps:  "own terminal",
			errnos: []syscall.Errno{syscall.ENOSPC},
			cause:  say("the machine's terminals are used up (sysctl kernel.pty.max)"),
			remedy: sysctl("kernel.pty.max=8192"),
		},
		{
			steps:  "descriptors of pid 1",
			errnos: []syscall.Errno{syscall.EBADF}, // dup3(2) to a number beyond the limit
			cause:  say("so few files may be open at once that there is no room for a sandbox's"),
			remedy: say("raise the hard limit (`ulimit -Hn` shows it) to 256 or more: nofile in /etc/security/limits.conf, or LimitNOFILE= of the service"),
		},
		{
			errnos: []syscall.Errno{syscall.EMFILE, syscall.ENFILE},
			cause:  say("the limit of open files is reached"),
			remedy: say("raise it for this shell:\n  ulimit -n 4096"),
		},
		{
			errnos: []syscall.Errno{syscall.ENOMEM},
			cause:  say("memory is used up, of the machine or of the cgroup that casemate runs in"),
			remedy: say("end programs; `cat /proc/meminfo` and memory.max of the cgroup show how much there is"),
		},
	}
}

// Diagnose says why a start failed at a named step, as far as that can be told, and what exactly to do. Without an answer both are empty.
// Steps are named as the engine names them. Facts should come from Full; from Quick, containers are not recognised.
func Diagnose(errno syscall.Errno, step string, f Facts) (cause, remedy string) {
	for _, table := range [][]diagnosis{settings(), failures()} {
		for _, d := range table {
			if d.fits(errno, step, f) {
				return d.cause(f), d.remedy(f)
			}
		}
	}
	return "", ""
}

func (d diagnosis) fits(errno syscall.Errno, step string, f Facts) bool {
	if len(d.errnos) > 0 && !slices.Contains(d.errnos, errno) {
		return false
	}
	if d.steps != "" && !named(d.steps, step) {
		return false
	}
	return d.when == nil || d.when(f)
}

func named(steps, step string) bool {
	for s := range strings.SplitSeq(steps, "|") {
		if strings.HasPrefix(step, s) {
			return true
		}
	}
	return false
}

func say(s string) func(Facts) string { return func(Facts) string { return s } }

func tooOld(major, minor int) func(Facts) bool {
	return func(f Facts) bool { return !f.AtLeast(major, minor) }
}

func old(what string, major, minor int) func(Facts) string {
	return func(f Facts) string {
		return fmt.Sprintf("this kernel (%s) cannot %s; that needs %d.%d", f.Release, what, major, minor)
	}
}

func sysctl(line string) func(Facts) string {
	return say("echo '" + line + "' | sudo tee /etc/sysctl.d/90-casemate.conf\n  sudo sysctl -p /etc/sysctl.d/90-casemate.conf")
}

// unmask says how to start the container so that a sandbox fits in it. That weakens the container, so the remedy says so.
func unmask(f Facts) string {
	const weaker = "start the container so (it confines less then; the sandbox in it confines its command):\n  "
	switch f.Container {
	case "kubernetes":
		return weaker + "securityContext: {seccompProfile: {type: Unconfined}, appArmorProfile: {type: Unconfined}, procMount: Unmasked}  # procMount needs hostUsers: false in the pod"
	case "podman":
		return weaker + "podman run --security-opt seccomp=unconfined --security-opt unmask=ALL --security-opt label=disable ..."
	case "lxc", "lxc-libvirt":
		return weaker + "lxc config set <container> security.nesting true"
	}
	return weaker + "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined ..."
}

// AppArmorFile is where the profile of AppArmorProfile belongs.
const AppArmorFile = "/etc/apparmor.d/casemate"

// AppArmorProfile lets the program at path make user namespaces where AppArmor restricts them, and confines it in no other way. It holds for
// whatever lies at that path: where others can write it, they get the same right.
func AppArmorProfile(path string) string {
	return fmt.Sprintf(`abi <abi/4.0>,
include <tunables/global>

profile casemate %s flags=(unconfined) {
  userns,

  include if exists <local/casemate>
}
`, appArmorPath(path))
}

// appArmorPath quotes a path for a profile, in which many characters are patterns (apparmor.d(5), Globbing).
func appArmorPath(path string) string {
	var b strings.Builder
	for _, r := range path {
		if strings.ContainsRune(`*?[]{}^@"\`, r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	if strings.ContainsAny(path, " \t#,()=") {
		return `"` + b.String() + `"`
	}
	return b.String()
}

// AppArmorCommands installs the profile, ready to paste.
func AppArmorCommands(path string) string {
	if path == "" || strings.ContainsRune(path, '\n') {
		path = "/path/to/casemate"
	}
	return "install a profile for this program:\n  sudo tee " + AppArmorFile + " >/dev/null <<'EOF'\n" + AppArmorProfile(path) +
		"EOF\n  sudo apparmor_parser -r " + AppArmorFile
}
