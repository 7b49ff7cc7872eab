package guest

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const gitUser = `
[user]
	name = "A \"quoted\" Name" ; comment
	email = a@example.com # comment
	signingkey = KEY
[commit]
	gpgsign = true
	verbose
[gpg]
	program = /bin/evil
[credential]
	helper = store
[credential "https://example.com"]
	username = u
	helper = "!evil"
[core]
	pager = less
	editor = vim
	hooksPath = ~/hooks
	fsmonitor = /bin/evil
	sshCommand = evil
	autocrlf = input
	attributesFile = ~/a
[url "git@example.com:"]
	insteadOf = https://example.com/
[diff]
	external = evil
	algorithm = histogram
[diff "pdf"]
	textconv = evil
[filter "lfs"]
	clean = evil
[merge]
	conflictStyle = zdiff3
	tool = evil
[alias]
	st = status -sb
	x = "!evil"
	lg = log --graph \
  --oneline
[color "branch"]
	current = yellow reverse
[pull]
	rebase = true
[init]
	defaultBranch = trunk
	templateDir = ~/t
[http]
	proxy = http://u:p@proxy
	extraHeader = secret
[pretty]
	mine = %h %s
`

func TestGitConfig(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		want  map[string]string // by `git config --get`; "" must be absent
	}{
		{"what is harmless", map[string]string{"home/.gitconfig": gitUser}, map[string]string{
			"user.name": `A "quoted" Name`, "user.email": "a@example.com", "core.autocrlf": "input", "diff.algorithm": "histogram", "merge.conflictstyle": "zdiff3", "alias.st": "status -sb",
			"alias.lg": "log --graph   --oneline", "color.branch.current": "yellow reverse", "pull.rebase": "true", "init.defaultbranch": "trunk", "pretty.mine": "%h %s", "commit.verbose": "true",
			"gc.auto": "0", "safe.directory": "/the/project",
			"user.signingkey": "", "commit.gpgsign": "", "gpg.program": "", "core.pager": "", "core.editor": "", "core.hookspath": "", "core.fsmonitor": "", "core.sshcommand": "",
			"core.attributesfile": "", "url.git@example.com:.insteadof": "", "diff.external": "", "diff.pdf.textconv": "", "filter.lfs.clean": "", "merge.tool": "", "alias.x": "",
			"init.templatedir": "", "http.proxy": "", "http.extraheader": "", "credential.https://example.com.helper": "", "credential.https://example.com.username": "",
		}},
		{"the home's file wins over the configuration directory's", map[string]string{
			"home/.config/git/config": "[user]\nname=first\nemail=e\n", "home/.gitconfig": "[user]\nname=second\n",
		}, map[string]string{"user.name": "second", "user.email": "e"}},
		{"includes", map[string]string{
			"home/.gitconfig": "[include]\npath=~/more\n[include]\npath = sub/rel\n", "home/more": "[user]\nname=N\n", "home/sub/rel": "[user]\nemail=E\n[include]\npath=again\n", "home/sub/again": "[pull]\nff=only\n",
		}, map[string]string{"user.name": "N", "user.email": "E", "pull.ff": "only"}},
		{"the project's identity by its directory", map[string]string{
			"home/.gitconfig": "[user]\nemail=home\n[includeIf \"gitdir:~/work/\"]\npath=~/w\n[includeIf \"gitdir:~/private/\"]\npath=~/p\n[includeIf \"gitdir/i:**/PROJECT/.git\"]\npath=i\n[includeIf \"onbranch:main\"]\npath=p\n",
			"home/w":          "[user]\nemail=work\n", "home/p": "[user]\nemail=private\n", "home/i": "[pull]\nff=only\n",
		}, map[string]string{"user.email": "work", "pull.ff": "only"}},
		{"an include that leads out of the home", map[string]string{
			"home/.gitconfig": "[include]\npath={}/outside\n[include]\npath=~/link\n[include]\npath=../outside\n[user]\nemail=e\n", "outside": "[user]\nname=OUT\n", "home/link": "->{}/outside",
		}, map[string]string{"user.name": "", "user.email": "e"}},
		{"an include of the project's", map[string]string{
			"home/.gitconfig": "[include]\npath=~/work/project/.gitconfig\n[user]\nemail=e\n", "home/work/project/.gitconfig": "[user]\nname=PROJECT\n",
		}, map[string]string{"user.name": "", "user.email": "e"}},
		{"includes that go in a circle", map[string]string{
			"home/.gitconfig": "[user]\nname=N\n[include]\npath=b\n", "home/b": "[include]\npath=.gitconfig\n[user]\nemail=E\n",
		}, map[string]string{"user.name": "N", "user.email": "E"}},
		{"what everybody can write", map[string]string{"home/.gitconfig": "!666 [user]\nname=N\n"}, map[string]string{"user.name": "", "gc.auto": "0"}},
		{"a FIFO", map[string]string{"home/.gitconfig": "fifo"}, map[string]string{"user.name": "", "gc.auto": "0"}},
		{"a directory", map[string]string{"home/.gitconfig/": ""}, map[string]string{"user.name": "", "gc.auto": "0"}},
		{"nothing", nil, map[string]string{"user.name": "", "gc.auto": "0"}},
		{"up to an error", map[string]string{"home/.gitconfig": "[user]\nname=N\n[broken\nemail=E\n"}, map[string]string{"user.name": "N", "user.email": ""}},
		{"addresses are left out whatever the key", map[string]string{"home/.gitconfig": "[alias]\nx = clone https://u:p@example.com\n"}, map[string]string{"alias.x": ""}},
		{"dotfiles kept elsewhere", map[string]string{"home/.gitconfig": "->dot/gitconfig", "home/dot/gitconfig": "[user]\nname=N\n"}, map[string]string{"user.name": "N"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := tree(t, c.files)
			home := filepath.Join(dir, "home")
			out := GitConfig(GitOptions{Home: home, Project: home + "/work/project", Safe: []string{"/the/project"}})
			if strings.Contains(string(out), "evil") {
				t.Errorf("a program's name came through:\n%s", out)
			}
			file := filepath.Join(dir, "out")
			if err := os.WriteFile(file, out, 0o644); err != nil {
				t.Fatal(err)
			}
			for key, want := range c.want {
				got, err := git(t, "config", "--file", file, "--get", key)
				if got != want || (err == nil) != (want != "") {
					t.Errorf("%s = %q (%v), want %q\n%s", key, got, err, want, out)
				}
			}
		})
	}
}

