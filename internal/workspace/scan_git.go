package workspace

import (
	"fmt"
	"os"
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
	for i := range s.dirs {
		d := &s.dirs[i]
		if d.has(isHidden) {
			continue
		}
		for _, n := range d.notes {
			switch n.kind {
			case noteGit:
				s.gitDir(d.path, n)
			case noteCommon:
				s.outside("gitdir", d.path, strings.TrimSpace(n.detail), "its commondir")
			case noteAlternates:
				for line := range strings.Lines(n.detail) {
					s.outside("alternates", parentOf(parentOf(d.path)), strings.TrimSpace(line), "its list of alternates")
				}
			}
		}
	}
	for _, g := range s.GitDirs {
		s.configured(parentOf(g.Path), filepath.Join(g.Common, "config"), o.Home)
		s.configured(parentOf(g.Path), filepath.Join(g.Dir, "config.worktree"), o.Home)
	}
	for _, file := range o.GitConfig {
		s.configured("", file, o.Home)
	}
}

func (s *Survey) gitDir(worktree string, n note) {
	g := GitDir{Path: join(worktree, ".git")}
	target := filepath.Join(s.Root, g.Path)
	switch n.typ {
	case unix.DT_LNK:
		target = n.detail
	case unix.DT_REG:
		line, found := strings.CutPrefix(n.detail, "gitdir:")
		if !found {
			return
		}
		target = strings.TrimSpace(line)
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(s.Root, worktree, target)
	}
	g.Dir = realPath(target)
	g.Common = commonDir(g.Dir)
	g.Inside = s.holds(g.Dir) && s.holds(g.Common)
	g.Verified = n.typ == dtDir && g.Common == g.Dir || pointsBack(g, filepath.Join(s.Root, worktree))
	s.GitDirs = append(s.GitDirs, g)
	if rel, ok := strings.CutPrefix(g.Dir, s.Root+"/"); ok && !inGitDir(rel) {
		s.Aliases[rel] = "it is the git directory of " + g.Path
	}
	switch {
	case g.Inside:
	case g.Verified:
		s.find("gitdir", g.Path, Reported, "git keeps this working tree's data in %q, outside the project: git works inside only if that is opened", g.Common)
	default:
		s.find("gitdir", g.Path, Reported, "it points to %q, outside the project, which does not point back: it is not opened, and git does not work there inside", g.Dir)
	}
}

func (s *Survey) holds(dir string) bool { return under(dir[1:], s.Root[1:]) }

// outside reports a path in a git directory's own files that leads out of the project.
func (s *Survey) outside(kind, gitDir, target, what string) {
	if target == "" || strings.HasPrefix(target, "#") {
		return
	}
	base := filepath.Join(s.Root, gitDir)
	if kind == "alternates" {
		base = filepath.Join(base, "objects")
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(base, target)
	}
	if !s.holds(realPath(target)) {
		s.find(kind, gitDir, Reported, "%s names %q, outside the project, which does not exist inside", what, target)
	}
}

// commonDir follows the commondir file of a linked worktree's git directory.
func commonDir(gitDir string) string {
	b, err := readHead(filepath.Join(gitDir, "commondir"))
	if err != nil {
		return gitDir
	}
	common := strings.TrimSpace(b)
	if !filepath.IsAbs(common) {
		common = filepath.Join(gitDir, common)
	}
	return realPath(common)
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
	if back != "" && !filepath.IsAbs(back) {
		back = filepath.Join(g.Dir, back)
	}
	return back != "" && realPath(back) == worktree
}

// maxConfig is more than any git config of use.
const maxConfig = 1 << 20

// readHead reads a small regular file of the host.
func readHead(name string) (string, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !st.Mode().IsRegular() || st.Size() > maxConfig {
		return "", fmt.Errorf("%q is no small file", name)
	}
	buf := make([]byte, st.Size())
	n, err := f.Read(buf)
	if n == 0 {
		return "", err
	}
	return string(buf[:n]), nil
}

// configured notes the files of the project that a git config names: git executes them, or obeys them, whatever they are called.
func (s *Survey) configured(worktree, file, home string) {
	config, err := readHead(file)
	if err != nil {
		return
	}
	for key, value := range gitSettings(config) {
		section, _, _ := strings.Cut(key, ".")
		switch section {
		case "remote", "branch", "user", "url", "submodule", "lfs", "author", "committer":
			continue
		}
		dir := worktree
		if section == "include" || section == "includeif" {
			rel, err := filepath.Rel(s.Root, filepath.Dir(file))
			if err != nil {
				continue
			}
			dir = rel
		}
		for _, word := range strings.Fields(strings.TrimPrefix(value, "!")) {
			s.configuredPath(dir, strings.Trim(word, `"';&|()`), home, key)
		}
	}
}

func (s *Survey) configuredPath(dir, word, home, key string) {
	if rest, ok := strings.CutPrefix(word, "~/"); ok {
		word = filepath.Join(home, rest)
	}
	if word == "" || word[0] == '-' {
		return
	}
	to := s.inProject(dir, word)
	if to == "" || key != "core.hookspath" && !exists(filepath.Join(s.Root, to)) {
		return
	}
	if _, already := ProtectedPath(to, nil); !already {
		s.Aliases[to] = "git's configuration names it (" + key + ")"
	}
}
