package guest

import (
	"bytes"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// finder collects tool chains.
type finder struct {
	*look
	rows    []toolRow
	tools   []Tool
	done    map[string]bool // row and root, or directory, that were looked at
	refused []Refusal
}

func (l *look) finder() *finder {
	return &finder{look: l, rows: toolRows(), done: map[string]bool{}}
}

func (l *look) tools() *finder {
	f := l.finder()
	for _, e := range filepath.SplitList(l.o.Env("PATH")) {
		if filepath.IsAbs(e) {
			f.entry(filepath.Clean(e))
		}
	}
	for _, row := range f.rows {
		switch {
		case row.byEnv && l.o.Env(row.env) != "":
			f.variable(row)
		case row.from != "":
			if root := f.root(row); root != "" && f.onPath(row.from) {
				f.row(row, root)
			}
		}
	}
	return f
}

// entry handles one directory of PATH.
func (f *finder) entry(e string) {
	if f.isSystem(e) || f.isProject(e) || f.done[e] {
		return
	}
	f.done[e] = true
	f.stamp.watch(e)
	real, st, err := f.resolve(e)
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || f.isSystem(real) || f.isProject(real) {
		return
	}
	if f.viaProject(e) {
		f.refuse(e, projectsLink)
		return
	}
	if within(e, "/snap") {
		f.refuse(e, "programs of snap packages are started by snapd, which is out of reach")
		return
	}
	if row, root, ok := f.fit(e, real); ok {
		f.row(row, root)
		if f.useful(e) || f.useful(real) {
			return
		}
	}
	if base := filepath.Base(real); base == "bin" || base == "sbin" || base == "condabin" {
		root := filepath.Dir(real)
		if filepath.Base(e) == base {
			root = filepath.Dir(e)
		}
		if f.isPrefix(root) {
			f.prefix(root, "an installation on PATH")
			f.follow(Tool{Name: root}, e, false)
			return
		}
	}
	if f.add(Tool{Name: e, Why: "a directory on PATH"}, e) >= 0 {
		f.follow(Tool{Name: e}, e, false)
	}
}

// useful says whether a directory of PATH leads to anything inside: it is shown, or something in it is.
func (f *finder) useful(dir string) bool {
	return f.shown(dir) || slices.ContainsFunc(f.tools, func(t Tool) bool {
		return slices.ContainsFunc(t.Places, func(p Place) bool { return below(p.Target, dir) })
	})
}

// fit finds the row of a place, by its name or by where its links lead, and the row's root.
func (f *finder) fit(named, real string) (toolRow, string, bool) {
	for _, row := range f.rows {
		for _, p := range []string{named, real} {
			for _, root := range f.rootsOf(row, p) {
				if f.marked(row, root) {
					return row, root, true
				}
			}
		}
	}
	return toolRow{}, "", false
}

// rootsOf returns the row's possible roots that contain path.
func (f *finder) rootsOf(row toolRow, p string) []string {
	var out []string
	if row.env != "" {
		for _, v := range filepath.SplitList(f.o.Env(row.env)) {
			if v = filepath.Clean(v); filepath.IsAbs(v) && within(p, v) {
				out = append(out, v)
			}
		}
	}
	for _, home := range slices.Compact([]string{f.o.Home, f.home}) {
		if home == "" || !below(p, home) {
			continue
		}
		parts := strings.Split(strings.TrimPrefix(p, home+"/"), "/")
		for _, pattern := range row.home {
			n := strings.Count(pattern, "/") + 1
			if len(parts) < n {
				continue
			}
			head := strings.Join(parts[:n], "/")
			if ok, _ := path.Match(pattern, head); ok {
				out = append(out, home+"/"+head)
			}
		}
	}
	return out
}

func (f *finder) marked(row toolRow, root string) bool {
	return row.mark == "" || len(f.glob(root, row.mark)) > 0
}

// root finds where a row is without a hint from PATH.
func (f *finder) root(row toolRow) string {
	candidates := []string{}
	if v := f.o.Env(row.env); row.env != "" && filepath.IsAbs(v) {
		candidates = append(candidates, filepath.Clean(v))
	}
	for _, pattern := range row.home {
		candidates = append(candidates, f.o.Home+"/"+pattern)
	}
	for _, c := range candidates {
		if f.isDir(c) && f.marked(row, c) {
			return c
		}
	}
	return ""
}

// variable handles a row that its variable alone brings, such as JAVA_HOME, which may as well lead into the system's trees.
func (f *finder) variable(row toolRow) {
	v := filepath.Clean(f.o.Env(row.env))
	if !filepath.IsAbs(v) || !f.isDir(v) || !f.marked(row, v) {
		return
	}
	if real, _, err := f.resolve(v); err == nil && f.isSystem(real) {
		f.tools = append(f.tools, Tool{Name: row.name, Why: row.why, Env: []Variable{{row.env, v, "where " + row.name + " is"}}})
		return
	}
	row.set = true
	f.row(row, v)
}

func (f *finder) onPath(program string) bool {
	return slices.ContainsFunc(filepath.SplitList(f.o.Env("PATH")), func(dir string) bool {
		return filepath.IsAbs(dir) && f.exists(filepath.Join(dir, program))
	})
}

// row shows what a row shows.
func (f *finder) row(row toolRow, root string) {
	key := row.name + " " + root
	if f.done[key] {
		return
	}
	f.done[key] = true
	t := Tool{Name: row.name, Why: row.why}
	if row.set && row.env != "" && (!row.byEnv || f.o.Env(row.env) != "") {
		t.Env = []Variable{{row.env, root, "where " + row.name + " is"}}
	}
	var shown []string
	for _, pattern := range row.show {
		shown = append(shown, f.glob(root, pattern)...)
	}
	for _, pattern := range row.also {
		for _, p := range f.glob(f.o.Home, pattern) {
			if f.harmless(p) {
				shown = append(shown, p)
			}
		}
	}
	i := f.add(t, shown...)
	f.hide(i, root, row.hide)
	for _, name := range row.with {
		for _, other := range f.rows {
			if other.name == name {
				if root := f.root(other); root != "" {
					f.row(other, root)
				}
			}
		}
	}
	for _, pattern := range row.envs {
		for _, dir := range f.glob(root, pattern) {
			f.environment(dir)
		}
	}
	if row.links {
		for _, dir := range shown {
			if f.isDir(dir) {
				f.follow(t, dir, row.name == "user programs")
			}
		}
	}
}

// add shows paths as one tool and returns its index, or -1 if there was nothing to say.
func (f *finder) add(t Tool, paths ...string) int {
	shown := false
	for _, p := range paths {
		if f.works(p) {
			shown = true
			continue
		}
		places, why := f.show(p)
		if why != "" {
			f.refuse(p, why)
		}
		t.Places = append(t.Places, places...)
	}
	if len(t.Places) == 0 && !(shown && len(t.Env) > 0) {
		return -1
	}
	f.tools = append(f.tools, t)
	return len(f.tools) - 1
}

// works says whether a path can be resolved inside already: it, the links on its way and its end are shown.
func (f *finder) works(p string) bool {
	real, _, err := f.resolve(p)
	return err == nil && f.shown(p) && f.shown(real) && !slices.ContainsFunc(f.hops[p], func(link string) bool { return !f.shown(link) })
}

func (f *finder) refuse(path, why string) {
	if !slices.ContainsFunc(f.refused, func(r Refusal) bool { return r.Path == path }) {
		f.refused = append(f.refused, Refusal{path, why})
	}
}

// hide lists the existing credential files of a tool. Directories that were searched go into the stamp, so that one that appears is found.
func (f *finder) hide(tool int, root string, patterns []string) {
	if tool < 0 {
		return
	}
	roots := []string{root}
	if real, _, err := f.resolve(root); err == nil && real != root {
		roots = append(roots, real)
	}
	for _, r := range roots {
		for _, pattern := range patterns {
			for _, dir := range f.glob(r, path.Dir(pattern)) {
				f.stamp.watch(dir)
				for _, hit := range f.glob(dir, path.Base(pattern)) {
					f.attach(tool, hit)
				}
			}
			if d := path.Dir(path.Dir(pattern)); d != "." {
				for _, dir := range f.glob(r, d) {
					f.stamp.watch(dir)
				}
			}
		}
	}
}

func (f *finder) attach(tool int, hit string) {
	for i := range f.tools[tool].Places {
		if p := &f.tools[tool].Places[i]; within(hit, p.Target) && !slices.Contains(p.Hide, hit) {
			p.Hide = append(p.Hide, hit)
		}
	}
}

// glob expands a pattern of path.Match elements below a directory, to what exists. Unlike filepath.Glob it remembers what it has asked.
func (f *finder) glob(dir, pattern string) []string {
	if pattern == "." || pattern == "" {
		return []string{dir}
	}
	first, rest, _ := strings.Cut(pattern, "/")
	var hits []string
	if !strings.ContainsAny(first, "*?[") {
		if p := filepath.Join(dir, first); f.exists(p) {
			hits = []string{p}
		}
	} else {
		f.stamp.watch(dir)
		for _, e := range names(dir) {
			if ok, _ := path.Match(first, e.Name()); ok {
				hits = append(hits, filepath.Join(dir, e.Name()))
			}
		}
	}
	if rest == "" {
		return hits
	}
	var out []string
	for _, h := range hits {
		out = append(out, f.glob(h, rest)...)
	}
	return out
}

// harmless says whether a settings file may be shown. Tools keep versions and, in the same file, variables with tokens.
func (f *finder) harmless(p string) bool {
	if f.isDir(p) {
		return true
	}
	text := bytes.ToLower(head(p, 64<<10))
	for _, word := range []string{"[env", "env.", "env =", "env=", "token", "secret", "passw", "key", "credential"} {
		if bytes.Contains(text, []byte(word)) {
			f.refuse(p, "it may hold secrets (it contains "+word+")")
			return false
		}
	}
	return true
}

// head reads the beginning of a regular file. Whatever else lies there is not opened for reading: a FIFO would block, a device could act.
func head(p string, n int) []byte {
	fd, err := unix.Open(p, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	buf := make([]byte, n)
	got, err := unix.Read(fd, buf)
	if err != nil {
		return nil
	}
	return buf[:got]
}

// maxPrograms bounds how many programs of one directory are looked at.
const maxPrograms = 1000

// follow looks at the programs of a directory that is shown, and shows what their links and interpreters need.
func (f *finder) follow(t Tool, dir string, userSite bool) {
	python := false
	for i, e := range names(dir) {
		if i == maxPrograms {
			f.refuse(dir, "more programs than are looked at; some may not find what they link to")
			break
		}
		p := filepath.Join(dir, e.Name())
		switch e.Type() {
		case os.ModeSymlink:
			if real, _, err := f.resolve(p); err == nil {
				f.installation(real, p+" links there", !f.viaProject(p))
			}
		case 0:
			for _, interpreter := range shebang(head(p, 256)) {
				python = python || strings.HasPrefix(filepath.Base(interpreter), "python")
				if filepath.IsAbs(interpreter) {
					f.program(interpreter, p+" is a script for it")
				}
			}
		}
	}
	if python && userSite {
		t.Why = "packages of the Python scripts in " + dir
		f.add(t, f.glob(f.o.Home, ".local/lib/python3*")...)
	}
}

// program shows the installation of a program under the name that others use for it.
func (f *finder) program(named, why string) {
	real, _, err := f.resolve(filepath.Clean(named))
	if err != nil || f.shown(named) {
		return
	}
	trust := !f.viaProject(filepath.Clean(named))
	f.installation(filepath.Clean(named), why, trust)
	f.installation(real, why, trust)
}

// shebang returns the interpreter of a script, and for env(1) the program that it will look for.
func shebang(text []byte) []string {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	rest, ok := bytes.CutPrefix(line, []byte("#!"))
	if !ok {
		return nil
	}
	words := strings.Fields(string(rest))
	if len(words) == 0 {
		return nil
	}
	if filepath.Base(words[0]) == "env" {
		for _, w := range words[1:] {
			if !strings.HasPrefix(w, "-") && !strings.Contains(w, "=") {
				return []string{words[0], w}
			}
		}
	}
	return words[:1]
}

// shown says whether a path of the host is visible inside under its own name.
func (f *finder) shown(p string) bool {
	if f.isSystem(p) || f.isProject(p) {
		return true
	}
	for _, t := range f.tools {
		if covered(p, t.Places) {
			return true
		}
	}
	return false
}
