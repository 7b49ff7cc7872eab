package test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"casemate.dev/internal/engine/enginetest"
)

// eachMode runs the test in every mode that can be had here.
func eachMode(t *testing.T, test func(t *testing.T, s *site)) {
	for _, m := range modes() {
		t.Run(m.name, func(t *testing.T) { test(t, newSite(t, m)) })
	}
}

// namespaced runs it in the modes with namespaces.
func namespaced(t *testing.T, test func(t *testing.T, s *site)) {
	for _, m := range modes() {
		if m.name != "landlock" {
			t.Run(m.name, func(t *testing.T) { test(t, newSite(t, m)) })
		}
	}
}

// appearing is what a host may create while a sandbox runs, and a line that reads it inside.
type appearing struct {
	name  string
	exact bool // a name that is masked in every directory that exists at the start: no window
}

// TestF06HiddenFileAppears creates hidden files on the host while the sandbox runs. (A live workspace promises nothing here.)
func TestF06HiddenFileAppears(t *testing.T) {
	const secret = "casemate-test-appeared"
	namespaced(t, func(t *testing.T, s *site) {
		k := s.talk()
		k.ask("touch kept")
		for _, f := range []appearing{{"src/.env", true}, {"src/new.pem", false}, {"src/.env.staging", false}, {"made/.env", false}, {"made/deep/er/id_rsa", false}} {
			hasNot(t, "before", k.ask("cat "+f.name), secret)
			s.put(f.name, secret+"\n", 0o644)
			if f.exact {
				hasNot(t, f.name+" at once", k.ask("cat "+f.name), secret)
				continue
			}
			look := "cat " + f.name + "; grep -r " + secret + " ." // what was absent just now may be so to the first look, before anybody hid it: the mask tells
			took := eventually(t, patience, f.name+" hidden by the watcher", func() bool { return s.masked(f.name) && !strings.Contains(k.ask(look), secret) })
			t.Logf("%s: hidden within %v", f.name, took)
			hasNot(t, f.name+" afterwards", k.ask(look), secret)
		}
		said := k.end()
		has(t, "the events", s.events(t), `"hidden"`)
		hasNot(t, "what casemate said", said, secret)
	})
}

// masked reports whether the project's mask hides the name by now.
func (s *site) masked(name string) bool {
	return len(glob(filepath.Join(s.State, "casemate/projects/*/mask/*/tree", name))) > 0
}

// promised skips the test where the plan says that the guarantee is absent.
func (s *site) promised(t *testing.T, name string, flags ...string) {
	t.Helper()
	for _, g := range s.plan(flags...).Guarantees {
		if g.Name == name && g.State != "absent" {
			return
		}
		if g.Name == name {
			t.Skipf("the plan does not promise %s here: %s", name, g.By)
		}
	}
	t.Errorf("the plan does not list %s", name)
}

// events are all that the sandboxes of the site recorded.
func (s *site) events(t *testing.T) string {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(s.State, "casemate", "events.jsonl"))
	var all []byte
	for _, path := range found {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		}
		all = append(all, b...)
	}
	return string(all)
}

// TestF07HiddenFileIsReplaced replaces hidden files on the host as editors do: a new file, renamed over the old one.
func TestF07HiddenFileIsReplaced(t *testing.T) {
	const secret = "casemate-test-replaced"
	for _, workspace := range []string{"held", "live", "readonly"} {
		t.Run(workspace, func(t *testing.T) {
			eachMode(t, func(t *testing.T, s *site) {
				s.promised(t, "files.hide-new", "--workspace", workspace)
				k := s.talk("--workspace", workspace)
				for _, name := range []string{".env", "sub/dir/.env", "packages/a/.env", "deploy/server.pem"} {
					k.ask("cat " + name)
					s.put(name+".tmp", secret+"\n", 0o644)
					if err := os.Rename(filepath.Join(s.Work, name+".tmp"), filepath.Join(s.Work, name)); err != nil {
						t.Fatal(err)
					}
					hasNot(t, name, k.ask("cat "+name), secret)
					s.put(name, secret+" in place\n", 0o644)
					hasNot(t, name, k.ask("cat "+name+"; ls -la "+name), secret)
					if err := os.Remove(filepath.Join(s.Work, name)); err != nil {
						t.Fatal(err)
					}
					s.put(name, secret+" anew\n", 0o644)
					hasNot(t, name, k.ask("cat "+name), secret)
				}
				hasNot(t, "everything", k.ask("grep -rs "+secret+" . ; find . -name '.env*' -exec cat {} +"), secret)
				k.end()
			})
		})
	}
}

