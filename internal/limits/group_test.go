package limits

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// real makes real groups, or skips where this machine has none that we may write.
func real(t *testing.T, s Set) *Group {
	t.Helper()
	f := Detect(os.Getuid(), false)
	for _, c := range wanted() {
		if f.way(c) == byNothing {
			t.Skipf("no control group with the controller %s can be made here", c)
		}
	}
	g, err := Create(f, fmt.Sprintf("test-%d-%s", os.Getpid(), strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, t.Name())[:min(len(t.Name()), 30)]), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = g.Kill()
		if err := g.Remove(); err != nil {
			t.Error(err)
		}
		for _, d := range g.Dirs() {
			if _, err := os.Stat(d); err == nil {
				t.Errorf("left: %s", d)
			}
		}
	})
	return g
}

// counter reads a file of the controller's group, by its name in v1 or in v2 (memory.peak: since Linux 5.19). What cannot be read is -1.
func (g *Group) counter(controller, v1, v2 string) int64 {
	d, _ := g.dir(controller)
	file := v1
	if d.v2() {
		file = v2
	}
	data, _ := readShow(d.path + "/" + file)
	return number(data)
}

// pids is how many processes and threads are in the group now.
func (g *Group) pids() int { return int(g.counter("pids", "pids.current", "pids.current")) }

// forksRefused is how often the pids limit refused a new process or thread.
func (g *Group) forksRefused() int64 { return g.counter("pids", "pids.events", "pids.events") }

// namespaces are the ways in which a child can be apart from us.
func namespaces() map[string]*syscall.SysProcAttr {
	return map[string]*syscall.SysProcAttr{"beside us": {}, "in a user namespace": userNamespace()}
}

func TestMemoryBombIsKilledAndNamed(t *testing.T) {
	for name, attr := range namespaces() {
		t.Run(name, func(t *testing.T) {
			g := real(t, Set{Memory: 64 * mib, Pids: 100})
			c := start(t, "eat 512", g.JoinFDs(), attr)
			g.Joined()
			if g.OOM() != 0 {
				t.Error("counted before it happened")
			}
			c.begin()
			if status := c.ended(); status.Signal() != unix.SIGKILL {
				t.Errorf("ended with %v", status)
			}
			if g.OOM() == 0 {
				t.Error("not counted")
			}
			if peak := g.counter("memory", "memory.max_usage_in_bytes", "memory.peak"); peak > 66*mib { // the kernel charges in batches
				t.Errorf("it had %s", size(peak))
			}
		})
	}
}

func TestMemoryBelowTheLimitIsLeftAlone(t *testing.T) {
	g := real(t, Set{Memory: 512 * mib, Pids: 100})
	c := start(t, "eat 64", g.JoinFDs(), nil)
	c.begin()
	if line := c.line(); line != "done" {
		t.Errorf("%q", line)
	}
	if used, n := g.counter("memory", "memory.usage_in_bytes", "memory.current"), g.pids(); used < 64*mib || n < 1 || g.OOM() != 0 {
		t.Errorf("%s, %d processes, %d killed", size(used), n, g.OOM())
	}
}

func TestForkBombIsStopped(t *testing.T) {
	g := real(t, Set{Memory: gib, Pids: 60})
	c := start(t, "bomb", g.JoinFDs(), nil)
	c.begin()
	until(t, "forks refused", patient, func() bool { return g.forksRefused() > 0 })
	if n := g.pids(); n > 60 {
		t.Errorf("%d processes", n)
	}
	if err := g.Kill(); err != nil { // so it is too where that takes more than 2 s
		t.Fatal(err)
	}
	for _, d := range g.Dirs() {
		if pids := members(d); len(pids) > 0 {
			t.Errorf("%s: %v", d, pids)
		}
	}
}

func TestCPUQuota(t *testing.T) {
	g := real(t, Set{CPUs: 0.2})
	c := start(t, "burn", g.JoinFDs(), nil)
	before, begun := c.computed(), time.Now()
	c.begin()
	until(t, "0.2 s of CPU time", patient, func() bool { return c.computed()-before >= 200*time.Millisecond })
	if took := time.Since(begun); took < 500*time.Millisecond {
		t.Errorf("0.2 s of CPU time took %v: more than a fifth of a core", took)
	}
}

func TestEmptyGroupDoesNothing(t *testing.T) {
	g, err := Create(Facts{}, "x", Set{Memory: gib})
	if err != nil {
		t.Fatal(err)
	}
	if g.Kill() != nil || g.Remove() != nil || g.OOM() != 0 {
		t.Error("an empty group does something")
	}
}

