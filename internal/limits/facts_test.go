package limits

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// tree writes files below a new root: path, then content. A path that ends in a slash is a directory.
func tree(t *testing.T, files ...string) string {
	t.Helper()
	root := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		path := root + files[i]
		dir := filepath.Dir(path)
		if strings.HasSuffix(files[i], "/") {
			dir = path
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if dir != path {
			if err := os.WriteFile(path, []byte(files[i+1]), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return root
}

const (
	mountsV1 = `22 27 0:21 / /proc rw,relatime - proc proc rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
`
	mountsV2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
	ownV1    = "5:memory:/ci/job\n4:pids:/\n2:cpu,cpuacct:/\n1:name=systemd:/x\n0::/\n"
	ownScope = "0::/user.slice/user-1000.slice/session-3.scope\n"
	group    = "/sys/fs/cgroup"
	session  = group + "/user.slice/user-1000.slice/session-3.scope"
	manager  = group + "/user.slice/user-1000.slice/user@1000.service"
)

func TestDetect(t *testing.T) {
	self := strconv.Itoa(os.Getpid())
	for _, test := range []struct {
		name  string
		uid   int
		files []string
		want  map[string]way
		check func(Facts) bool
	}{
		{"nothing mounted", 1000, nil, map[string]way{"memory": byNothing, "pids": byNothing, "cpu": byNothing},
			func(f Facts) bool { return f.V2 == nil && f.V1 == nil }},
		{"v1, cpu and cpuacct together", 0, []string{
			"/proc/self/mountinfo", mountsV1, "/proc/self/cgroup", ownV1,
			group + "/memory/ci/job/memory.limit_in_bytes", "1048576\n",
			group + "/cpu,cpuacct/", "", group + "/pids/", "", group + "/unified/", "",
		}, map[string]way{"memory": byV1, "pids": byV1, "cpu": byV1},
			func(f Facts) bool { return f.Memory == 1<<20 && f.V2.Dir == group+"/unified" }},
		{"v1 in a container that shows a part", 0, []string{
			"/proc/self/mountinfo", "1 2 0:3 /docker/abc /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n2 2 0:4 /../.. /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
			"/proc/self/cgroup", "2:pids:/docker/abc/sub\n1:memory:/docker/abc\n",
			group + "/pids/sub/", "",
		}, map[string]way{"memory": byNothing, "pids": byV1}, nil},
		{"v1 of another container", 0, []string{
			"/proc/self/mountinfo", "1 2 0:3 /docker/abc /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n", "/proc/self/cgroup", "2:pids:/docker/abcd\n",
			group + "/pids/", "",
		}, map[string]way{"pids": byNothing}, nil},
		{"v2 root without a service manager", 0, []string{
			"/proc/self/mountinfo", mountsV2, "/proc/self/cgroup", "0::/\n",
			group + "/cgroup.controllers", "cpuset cpu io memory pids\n", group + "/cgroup.subtree_control", "memory\n", group + "/cgroup.procs", "1\n2\n",
		}, map[string]way{"memory": byV2, "pids": byV2, "cpu": byV2},
			func(f Facts) bool {
				return !f.V2.Leaf && slices.Equal(f.V2.Enable, []string{"pids", "cpu"})
			}},
		{"v2 delegated, alone", 1000, []string{
			"/proc/self/mountinfo", mountsV2, "/proc/self/cgroup", ownScope,
			session + "/cgroup.controllers", "memory pids\n", session + "/cgroup.subtree_control", "\n", session + "/cgroup.type", "domain\n",
			session + "/cgroup.procs", self + "\n", session + "/memory.max", "8192\n",
		}, map[string]way{"memory": byV2, "pids": byV2, "cpu": byNothing}, func(f Facts) bool { return f.V2.Leaf && f.Memory == 8192 }},
		{"v2 with others in our group, no manager", 1000, []string{
			"/proc/self/mountinfo", mountsV2, "/proc/self/cgroup", ownScope,
			session + "/cgroup.controllers", "memory pids\n", session + "/cgroup.subtree_control", "\n", session + "/cgroup.type", "domain\n",
			session + "/cgroup.procs", self + "\n77\n", session + "/memory.max", "max\n",
		}, map[string]way{"memory": byNothing, "pids": byNothing}, func(f Facts) bool { return f.V2.Why != "" && f.Systemd == nil && f.Memory > 1<<20 }},
		{"the user's service manager", 1000, []string{
			"/proc/self/mountinfo", mountsV2, "/proc/self/cgroup", ownScope,
			session + "/cgroup.controllers", "memory pids\n", session + "/cgroup.subtree_control", "\n", session + "/cgroup.type", "domain\n",
			session + "/cgroup.procs", self + "\n77\n", manager + "/cgroup.controllers", "cpu memory pids io\n",
			"/run/systemd/system/", "", "/run/user/1000/bus", "",
		}, map[string]way{"memory": bySystemd, "pids": bySystemd, "cpu": bySystemd}, func(f Facts) bool { return f.Systemd.Socket == "/run/user/1000/bus" }},
		{"the system's service manager, for root", 0, []string{
			"/proc/self/mountinfo", mountsV2, "/proc/self/cgroup", ownScope,
			session + "/cgroup.controllers", "\n", session + "/cgroup.subtree_control", "\n", session + "/cgroup.procs", "",
			group + "/cgroup.controllers", "memory pids\n", "/run/systemd/system/", "", "/run/systemd/private", "",
		}, map[string]way{"memory": bySystemd, "pids": bySystemd, "cpu": byNothing}, func(f Facts) bool { return f.Systemd.Socket == "/run/systemd/private" }},
		{"hybrid: v2 without controllers holds nothing", 1000, []string{
			"/proc/self/mountinfo", mountsV1, "/proc/self/cgroup", "0::/\n",
			group + "/unified/cgroup.controllers", "hugetlb\n", group + "/unified/cgroup.subtree_control", "\n", group + "/unified/cgroup.procs", "",
		}, map[string]way{"memory": byNothing}, func(f Facts) bool { return len(f.V2.Controllers) == 0 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := detect(tree(t, test.files...), test.uid, "")
			for c, w := range test.want {
				if got := f.way(c); got != w {
					t.Errorf("%s is held by %d, want %d", c, got, w)
				}
			}
			if test.check != nil && !test.check(f) {
				text, _ := json.MarshalIndent(f, "", " ")
				t.Errorf("%s", text)
			}
		})
	}
}

func TestUnwritableHierarchyIsNamed(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may write everywhere; TestReadOnlyCgroups is its case")
	}
	root := tree(t, "/proc/self/mountinfo", mountsV1, "/proc/self/cgroup", ownV1, group+"/memory/ci/job/x", "")
	if err := os.Chmod(root+group+"/memory/ci/job", 0o555); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(root+group+"/memory/ci/job", 0o755)
	f := detect(root, 1000, "")
	if f.way("memory") != byNothing || f.V1[0].Why != "permission denied" {
		t.Errorf("%+v", f.V1)
	}
}

func TestFactsSurviveJSON(t *testing.T) {
	f := Detect(os.Getuid(), false)
	f.Mounts = nil // for others, and in no report
	text, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	var back Facts
	if err := json.Unmarshal(text, &back); err != nil || !reflect.DeepEqual(f, back) {
		t.Errorf("%v: %s", err, text)
	}
	if f.Memory <= 0 || f.Files == 0 || f.OpenFiles == 0 || f.OpenFiles > f.Files {
		t.Errorf("%s", text)
	}
}

func FuzzParseProc(f *testing.F) {
	f.Add([]byte(mountsV1 + mountsV2 + ownV1 + ownScope))
	f.Add([]byte(`1 2 0:3 / /a\040b\134\1 rw - cgroup2 cgroup2 rw`))
	f.Add([]byte("Name:\tx\nRssAnon:\t  12 kB\nVmPTE: 99999999999999999999 kB\n"))
	f.Add([]byte("1 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, m := range parseMounts(data) {
			for _, own := range parseMemberships(data) {
				if dir, ok := m.directory(own.path); ok && !strings.HasPrefix(dir, m.point) {
					t.Errorf("%q is not below %q", dir, m.point)
				}
			}
		}
		if s := parseStatus(data); s.anonymous < 0 || s.shared < 0 || s.tables < 0 || s.sum() < 0 {
			t.Errorf("%+v", s)
		}
		if parseTicks(data) < 0 || field(data, "x") < -1 {
			t.Error("negative")
		}
		for e := range entries(data) {
			if len(e.name) > len(data) {
				t.Error("name beyond the buffer")
			}
		}
	})
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{`/a\040b`: "/a b", `\134\011`: "\\\t", `\4`: `\4`, `a\999`: `a\999`, "/plain": "/plain", `\400`: `\400`} {
		if got := unescape(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
