package plan

import (
	"path"
	"slices"
	"strings"

	"casemate.dev/internal/limits"
	"casemate.dev/internal/policy"
)

// guarantees says what holds, by what. Its rows are the promise that `casemate validate` attacks.
func guarantees(p *Plan, held []limits.Enforced) []Guarantee {
	var list []Guarantee
	if p.Mode == Landlock {
		list = fallbackGuarantees(p)
	} else {
		list = []Guarantee{
			{"files.deny-read", Enforced, "own mount namespace, Landlock"},
			{"files.deny-write", Enforced, "read-only mounts, Landlock"},
			{"files.metadata", Enforced, "own mount namespace"},
			{"files.hide", Enforced, hideBy(p)},
			{"files.hide-new", hideNewState(p), hideNewBy(p)},
			{"files.protect", protectState(p), protectBy(p)},
			{"net.default-deny", Enforced, netBy(p)},
			{"proc.isolation", Enforced, "own pid, ipc, uts and cgroup namespaces, own /proc"},
			{"proc.signals", Enforced, "own pid namespace, Landlock scopes"},
			{"proc.no-leftovers", Enforced, "pid namespace that ends with pid 1, which ends with the supervisor"},
			{"privileges.none", Enforced, "no capabilities in five sets, no_new_privs, nosuid mounts"},
			{"kernel.surface", Enforced, "system call filter, no nested user namespaces"},
			{"keys.isolation", Enforced, "own session keyring, key calls refused"},
			{"tty.injection", Enforced, "own session and terminal, TIOCSTI refused"},
			{"fds.closed", Enforced, "close_range before the command, own pipes"},
			{"env.clean", Enforced, "built from an allow-list"},
		}
	}
	for _, l := range held {
		state := Absent
		switch l.Strength {
		case limits.Held:
			state = Enforced
		case limits.Watched:
			state = Watched
		}
		if l.Value != "none" {
			list = append(list, Guarantee{"limits." + word(l.Name), state, l.By})
		}
	}
	return list
}

func word(name string) string {
	if name == "open files" {
		return "files"
	}
	return name
}

// withoutNamespaces lays out the fallback: the command sees the host's tree, and Landlock lets it open only what is listed.
func (p *Plan) withoutNamespaces(r Request) error {
	p.Syscalls.Fallback, p.Syscalls.Metadata = true, r.Told
	p.Namespaces = []string{}
	for _, t := range append(r.System, r.Tools...) {
		if !t.Link {
			p.Landlock.read(t.Source)
		}
	}
	for _, f := range []string{"alternatives", "bash.bashrc", "ca-certificates", "ca-certificates.conf", "debian_version", "group", "host.conf", "hosts", "inputrc",
		"ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias", "localtime", "magic", "mime.types", "nsswitch.conf", "os-release", "passwd", "pki", "profile", "protocols", "services", "shells", "ssl/certs", "ssl/openssl.cnf", "terminfo", "timezone"} {
		p.Landlock.read(path.Join("/etc", f))
	}
	if r.Etc != "" {
		p.Landlock.read(path.Join(r.Etc, "gitconfig")) // in place of the host's, see guest.EnvOptions
	}
	p.Landlock.read("/proc")
	p.Landlock.write("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/pts", r.Tmp, r.Home)
	switch r.Policy.Files.Workspace.V {
	case policy.Scratch:
		p.Workspace.By, p.Workspace.Path, p.Command.Dir = "directory", "", r.Tmp
	case policy.ReadOnly:
		p.Workspace.By = "copy"
		p.Landlock.read(r.Copy)
		p.Command.Dir = r.Copy
	default: // a live workspace too: Landlock cannot take hidden and protected files out of a tree that it opens
		p.Workspace.By = "copy"
		p.Landlock.write(r.Copy)
		p.Command.Dir = r.Copy
		if r.Policy.Files.Workspace.V == policy.Live {
			p.Workspace.Kind = string(policy.Held)
			p.Notes = append(p.Notes, "a live workspace needs namespaces; changes are held instead")
		}
	}
	for _, v := range r.Policy.Files.Read {
		p.Landlock.read(Expand(v.V, r.Host))
	}
	p.Landlock.except(slices.Concat(r.System, r.Tools))
	if n := len(r.Policy.Files.Readonly) + len(r.Policy.Files.Write); n > 0 {
		p.Notes = append(p.Notes, "files.readonly and files.write have no effect without namespaces: changes to all of the copy are held")
	}
	return nil
}

