package guest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fakeHome is a home directory with everything that must never be seen, and what a test adds.
func fakeHome(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := tree(t, map[string]string{
		"home/.ssh/id_ed25519":                             secret,
		"home/.aws/credentials":                            secret,
		"home/.netrc":                                      secret,
		"home/.config/gh/hosts.yml":                        secret,
		"home/.local/share/keyrings/login.keyring":         secret,
		"home/.cargo/credentials.toml":                     secret,
		"home/.gem/credentials":                            secret,
		"home/.claude/.credentials.json":                   secret,
		"home/.config/composer/auth.json":                  secret,
		"home/.dotnet/corefx/x509stores/my/k.pfx":          secret,
		"home/.local/share/uv/credentials/creds.toml":      secret,
		"home/.stack/config.yaml":                          secret,
		"home/.cabal/config":                               secret,
		"home/.wasmer/wasmer.toml":                         secret,
		"home/.luarocks/upload_config.lua":                 secret,
		"home/.julia/servers/x/auth.toml":                  secret,
		"home/Documents/letter.txt":                        secret,
		"home/work/other/main.go":                          secret,
		"home/work/other/go.mod":                           "module other",
		"home/work/other/.git/":                            "",
		"home/code/project/.git/":                          "",
		"home/.local/state/casemate/sandboxes/x/layer/key": secret,
	})
	plant(t, filepath.Join(dir, "home"), files)
	return filepath.Join(dir, "home")
}

func options(home, path string, env map[string]string) Options {
	return Options{Home: home, Project: home + "/code/project", State: home + "/.local/state/casemate", Env: func(name string) string {
		if name == "PATH" {
			return strings.ReplaceAll(path, "~", home)
		}
		return strings.ReplaceAll(env[name], "~", home)
	}}
}

const (
	script = "#!/bin/sh\n"
	elf    = "\x7fELF"
)

type toolCase struct {
	name   string
	files  map[string]string
	path   string // "~" is the home
	env    map[string]string
	shows  string // targets of what is shown, "~" for the home, sorted, blank between
	hides  string
	vars   string // NAME=VALUE of the tools
	inside string // PATH inside; the same as path when empty
	reason string // in a refusal
}

