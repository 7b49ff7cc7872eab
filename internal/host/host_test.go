package host

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
)

func TestParseRelease(t *testing.T) {
	for _, c := range []struct {
		name, release     string
		major, minor, wsl int
	}{
		{"Debian", "6.1.0-18-amd64", 6, 1, 0},
		{"Ubuntu", "6.8.0-45-generic", 6, 8, 0},
		{"RHEL", "5.14.0-427.13.1.el9_4.x86_64", 5, 14, 0},
		{"release candidate", "6.12-rc3", 6, 12, 0},
		{"WSL 2", "5.15.153.1-microsoft-standard-WSL2", 5, 15, 2},
		{"WSL 1", "4.4.0-19041-Microsoft", 4, 4, 1},
		{"bare", "7", 7, 0, 0},
		{"nothing", "", 0, 0, 0},
		{"no number", "x.y", 0, 0, 0},
		{"absurdly long number", "99999999999999999999.1", 999999, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			major, minor := parseRelease(c.release)
			if major != c.major || minor != c.minor || wsl(c.release) != c.wsl {
				t.Errorf("%q: %d.%d, WSL %d; want %d.%d, WSL %d", c.release, major, minor, wsl(c.release), c.major, c.minor, c.wsl)
			}
		})
	}
}

func TestAtLeast(t *testing.T) {
	f := Facts{Major: 5, Minor: 12}
	for _, c := range []struct {
		major, minor int
		want         bool
	}{{5, 12, true}, {5, 11, true}, {4, 19, true}, {5, 13, false}, {6, 0, false}} {
		if f.AtLeast(c.major, c.minor) != c.want {
			t.Errorf("5.12 at least %d.%d: want %v", c.major, c.minor, c.want)
		}
	}
}

const plainProc = "22 27 0:21 / /proc rw,relatime - proc proc rw\n"

func TestProcVisible(t *testing.T) {
	for _, c := range []struct {
		name, mountinfo string
		want            bool
	}{
		{"plain", plainProc, true},
		{"none", "23 27 0:22 / /sys rw - sysfs sysfs rw\n", false},
		{"binfmt_misc", plainProc + "30 22 0:30 / /proc/sys/fs/binfmt_misc rw - autofs systemd-1 rw\n", true},
		{"masked as by Docker", plainProc + "40 22 0:5 /null /proc/kcore rw - tmpfs tmpfs rw\n", false},
		{"part of another proc", "22 27 0:21 /1 /proc rw - proc proc rw\n", false},
		{"something else at /proc", "22 27 0:21 / /proc rw - tmpfs tmpfs rw\n", false},
		{"masks under a later proc", plainProc + "40 22 0:5 /null /proc/kcore rw - tmpfs tmpfs rw\n41 22 0:77 / /proc rw - proc proc rw\n", true},
		{"a directory that begins alike", plainProc + "40 27 0:5 / /process rw - tmpfs tmpfs rw\n", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := procVisible(c.mountinfo); got != c.want {
				t.Errorf("visible: %v, want %v", got, c.want)
			}
		})
	}
}

func FuzzProcVisible(f *testing.F) {
	f.Add(plainProc)
	f.Add("1 2 3 4 /proc\n\n- proc")
	f.Fuzz(func(t *testing.T, s string) {
		if procVisible(s) && !strings.Contains(s, "/proc") {
			t.Errorf("%q has no /proc", s)
		}
	})
}

func TestContainerHints(t *testing.T) {
	for _, c := range []struct {
		name  string
		env   map[string]string
		files map[string]string
		want  string
	}{
		{name: "none", files: map[string]string{"/proc/self/cgroup": "0::/user.slice"}},
		{name: "docker", files: map[string]string{"/.dockerenv": ""}, want: "docker"},
		{name: "podman", files: map[string]string{"/run/.containerenv": ""}, want: "podman"},
		{name: "kubernetes has Docker's file too", env: map[string]string{"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, files: map[string]string{"/.dockerenv": ""}, want: "kubernetes"},
		{name: "named by the environment", env: map[string]string{"container": "lxc"}, want: "lxc"},
		{name: "named by systemd", files: map[string]string{"/run/systemd/container": "systemd-nspawn"}, want: "systemd-nspawn"},
		{name: "by cgroup", files: map[string]string{"/proc/self/cgroup": "1:cpu:/kubepods/burstable/pod1"}, want: "kubernetes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			exists := func(p string) bool { _, ok := c.files[p]; return ok }
			got := container(func(k string) string { return c.env[k] }, exists, func(p string) string { return c.files[p] })
			if got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestQuickSaysWhatFullSays(t *testing.T) {
	quick, full := Quick(), Full()
	if quick.Complete || !full.Complete {
		t.Errorf("complete: quick %v, full %v", quick.Complete, full.Complete)
	}
	if quick.Major == 0 || quick.CPUs == 0 || full.Memory < 1<<20 || quick.UID != os.Getuid() || quick.EGID != os.Getegid() {
		t.Errorf("facts missing: %+v", quick)
	}
	full.Memory = 0
	full.Complete, full.Executable, full.LSMs, full.AppArmor, full.SELinux, full.Container = false, "", "", false, "", ""
	full.InUserNamespace, full.ProcVisible, full.InotifyWatches, full.InotifyInstances = false, false, 0, 0
	if quick != full {
		t.Errorf("quick %+v\nfull  %+v", quick, full)
	}
}

// Facts go into golden files of plans and into `doctor --json`, so they must survive the way there and back.
func TestFactsAreData(t *testing.T) {
	f := Full()
	b, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	var back Facts
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(f, back) {
		t.Errorf("there %+v\nback  %+v", f, back)
	}
}
