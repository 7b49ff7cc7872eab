// Package host finds out what this machine can enforce, and why not.
//
// Facts are plain data, so that package plan can decide from them without touching the machine. Quick reads what every start needs, Full adds
// what explains a refusal, Examine tries each mechanism for real, and Diagnose turns a failed step into a cause and a remedy.
package host

import (
	"strconv"
	"strings"
)

// Unknown is the value of a kernel setting that this kernel does not have or does not show.
const Unknown = -1

// Facts is what is known of this machine. It says what the kernel claims; only Examine and the read-back at the start prove it.
type Facts struct {
	Release string `json:"release"` // of the kernel, as uname gives it
	Major   int    `json:"major"`
	Minor   int    `json:"minor"`
	Arch    string `json:"arch"` // as Go names it

	UID  int `json:"uid"`
	EUID int `json:"euid"`
	GID  int `json:"gid"`
	EGID int `json:"egid"`

	CPUs   int   `json:"cpus"`   // that this process may use
	Memory int64 `json:"memory"` // of the machine, in bytes; only Full asks

	Landlock     int  `json:"landlock"` // ABI version, 0 when absent or switched off
	Seccomp      bool `json:"seccomp"`  // system call filters
	Openat2      bool `json:"openat2"`
	MountSetattr bool `json:"mount_setattr"` // and with it the whole mount API by descriptor
	CloseRange   bool `json:"close_range"`
	Overlay      bool `json:"overlay"` // for ordinary users, with userxattr: by kernel version; the module may be missing

	MaxUserNamespaces int    `json:"max_user_namespaces"`             // sysctl user.max_user_namespaces, or Unknown
	UnprivilegedClone int    `json:"unprivileged_userns_clone"`       // sysctl of Debian's and some other kernels, or Unknown
	AppArmorRestricts int    `json:"apparmor_restricts_userns"`       // sysctl of Ubuntu's and newer kernels, or Unknown
	AppArmorLabel     string `json:"apparmor_label,omitempty"`        // of this process; read only when AppArmorRestricts is 1
	WSL               int    `json:"wsl,omitempty"`                   // 1 or 2, 0 when this is not Windows' Linux
	Inside            string `json:"inside,omitempty"`                // the sandbox of ours that this process says it runs in
	Complete          bool   `json:"complete"`                        // Full has filled in what follows
	Executable        string `json:"executable,omitempty"`            // of this process, for the AppArmor profile
	LSMs              string `json:"lsms,omitempty"`                  // active security modules, as the kernel lists them
	AppArmor          bool   `json:"apparmor,omitempty"`              //
	SELinux           string `json:"selinux,omitempty"`               // "enforcing", "permissive" or empty
	Container         string `json:"container,omitempty"`             // a hint: docker, podman, kubernetes, lxc or another name
	InUserNamespace   bool   `json:"in_user_namespace,omitempty"`     // not the machine's first one
	ProcVisible       bool   `json:"proc_visible"`                    // nothing is mounted over parts of /proc, so a new one may be mounted
	InotifyWatches    int    `json:"inotify_watches,omitempty"`       // sysctl fs.inotify.max_user_watches, shared with the user's editor
	InotifyInstances  int    `json:"inotify_max_instances,omitempty"` // sysctl fs.inotify.max_user_instances
}

// AtLeast compares the kernel's version.
func (f Facts) AtLeast(major, minor int) bool {
	return f.Major > major || f.Major == major && f.Minor >= minor
}

// UserNamespaces is false only when a setting says for sure that they are refused or useless, and then gives cause and remedy. Root gets
// the same answer as others: the engine takes on the user's ids before it makes the namespaces, and these settings look at the ids then.
// True is no promise: containers and security modules refuse in ways that only a try shows.
func (f Facts) UserNamespaces() (ok bool, cause, remedy string) {
	for _, d := range settings() {
		if d.when(f) {
			return false, d.cause(f), d.remedy(f)
		}
	}
	return true, "", ""
}

// parseRelease reads the version of a release such as "6.8.0-45-generic" or "5.15.153.1-microsoft-standard-WSL2".
func parseRelease(release string) (major, minor int) {
	first, rest, _ := strings.Cut(release, ".")
	return leadingNumber(first), leadingNumber(rest)
}

func leadingNumber(s string) int {
	end := 0
	for end < len(s) && end < 6 && '0' <= s[end] && s[end] <= '9' {
		end++
	}
	n, err := strconv.Atoi(s[:end])
	if err != nil {
		return 0
	}
	return n
}

// wsl tells Windows' Linux by its kernel's name. Version 1 is no Linux kernel; it calls itself "4.4.0-19041-Microsoft".
func wsl(release string) int {
	switch {
	case strings.Contains(release, "microsoft"):
		return 2
	case strings.HasSuffix(release, "-Microsoft"):
		return 1
	}
	return 0
}

// procVisible says whether a new /proc may be mounted in a user namespace. The kernel refuses with EPERM when the existing one has anything
// mounted over a part of it (fs/namespace.c, mnt_already_visible), as containers do to hide files. The directories that exist to be
// mounted on do not count.
func procVisible(mountinfo string) bool {
	found, hidden := false, false
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		switch target := fields[4]; {
		case target == "/proc":
			found = fields[3] == "/" && strings.Contains(line, " - proc ")
			hidden = false // what was mounted on an earlier /proc is covered now
		case target == "/proc/sys/fs/binfmt_misc" || target == "/proc/fs/nfsd":
		case strings.HasPrefix(target, "/proc/"):
			hidden = true
		}
	}
	return found && !hidden
}

// wholeUserNamespace is how /proc/self/uid_map reads in the machine's first user namespace.
const wholeUserNamespace = "0 0 4294967295"

func inUserNamespace(uidMap string) bool {
	return uidMap != "" && strings.Join(strings.Fields(uidMap), " ") != wholeUserNamespace
}