func toolCases() []toolCase {
	return []toolCase{
		{name: "nvm", files: map[string]string{".nvm/versions/node/v20/bin/node": elf, ".nvm/versions/node/v20/etc/npmrc": secret, ".nvm/nvm.sh": ""},
			path: "~/.nvm/versions/node/v20/bin:/usr/bin", shows: "~/.nvm", hides: "~/.nvm/versions/node/v20/etc/npmrc", vars: "NVM_DIR=~/.nvm"},
		{name: "nvm elsewhere", files: map[string]string{".config/nvm/versions/node/v20/bin/node": elf}, env: map[string]string{"NVM_DIR": "~/.config/nvm"},
			path: "~/.config/nvm/versions/node/v20/bin", shows: "~/.config/nvm", vars: "NVM_DIR=~/.config/nvm"},
		{name: "fnm, by a link from a runtime directory", files: map[string]string{".local/share/fnm/node-versions/v20/installation/bin/node": elf, "run/fnm_1": "->../.local/share/fnm/node-versions/v20/installation"},
			path: "~/run/fnm_1/bin", shows: "~/.local/share/fnm", inside: "~/.local/share/fnm/node-versions/v20/installation/bin"},
		{name: "volta", files: map[string]string{".volta/bin/volta": elf, ".volta/bin/node": "->volta", ".volta/hooks.json": secret}, path: "~/.volta/bin", shows: "~/.volta", hides: "~/.volta/hooks.json", vars: "VOLTA_HOME=~/.volta"},
		{name: "pyenv", files: map[string]string{".pyenv/shims/python": script, ".pyenv/versions/3.12/bin/python": elf, ".pyenv/versions/3.12/pip.conf": secret},
			path: "~/.pyenv/shims:~/.pyenv/bin", shows: "~/.pyenv", hides: "~/.pyenv/versions/3.12/pip.conf", vars: "PYENV_ROOT=~/.pyenv", inside: "~/.pyenv/shims:~/.pyenv/bin"},
		{name: "pyenv on another disk, under its name and where it lies", files: map[string]string{".pyenv": "->disk/pyenv", "disk/pyenv/shims/python": script, "disk/pyenv/versions/3.12/pip.conf": secret},
			path: "~/.pyenv/shims", shows: "~/.pyenv ~/disk/pyenv", hides: "~/.pyenv/versions/3.12/pip.conf ~/disk/pyenv/versions/3.12/pip.conf", vars: "PYENV_ROOT=~/.pyenv"},
		{name: "cargo and rustup", files: map[string]string{".cargo/bin/cargo": "->rustup", ".cargo/bin/rustup": elf, ".cargo/env": script, ".cargo/registry/x": "", ".rustup/toolchains/stable/bin/cargo": elf},
			path: "~/.cargo/bin", shows: "~/.cargo/bin ~/.cargo/env ~/.rustup", vars: "RUSTUP_HOME=~/.rustup"},
		{name: "cargo moved", files: map[string]string{"rust/c/bin/cargo": elf, "rust/c/credentials.toml": secret, "rust/r/toolchains/": ""}, env: map[string]string{"CARGO_HOME": "~/rust/c", "RUSTUP_HOME": "~/rust/r"},
			path: "~/rust/c/bin", shows: "~/rust/c/bin ~/rust/r", vars: "RUSTUP_HOME=~/rust/r"},
		{name: "go programs, not GOPATH's sources", files: map[string]string{"go/bin/gopls": elf, "go/src/private/x.go": secret, "sdk/go1.22.0/bin/go": elf}, path: "~/go/bin", shows: "~/go/bin ~/sdk/go1.22.0"},
		{name: "Go itself in ~/go", files: map[string]string{"go/bin/go": elf, "go/src/runtime/proc.go": "", "go/lib/": ""}, path: "~/go/bin", shows: "~/go"},
		{name: "Go itself by GOROOT", files: map[string]string{"gr/bin/go": elf, "gr/src/runtime/": ""}, env: map[string]string{"GOROOT": "~/gr"}, path: "/usr/bin", shows: "~/gr", vars: "GOROOT=~/gr"},
		{name: "mise", files: map[string]string{".local/share/mise/shims/node": "->../../../bin/mise", ".local/bin/mise": elf, ".local/share/mise/installs/node/20/bin/node": elf, ".local/share/mise/state": secret, ".config/mise/config.toml": "[tools]\nnode = '20'\n"},
			path: "~/.local/share/mise/shims:~/.local/bin", shows: "~/.config/mise/config.toml ~/.local/bin ~/.local/share/mise/installs ~/.local/share/mise/shims", vars: "MISE_DATA_DIR=~/.local/share/mise"},
		{name: "mise with variables in its settings", files: map[string]string{".local/share/mise/shims/node": script, ".config/mise/config.toml": "[env]\nX = '" + secret + "'\n"},
			path: "~/.local/share/mise/shims", shows: "~/.local/share/mise/shims", vars: "MISE_DATA_DIR=~/.local/share/mise", reason: "it may hold secrets"},
		{name: "asdf", files: map[string]string{".asdf/shims/ruby": script, ".asdf/installs/ruby/3/bin/ruby": elf, ".tool-versions": "ruby 3"}, path: "~/.asdf/shims", shows: "~/.asdf ~/.tool-versions", vars: "ASDF_DATA_DIR=~/.asdf"},
		{name: "bun", files: map[string]string{".bun/bin/bun": elf, ".bun/install/global/node_modules/": "", ".bun/install/cache/x": secret}, path: "~/.bun/bin", shows: "~/.bun/bin ~/.bun/install/global"},
		{name: "deno", files: map[string]string{".deno/bin/deno": elf, ".deno/other": secret}, path: "~/.deno/bin", shows: "~/.deno/bin"},
		{name: "sdkman", files: map[string]string{".sdkman/candidates/java/current": "->21", ".sdkman/candidates/java/21/bin/java": elf, ".sdkman/candidates/maven/3/conf/settings.xml": secret}, env: map[string]string{"JAVA_HOME": "~/.sdkman/candidates/java/current"},
			path: "~/.sdkman/candidates/java/current/bin", shows: "~/.sdkman", hides: "~/.sdkman/candidates/maven/3/conf/settings.xml", vars: "JAVA_HOME=~/.sdkman/candidates/java/current SDKMAN_DIR=~/.sdkman"},
		{name: "Java by JAVA_HOME alone", files: map[string]string{".jdks/21/bin/java": elf}, env: map[string]string{"JAVA_HOME": "~/.jdks/21"}, path: "/usr/bin", shows: "~/.jdks/21", vars: "JAVA_HOME=~/.jdks/21"},
		{name: "pnpm", files: map[string]string{".local/share/pnpm/pnpm": elf}, path: "~/.local/share/pnpm", shows: "~/.local/share/pnpm", vars: "PNPM_HOME=~/.local/share/pnpm"},
		{name: "dotnet without its private keys", files: map[string]string{".dotnet/dotnet": elf, ".dotnet/sdk/": "", ".dotnet/tools/x": elf}, path: "~/.dotnet:~/.dotnet/tools", shows: "~/.dotnet/dotnet ~/.dotnet/sdk ~/.dotnet/tools", vars: "DOTNET_ROOT=~/.dotnet"},
		{name: "conda", files: map[string]string{"miniconda3/condabin/conda": script, "miniconda3/conda-meta/": "", "miniconda3/.condarc": secret}, path: "~/miniconda3/condabin", shows: "~/miniconda3", hides: "~/miniconda3/.condarc"},
		{name: "julia", files: map[string]string{".juliaup/bin/julia": elf, ".julia/juliaup/julia-1.11/bin/julia": elf}, path: "~/.juliaup/bin", shows: "~/.julia/juliaup ~/.juliaup"},
		{name: "wasmer without its token", files: map[string]string{".wasmer/bin/wasmer": elf, ".wasmer/lib/": ""}, path: "~/.wasmer/bin", shows: "~/.wasmer/bin ~/.wasmer/lib"},
		{name: "composer", files: map[string]string{".config/composer/vendor/bin/phpstan": script}, path: "~/.config/composer/vendor/bin", shows: "~/.config/composer/vendor"},
		{name: "gems", files: map[string]string{".gem/ruby/3.1.0/bin/rake": script}, path: "~/.gem/ruby/3.1.0/bin", shows: "~/.gem/ruby"},
		{name: "luarocks", files: map[string]string{".luarocks/bin/busted": script, ".luarocks/lib/": ""}, path: "~/.luarocks/bin", shows: "~/.luarocks/bin ~/.luarocks/lib"},
		{name: "flutter, which is a checkout", files: map[string]string{"flutter/bin/flutter": script, "flutter/.git/": ""}, path: "~/flutter/bin", shows: "~/flutter"},

		{name: "~/.local/bin and what its links lead to", files: map[string]string{
			".local/bin/black": "->../share/pipx/venvs/black/bin/black", ".local/share/pipx/venvs/black/bin/black": "#!{}/.local/share/pipx/venvs/black/bin/python\n",
			".local/share/pipx/venvs/black/bin/python": "->{}/.pyenv/versions/3.12/bin/python3", ".local/share/pipx/venvs/black/pyvenv.cfg": "home = {}/.pyenv/versions/3.12/bin\n",
			".pyenv/versions/3.12/bin/python3": elf, ".local/share/pipx/logs/pip.log": secret,
			".local/bin/ruff": "->../share/uv/tools/ruff/bin/ruff", ".local/share/uv/tools/ruff/bin/ruff": elf, ".local/share/uv/python/cpython-3.12/bin/python3": elf,
			".local/bin/claude": "->../share/claude/versions/1.2.3", ".local/share/claude/versions/1.2.3": elf, ".local/share/claude/history": secret,
			".local/bin/mine": "->../../scripts/mine.sh", "scripts/mine.sh": script, "scripts/private.txt": secret,
			".local/bin/other": "->../../work/other/run.sh", "work/other/run.sh": script,
			".local/bin/tsc": "->../lib/node_modules/typescript/bin/tsc", ".local/lib/node_modules/typescript/bin/tsc": script,
			".local/bin/key": "->../../.ssh/id_ed25519", ".local/bin/gone": "->../nothing",
		}, path: "~/.local/bin",
			shows:  "~/.local/bin ~/.local/lib/node_modules ~/.local/share/claude/versions ~/.local/share/pipx/venvs ~/.local/share/uv/python ~/.local/share/uv/tools ~/.pyenv ~/scripts/mine.sh ~/work/other/run.sh",
			vars:   "PYENV_ROOT=~/.pyenv",
			reason: "~/.ssh holds credentials"},
		{name: "pip's user scripts need their packages", files: map[string]string{".local/bin/tool": "#!/usr/bin/python3\n", ".local/lib/python3.11/site-packages/tool.py": ""}, path: "~/.local/bin", shows: "~/.local/bin ~/.local/lib/python3.11"},
		{name: "no user scripts, so the sandbox has packages of its own", files: map[string]string{".local/bin/tool": elf, ".local/lib/python3.11/site-packages/tool.py": ""}, path: "~/.local/bin", shows: "~/.local/bin"},

		{name: "unknown directory", files: map[string]string{"bin/x": script, "notes.txt": secret}, path: "~/bin", shows: "~/bin"},
		{name: "unknown installation", files: map[string]string{"tools/foo/bin/foo": script, "tools/foo/lib/": "", "tools/foo/etc/npmrc": secret, "tools/keep.txt": secret}, path: "~/tools/foo/bin", shows: "~/tools/foo", hides: "~/tools/foo/etc/npmrc"},
		{name: "bin without anything else is no installation", files: map[string]string{"tools/foo/bin/foo": script, "tools/foo/notes": secret}, path: "~/tools/foo/bin", shows: "~/tools/foo/bin"},
		{name: "a project with bin and lib is no installation", files: map[string]string{"work/p/bin/x": script, "work/p/lib/x.rb": secret, "work/p/Gemfile": ""}, path: "~/work/p/bin", shows: "~/work/p/bin"},
		{name: "hidden installation, its parts only", files: map[string]string{".foo/bin/foo": elf, ".foo/lib/": "", ".foo/token": secret}, path: "~/.foo/bin", shows: "~/.foo/bin ~/.foo/lib"},
		{name: "activated environment", files: map[string]string{"envs/e/bin/python": "->/usr/bin/python3", "envs/e/pyvenv.cfg": "home = /usr/bin\n", "envs/e/lib/": ""}, env: map[string]string{"VIRTUAL_ENV": "~/envs/e"}, path: "~/envs/e/bin", shows: "~/envs/e", vars: "VIRTUAL_ENV=~/envs/e"},
		{name: "the project's own programs", files: map[string]string{"code/project/node_modules/.bin/x": script}, path: "~/code/project/node_modules/.bin:/usr/bin", shows: ""},
		{name: "a link in the project leads nowhere", files: map[string]string{"code/project/bin": "->../../.ssh"}, path: "~/code/project/bin", shows: ""},
		{name: "a link of the user's into the project, where a link leads out", files: map[string]string{"bin/x": "->../code/project/x", "code/project/x": "->../../scripts/private", "scripts/private": script + secret}, path: "~/bin", shows: "~/bin", reason: "a project cannot make anything of the host visible"},
		{name: "a directory on PATH that links into the project, where a link leads out", files: map[string]string{"tools": "->code/project/tools", "code/project/tools": "->../../scripts", "scripts/private": script + secret}, path: "~/tools", shows: "", inside: "-", reason: "a project cannot make anything of the host visible"},
		{name: "a script for an interpreter in the project, where a link leads out", files: map[string]string{"bin/x": "#!{}/code/project/python\n", "code/project/python": "->../../scripts/private", "scripts/private": script + secret}, path: "~/bin", shows: "~/bin"},
		{name: "a variable into the project, where a link leads out", files: map[string]string{"code/project/jdk": "->../../private", "private/bin/java": elf, "private/key": secret}, env: map[string]string{"JAVA_HOME": "~/code/project/jdk"}, path: "/usr/bin", shows: "", reason: "a project cannot make anything of the host visible"},
		{name: "a directory that the host lacks may come to be in the sandbox's home", path: "~/.local/bin:/usr/bin", shows: ""},

		{name: "never the home", files: map[string]string{"x": script}, path: "~", shows: "", inside: "-", reason: "it is the home directory, or above it"},
		{name: "never above the home", path: "~/..", shows: "", inside: "-", reason: "it is the home directory, or above it"},
		{name: "never the home by a link", files: map[string]string{"h": "->."}, path: "~/h", shows: "", inside: "-", reason: "it is the home directory, or above it"},
		{name: "never the state", path: "~/.local/state/casemate/sandboxes", shows: "", inside: "-", reason: "casemate's own state"},
		{name: "never above the state", path: "~/.local/state", shows: "", inside: "-", reason: "casemate's own state"},
		{name: "never credentials", path: "~/.ssh", shows: "", inside: "-", reason: "~/.ssh holds credentials"},
		{name: "never credentials by a link", files: map[string]string{"k": "->.ssh"}, path: "~/k", shows: "", inside: "-", reason: "~/.ssh holds credentials"},
		{name: "never what many programs share", files: map[string]string{".local/share/x": elf}, path: "~/.local/share", shows: "", inside: "-", reason: "holds what belongs to other programs"},
		{name: "never what contains the project", files: map[string]string{}, path: "~/code", shows: "", inside: "-", reason: "contains the project"},
		{name: "never what others can write", files: map[string]string{"open/": "!777 "}, path: "~/open", shows: "", inside: "-", reason: "can be written by every user"},
		{name: "never what lies in what others can write", files: map[string]string{"open/": "!777 ", "open/bin/x": script}, path: "~/open/bin", shows: "", inside: "-", reason: "can be written by every user"},
		{name: "a tool that others can write", files: map[string]string{".pyenv/": "!757 ", ".pyenv/shims/x": script}, path: "~/.pyenv/shims", shows: "", inside: "-", reason: "can be written by every user"},
		{name: "shared temporary directory", path: "/tmp", shows: "", inside: "-", reason: whyNotTmp()},
		{name: "kernel and runtime directories", path: "/proc/self:/sys:/run:/dev/shm", shows: "", inside: "-", reason: "are not shown"},
		{name: "relative", path: ".:bin:", shows: "", inside: "-"},
		{name: "a loop of links", files: map[string]string{"l": "->l"}, path: "~/l", shows: "", inside: "~/l"},
		{name: "a root that a variable puts at home", files: map[string]string{"bin/x": elf}, env: map[string]string{"PYENV_ROOT": "~"}, path: "~/bin", shows: "~/bin", reason: "it is the home directory"},
	}
}

