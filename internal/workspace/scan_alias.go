package workspace

import (
	"os"
	"path"
	"path/filepath"
	"strings"

	"casemate.dev/internal/policy"
	"golang.org/x/sys/unix"
)

// protectedLink is about a link in the place of something protected, or of a directory that may hold such. The link itself is guarded by its name;
// what it points to is not, nor are other links on the way there.
func (s *Survey) protectedLink(link, target string, extra *policy.Paths) {
	passed, to, inside := s.trail(parentOf(link), target)
	through := ", through the link " + link
	why, itself := ProtectedPath(link, extra)
	if !itself {
		for rest, why := range behind(link, extra) {
			s.alias(passed, why+through)
			if inside {
				s.Aliases[path.Join(to, rest)] = why + through
			}
		}
		return
	}
	s.alias(passed, why+through)
	if !inside {
		s.find("symlink", link, Reported, "it points to %q outside the project, which does not exist inside", target)
		return
	}
	s.Aliases[to] = why + through
	s.find("symlink", link, Handled, "what it points to, %q, is protected as well", to)
}

// obeyed protects the person's own configuration where it lies in the project, or is a link into it as with those who keep such files in a repository: no name
// in there need say so. A link that leads nowhere could be given an end. A directory stands before what is in it.
func (s *Survey) obeyed(names []string, why string) {
	gone := ""
	for _, name := range names {
		if rel, inside := s.relative(name); inside {
			s.Aliases[rel] = why
		}
		if s.places[name] == name || gone != "" && within(name, gone) {
			continue
		}
		switch linked(name) {
		case nil:
			continue
		case unix.ENOENT:
			gone = name
			continue
		}
		passed, to, inside := s.trail("", name)
		s.alias(passed, why+", through the link "+name)
		if inside {
			s.Aliases[to] = why + ", through the link " + name
		}
	}
}

// linked is nil for what is there and reached without a link, ENOENT where neither is anything there nor a link on the way.
func linked(name string) error {
	fd, err := unix.Openat2(unix.AT_FDCWD, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS})
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func (s *Survey) alias(paths []string, why string) {
	for _, p := range paths {
		s.Aliases[p] = why
	}
}

// Aliased reports whether a path, or one above it, is among the aliases, and why.
func Aliased(aliases map[string]string, rel string) (why string, ok bool) {
	for dir := rel; dir != "." && dir != ""; dir = path.Dir(dir) {
		if why, ok := aliases[dir]; ok {
			return why, true
		}
	}
	why, ok = aliases["."]
	return why, ok
}

// maxLinks is how many links the kernel follows in one path (path_resolution(7)).
const maxLinks = 40

// trail resolves a path that something in the project's directory dir names, as the host would. It returns the links of the project that it
// passes, each of which decides where it ends, and its end, "." for the project itself, if that lies in the project.
func (s *Survey) trail(dir, target string) (passed []string, end string, inside bool) {
	at := filepath.Join(s.Root, dir)
	rest := target
	if filepath.IsAbs(target) {
		at = "/"
	}
	for links := 0; rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		if name == "" || name == "." {
			continue
		}
		next := filepath.Join(at, name) // which makes .. the parent; at is free of links
		to, err := os.Readlink(next)
		if err != nil || name == ".." {
			at = next
			continue
		}
		if rel, in := s.relative(next); in {
			passed = append(passed, rel)
		}
		if links++; links > maxLinks {
			return passed, "", false
		}
		if filepath.IsAbs(to) {
			at = "/"
		}
		rest = to + "/" + rest
	}
	end, inside = s.relative(at)
	return passed, end, inside
}

func (s *Survey) relative(abs string) (rel string, inside bool) {
	if abs == s.Root {
		return ".", true
	}
	return strings.CutPrefix(abs, s.Root+"/")
}
