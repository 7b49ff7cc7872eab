package test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"casemate.dev/internal/workspace"
)

// running is a sandbox that does what it is told line by line.
type running struct {
	*testing.T
	dir string
	env []string
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startShell starts a shell in a sandbox over a new project, with its own home and state.
func startShell(t *testing.T, files map[string]string) *running {
	t.Helper()
	top := t.TempDir()
	r := &running{T: t, dir: filepath.Join(top, "project")}
	t.Cleanup(func() { // overlayfs makes its work directory so that its owner cannot look into it
		for _, where := range []string{"sandboxes/*/layer", "projects/*/spare?/layer"} {
			layers, _ := filepath.Glob(filepath.Join(top, "state/casemate", where))
			for _, dir := range layers {
				workspace.Discard(context.Background(), dir)
			}
		}
	})
	for _, d := range []string{r.dir, filepath.Join(top, "home")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(r.dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r.env = []string{"HOME=" + filepath.Join(top, "home"), "XDG_STATE_HOME=" + filepath.Join(top, "state"), "PATH=" + os.Getenv("PATH"), "TERM=dumb"}
	r.host("git", "init", "-q")
	r.start()
	return r
}

func (r *running) start() {
	r.Helper()
	r.cmd = exec.Command(casemate, "run", "--", "sh")
	r.cmd.Dir, r.cmd.Env, r.cmd.Stderr = r.dir, r.env, os.Stderr
	in, out := begin(r, r.cmd)
	r.in, r.out = in, bufio.NewReader(out)
	r.Cleanup(func() { r.cmd.Process.Kill(); r.cmd.Wait() })
}

// inside runs a line in the sandbox and returns what it printed.
func (r *running) inside(line string) string {
	r.Helper()
	fmt.Fprintf(r.in, "%s\necho '<end>'\n", line)
	var b strings.Builder
	for {
		text, err := r.out.ReadString('\n')
		if err != nil {
			r.Fatalf("%s: %v", line, err)
		}
		if text == "<end>\n" {
			return b.String()
		}
		b.WriteString(text)
	}
}

// host runs a command outside, in the project.
func (r *running) host(name string, args ...string) string {
	r.Helper()
	out, err := r.try(name, args...)
	if err != nil {
		r.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return out
}

func (r *running) try(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = r.dir, r.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (r *running) read(name string) string {
	data, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func (r *running) end() {
	r.Helper()
	r.in.Close()
	if err := r.cmd.Wait(); err != nil {
		r.Fatal(err)
	}
}

// What is applied while the sandbox runs is on the host, is no change any more, and is no conflict when the sandbox goes on with it.
func TestApplyWhileItRuns(t *testing.T) {
	r := startShell(t, map[string]string{"a": "one\n", "gone": "x\n", "b": "one\n"})
	r.inside("echo two >> a; rm gone; echo new > added; mkdir d; echo deep > d/f; sleep 1000 & kill -STOP $!")
	if out := r.host(casemate, "apply"); !strings.Contains(out, "5 applied") {
		t.Fatalf("apply: %s", out)
	}
	if r.read("a") != "one\ntwo\n" || r.read("added") != "new\n" || r.read("d/f") != "deep\n" || !strings.Contains(r.read("gone"), "no such file") {
		t.Fatalf("on the host: %q %q %q %q", r.read("a"), r.read("added"), r.read("d/f"), r.read("gone"))
	}
	if out := r.inside("ps -o stat= $! | cut -c1"); out != "T\n" {
		t.Errorf("what was stopped before goes on now: %q", out)
	}
	if out := r.host(casemate, "diff"); out != "" {
		t.Errorf("what was applied is still a change:\n%s", out)
	}
	if out := r.inside("cat a added d/f; ls; echo three >> a; echo more >> added; echo two >> b; kill -9 $!"); out != "one\ntwo\nnew\ndeep\na\nadded\nb\nd\n" {
		t.Errorf("inside: %q", out)
	}
	if out := r.host(casemate, "diff", "--json"); !strings.Contains(out, `"conflicts": 0`) {
		t.Errorf("its own apply is a conflict:\n%s", out)
	}
	r.host(casemate, "apply", "a")
	if r.read("a") != "one\ntwo\nthree\n" || r.read("b") != "one\n" {
		t.Errorf("on the host: %q %q", r.read("a"), r.read("b"))
	}
	r.end()
	if out := r.host(casemate, "diff", "--name-only"); out != "added\nb\n" {
		t.Errorf("left to apply: %q", out)
	}
	// Outside of a run the layer holds only what was not applied: what the host does to the rest is no conflict.
	if err := os.WriteFile(filepath.Join(r.dir, "a"), []byte("host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out := r.host(casemate, "apply"); !strings.Contains(out, "2 applied") {
		t.Errorf("apply: %s", out)
	}
	if out, _ := r.try(casemate, "undo", "1"); !strings.Contains(out, "3 undone") || !strings.Contains(out, "2 conflict") { // a and added changed since
		t.Errorf("undo: %s", out)
	}
	if !strings.Contains(r.read("d/f"), "no such file") || r.read("gone") != "x\n" {
		t.Errorf("undone: %q %q", r.read("d/f"), r.read("gone"))
	}
}

// A supervisor that was killed leaves what was applied in the layer; whoever comes next takes it out.
func TestApplyWhileItRunsAndIsKilled(t *testing.T) {
	r := startShell(t, map[string]string{"a": "one\n"})
	r.inside("echo two >> a; echo kept > k")
	r.host(casemate, "apply", "a")
	r.cmd.Process.Kill()
	r.cmd.Wait()
	if err := os.WriteFile(filepath.Join(r.dir, "z"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r.start()
	if out := r.inside("cat a k"); out != "one\ntwo\nkept\n" {
		t.Errorf("inside: %q", out)
	}
	r.end()
	if out := r.host(casemate, "diff", "--name-only"); out != "k\n" {
		t.Errorf("left: %q", out)
	}
}

// What is applied is of one point in time: of a writer that goes through many files in turn, all are of one round up to some file, and of the
// round before from there.
func TestApplyWhileItRunsTakesOnePointInTime(t *testing.T) {
	r := startShell(t, nil)
	const files = 300
	r.inside(fmt.Sprintf(`cat > /tmp/writer <<'E'
i=0
while :; do i=$((i+1)); n=0; while [ $n -lt %d ]; do echo $i > f$n.new; mv f$n.new f$n; n=$((n+1)); done; done
E
sh /tmp/writer & until [ -f f%d ]; do sleep .05; done`, files, files-1))
	for range 3 {
		r.host("sh", "-c", casemate+" apply >/dev/null; true")
		last, steps := 0, 0
		for n := range files {
			v, err := strconv.Atoi(strings.TrimSpace(r.read(fmt.Sprintf("f%d", n))))
			if err != nil {
				t.Fatal(err)
			}
			if n > 0 && v != last {
				steps++
				if v != last-1 {
					t.Errorf("f%d is of round %d after one of round %d", n, v, last)
				}
			}
			last = v
		}
		if steps > 1 {
			t.Errorf("%d rounds in one apply", steps+1)
		}
	}
	r.inside("kill -9 $!")
	r.end()
}

// An apply that is killed while the sandbox stands still leaves nothing frozen, and nothing half done.
func TestApplyKilledWhileTheSandboxStandsStill(t *testing.T) {
	r := startShell(t, nil)
	r.inside("n=0; while [ $n -lt 1500 ]; do echo inside > f$n; n=$((n+1)); done")
	cmd := exec.Command(casemate, "apply")
	cmd.Dir, cmd.Env = r.dir, r.env
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "a file is applied, while all stand still", func() bool { return r.read("f0") == "inside\n" })
	cmd.Process.Kill()
	cmd.Wait()
	if out := r.inside("echo alive"); out != "alive\n" {
		t.Errorf("inside: %q", out)
	}
	r.try(casemate, "apply")
	r.end()
	names, err := os.ReadDir(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, d := range names {
		if strings.HasPrefix(d.Name(), ".casemate-") {
			t.Errorf("%s is left", d.Name())
		}
		if strings.HasPrefix(d.Name(), "f") {
			n++
		}
	}
	if n != 1500 {
		t.Errorf("%d files are on the host", n)
	}
}
