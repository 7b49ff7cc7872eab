package test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestP16DaemonsEndWithTheRun: what left the command's session and its parent is gone when the run is over.
func TestP16DaemonsEndWithTheRun(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		forever := lasting(t)
		start := time.Now()
		out := s.sh(`(setsid sh -c 'trap "" TERM HUP INT; (exec sleep ` + forever + `)' >/dev/null 2>&1 &) ; (setsid sleep ` + forever + ` </dev/null >/dev/null 2>&1 &); nohup sleep ` + forever + ` >/dev/null 2>&1 & exit 7`)
		if out.exit != 7 {
			t.Errorf("want the command's status: %v", out)
		}
		t.Logf("the run took %v", time.Since(start))
		eventually(t, patience, "daemons gone", func() bool { return len(named(forever)) == 0 })
	})
}

// TestP17SupervisorKilled: SIGKILL to casemate ends everything it started.
func TestP17SupervisorKilled(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		groups := cgroups()
		mounts := read(t, "/proc/self/mountinfo")
		forever := lasting(t)
		k := s.talk("--pids", "64", "--memory", "256MiB")
		k.ask(`setsid sleep ` + forever + ` & sleep ` + forever + ` & (trap '' TERM; sleep ` + forever + `) &`)
		eventually(t, patience, "processes running", func() bool { return len(named(forever)) == 3 })
		if err := k.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		took := eventually(t, patience, "all gone after SIGKILL to the supervisor", func() bool { return len(named(forever)) == 0 })
		t.Logf("all gone within %v", took)
		eventually(t, patience, "no cgroup left", func() bool { return len(added(groups, cgroups())) == 0 })
		sameMounts(t, mounts)
		if out := s.run("--", "true"); out.exit != 0 {
			t.Errorf("the next start: %v", out)
		}
	})
}

// cgroups lists our own directories of all hierarchies that bear casemate's name.
func cgroups() []string {
	var found []string
	for _, pattern := range []string{"/sys/fs/cgroup/*casemate*", "/sys/fs/cgroup/*/*casemate*", "/sys/fs/cgroup/*/*/*casemate*", "/sys/fs/cgroup/*/casemate*/*", "/sys/fs/cgroup/casemate*/*"} {
		dirs, _ := filepath.Glob(pattern)
		for _, dir := range dirs {
			st, err := os.Stat(dir)
			if err == nil && st.IsDir() && st.Sys().(*syscall.Stat_t).Uid == uint32(os.Getuid()) {
				found = append(found, dir)
			}
		}
	}
	return found
}

// sameMounts waits until the mounts are again what they were: others on this machine may have some for a while.
func sameMounts(t *testing.T, before string) {
	t.Helper()
	now := before
	eventually(t, patience, "no mount left", func() bool { now = read(t, "/proc/self/mountinfo"); return now == before })
	if now != before {
		t.Errorf("mounts were\n%s\nand are\n%s", before, now)
	}
}

func added(before, after []string) []string {
	return slices.DeleteFunc(slices.Clone(after), func(s string) bool { return slices.Contains(before, s) })
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestL01EveryStepFailsClosed makes each set-up step fail in turn. No user code runs, the message names the step, and the plan lists it.
func TestL01EveryStepFailsClosed(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		s.run("--", "true")
		out := s.do("plan", "--steps", "--json", "--pids", "64", "--", "sh")
		var listed []string
		if err := json.Unmarshal([]byte(out.stdout), &listed); err != nil {
			t.Errorf("plan --steps --json: %v\n%v", err, out)
		}
		s.Accept()
		var failed, unlisted []string
		for i := 0; ; i++ {
			step, more := s.failStep(t, i)
			if !more {
				break
			}
			failed = append(failed, step)
			if !slices.Contains(listed, step) {
				unlisted = append(unlisted, step)
			}
		}
		if len(failed) < 10 {
			t.Fatalf("only %d steps could be made to fail: %q", len(failed), failed)
		}
		if len(unlisted) > 0 {
			t.Errorf("plan --steps does not list %q", unlisted)
		}
		for _, c := range s.changes(t) {
			t.Errorf("user code ran after a failed step and wrote %s", c.Path)
		}
		s.unchanged(t)
		t.Logf("%d steps", len(failed))
	})
}

