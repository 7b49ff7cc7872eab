package guest

import (
	"path/filepath"
	"slices"
	"strings"
)

// installation shows what a program needs that lies at path. Without trust (a project's links led here) only known tool chains are shown.
func (f *finder) installation(p, why string, trust bool) {
	if f.shown(p) {
		return
	}
	real, _, err := f.resolve(p)
	if err != nil {
		return
	}
	if row, root, ok := f.fit(p, real); ok {
		f.row(row, root)
		if f.shown(p) {
			return
		}
	}
	if !trust {
		f.refuse(p, projectsLink)
		return
	}
	if dir := f.installDir(p); dir != "" {
		f.prefix(dir, why)
		f.environment(dir)
	}
	if f.shown(p) {
		return
	}
	f.add(Tool{Name: p, Why: why}, p) // the one file
}

// environment shows the interpreter that a Python environment is made of (PEP 405).
func (f *finder) environment(dir string) {
	for line := range strings.Lines(string(head(filepath.Join(dir, "pyvenv.cfg"), 4096))) {
		if key, value, ok := strings.Cut(line, "="); ok && strings.TrimSpace(key) == "home" {
			if home := strings.TrimSpace(value); filepath.IsAbs(home) {
				f.program(filepath.Join(home, "python3"), dir+" is an environment of it")
			}
		}
	}
}

// installDir finds the directory that belongs to a program as a whole and may be shown, or nothing.
func (f *finder) installDir(p string) string {
	dir := f.guessInstallDir(p)
	if real, _, err := f.resolve(dir); dir == "" || err != nil || f.refusal(real) != "" {
		return ""
	}
	return dir
}

func (f *finder) guessInstallDir(p string) string {
	if before, _, ok := strings.Cut(p, "/node_modules/"); ok {
		return before + "/node_modules"
	}
	for dir, n := filepath.Dir(p), 0; dir != "/" && n < 4; dir, n = filepath.Dir(dir), n+1 {
		if f.exists(dir+"/pyvenv.cfg") || f.exists(dir+"/conda-meta") {
			return dir
		}
	}
	dir := filepath.Dir(p)
	switch filepath.Base(dir) {
	case "bin", "sbin", "libexec":
		if parent := filepath.Dir(dir); f.isPrefix(parent) {
			return parent
		}
		return dir
	}
	if f.isSource(dir) || f.holdsSources(dir) || !f.isSoftware(dir) {
		return ""
	}
	return dir
}

// isSoftware says whether a directory was made for a program rather than by a person: it lies in a hidden directory, in one that people
// name for the purpose, outside of the home, or has the shape of an installation. A person's own ~/scripts may hold anything.
func (f *finder) isSoftware(dir string) bool {
	rel, ok := "", false
	for _, home := range []string{f.o.Home, f.home} {
		if r, cut := strings.CutPrefix(dir, home+"/"); home != "" && cut {
			rel, ok = r, true
		}
	}
	first, _, deeper := strings.Cut(rel, "/")
	switch {
	case !ok:
		return true
	case deeper && (strings.HasPrefix(first, ".") || slices.Contains([]string{"opt", "apps", "Apps", "Applications", "tools", "software", "sdk", "programs", "AppImages"}, first)):
		return true
	}
	return slices.ContainsFunc([]string{"lib", "lib64", "libexec", "share", "resources"}, func(d string) bool { return f.isDir(dir + "/" + d) })
}

// isPrefix says whether a directory is clearly one installation: programs beside what they use, and no project under development.
func (f *finder) isPrefix(dir string) bool {
	real, _, err := f.resolve(dir)
	if err != nil || f.refusal(real) != "" || f.isSource(real) {
		return false
	}
	if f.exists(real+"/pyvenv.cfg") || f.exists(real+"/conda-meta") {
		return true
	}
	return f.isDir(real+"/bin") && slices.ContainsFunc([]string{"lib", "lib64", "libexec", "share"}, func(d string) bool { return f.isDir(real + "/" + d) })
}

// isSource says whether a directory is somebody's project, which is not for other projects' agents to read.
func (f *finder) isSource(dir string) bool {
	return slices.ContainsFunc([]string{
		".git", ".hg", ".svn", ".jj", "go.mod", "package.json", "Cargo.toml", "pyproject.toml", "setup.py", "Makefile", "CMakeLists.txt", "pom.xml",
		"build.gradle", "build.gradle.kts", "Gemfile", "composer.json", "mix.exs", ".env", ".envrc",
	}, func(name string) bool { return f.exists(dir + "/" + name) })
}

func (f *finder) holdsSources(dir string) bool {
	for i, e := range names(dir) {
		if i == maxPrograms || e.IsDir() && f.exists(filepath.Join(dir, e.Name(), ".git")) {
			return true
		}
	}
	return false
}

// prefix shows an installation that no row knows. Of a hidden directory in the home only the parts that programs consist of: programs
// keep tokens in the others.
func (f *finder) prefix(dir, why string) {
	if f.done[dir] {
		return
	}
	f.done[dir] = true
	t := Tool{Name: dir, Why: why}
	if v := f.o.Env("VIRTUAL_ENV"); v != "" && filepath.Clean(v) == dir {
		t.Env = []Variable{{"VIRTUAL_ENV", dir, "the activated Python environment"}}
	}
	parent, base := filepath.Split(dir)
	if strings.HasPrefix(base, ".") && f.isPrefix(dir) && (filepath.Clean(parent) == f.o.Home || filepath.Clean(parent) == f.home) {
		var parts []string
		for _, name := range []string{"bin", "sbin", "lib", "lib32", "lib64", "libexec", "share", "include", "pyvenv.cfg"} {
			parts = append(parts, f.glob(dir, name)...)
		}
		f.add(t, parts...)
		return
	}
	f.hide(f.add(t, dir), dir, prefixHides())
}
