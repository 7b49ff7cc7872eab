package test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// kept returns the id of the one sandbox that is kept.
func (s *site) kept(t *testing.T) string {
	t.Helper()
	var rows []struct{ ID, State string }
	if err := json.Unmarshal([]byte(s.do("ps", "-a", "--json").stdout), &rows); err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if r.State == "kept" {
			return r.ID
		}
	}
	t.Fatalf("no sandbox is kept: %v", rows)
	return ""
}

// TestRightsTakenAway: a sandbox that takes every right to its own home, its layer and what is in them away stops neither later runs nor the
// removal. The control is that without help nobody but root could go on.
func TestRightsTakenAway(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		out := s.sh(`echo kept >f; mkdir -p ~/a/b d/e; echo x >~/a/b/c; echo x >d/e/f; chmod 0 ~/a/b ~/a d/e d . ; chmod 0 ~`)
		if out.exit != 0 {
			t.Fatal(out)
		}
		homes, _ := filepath.Glob(filepath.Join(s.State, "casemate", "projects", "*", "home*"))
		closed := false
		for _, h := range homes {
			st, err := os.Stat(h)
			closed = closed || err == nil && st.Mode().Perm() == 0
		}
		if !closed {
			t.Errorf("control: no home is closed: %q", homes)
		}
		if out := s.sh(`test -w ~ && chmod 700 . && cat f && chmod 0 . ~`); out.exit != 0 || out.stdout != "kept\n" {
			t.Errorf("the next run: %v", out)
		}
		if out := s.do("diff"); out.exit > 1 {
			t.Errorf("diff: %v", out)
		}
		if out := s.do("rm", "--home", s.kept(t)); out.exit != 0 {
			t.Errorf("rm --home: %v", out)
		}
		if left, _ := filepath.Glob(filepath.Join(s.State, "casemate", "projects", "*", "home*")); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
		if out := s.run("--", "true"); out.exit != 0 {
			t.Errorf("a new run: %v", out)
		}
	})
}

// TestMountPointInTheWay: whatever a run left where a later one mounts something, the mount is made there, nothing is followed, and nothing hangs.
func TestMountPointInTheWay(t *testing.T) {
	for name, make := range map[string]string{
		"directory": `mkdir -p $p/x; echo mine >$p/x/y`, "file": `echo mine >$p`, "link": `ln -s /etc $p`, "dangling": `ln -s /nowhere $p`,
		"fifo": `mkfifo $p`, "closed": `mkdir -p $p/x; chmod 0 $p/x $p`, "closed-file": `echo mine >$p; chmod 0 $p`,
	} {
		t.Run(name, func(t *testing.T) {
			namespaced(t, func(t *testing.T, s *site) {
				tool := filepath.Join(s.Home, "tool")
				if err := os.MkdirAll(tool, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(tool, "f"), []byte("host's\n"), 0o644); err != nil {
					t.Fatal(err)
				}
				for _, shown := range []struct{ flag, path, in string }{{"~/tool", "~/tool", "tool/f"}, {"~/tool/f", "~/tool/f", "tool/f"}} {
					out := s.sh(`chmod -R u+rwx ~/tool 2>/dev/null; rm -rf ~/tool; mkdir -p ~/tool; rmdir ~/tool; p=` + shown.path + `; case $p in */f) mkdir ~/tool;; esac; ` + make)
					if out.exit != 0 {
						t.Fatal(out)
					}
					out = s.run("--read", shown.flag, "--", "sh", "-c", "cat ~/"+shown.in)
					if out.exit != 0 || out.stdout != "host's\n" {
						t.Errorf("%s: %v", shown.flag, out)
					}
					if out := s.sh(`grep -rs mine ~ || :`); strings.Contains(make, "mine") && !strings.Contains(out.stdout, "mine") && name != "closed-file" {
						t.Errorf("%s: what the sandbox had there is gone: %v", shown.flag, out)
					}
				}
				if st, err := os.Stat("/etc"); err != nil || st.Sys().(*syscall.Stat_t).Uid != 0 {
					t.Errorf("/etc: %v", err)
				}
			})
		})
	}
}

