package workspace

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// maskFixture is a project with a state directory, and, once started, a shell in an overlay of it.
type maskFixture struct {
	testing.TB
	dir, project string
	patterns     []string
	o            MaskOptions
	m            *Mask
}

func newMaskFixture(t testing.TB, patterns []string, files ...string) *maskFixture {
	t.Helper()
	dir, err := os.MkdirTemp("", "mask") // not t.TempDir: the overlay's options do not take the commas of a test's name
	must(t, err)
	t.Cleanup(func() {
		run(t, "/", "chmod", "-R", "u+rwx", dir)
		must(t, os.RemoveAll(dir))
	})
	f := &maskFixture{TB: t, dir: dir, project: filepath.Join(dir, "project"), patterns: patterns}
	f.o = MaskOptions{ScanOptions: ScanOptions{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}, Dir: filepath.Join(dir, "state")}
	must(t, os.Mkdir(f.project, 0o755))
	for _, name := range files {
		f.put(name, "secret "+name)
	}
	return f
}

// put writes a file of the project; a name that ends in a slash is a directory.
func (f *maskFixture) put(name, content string) {
	f.Helper()
	path := filepath.Join(f.project, name)
	if strings.HasSuffix(name, "/") {
		must(f, os.MkdirAll(path, 0o755))
		return
	}
	must(f, os.MkdirAll(filepath.Dir(path), 0o755))
	must(f, os.WriteFile(path, []byte(content), 0o644))
}

// prepare brings the mask up to date. Long after the last change, unless said otherwise, so that nothing is racy.
func (f *maskFixture) prepare() *Mask {
	f.Helper()
	laterThan(f, f.project)
	m, err := prepareMask(f.project, mustCompile(f, f.patterns...), f.o, time.Now().Add(time.Hour))
	must(f, err)
	f.Cleanup(func() { m.Close() })
	must(f, m.Fill(f.Context()))
	f.m = m
	return m
}

// masked lists what a mask hides, without the whiteouts of names that are absent.
func (f *maskFixture) hidden() []string {
	var paths []string
	for _, h := range f.m.Survey.Hidden {
		paths = append(paths, h.Path)
	}
	return paths
}

func (f *maskFixture) finding(kind string) []string {
	var paths []string
	for _, x := range f.m.Survey.Findings {
		if x.Kind == kind {
			paths = append(paths, x.Path+" "+string(x.Answer))
		}
	}
	return paths
}

func wantPaths(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// inside is a shell in an overlay over the project, in namespaces of its own.
type inside struct {
	t     testing.TB
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
	root  string // of the overlay, as the host reaches it
	upper string
}

const overlayVariable = "CASEMATE_MASK_OVERLAY"

// enter mounts the overlay and starts the shell in it. Without a mask it shows what the attacks get without this control.
func (f *maskFixture) enter(mask string) *inside {
	f.Helper()
	layer := filepath.Join(f.dir, fmt.Sprintf("layer%d", time.Now().UnixNano()))
	for _, d := range []string{"upper", "work", "merged"} {
		must(f, os.MkdirAll(filepath.Join(layer, d), 0o755))
	}
	lower := f.project
	if mask != "" {
		lower = mask + ":" + lower
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestChildOfMask$")
	cmd.Env = append(os.Environ(), overlayVariable+"="+layer+"\n"+lower)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: int(f.o.UID), HostID: int(f.o.UID), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: int(f.o.GID), HostID: int(f.o.GID), Size: 1}},
		AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_DAC_OVERRIDE, unix.CAP_CHOWN, unix.CAP_FOWNER},
		Pdeathsig:   syscall.SIGKILL,
	}
	in, err := cmd.StdinPipe()
	must(f, err)
	out, err := cmd.StdoutPipe()
	must(f, err)
	cmd.Stderr = os.Stderr
	err = cmd.Start()
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
		f.Skip("no user namespaces here: kernel.unprivileged_userns_clone, user.max_user_namespaces or AppArmor forbids them")
	}
	must(f, err)
	s := &inside{t: f, cmd: cmd, in: in, out: bufio.NewReader(out), upper: filepath.Join(layer, "upper")}
	f.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	s.root = fmt.Sprintf("/proc/%d/root%s/merged", cmd.Process.Pid, layer)
	s.sh("true")
	return s
}

// TestChildOfMask is no test: it mounts the overlay and becomes the shell in it.
func TestChildOfMask(t *testing.T) {
	layer, lower, found := strings.Cut(os.Getenv(overlayVariable), "\n")
	if !found {
		return
	}
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	merged := filepath.Join(layer, "merged")
	must(t, unix.Mount("overlay", merged, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work,userxattr", lower, layer, layer)))
	must(t, os.Chdir(merged))
	must(t, unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
	must(t, unix.Exec("/bin/sh", []string{"sh"}, []string{"PATH=/usr/bin:/bin"}))
}

const endMark = "--end of answer--"

// sh runs a script inside and returns all it prints.
func (s *inside) sh(script string) string {
	s.t.Helper()
	fmt.Fprintf(s.in, "{ %s\n} 2>&1; echo; echo '%s'\n", script, endMark)
	var answer strings.Builder
	for {
		line, err := s.out.ReadString('\n')
		if err != nil {
			s.t.Fatalf("shell inside: %v after %q", err, answer.String())
		}
		if strings.TrimSpace(line) == endMark {
			return strings.TrimSpace(answer.String())
		}
		answer.WriteString(line)
	}
}

// treeOf describes everything beneath a directory of whiteouts.
func treeOf(t testing.TB, dir string) []string {
	t.Helper()
	var lines []string
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		st, err := os.Lstat(path)
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s %v", rel, st.Mode())
		if st.Mode()&fs.ModeDevice == 0 {
			line += fmt.Sprintf(" %d", st.ModTime().UnixNano())
		}
		lines = append(lines, line)
		return nil
	}))
	return lines
}
