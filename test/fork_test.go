package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A fork that is killed at any moment leaves the original as it was and going on, and nothing that could be taken for a sandbox: what it had copied
// goes with the next look. One that came to its end is whole.
func TestForkKilledAtAnyMoment(t *testing.T) {
	const files = 400
	r := startShell(t, map[string]string{"a": "one\n", "gone": "x\n"})
	r.inside("echo two >> a; rm gone; ln -s a link; mkfifo pipe; n=0; while [ $n -lt 400 ]; do echo inside > f$n; n=$((n+1)); done")
	diff := func(of ...string) string { // without what is said beside it, such as that others hold changes too
		return r.host("sh", append([]string{"-c", `exec "$0" diff "$@" 2>/dev/null`, casemate}, of...)...)
	}
	want := diff()
	if n := strings.Count(want, "\n+inside"); n != files {
		t.Fatalf("the diff shows %d files", n)
	}
	sandboxes := func() []string {
		found, err := filepath.Glob(filepath.Join(filepath.Dir(r.dir), "state/casemate/sandboxes/*"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	cut, whole := 0, 0
	for after := time.Duration(0); whole < 2 && cut < 60; after += after/5 + time.Millisecond {
		known := len(sandboxes())
		cmd := exec.Command(casemate, "fork")
		cmd.Dir, cmd.Env = r.dir, r.env
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		ended := cmd.Wait() == nil
		timer.Stop()
		if out := r.inside("echo alive; cat a"); out != "alive\none\ntwo\n" {
			t.Fatalf("killed after %v, inside: %q", after, out)
		}
		eventually(t, patience, "what the killed fork had copied is gone", func() bool { // it may have been killed as it started a process, which has its locks until it is another program
			r.host(casemate, "ps", "-a")
			for _, dir := range sandboxes() {
				if _, err := os.Lstat(filepath.Join(dir, "sandbox.json")); err != nil {
					return false
				}
			}
			return true
		})
		if got := diff(); got != want {
			t.Fatalf("killed after %v, the original's changes are others: %d bytes, %d before", after, len(got), len(want))
		}
		switch now := sandboxes(); {
		case len(now) > known+1 || ended && len(now) != known+1:
			t.Fatalf("killed after %v (ended %v): %q", after, ended, now)
		case len(now) > known: // it came to its end, whoever heard of it
			whole++
			for _, dir := range now {
				if got := diff("--sandbox", filepath.Base(dir)); got != want {
					t.Errorf("a fork that ended has other changes: %d bytes, the original %d", len(got), len(want))
				}
			}
		default:
			cut++
		}
	}
	if cut < 5 || whole < 1 {
		t.Errorf("%d forks were cut short, and %d were whole: this test shows nothing", cut, whole)
	}
	r.end()
	if _, err := os.Lstat(filepath.Join(r.dir, "f0")); err == nil {
		t.Error("a fork wrote into the project")
	}
}
