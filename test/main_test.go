// Package test runs the built programs, whole, as a person would.
package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"casemate.dev/internal/engine/enginetest"
)

// The programs under test: CASEMATE_BIN and CASEMATE_PROBE, or built here.
var casemate, probe string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if os.Getenv(worldVariable) != "" {
		return beWorld()
	}
	if address := os.Getenv(fetchVariable); address != "" {
		return fetch(address)
	}
	casemate, probe = os.Getenv("CASEMATE_BIN"), os.Getenv("CASEMATE_PROBE")
	defer endServers()
	if casemate != "" && probe != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "casemate-bin")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		panic(err)
	}
	for _, b := range []struct {
		path *string
		name string
	}{{&casemate, "casemate"}, {&probe, "casemate-probe"}, {new(string), "casemate-review"}, {new(string), "casemate-gate"}, {new(string), "casemate-secret"}} {
		*b.path = filepath.Join(dir, b.name)
		build := exec.Command("go", "build", "-trimpath", "-o", *b.path, "casemate.dev/cmd/"+b.name)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			panic(string(out))
		}
	}
	return m.Run()
}

// mode is a way to confine, and how a test gets it.
type mode struct {
	name  string
	owner int      // of the project, when the tests run as root
	flags []string // of casemate
	env   []string
}

// modes are those that can be had here: root with a project of root's and one of a user's, else rootless and the fallback.
func modes() []mode {
	if os.Getuid() == 0 {
		return []mode{{name: "root", owner: 0}, {name: "root-user-project", owner: 2000}}
	}
	return []mode{{name: "rootless"}, fallback()}
}

// fallback is the mode without namespaces, in which Landlock and the filter are all there is.
func fallback() mode {
	return mode{name: "landlock", flags: []string{"--allow-fallback", "landlock"}, env: []string{"CASEMATE_TEST_NO_USERNS=1"}}
}

// best is the mode that a person gets here who says nothing.
func best() mode { return modes()[0] }

// site is a host for one test: fixtures, and how to run casemate in their project.
type site struct {
	*enginetest.Fixtures
	t     *testing.T
	mode  mode
	world *world // the network that casemate runs in; nil: this machine's
}

// newSite makes the fixtures with a copy of the probe in the project.
func newSite(t *testing.T, m mode) *site {
	t.Helper()
	return newSiteFor(t, m, nil)
}

// newSiteFor makes them for attacks that need a directory of their own.
func newSiteFor(t *testing.T, m mode, cases []enginetest.Case) *site {
	t.Helper()
	dir, err := os.MkdirTemp("", "casemate-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeAll(t, dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	owner := os.Getuid()
	if owner == 0 {
		owner = m.owner
	}
	f, err := enginetest.NewFixtures(dir, probe, owner, owner, cases)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &site{Fixtures: f, t: t, mode: m}
	s.copyProbe()
	return s
}

func (s *site) copyProbe() {
	s.t.Helper()
	b, err := os.ReadFile(probe)
	if err != nil {
		s.t.Fatal(err)
	}
	s.put("bin/probe", string(b), 0o755)
	s.Accept()
}

// put writes a file of the project, as the project's owner would.
func (s *site) put(name, content string, perm os.FileMode) {
	s.t.Helper()
	path := filepath.Join(s.Work, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), perm); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Chmod(path, perm); err != nil {
		s.t.Fatal(err)
	}
	s.give(path)
	s.give(filepath.Dir(path))
}

func (s *site) give(path string) {
	if os.Getuid() == 0 && s.mode.owner != 0 {
		if err := os.Lchown(path, s.mode.owner, s.mode.owner); err != nil {
			s.t.Fatal(err)
		}
	}
}

// environ is the environment of a caller with credentials in it.
func (s *site) environ() []string {
	env := []string{
		"HOME=" + s.Home, "USER=tester", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "TERM=xterm-256color",
		"XDG_STATE_HOME=" + s.State, "XDG_CONFIG_HOME=" + filepath.Join(s.Home, ".config"), "TMPDIR=/tmp",
	}
	return append(append(env, s.SafeEnviron()...), s.mode.env...)
}

