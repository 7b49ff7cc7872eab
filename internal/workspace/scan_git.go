package workspace

import (
	"iter"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// GitDir is the git directory of one working tree in the project.
type GitDir struct {
	Path     string // of the entry called .git, relative to the project
	Dir      string // the git directory, absolute and without links
	Common   string // the directory with objects, refs and config; differs from Dir in a linked worktree
	Inside   bool   // both lie in the project
	Verified bool   // Dir points back at this working tree. Only then may a directory outside be opened for it: anybody can write a .git file
}

// surveyGit finds the git directories and what they name.
func (s *Survey) surveyGit(o ScanOptions) {
	s.places, s.configs = map[string]string{}, map[string]string{}
	common, worktreeConfig := map[string]string{}, map[string]bool{} // by git directory
	for d, n := range s.notes() {
		switch n.kind {
		case noteCommon:
			common[d.path] = strings.TrimSpace(n.detail)
		case noteWorktreeConfig:
			worktreeConfig[d.path] = true
		case noteAlternates:
			for line := range strings.Lines(n.detail) {
				s.alternate(parentOf(parentOf(d.path)), strings.TrimSpace(line))
			}
		}
	}
	for d, n := range s.notes() {
		if n.kind == noteGit {
			s.gitDir(d.path, n, common)
		}
	}
	for _, g := range s.GitDirs {
		c := settings{s: s, worktree: parentOf(g.Path), home: o.Home, within: []string{s.Root, g.Common}}
		c.file(filepath.Join(g.Common, "config"), 0)
		if worktreeConfig[g.Path] || g.Common != g.Dir {
			c.file(filepath.Join(g.Dir, "config.worktree"), 0)
		}
		c.user(o.GitConfig)
	}
	c := settings{s: s, home: o.Home}
	c.user(o.GitConfig)
}

// notes yields what is noted in directories that are not hidden.
func (s *Survey) notes() iter.Seq2[*dirRecord, *note] {
	return func(yield func(*dirRecord, *note) bool) {
		for i := range s.dirs {
			d := &s.dirs[i]
			for k := range d.notes {
				if !d.has(isHidden) && !yield(d, &d.notes[k]) {
					return
				}
			}
		}
	}
}

func (s *Survey) gitDir(worktree string, n *note, common map[string]string) {
	g := GitDir{Path: join(worktree, ".git")}
	g.Dir = filepath.Join(s.Root, g.Path)
	g.Common = g.Dir
	pointer, found := strings.CutPrefix(n.detail, "gitdir:")
	switch {
	case n.typ == dtDir && common[g.Path] != "":
		g.Common = realPath(absolute(g.Dir, common[g.Path]))
	case n.typ == unix.DT_LNK:
		g.Dir = realPath(absolute(filepath.Join(s.Root, worktree), n.detail))
		g.Common = commonDir(g.Dir)
	case n.typ == unix.DT_REG && found:
		g.Dir = realPath(absolute(filepath.Join(s.Root, worktree), strings.TrimSpace(pointer)))
		g.Common = commonDir(g.Dir)
	case n.typ != dtDir:
		return
	}
	g.Inside = s.holds(g.Dir) && s.holds(g.Common)
	g.Verified = n.typ == dtDir && g.Common == g.Dir || n.typ != dtDir && pointsBack(g, filepath.Join(s.Root, worktree))
	s.GitDirs = append(s.GitDirs, g)
	if rel, ok := s.relative(g.Dir); ok && !inGitDir(rel) {
		s.Aliases[rel] = "it is the git directory of " + g.Path
	}
	if n.typ != dtDir {
		passed, _, _ := s.trail(worktree, strings.TrimSpace(pointer)) // a link's target has no such prefix to lose
		s.alias(passed, "it leads to the git directory of "+g.Path)
	}
	switch {
	case g.Inside:
	case g.Verified:
		s.find("gitdir", g.Path, Reported, "git keeps this working tree's data in %q, outside the project: git works inside only if that is opened", g.Common)
	default:
		s.find("gitdir", g.Path, Reported, "it points to %q, outside the project, which does not point back: it is not opened, and git does not work there inside", g.Common)
	}
}

func absolute(base, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(base, name)
}

// alternate reports a place outside the project from which git takes objects.
func (s *Survey) alternate(gitDir, target string) {
	if target == "" || target[0] == '#' {
		return
	}
	if target = absolute(filepath.Join(s.Root, gitDir, "objects"), target); !s.holds(realPath(target)) {
		s.find("alternates", gitDir, Reported, "its list of alternates names %q, outside the project, which does not exist inside", target)
	}
}

func (s *Survey) holds(dir string) bool { return under(dir[1:], s.Root[1:]) }

// commonDir follows the commondir file of a linked worktree's git directory.
func commonDir(gitDir string) string {
	b, err := readHead(filepath.Join(gitDir, "commondir"))
	if err != nil {
		return gitDir
	}
	return realPath(absolute(gitDir, strings.TrimSpace(b)))
}

// pointsBack reports whether a git directory belongs to the working tree: a linked worktree's by its gitdir file and its place in the common
// directory, a submodule's by core.worktree in its config.
func pointsBack(g GitDir, worktree string) bool {
	if g.Common != g.Dir {
		back, err := readHead(filepath.Join(g.Dir, "gitdir"))
		return err == nil && realPath(strings.TrimSpace(back)) == filepath.Join(worktree, ".git") &&
			realPath(filepath.Join(g.Common, "worktrees", filepath.Base(g.Dir))) == g.Dir
	}
	config, err := readHead(filepath.Join(g.Dir, "config"))
	if err != nil {
		return false
	}
	back := ""
	for key, value := range gitSettings(config) {
		if key == "core.worktree" {
			back = value
		}
	}
	return back != "" && realPath(absolute(g.Dir, back)) == worktree
}

// maxConfig is more than any git config of use.
const maxConfig = 1 << 20

// readHead reads a small file of git.
func readHead(name string) (string, error) {
	b, _, err := readWhole(name, maxConfig)
	return string(b), err
}