// TestForceKillsNoStranger: a record whose process number has become another's, as after a crash and a new start, must not end that process.
func TestForceKillsNoStranger(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		if out := s.sh("echo x >f"); out.exit != 0 {
			t.Fatal(out)
		}
		id := s.kept(t)
		dir := filepath.Join(s.State, "casemate", "sandboxes", id)
		stranger := exec.Command("sleep", lasting(t))
		if err := stranger.Start(); err != nil {
			t.Fatal(err)
		}
		defer stranger.Wait()
		defer stranger.Process.Kill()
		var record map[string]any
		if err := json.Unmarshal([]byte(read(t, filepath.Join(dir, "sandbox.json"))), &record); err != nil {
			t.Fatal(err)
		}
		record["pid"] = stranger.Process.Pid
		record["pid_start"] = 1
		b, _ := json.Marshal(record)
		if err := os.WriteFile(filepath.Join(dir, "sandbox.json"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.FcntlFlock(lock.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
			t.Fatal(err)
		}
		if out := s.do("rm", "--force", id); out.exit != 125 {
			t.Errorf("rm --force: %v", out)
		}
		if err := stranger.Process.Signal(syscall.Signal(0)); err != nil {
			t.Errorf("the stranger: %v", err)
		}
		lock.Close()
		if out := s.do("rm", id); out.exit != 0 {
			t.Errorf("rm: %v", out)
		}
		// Control: a supervisor is ended.
		k := s.talk()
		k.ask("echo ready")
		running := ""
		eventually(t, patience, "recorded", func() bool {
			var rows []struct{ ID string }
			_ = json.Unmarshal([]byte(s.do("ps", "--json").stdout), &rows)
			if len(rows) == 1 {
				running = rows[0].ID
			}
			return running != ""
		})
		if out := s.do("rm", "--force", running); out.exit != 0 {
			t.Errorf("control: rm --force: %v", out)
		}
	})
}

// TestKilledBeforeItStarts: what a start leaves that was killed is gone with the next ps or start, and what another one is making is not.
func TestKilledBeforeItStarts(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		s.run("--", "true")
		boxes := filepath.Join(s.State, "casemate", "sandboxes")
		for _, next := range [][]string{{"ps", "-a"}, {"run", "--", "true"}} {
			dead := filepath.Join(boxes, "deadbeef")
			if err := os.MkdirAll(filepath.Join(dead, "layer", "upper", "x"), 0o700); err != nil {
				t.Fatal(err)
			}
			if os.Getuid() == 0 && s.mode.owner != 0 {
				s.give(filepath.Join(dead, "layer", "upper"))
			}
			being := filepath.Join(boxes, "beingmad")
			if err := os.MkdirAll(being, 0o700); err != nil {
				t.Fatal(err)
			}
			lock, err := os.OpenFile(filepath.Join(being, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
			if err == nil {
				err = unix.FcntlFlock(lock.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
			}
			if err != nil {
				t.Fatal(err)
			}
			out := s.do(next...)
			if exists(dead) {
				t.Errorf("%v left it: %v", next, out)
			}
			if !exists(being) {
				t.Errorf("%v removed what another process is making: %v", next, out)
			}
			lock.Close()
			if out := s.do("ps", "-a"); exists(being) {
				t.Errorf("dead now: %v", out)
			}
		}
	})
}

// TestAnyBytesInThePath: a project whose path is no UTF-8, or steers terminals, works like any other, and is printed so that it steers nothing.
func TestAnyBytesInThePath(t *testing.T) {
	for name, base := range map[string]string{"bytes": "p\xff\xfe", "escapes": "p\x1b[31m\x1b]0;x\a\nq", "quotes": `p "'\,:=q`, "override": "p\u202eq"} {
		t.Run(name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, s *site) {
				dir := filepath.Join(s.Work, base)
				s.put(filepath.Join(base, "sub", "secret.key"), "hush", 0o600)
				s.put(filepath.Join(base, "casemate.yaml"), "version: 1\n", 0o644)
				s.give(dir)
				in := func(args ...string) output {
					cmd := s.command(args...)
					cmd.Dir = dir
					return s.finish(cmd)
				}
				if out := in("run", "--json", "--hide", "secret.key", "--", "sh", "-c", "cat sub/secret.key; echo 1 >f"); out.exit != 0 || strings.Contains(out.stdout, "hush") {
					t.Errorf("run: %v", out)
				}
				if out := in("run", "--json", "--", "cat", "f"); out.stdout != "1\n" {
					t.Errorf("the kept layer is not found again: %v", out)
				}
				for _, args := range [][]string{{"diff"}, {"ps", "-a"}, {"plan", "--", "true"}, {"apply", "--dry-run"}} {
					out := in(args...)
					if out.exit > 1 {
						t.Errorf("%q: %v", args, out)
					}
					if strings.ContainsAny(out.stdout+out.stderr, "\x1b\a") || strings.Contains(out.stdout+out.stderr, "\u202e") {
						t.Errorf("%q prints the path as it is: %q", args, out.stdout+out.stderr)
					}
				}
				if out := in("apply"); out.exit != 0 || !exists(filepath.Join(dir, "f")) {
					t.Errorf("apply: %v", out)
				}
			})
		})
	}
}

