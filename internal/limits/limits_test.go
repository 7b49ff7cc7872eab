package limits

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestDefaults(t *testing.T) {
	for _, test := range []struct {
		name             string
		memory, diskFree int64
		terminal         bool
		want             Set
	}{
		{"a workstation", 24 * gib, 500 * gib, true, Set{Memory: 18 * gib, Pids: 4096, Disk: 20 * gib}},
		{"little disk, no terminal", 4 * gib, 10 * gib, false, Set{Memory: 3 * gib, Pids: 4096, Disk: 5 * gib, Time: 6 * time.Hour}},
		{"a full disk is not a licence", 4 * gib, 0, true, Set{Memory: 3 * gib, Pids: 4096, Disk: mib}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := Defaults(test.memory, test.diskFree, test.terminal); got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{12 * gib: "12 GiB", gib + gib/2: "1.5 GiB", 64 * mib: "64 MiB", 4096: "4 KiB", 7: "7 bytes"} {
		if got := size(n); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// holder is a machine where one mechanism holds all controllers.
func holder(w way, root string) Facts {
	f := Facts{Files: 1 << 30, OpenFiles: 1024, Processes: unix.RLIM_INFINITY, FileSize: unix.RLIM_INFINITY, root: root}
	switch w {
	case byV1:
		for _, c := range wanted() {
			f.V1 = append(f.V1, Hierarchy{Controller: c, Dir: "/" + c})
		}
	case byV2:
		f.V2 = &Unified{Dir: "/own", Controllers: wanted(), Enable: []string{"pids"}}
	case bySystemd:
		f.Systemd = &Systemd{Socket: "/bus", Controllers: []string{"memory", "pids"}}
	}
	return f
}

func TestBy(t *testing.T) {
	s := Set{Memory: 12 * gib, Pids: 4096, Disk: 20 * gib, CPUs: 1.5, Time: 2 * time.Hour}
	for _, test := range []struct {
		name string
		f    Facts
		want string
	}{
		{"v1", holder(byV1, ""), "memory 12 GiB: cgroup v1 memory, enforced | pids 4096: cgroup v1 pids, enforced | cpu 1.5 cores: cgroup v1 cpu, enforced"},
		{"v2", holder(byV2, ""), "memory 12 GiB: cgroup v2, enforced | pids 4096: cgroup v2, enforced | cpu 1.5 cores: cgroup v2, enforced"},
		{"systemd without cpu", holder(bySystemd, ""), "memory 12 GiB: systemd scope, cgroup v2, enforced | pids 4096: systemd scope, cgroup v2, enforced | cpu 2 cores: CPU affinity, with sched_setaffinity refused, enforced"},
		{"nothing", holder(byNothing, ""), "memory 12 GiB: watched every second or more often, watched | pids 4096: RLIMIT_NPROC in the user namespace, enforced | cpu 2 cores: CPU affinity, with sched_setaffinity refused, enforced"},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := strings.Split(test.want, " | ")
			want = append(want, "disk 20 GiB: watched every second or more often; RLIMIT_FSIZE for each file, watched", "open files 1048576: RLIMIT_NOFILE, enforced",
				"core 0: RLIMIT_CORE, enforced", "time 2h0m0s: the supervisor's clock, enforced", "idle none: , none")
			var got []string
			for _, e := range By(test.f, s) {
				got = append(got, e.Name+" "+e.Value+": "+e.By+", "+string(e.Strength))
			}
			if !slices.Equal(got, want) {
				t.Errorf("\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

// TestByNamesTheUsersOwnLimits: what is below the policy's holds, and the plan says whose it is.
func TestByNamesTheUsersOwnLimits(t *testing.T) {
	for _, w := range []way{byNothing, byV1, byV2, bySystemd} {
		f := holder(w, "")
		f.UID, f.Processes, f.FileSize = 1000, 3000, 512*uint64(mib)
		for _, e := range By(f, Set{Pids: 4096, Disk: 20 * gib}) {
			switch {
			case e.Name == "pids" && (e != Enforced{"pids", "3000", "your own limit (ulimit -u), in which your other processes count too", Held}):
				t.Errorf("%d: %+v", w, e)
			case e.Name == "disk" && (e != Enforced{"disk", "20 GiB", "watched every second or more often; for each file your own limit (ulimit -f) of 512 MiB", Watched}):
				t.Errorf("%d: %+v", w, e)
			}
		}
		if e := f.byPids(Set{Pids: 3000}); strings.Contains(e.By, "your own") {
			t.Errorf("%d: one that is as low: %+v", w, e)
		}
	}
}

func TestNoLimitIsNotCalledEnforced(t *testing.T) {
	for _, e := range By(holder(byNothing, ""), Set{}) {
		if fixed := e.Name == "open files" || e.Name == "core"; fixed != (e.Strength == Held) {
			t.Errorf("%+v", e)
		}
	}
}

func TestWatched(t *testing.T) {
	s := Set{Memory: 1, Disk: 2, Pids: 3, CPUs: 4, Files: 5, Time: 6, Idle: 7}
	if got, want := holder(byV1, "").Watched(s), (Set{Disk: 2, Time: 6, Idle: 7}); got != want {
		t.Errorf("with groups: %+v", got)
	}
	if got, want := (Facts{}).Watched(s), (Set{Memory: 1, Disk: 2, Time: 6, Idle: 7}); got != want {
		t.Errorf("without: %+v", got)
	}
}

func TestRlimits(t *testing.T) {
	s := Set{Disk: 20 * gib, Pids: 64}
	core, files, length := Rlimit{unix.RLIMIT_CORE, 0, 0}, Rlimit{unix.RLIMIT_NOFILE, 1024, maxFiles}, Rlimit{unix.RLIMIT_FSIZE, uint64(s.Disk), uint64(s.Disk)}
	for _, test := range []struct {
		name string
		f    Facts
		s    Set
		want []Rlimit
	}{
		{"a group counts processes", holder(byV1, ""), s, []Rlimit{core, files, length}},
		{"none does", holder(byNothing, ""), s, []Rlimit{core, files, length, {unix.RLIMIT_NPROC, 64, 64}}},
		{"a host with fewer files", Facts{Files: 512, OpenFiles: 256}, Set{}, []Rlimit{core, {unix.RLIMIT_NOFILE, 256, 512}}},
		{"a user with fewer of everything", Facts{Files: 512, OpenFiles: 256, Processes: 32, FileSize: 7}, s,
			[]Rlimit{core, {unix.RLIMIT_NOFILE, 256, 512}, {unix.RLIMIT_FSIZE, 7, 7}, {unix.RLIMIT_NPROC, 32, 32}}},
		{"fewer files wanted", holder(byNothing, ""), Set{Files: 100}, []Rlimit{core, {unix.RLIMIT_NOFILE, 100, 100}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := Rlimits(test.s, test.f); !slices.Equal(got, test.want) {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}

func TestAffinity(t *testing.T) {
	if _, needed := Affinity(holder(byV1, ""), Set{CPUs: 1}); needed {
		t.Error("a group holds it")
	}
	if _, needed := Affinity(Facts{}, Set{}); needed {
		t.Error("nothing was asked for")
	}
	cpus, needed := Affinity(Facts{}, Set{CPUs: 0.5})
	if !needed || cpus.Count() != 1 {
		t.Errorf("%d CPUs, needed %v", cpus.Count(), needed)
	}
	var ours unix.CPUSet
	ours.Set(3)
	ours.Set(70)
	ours.Set(71)
	if got := firstOf(ours, 2); got.Count() != 2 || !got.IsSet(3) || !got.IsSet(70) {
		t.Errorf("%v", got)
	}
}

// cgroupfs is mkdir as a control group file system does it: the directory comes with its files, the settings of all controllers.
func cgroupfs(files ...string) func(string) error {
	return func(path string) error {
		if err := os.Mkdir(path, 0o755); err != nil {
			return err
		}
		for _, f := range files {
			if err := os.WriteFile(filepath.Join(path, f), nil, 0o644); err != nil {
				return err
			}
		}
		return nil
	}
}

var allFiles = []string{"tasks", "cgroup.procs", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.swappiness", "memory.max", "memory.swap.max",
	"memory.oom.group", "pids.max", "cpu.max", "cpu.cfs_quota_us", "cgroup.subtree_control"}

// content is what is written below a root, by path; empty files are left out.
func content(t *testing.T, root string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if len(data) > 0 {
			found[strings.TrimPrefix(path, root)] = string(data)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestCreateWritesTheLimits(t *testing.T) {
	s := Set{Memory: 64 * mib, Pids: 20, CPUs: 0.5}
	for _, test := range []struct {
		name  string
		facts func(root string) Facts
		set   Set
		join  int
		want  map[string]string
	}{
		{"v1", func(r string) Facts { return holder(byV1, r) }, s, 3, map[string]string{
			"/memory/casemate-x/memory.limit_in_bytes": "67108864", "/pids/casemate-x/pids.max": "20", "/cpu/casemate-x/cpu.cfs_quota_us": "50000"}},
		{"v1 with swap", func(r string) Facts { f := holder(byV1, r); f.Swap = 1; return f }, s, 3, map[string]string{
			"/memory/casemate-x/memory.limit_in_bytes": "67108864", "/memory/casemate-x/memory.memsw.limit_in_bytes": "67108864", "/memory/casemate-x/memory.swappiness": "0",
			"/pids/casemate-x/pids.max": "20", "/cpu/casemate-x/cpu.cfs_quota_us": "50000"}},
		{"v1 by weight", func(r string) Facts { return holder(byV1, r) }, Set{}, 1, map[string]string{}},
		{"v1 with one directory for two", func(r string) Facts {
			f := holder(byV1, r)
			f.V1[2].Dir = "/pids"
			return f
		}, s, 2, map[string]string{"/memory/casemate-x/memory.limit_in_bytes": "67108864", "/pids/casemate-x/pids.max": "20", "/pids/casemate-x/cpu.cfs_quota_us": "50000"}},
		{"v2 at the root", func(r string) Facts { return holder(byV2, r) }, s, 1, map[string]string{
			"/own/casemate-x/memory.max": "67108864", "/own/casemate-x/memory.swap.max": "0", "/own/casemate-x/memory.oom.group": "1",
			"/own/casemate-x/pids.max": "20", "/own/casemate-x/cpu.max": "50000 100000", "/own/cgroup.subtree_control": "+pids"}},
		{"v2 with a leaf", func(r string) Facts { f := holder(byV2, r); f.V2.Leaf = true; return f }, Set{Pids: 20}, 1, map[string]string{
			"/own/casemate-x/pids.max": "20", "/own/cgroup.subtree_control": "+pids", "/own/supervisor.casemate/cgroup.procs": "0"}},
		{"nothing", func(r string) Facts { return holder(byNothing, r) }, s, 0, map[string]string{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := tree(t, "/memory/", "", "/pids/", "", "/cpu/", "", "/own/cgroup.subtree_control", "", "/own/cgroup.procs", "")
			g, err := create(test.facts(root), "x", test.set, cgroupfs(allFiles...))
			if err != nil {
				t.Fatal(err)
			}
			if got := content(t, root); !reflect.DeepEqual(got, test.want) {
				t.Errorf("%v, want %v", got, test.want)
			}
			if len(g.JoinFDs()) != test.join {
				t.Errorf("%d descriptors, want %d", len(g.JoinFDs()), test.join)
			}
			g.Joined()
		})
	}
}

func TestCreateLeavesNothingOnFailure(t *testing.T) {
	root := tree(t, "/memory/", "", "/pids/", "", "/cpu/", "")
	g, err := create(holder(byV1, root), "x", Set{Memory: mib, Pids: 2}, func(path string) error { return os.Mkdir(path, 0o755) })
	if err == nil || g != nil {
		t.Fatal("made without its files")
	}
	left, _ := filepath.Glob(root + "/*/casemate-*")
	if len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestCreateRefusesStrangeNames(t *testing.T) {
	for _, id := range []string{"", "../x", "a/b", "a b", "a\x00", strings.Repeat("a", 65)} {
		if _, err := Create(Facts{}, id, Set{}); err == nil {
			t.Errorf("%q was accepted", id)
		}
	}
}

func TestRemoveLeftoversRefusesOtherDirectories(t *testing.T) {
	dir := t.TempDir() + "/casemate-x"
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := RemoveLeftovers([]string{dir}); err == nil {
		t.Error("accepted")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
	if err := RemoveLeftovers([]string{dir + "-gone"}); err != nil {
		t.Errorf("one that is gone: %v", err)
	}
}
