// Package cache knows where package managers keep what they have downloaded, and where each project's sandboxes keep what they add to that.
package cache

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"casemate.dev/internal/preset"
	"casemate.dev/internal/store"
)

// Found is one directory of a cache.
type Found struct {
	Cache  string   // the name in the policy
	Part   string   // which of the cache's directories
	What   string   // for people: what is in it
	Host   string   // where it is on the host, links resolved; empty: there is none
	Said   string   // where it would be on the host
	From   string   // what says so
	Inside string   // where the tool inside looks for it
	Hide   []string // what of it stays out of sight, relative
}

// Inside is what the tool will see in the sandbox: its environment and its home.
type Inside struct {
	Env  []string
	Home string
}

// Find says where a cache is, in as many directories as it has. Only the person's own variables and files say so, and nothing of the project.
func Find(here *preset.Here, name string, in Inside) ([]Found, error) {
	i := slices.IndexFunc(rows(), func(r row) bool { return r.name == name })
	if i < 0 {
		return nil, fmt.Errorf("bug: cache %q has no row", name)
	}
	var list []Found
	for _, p := range rows()[i].parts {
		f, err := p.find(here)
		if err != nil {
			return nil, fmt.Errorf("cache %s: %w", name, err)
		}
		f.Cache, f.Inside = name, p.inside(in)
		if f.Host != "" {
			f.Hide = p.hidden(f.Host)
		}
		list = append(list, f)
	}
	return list, nil
}

// ForPreset names the caches that what a preset lets install could begin with.
func ForPreset(name string) (names []string) {
	for _, r := range rows() {
		if r.preset == name || r.preset == "" && r.name == name {
			names = append(names, r.name)
		}
	}
	return names
}

// find asks the places in order. As the tool does: the first that says anything decides, and of the defaults the first that is there.
func (p part) find(here *preset.Here) (Found, error) {
	f := Found{Part: p.name, What: p.what}
	for _, w := range p.at {
		dir, from := w.host(here)
		if dir == "" {
			continue
		}
		f.Said, f.From = dir, from
		return f, p.look(here, &f)
	}
	for _, d := range p.defaults {
		f.Said, f.From = filepath.Join(here.Home, d), "the default"
		if err := p.look(here, &f); err != nil || f.Host != "" {
			return f, err
		}
	}
	f.Said = filepath.Join(here.Home, p.defaults[0])
	return f, nil
}

// look takes the directory if it is one, and looks like what it is said to be: a slip in a setting must not show another directory.
func (p part) look(here *preset.Here, f *Found) error {
	st, err := os.Stat(f.Said)
	if err != nil || !st.IsDir() {
		return nil
	}
	if !here.Believes(f.Said) {
		return fmt.Errorf("%s (%s) lies in or leads through the project or casemate's own state, where an agent can write", f.Said, f.From)
	}
	real, err := filepath.EvalSymlinks(f.Said)
	if err != nil {
		return err
	}
	names, err := os.ReadDir(real)
	if err != nil {
		return err
	}
	if len(names) > 0 && len(p.marks) > 0 && !slices.ContainsFunc(p.marks, func(m string) bool { return len(glob(real, m)) > 0 }) {
		return fmt.Errorf("%s (%s) does not look like it: there is none of %s in it", f.Said, f.From, strings.Join(p.marks, ", "))
	}
	f.Host = real
	return nil
}

// inside is where the tool will look in the sandbox. No file of the host's says so there: only variables, and the default.
func (p part) inside(in Inside) string {
	for _, w := range p.at {
		if w.env == "" {
			continue
		}
		for _, kv := range in.Env {
			if value, ok := strings.CutPrefix(kv, w.env+"="); ok {
				if first, _, _ := strings.Cut(value, ":"); filepath.IsAbs(first) {
					return path.Join(first, w.sub)
				}
			}
		}
	}
	if p.own != "" {
		return path.Join(in.Home, p.own)
	}
	return path.Join(in.Home, p.defaults[0])
}

