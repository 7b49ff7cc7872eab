package test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"casemate.dev/internal/engine/enginetest"
)

// limited is a site whose attacks know the limits.
func limited(t *testing.T, m mode) *site {
	t.Helper()
	cases, err := enginetest.Find([]string{"R01", "R02", "R05"})
	if err != nil {
		t.Fatal(err)
	}
	return newSiteFor(t, m, cases)
}

// TestR01ForkBomb, R02 and R05: each limit stops its bomb.
func TestLimitsHold(t *testing.T) {
	for _, c := range []struct {
		id    string
		flags []string
		set   func(*enginetest.Env)
	}{
		{"R01", []string{"--pids", "64"}, func(e *enginetest.Env) { e.Pids = 64 }},
		{"R02", []string{"--memory", "64MiB"}, func(e *enginetest.Env) { e.MemoryMiB = 64 }},
		{"R05", []string{"--disk", "64MiB"}, func(e *enginetest.Env) { e.DiskMiB = 64 }},
	} {
		cases, err := enginetest.Find([]string{c.id})
		if err != nil {
			t.Fatal(err)
		}
		for _, attack := range cases {
			t.Run(attack.ID, func(t *testing.T) {
				for _, m := range modes() {
					t.Run(m.name, func(t *testing.T) {
						s := limited(t, m)
						c.set(&s.Env)
						bomb(t, s, c.flags, attack)
					})
				}
			})
		}
	}
}

// bomb lets off one bomb. The sandbox may live on with the bomb refused, or be ended as a whole with the limit as the reason.
func bomb(t *testing.T, s *site, flags []string, attack enginetest.Case) {
	t.Helper()
	s.describe(flags)
	args := append(append(append([]string{"run", "--json"}, flags...), probing()...), attack.ID)
	start := time.Now()
	out := s.do(args...)
	t.Logf("%v: exit %d, reason %q, %s", time.Since(start).Round(time.Millisecond), out.exit, out.result.Reason, out.stdout)
	results, _, err := enginetest.ReadResults(strings.NewReader(out.stdout))
	if err != nil {
		t.Fatal(err)
	}
	// A limit that is watched lets a bomb go on for the watcher's window, and then ends the whole sandbox.
	if slices.Contains(map[string][]string{"R02": {"oom", "memory"}, "R05": {"disk"}}[attack.Covers()], out.result.Reason) {
		return
	}
	if len(results) == 0 {
		t.Fatalf("the sandbox ended without naming the limit: %v", out)
	}
	judge(t, results)
}

// TestR02Reason: a run that dies of its memory limit says so, and not just 137.
func TestR02Reason(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		s.promised(t, "limits.memory", "--memory", "64MiB")
		s.Env.MemoryMiB = 64
		out := s.run("--memory", "64MiB", "--env", s.Env.Environ(), "--", "sh", "-c", "exec ./bin/probe case R02.bytes")
		if out.exit != 137 || out.result.Reason != "oom" && out.result.Reason != "memory" {
			t.Errorf("want 137 and the limit as reason: %v", out)
		}
		has(t, "the sentence", out.result.Detail, "64")
	})
}

// TestR04Processors: a command on all cores gets no more than it was given.
func TestR04Processors(t *testing.T) {
	burn := `burn() { i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done; }; burn & burn & burn & burn & wait; times`
	share := func(s *site, flags ...string) float64 {
		cmd := s.command(append(append([]string{"run", "--json"}, flags...), "--", "sh", "-c", burn)...)
		start := time.Now()
		out := s.finish(cmd)
		if out.exit != 0 {
			t.Fatal(out)
		}
		used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		return used.Seconds() / time.Since(start).Seconds()
	}
	eachMode(t, func(t *testing.T, s *site) {
		free := share(s)
		held := share(s, "--cpus", "1")
		t.Logf("of %.2f processors without a limit, %.2f with --cpus 1", free, held)
		if held > 1.3 {
			t.Errorf("%.2f processors in spite of --cpus 1", held)
		}
		if free < 1.3 {
			t.Skipf("the machine had only %.2f processors to give: there was nothing to hold back", free)
		}
	})
}