// whyNotTmp: the tests' homes may lie in /tmp.
func whyNotTmp() string {
	if within(os.TempDir(), "/tmp") {
		return "is the home directory, or above it"
	}
	return "places below /tmp are not shown"
}

func TestTools(t *testing.T) {
	for _, c := range toolCases() {
		t.Run(c.name, func(t *testing.T) {
			home := fakeHome(t, c.files)
			o := options(home, c.path, c.env)
			v, _ := lookNow(o)
			short := strings.NewReplacer(home, "~").Replace

			var shows, hides, vars []string
			for _, p := range v.Places() {
				if slices.ContainsFunc(v.System, func(s Place) bool { return s.Target == p.Target }) {
					continue
				}
				shows = append(shows, short(p.Target))
				checkPlace(t, p, o)
				hides = append(hides, p.Hide...)
			}
			for _, tool := range v.Tools {
				for _, e := range tool.Env {
					vars = append(vars, short(e.Name+"="+e.Value))
				}
			}
			check := func(what string, got []string, want string) {
				t.Helper()
				slices.Sort(got)
				if s := short(strings.Join(got, " ")); s != want {
					t.Errorf("%s\n got %s\nwant %s", what, s, want)
				}
			}
			check("shows", shows, c.shows)
			check("hides", hides, c.hides)
			check("variables", vars, c.vars)
			want := c.inside
			if want == "" {
				want = c.path
			}
			if want == "-" {
				want = standardPath
			}
			if got := short(v.Path); got != want {
				t.Errorf("PATH inside\n got %s\nwant %s", got, want)
			}
			if c.reason == "" && len(v.Refused) > 0 || c.reason != "" && !slices.ContainsFunc(v.Refused, func(r Refusal) bool { return strings.Contains(short(r.Why), c.reason) }) {
				t.Errorf("refused: %+v", v.Refused)
			}
		})
	}
}

