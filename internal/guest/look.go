package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// look is one look at the host: what may be shown, and what was looked at.
type look struct {
	o      Options
	home   string // of the user, without links; empty when there is none
	inside string // the project, without links
	real   map[string]string
	hops   map[string][]string // the links that were followed to resolve a path
	stats  map[string]unix.Stat_t
	owners []uint32 // whose places may be shown: root's, ours, and the home's owner's
	groups []uint32 // that may write without making a place another user's: root's, ours, and the home's
	stamp  *stamp
	system []Place
}

func newLook(o Options) *look {
	if !filepath.IsAbs(o.Home) || filepath.Clean(o.Home) == "/" {
		o.Home = "/nonexistent"
	}
	o.Home = filepath.Clean(o.Home)
	l := &look{o: o, stats: map[string]unix.Stat_t{}, real: map[string]string{}, hops: map[string][]string{}, stamp: newStamp(), owners: []uint32{0, uint32(os.Geteuid())}, groups: []uint32{0, uint32(os.Getegid())}}
	if real, st, err := l.resolve(o.Home); err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		l.home = real
		l.owners, l.groups = append(l.owners, st.Uid), append(l.groups, st.Gid)
	}
	if real, _, err := l.resolve(o.Project); o.Project != "" && err == nil {
		l.inside = real
	}
	return l
}

func (l *look) lstat(path string) (unix.Stat_t, error) {
	if st, ok := l.stats[path]; ok {
		return st, nil
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return st, err
	}
	l.stats[path] = st
	return st, nil
}

// maxLinks is the kernel's own bound on links in one path.
const maxLinks = 40

// resolve follows every link of an absolute, clean path. Links that were followed go into the stamp: their targets decide what is shown.
func (l *look) resolve(path string) (string, unix.Stat_t, error) {
	if real, ok := l.real[path]; ok {
		st, err := l.lstat(real)
		return real, st, err
	}
	rest := strings.Split(strings.TrimPrefix(path, "/"), "/")
	at, links := "/", 0
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = filepath.Dir(at)
			continue
		}
		next := filepath.Join(at, name)
		st, err := l.lstat(next)
		if err != nil {
			return "", st, err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFLNK {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", st, unix.ELOOP
		}
		text, err := os.Readlink(next)
		if err != nil {
			return "", st, err
		}
		l.hops[path] = append(l.hops[path], next)
		if _, known := l.stamp.seen[at]; !known && !l.isSystem(next) { // a link cannot change without its directory
			l.stamp.watch(next)
		}
		if filepath.IsAbs(text) {
			at = "/"
		}
		rest = append(strings.Split(text, "/"), rest...)
	}
	st, err := l.lstat(at)
	l.real[path] = at
	return at, st, err
}

func (l *look) isSystem(path string) bool { return covered(path, l.system) }

// isProject says whether a path, as named or resolved, is the project's own.
func (l *look) isProject(path string) bool {
	return within(path, l.o.Project) || within(path, l.inside)
}

// viaProject says whether a link in the project is on the way to a path. What is in the project may have been written by a sandbox.
func (l *look) viaProject(path string) bool {
	l.resolve(path)
	return slices.ContainsFunc(l.hops[path], l.isProject)
}

// Places below the user's home that are never shown themselves, nor is anything above them: they hold what belongs to many programs, or
// credentials beside programs. What lies deeper in them may be shown: ~/.local/share/pnpm, ~/.docker/bin.
func mixed() []string {
	return []string{
		".local", ".local/share", ".local/state", ".local/lib", ".config", ".cache", ".var", ".var/app", "snap",
		"Desktop", "Documents", "Downloads", "Music", "Pictures", "Public", "Templates", "Videos",
		".claude", ".codex", ".gemini", ".qwen", ".cline", ".cursor", ".continue", ".copilot", ".aider",
		".azure", ".docker", ".cargo", ".composer", ".config/composer", ".gem", ".npm", ".m2", ".gradle", ".sbt", ".ivy2", ".fly", ".pulumi", ".wasmer",
		".terraform.d", ".oci", ".minikube", ".vscode", ".vscode-server", ".config/Code", ".config/JetBrains", ".subversion", ".cabal", ".stack",
		".config/pip", ".config/uv", ".local/share/uv", ".config/yarn", ".luarocks", ".julia", ".foundry", ".config/mise",
	}
}

// vaults are places below the user's home from which nothing is ever shown.
func vaults() []string {
	return []string{
		".ssh", ".gnupg", ".aws", ".kube", ".password-store", ".local/share/keyrings", ".local/share/kwalletd", ".pki", ".config/gcloud", ".config/gh", ".config/hub",
		".config/op", ".config/sops", ".config/age", ".config/rclone", ".config/doctl", ".config/github-copilot", ".mozilla", ".thunderbird", ".config/google-chrome",
		".config/chromium", ".config/BraveSoftware", ".config/microsoft-edge", ".config/casemate", ".electrum", ".bitcoin", ".ethereum",
		".local/share/uv/credentials", ".cargo/credentials", ".cargo/credentials.toml", ".cargo/git",
	}
}