// TestF09RenameGit renames the project's own .git and rebuilds it with a hook, and git on the host runs nothing of it.
func TestF09RenameGit(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		out := s.sh(`mv .git .g && mkdir -p .git/hooks && printf '#!/bin/sh\ntouch ` + s.Dir + `/pwned\n' >.git/hooks/post-checkout && chmod +x .git/hooks/post-checkout; ls .git`)
		t.Log(out)
		s.unchanged(t)
	})
}

// unchanged fails the test when anything of the host but casemate's own state is not as it was.
func (s *site) unchanged(t *testing.T) {
	t.Helper()
	if changed := s.Changed(); len(changed) > 0 {
		t.Errorf("the host's files changed: %q", changed)
	}
}

// git runs git in the project, on the host, as its owner would.
func (s *site) git(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "safe.directory=*"}, args...)...)
	cmd.Dir = s.Work
	cmd.Env = []string{"HOME=" + s.Home, "PATH=" + os.Getenv("PATH"), "GIT_CONFIG_NOSYSTEM=1", "GIT_OPTIONAL_LOCKS=0"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("git %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// TestF12GitConfig sets what git executes. The host's git runs nothing of it, neither after the run nor after the changes were applied.
func TestF12GitConfig(t *testing.T) {
	needs(t, "git")
	poison := func(pwned string) string {
		return `git config core.fsmonitor 'touch ` + pwned + `; false'; git config core.hooksPath .evil; git config filter.x.clean 'touch ` + pwned + `'; echo '* filter=x' >.gitattributes;
mkdir -p .evil; printf '#!/bin/sh\ntouch ` + pwned + `\n' >.evil/post-index-change; chmod +x .evil/post-index-change; printf '#!/bin/sh\ntouch ` + pwned + `\n' >.git/hooks/post-index-change; chmod +x .git/hooks/post-index-change; echo changed >>README.md`
	}
	t.Run("control", func(t *testing.T) {
		s := newSite(t, best())
		pwned := filepath.Join(s.Dir, "pwned")
		shell(t, s.Work, poison(pwned))
		s.git(t, "status")
		if !exists(pwned) {
			t.Error("git status ran nothing outside either: the case proves nothing")
		}
	})
	for _, workspace := range []string{"held", "live"} {
		t.Run(workspace, func(t *testing.T) {
			eachMode(t, func(t *testing.T, s *site) {
				pwned := filepath.Join(s.Dir, "pwned")
				s.run("--workspace", workspace, "--", "sh", "-c", poison(pwned))
				s.git(t, "status")
				if exists(pwned) {
					t.Fatal("the host's git ran what the sandbox left")
				}
				t.Log(s.do("apply"))
				s.git(t, "status")
				s.git(t, "diff")
				if exists(pwned) {
					t.Error("after apply the host's git ran what the sandbox left")
				}
			})
		})
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// needs ends the test where a program is missing: well, where it is one that test/setup.sh leaves to who owns the machine.
func needs(t *testing.T, program string) {
	t.Helper()
	_, err := exec.LookPath(program)
	switch {
	case err == nil:
	case slices.Contains([]string{"apt-get", "dpkg-deb", "go", "java", "javac", "keytool", "node", "npm"}, program):
		t.Skipf("%s is not installed, and too large to be installed for tests: how it works inside is not shown here", program)
	default:
		t.Fatalf("%s is not installed: test/setup.sh does it", program)
	}
}

func shell(t *testing.T, dir, line string) string {
	t.Helper()
	cmd := exec.Command("sh", "-c", line)
	cmd.Dir = dir
	cmd.Env = []string{"HOME=/nonexistent", "PATH=" + os.Getenv("PATH"), "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Logf("%q: %v: %s", line, err, out)
	}
	return string(out)
}

// change is what the tests need of `casemate diff --json`.
type change struct {
	Path      string `json:"path"`
	Class     string `json:"class"`
	Protected string `json:"protected"`
	Refused   string `json:"refused"`
}

func (s *site) changes(t *testing.T) []change {
	t.Helper()
	out := s.do("diff", "--json")
	if strings.TrimSpace(out.stdout) == "[]" {
		return nil
	}
	var doc struct {
		Changes []change `json:"changes"`
	}
	if err := json.Unmarshal([]byte(out.stdout), &doc); err != nil {
		t.Fatalf("diff --json: %v\n%v", err, out)
	}
	return doc.Changes
}

// flagged says whether a change at the path, below it, or of a directory above it, is kept from reaching the host unasked.
func flagged(list []change, path string) bool {
	return slices.ContainsFunc(list, func(c change) bool {
		related := c.Path == path || strings.HasPrefix(c.Path, path+"/") || strings.HasPrefix(path, c.Path+"/")
		return related && (c.Protected != "" || c.Refused != "")
	})
}

// TestF15NewRepository: a repository made inside, with settings and hooks that git would execute, is flagged, and does not come along.
func TestF15NewRepository(t *testing.T) {
	needs(t, "git")
	eachMode(t, func(t *testing.T, s *site) {
		s.sh(`for d in v deep/er; do mkdir -p $d/.git/objects $d/.git/refs $d/.git/hooks; echo 'ref: refs/heads/main' >$d/.git/HEAD; printf '[core]\n\tfsmonitor = touch /tmp/casemate-pwned\n' >$d/.git/config; echo x >$d/.git/hooks/pre-commit; done
mkdir -p plain/objects plain/refs plain/hooks && echo 'ref: refs/heads/main' >plain/HEAD && printf '[core]\n\tbare = true\n\tfsmonitor = touch /tmp/casemate-pwned\n' >plain/config && echo x >plain/hooks/post-checkout`)
		list := s.changes(t)
		for _, path := range []string{"v/.git/config", "deep/er/.git/hooks/pre-commit", "plain/config", "plain/hooks/post-checkout"} {
			if !flagged(list, path) {
				t.Errorf("%s is not flagged in %+v", path, list)
			}
		}
		t.Log(s.do("apply"))
		for _, path := range []string{"v/.git/config", "deep/er/.git/hooks/pre-commit", "plain/config", "plain/hooks/post-checkout"} {
			if exists(filepath.Join(s.Work, path)) {
				t.Errorf("%s reached the host without consent", path)
			}
		}
	})
}

// TestF16ExecutedFiles: what editors, agents and CI execute is flagged, and reaches the host by consent only.
func TestF16ExecutedFiles(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		var script strings.Builder
		for _, name := range enginetest.Executed() {
			script.WriteString("mkdir -p '" + filepath.Dir(name) + "'; echo x >>'" + name + "'\n")
		}
		out := s.sh(script.String())
		s.unchanged(t)
		list := s.changes(t)
		for _, name := range enginetest.Executed() {
			if !flagged(list, name) {
				t.Errorf("%s is not flagged\n%v", name, out)
			}
		}
		out = s.do("apply")
		for _, name := range enginetest.Executed() {
			if slices.Contains(s.Changed(), filepath.Join(s.Work, name)) {
				t.Errorf("%s reached the host without consent\n%v", name, out)
			}
		}
		s.do("apply", "--with-protected", "--yes")
		if !exists(filepath.Join(s.Work, ".envrc")) {
			t.Error("with consent .envrc did not arrive: the case proves nothing")
		}
	})
}

// TestF17NoStubs: a run leaves nothing in the project, not even where it protected paths that do not exist.
func TestF17NoStubs(t *testing.T) {
	needs(t, "git")
	for _, workspace := range []string{"held", "live", "readonly"} {
		t.Run(workspace, func(t *testing.T) {
			eachMode(t, func(t *testing.T, s *site) {
				before := s.git(t, "status", "--porcelain", "--ignored", "--untracked-files=all")
				s.Accept()
				out := s.run("--workspace", workspace, "--hide", "absent/", "--protect", "not/there.sh", "--", "true")
				if out.exit != 0 {
					t.Fatal(out)
				}
				s.unchanged(t)
				if after := s.git(t, "status", "--porcelain", "--ignored", "--untracked-files=all"); after != before {
					t.Errorf("git status was\n%s\nand is\n%s", before, after)
				}
			})
		})
	}
}

// TestF19SymlinkAtMount: a symlink in the project never becomes a mount source or target.
func TestF19SymlinkAtMount(t *testing.T) {
	for _, flags := range [][]string{{"--write", ".cache"}, {"--readonly", ".cache"}, {"--protect", ".cache/*"}, {"--hide", ".cache"}, {"--workspace", "live", "--readonly", ".cache"}} {
		t.Run(strings.Join(flags, "_"), func(t *testing.T) {
			eachMode(t, func(t *testing.T, s *site) {
				for _, name := range []string{".cache", ".vscode", "dir"} {
					if err := os.Symlink(filepath.Join(s.Home, ".ssh"), filepath.Join(s.Work, name)); err != nil {
						t.Fatal(err)
					}
					s.give(filepath.Join(s.Work, name))
				}
				s.Accept()
				out := s.run(append(flags, "--", "sh", "-c", `cat .cache/id_rsa .vscode/id_rsa dir/id_rsa; for d in .cache .vscode dir; do echo x >$d/evil; done; grep -c ssh /proc/self/mountinfo`)...)
				t.Log(out)
				for _, r := range s.Verify(nil, out.stdout+out.stderr) {
					t.Errorf("%s", r.Detail)
				}
			})
		})
	}
}

// TestF21LinksInTheLayer: nothing that goes through the layer's links, or the host's, is read or written when changes are applied.
func TestF21LinksInTheLayer(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		ssh := filepath.Join(s.Home, ".ssh")
		s.sh(`mkdir out; ln -s /etc/shadow out/report.txt; ln -s ` + ssh + `/id_rsa out/k; ln -s ` + ssh + ` out/dir; ln -s ../../home/.ssh out/rel; rm -rf src && ln -s ` + ssh + ` src; mkdir swapped; echo x >swapped/evil; ln -s /proc/self/environ out/env`)
		// Meanwhile the host replaced a directory by a link.
		if err := os.Symlink(ssh, filepath.Join(s.Work, "swapped")); err != nil {
			t.Fatal(err)
		}
		var said strings.Builder
		for _, args := range [][]string{{"diff"}, {"diff", "--json"}, {"apply", "--with-protected", "--yes", "--built"}, {"apply", "--overwrite", "swapped/evil"}} {
			out := s.do(args...)
			said.WriteString(out.stdout + out.stderr)
		}
		for _, path := range s.Changed() {
			if !strings.HasPrefix(path, s.Work+"/") && path != s.Work {
				t.Errorf("outside the project %s changed", path)
			}
		}
		for _, r := range s.Verify(nil, said.String()) {
			if strings.Contains(r.Detail, "output") {
				t.Errorf("%s", r.Detail)
			}
		}
		for _, name := range []string{"out/report.txt", "out/k", "out/env"} {
			if st, err := os.Lstat(filepath.Join(s.Work, name)); err == nil && st.Mode()&os.ModeSymlink == 0 {
				t.Errorf("%s arrived as %v, not as a link", name, st.Mode())
			}
		}
	})
}