// checkPlace opens what is shown as the sandbox would and looks for the secret.
func checkPlace(t *testing.T, p Place, o Options) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(p.Source, &st); err != nil || uint64(st.Dev) != p.Dev || st.Ino != p.Ino {
		t.Errorf("%s is not what was looked at: %v", p.Source, err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK || (st.Mode&unix.S_IFMT != unix.S_IFDIR) != p.File {
		t.Errorf("%s: mode %o, file %v", p.Source, st.Mode, p.File)
	}
	if within(o.Home, p.Source) || within(o.State, p.Source) || within(p.Source, o.State) || within(o.Project, p.Source) {
		t.Errorf("%s must never be shown", p.Source)
	}
	for _, leak := range holdsSecret(t, p.Source) {
		inside := p.Target + strings.TrimPrefix(leak, p.Source)
		if !slices.Contains(p.Hide, inside) {
			t.Errorf("a secret is visible as %s", inside)
		}
	}
}

// The test of the tests: without the rules, the same homes do leak.
func TestSecretsWouldBeFound(t *testing.T) {
	home := fakeHome(t, nil)
	if n := len(holdsSecret(t, home)); n < 15 {
		t.Errorf("only %d secrets in the home", n)
	}
}

func TestToolTable(t *testing.T) {
	names := map[string]bool{}
	for _, r := range toolRows() {
		if r.name == "" || r.why == "" || names[r.name] || len(r.show) == 0 || len(r.home) == 0 && r.env == "" {
			t.Errorf("row %+v", r)
		}
		names[r.name] = true
		if r.set && r.env == "" || r.byEnv && (r.env == "" || r.mark == "") {
			t.Errorf("%s: a variable is needed, and for one that acts alone a mark", r.name)
		}
		for _, p := range slices.Concat(r.home, r.show, r.also, r.hide, r.envs) {
			if filepath.IsAbs(p) || p != filepath.Clean(p) || strings.HasPrefix(p, "..") {
				t.Errorf("%s: pattern %q", r.name, p)
			}
		}
	}
}

func TestOtherUsersDirectories(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to give files to other users")
	}
	home := fakeHome(t, map[string]string{"theirs/bin/x": elf, "group/": "!775 ", "own/": "!775 "})
	for _, c := range []struct {
		dir      string
		uid, gid int
		want     string
	}{{"theirs", 12345, 0, "belongs to another user (12345)"}, {"group", 0, 12345, "can be written by group 12345"}, {"own", 0, 0, ""}} {
		if err := os.Chown(home+"/"+c.dir, c.uid, c.gid); err != nil {
			t.Fatal(err)
		}
		l := newLook(options(home, "", nil))
		_, why := l.show(home + "/" + c.dir)
		if c.want == "" && why != "" || !strings.Contains(why, c.want) {
			t.Errorf("%s: %q", c.dir, why)
		}
	}
}

