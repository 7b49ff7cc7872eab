package native

import (
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"casemate.dev/internal/engine/native/inside"
	"casemate.dev/internal/plan"
	"golang.org/x/sys/unix"
)

// allowAll is a filter that answers unshare(2) with EPERM, which the set-up verifies, and allows the rest.
var allowAll = []unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_UNSHARE, Jf: 1},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0x00050000 | uint32(unix.EPERM)},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0x7fff0000},
}

// scratch makes a project, a layer and a home in a directory of the test, and a plan over them.
func scratch(t *testing.T, owner int, argv ...string) *plan.Plan {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "native")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { exec(t, "chmod -R u+rwx "+dir+"; rm -rf "+dir) })
	uid := os.Getuid()
	if uid == 0 {
		uid = 2000
	}
	for _, d := range []string{"project/sub", "mask", "layer/upper", "layer/work", "home/project"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	os.WriteFile(dir+"/project/file", []byte("of the project\n"), 0o644)
	os.WriteFile(dir+"/project/.env", []byte("SECRET=1\n"), 0o644)
	if err := unix.Mknod(dir+"/mask/.env", unix.S_IFCHR, 0); err != nil {
		t.Fatal(err)
	}
	mode := plan.Rootless
	if os.Getuid() == 0 {
		mode = plan.Root
		filepath.Walk(dir, func(p string, _ os.FileInfo, _ error) error {
			if strings.HasPrefix(p, dir+"/project") {
				return os.Lchown(p, owner, owner)
			}
			return os.Lchown(p, uid, uid)
		})
	}
	return &plan.Plan{
		Mode:      mode,
		User:      plan.User{UID: uid, GID: uid, Name: "u", Home: "/home/u"},
		Command:   plan.Command{Path: argv[0], Argv: argv, Dir: "/home/u/project", Env: []string{"PATH=/usr/bin:/bin", "HOME=/home/u"}},
		Workspace: plan.Workspace{Kind: "held", Path: "/home/u/project", Owner: owner, Group: owner},
		Mounts: []plan.Mount{
			{Kind: plan.Bind, Source: "/usr", Target: "/usr"},
			{Kind: plan.Symlink, Source: "usr/bin", Target: "/bin"},
			{Kind: plan.Symlink, Source: "usr/lib", Target: "/lib"},
			{Kind: plan.Symlink, Source: "usr/lib64", Target: "/lib64"},
			{Kind: plan.Proc, Target: "/proc"},
			{Kind: plan.Devices, Target: "/dev", Size: 1 << 26},
			{Kind: plan.Tmpfs, Target: "/tmp", Size: 1 << 26, Perm: 0o1777},
			{Kind: plan.Bind, Source: dir + "/home", Target: "/home/u", Writable: true},
			{Kind: plan.Overlay, Source: dir + "/project", Target: "/home/u/project", Mask: dir + "/mask", Layer: dir + "/layer", Writable: true},
		},
		Landlock: plan.Rules{ABI: 7, Allow: []plan.Rule{{Path: "/"}, {Path: "/home/u", Write: true}, {Path: "/home/u/project", Write: true}, {Path: "/tmp", Write: true}, {Path: "/dev/shm", Write: true}}},
	}
}

func exec(t *testing.T, script string) {
	p, err := os.StartProcess("/bin/sh", []string{"sh", "-c", script}, &os.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	p.Wait()
}

// run executes the plan and returns what the command wrote and how it ended.
func run(t *testing.T, pl *plan.Plan) (string, inside.Report, error) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	box, err := Start(pl, Attach{Stdio: [3]int{int(null.Fd()), int(w.Fd()), int(w.Fd())}, Filter: allowAll})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	out, _ := io.ReadAll(r)
	buf := make([]byte, 64)
	n, err := unix.Read(box.Control, buf)
	if err != nil {
		t.Fatal(err)
	}
	report, err := inside.ParseReport(buf[:n])
	if err != nil {
		t.Fatalf("%v: %q", err, buf[:n])
	}
	if _, _, err := box.Wait(); err != nil {
		t.Error(err)
	}
	if report.Kind == inside.Failed {
		return string(out), report, box.Failure(report)
	}
	return string(out), report, nil
}

// TestOverlayStep: what keeps an overlay from being mounted is reported under the name by which host.Diagnose finds its cause.
func TestOverlayStep(t *testing.T) {
	pl := scratch(t, os.Getuid(), "/bin/true")
	layer := pl.Mounts[len(pl.Mounts)-1].Layer
	if err := os.RemoveAll(layer + "/upper"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := run(t, pl); err == nil || !strings.Contains(err.Error(), "overlay of ") {
		t.Errorf("without an upper directory: %v", err)
	}
}

func TestSandboxRuns(t *testing.T) {
	pl := scratch(t, os.Getuid(), "/bin/sh", "-c", "cat file; cat .env; echo new > sub/x; id -u; ls / /dev; cat /proc/1/environ | tr '\\0' '\\n'; ls /proc/self/fd; cat /proc/self/status | grep -E 'Cap|NoNew|Seccomp:'; grep -c . /proc/mounts; cat /proc/self/uid_map; ls -ld /proc/[0-9]*; exit 7")
	out, r, err := run(t, pl)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(out)
	if r.Kind != inside.Exited || unix.WaitStatus(r.Value).ExitStatus() != 7 {
		t.Errorf("report %+v", r)
	}
	if strings.Contains(out, "SECRET") {
		t.Error("a masked file was read")
	}
}