// failStep makes the step with that number fail and returns its name as the message has it. There is no more when the number is too high.
func (s *site) failStep(t *testing.T, i int) (step string, more bool) {
	t.Helper()
	cmd := s.command("run", "--pids", "64", "--", "sh", "-c", "echo RAN; echo RAN >marker")
	cmd.Env = append(cmd.Env, fmt.Sprintf("CASEMATE_TEST_FAIL_STEP=%d", i))
	out := s.finish(cmd)
	if strings.Contains(out.stdout, "RAN") || exists(filepath.Join(s.Work, "marker")) {
		t.Fatalf("step %d failed and user code ran: %v", i, out)
	}
	if strings.Contains(out.stderr, "no set-up step") {
		return "", false
	}
	if _, rest, found := strings.Cut(out.stderr, `set-up step "`); found && out.exit == 125 {
		step, _, _ = strings.Cut(rest, `": `)
		return step, true
	}
	if out.exit == 126 { // the last one is the execution of the command
		return "execute the command", true
	}
	t.Fatalf("step %d: want 125 and its name: %v", i, out)
	return "", false
}

// TestL02FallbackIsExplicit: where user namespaces are refused nothing runs, unless the policy names the weaker mode; then the plan lists what
// is missing.
func TestL02FallbackIsExplicit(t *testing.T) {
	s := newSite(t, mode{name: "refused", env: []string{"CASEMATE_TEST_NO_USERNS=1"}})
	out := s.sh("echo RAN")
	if out.exit != 125 || strings.Contains(out.stdout, "RAN") {
		t.Errorf("without the policy's word: %v", out)
	}
	has(t, "the refusal", out.stderr, "landlock")
	if os.Getuid() == 0 {
		t.Skip("the fallback itself is for ordinary users")
	}
	s.mode = fallback()
	out = s.sh("echo RAN")
	has(t, "with the policy's word", out.stdout, "RAN")
	has(t, "the notice", out.stderr, "weaker")
	missing := 0
	for _, g := range s.plan().Guarantees {
		if g.State == "absent" {
			missing++
			out := s.run("--require", g.Name, "--", "echo", "RAN")
			if out.exit != 125 || strings.Contains(out.stdout, "RAN") || !strings.Contains(out.stderr, g.Name) {
				t.Errorf("--require %s, which is absent: %v", g.Name, out)
			}
		}
	}
	if missing == 0 {
		t.Error("the plan lists nothing as absent")
	}
}

// TestL05ProjectPolicyIsNotTrusted: the project's own file narrows and never widens, until a person approves it; and the sandbox cannot change it.
func TestL05ProjectPolicyIsNotTrusted(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		ssh := filepath.Join(s.Home, ".ssh")
		s.put("casemate.yaml", "files:\n  workspace: live\n  read: ['"+ssh+"']\n  hide: ['README.md', '!.env']\nenv: {pass: [GITHUB_TOKEN, MY_SECRET]}\nlimits: {pids: 4000000}\n", 0o644)
		s.Accept()
		out := s.sh(`cat ` + ssh + `/id_rsa .env; env; cat README.md; echo inside >written; echo 'level: full' >casemate.yaml`)
		for _, r := range s.Verify(nil, out.stdout+out.stderr) {
			t.Errorf("%s", r.Detail)
		}
		hasNot(t, "what it narrows", out.stdout, "a project")
		has(t, "the notice", out.stderr, "trust")
		out = s.sh(`cat ` + ssh + `/id_rsa`)
		for _, r := range s.Verify(nil, out.stdout+out.stderr) {
			t.Errorf("in the next run: %s", r.Detail)
		}
	})
}

