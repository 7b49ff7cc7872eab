package limits

import (
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOnTop: a process more makes the limit one higher, and other limits stay.
func TestOnTop(t *testing.T) {
	list := func() []Rlimit {
		return OnTop([]Rlimit{{unix.RLIMIT_NOFILE, 5, 6}, {unix.RLIMIT_NPROC, 10, 10}}, os.Getuid())
	}
	before := list()
	if before[0] != (Rlimit{unix.RLIMIT_NOFILE, 5, 6}) {
		t.Errorf("the limit on files became %v", before[0])
	}
	if before[1].Hard < 11 || before[1].Soft != before[1].Hard {
		t.Errorf("this process is not counted: %v", before[1])
	}
	const more = 40 // more than come and go beside this test
	for range more {
		cmd := exec.Command("cat")
		if _, err := cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	}
	if after := list(); after[1].Hard < before[1].Hard+more/2 {
		t.Errorf("%d processes more made it %v, it was %v", more, after[1], before[1])
	}
	if none := tasks(4_000_000_000); none != 0 {
		t.Errorf("nobody has %d processes", none)
	}
}