func git(t *testing.T, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Fatal("git is missing: test/setup.sh installs it")
	}
	cmd := exec.Command("git", args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nowhere", "GIT_CONFIG_NOSYSTEM=1"}
	out, err := cmd.Output()
	return strings.TrimSuffix(string(out), "\n"), err
}

// Git itself is the oracle of the parser.
func TestParseAgreesWithGit(t *testing.T) {
	for _, c := range []struct{ name, text string }{
		{"the user's", gitUser},
		{"odd spacing", "[a]x=1\n[ b]\n"},
		{"several on a line", "[a] x = 1\n[b] y = 2\n"},
		{"old subsections", "[A.Sub.More]\nK = V\n"},
		{"quoted subsections", "[A \"S\\\"u\\\\b\"]\nk = v\n"},
		{"no value", "[a]\nk\nl ; comment\nm # c\n"},
		{"empty value", "[a]\nk =\nl = \"\"\n"},
		{"quotes in the middle", "[a]\nk = x\" y  \"z  w ; c\n"},
		{"trailing blanks", "[a]\nk = x y \t \n"},
		{"quoted trailing blanks", "[a]\nk = \"x \"\n"},
		{"escapes", "[a]\nk = a\\tb\\nc\\\\d\\\"e\n"},
		{"joined lines", "[a]\nk = a\\\nb\\\n  c\n"},
		{"comment signs in quotes", "[a]\nk = \"#;\"\n"},
		{"Windows' line ends", "[a]\r\nk = v\r\nl = w\r\n"},
		{"byte order mark", "\xef\xbb\xbf[a]\nk = v\n"},
		{"no line end", "[a]\nk = v"},
		{"comments only", "# x\n; y\n"},
		{"empty", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "config")
			if err := os.WriteFile(file, []byte(c.text), 0o644); err != nil {
				t.Fatal(err)
			}
			out, err := git(t, "config", "--file", file, "--list", "-z")
			if err != nil {
				return // broken for git; ours takes what comes before the error
			}
			var want []string
			for _, kv := range strings.Split(strings.TrimSuffix(out, "\x00"), "\x00") {
				if kv != "" {
					k, v, has := strings.Cut(kv, "\n")
					if !has {
						v = "true"
					}
					want = append(want, k+"="+v)
				}
			}
			if got := parsed([]byte(c.text)); !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

func parsed(data []byte) []string {
	var out []string
	parseGitConfig(data, func(e gitEntry) {
		name := e.section + "." + e.key
		if e.sub != "" {
			name = e.section + "." + e.sub + "." + e.key
		}
		out = append(out, name+"="+e.value)
	})
	return out
}

// Whatever the user's file says, what we write parses, and holds nothing but what is allowed and what we add.
func FuzzGitConfig(f *testing.F) {
	f.Add([]byte(gitUser))
	f.Add([]byte("[color \"a\\\"]\\n[core]\"]\nx = \"y\\\nz\"\n"))
	f.Add([]byte("[alias]\nx = a\\n[core]\\npager=evil\n"))
	f.Add([]byte("[user]\nname = \"\\b\x01\x7f\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := gitReader{o: GitOptions{Safe: []string{"/p"}}}
		parseGitConfig(data, func(e gitEntry) {
			if gitAllowed(e) {
				r.add(e)
			}
		})
		var back []gitEntry
		parseGitConfig(r.write(), func(e gitEntry) { back = append(back, e) })
		if len(back) != len(r.entries)+4 {
			t.Fatalf("wrote %q, read back %q", r.entries, back)
		}
		for i, e := range r.entries {
			if back[i] != e {
				t.Fatalf("wrote %q, read back %q", e, back[i])
			}
		}
	})
}

func FuzzMatchDirs(f *testing.F) {
	f.Add("/home/u/**/x*/**", "/home/u/a/b/xy/.git")
	f.Add("**/**/**/**/a", "/a/a/a/a/a/a/a/b")
	f.Fuzz(func(t *testing.T, pattern, place string) {
		matchDirs(strings.Split(pattern, "/"), strings.Split(place, "/"), 1000) // ends, and soon
	})
}

// TestGitLogin: git itself takes the variable as its password, at that address and at no other, and the name that the address has before ours.
func TestGitLogin(t *testing.T) {
	file := filepath.Join(t.TempDir(), "system")
	out := GitConfig(GitOptions{Logins: []GitLogin{{"https://git.example", "TOKEN"}, {"https://*.wide.example:8443", "TOKEN"}, {"https://part.example/me", "TOKEN"}, {"https://empty.example", "EMPTY"}}})
	if err := os.WriteFile(file, out, 0o644); err != nil {
		t.Fatal(err)
	}
	const value = `it's "a" $(value) \n`
	for _, c := range []struct{ asked, user, password string }{
		{"protocol=https\nhost=git.example\npath=a/b.git\n", gitName, value},
		{"protocol=https\nhost=git.example\nusername=me\n", "me", value},
		{"protocol=https\nhost=deep.wide.example:8443\n", gitName, value},
		{"protocol=https\nhost=part.example\npath=me/repo.git\n", gitName, value},
		{"protocol=https\nhost=part.example\npath=you/repo.git\n", "", ""},
		{"protocol=http\nhost=git.example\n", "", ""},
		{"protocol=https\nhost=git.example:8443\n", "", ""},
		{"protocol=https\nhost=git.example.evil.example\n", "", ""},
		{"protocol=https\nhost=empty.example\n", "", ""},
	} {
		cmd := exec.Command("git", "credential", "fill")
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nowhere", "GIT_CONFIG_SYSTEM=" + file, "GIT_TERMINAL_PROMPT=0", "TOKEN=" + value, "EMPTY="}
		cmd.Stdin = strings.NewReader(c.asked)
		got, _ := cmd.Output()
		if (c.password == "") != (len(got) == 0) || c.password != "" && !strings.HasSuffix(string(got), "username="+c.user+"\npassword="+c.password+"\n") {
			t.Errorf("%q: %q", c.asked, got)
		}
	}
}