// TestPlacesOfProjects: what is no project, or cannot be shown as one, is refused with the way out; any other place works.
func TestPlacesOfProjects(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		for _, dir := range []string{"/", "/home", "/etc", "/usr", "/tmp", "/var/tmp", "/run", "/dev", "/dev/shm", "/proc/self", "/sys/kernel", s.Home, filepath.Dir(s.Home)} {
			cmd := s.command("run", "--json", "--", "true")
			cmd.Dir = dir
			if out := s.finish(cmd); out.exit != 125 || !strings.Contains(out.stderr, "--workspace none") {
				t.Errorf("%s: %v", dir, out)
			}
		}
		for _, parent := range []string{"/dev/shm", "/tmp", "/var/tmp", "/usr/src", "/run"} {
			dir, err := os.MkdirTemp(parent, "casemate-place")
			if err != nil {
				continue // of root only
			}
			t.Cleanup(func() { removeAll(t, dir) })
			s.give(dir)
			cmd := s.command("run", "--json", "--", "sh", "-c", "echo x >f")
			cmd.Dir = dir
			out := s.finish(cmd)
			if parent == "/dev/shm" {
				if out.exit != 125 || !strings.Contains(out.stderr, "move the project") {
					t.Errorf("%s: %v", dir, out)
				}
				continue
			}
			if out.exit != 0 || exists(filepath.Join(dir, "f")) {
				t.Errorf("%s: %v", dir, out)
			}
			cmd = s.command("apply")
			cmd.Dir = dir
			if out := s.finish(cmd); out.exit != 0 || !exists(filepath.Join(dir, "f")) {
				t.Errorf("%s: apply: %v", dir, out)
			}
			if err := os.Mkdir(filepath.Join(dir, ".husky"), 0o755); err != nil {
				t.Fatal(err)
			}
			s.give(filepath.Join(dir, ".husky"))
			cmd = s.command("run", "--json", "--workspace", "live", "--", "sh", "-c", "! echo x >.husky/f") // something is mounted in the project
			cmd.Dir = dir
			if out := s.finish(cmd); s.mode.name != "landlock" && (out.exit != 0 || exists(filepath.Join(dir, ".husky", "f"))) {
				t.Errorf("%s: live: %v", dir, out)
			}
		}
	})
}