func TestLeftoversOfACrashAreRemoved(t *testing.T) {
	g := real(t, Set{Memory: gib, Pids: 60})
	c := start(t, "bomb", g.JoinFDs(), nil)
	g.Joined()
	c.begin()
	until(t, "a bomb", patient, func() bool { return g.pids() > 30 })
	id := strings.TrimPrefix(g.name, prefix)
	f := Detect(os.Getuid(), false)
	if found := Leftovers(f, func(other string) bool { return true }); len(found) > 0 {
		t.Errorf("all live, yet %v", found)
	}
	found := Leftovers(f, func(other string) bool { return other != id })
	if len(found) != len(g.dirs) {
		t.Fatalf("found %v, made %v", found, g.Dirs())
	}
	if err := RemoveLeftovers(found); err != nil {
		t.Fatal(err)
	}
	c.ended()
	for _, d := range found {
		if _, err := os.Stat(d); !os.IsNotExist(err) {
			t.Errorf("%s: %v", d, err)
		}
	}
}

// TestReadOnlyCgroups is a container: the file systems are there, and nothing can be written.
func TestReadOnlyCgroups(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to mount")
	}
	script := "mount --make-rprivate / && for d in $(awk '$9 ~ /^cgroup/ || $8 ~ /^cgroup/ {print $5}' /proc/self/mountinfo); do mount -o remount,bind,ro $d; done; exec \"$0\" -test.run=TestDetectForAnother -test.v"
	self, _ := os.Executable()
	cmd := exec.Command("/bin/sh", "-c", script, self)
	cmd.Env = append(os.Environ(), "CASEMATE_LIMITS_DETECT=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var f Facts
	if err := json.NewDecoder(strings.NewReader(string(out[strings.IndexByte(string(out), '{'):]))).Decode(&f); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, c := range wanted() {
		if f.way(c) != byNothing {
			t.Errorf("%s is held by %d in a container that may write nothing", c, f.way(c))
		}
	}
	for _, e := range By(f, Set{Memory: gib, Pids: 10})[:2] {
		if strings.Contains(e.By, "cgroup") {
			t.Errorf("%+v", e)
		}
	}
	for _, h := range f.V1 {
		if h.Why != "read-only file system" {
			t.Errorf("%+v", h)
		}
	}
}

// TestDetectForAnother prints what TestReadOnlyCgroups asks for.
func TestDetectForAnother(t *testing.T) {
	if os.Getenv("CASEMATE_LIMITS_DETECT") != "" {
		text, _ := json.Marshal(Detect(os.Getuid(), false))
		fmt.Println(string(text))
	}
}

// TestProcessLimitCountsInsideOnly: without control groups, RLIMIT_NPROC. 25 processes of the same user outside do not count.
func TestProcessLimitCountsInsideOnly(t *testing.T) {
	attr := userNamespace()
	outside := exec.Command("/bin/sh", "-c", "for i in $(seq 25); do sleep 1000 & done; echo made; wait")
	outside.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Getuid() == 0 {
		outside.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(attr.UidMappings[0].HostID), Gid: uint32(attr.GidMappings[0].HostID)}
	}
	out, _ := outside.StdoutPipe()
	if err := outside.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = unix.Kill(-outside.Process.Pid, unix.SIGKILL) // all of them: dash forgets its jobs where a command is substituted
		_ = outside.Wait()
	}()
	if _, err := out.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	for _, r := range Rlimits(Set{Pids: 20}, holder(byNothing, "")) {
		if r.Resource != unix.RLIMIT_NPROC {
			continue
		}
		c := start(t, "inside forks 40", nil, attr)
		if err := unix.Prlimit(c.cmd.Process.Pid, r.Resource, &unix.Rlimit{Cur: r.Soft, Max: r.Hard}, nil); err != nil {
			t.Fatal(err)
		}
		c.begin()
		var made int
		if _, err := fmt.Sscanf(c.line(), "done %d", &made); err != nil {
			t.Fatal(err)
		}
		// The threads of the Go program count too.
		if made < 5 || made >= 20 {
			t.Errorf("%d of 40 children were made with a limit of 20 and 25 processes outside", made)
		}
		return
	}
	t.Error("no limit of processes")
}

func TestFileSizeLimit(t *testing.T) {
	dir, _ := shared(t)
	c := start(t, "file "+dir+" 16", nil, nil)
	for _, r := range Rlimits(Set{Disk: 4 * mib}, Facts{Files: 1024, OpenFiles: 1024, FileSize: unix.RLIM_INFINITY}) {
		if err := unix.Prlimit(c.cmd.Process.Pid, r.Resource, &unix.Rlimit{Cur: r.Soft, Max: r.Hard}, nil); err != nil {
			t.Fatal(err)
		}
	}
	c.begin()
	c.line()
	if info, err := os.Stat(filepath.Join(dir, "big")); err != nil || info.Size() > 4*mib {
		t.Errorf("%v, %v", info, err)
	}
}

// BenchmarkCreate is what a start pays for: Detect, Create and Remove with the default limits.
func BenchmarkCreate(b *testing.B) {
	f := Detect(os.Getuid(), false)
	if f.way("memory") != byV1 {
		b.Skip("no v1 groups here")
	}
	s := Defaults(f.Memory, 100*gib, true)
	for b.Loop() {
		g, err := Create(f, "bench", s)
		if err != nil {
			b.Fatal(err)
		}
		if err := g.Remove(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDetect(b *testing.B) {
	for b.Loop() {
		Detect(os.Getuid(), false)
	}
}