// outside lists what of the rest of the host is never a tool chain: other people's homes, the kernel's file systems, sockets, drives of Windows.
func outside() []string {
	return []string{"/home", "/root", "/var/home", "/Users", "/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp", "/etc", "/boot", "/mnt", "/media", "/lost+found", "/var"}
}

// refusal says why a resolved path may not be shown, or nothing.
func (l *look) refusal(real string) string {
	switch {
	case real == "/":
		return "it is the whole file system"
	case l.home != "" && within(l.home, real):
		return "it is the home directory, or above it"
	case l.inside != "" && within(l.inside, real):
		return "it contains the project"
	case l.o.State != "" && (within(real, l.o.State) || within(l.o.State, real)):
		return "it holds casemate's own state, or lies in it"
	}
	if l.home != "" && within(real, l.home) {
		return l.refusalAtHome(real)
	}
	for _, dir := range outside() {
		if within(real, dir) && !within(real, linuxbrew) {
			return "places below " + dir + " are not shown"
		}
	}
	return l.refusalByOwner(real, "/")
}

const linuxbrew = "/home/linuxbrew/.linuxbrew"

func (l *look) refusalAtHome(real string) string {
	rel, err := filepath.Rel(l.home, real)
	if err != nil {
		return err.Error()
	}
	for _, m := range mixed() {
		if within(m, rel) {
			return "~/" + m + " holds what belongs to other programs"
		}
	}
	for _, v := range vaults() {
		if within(rel, v) || within(v, rel) {
			return "~/" + v + " holds credentials"
		}
	}
	return l.refusalByOwner(real, l.home)
}

// refusalByOwner walks from the place up to top, which is not looked at. Who can write a directory can put another program there.
func (l *look) refusalByOwner(real, top string) string {
	for dir := real; dir != top && dir != "/"; dir = filepath.Dir(dir) {
		st, err := l.lstat(dir)
		if err != nil {
			return err.Error()
		}
		if why := l.foreign(st); why != "" {
			return fmt.Sprintf("%s %s", dir, why)
		}
	}
	return ""
}

func (l *look) foreign(st unix.Stat_t) string {
	switch {
	case !slices.Contains(l.owners, st.Uid):
		return fmt.Sprintf("belongs to another user (%d)", st.Uid)
	case st.Mode&0o002 != 0:
		return "can be written by every user"
	case st.Mode&0o020 != 0 && !slices.Contains(l.groups, st.Gid):
		return fmt.Sprintf("can be written by group %d", st.Gid)
	}
	return ""
}

// names lists a directory; nothing when it cannot be read.
func names(dir string) []os.DirEntry {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	return entries
}

func (l *look) isDir(path string) bool {
	_, st, err := l.resolve(path)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

func (l *look) exists(path string) bool {
	_, err := l.lstat(path)
	return err == nil
}

const projectsLink = "the project's link leads to it, and a project cannot make anything of the host visible"

// show makes the places for one path, under its own name and, where links lead elsewhere, under the resolved one as well: programs know
// themselves by either. What may not be shown gives none, and the reason.
func (l *look) show(path string) ([]Place, string) {
	path = filepath.Clean(path)
	real, st, err := l.resolve(path)
	if err != nil {
		return nil, "it cannot be looked at: " + err.Error()
	}
	if l.isSystem(real) || l.isProject(real) {
		return nil, ""
	}
	if l.viaProject(path) {
		return nil, projectsLink
	}
	if why := l.refusal(real); why != "" {
		return nil, why
	}
	return l.places(path, real, st), ""
}

func (l *look) places(path, real string, st unix.Stat_t) []Place {
	l.stamp.watch(real)
	p := Place{Target: path, Source: real, File: st.Mode&unix.S_IFMT != unix.S_IFDIR, Dev: uint64(st.Dev), Ino: st.Ino}
	out := []Place{p}
	if path != real {
		p.Target = real
		out = append(out, p)
	}
	return slices.DeleteFunc(out, func(p Place) bool { return !l.nameable(p.Target) })
}

// nameable says whether a name may appear inside: not over what the sandbox has there anyway, such as /run or the project.
func (l *look) nameable(target string) bool {
	switch {
	case l.isSystem(target) || l.isProject(target):
		return false
	case within(target, l.o.Home) || within(target, l.home) || within(target, linuxbrew):
		return true
	}
	return !slices.ContainsFunc(outside(), func(dir string) bool { return within(target, dir) })
}
