package limits

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// nobodyElse is a user that no machine has, and no other run of this test.
var nobodyElse = 4_000_000_000 + 2*os.Getpid()

// TestOnTop: the limit is one higher for each process that the user runs already, and other limits stay.
func TestOnTop(t *testing.T) {
	const more = 40
	uid, want := os.Getuid(), uint64(more+1) // those and this one, whatever else the user runs
	if uid == 0 {
		uid, want = nobodyElse, more // a user of the test's own: exactly those
	}
	for range more {
		cmd := exec.Command("cat")
		if uid == nobodyElse {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(nobodyElse), Gid: uint32(nobodyElse)}}
		}
		if _, err := cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	}
	list := OnTop([]Rlimit{{unix.RLIMIT_NOFILE, 5, 6}, {unix.RLIMIT_NPROC, 10, 10}}, uid)
	if list[0] != (Rlimit{unix.RLIMIT_NOFILE, 5, 6}) {
		t.Errorf("the limit on files became %v", list[0])
	}
	got := list[1].Hard - 10
	if got < want || uid == nobodyElse && got != want || list[1].Soft != list[1].Hard {
		t.Errorf("on top of %d processes the limit is 10 and %d: %v", want, got, list[1])
	}
	if none := tasks(nobodyElse + 1); none != 0 {
		t.Errorf("nobody has %d processes", none)
	}
}
