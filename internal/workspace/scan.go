package workspace

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"casemate.dev/internal/policy"
	"golang.org/x/sys/unix"
)

// ScanOptions says for whom a project is scanned.
type ScanOptions struct {
	// UID and GID are the one user and group that the sandbox's id map holds, as they own files on this disk. Overlayfs cannot copy up what
	// belongs to another (EOVERFLOW).
	UID, GID uint32

	Home      string   // the user's home directory
	State     string   // Casemate's state directory
	Real      bool     // both are known to be named without links
	GitConfig []string // the user's git configuration files, which may name hooks in the project
	Own       []string // files and directories of casemate's own configuration

	Protect *policy.Paths // the policy's own patterns of what is protected; may be nil
	Mounts  []byte        // /proc/self/mountinfo, where it has just been read; nil: read it
}

// Survey is what a project held when it was scanned, as far as a sandbox needs to know before it starts.
type Survey struct {
	Root     string    // absolute, without symbolic links
	Hidden   []Hidden  // sorted by path
	Findings []Finding // sorted by path
	GitDirs  []GitDir

	// Elsewhere are other paths by which the project, or a part of it, can be reached (bind mounts). Mounting one of them, or a parent,
	// into the sandbox would show what is hidden here.
	Elsewhere []string

	// Aliases are paths that the host executes although their names do not say so, because a protected link or git's configuration names
	// them, with the reason. "." is the whole project.
	Aliases map[string]string

	// Placed are the indexes that were laid into the sandbox's layer, by the path of the .git they belong to. Whoever lays them notes them.
	Placed map[string]PlacedIndex

	Files, Directories int // seen in this scan; with an index, what was not read again counts as last time

	scanned
	places  map[string]string // where git's configuration files lie; "" for those that cannot be found
	configs map[string]string // and what is in them
	dev     uint64
	foreign int   // entries to copy
	bulk    int64 // their bytes
}

// Hidden is one entry that the sandbox does not see.
type Hidden struct {
	Path    string
	Dir     bool
	Pattern int    // index of the pattern that hides it, or -1
	Why     string // if no pattern hides it
	Tracked bool   // git tracks it, or something in it: the content is in the object database, where it is not hidden
}

// HiddenBy answers for any path whether patterns hide it, by itself or with a directory above, or whether it is one of also: what Scan hid for
// another reason, and what Rehide removed. Unlike the patterns alone it knows that none applies to git's own refs, logs and objects.
func HiddenBy(hide *policy.Paths, also []string) func(rel string, dir bool) bool {
	w := walk{hide: hide}
	return func(rel string, isDir bool) bool {
		for i := 0; i <= len(rel); i++ {
			if i < len(rel) && rel[i] != '/' {
				continue
			}
			parent := parentOf(rel[:i])
			if hidden, _ := w.match(parent, baseName(rel[:i]), isDir || i < len(rel)); hidden || slices.Contains(also, rel[:i]) {
				return true
			}
		}
		return false
	}
}

// Answer is what is done about a finding.
type Answer string

const (
	Handled  Answer = "handled"  // nothing is left to do
	Reported Answer = "reported" // somebody should know
	Refused  Answer = "refused"  // a held workspace cannot be had like this
)

// Finding is something about a project that a sandbox has to be careful with.
type Finding struct {
	Kind   string // one word: hardlink, mount, elsewhere, owner, unreadable, socket, symlink, gitdir, repository, alternates, casefold, tracked
	Path   string // relative to the project
	Answer Answer
	Detail string // a sentence for people
}

// Scan walks a project once. It follows no symbolic link and crosses into no other mount. What it hides is decided by hide, which may be nil.
func Scan(root string, hide *policy.Paths, o ScanOptions) (*Survey, error) {
	s, top, err := newSurvey(root, o)
	if err != nil {
		return nil, err
	}
	defer top.close()
	_, err = s.scan(top, hide, o, scanned{}, time.Now())
	return s, err
}

// scanned is what is kept from one scan for the next.
type scanned struct {
	dirs    []dirRecord
	tracked trackedCache
}

// newSurvey looks at the place only. It leaves the project's directory open.
func newSurvey(root string, o ScanOptions) (s *Survey, top *rooted, err error) {
	if top, err = openRooted(root); err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			top.close()
		}
	}()
	s = &Survey{Aliases: map[string]string{}}
	if s.Root, err = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", top.fd)); err != nil {
		return nil, nil, err
	}
	if err := s.checkPlace(o); err != nil {
		return nil, nil, err
	}
	return s, top, nil
}

// scan walks the project, or with what an earlier scan left only what has changed since. fresh are the directories whose record is new.
func (s *Survey) scan(top *rooted, hide *policy.Paths, o ScanOptions, old scanned, now time.Time) (fresh []int32, err error) {
	if err := s.findMounts(top, o.Mounts); err != nil {
		return nil, err
	}
	for _, root := range s.Elsewhere {
		if err := s.checkState(root, o.real(o.State)); err != nil {
			return nil, err
		}
	}
	w := newWalk(top, hide, o, now)
	w.root = s.Root
	if fresh, err = w.run(old.dirs); err != nil {
		return nil, fmt.Errorf("scan project %q: %w", s.Root, err)
	}
	s.dirs = w.dirs
	s.summarise(w)
	s.surveyGit(o)
	s.obeyed(o.GitConfig, "git executes commands that it names")
	s.obeyed(o.Own, whySandbox)
	s.sort()
	s.tracked = s.findTracked(old.tracked)
	s.sort()
	return fresh, nil
}

