package workspace

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// settings reads git's configuration of one working tree, with the files that it includes, and notes the files of the project that it names: git
// executes them, or obeys them, whatever they are called.
type settings struct {
	s        *Survey
	worktree string // relative to the project
	home     string
	within   []string // where files may be included from; empty: from anywhere
	seen     []string
}

// maxIncludes is how deep git includes files in files (MAX_INCLUDE_DEPTH in git's config.c).
const maxIncludes = 10

// maxSettings bounds the files of one working tree's configuration.
const maxSettings = 200

// user reads the person's own files, which may include others from anywhere. What a repository names is read in the project and in its git
// directory only: elsewhere it would make us open what a stranger has chosen.
func (c *settings) user(files []string) {
	c.within = nil
	for _, file := range files {
		c.file(file, 0)
	}
}

func (c *settings) file(name string, depth int) {
	if depth > maxIncludes || len(c.seen) >= maxSettings {
		return
	}
	c.readPlain(name)
	real, err := c.s.whereabouts(name)
	if err != nil || slices.Contains(c.seen, real) || !c.may(real) {
		return
	}
	c.seen = append(c.seen, real)
	config, known := c.s.configs[real]
	if !known {
		if config, err = readHead(real); err != nil {
			return
		}
		c.s.configs[real] = config
	}
	for key, value := range gitSettings(config) {
		section, _, _ := strings.Cut(key, ".")
		switch {
		case section == "include" || section == "includeif":
			c.include(filepath.Dir(name), key, value, depth)
		case isPath(key):
			c.named(value, key)
		case slices.Contains([]string{"remote", "branch", "user", "url", "submodule", "lfs", "author", "committer"}, section):
			command := executed(section, key, value)
			c.words("", command, key)
			if module, found := strings.CutSuffix(key, ".update"); found { // git runs it there; a submodule's name is its path, as git gives it
				c.words(strings.TrimPrefix(module, "submodule."), command, key)
			}
		default:
			c.words("", value, key)
		}
	}
}

// readPlain reads a file to whose place no link leads, as most are: then its name says where it lies, and it need not be asked for first. Whatever it
// cannot answer, file finds out.
func (c *settings) readPlain(name string) {
	if _, known := c.s.places[name]; known || filepath.Clean(name) != name || !c.may(name) {
		return
	}
	fd, err := unix.Openat2(unix.AT_FDCWD, name, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS})
	if err == unix.ENOENT {
		c.s.places[name] = ""
	}
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if config, _, err := readOpen(fd, name, maxConfig); err == nil {
		c.s.places[name], c.s.configs[name] = name, string(config)
	}
}

// whereabouts remembers the answers: each working tree asks for the person's own files again.
func (s *Survey) whereabouts(name string) (string, error) {
	if real, known := s.places[name]; known {
		if real == "" {
			return "", os.ErrNotExist
		}
		return real, nil
	}
	real, err := Whereabouts(name)
	s.places[name] = real
	return real, err
}

func (c *settings) may(real string) bool {
	return len(c.within) == 0 || slices.ContainsFunc(c.within, func(dir string) bool { return within(real, dir) })
}

func within(name, dir string) bool { return under(name[1:], strings.TrimPrefix(dir, "/")) }

// include follows a file that is included. Its name is relative to the file that includes it (git-config(1), "Includes").
func (c *settings) include(dir, key, value string, depth int) {
	if value == "" {
		return
	}
	name := absolute(dir, c.expand(value))
	c.protect(name, key)
	c.file(name, depth+1)
}

// isPath lists the settings whose value is one path, with whatever spaces are in it, and decides what git executes.
func isPath(key string) bool {
	switch key {
	case "core.hookspath", "core.attributesfile", "init.templatedir":
		return true
	}
	return false
}

// executed is what git, or its extension for large files, executes of a setting in a section of addresses, names and texts: those look like files and are
// none, but some of them name a program, or are a command in the place of an address (git-remote-ext(1)).
func executed(section, key, value string) string {
	name := strings.LastIndexByte(key, '.')
	switch section + key[name:] {
	case "remote.uploadpack", "remote.receivepack", "lfs.path", "lfs.args", "lfs.clean", "lfs.smudge":
		return value
	case "submodule.update":
		if strings.HasPrefix(value, "!") {
			return value
		}
	case "url.insteadof", "url.pushinsteadof": // what it puts in the place of the value stands before the name
		value = strings.TrimPrefix(key[:name], "url.")
	}
	if command, ok := strings.CutPrefix(value, "ext::"); ok {
		return command
	}
	return ""
}

// named notes a path, relative to the working tree.
func (c *settings) named(value, key string) {
	if value == "" {
		return
	}
	c.protect(absolute(filepath.Join(c.s.Root, c.worktree), c.expand(value)), key)
}

// words notes what looks like a file in a command line, which git runs in a directory of the working tree.
func (c *settings) words(dir, value, key string) {
	for _, word := range strings.Fields(strings.TrimPrefix(value, "!")) {
		word = strings.Trim(word, `"';&|()`)
		if word == "" || word[0] == '-' || !strings.ContainsAny(word, "./") {
			continue // a flag, a number, a name
		}
		name := absolute(filepath.Join(c.s.Root, c.worktree, dir), c.expand(word))
		if _, err := os.Lstat(name); err != nil && !strings.Contains(word, "/") {
			continue // a word that only looks like a file; one that is missing and named surely is made later
		}
		if _, to, _ := c.s.trail("", name); to != "." { // `git ls-files ./` names no file
			c.protect(name, key)
		}
	}
}

func (c *settings) expand(word string) string {
	if rest, ok := strings.CutPrefix(word, "~/"); ok {
		return filepath.Join(c.home, rest)
	}
	return word
}

// hookNames are those that git looks for in the directory of hooks (githooks(5)).
const hookNames = "applypatch-msg pre-applypatch post-applypatch pre-commit pre-merge-commit prepare-commit-msg commit-msg post-commit pre-rebase " +
	"post-checkout post-merge pre-push pre-receive update proc-receive post-receive post-update reference-transaction push-to-checkout pre-auto-gc " +
	"post-rewrite sendemail-validate fsmonitor-watchman p4-changelist p4-prepare-changelist p4-post-changelist p4-pre-submit post-index-change"

func (c *settings) protect(name, key string) {
	why := "git's configuration names it (" + key + ")"
	passed, to, inside := c.s.trail("", name)
	c.s.alias(passed, why)
	if !inside {
		return
	}
	if to == "." && key == "core.hookspath" { // the files beside them are no hooks
		for hook := range strings.FieldsSeq(hookNames) {
			c.s.Aliases[hook] = why
		}
		return
	}
	if _, already := ProtectedPath(to, nil); !already {
		c.s.Aliases[to] = why
	}
}
