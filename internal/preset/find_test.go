package preset

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"casemate.dev/internal/policy"
)

// machine makes a person with files and programs of the test's own. Names that begin with bin/ are programs, and with etc/ the machine's own files.
func machine(t *testing.T, files map[string]string) *Here {
	t.Helper()
	dir := t.TempDir()
	h := &Here{
		Home: filepath.Join(dir, "home"), Config: filepath.Join(dir, "home/.config"), Root: filepath.Join(dir, "root"), Project: filepath.Join(dir, "home/project"),
		Cache: filepath.Join(dir, "state/presets"), Env: []string{"PATH=" + filepath.Join(dir, "root/bin") + ":/usr/bin:/bin", "SECRET=" + secret, "AWS_SECRET_ACCESS_KEY=" + secret},
	}
	for _, d := range []string{h.Home, h.Config, h.Root + "/etc", h.Root + "/bin", h.Project} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.Env[0] = "PATH=" + filepath.Join(dir, "root/bin") // nothing of this machine is asked
	for name, text := range files {
		put(t, h, name, text)
	}
	return h
}

func put(t *testing.T, h *Here, name, text string) {
	t.Helper()
	path, mode := filepath.Join(h.Home, name), os.FileMode(0o644)
	if strings.HasPrefix(name, "bin/") || strings.HasPrefix(name, "etc/") {
		path = filepath.Join(h.Root, name)
	}
	if strings.Contains(name, "bin/") {
		mode, text = 0o755, "#!/bin/sh\n"+text
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if to, link := strings.CutPrefix(text, "->"); link {
		if err := os.Symlink(filepath.Join(h.Home, to), path); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// told is what a preset opens and sets, in lines.
func told(f Found) string {
	var out []string
	for _, o := range f.Openings {
		line := o.Target() + " " + o.From
		if len(f.Preset.Requests) > 0 && len(o.Requests) == 0 {
			line += " wholly"
		}
		if o.Private {
			line += " private"
		}
		out = append(out, line)
	}
	for _, v := range f.Set {
		if v.Name != "npm_config_audit" {
			out = append(out, v.String())
		}
	}
	return strings.Join(append(out, f.Warnings...), "\n")
}

func find(t *testing.T, h *Here, name string) Found {
	t.Helper()
	f, err := h.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), secret) {
		t.Errorf("a credential is in %s", text)
	}
	return f
}

const askedNpm = "echo registry=https://user:" + secret + "@built-in.example/; echo globalconfig=/nowhere/npmrc\n"

// TestFind: where each preset's hosts come from, and which of several places wins.
func TestFind(t *testing.T) {
	for _, c := range []struct {
		name, preset string
		files        map[string]string
		env          []string
		want         string
	}{
		{"npm, by the person's file", "npm", map[string]string{".npmrc": "//mirror.example/:_authToken=" + secret + "\n@acme:registry=https://npm.acme.example\nregistry=https://mirror.example/npm/\n", "bin/npm": "exit 1"}, nil,
			"mirror.example ~/.npmrc:3 private\nnpm.acme.example ~/.npmrc:2 private\nnpm_config_registry=https://mirror.example/npm/"},
		{"npm, by a variable in the file", "npm", map[string]string{".npmrc": "registry=https://${USER_NAME}:${SECRET}@${MIRROR}/npm/\n"}, []string{"MIRROR=mirror.example"}, "mirror.example ~/.npmrc:1 private\nnpm_config_registry=https://mirror.example/npm/"},
		{"npm, by the environment", "npm", map[string]string{".npmrc": "registry=https://file.example"}, []string{"NPM_CONFIG_REGISTRY=https://u:" + secret + "@env.example/npm"}, "env.example $npm_config_registry private\nnpm_config_registry=https://env.example/npm"},
		{"npm, by asking", "npm", map[string]string{"bin/npm": askedNpm}, nil, "built-in.example npm config get registry globalconfig\nnpm_config_registry=https://built-in.example/"},
		{"npm, by the machine's file, of which npm tells", "npm", map[string]string{"bin/npm": "echo registry=https://global.example/; echo globalconfig=$HOME/../root/etc/npmrc\n", "etc/npmrc": "@x:registry=https://x.example\nregistry=https://global.example/"}, nil,
			"x.example /etc/npmrc:1 private\nglobal.example /etc/npmrc:2 private\nnpm_config_registry=https://global.example/"},
		{"npm, which is not there", "npm", nil, nil, ""},
		{"npm, which says nonsense", "npm", map[string]string{"bin/npm": "echo undefined; echo 'registry=$(id)'"}, nil, ""},
		{"npm, with a token in the path", "npm", map[string]string{".npmrc": "registry=https://mirror.example/" + secret + "/npm/"}, nil,
			"mirror.example ~/.npmrc:1 private\n~/.npmrc:1: the registry's path looks like it holds a token, so it is not told to the tool inside (npm_config_registry)"},
		{"npm, with a variable in the path", "npm", map[string]string{".npmrc": "registry=https://mirror.example/${WORD}/npm/"}, []string{"WORD=password"},
			"mirror.example ~/.npmrc:1 private\n~/.npmrc:1: the registry's path looks like it holds a token, so it is not told to the tool inside (npm_config_registry)"},
		{"npm, on loopback", "npm", map[string]string{".npmrc": "registry=http://localhost:4873/"}, nil,
			"~/.npmrc:1 names a registry of this machine's loopback, localhost:4873, which inside is the sandbox's own (network.host_ports of the policy makes its port reachable)"},
		{"npm, with a file that cannot be read", "npm", map[string]string{".npmrc/x": ""}, nil, "~/.npmrc cannot be read: not a regular file"},
		{"pnpm, by its own file", "pnpm", map[string]string{".config/pnpm/rc": "registry=https://pnpm.example", "bin/npm": askedNpm}, nil, "pnpm.example ~/.config/pnpm/rc:1 private\nnpm_config_registry=https://pnpm.example"},
		{"pnpm, by asking it", "pnpm", map[string]string{"bin/pnpm": "echo https://asked.example/", "bin/npm": askedNpm}, nil, "asked.example pnpm config get registry\nnpm_config_registry=https://asked.example/"},
		{"yarn, by its own file", "yarn", map[string]string{".yarnrc.yml": "npmRegistryServer: https://yarn.example", ".npmrc": "registry=https://npm.example"}, nil,
			"yarn.example ~/.yarnrc.yml:1 private\nnpm_config_registry=https://yarn.example\nYARN_NPM_REGISTRY_SERVER=https://yarn.example"},
		{"yarn, by asking the newer one", "yarn", map[string]string{"bin/yarn": `[ "$3" = npmRegistryServer ] && echo https://asked.example || { echo "Usage Error: no registry"; exit 1; }`}, nil,
			"asked.example yarn config get npmRegistryServer\nnpm_config_registry=https://asked.example\nYARN_NPM_REGISTRY_SERVER=https://asked.example"},
		{"pip, by files", "pypi", map[string]string{".config/pip/pip.conf": "[global]\nindex-url = https://u:" + secret + "@mirror.example/simple\n", "etc/pip.conf": "[global]\nindex-url = https://no.example\nextra-index-url = https://two.example/simple\n"}, nil,
			"two.example /etc/pip.conf:3 private\nmirror.example ~/.config/pip/pip.conf:2 private\nPIP_INDEX_URL=https://mirror.example/simple\nUV_DEFAULT_INDEX=https://mirror.example/simple\nPIP_EXTRA_INDEX_URL=https://two.example/simple"},
		{"pip, by asking", "pypi", map[string]string{"bin/python3": "[ $1 = -I ] && echo https://index.example/simple && echo https://files.example"}, nil, "index.example python3, which knows pip's own index\nfiles.example python3, which knows pip's own index"},
		{"pip, by a file that names pip's own index", "pypi", map[string]string{"bin/python3": "[ $1 = -I ] && echo https://index.example/simple && echo https://files.example", ".pip/pip.conf": "[global]\nindex-url = https://index.example/simple\n"}, nil,
			"index.example ~/.pip/pip.conf:2 private\nfiles.example python3, which knows pip's own index\nPIP_INDEX_URL=https://index.example/simple\nUV_DEFAULT_INDEX=https://index.example/simple"},
		{"go, by the person's file", "go", map[string]string{".config/go/env": "GOPROXY=https://u:" + secret + "@mirror.example/go|direct\nGONOSUMDB=acme.example/*\nGOSUMDB=sum.example+abc+def https://sums.example/x\n", "bin/go": "exit 1"}, nil,
			"mirror.example ~/.config/go/env:1 private\nsums.example ~/.config/go/env:3 private\nGOPROXY=https://mirror.example/go|direct\nGOSUMDB=sum.example+abc+def https://sums.example/x\nGONOSUMDB=acme.example/*"},
		{"go, by asking", "go", map[string]string{"bin/go": "echo https://one.example,https://two.example,direct; echo sum.example"}, nil, "one.example go env GOPROXY GOSUMDB\ntwo.example go env GOPROXY GOSUMDB\nsum.example go env GOPROXY GOSUMDB"},
		{"go, without either", "go", map[string]string{".config/go/env": "GOPROXY=off\nGOSUMDB=off"}, nil, "GOPROXY=off\nGOSUMDB=off"},
		{"cargo, by a replaced source", "cargo", map[string]string{".cargo/config.toml": "[source.crates-io]\nreplace-with='m'\n[source.m]\nregistry='sparse+https://mirror.example/index/'\n[registries.acme]\nindex='https://acme.example/index'\ntoken='" + secret + "'\n", ".cargo/registry/index/mirror.example-0123456789abcdef/config.json": `{"dl":"https://files.example/crates/{crate}"}`}, nil,
			"acme.example ~/.cargo/config.toml:6 private\nmirror.example ~/.cargo/config.toml:4 private\nfiles.example ~/.cargo/registry/index/mirror.example-0123456789abcdef/config.json"},
		{"cargo, whose registry sends to a metadata service", "cargo", map[string]string{".cargo/registry/index/index.used.example-0123456789abcdef/config.json": `{"dl":"http://169.254.169.254/crates"}`}, nil, ""},
		{"cargo, by what it has used", "cargo", map[string]string{".cargo/registry/index/index.used.example-0123456789abcdef/config.json": `{"dl":"https://dl.used.example/crates","api":"https://publish.example"}`}, nil,
			"dl.used.example ~/.cargo/registry/index/index.used.example-0123456789abcdef/config.json\nindex.used.example ~/.cargo/registry/index/index.used.example-0123456789abcdef"},
		{"cargo, by ssh, into which nobody can look", "cargo", map[string]string{".cargo/config.toml": "[registries.acme]\nindex='ssh://git@acme.example/index'\n"}, nil,
			"~/.cargo/config.toml:2 names a registry that is reached by ssh, into which nobody can look, so this preset, which is about some requests, does not open it (--allow acme.example:22 would)"},
		{"cargo, with sources in a circle", "cargo", map[string]string{".cargo/config.toml": "[source.crates-io]\nreplace-with='m'\n[source.m]\nreplace-with='crates-io'\n"}, nil, ""},
		{"apt, by both kinds of file", "debian", map[string]string{"etc/apt/sources.list": "deb http://one.example/debian x main\n", "etc/apt/sources.list.d/two.sources": "Types: deb\nURIs: https://two.example/debian mirror+file:/etc/apt/mirrors.list\n", "etc/apt/sources.list.d/no.list.disabled": "deb https://no.example x\n", "etc/apt/mirrors.list": "https://three.example/debian\n"}, nil,
			"one.example:80 /etc/apt/sources.list:1 private\ntwo.example /etc/apt/sources.list.d/two.sources:2 private\nthree.example /etc/apt/mirrors.list:1 private"},
		{"apt, by asking", "debian", map[string]string{"bin/apt-get": "echo http://asked.example/debian; echo http://asked.example/debian"}, nil, "asked.example:80 apt-get indextargets --format $(SITE)"},
		{"maven, by a mirror of everything", "maven", map[string]string{".m2/settings.xml": "<settings><mirrors><mirror><mirrorOf>*</mirrorOf><url>https://mirror.example/maven</url></mirror></mirrors><servers><server><password>" + secret + "</password></server></servers></settings>"}, nil, "mirror.example ~/.m2/settings.xml:1 private"},
		{"gem, by its file and bundler's", "rubygems", map[string]string{".gemrc": ":sources:\n- https://gems.example/\n", ".bundle/config": "BUNDLE_MIRROR__ALL: https://bundle.example/\n", "bin/gem": "exit 1"}, nil, "gems.example ~/.gemrc:2 private\nbundle.example ~/.bundle/config:1 private"},
		{"gem, by asking", "rubygems", map[string]string{"bin/gem": "printf '*** CURRENT SOURCES ***\\n\\nhttps://asked.example/\\n'"}, nil, "asked.example gem sources --list"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := machine(t, c.files)
			h.Env = append(h.Env, c.env...)
			for _, round := range []string{"first", "remembered"} {
				if got := told(find(t, h, c.preset)); got != c.want {
					t.Errorf("%s: got\n%s\nwant\n%s", round, got, c.want)
				}
			}
			kept, _ := filepath.Glob(h.Cache + "/*")
			for _, file := range kept {
				if text, err := os.ReadFile(file); err != nil || strings.Contains(string(text), secret) {
					t.Errorf("a credential is kept in %s (%v)", text, err)
				}
			}
		})
	}
}