// TestL07KilledAnywhere kills casemate at random points of start and stop. Nothing is left, and the next start works.
func TestL07KilledAnywhere(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		rounds := 40
		if os.Getenv("CASEMATE_TEST_LONG") != "" {
			rounds = 200
		}
		mounts, groups, temps := read(t, "/proc/self/mountinfo"), cgroups(), list("/tmp/*casemate*")
		forever := lasting(t)
		for i := range rounds {
			cmd := s.command("run", "--pids", "64", "--", "sh", "-c", "echo x >made; (setsid sleep "+forever+" &); sleep 0.02")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(rand.IntN(60_000)) * time.Microsecond) // the point is that it is any moment
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			if i%10 == 9 {
				if out := s.run("--", "true"); out.exit != 0 {
					t.Fatalf("the start after kill %d: %v", i, out)
				}
			}
		}
		eventually(t, patience, "no process left", func() bool { return len(named(forever)) == 0 })
		eventually(t, patience, "no cgroup left", func() bool { return len(added(groups, cgroups())) == 0 })
		sameMounts(t, mounts)
		if left := added(temps, list("/tmp/*casemate*")); len(left) > 0 {
			t.Logf("in /tmp, perhaps of others: %q", left)
		}
		s.unchanged(t)
		s.run("--", "true")
		for _, line := range strings.Split(s.do("ps", "-a", "--json").stdout, "\n") {
			if strings.Contains(line, `"running":true`) {
				t.Errorf("ps shows it as running: %s", line)
			}
		}
	})
}

func list(pattern string) []string {
	found, _ := filepath.Glob(pattern)
	return found
}

// TestL10EmergencyStop ends a sandbox in the middle of a fork bomb, and one that is stopped by signals.
func TestL10EmergencyStop(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		for _, how := range []string{"rm --force", "SIGKILL"} {
			t.Run(how, func(t *testing.T) {
				forever := lasting(t)
				// Bounded by itself at 255 processes: where the limit fails, the machine must survive the test.
				bomb := `f() { [ $1 -gt 0 ] && { f $(($1-1)) & f $(($1-1)) & }; sleep ` + forever + `; }; trap '' TERM INT HUP; (f 7) 2>/dev/null & `
				if s.mode.name != "landlock" { // there, "everyone" would be every process of the user if a signal came through
					bomb += `n=0; while [ $n -lt 10 ]; do n=0; for c in /proc/[0-9]*/comm; do read x <$c && [ "$x" = sleep ] && n=$((n+1)); done; done 2>/dev/null; kill -STOP -1; `
				}
				cmd := s.command("run", "--pids", "100", "--", "sh", "-c", bomb+"exec sleep "+forever) // the limit leaves no process for it
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				eventually(t, patience, "the bomb going off", func() bool { return len(named(forever)) > 5 })
				start := time.Now()
				switch how {
				case "rm --force":
					out := s.do("rm", "--force", s.running(t))
					t.Log(out)
				case "SIGKILL":
					_ = cmd.Process.Kill()
				}
				eventually(t, patience, "everything gone", func() bool { return len(named(forever)) == 0 })
				t.Logf("%s: gone within %v", how, time.Since(start))
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			})
		}
	})
}

// running is the id of the sandbox that runs.
func (s *site) running(t *testing.T) string {
	t.Helper()
	out := s.do("ps", "--json")
	var list []struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal([]byte(out.stdout), &list); err != nil || len(list) == 0 {
		t.Fatalf("ps --json: %v %v", err, out)
	}
	return list[0].ID
}

// TestL12ExitStatus: the status tells how the command ended, and the reason tells what ended it.
func TestL12ExitStatus(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		s.put("plain.txt", "text\n", 0o644)
		s.put("noexec.sh", "#!/nonexistent/interpreter\n", 0o755)
		s.Accept()
		for _, c := range []struct {
			name   string
			argv   []string
			exit   int
			reason string
		}{
			{"0", []string{"sh", "-c", "exit 0"}, 0, ""},
			{"1", []string{"sh", "-c", "exit 1"}, 1, ""},
			{"77", []string{"sh", "-c", "exit 77"}, 77, ""},
			{"125 of its own", []string{"sh", "-c", "exit 125"}, 125, ""},
			{"255", []string{"sh", "-c", "exit 255"}, 255, ""},
			{"a crash", []string{"sh", "-c", "kill -SEGV $$"}, 128 + 11, "signal"},
			{"killed", []string{"sh", "-c", "kill -KILL $$"}, 128 + 9, "signal"},
			{"not found", []string{"casemate-no-such-command"}, 127, "not-found"},
			{"a path that is not there", []string{"./no/such"}, 127, "not-found"},
			{"not executable", []string{"./plain.txt"}, 126, "not-executable"},
			{"a directory", []string{"./src"}, 126, "not-executable"},
			{"no interpreter", []string{"./noexec.sh"}, 127, "not-found"},
		} {
			t.Run(c.name, func(t *testing.T) {
				out := s.run(append([]string{"--"}, c.argv...)...)
				if out.exit != c.exit || out.result.Exit != c.exit || out.result.Reason != c.reason {
					t.Errorf("exit %d, reason %q; want %d, %q\n%v", out.exit, out.result.Reason, c.exit, c.reason, out)
				}
			})
		}
	})
}

