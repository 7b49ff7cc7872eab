package guest

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestCommand(t *testing.T) {
	for _, c := range []struct {
		name    string
		files   map[string]string
		path    string
		command string
		env     map[string]string
		found   string // path to execute
		shows   string // besides the view
		status  int
		why     string
	}{
		{name: "of the distribution", path: "/usr/bin:/bin", command: "env", found: "/usr/bin/env"},
		{name: "absolute", command: "/bin/sh", found: "/bin/sh"},
		{name: "nowhere", path: "/usr/bin", command: "no-such-program", status: 127, why: "not found in PATH"},
		{name: "empty name", path: "/usr/bin", command: "", status: 127, why: "not found"},
		{name: "no such file", command: "/nowhere/x", status: 127, why: "no such file"},
		{name: "a file as a directory", command: "/bin/sh/x", status: 127, why: "no such file"},
		{name: "a directory", command: "/usr", status: 126, why: "is a directory"},
		{name: "not executable", files: map[string]string{"code/project/x": "text"}, command: "./x", status: 126, why: "may not be executed"},
		{name: "not executable on PATH, and no other", files: map[string]string{"bin/x": "text"}, path: "~/bin:/usr/bin", command: "x", status: 126, why: "may not be executed"},
		{name: "not executable on PATH, but another is", files: map[string]string{"bin/env": "text"}, path: "~/bin:/usr/bin", command: "env", found: "/usr/bin/env"},
		{name: "a directory of that name on PATH is passed over", files: map[string]string{"bin/env/": ""}, path: "~/bin:/usr/bin", command: "env", found: "/usr/bin/env"},
		{name: "a device", command: "/dev/null", status: 126, why: "may not be executed"},
		{name: "relative directories of PATH are not searched", files: map[string]string{"code/project/env": script}, path: ".:/usr/bin", command: "env", found: "/usr/bin/env"},
		{name: "in the project", files: map[string]string{"code/project/run.sh": script}, command: "./run.sh", found: "~/code/project/run.sh"},
		{name: "on PATH, and so in the view", files: map[string]string{"bin/x": script}, path: "~/bin", command: "x", found: "~/bin/x"},

		{name: "its own installation", files: map[string]string{"apps/foo/bin/foo": elf, "apps/foo/lib/": "", "apps/key": secret}, command: "~/apps/foo/bin/foo", found: "~/apps/foo/bin/foo", shows: "~/apps/foo"},
		{name: "a single file of the user's", files: map[string]string{"foo.sh": script, "notes": secret}, command: "~/foo.sh", found: "~/foo.sh", shows: "~/foo.sh"},
		{name: "a script of another project", files: map[string]string{"work/other/x.sh": script}, command: "~/work/other/x.sh", found: "~/work/other/x.sh", shows: "~/work/other/x.sh"},
		{name: "a global npm package", files: map[string]string{"n/bin/tsc": "->../lib/node_modules/typescript/bin/tsc", "n/lib/node_modules/typescript/bin/tsc": "#!/usr/bin/env node\n"},
			command: "~/n/bin/tsc", found: "~/n/bin/tsc", shows: "~/n", path: "/usr/bin"},
		{name: "a local npm package in a hidden directory with credentials", files: map[string]string{".claude/local/node_modules/.bin/claude": "->../c/cli.js", ".claude/local/node_modules/c/cli.js": script},
			command: "~/.claude/local/node_modules/.bin/claude", found: "~/.claude/local/node_modules/.bin/claude", shows: "~/.claude/local/node_modules"},
		{name: "a tool of a version manager that is not on PATH", files: map[string]string{".pyenv/versions/3.12/bin/python": elf}, command: "~/.pyenv/versions/3.12/bin/python", found: "~/.pyenv/versions/3.12/bin/python", shows: "~/.pyenv"},
		{name: "a script's interpreter", files: map[string]string{"x.py": "#!{}/envs/e/bin/python\n", "envs/e/pyvenv.cfg": "home = /usr/bin\n", "envs/e/bin/python": "->/usr/bin/env"}, command: "~/x.py", found: "~/x.py", shows: "~/envs/e ~/x.py"},
		{name: "a script's interpreter through env", files: map[string]string{"x.rb": "#!/usr/bin/env -S ruby\n", ".rbenv/versions/3/bin/ruby": elf}, path: "~/.rbenv/versions/3/bin", command: "~/x.rb", found: "~/x.rb", shows: "~/x.rb"},

		{name: "the project's link to a known tool chain", files: map[string]string{"code/project/.venv/bin/python": "->{}/.pyenv/versions/3.12/bin/python", ".pyenv/versions/3.12/bin/python": elf}, command: "./.venv/bin/python", found: "~/code/project/.venv/bin/python", shows: "~/.pyenv"},
		{name: "the project's link to something of the user's", files: map[string]string{"code/project/x": "->{}/scripts/private.sh", "scripts/private.sh": script + secret}, command: "./x", status: 126, why: "a project cannot make anything of the host visible"},
		{name: "the project's interpreter of the user's", files: map[string]string{"code/project/x": "#!{}/scripts/private.sh\n", "scripts/private.sh": script + secret}, command: "./x", found: "~/code/project/x"},
		{name: "a link into the project, where a link leads out", files: map[string]string{"x": "->code/project/x", "code/project/x": "->../../scripts/private.sh", "scripts/private.sh": script + secret}, command: "~/x", status: 126, why: "a project cannot make anything of the host visible"},
		{name: "a link into the project", files: map[string]string{"bin/x": "->../code/project/x", "code/project/x": script}, path: "~/bin", command: "x", found: "~/bin/x"},
		{name: "what another user can write is shown as a file only if it is safe itself", files: map[string]string{"open/": "!777 ", "open/x": script}, command: "~/open/x", status: 126, why: "can be written by every user"},
		{name: "never a credential", files: map[string]string{".ssh/x": script}, command: "~/.ssh/x", status: 126, why: "holds credentials"},
		{name: "never the state", files: map[string]string{".local/state/casemate/x": script}, command: "~/.local/state/casemate/x", status: 126, why: "casemate's own state"},
		{name: "up from where a link leads", files: map[string]string{"a/b/": "", "l": "->a/b", "a/x": script, "x": "text"}, command: "~/l/../x", found: "~/a/x", shows: "~/a/x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			home := fakeHome(t, c.files)
			o := options(home, c.path, c.env)
			v, _ := lookNow(o)
			got, err := v.Command(strings.ReplaceAll(c.command, "~", home), o.Project, o)
			if c.status != 0 {
				var ce *CommandError
				if !errors.As(err, &ce) || ce.Status != c.status || !strings.Contains(ce.Why, c.why) {
					t.Fatalf("%+v, %v", got, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if short := strings.ReplaceAll(got.Path, home, "~"); short != c.found {
				t.Errorf("found %s, want %s", short, c.found)
			}
			var shows []string
			for _, tool := range got.Tools {
				for _, p := range tool.Places {
					shows = append(shows, strings.ReplaceAll(p.Target, home, "~"))
					checkPlace(t, p, o)
				}
			}
			slices.Sort(shows)
			if s := strings.Join(shows, " "); s != c.shows {
				t.Errorf("shows %s, want %s", s, c.shows)
			}
		})
	}
}

// What is executed outside with the host's PATH is what is found: the same file as a shell's `command -v`.
func TestCommandAgreesWithTheShell(t *testing.T) {
	home := fakeHome(t, map[string]string{"a/tool": "text", "b/tool": script, "c/tool": script})
	o := options(home, "~/a:~/b:~/c:/usr/bin:/bin", nil)
	v, _ := lookNow(o)
	for _, name := range []string{"tool", "sh", "ls"} {
		p, err := os.StartProcess("/bin/sh", []string{"sh", "-c", "command -v " + name + " > " + home + "/out"}, &os.ProcAttr{Env: []string{"PATH=" + o.Env("PATH")}, Dir: home})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Wait(); err != nil {
			t.Fatal(err)
		}
		want := strings.TrimSpace(content(filepath.Join(home, "out")))
		if got, err := v.Command(name, home, o); err != nil || got.Path != want {
			t.Errorf("%s: %q, %v; the shell finds %q", name, got.Path, err, want)
		}
	}
}

func FuzzShebang(f *testing.F) {
	f.Add([]byte("#!/usr/bin/env -S A=1 python3 -u\n"))
	f.Add([]byte("#! \n"))
	f.Add([]byte("#!/usr/bin/env"))
	f.Fuzz(func(t *testing.T, b []byte) {
		words := shebang(b)
		if len(words) > 2 {
			t.Errorf("%q", words)
		}
		for _, w := range words {
			if w == "" || strings.ContainsAny(w, " \n") {
				t.Errorf("%q", words)
			}
		}
	})
}