// TestR08OtherProcessesDoNotCount: the limit of processes counts only the sandbox's own.
func TestR08OtherProcessesDoNotCount(t *testing.T) {
	var sleepers []*exec.Cmd
	for range 25 {
		cmd := exec.Command("sleep", lasting(t))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		sleepers = append(sleepers, cmd)
	}
	defer func() {
		for _, cmd := range sleepers {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}()
	five := `for i in 1 2 3 4 5; do sleep 0.2 & done; wait; echo FIVE`
	if os.Getuid() != 0 { // root's processes are not counted
		needs(t, "prlimit")
		out, _ := exec.Command("prlimit", "--nproc=12", "sh", "-c", five).CombinedOutput()
		if !strings.Contains(string(out), "annot fork") && !strings.Contains(string(out), "unavailable") {
			t.Errorf("control: outside the limit did not count them: %s", out)
		}
	}
	eachMode(t, func(t *testing.T, s *site) {
		if s.mode.name == "landlock" {
			t.Skip("without namespaces the kernel counts every process of the user; the plan watches instead")
		}
		out := s.run("--pids", "12", "--", "sh", "-c", five)
		has(t, "inside", out.stdout, "FIVE")
	})
}

// TestOwnLimitsHold: who may have less than the policy allows still gets a sandbox, of what they have, and the plan says so.
func TestOwnLimitsHold(t *testing.T) {
	needs(t, "prlimit")
	eachMode(t, func(t *testing.T, s *site) {
		less := func(args ...string) output {
			cmd := s.command(args...)
			cmd.Args = append([]string{"prlimit", "--nproc=3000:3000", "--fsize=16777216:16777216"}, cmd.Args...)
			path, err := exec.LookPath("prlimit")
			if err != nil {
				t.Fatal(err)
			}
			cmd.Path = path
			return s.finish(cmd)
		}
		out := less("run", "--json", "--", "sh", "-c", "grep -E '^Max (processes|file size)' /proc/self/limits | tr -s ' '")
		if out.exit != 0 || out.stdout != "Max file size 16777216 16777216 bytes \nMax processes 3000 3000 processes \n" {
			t.Errorf("inside: %v", out)
		}
		shown := less("plan").stdout
		has(t, "the plan", shown, "3000        your own limit (ulimit -u)")
		has(t, "the plan", shown, "for each file your own limit (ulimit -f) of 16 MiB")
		if free := s.do("plan").stdout; strings.Contains(free, "your own limit") {
			t.Errorf("the control, without: %s", free)
		}
	})
}

// TestOneFileAtTheDiskLimit: a command that the kernel ends because a file of it grew too long says which limit that was.
func TestOneFileAtTheDiskLimit(t *testing.T) {
	const grow = "dd if=/dev/zero of=big bs=1M count=64"
	eachMode(t, func(t *testing.T, s *site) {
		out := s.run(append([]string{"--disk", "5MiB", "--"}, strings.Fields(grow)...)...)
		if out.exit != 128+int(syscall.SIGXFSZ) || out.result.Reason != "disk" {
			t.Errorf("want the signal's status and the limit as reason: %v", out)
		}
		has(t, "the sentence", out.result.Detail, "the disk limit of 5 MiB: raise it with --disk")
		if out := s.run(append([]string{"--disk", "512MiB", "--"}, strings.Fields(grow)...)...); out.exit != 0 || out.result.Reason != "" {
			t.Errorf("the control, with room: %v", out)
		}
	})
}

// TestInotifyShare: the user's inotify instances, which count on the host, are not all to be had inside. That the kernel holds the number is its own to test: to
// take them all would fail what runs beside this.
func TestInotifyShare(t *testing.T) {
	const setting = "/proc/sys/user/max_inotify_instances"
	eachMode(t, func(t *testing.T, s *site) {
		want := "100\n"
		if s.mode.name == "landlock" { // which has no user namespace of its own
			return
		}
		if outside, err := os.ReadFile(setting); err != nil || string(outside) == want {
			t.Fatalf("control: outside it is %q, %v", outside, err)
		}
		if out := s.run("--", "cat", setting); out.stdout != want {
			t.Errorf("inside it is %q", out.stdout)
		}
	})
}

// TestR09Time: wall clock and idle limits end the run, also one that ignores SIGTERM, say so, and leave nothing behind.
func TestR09Time(t *testing.T) {
	for _, c := range []struct {
		name, flag, reason string
	}{{"time", "--time", "timeout"}, {"idle", "--idle", "idle"}} {
		t.Run(c.name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, s *site) {
				if c.name == "idle" && s.mode.name == "landlock" {
					t.Skip("limits.idle needs a pid namespace: the plan says that it is absent in the fallback")
				}
				forever := lasting(t)
				cmd := s.command("run", "--json", c.flag, "1s", "--", "sh", "-c", "trap '' TERM INT HUP; (setsid sleep "+forever+") & sleep "+forever)
				watch := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
				start := time.Now()
				out := s.finish(cmd)
				watch.Stop()
				if took := time.Since(start); out.exit != 124 || out.result.Reason != c.reason || took < time.Second {
					t.Errorf("after %v: %v", took, out)
				}
				eventually(t, patience, "everything gone after the limit", func() bool { return len(named(forever)) == 0 })
			})
		})
	}
}

// TestIdleIsWithoutOutput: a command that writes now and then is not idle, however little it computes.
func TestIdleIsWithoutOutput(t *testing.T) {
	namespaced(t, func(t *testing.T, s *site) {
		const talk = `for i in 1 2 3 4 5 6 7 8; do sleep 0.5; echo $i; done` // four times as often as it must
		if out := s.run("--idle", "2s", "--", "sh", "-c", talk); out.exit != 0 || !strings.HasSuffix(out.stdout, "8\n") {
			t.Errorf("with output: %v", out)
		}
		if out := s.run("--idle", "2s", "--", "sh", "-c", "("+talk+") >/dev/null"); out.exit != 124 || out.result.Reason != "idle" {
			t.Errorf("the control, without: %v", out)
		}
	})
}

// TestR12WithoutCgroups: where no cgroup can be had it starts, says which limits are only watched or absent, and refuses when they are required.
func TestR12WithoutCgroups(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		for _, l := range s.plan("--memory", "64MiB", "--pids", "64", "--cpus", "1", "--disk", "64MiB").Guarantees {
			if !strings.HasPrefix(l.Name, "limits.") {
				continue
			}
			if l.By == "" {
				t.Errorf("%s does not say what holds it", l.Name)
			}
			out := s.run("--memory", "64MiB", "--pids", "64", "--cpus", "1", "--disk", "64MiB", "--require", l.Name, "--", "echo", "RAN")
			if ran := strings.Contains(out.stdout, "RAN"); ran != (l.State == "enforced") {
				t.Errorf("%s is %s, and with --require: %v", l.Name, l.State, out)
			}
		}
	})
}
