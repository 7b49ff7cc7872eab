package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestHeldWhenTheFirstProcessIsKilled: as the kernel does when memory runs out. What the command changed until then is work that nobody has seen yet.
func TestHeldWhenTheFirstProcessIsKilled(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		k := s.talk()
		forever := lasting(t)
		k.ask("echo work >made; (setsid sleep " + forever + " &)")
		if err := syscall.Kill(k.first(t), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		k.endedWith(t, 137, `"reason":"signal"`, "SIGKILL ended the sandbox's first process", `"files":1`)
		if left := named(forever); len(left) > 0 {
			t.Errorf("left of the sandbox: %v", left)
		}
		has(t, "diff", s.do("diff").stdout, "work")
	})
}

// TestHeldWhenItCannotBeLookedAt: a layer is not taken for empty because the look at it failed.
func TestHeldWhenItCannotBeLookedAt(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		k := s.talk()
		k.ask("echo work >made")
		layers := glob(s.State + "/casemate/sandboxes/*/layer")
		if len(layers) != 1 {
			t.Fatal(layers)
		}
		mend := inTheWay(t, layers[0]+"/firsts.new")
		if s.mode.name == "landlock" { // a copy has a manifest in its place
			mend = moved(t, layers[0]+"/manifest")
		}
		k.in.Close()
		k.endedWith(t, 0, "could not be looked at") // the command's own status
		mend()
		has(t, "diff", s.do("diff").stdout, "work")
	})
}

// TestHeldWhenItCannotBeRecorded: the run fails, for there should be a record of everything, and says that its command did not.
func TestHeldWhenItCannotBeRecorded(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		k := s.talk()
		k.ask("echo work >made")
		boxes := glob(s.State + "/casemate/sandboxes/*/sandbox.json")
		if len(boxes) != 1 {
			t.Fatal(boxes)
		}
		mend := inTheWay(t, fmt.Sprint(boxes[0], ".new", k.cmd.Process.Pid))
		k.in.Close()
		k.endedWith(t, 125, `"reason":"failed"`, "the command ended with status 0, and then: ", `"files":1`, `"sandbox":"`+filepath.Base(filepath.Dir(boxes[0]))+`"`)
		mend()
		has(t, "diff", s.do("diff").stdout, "work")
	})
}

// TestHeldWhenItCannotBeGoneOnWith: a run that is refused gives up what is its own, and that is no sandbox which held changes before.
func TestHeldWhenItCannotBeGoneOnWith(t *testing.T) {
	namespaced(t, func(t *testing.T, s *site) { // a copy has no mirror
		k := s.talk()
		k.ask("echo work >made")
		_ = k.cmd.Process.Kill() // so that what the mirror left is still to be settled
		<-k.ended
		box := glob(s.State + "/casemate/sandboxes/*")
		if len(box) != 1 {
			t.Fatal(box)
		}
		log := filepath.Join(box[0], "mirror.log")
		_ = os.Remove(log)
		if err := os.Symlink("nowhere", log); err != nil {
			t.Fatal(err)
		}
		refused := s.do("run", "--sandbox", filepath.Base(box[0]), "--", "true")
		has(t, "run --sandbox", refused.stderr, "cannot be gone on with now")
		if refused.exit != 125 {
			t.Errorf("status %d", refused.exit)
		}
		has(t, "run", s.do("run", "--", "true").stderr, "not going on with sandbox "+filepath.Base(box[0])+", which holds changes: ")
		if err := os.Remove(log); err != nil {
			t.Fatal(err)
		}
		has(t, "diff", s.do("diff").stdout, "work")
	})
}

// TestUnrecordedRunEnds: without a record nothing would tell of what its command changed. The limit of a file's size stands for a full disk.
func TestUnrecordedRunEnds(t *testing.T) {
	namespaced(t, func(t *testing.T, s *site) { // a copy of the project would be the first to reach the limit
		forever, long := lasting(t), strings.Repeat("x", 120<<10)
		run := s.command("run", "--json", "--", "sh", "-c", "echo work >made; sleep "+forever, long, long, long, long, long, long)
		run.Args = append([]string{"sh", "-c", `ulimit -f 1200; exec "$0" "$@"`, run.Path}, run.Args[1:]...)
		run.Path = "/bin/sh"
		out, err := run.CombinedOutput()
		if err == nil || run.ProcessState.ExitCode() != 125 {
			t.Errorf("%v, %s", err, out)
		}
		has(t, "the end", string(out), "the run cannot be recorded, so its command was ended at once: ")
		if left := named(forever); len(left) > 0 {
			t.Errorf("left of the sandbox: %v", left)
		}
		if left := glob(s.State + "/casemate/sandboxes/*"); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}

// inTheWay is a directory where casemate wants to write a file, as a full disk would be.
func inTheWay(t *testing.T, path string) (mend func()) {
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

func moved(t *testing.T, path string) (mend func()) {
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Rename(path+".moved", path); err != nil {
			t.Fatal(err)
		}
	}
}

// endedWith waits for the end of the run, and says whether it had this status and these words.
func (k *talk) endedWith(t *testing.T, status int, words ...string) {
	t.Helper()
	<-k.ended
	if got := k.cmd.ProcessState.ExitCode(); got != status {
		t.Errorf("status %d, not %d", got, status)
	}
	for _, w := range words {
		has(t, "the end", k.stderr.String(), w)
	}
}

// first is the sandbox's first process: the shell's parent.
func (k *talk) first(t *testing.T) int {
	t.Helper()
	for _, pid := range children(k.cmd.Process.Pid) {
		for _, child := range children(pid) {
			if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", child)); string(name) == "sh\n" {
				return pid
			}
		}
	}
	t.Fatal("the run has no sandbox")
	return 0
}
