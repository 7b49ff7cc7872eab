package test

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"casemate.dev/test/bench/count"
	"golang.org/x/sys/unix"
)

// What a start may cost at most, in counts: those do not depend on the machine's mood. Lower them when a start becomes cheaper.
// The first goal of the design is 600 calls, the second 250.
const (
	maxCalls           = 690     // rootless; measured: 655, of which a thread more or less makes 9
	maxCallsAtRest     = 635     // measured: 600
	maxCallsRoot       = 820     // with control groups; measured: 784
	maxCallsRootAtRest = 765     // measured: 726
	maxInits           = 45      // package inits of `casemate --version`; measured: 44
	maxPSS             = 4 << 10 // KiB around a command that has run for a second; measured: 3.1 MiB, with a cleaner 3.5; the first goal is 6, the second 3
)

// TestStartCost gates the system calls of a whole start, and that nothing but the command is executed for it: a second program, or casemate
// started again, would cost a millisecond each.
func TestStartCost(t *testing.T) {
	project, env := smallProject(t)
	most, atRest := maxCalls, maxCallsAtRest
	if os.Getuid() == 0 {
		most, atRest = maxCallsRoot, maxCallsRootAtRest
	}
	gateCalls(t, "in a project that has just changed", project, env, most)
	time.Sleep(2 * time.Second) // until casemate believes the times of the project's directories: not a wait for anything
	gateCalls(t, "in a project at rest", project, env, atRest)
}

func gateCalls(t *testing.T, where, project string, env []string, most int) {
	t.Helper()
	least := count.Calls{Made: 1 << 30}
	for i := range 20 { // the first ones prepare /etc and indexes, and do not believe what changed within the clock's last tick
		if i >= 5 && least.Made <= most {
			break // else more: on a busy machine the Go runtime starts more threads
		}
		c, err := count.UntilExec([]string{casemate, "run", "--", "true"}, env, project, nil, "true")
		if err != nil {
			t.Fatal(err)
		}
		if c.Execs != 1 {
			t.Fatalf("%d programs were executed to start one", c.Execs)
		}
		if c.Made < least.Made {
			least = c
		}
		time.Sleep(30 * time.Millisecond) // a tick of the file system's clock, see guest's stamps: not a wait for anything
	}
	t.Logf("%s: %d system calls until the command, and %d of waiting threads; %d threads and processes", where, least.Made, least.Waiting, least.Threads)
	if least.Made > most {
		t.Errorf("%s, a start takes %d system calls until the command, more than %d: by number %v", where, least.Made, most, least.By)
	}
}

// smallProject is a repository of one file, and a small environment with a home of its own: what a start costs in little.
func smallProject(t *testing.T) (project string, env []string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "casemate-gates")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeAll(t, dir) })
	project, home := filepath.Join(dir, "project"), filepath.Join(dir, "home")
	for _, d := range []string{filepath.Join(project, ".git", "objects"), filepath.Join(project, ".git", "refs"), home} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string]string{"README": "hello\n", ".git/HEAD": "ref: refs/heads/main\n", ".git/config": "[core]\n\tbare = false\n"} {
		if err := os.WriteFile(filepath.Join(project, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return project, []string{"HOME=" + home, "PATH=/usr/bin:/bin", "LANG=C.UTF-8"}
}

// TestPackageInits gates what runs before main at every start.
func TestPackageInits(t *testing.T) {
	cmd := exec.Command(casemate, "--version")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	n := strings.Count("\n"+string(out), "\ninit ")
	t.Logf("%d package inits", n)
	if n == 0 || n > maxInits {
		t.Errorf("%d package inits, at most %d are wanted:\n%s", n, maxInits, out)
	}
}

// TestStatic: one binary without an interpreter or a library, which runs wherever the kernel does.
func TestStatic(t *testing.T) {
	f, err := elf.Open(casemate)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("the binary has a %v segment", p.Type)
		}
	}
	if libs, err := f.ImportedLibraries(); err == nil && len(libs) > 0 {
		t.Errorf("the binary needs %v", libs)
	}
}

// TestMemoryAround gates the memory of what stays around a command. An ordinary user may not read that of the sandbox's first process.
func TestMemoryAround(t *testing.T) {
	project, env := smallProject(t)
	first := exec.Command(casemate, "run", "--", "true") // prepares /etc and indexes, with garbage that later runs do not have
	first.Dir, first.Env = project, env
	if out, err := first.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command(casemate, "run", "--", "sleep", "60")
	cmd.Dir, cmd.Env = project, env
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Signal(unix.SIGTERM)
	around := waitForSleep(t, cmd.Process.Pid)
	total, unread := sumPSS(t, around)
	t.Logf("%d KiB in %d processes at the start, %d more not readable", total, len(around)-unread, unread)
	for end := time.Now().Add(patience); total > maxPSS && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		total, _ = sumPSS(t, around) // after a second the supervisor gives back what only the start needed
	}
	t.Logf("%d KiB later", total)
	if total > maxPSS {
		t.Errorf("%d KiB around a command, more than %d", total, maxPSS)
	}
}

func sumPSS(t *testing.T, processes []int) (total, unread int) {
	t.Helper()
	for _, pid := range processes {
		kib, err := pss(pid)
		if errors.Is(err, fs.ErrPermission) {
			unread++
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ESRCH) { // one of the start's own, which has ended
			t.Fatal(err)
		}
		total += kib
	}
	return total, unread
}

// waitForSleep lists the processes of a run other than its command, once that runs.
func waitForSleep(t *testing.T, root int) []int {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		list, running := treeOf(root)
		if running {
			return list
		}
	}
	t.Fatal("the command never ran")
	return nil
}

func treeOf(pid int) (list []int, running bool) {
	if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); strings.TrimSpace(string(comm)) == "sleep" {
		return nil, true
	}
	list = []int{pid}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		b, _ := os.ReadFile(task)
		for _, word := range strings.Fields(string(b)) {
			child, _ := strconv.Atoi(word)
			l, r := treeOf(child)
			list, running = append(list, l...), running || r
		}
	}
	return list, running
}

// pss is a process's share of the memory, in KiB.
func pss(pid int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			return strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
		}
	}
	return 0, fmt.Errorf("process %d has no Pss", pid)
}
