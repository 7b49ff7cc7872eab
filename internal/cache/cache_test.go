package cache

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"casemate.dev/internal/policy"
	"casemate.dev/internal/preset"
	"golang.org/x/sys/unix"
)

// TestRows: the policy's words are the rows, and each row can be found.
func TestRows(t *testing.T) {
	var names []string
	for _, r := range rows() {
		names = append(names, r.name)
		for _, p := range r.parts {
			if len(p.defaults) == 0 || p.name == "" || p.what == "" {
				t.Errorf("%s: %+v lacks a default, a name or a description", r.name, p)
			}
		}
	}
	if !slices.Equal(names, policy.Caches()) {
		t.Errorf("rows are %v, the policy's words %v", names, policy.Caches())
	}
}

// machine is a home with files; a name that ends with a slash is a directory.
func machine(t *testing.T, env []string, files map[string]string) *preset.Here {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		text = strings.ReplaceAll(text, "@", dir)
		switch to, link := strings.CutPrefix(text, "-> "); {
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		case link:
			err = os.Symlink(to, path)
		default:
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	here := &preset.Here{Home: dir + "/home", Config: dir + "/home/.config", Project: dir + "/project", Cache: dir + "/state/presets"}
	for _, kv := range env {
		here.Env = append(here.Env, strings.ReplaceAll(kv, "@", dir))
	}
	return here
}

func TestFind(t *testing.T) {
	for _, c := range []struct {
		name, cache string
		env, in     []string
		files       map[string]string
		host, from  string // of the first part
		inside      string
		err         string
	}{
		{name: "default", cache: "npm", files: map[string]string{"home/.npm/_cacache/index-v5/": ""}, host: "@/home/.npm/_cacache", from: "the default"},
		{name: "none", cache: "npm", inside: "/home/u/.npm/_cacache", from: "the default"},
		{name: "npmrc", cache: "npm", files: map[string]string{"home/.npmrc": "//x/:_authToken=T\ncache = ${HOME}/c # ours\n", "home/c/_cacache/content-v2/": ""}, host: "@/home/c/_cacache", from: "@/home/.npmrc"},
		{
			name: "a variable wins", cache: "npm", env: []string{"npm_config_cache=@/v"}, files: map[string]string{"home/.npmrc": "cache=@/c\n", "v/_cacache/": "", "c/_cacache/": ""},
			host: "@/v/_cacache", from: "$npm_config_cache",
		},
		{name: "what is said and is not there", cache: "npm", env: []string{"npm_config_cache=@/v"}, files: map[string]string{"home/.npm/_cacache/": ""}, from: "$npm_config_cache"},
		{name: "GOPATH", cache: "go", env: []string{"GOPATH=@/a:@/b"}, files: map[string]string{"a/pkg/mod/cache/": ""}, host: "@/a/pkg/mod", from: "$GOPATH", inside: "/home/u/go/pkg/mod"},
		{name: "go env", cache: "go", files: map[string]string{"home/.config/go/env": "GOMODCACHE=@/m\nGOPATH=@/p\n", "m/cache/": ""}, host: "@/m", from: "@/home/.config/go/env"},
		{name: "relative is not meant", cache: "go", env: []string{"GOMODCACHE=off"}, files: map[string]string{"home/go/pkg/mod/cache/": ""}, host: "@/home/go/pkg/mod", from: "the default"},
		{name: "another place inside", cache: "go", in: []string{"GOMODCACHE=/m"}, files: map[string]string{"home/go/pkg/mod/cache/": ""}, host: "@/home/go/pkg/mod", from: "the default", inside: "/m"},
		{name: "settings.xml", cache: "maven", files: map[string]string{"home/.m2/settings.xml": "<settings><password>p</password><localRepository>${user.home}/r</localRepository></settings>", "home/r/": ""}, host: "@/home/r", from: "@/home/.m2/settings.xml"},
		{name: "yaml", cache: "yarn", files: map[string]string{"home/.yarnrc": "cache-folder \"@/y\"\n", "y/v6/": ""}, host: "@/y", from: "@/home/.yarnrc"},
		{name: "toml", cache: "uv", files: map[string]string{"home/.config/uv/uv.toml": "cache-dir = \"@/u\"\n", "u/CACHEDIR.TAG": ""}, host: "@/u", from: "@/home/.config/uv/uv.toml"},
		{name: "the second default", cache: "composer", files: map[string]string{"home/.composer/cache/": ""}, host: "@/home/.composer/cache", from: "the default", inside: "/home/u/.composer/cache"},
		{name: "links", cache: "pip", files: map[string]string{"home/.cache/pip": "-> @/disk/pip", "disk/pip/wheels/": ""}, host: "@/disk/pip", from: "the default"},
		{name: "a slip", cache: "pip", env: []string{"PIP_CACHE_DIR=@/home"}, files: map[string]string{"home/.ssh/id": ""}, err: "does not look like it"},
		{name: "in the project", cache: "pip", env: []string{"PIP_CACHE_DIR=@/project/c"}, files: map[string]string{"project/c/wheels/": ""}, err: "an agent can write"},
		{name: "through the project", cache: "pip", env: []string{"PIP_CACHE_DIR=@/project/c"}, files: map[string]string{"project/c": "-> @/p", "p/wheels/": ""}, err: "an agent can write"},
		{name: "in casemate's state", cache: "pip", env: []string{"PIP_CACHE_DIR=@/state/x"}, files: map[string]string{"state/x/wheels/": ""}, err: "an agent can write"},
		{name: "a setting of the project", cache: "npm", files: map[string]string{"project/rc": "cache=@/c\n", "home/.npmrc": "-> @/project/rc", "c/_cacache/": "", "home/.npm/_cacache/": ""}, host: "@/home/.npm/_cacache", from: "the default"},
	} {
		t.Run(c.name, func(t *testing.T) {
			here := machine(t, c.env, c.files)
			dir := filepath.Dir(here.Home)
			found, err := Find(here, c.cache, Inside{Env: c.in, Home: "/home/u"})
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("got %v and %v", found, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			f := found[0]
			if host, from := strings.ReplaceAll(c.host, "@", dir), strings.ReplaceAll(c.from, "@", dir); f.Host != host || f.From != from {
				t.Errorf("got %q from %q, want %q from %q", f.Host, f.From, host, from)
			}
			if c.inside != "" && f.Inside != c.inside {
				t.Errorf("inside it is in %s", f.Inside)
			}
		})
	}
}

// TestHidden: what is hidden is so before it is there, and what a pattern names wherever it is.
func TestHidden(t *testing.T) {
	here := machine(t, nil, map[string]string{"home/.cargo/git/db/a-1/FETCH_HEAD": "", "home/.cargo/git/db/b/": "", "home/.cargo/git/token/": ""})
	found, err := Find(here, "cargo", Inside{Home: "/h"})
	if err != nil {
		t.Fatal(err)
	}
	hide := found[1].Hide
	for _, want := range []string{"db/a-1/FETCH_HEAD", "credentials.toml", ".netrc"} {
		if !slices.Contains(hide, want) {
			t.Errorf("%s is not hidden: %v", want, hide)
		}
	}
	if slices.Contains(hide, "token") {
		t.Error("a directory of a package is hidden")
	}
}

// TestSets: two that run at once have different sets, the next one alone has the first again, and one that was torn by a stop of the machine says so.
func TestSets(t *testing.T) {
	dir := t.TempDir()
	take := func() *Set {
		t.Helper()
		s, err := Take(dir)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	a, b := take(), take()
	if a.Dir == b.Dir {
		t.Fatalf("both have %s", a.Dir)
	}
	if err := a.Begin(); err != nil {
		t.Fatal(err)
	}
	if !a.taken() {
		t.Error("a set in use looks free")
	}
	unix.Close(a.lock) // as if killed
	again := take()
	if again.Dir != a.Dir || again.Torn {
		t.Errorf("after a kill: %+v", again)
	}
	if err := os.WriteFile(filepath.Join(again.Dir, "running"), []byte("another boot"), 0o600); err != nil {
		t.Fatal(err)
	}
	unix.Close(again.lock)
	if again = take(); !again.Torn {
		t.Error("what another boot has left is taken for whole")
	}
	if err := again.End(); err != nil {
		t.Fatal(err)
	}
	if again = take(); again.Torn {
		t.Error("what was ended is taken for torn")
	}
}

// TestDrop: what is being removed is in nobody's way, and goes with the next removal if that was cut short.
func TestDrop(t *testing.T) {
	s, err := Take(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"npm/content", "go/modules", "go/build"} {
		if err := os.MkdirAll(filepath.Join(s.Dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Drop(func(string) error { return unix.EIO }, "npm"); err != unix.EIO {
		t.Fatal(err)
	}
	if names := s.Names(); !slices.Equal(names, []string{"go"}) || len(children(s.Dir)) != 2 {
		t.Errorf("cut short: %v of %v", names, children(s.Dir))
	}
	if err := s.Drop(os.RemoveAll, "go", "never"); err != nil || len(children(s.Dir)) != 0 {
		t.Errorf("left: %v %v", children(s.Dir), err)
	}
}

// TestMask: whiteouts are laid, kept for the same list and laid anew for another.
func TestMask(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mask")
	own := func(string) error { return nil }
	removed := 0
	remove := func(dir string) error { removed++; return os.RemoveAll(dir) }
	for _, list := range [][]string{{"token", "cache/vcs"}, {"token", "cache/vcs"}, {"other"}} {
		if err := Mask(dir, list, remove, own); err != nil {
			t.Fatal(err)
		}
		for _, name := range list {
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(dir, name), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
				t.Errorf("%s is no whiteout: %v %o", name, err, st.Mode)
			}
		}
	}
	if present(filepath.Join(dir, "token")) || removed != 2 {
		t.Errorf("an old whiteout stayed, or the same list was laid %d times", removed)
	}
	if err := Mask(dir, []string{"../x"}, remove, own); err == nil {
		t.Error("a path that leads out is taken")
	}
}

// FuzzSetting: whatever a file says, what is taken of it is one value and nothing beside it.
func FuzzSetting(f *testing.F) {
	for _, text := range []string{"cache = /x # y\n", "cache: '/x'\n//h/:_authToken=T\n", "<a><cache>/x</cache></a>", "cache \"", "cachecache=", "cache\n=x"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if v := expand(setting(text, "cache"), "/home/u"); !strings.Contains(text, "<cache>") && strings.Contains(v, "\n") {
			t.Errorf("%q", v)
		}
	})
}
