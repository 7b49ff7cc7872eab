package workspace

import "strings"

// area is what a place says about everything that lies in it.
type area struct {
	git     string     // the git directory it is, or lies in, by a name that some system takes for .git
	ignored bool       // it lies in a directory that git ignores
	built   string     // that directory, if it is shown as one entry
	mixed   bool       // it lies in a directory that git ignores and yet tracks something of
	kind    ChangeKind // what happened to the git or built directory as a whole
	reason  string     // everything in it is protected, for this reason
}

func (l *Layer) areaOf(a area, rel string, q pair) area {
	if a.git == "" && (q.name == ".git" || looksLikeGit(q.name)) {
		a.git, a.kind = rel, q.kind()
	}
	if a.git != "" || a.ignored {
		return a
	}
	dir := q.in.Type == Dir || q.host.Type == Dir
	if !a.mixed && !l.Ignored(rel, dir) {
		return a
	}
	if l.Tracked(rel, dir) {
		a.mixed = true
		return a
	}
	a.ignored = true
	// An ignored .idea or .vscode is protected all the same. What lies in another ignored directory (node_modules/x/.vscode) is not looked at by
	// name: it leaves only with all of it, by the word that says built.
	if _, protected := l.Protected(rel); dir && !protected {
		a.built, a.kind = rel, q.kind()
	}
	return a
}

// kind is what happened to a directory as a whole.
func (q pair) kind() ChangeKind {
	switch {
	case q.host.Type == Absent:
		return Added
	case q.in.Type == Absent:
		return Deleted
	}
	return Modified
}

// bareRepository finds a repository laid in plain files: git takes any directory with these three for one, and obeys its config and hooks
// (git's is_git_directory; safe.bareRepository allows it by default).
func (l *Layer) bareRepository(p *place, pairs []pair) string {
	if p.area.git != "" || !p.inside {
		return ""
	}
	for _, name := range []string{"HEAD", "objects", "refs"} {
		if !l.visible(p, pairs, name) {
			return ""
		}
	}
	return "git takes the directory for a repository and runs its config and hooks"
}

// visible reports whether the sandbox sees the name in this directory.
func (l *Layer) visible(p *place, pairs []pair, name string) bool {
	for _, q := range pairs {
		if q.name == name {
			return q.in.Type != Absent
		}
	}
	if !p.host || p.opaque || l.Kind == CopyLayer {
		return false
	}
	n, err := l.project.stat(join(p.rel, name))
	return err == nil && n.Type != Absent
}

// looksLikeGit reports names that other systems take for .git (git refuses the same: CVE-2014-9390, CVE-2019-1352).
func looksLikeGit(name string) bool { return name != ".git" && canonicalName(name) == ".git" }

// resolve walks a symlink's target as the kernel would, without opening anything: through what stat says lies beneath the project, at most 40
// links deep. It returns the path it ends at, and whether that lies in the project. An absolute target lies in it only if it begins with
// the project's own path as it is spelt.
func resolve(link, target, project string, stat func(rel string) (node, error)) (rel string, inside bool) {
	return follow(link, target, project, stat, func(string) {})
}

// follow is resolve that also names the links it passes.
func follow(link, target, project string, stat func(rel string) (node, error), pass func(rel string)) (rel string, inside bool) {
	at, rest := parentOf(link), target
	for links := 0; rest != ""; {
		if rest[0] == '/' {
			if rest, inside = beneathPath(rest, project); !inside {
				return "", false
			}
			at = ""
			continue
		}
		name, tail, _ := strings.Cut(rest, "/")
		rest = strings.TrimLeft(tail, "/")
		switch name {
		case ".":
		case "..":
			if at == "" {
				return "", false
			}
			at = parentOf(at)
		default:
			at = join(at, name)
			n, err := stat(at)
			if err != nil || n.Type != Symlink {
				continue
			}
			pass(at)
			if links++; links > maxLinks {
				return "", true // the kernel gives up here as well (ELOOP), so it leads nowhere
			}
			at, rest = parentOf(at), n.Link+"/"+rest
		}
	}
	return at, true
}

// beneathPath cuts the project's own path off an absolute one.
func beneathPath(abs, project string) (rel string, ok bool) {
	if abs == project {
		return "", true
	}
	rel, ok = strings.CutPrefix(abs, strings.TrimSuffix(project, "/")+"/")
	return strings.TrimLeft(rel, "/"), ok
}

// leaves reports whether a link points out of the project, by what the layer has, or by what the host has if only this link is applied.
func (l *Layer) leaves(rel, target string) bool {
	_, a := resolve(rel, target, l.Project, l.seen)
	_, b := resolve(rel, target, l.Project, l.project.stat)
	return !a || !b
}

// seen describes what the sandbox sees at rel, but for what it deleted.
func (l *Layer) seen(rel string) (node, error) {
	got, err := l.inside.stat(rel)
	if err == nil && got.Type == Absent {
		return l.project.stat(rel)
	}
	return got, err
}