// TestPolicyIsNoLink: a project cannot make casemate quote a file of the person's by calling it its policy. The control is a policy with the same mistake.
func TestPolicyIsNoLink(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		path := filepath.Join(s.Work, "casemate.yaml")
		s.put("casemate.yaml", "hush: 1\n", 0o644)
		if out := s.run("--", "true"); out.exit != 125 || !strings.Contains(out.stderr, "hush") {
			t.Errorf("control: %v", out)
		}
		if err := os.Rename(path, filepath.Join(s.Home, "secret")); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(s.Home, "secret"), path); err != nil {
			t.Fatal(err)
		}
		s.give(path)
		for _, args := range [][]string{{"run", "--", "true"}, {"plan", "--", "true"}, {"trust"}, {"policy", "check"}} {
			if out := s.do(args...); out.exit == 0 || strings.Contains(out.stdout+out.stderr, "hush") || !strings.Contains(out.stderr, "symbolic link") {
				t.Errorf("%q: %v", args, out)
			}
		}
	})
}

// TestLiveLinks: in a project that is written directly, nothing that a link makes executable stays, however the link is laid; what the host had stays.
func TestLiveLinks(t *testing.T) {
	for name, c := range map[string]struct{ host, inside, bad string }{
		"a directory's place":   {"", "mkdir w; mkdir w/workflows; echo evil >w/workflows/ci.yml; ln -s w .github", ".github/workflows/ci.yml"},
		"moved there":           {"", "mkdir -p d/w/workflows; echo evil >d/w/workflows/ci.yml; ln -s w d/.github2; mv d/.github2 d/.github", "d/.github/workflows/ci.yml"},
		"in a new directory":    {"", "mkdir -p n/w; echo evil >n/w/settings.json; ln -s w n/.vscode; mv n m", "m/.vscode/settings.json"},
		"an end of a chain":     {"mkdir end; echo good >end/tasks.json; ln -s end mid; ln -s mid .vscode", "mv end e2; mkdir end; echo evil >end/tasks.json", ".vscode/tasks.json"},
		"the middle of a chain": {"mkdir end; echo good >end/tasks.json; ln -s end mid; ln -s mid .vscode", "mkdir e2; echo evil >e2/tasks.json; rm mid; ln -s e2 mid", ".vscode/tasks.json"},
		"above the end":         {"mkdir -p up/end; echo good >up/end/tasks.json; ln -s up/end .vscode", "mv up u2; mkdir -p up/end; echo evil >up/end/tasks.json", ".vscode/tasks.json"},
		"hooks that git names":  {"git init -q . ; git config core.hooksPath 'a b/hooks'", "mkdir -p z/hooks; echo evil >z/hooks/pre-commit; ln -s z 'a b'", "a b/hooks/pre-commit"},
		"an included file":      {"git init -q . ; git config include.path ../one; printf '[include]\\npath = two\\n' >one; echo >two", "echo '[core] fsmonitor = evil' >two; rm -f two; echo '[core] fsmonitor = evil' >two", "two"},
	} {
		t.Run(name, func(t *testing.T) {
			needs(t, "git")
			namespaced(t, func(t *testing.T, s *site) {
				dir := filepath.Join(s.Work, "live")
				control := filepath.Join(s.Work, "control")
				for _, d := range []string{dir, control} {
					if err := os.MkdirAll(d, 0o755); err != nil {
						t.Fatal(err)
					}
					host := exec.Command("sh", "-c", c.host)
					host.Dir = d
					if out, err := host.CombinedOutput(); err != nil {
						t.Fatalf("%v %s", err, out)
					}
				}
				s.put("live/casemate.yaml", "version: 1\n", 0o644)
				if os.Getuid() == 0 { // not before: git heeds no repository of another user's
					_ = filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error { s.give(p); return err })
				}
				attack := exec.Command("sh", "-c", c.inside)
				attack.Dir = control
				_ = attack.Run()
				if b, _ := os.ReadFile(filepath.Join(control, c.bad)); !strings.Contains(string(b), "evil") {
					t.Errorf("control: the attack makes %q: %q", c.bad, b)
				}
				cmd := s.command("run", "--json", "--workspace", "live", "--", "sh", "-c", c.inside+"; :")
				cmd.Dir = dir
				out := s.finish(cmd)
				if b, _ := os.ReadFile(filepath.Join(dir, c.bad)); strings.Contains(string(b), "evil") {
					t.Errorf("%s is on the host: %v", c.bad, out)
				}
				if st, err := os.Stat(filepath.Join(dir, "casemate.yaml")); err != nil || st.Size() != 11 {
					t.Errorf("the project's own is gone: %v", err)
				}
			})
		})
	}
}

