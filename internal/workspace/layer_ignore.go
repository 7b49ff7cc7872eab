package workspace

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"casemate.dev/internal/policy"
)

// ignoreRules answers which paths git ignores in the project as it is on the host: what the sandbox wrote into a .gitignore counts only
// once it was applied, so that it cannot make a change look built. The user's own excludes (core.excludesFile) are not the project's.
type ignoreRules struct {
	project *rooted
	above   []ignoreFile             // of the directories from the repository's root down to the project, where that lies deeper
	exclude *policy.Paths            // .git/info/exclude
	files   map[string]*policy.Paths // by directory of the project; nil where there is none
}

// ignoreFile is a .gitignore above the project: its patterns see the project's paths behind a prefix.
type ignoreFile struct {
	prefix string
	rules  *policy.Paths
}

const maxIgnoreFile = 1 << 20

func newIgnoreRules(project *rooted, path string) *ignoreRules {
	r := &ignoreRules{project: project, files: map[string]*policy.Paths{}}
	if data, ok := r.read(".git/info/exclude"); ok {
		r.exclude = compileIgnore(data)
	}
	if git, err := project.stat(".git"); err == nil && git.Type == Absent {
		r.above = ignoresAbove(path)
	}
	return r
}

// match reports whether git ignores rel, which lies in no directory that it ignores. The last pattern of the deepest file decides.
func (r *ignoreRules) match(rel string, dir bool) bool {
	for at := parentOf(rel); ; at = parentOf(at) {
		if ignored, ok := decide(r.in(at), strings.TrimPrefix(rel[len(at):], "/"), dir); ok {
			return ignored
		}
		if at == "" {
			break
		}
	}
	for i := len(r.above) - 1; i >= 0; i-- {
		if ignored, ok := decide(r.above[i].rules, r.above[i].prefix+"/"+rel, dir); ok {
			return ignored
		}
	}
	ignored, _ := decide(r.exclude, rel, dir)
	return ignored
}

func decide(p *policy.Paths, rel string, dir bool) (ignored, decided bool) {
	if p == nil {
		return false, false
	}
	ignored, by := p.MatchIn(parentOf(rel), rel[strings.LastIndexByte(rel, '/')+1:], dir)
	return ignored, by >= 0
}

// in returns the rules of the .gitignore in a directory of the project.
func (r *ignoreRules) in(dir string) *policy.Paths {
	p, ok := r.files[dir]
	if !ok {
		if data, found := r.read(join(dir, ".gitignore")); found {
			p = compileIgnore(data)
		}
		r.files[dir] = p
	}
	return p
}

func (r *ignoreRules) read(rel string) ([]byte, bool) {
	n, err := r.project.stat(rel)
	if err != nil || n.Type != File { // a symlink too: git does not follow one either, since 2.32
		return nil, false
	}
	f, err := r.project.openFile(rel, n)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxIgnoreFile))
	return data, err == nil
}

// ignoresAbove reads the .gitignore files from the project's parent up to the root of the repository that holds it, if one does. The sandbox
// reaches none of them.
func ignoresAbove(project string) (files []ignoreFile) {
	root := repositoryAbove(project)
	for dir := project; dir != root && root != ""; {
		dir = filepath.Dir(dir)
		prefix, err := filepath.Rel(dir, project)
		if err != nil {
			return nil
		}
		if data, ok := readIgnoreAbove(filepath.Join(dir, ".gitignore")); ok {
			files = append(files, ignoreFile{prefix, compileIgnore(data)})
		}
	}
	slices.Reverse(files)
	return files
}

func repositoryAbove(project string) string {
	for dir := filepath.Dir(project); ; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(filepath.Join(dir, ".git")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			return ""
		}
	}
}

func readIgnoreAbove(name string) ([]byte, bool) {
	if st, err := os.Lstat(name); err != nil || !st.Mode().IsRegular() || st.Size() > maxIgnoreFile {
		return nil, false
	}
	data, err := os.ReadFile(name)
	return data, err == nil
}

// compileIgnore reads a .gitignore as git does: comments, blank lines and patterns that git could never match say nothing.
func compileIgnore(data []byte) *policy.Paths {
	var lines []string
	for line := range bytes.Lines(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))) {
		s := trimIgnore(strings.TrimRight(string(line), "\r\n"))
		if s == "" || s[0] == '#' {
			continue
		}
		if _, err := policy.CompilePaths([]string{s}); err == nil {
			lines = append(lines, s)
		}
	}
	p, err := policy.CompilePaths(lines)
	if err != nil {
		return nil
	}
	return p
}

// trimIgnore cuts trailing spaces that no backslash quotes (gitignore(5)).
func trimIgnore(s string) string {
	t := strings.TrimRight(s, " ")
	if t != s && (len(t)-len(strings.TrimRight(t, `\`)))%2 == 1 {
		return t + " "
	}
	return t
}