// checkPlace refuses directories that are no project.
func (s *Survey) checkPlace(o ScanOptions) error {
	home, state := o.real(o.Home), o.real(o.State)
	switch {
	case s.Root == "/":
		return fmt.Errorf("the project would be %q, the whole machine: start in the directory of one project", "/")
	case home != "" && under(home[1:], s.Root[1:]):
		return fmt.Errorf("the project would be %q, which holds your home directory and so your credentials and other projects: "+
			"start in the directory of one project, or use files.workspace: none", s.Root)
	}
	return s.checkState(s.Root, state)
}

// checkState keeps the state directory and the project apart, under each of the project's names.
func (s *Survey) checkState(root, state string) error {
	switch {
	case state == "" || root == "/":
	case under(state[1:], root[1:]):
		return fmt.Errorf("the project %q holds Casemate's state directory %q, where its layers and logs must be out of the sandbox's reach: "+
			"start in a directory below, or set XDG_STATE_HOME to a place outside", root, state)
	case under(root[1:], state[1:]):
		return fmt.Errorf("the project %q lies in Casemate's state directory %q: move the project, or set XDG_STATE_HOME to another place", root, state)
	}
	return nil
}

func (o ScanOptions) real(name string) string {
	if o.Real {
		return name
	}
	return realPath(name)
}

// realPath resolves a path as far as it exists; what does not exist yet keeps its name.
func realPath(name string) string {
	if name == "" {
		return ""
	}
	name, err := filepath.Abs(name)
	if err != nil {
		return ""
	}
	rest := ""
	for dir := name; ; dir = filepath.Dir(dir) {
		if real, err := Whereabouts(dir); err == nil {
			return filepath.Join(real, rest)
		}
		rest = filepath.Join(filepath.Base(dir), rest)
	}
}

// Whereabouts asks the kernel where a path leads, with three calls at any depth. What has no place in the tree, such as a pipe, is left to the slow way.
func Whereabouts(name string) (string, error) {
	fd, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	real, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil || !filepath.IsAbs(real) {
		return filepath.EvalSymlinks(name)
	}
	return real, nil
}

// Refused returns an error that names every finding with which a held workspace cannot be had, or nil.
func (s *Survey) Refused() error {
	var why []string
	for _, f := range s.Findings {
		if f.Answer == Refused {
			why = append(why, fmt.Sprintf("%q: %s", f.Path, f.Detail))
		}
	}
	if len(why) == 0 {
		return nil
	}
	return fmt.Errorf("project %q cannot be held: %s", s.Root, strings.Join(why, "; "))
}

func (s *Survey) find(kind, path string, answer Answer, format string, args ...any) {
	s.Findings = append(s.Findings, Finding{kind, path, answer, fmt.Sprintf(format, args...)})
}

func (s *Survey) sort() {
	slices.SortFunc(s.Hidden, func(a, b Hidden) int { return strings.Compare(a.Path, b.Path) })
	slices.SortFunc(s.Findings, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Kind, b.Kind))
	})
	slices.SortFunc(s.GitDirs, func(a, b GitDir) int { return strings.Compare(a.Path, b.Path) })
	slices.Sort(s.Elsewhere)
}

// summarise turns the notes of the directories into what callers ask for.
func (s *Survey) summarise(w *walk) {
	for i := range s.dirs {
		d := &s.dirs[i]
		if d.has(isHidden) {
			continue
		}
		s.Directories++
		s.Files += int(d.files)
		foldsAbove := d.parent >= 0 && s.dirs[d.parent].has(folds)
		if d.has(folds) && !foldsAbove && len(w.hide.Patterns()) > 0 {
			s.find("casefold", d.path, Refused, "the file system finds a hidden name under another case too, which an overlay cannot hide: "+
				"move the project to a file system that tells case apart, or hide nothing")
		}
		for _, n := range d.notes {
			s.note(join(d.path, n.name), n, w)
		}
	}
	if w.tangled {
		s.find("symlink", "", Reported, "links lead to hidden names in more ways than are followed: what lies behind the others can be read under its own name")
	}
	if s.foreign > 0 {
		s.find("owner", "", Handled, "%d files belong to another user or group than %d:%d and are copied for the sandbox (%d bytes)", s.foreign, w.o.UID, w.o.GID, s.bulk)
	}
}

func (s *Survey) note(path string, n note, w *walk) {
	hide := func(why string) {
		s.Hidden = append(s.Hidden, Hidden{Path: path, Dir: n.typ == dtDir, Pattern: int(n.pattern), Why: why})
	}
	switch n.kind {
	case noteHidden:
		if n.pattern < 0 {
			hide("a link gives it a hidden name")
			break
		}
		hide("")
	case noteLink:
		hide("another name of a hidden file")
		s.find("hardlink", path, Handled, "it is another name of a hidden file, so it is hidden too")
	case noteSocket:
		hide("a socket of the host")
		s.find("socket", path, Handled, "it is a socket of the host, so it is hidden")
	case noteClosed:
		hide("it cannot be looked into")
		s.find("unreadable", path, Handled, "its permissions do not let you look for hidden files in it, so it is hidden as a whole")
	case noteMount:
		s.find("mount", path, Refused, "another file system is mounted there, and an overlay cannot show it: unmount it, or use files.workspace: live")
	case noteForeign:
		s.foreign++
		s.bulk += n.size
	case noteForeignClosed:
		s.find("unreadable", path, Reported, "it belongs to somebody else and you may not read it, so nobody can inside")
	case noteSymlink:
		s.protectedLink(path, n.detail, w.o.Protect)
	case noteBare:
		s.find("repository", parentOf(path), Reported, "git takes this directory for a bare repository and obeys its config and hooks")
	}
}
