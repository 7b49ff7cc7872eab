package enginetest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// probe is the program that the tests start: CASEMATE_PROBE, or one built here.
var probe string

func TestMain(m *testing.M) {
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	if os.Getuid() == 0 {
		// A supplementary group, for the attacks that keep it.
		if err := syscall.Setgroups([]int{os.Getgid(), 54321}); err != nil {
			panic(err)
		}
	}
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
	return newFixturesFor(t, Cases())
}

func newFixturesFor(t *testing.T, cases []Case) *Fixtures {
	t.Helper()
	dir, err := os.MkdirTemp("", "casemate-fixtures")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := NewFixtures(dir, probe, os.Getuid(), os.Getgid(), cases)
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
	var results []Result
	for _, c := range Cases() {
		results = append(results, control(t, runner, f, c))
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

func control(t *testing.T, runner Runner, f *Fixtures, c Case) Result {
	if c.Control == AsRoot && os.Getuid() != 0 || c.Control == None {
		return Result{ID: c.ID, Verdict: NotRun}
	}
	if c.Group == "fds" && c.Control == Outside {
		return controlWithFiles(t, f, c)
	}
	if c.Env {
		runner.Extra = f.Environ()
	}
	return runner.RunControl(c)
}

// controlWithFiles starts a probe as a careless launcher would: with host files opened for reading and writing as stdout and stderr, a socket
// or a terminal as stdin, and a directory left open.
func controlWithFiles(t *testing.T, f *Fixtures, c Case) Result {
	t.Helper()
	out, err := os.OpenFile(filepath.Join(t.TempDir(), "out"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	leaked, err := os.Open("/etc")
	if err != nil {
		t.Fatal(err)
	}
	defer leaked.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	stdin := os.NewFile(uintptr(pair[0]), "socket")
	other := os.NewFile(uintptr(pair[1]), "socket")
	defer stdin.Close()
	defer other.Close()
	if c.ID == "T08.terminal" {
		master, slave := openTerminal(t)
		defer master.Close()
		defer slave.Close()
		stdin = slave
	}
	cmd := exec.Command(probe, "control", "--json", c.ID)
	cmd.Env = append(os.Environ(), f.Env.Environ())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, out, out
	cmd.ExtraFiles = []*os.File{leaked}
	if err := cmd.Run(); err != nil {
		t.Logf("%s: %v", c.ID, err)
	}
	if _, err := out.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	results, other2, err := ReadResults(out)
	if err != nil || len(results) != 1 {
		t.Fatalf("%s: %d results, %q, %v", c.ID, len(results), other2, err)
	}
	return results[0]
}

// openTerminal makes a pseudo-terminal of the host's.
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
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