// TestF32SubmountOfReadOnly: a mount below a directory that is shown read-only is read-only too.
func TestF32SubmountOfReadOnly(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("making a mount for the sandbox to see needs root")
	}
	eachMode(t, func(t *testing.T, s *site) {
		ro := filepath.Join(s.Dir, "ro")
		if err := os.MkdirAll(filepath.Join(ro, "sub"), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(ro, 0o777); err != nil {
			t.Fatal(err)
		}
		s.Accept()
		inMount := func(line string) output {
			cmd := s.command()
			*cmd = *exec.Command("unshare", "-m", "sh", "-c", `mount -t tmpfs -o mode=777 t `+ro+`/sub && `+line)
			cmd.Dir, cmd.Env = s.Work, s.environ()
			return s.finish(cmd)
		}
		try := `sh -c 'touch ` + ro + `/sub/x && echo WRITTEN'`
		has(t, "control", inMount(try).stdout, "WRITTEN")
		out := inMount(casemate + ` run --read ` + ro + ` -- ` + try)
		hasNot(t, "inside", out.stdout, "WRITTEN")
		has(t, "inside", out.stdout+out.stderr, "Read-only file system")
	})
}

// TestT05ControlBytes: names and contents with escape sequences are shown, not sent to the terminal.
func TestT05ControlBytes(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		out := s.sh(`printf 'x\n' > "$(printf 'evil\033]52;c;ZXZpbA==\a\033[21t')"; printf '\033]0;title\a\n' >content; printf '\033[31mred'`)
		has(t, "the command's own output, byte for byte", out.stdout, "\x1b[31mred")
		for _, args := range [][]string{{"diff", "--stat"}, {"diff", "--name-only"}, {"apply", "--dry-run"}, {"ps", "-a"}} {
			said := s.do(args...)
			hasNot(t, strings.Join(args, " "), said.stdout+said.stderr, "\x1b")
		}
		has(t, "the listing", s.do("diff", "--stat").stdout, "evil")
	})
}
