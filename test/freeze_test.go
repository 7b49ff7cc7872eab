package test

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	restlessVariable = "CASEMATE_TEST_RESTLESS"
	restlessFiles    = 600
)

// TestRestless is no test: it is what the next one runs inside. It has the kernel send it SIGCONT all the time, and writes its files round by round.
func TestRestless(t *testing.T) {
	if os.Getenv(restlessVariable) == "" {
		return
	}
	signal.Notify(make(chan os.Signal, 1), unix.SIGCONT) // the kernel sends no more of what is ignored
	event := struct {
		value          uint64
		signal, notify int32
		_              [48]byte
	}{signal: int32(unix.SIGCONT)}
	var timer int32
	when := unix.ItimerSpec{Interval: unix.Timespec{Nsec: 60_000_000}, Value: unix.Timespec{Nsec: 1}}
	if _, _, errno := unix.Syscall(unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&event)), uintptr(unsafe.Pointer(&timer))); errno != 0 {
		t.Fatal(errno)
	}
	if _, _, errno := unix.Syscall6(unix.SYS_TIMER_SETTIME, uintptr(timer), 0, uintptr(unsafe.Pointer(&when)), 0, 0, 0); errno != 0 {
		t.Fatal(errno)
	}
	for round := 1; ; round++ {
		for n := range restlessFiles {
			name := fmt.Sprint("f", n)
			if err := os.WriteFile("new", []byte(strconv.Itoa(round)), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename("new", name); err != nil {
				t.Fatal(err)
			}
		}
		if round == 1 {
			fmt.Println("ready")
		}
	}
}

// A sandbox that cannot be stopped, because it has itself continued, is not applied as if it stood still: it is refused, or said.
func TestApplyKnowsWhoDoesNotStandStill(t *testing.T) {
	r := startShell(t, nil)
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, "restless"), self, 0o755); err != nil {
		t.Fatal(err)
	}
	r.inside(restlessVariable + "=1 CASEMATE_BIN=none CASEMATE_PROBE=none ./restless -test.run '^TestRestless$' > /tmp/out & until grep -q ready /tmp/out; do sleep .05; done")
	told := 0
	for range 6 {
		cmd := exec.Command(casemate, "apply")
		cmd.Dir, cmd.Env = r.dir, r.env
		out, err := cmd.CombinedOutput()
		if strings.Contains(string(out), "did not stand still") || strings.Contains(string(out), "cannot be frozen") {
			told++
			if cmd.ProcessState.ExitCode() != 125 {
				t.Errorf("exit %v:\n%s", err, out)
			}
			continue
		}
		rounds := map[string]bool{}
		for n := range restlessFiles {
			rounds[r.read(fmt.Sprint("f", n))] = true
		}
		if len(rounds) > 2 || strings.Contains(string(out), "cannot be read") {
			t.Errorf("%d rounds in one apply, and nothing said: %v\n%s", len(rounds), err, tail(string(out)))
		}
	}
	if told == 0 {
		t.Error("it stood still each time: this test shows nothing")
	}
	r.inside("kill -9 $!")
	r.end()
}