func TestSystem(t *testing.T) {
	v, _ := lookNow(options(fakeHome(t, nil), "/usr/bin", nil))
	for _, p := range v.System {
		st, err := os.Lstat(p.Target)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := os.Readlink(p.Target)
		if p.Link != (st.Mode()&os.ModeSymlink != 0) || p.Link && p.Source != text || !p.Link && p.Source != p.Target {
			t.Errorf("%+v", p)
		}
		for _, never := range []string{"/home", "/root", "/var", "/etc", "/sys", "/proc", "/dev", "/run", "/tmp", "/srv", "/mnt"} {
			if p.Target == never {
				t.Errorf("%s is shown", never)
			}
		}
	}
	if !covered("/usr/bin", v.System) || !covered("/bin", v.System) {
		t.Errorf("no /usr or /bin in %+v", v.System)
	}
}

func TestLookIsKept(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(t *testing.T, home string, env map[string]string)
		shows  bool // that the change is seen
	}{
		{"a tool appears on PATH", func(t *testing.T, home string, _ map[string]string) {
			plant(t, home, map[string]string{".deno/bin/deno": elf})
		}, true},
		{"a credential file appears in a tool", func(t *testing.T, home string, _ map[string]string) {
			plant(t, home, map[string]string{".nvm/versions/node/v20/etc/npmrc": secret})
		}, true},
		{"a version with a credential file appears", func(t *testing.T, home string, _ map[string]string) {
			plant(t, home, map[string]string{".nvm/versions/node/v22/etc/npmrc": secret})
		}, true},
		{"a tool can be written by others now", func(t *testing.T, home string, _ map[string]string) {
			os.Chmod(home+"/.nvm", 0o777)
		}, true},
		{"a link appears in ~/.local/bin", func(t *testing.T, home string, _ map[string]string) {
			plant(t, home, map[string]string{".local/bin/claude": "->../share/claude/versions/1", ".local/share/claude/versions/1": elf})
		}, true},
		{"a link on the way to a tool is turned", func(t *testing.T, home string, _ map[string]string) {
			os.Remove(home + "/current")
			plant(t, home, map[string]string{"current": "->tool2"})
		}, true},
		{"a variable", func(t *testing.T, home string, env map[string]string) { env["NVM_DIR"] = home + "/.nvm2" }, true},
		{"something else in the home", func(t *testing.T, home string, _ map[string]string) {
			plant(t, home, map[string]string{"notes": "x"})
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			home := fakeHome(t, map[string]string{".nvm/versions/node/v20/etc/": "", ".nvm/versions/node/v20/bin/node": elf, ".local/bin/x": elf, "tool1/bin/": "", "tool2/bin/": "", "current": "->tool1"})
			env := map[string]string{}
			o := options(home, "~/.nvm/versions/node/v20/bin:~/.local/bin:~/.deno/bin:~/current/bin", env)
			file := filepath.Join(o.State, "view", o.digest())
			believed := func() bool {
				_, ok := decode(readAt(unix.AT_FDCWD, file), time.Now())
				return ok
			}
			for end := time.Now().Add(time.Minute); !believed(); {
				if time.Now().After(end) {
					t.Fatal("what was found is never believed")
				}
				Look(o)
			}
			first := Look(o)
			c.change(t, home, env)
			file = filepath.Join(o.State, "view", o.digest())
			if believed() == c.shows {
				t.Errorf("believed after the change: %v", !c.shows)
			}
			now, _ := lookNow(o)
			if second := Look(o); len(second.Places()) != len(now.Places()) || second.Path != now.Path || len(second.Refused) != len(now.Refused) {
				t.Errorf("kept %+v\nis %+v\nwas %+v", second, now, first)
			}
		})
	}
}