// command is a casemate command in the project.
func (s *site) command(args ...string) *exec.Cmd {
	if len(args) > 0 && (args[0] == "run" || args[0] == "plan" || args[0] == "validate") {
		args = append(append([]string{args[0]}, s.mode.flags...), args[1:]...)
	}
	cmd := exec.Command(casemate, args...)
	cmd.Dir = s.Work
	cmd.Env = s.environ()
	if s.world != nil {
		s.world.enter(cmd, append([]string{casemate}, args...)...)
	}
	cmd.WaitDelay = patience
	return cmd
}

// output is what a finished command left.
type output struct {
	stdout, stderr string
	exit           int
	result         result // of --json
}

// result is the line that `casemate run --json` ends with.
type result struct {
	Sandbox string `json:"sandbox"`
	Exit    int    `json:"exit"`
	Reason  string `json:"reason"`
	Detail  string `json:"detail"`
}

// do runs a casemate command to its end.
func (s *site) do(args ...string) output {
	s.t.Helper()
	return s.finish(s.command(args...))
}

// run runs a command in a sandbox; flags of casemate come before "--".
func (s *site) run(args ...string) output {
	s.t.Helper()
	return s.do(append([]string{"run", "--json"}, args...)...)
}

// sh runs a line of shell in a sandbox.
func (s *site) sh(line string) output {
	s.t.Helper()
	return s.run("--", "sh", "-c", line)
}

func (s *site) finish(cmd *exec.Cmd) output {
	s.t.Helper()
	var stdout, stderr bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &stdout
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &stderr
	}
	done := make(chan struct{})
	go hangs(s.t, cmd, done)
	err := cmd.Run()
	close(done)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatalf("%v: %v", cmd.Args, err)
	}
	out := output{stdout: stdout.String(), stderr: stderr.String(), exit: cmd.ProcessState.ExitCode()}
	lines := strings.Split(strings.TrimSpace(out.stderr), "\n")
	_ = json.Unmarshal([]byte(lines[len(lines)-1]), &out.result) // only --json ends so
	return out
}

// hangs ends a casemate that does not end, and says where it and what it started stand. A machine that stood still is no hang.
func hangs(t *testing.T, cmd *exec.Cmd, done <-chan struct{}) {
	for range 4 {
		select {
		case <-done:
			return
		case <-time.After(time.Minute):
		}
	}
	t.Errorf("%v does not end", cmd.Args)
	var look func(pid string)
	look = func(pid string) {
		for _, task := range glob("/proc/" + pid + "/task/*") {
			where := ""
			for _, f := range []string{"comm", "wchan", "syscall", "stack"} {
				b, _ := os.ReadFile(filepath.Join(task, f))
				where += " " + strings.TrimSpace(string(b))
			}
			t.Logf("%s:%s", task, where)
			b, _ := os.ReadFile(filepath.Join(task, "children"))
			for _, child := range strings.Fields(string(b)) {
				look(child)
			}
		}
	}
	look(strconv.Itoa(cmd.Process.Pid))
	_ = cmd.Process.Signal(syscall.SIGABRT) // the Go runtime says where its goroutines are
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		_ = cmd.Process.Kill()
	}
}

func glob(pattern string) []string {
	found, _ := filepath.Glob(pattern)
	return found
}

func (o output) String() string {
	return fmt.Sprintf("exit %d\nstdout:\n%s\nstderr:\n%s", o.exit, tail(o.stdout), tail(o.stderr))
}

func tail(s string) string {
	if len(s) > 4000 {
		return "..." + s[len(s)-4000:]
	}
	return s
}

// attack runs attacks of the table in a sandbox and judges them with what the host saw.
func (s *site) attack(flags []string, ids ...string) []enginetest.Result {
	s.t.Helper()
	results, out := s.attackOnly(flags, ids...)
	return s.Verify(results, out.stdout+out.stderr)
}