// hidden lists what stays out of sight: what the row names, and the names of credential files, whether they are there or will be. A directory of such
// a name is a package's.
func (p part) hidden(dir string) (list []string) {
	for _, name := range credentials() {
		if st, err := os.Lstat(filepath.Join(dir, name)); err != nil || !st.IsDir() {
			list = append(list, name)
		}
	}
	for _, pattern := range p.hide {
		if !strings.ContainsAny(pattern, "*?[") {
			list = append(list, pattern)
			continue
		}
		list = append(list, glob(dir, pattern)...)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// glob expands a pattern to what exists, relative to the directory, whatever is in the directory's own name.
func glob(dir, pattern string) (hits []string) {
	first, rest, more := strings.Cut(pattern, "/")
	names := []string{first}
	if strings.ContainsAny(first, "*?[") {
		entries, _ := os.ReadDir(dir)
		names = nil
		for _, e := range entries {
			if ok, _ := path.Match(first, e.Name()); ok {
				names = append(names, e.Name())
			}
		}
	}
	for _, name := range names {
		if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
			continue
		}
		if !more {
			hits = append(hits, name)
			continue
		}
		for _, below := range glob(filepath.Join(dir, name), rest) {
			hits = append(hits, name+"/"+below)
		}
	}
	return hits
}

// place is one thing that says where a directory is.
type place struct {
	env   string   // a variable
	files []string // or files of the person or the machine, of which the first that has the key decides
	key   string
	sub   string // below what is said
}

func (w place) host(here *preset.Here) (dir, from string) {
	if w.env != "" {
		for _, kv := range here.Env {
			if value, ok := strings.CutPrefix(kv, w.env+"="); ok {
				if first, _, _ := strings.Cut(value, ":"); filepath.IsAbs(first) {
					return filepath.Join(first, w.sub), "$" + w.env
				}
			}
		}
		return "", ""
	}
	for _, file := range w.files {
		switch rest, ok := strings.CutPrefix(file, "~config/"); {
		case ok:
			file = filepath.Join(here.Config, rest)
		case strings.HasPrefix(file, "~/"):
			file = filepath.Join(here.Home, file[2:])
		}
		text, err := store.Read(file, maxFile)
		if err != nil || !here.Believes(file) {
			continue
		}
		if value := expand(setting(string(text), w.key), here.Home); filepath.IsAbs(value) {
			return filepath.Join(value, w.sub), file
		}
	}
	return "", ""
}

// maxFile bounds a configuration file that is read.
const maxFile = 1 << 20

// setting is what a configuration file says last of a key, as npm, pip, Go, TOML and YAML write it (KEY = VALUE, KEY: VALUE, KEY VALUE) or XML does.
// Nothing else of the file is kept.
func setting(text, key string) (value string) {
	if _, rest, ok := strings.Cut(text, "<"+key+">"); ok {
		value, _, _ = strings.Cut(rest, "<")
		return strings.TrimSpace(value)
	}
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), key)
		if !ok || rest == "" || !strings.Contains("=: \t", rest[:1]) {
			continue
		}
		v := strings.TrimSpace(strings.TrimLeft(rest, "=: \t"))
		if len(v) >= 2 && (v[0] == '"' || v[0] == '\'') {
			v, _, _ = strings.Cut(v[1:], v[:1])
		} else if before, _, comment := strings.Cut(v, " #"); comment {
			v = strings.TrimSpace(before)
		}
		value = v
	}
	return value
}

// expand puts the home directory in, as the tools allow it to be written.
func expand(value, home string) string {
	for _, word := range []string{"${HOME}", "$HOME", "${user.home}", "~"} {
		if rest, ok := strings.CutPrefix(value, word); ok && (rest == "" || rest[0] == '/') {
			return home + rest
		}
	}
	return value
}