// TestHiddenBehindLinks: in whatever way the project is shown, what has a hidden name through a link is read under neither name.
func TestHiddenBehindLinks(t *testing.T) {
	for name, flags := range map[string][]string{"held": nil, "live": {"--workspace", "live"}, "readonly": {"--workspace", "readonly"}, "through": {"--write", "out"}} {
		t.Run(name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, s *site) {
				s.put("out/raws/credentials", "hush-1", 0o644)
				s.put("out/local", "hush-2", 0o644)
				for link, target := range map[string]string{".aws": "mid", "mid": "out/raws", "out/.env": "local"} {
					if err := os.Symlink(target, filepath.Join(s.Work, link)); err != nil {
						t.Fatal(err)
					}
					s.give(filepath.Join(s.Work, link))
				}
				read := `cat .aws/credentials mid/credentials out/raws/credentials out/.env out/local; mv out/raws r2; mv out/local l2; cat r2/* l2; grep -Rs hush- out; true`
				control := exec.Command("sh", "-c", read)
				control.Dir = s.Work
				if name == "held" { // the shell moves things, which the other ways show in the project itself
					control.Dir = filepath.Join(s.Work, "..", "control")
					if b, err := exec.Command("cp", "-a", s.Work, control.Dir).CombinedOutput(); err != nil {
						t.Fatalf("%v %s", err, b)
					}
					b, _ := control.CombinedOutput()
					for _, secret := range []string{"hush-1", "hush-2"} {
						has(t, "control outside", string(b), secret)
					}
				}
				out := s.run(append(append([]string{"--hide", ".aws/credentials", "--hide", ".env"}, flags...), "--", "sh", "-c", read)...)
				if strings.Contains(out.stdout, "hush-") {
					t.Errorf("read inside: %v", out)
				}
				if !exists(filepath.Join(s.Work, "out/raws/credentials")) && name != "through" && name != "live" {
					t.Errorf("the host's own is gone: %v", out)
				}
			})
		})
	}
}

// TestApplyWhileRunning: what is applied from under a sandbox that still runs, and could swap it, is of one moment in which it stands still; where
// that cannot be had, nothing is. Nothing is thrown away under it either.
func TestApplyWhileRunning(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		k := s.talk()
		k.ask("mkdir d; echo x >d/f; echo done")
		eventually(t, patience, "a record of the run", func() bool { return strings.Contains(s.do("apply", "--dry-run").stdout, "planned") })
		out, fallback := s.do("apply"), s.mode.name == "landlock"
		if landed := exists(filepath.Join(s.Work, "d", "f")); landed == fallback || fallback && (out.exit != 125 || !strings.Contains(out.stderr, "cannot be frozen")) {
			t.Errorf("apply: %v", out)
		}
		k.ask("echo y >d/g; echo done")
		if out := s.do("discard", "--yes"); out.exit == 0 {
			t.Errorf("discard: %v", out)
		}
		k.end()
		if out := s.do("apply"); out.exit != 0 || !exists(filepath.Join(s.Work, "d", "f")) || !exists(filepath.Join(s.Work, "d", "g")) {
			t.Errorf("control: apply afterwards: %v", out)
		}
	})
}