// attackOnly runs them without the host's part of the judgement.
func (s *site) attackOnly(flags []string, ids ...string) ([]enginetest.Result, output) {
	s.t.Helper()
	s.describe(flags)
	args := append(append([]string{"run", "--json"}, flags...), probing()...)
	if s.Env.Workspace == "none" {
		s.t.Fatal("bug: without a project there is no probe in it")
	}
	out := s.do(append(args, ids...)...)
	results, other, err := enginetest.ReadResults(strings.NewReader(out.stdout))
	if err != nil {
		s.t.Fatal(err)
	}
	if other != "" {
		s.t.Logf("besides its results the probe printed %q", tail(other))
	}
	if len(results) == 0 {
		s.t.Fatalf("the probe reported nothing: %v", out)
	}
	return results, out
}

// probing runs the probe's whole table, or the attacks that follow, in a sandbox. By way of a shell, which stands in the project as the sandbox
// sees it: where it is a copy, the project's own path leads nowhere.
func probing() []string {
	return []string{"--", "sh", "-c", `exec ./bin/probe run --json --env probe.json "$@"`, "probe"}
}

// describe writes the fixtures' description into the project, with what the plan does not promise.
func (s *site) describe(flags []string) {
	s.t.Helper()
	p := s.plan(flags...)
	s.Env.Mode, s.Env.Workspace = p.Mode, p.Workspace.Kind
	s.Env.Without = nil
	for _, g := range p.Guarantees {
		if g.State == "absent" {
			s.Env.Without = append(s.Env.Without, g.Name)
		}
	}
	_, text, _ := strings.Cut(s.Env.Environ(), "=")
	s.put("probe.json", text, 0o644)
	s.Accept()
}

// planned is what the tests need of `casemate plan --json`.
type planned struct {
	Mode       string                             `json:"mode"`
	Workspace  struct{ Kind, By, Path string }    `json:"workspace"`
	Guarantees []struct{ Name, State, By string } `json:"guarantees"`
	Limits     []struct{ Name, Value, By string } `json:"limits"`
}

func (s *site) plan(flags ...string) planned {
	s.t.Helper()
	args := append(append([]string{"plan", "--json"}, flags...), "--", "true")
	out := s.do(args...)
	if out.exit != 0 {
		s.t.Errorf("plan before the first run: %v", out) // and go on: the rest of the test is about something else
		s.do(append(append([]string{"run"}, flags...), "--", "true")...)
		out = s.do(args...)
	}
	var p planned
	if err := json.Unmarshal([]byte(out.stdout), &p); err != nil {
		s.t.Fatalf("plan --json: %v\n%v", err, out)
	}
	return p
}

// judge reports every attack as a test of its own.
func judge(t *testing.T, results []enginetest.Result) {
	t.Helper()
	for _, r := range results {
		t.Run(r.ID, func(t *testing.T) {
			switch r.Verdict {
			case enginetest.Held:
			case enginetest.NotRun:
				t.Skip(r.Detail)
			case enginetest.Excused:
				t.Skipf("not promised here: %s: %s", r.Guarantee, r.Detail)
			default:
				t.Errorf("%s: %s (%s): %s", r.Verdict, r.Title, r.Guarantee, r.Detail)
			}
		})
	}
}

// removeAll removes a tree that may hold directories without rights.
func removeAll(t *testing.T, dir string) {
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(path, 0o700) // before it is read
		}
		return nil
	})
	if err := os.RemoveAll(dir); err != nil {
		t.Logf("left behind: %v", err)
	}
}

// has fails the test when the text lacks what it should hold.
func has(t *testing.T, what, text, want string) {
	t.Helper()
	if !strings.Contains(text, want) {
		t.Errorf("%s: %q is not in:\n%s", what, want, tail(text))
	}
}

// hasNot fails the test when the text holds what it should not.
func hasNot(t *testing.T, what, text, bad string) {
	t.Helper()
	if strings.Contains(text, bad) {
		t.Errorf("%s: %q is in:\n%s", what, bad, tail(text))
	}
}