// except takes the credential files of tool chains out of every rule that would open them. What the policy names itself stays open.
func (r *Rules) except(trees []Tree) {
	for _, t := range trees {
		for _, h := range t.Hide {
			hidden := h
			if rest, ok := strings.CutPrefix(h, t.Target+"/"); ok {
				hidden = path.Join(t.Source, rest)
			}
			for i := range r.Allow {
				if a := &r.Allow[i]; hidden != a.Path && within(hidden, a.Path) && !a.Write && !slices.Contains(a.Except, hidden) {
					a.Except = append(a.Except, hidden)
				}
			}
		}
	}
}

func fallbackGuarantees(p *Plan) []Guarantee {
	scoped := Enforced
	scopedBy := "Landlock scopes"
	if p.Landlock.ABI < 6 {
		scoped, scopedBy = Absent, "Landlock ABI 6 (Linux 6.12) has the scopes that would"
	}
	return []Guarantee{
		{"files.deny-read", Enforced, "Landlock: content and listings"},
		{"files.deny-write", Enforced, "Landlock; " + metadataBy(p)},
		{"files.metadata", Absent, "needs a mount namespace: names, sizes, owners and times of files outside can be asked for"},
		{"files.hide", Enforced, "a copy of the project without the hidden files"},
		{"files.hide-new", Enforced, "a copy: what appears on the host does not appear in it"},
		{"files.protect", Enforced, "changes are held until they are applied"},
		{"net.default-deny", Enforced, "socket calls refused by the filter"},
		{"proc.isolation", Absent, "needs a pid namespace: processes of the host can be listed"},
		{"proc.signals", scoped, scopedBy},
		{"proc.no-leftovers", Watched, "the first process kills what the command leaves"},
		{"privileges.none", Absent, "needs a user namespace: the bounding set stays; no_new_privs keeps programs from gaining any of it"},
		{"kernel.surface", Enforced, "system call filter"},
		{"keys.isolation", Absent, "needs a /proc of its own: key calls are refused, but the names of keys can be read in /proc/keys"},
		{"tty.injection", Enforced, "own session and terminal, TIOCSTI refused"},
		{"fds.closed", Enforced, "close_range before the command, own pipes"},
		{"env.clean", Enforced, "built from an allow-list"},
	}
}

func metadataBy(p *Plan) string {
	if p.Syscalls.Metadata {
		return "modes and times are changed by the supervisor, in the sandbox's own files only; owners and attributes by nobody"
	}
	return "chmod, chown, utimes and xattr calls refused by the filter"
}

func hideBy(p *Plan) string {
	switch p.Workspace.By {
	case "overlay":
		return "a read-only layer of whiteouts over the project"
	case "copy":
		return "a copy of the project without the hidden files"
	case "bind":
		return "a mount over each hidden file that exists"
	}
	return "the project is not seen"
}

func hideNewState(p *Plan) State {
	switch p.Workspace.By {
	case "overlay":
		return Watched
	case "bind":
		return Absent
	}
	return Enforced
}

func hideNewBy(p *Plan) string {
	switch p.Workspace.By {
	case "overlay":
		return "exact names in directories that exist: whiteouts made beforehand; the rest is hidden within 100 ms of appearing"
	case "bind":
		return "a live workspace shows what the host creates or replaces during the run; a held one does not"
	case "copy":
		return "a copy: what appears on the host does not appear in it"
	}
	return "the project is not seen"
}

// mirror says what becomes of what the host changes during the run.
func mirror(p *Plan) string {
	switch p.Workspace.By {
	case "overlay":
		if p.Workspace.Kind == string(policy.Held) {
			return "the host's edits are carried in, within about 100 ms (watched, not enforced); a file changed on both sides stays as each has it"
		}
		return "the host's edits may not be seen"
	case "copy":
		return "the host's edits are not seen: it is a copy, made at the start"
	case "bind":
		return "the host's edits are seen at once: it is the project itself"
	}
	return "the project is not seen"
}

func protectState(p *Plan) State {
	if p.Workspace.By == "bind" && p.Workspace.Kind == string(policy.Live) {
		return Watched
	}
	return Enforced
}

func protectBy(p *Plan) string {
	if p.Workspace.By == "bind" && p.Workspace.Kind == string(policy.Live) {
		return "read-only mounts over what exists; what appears is taken back, within 100 ms where nothing else is busy"
	}
	return "changes are held until they are applied"
}

func netBy(p *Plan) string {
	if p.Network.Kind == Gate {
		return "own network namespace whose every way leads to the gate (nf_tables); the gate decides by name"
	}
	return "own empty network namespace"
}