// TestAskedOnce: a tool is asked again when a file changes that its answer depends on, or the tool itself, and else never.
func TestAskedOnce(t *testing.T) {
	h := machine(t, map[string]string{"bin/npm": "echo >>$HOME/asked\n" + askedNpm})
	asked := func() int {
		text, _ := os.ReadFile(h.in("asked"))
		return len(text)
	}
	for range 3 {
		find(t, h, "npm")
	}
	if asked() != 1 {
		t.Fatalf("asked %d times", asked())
	}
	put(t, h, ".npmrc", "fund=false\n")
	find(t, h, "npm")
	find(t, h, "npm")
	if asked() != 2 {
		t.Fatalf("asked %d times after a change of npmrc", asked())
	}
	put(t, h, "bin/npm", "echo >>$HOME/asked\necho registry=https://newer.example\n")
	if got := told(find(t, h, "npm")); asked() != 3 || !strings.HasPrefix(got, "newer.example ") {
		t.Fatalf("asked %d times after another npm was installed, which says %s", asked(), got)
	}
	put(t, h, "bin/npm", "echo >>$HOME/asked\nexit 3\n") // one that fails costs no start either
	for range 2 {
		if f := find(t, h, "npm"); asked() != 4 || len(f.Openings) > 0 || !slices.Contains(f.Notes, "npm config get registry globalconfig did not say it (exit status 3)") {
			t.Fatalf("asked %d times, which fails: %+v", asked(), f)
		}
	}
	put(t, h, "bin/npm", "echo >>$HOME/asked\necho registry=https://newer.example\n")
	find(t, h, "npm")
	kept, _ := filepath.Glob(h.Cache + "/*")
	for _, file := range kept { // what nobody can read is asked anew, and what is old
		if err := os.WriteFile(file, []byte(`{"asked":"2001-01-01T00:00:00Z","lines":["registry=https://old.example"]}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := told(find(t, h, "npm")); asked() != 6 || !strings.HasPrefix(got, "newer.example ") {
		t.Fatalf("asked %d times, which says %s", asked(), got)
	}
}

// TestHowToolsAreAsked: outside of the project, with nothing of the environment, and not for ever.
func TestHowToolsAreAsked(t *testing.T) {
	h := machine(t, map[string]string{"bin/npm": "pwd >$HOME/where; env >$HOME/with; cat >$HOME/input; echo registry=https://a.example\n"})
	h.Env = append(h.Env, "NODE_OPTIONS=--require "+h.Project+"/evil.js", "PYTHONPATH="+h.Project, "LD_PRELOAD="+h.Project+"/evil.so")
	if got := told(find(t, h, "npm")); !strings.HasPrefix(got, "a.example ") {
		t.Fatal(got)
	}
	where, _ := os.ReadFile(h.in("where"))
	with, _ := os.ReadFile(h.in("with"))
	if string(where) != "/\n" {
		t.Errorf("asked in %s", where)
	}
	for _, no := range []string{secret, "NODE_OPTIONS", "PYTHONPATH", "LD_PRELOAD", h.Project} {
		if strings.Contains(string(with), no) {
			t.Errorf("the tool was given %q:\n%s", no, with)
		}
	}
	if _, err := os.Stat(h.in("input")); err != nil {
		t.Error("the tool has no end of input")
	}
}

// TestKnown: a preset that nobody chose is looked at without executing anything, and says what it takes to know more.
func TestKnown(t *testing.T) {
	h := machine(t, map[string]string{"bin/npm": ": > $HOME/executed\n" + askedNpm})
	executed := func() bool {
		_, err := os.Stat(h.in("executed"))
		return err == nil
	}
	if f, whole, err := h.Known("npm"); err != nil || whole || told(f) != "" || executed() {
		t.Errorf("unasked: %q, whole %v, %v; executed: %v", told(f), whole, err, executed())
	}
	find(t, h, "npm")
	if f, whole, err := h.Known("npm"); err != nil || !whole || !strings.HasPrefix(told(f), "built-in.example ") || !executed() {
		t.Errorf("remembered: %q, whole %v, %v; executed: %v", told(f), whole, err, executed())
	}
	h = machine(t, map[string]string{".npmrc": "registry=https://mirror.example/", "bin/npm": ": > $HOME/executed\n"})
	if f, whole, err := h.Known("npm"); err != nil || !whole || !strings.HasPrefix(told(f), "mirror.example ") || executed() {
		t.Errorf("by a file: %q, whole %v, %v; executed: %v", told(f), whole, err, executed())
	}
}

// TestProjectIsNotBelieved: whatever an agent writes into the project opens nothing, is not executed, and is told with the flag that would open it.
func TestProjectIsNotBelieved(t *testing.T) {
	evil := "touch $HOME/executed; echo registry=https://evil.example\n"
	for _, c := range []struct {
		name, preset string
		files        map[string]string
		env          func(h *Here) []string
		want         string
	}{
		{"npmrc", "npm", map[string]string{"project/.npmrc": "registry=https://evil.example/\n@x:registry=https://u:" + secret + "@two.example:8443/\n"}, nil,
			".npmrc of the project names another registry than yours, which this preset does not open (--allow evil.example --allow two.example:8443 would)"},
		{"npmrc that would show a secret", "npm", map[string]string{"project/.npmrc": "registry=https://${SECRET}.evil.example/\n"}, nil, ""},
		{"npmrc with names that write to terminals", "npm", map[string]string{"project/.npmrc": "registry=https://evil\x1b]0;x\a.example/\n"}, nil, ""},
		{"npmrc with many", "npm", map[string]string{"project/.npmrc": "registry=https://a.example/\nregistry=https://b.example/\nregistry=https://c.example/\nregistry=https://d.example/\n"}, nil,
			".npmrc of the project names another registry than yours, which this preset does not open (--allow a.example --allow b.example --allow c.example and 1 more would)"},
		{"npmrc that is a link out of it", "npm", map[string]string{"elsewhere": "registry=https://private.example", "project/.npmrc": "->elsewhere"}, nil, ""},
		{"the person's npmrc is a link into it", "npm", map[string]string{"project/dot": "registry=https://evil.example/", ".npmrc": "->project/dot"}, nil, "~/.npmrc lies in the project, where an agent can write, and is not believed"},
		{"the same, and npm would be asked instead", "npm", map[string]string{"project/dot": "registry=https://evil.example/", ".npmrc": "->project/dot", "tools/bin/npm": "echo; sed s/.registry/registry/ $HOME/.npmrc\n"}, func(h *Here) []string { return []string{"PATH=" + h.in("tools/bin") + ":/usr/bin:/bin"} },
			"~/.npmrc lies in the project, where an agent can write, and is not believed"},
		{"the person's npmrc leads through it to a sandbox's home", "npm", map[string]string{"../state/projects/x/home/rc": "registry=https://evil.example/", "project/dot": "->../state/projects/x/home/rc", ".npmrc": "->project/dot"}, nil,
			"~/.npmrc lies in the project, where an agent can write, and is not believed"},
		{"its directory is a link into it", "go", map[string]string{"project/conf/env": "GOPROXY=https://evil.example", ".config/go": "->project/conf"}, nil, "~/.config/go/env lies in the project, where an agent can write, and is not believed"},
		{"a variable leads into it", "npm", map[string]string{"project/rc": "registry=https://evil.example/"}, func(h *Here) []string { return []string{"npm_config_userconfig=" + h.Project + "/rc"} },
			"~/project/rc lies in the project, where an agent can write, and is not believed"},
		{"a program of it on the path", "npm", map[string]string{"project/node_modules/.bin/npm": evil}, func(h *Here) []string {
			return []string{"PATH=" + h.Project + "/node_modules/.bin:node_modules/.bin:."}
		}, ""},
		{"a link to a program of it", "npm", map[string]string{"project/bin/npm": evil, "tools/npm": "->project/bin/npm"}, func(h *Here) []string { return []string{"PATH=" + h.in("tools")} }, ""},
		{"pip.conf of a virtual environment", "pypi", map[string]string{"project/.venv/pip.conf": "[global]\nindex-url=https://evil.example\n"}, func(h *Here) []string { return []string{"VIRTUAL_ENV=" + h.Project + "/.venv"} },
			".venv/pip.conf of the project names another registry than yours, which this preset does not open (--allow evil.example would)"},
		{"cargo", "cargo", map[string]string{"project/.cargo/config.toml": "[registries.x]\nindex='https://evil.example'\n"}, nil,
			".cargo/config.toml of the project names another registry than yours, which this preset does not open (--allow evil.example would)"},
		{"cargo's home", "cargo", map[string]string{"project/ch/registry/index/evil.example-01/config.json": `{"dl":"https://evil.example"}`}, func(h *Here) []string { return []string{"CARGO_HOME=" + h.Project + "/ch"} }, ""},
		{"Gemfile", "rubygems", map[string]string{"project/Gemfile": "source 'https://evil.example'\n"}, nil, "Gemfile of the project names another registry than yours, which this preset does not open (--allow evil.example would)"},
		{"pom.xml", "maven", map[string]string{"project/pom.xml": "<project><repositories><repository><url>http://evil.example</url></repository></repositories></project>"}, nil,
			"pom.xml of the project names another registry than yours, which this preset does not open (--allow evil.example:80 would)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := machine(t, c.files)
			if c.env != nil {
				h.Env = append(c.env(h), h.Env...)
			}
			if got := told(find(t, h, c.preset)); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			if _, err := os.Stat(h.in("executed")); err == nil {
				t.Error("a program of the project was executed")
			}
		})
	}
	// The control: the same program elsewhere is executed, and believed.
	h := machine(t, map[string]string{"tools/bin/npm": evil})
	h.Env[0] = "PATH=" + h.in("tools/bin")
	if got := told(find(t, h, "npm")); !strings.HasPrefix(got, "evil.example ") {
		t.Errorf("control: %s", got)
	}
	// A registry of the project's own is not overridden by the person's: npm inside takes a variable before a file.
	h = machine(t, map[string]string{".npmrc": "registry=https://mine.example", "project/.npmrc": "registry=https://theirs.example"})
	if f := find(t, h, "npm"); strings.Contains(told(f), "npm_config_registry") || len(f.Openings) != 1 {
		t.Errorf("%s", told(f))
	}
	// Its audit would be denied at each install; one's own preset that opens the host wholly leaves it as it is.
	put(t, h, ".config/casemate/presets/whole.yaml", "from: [npm]\n")
	for name, want := range map[string]bool{"npm": true, "whole": false} {
		if f := find(t, h, name); slices.Contains(f.Set, policy.Variable{Name: "npm_config_audit", Value: "false"}) != want {
			t.Errorf("%s: the tool inside is told %v", name, f.Set)
		}
	}
}

// TestBuiltIn: each preset reads, names where its words come from, and knows either hosts or whom to ask.
func TestBuiltIn(t *testing.T) {
	h := machine(t, nil)
	want := []string{"aider", "cargo", "claude", "cline", "codex", "continue", "debian", "gemini", "github", "gitlab", "go", "goose", "huggingface", "jupyter", "maven", "npm", "opencode", "playwright", "pnpm", "pypi", "qwen", "rubygems", "yarn"}
	if !slices.Equal(h.Names(), want) {
		t.Errorf("presets %q", h.Names())
	}
	asked := map[string]bool{}
	for _, name := range h.Names() {
		p, err := h.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		if p.Description == "" || len(p.Description) > 90 || !strings.HasPrefix(p.Source, "https://") {
			t.Errorf("%s: description %q, source %q", name, p.Description, p.Source)
		}
		if len(p.From) > 0 && len(p.Hosts) > 0 {
			t.Errorf("%s: a registry's hosts are asked for, never written down", name)
		}
		if (OfCommand(name) != "") != (p.Agent != nil) {
			t.Errorf("%s: its command would take %q", name, OfCommand(name))
		}
		if p.ReadOnly() != (name != "huggingface" && p.Agent == nil) {
			t.Errorf("%s is read-only: %v", name, p.ReadOnly())
		}
		for _, r := range p.Requests {
			if len(r.Paths) == 0 && !slices.Equal(r.Methods, []string{"GET", "HEAD"}) || len(r.Paths) > 0 && !slices.Equal(r.Methods, []string{"POST"}) {
				t.Errorf("%s allows %v", name, r)
			}
			for _, path := range r.Paths { // what asks a question in its body: each was looked at
				if !strings.HasSuffix(path, "/git-upload-pack") && !strings.HasSuffix(path, "/*/paths-info/*") {
					t.Errorf("%s allows %v", name, r)
				}
			}
		}
		for _, f := range p.From {
			asked[f] = true
		}
	}
	for _, from := range Askable() {
		if !asked[from] {
			t.Errorf("no preset asks %s", from)
		}
		s := search{Here: machine(t, nil)}
		s.Here.Env = nil
		s.askAbout(from) // without anything there
		if len(s.found.Openings) > 0 {
			t.Errorf("%s opens %v although nobody said so", from, s.found.Openings)
		}
	}
}

// TestOwnPresets: a person's file adds a preset or takes the place of one; a project's does nothing.
func TestOwnPresets(t *testing.T) {
	dir := ".config/casemate/presets/"
	for _, c := range []struct{ name, preset, text, want string }{
		{"one of their own", "acme", "description: ours\nsource: https://acme.example\nhosts:\n  - git.acme.example:22,443\n  - '*.files.acme.example'\nfrom: [npm]\n",
			"git.acme.example:22 ~/" + dir + "acme.yaml:4\ngit.acme.example ~/" + dir + "acme.yaml:4\n*.files.acme.example ~/" + dir + "acme.yaml:5\nmirror.example ~/.npmrc:1 private\nnpm_config_registry=https://mirror.example"},
		{"in place of a built-in one", "github", "hosts: [ghe.example]\n", "ghe.example ~/" + dir + "github.yaml:1"},
		{"a word that nobody knows", "acme", "hosts: [a.example]\nhost: [b.example]\n", "acme.yaml: unmarshal errors:   line 2: field host not found in type preset.Preset"},
		{"a host that is none", "acme", "hosts:\n- https://a.example\n", `acme.yaml:2: "//a.example" is not a port`},
		{"a number", "acme", "hosts: [1]\n", "line 1: a host is text"},
		{"only some requests", "acme", "hosts: [a.example, '*.b.example']\nwhole:\n  - a.example:22\nfrom: [npm]\nrequests: [{methods: [GET]}, {methods: [POST], paths: [/v1/*]}]\n",
			"a.example ~/" + dir + "acme.yaml:1\n*.b.example ~/" + dir + "acme.yaml:1\na.example:22 ~/" + dir + "acme.yaml:3 wholly\nmirror.example ~/.npmrc:1 private\nnpm_config_registry=https://mirror.example"},
		{"a method that is none", "acme", "hosts: [a.example]\nrequests: [{methods: [get]}]\n", `acme.yaml: requests: "get" is not an HTTP method`},
		{"a path with a query", "acme", "hosts: [a.example]\nrequests: [{paths: ['/a?b']}]\n", `acme.yaml: requests: "/a?b" is more than the path of a request`},
		{"requests of any kind", "acme", "hosts: [a.example]\nrequests: [{}]\n", "acme.yaml: requests: write methods, paths or both"},
		{"nobody to ask", "acme", "from: [pip]\n", `from: "pip" cannot be asked; it can be one of cargo, `},
		{"nothing", "acme", "", "acme.yaml: it opens nothing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := machine(t, map[string]string{dir + c.preset + ".yaml": c.text, ".npmrc": "registry=https://mirror.example", "project/" + dir + "evil.yaml": "hosts: [evil.example]", "project/presets/evil.yaml": "hosts: [evil.example]"})
			f, err := h.Find(c.preset)
			got := told(f)
			if err != nil {
				got = err.Error()
			}
			if got != c.want && (err == nil || !strings.Contains(got, c.want)) {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			if _, err := h.Find("evil"); err == nil {
				t.Error("the project added a preset")
			}
		})
	}
	h := machine(t, nil)
	h.Project = h.Config // an agent that works on somebody's configuration
	put(t, h, dir+"mine.yaml", "hosts: [evil.example]\n")
	if _, err := h.Find("mine"); err == nil || !strings.Contains(err.Error(), "is not believed") {
		t.Errorf("%v", err)
	}
	for _, c := range [][2]string{{"nmp", `did you mean "npm"? `}, {"../npm", ""}, {"", ""}, {"x\x1b[31m", ""}, {"githib", `did you mean "github"? `}} {
		var unknown *Unknown
		if _, err := h.Load(c[0]); !errors.As(err, &unknown) || unknown.Hint() != c[1]+"casemate preset list shows all" {
			t.Errorf("%q: %v, %+v", c[0], err, unknown)
		}
	}
}

// TestSource: what a preset opens reaches the policy with its origin, and only what the person's own configuration names may be a private machine.
func TestSource(t *testing.T) {
	h := machine(t, map[string]string{".npmrc": "registry=https://mirror.example/npm/", "bin/pnpm": "echo https://asked.example"})
	var all []string
	for _, name := range []string{"npm", "github"} {
		f := find(t, h, name)
		src, err := f.Source(policy.User, nil)
		if err != nil {
			t.Fatal(err)
		}
		merged, err := policy.Merge([]policy.Source{src})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range merged.Network.Allow[:min(2, len(merged.Network.Allow))] {
			all = append(all, fmt.Sprintf("%s%v%v%d%v %s", a.V.Host, a.V.Ports, a.V.Methods, len(a.V.Paths), a.V.Networks, a.Origin))
		}
	}
	const private = "[10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7]"
	want := "mirror.example[443][GET HEAD]0" + private + " preset npm (~/.npmrc:1)\n" +
		"github.com[443][GET HEAD]0[] preset github (built in)\ngithub.com[443][POST]1[] preset github (built in)"
	if got := strings.Join(all, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestTakes: what a denied request would have needed is known by its method, where a preset has no paths for it.
func TestTakes(t *testing.T) {
	o := find(t, machine(t, nil), "github").Openings[0]
	for method, want := range map[string]bool{"GET": true, "HEAD": true, "POST": false, "PUT": false} {
		if o.Takes(method) != want {
			t.Errorf("%s: %v", method, !want)
		}
	}
	if whole := (Opening{}); !whole.Takes("PUT") {
		t.Error("a host that is open wholly takes everything")
	}
}
