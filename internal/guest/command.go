package guest

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Command is the program to execute.
type Command struct {
	Path  string // absolute, under the name that it was found by: many programs look at their own name
	Tools []Tool // what has to be shown besides the view, so that it works
}

// CommandError says why there is nothing to execute, and the status to exit with: 127 when there is no such program, 126 when there is one
// that cannot be executed.
type CommandError struct {
	Name   string
	File   string // where it was found, if it is Unseen
	Status int
	Why    string
	Unseen bool // it is there, but the sandbox does not see it
	Denied bool // its mode, or that of a directory above it, forbids it
}

func (e *CommandError) Error() string { return fmt.Sprintf("%q: %s", e.Name, e.Why) }

// Command finds the program as execvp(3) would, with the host's PATH, and what of its installation the view does not show yet. dir is the
// working directory. A link in the project leads to nothing that the view does not show.
func (v View) Command(name, dir string, o Options) (Command, error) {
	file, link, err := find(name, dir, o)
	if err != nil || distribution(file) && !link {
		return Command{Path: file}, err
	}
	l := newLook(o)
	l.system = v.System
	if strings.Contains(file, "..") {
		// the directory above a link's target is not the one above the link
		if file, _, err = l.resolve(file); err != nil {
			return Command{}, commandError(name, errnoOf(err))
		}
	}
	file = filepath.Clean(file)
	f := l.finder()
	f.tools = append(f.tools, v.Tools...)
	if real, _, err := l.resolve(file); err == nil && (real == "/usr/bin/snap" || within(file, "/snap/bin")) {
		return Command{}, &CommandError{Name: name, Status: 126, Why: "is a snap package, and those are started by snapd, which is out of reach: install it in another way"}
	}
	if err := f.executable(name, file); err != nil {
		return Command{}, err
	}
	f.interpreter(file)
	return Command{Path: file, Tools: f.tools[len(v.Tools):]}, nil
}

// distribution says whether a program whose name is no link is one of the distribution's own, by far the most frequent case.
func distribution(file string) bool {
	switch filepath.Dir(file) {
	case "/usr/bin", "/bin", "/usr/sbin", "/sbin":
		return true
	}
	return false
}

// executable makes the file itself visible.
func (f *finder) executable(name, file string) error {
	real, _, err := f.resolve(file)
	if err != nil {
		return &CommandError{Name: name, Status: 126, Why: err.Error()}
	}
	if f.isProject(file) && f.isProject(real) || f.shown(file) && f.shown(real) {
		return nil
	}
	trust := !f.isProject(file) && !f.viaProject(file)
	before := len(f.refused)
	if trust {
		f.installation(file, "the command's own installation", true)
	}
	f.installation(real, "the command's own installation", trust)
	if f.shown(file) && f.shown(real) {
		return nil
	}
	why := "it cannot be shown inside"
	if len(f.refused) > before {
		why = f.refused[before].Why
	}
	return &CommandError{Name: name, File: file, Status: 126, Why: fmt.Sprintf("is %s, which the sandbox does not see: %s", real, why), Unseen: true}
}

// interpreter makes a script's interpreter visible, one level deep.
func (f *finder) interpreter(file string) {
	words := shebang(head(file, 256))
	if len(words) == 0 {
		return
	}
	trust := !f.isProject(file) && !f.viaProject(file)
	if real, _, err := f.resolve(file); err == nil && f.isProject(real) {
		trust = false // the file's words are the project's
	}
	for _, w := range words {
		if !filepath.IsAbs(w) {
			found, _, err := find(w, "/", f.o)
			if err != nil {
				return // env(1) will say so inside
			}
			w, trust = found, true // the user's PATH says where it is
		}
		named := filepath.Clean(w)
		real, _, err := f.resolve(named)
		if err != nil {
			return // the kernel will say so inside
		}
		if f.isProject(named) && f.isProject(real) {
			continue
		}
		f.installation(named, file+" is a script for it", trust && !f.isProject(named) && !f.viaProject(named))
		f.installation(real, file+" is a script for it", trust && !f.isProject(named) && !f.viaProject(named))
	}
}

// find is execvp's search: a name with a slash is itself; others are looked for along PATH, where a file that may not be executed is
// remembered and passed over. Like a shell, it takes a directory for a file that may not be executed.
func find(name, dir string, o Options) (found string, link bool, err error) {
	if name == "" {
		return "", false, &CommandError{Name: name, Status: 127, Why: "not found"}
	}
	if strings.Contains(name, "/") {
		file := name
		if !filepath.IsAbs(file) {
			file = dir + "/" + name
		}
		link, errno := executableFile(file)
		if errno != 0 {
			return "", false, commandError(name, errno)
		}
		return file, link, nil
	}
	denied := false
	path := o.Env("PATH")
	if path == "" {
		path = standardPath
	}
	dirs := filepath.SplitList(path)
	for i, d := range dirs {
		if !filepath.IsAbs(d) || slices.Contains(dirs[:i], d) {
			continue // relative ones are dropped from PATH inside, so they are not searched here either
		}
		if o.isShims(d) {
			continue
		}
		file := filepath.Join(d, name)
		link, errno := executableFile(file)
		switch {
		case errno == 0:
			return file, link, nil
		case errno == unix.EACCES:
			denied = true
		}
	}
	if denied {
		return "", false, commandError(name, unix.EACCES)
	}
	return "", false, &CommandError{Name: name, Status: 127, Why: "not found in PATH"}
}

// isShims says whether a directory of PATH is the one with shims, which lead back to casemate: the program itself comes after it.
func (o Options) isShims(dir string) bool {
	if filepath.Base(dir) != "shims" || o.State == "" {
		return false
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return false
	}
	state, err := filepath.EvalSymlinks(o.State)
	return err == nil && within(real, state)
}

func commandError(name string, errno unix.Errno) error {
	switch errno {
	case unix.ENOENT, unix.ENOTDIR:
		return &CommandError{Name: name, Status: 127, Why: "no such file"}
	case unix.EISDIR:
		return &CommandError{Name: name, Status: 126, Why: "is a directory"}
	case unix.EACCES:
		return &CommandError{Name: name, Status: 126, Why: "may not be executed", Denied: true}
	}
	return &CommandError{Name: name, Status: 126, Why: errno.Error()}
}

// executableFile looks whether a file could be executed, and whether its name is a link. Root may execute what has any x bit (access(2)).
func executableFile(file string) (link bool, errno unix.Errno) {
	var st unix.Stat_t
	err := unix.Lstat(file, &st)
	if link = err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK; link {
		err = unix.Stat(file, &st)
	}
	if err != nil {
		return link, errnoOf(err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return link, unix.EISDIR
	case unix.S_IFREG:
	default:
		return link, unix.EACCES
	}
	if err := unix.Faccessat(unix.AT_FDCWD, file, unix.X_OK, 0); err != nil {
		return link, errnoOf(err)
	}
	return link, 0
}

func errnoOf(err error) unix.Errno {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return unix.EIO
}
