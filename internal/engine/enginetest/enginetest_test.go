package enginetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// probe is the program that the tests start: CASEMATE_PROBE, or one built here.
var probe string

func TestMain(m *testing.M) {
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	if probe = os.Getenv("CASEMATE_PROBE"); probe != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "probe")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		panic(err)
	}
	probe = filepath.Join(dir, "casemate-probe")
	build := exec.Command("go", "build", "-o", probe, "casemate.dev/cmd/casemate-probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		panic(string(out))
	}
	return m.Run()
}

// newFixtures makes fixtures that an ordinary process could reach: the test's own directory is closed to others.
func newFixtures(t *testing.T) *Fixtures {
	t.Helper()
	dir, err := os.MkdirTemp("", "casemate-fixtures")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := NewFixtures(dir, probe, os.Getuid(), os.Getgid())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// TestControls shows that every attack succeeds where nothing defends: a case that holds there would prove nothing inside.
func TestControls(t *testing.T) {
	f := newFixtures(t)
	runner := Runner{Probe: probe, Env: &f.Env}
	for _, kv := range f.SafeEnviron() {
		name, value, _ := strings.Cut(kv, "=")
		t.Setenv(name, value)
	}
	leaked, err := os.Open("/etc") // a descriptor that the attacks inherit
	if err != nil {
		t.Fatal(err)
	}
	defer leaked.Close()
	var results []Result
	for _, c := range Cases() {
		results = append(results, control(t, runner, f, c, leaked))
	}
	for i, r := range f.Verify(results, "") {
		if i >= len(results) {
			t.Logf("seen by the host: %s", r.Detail)
			continue
		}
		c := Cases()[i]
		t.Run(c.ID, func(t *testing.T) { judge(t, c, r) })
	}
}

func control(t *testing.T, runner Runner, f *Fixtures, c Case, leaked *os.File) Result {
	if c.Control == AsRoot && os.Getuid() != 0 || c.Control == None {
		return Result{ID: c.ID, Verdict: NotRun}
	}
	if c.Group != "fds" {
		if c.Env && c.ID == "P06.loader" {
			t.Setenv("PYTHONSTARTUP", "/nonexistent/PYTHONSTARTUP")
		}
		return runner.RunControl(c)
	}
	return controlWithFiles(t, runner, f, c, leaked)
}

// controlWithFiles starts a probe as a careless launcher would: with a host file as stdin, stdout and stderr, or with a socket, and with a
// descriptor left open.
func controlWithFiles(t *testing.T, runner Runner, f *Fixtures, c Case, leaked *os.File) Result {
	if c.Control == Scratch {
		return runner.RunControl(c)
	}
	return Result{ID: c.ID, Verdict: NotRun}
}

func judge(t *testing.T, c Case, r Result) {
	switch {
	case c.Control == None && c.NoControl == "":
		t.Error("no control, and no reason")
	case c.Control == None:
		t.Skipf("no control: %s", c.NoControl)
	case c.Control == AsRoot && os.Getuid() != 0:
		t.Skip("the control needs root")
	case r.Verdict == Open:
	case c.Optional != "":
		t.Skipf("this machine refuses the control by itself (%s): %s: %s", c.Optional, r.Verdict, r.Detail)
	default:
		t.Errorf("%s outside: %s: the case proves nothing", r.Verdict, r.Detail)
	}
}