// TestProjectCommand: a program of the project runs by its path, relative or absolute, in every mode.
func TestProjectCommand(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		s.put("src/tool", "#!/bin/sh\necho tool-ran\n", 0o755)
		s.Accept()
		for _, path := range []string{"./src/tool", "src/tool", filepath.Join(s.Work, "src", "tool")} {
			if out := s.run("--", path); out.exit != 0 || out.stdout != "tool-ran\n" {
				t.Errorf("%s: %v", path, out)
			}
		}
		cmd := s.command("run", "--", "./tool")
		cmd.Dir = filepath.Join(s.Work, "src")
		if out := s.finish(cmd); out.exit != 0 || out.stdout != "tool-ran\n" {
			t.Errorf("from a directory below: %v", out)
		}
	})
}

// TestL13Nested runs casemate in casemate: it refuses, or confines in a weaker mode that was named; it never runs the command unconfined.
func TestL13Nested(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		b, err := os.ReadFile(casemate)
		if err != nil {
			t.Fatal(err)
		}
		s.put("bin/casemate", string(b), 0o755)
		s.Accept()
		const inner = "./bin/casemate"
		out := s.sh(inner + ` run -- sh -c 'echo RAN; grep Seccomp_filters /proc/self/status'; echo "status $?"`)
		has(t, "without a word", out.stdout, "status 125")
		hasNot(t, "without a word", out.stdout, "RAN")
		has(t, "the message", out.stderr, "namespace")
		out = s.sh(inner + ` run --allow-fallback landlock -- sh -c 'echo RAN; grep Seccomp_filters /proc/self/status; cat ` + s.Env.Canary + `'; echo "status $?"`)
		t.Log(out)
		if strings.Contains(out.stdout, "RAN") {
			has(t, "a filter on top of the filter", out.stdout, "Seccomp_filters:\t2")
		}
		for _, r := range s.Verify(nil, out.stdout+out.stderr) {
			t.Errorf("%s", r.Detail)
		}
	})
}

// TestTwoRunsAtOnce in one project do not disturb each other.
func TestTwoRunsAtOnce(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		a, b := s.talk(), s.talk()
		a.ask("echo a >mine")
		b.ask("echo b >mine")
		has(t, "the first", a.ask("cat mine; ls -d /proc/[0-9]* | wc -l"), "a")
		has(t, "the second", b.ask("cat mine"), "b")
		a.end()
		b.end()
		s.unchanged(t)
	})
}

// TestManyStartsAtOnce: starts beside each other, of one person's state or of several, take nothing from each other.
func TestManyStartsAtOnce(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		other := newSite(t, s.mode)
		failed := make(chan output, 100)
		var workers sync.WaitGroup
		for _, site := range []*site{s, other, s} {
			workers.Go(func() {
				for range 20 {
					cmd := site.command("run", "--quiet", "--fresh", "--pids", "500", "--", "sh", "-c", "for i in 1 2 3 4; do /bin/true; done; echo fine")
					out, err := cmd.CombinedOutput()
					if err != nil || string(out) != "fine\n" {
						failed <- output{stdout: string(out), exit: cmd.ProcessState.ExitCode()}
					}
				}
			})
		}
		workers.Wait()
		close(failed)
		for out := range failed {
			t.Error(out)
		}
	})
}

// TestSignalsPassThrough: SIGINT to casemate alone reaches the command, and the command decides.
func TestSignalsPassThrough(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		for _, sig := range []syscall.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGUSR1} {
			cmd := s.command("run", "--", "sh", "-c", `trap 'echo GOT; exit 5' INT TERM HUP USR1; echo READY; while :; do sleep 0.01; done`)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 64)
			if _, err := out.Read(buf); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			n, _ := out.Read(buf)
			watch := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
			err = cmd.Wait()
			watch.Stop()
			exit, _ := err.(*exec.ExitError)
			if exit == nil || exit.ExitCode() != 5 || !strings.Contains(string(buf[:n]), "GOT") {
				t.Errorf("%v: %v, %q", sig, err, buf[:n])
			}
		}
	})
}
