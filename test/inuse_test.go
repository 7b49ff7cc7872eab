package test

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestInUse: a sandbox that another casemate command holds is not said to run.
func TestInUse(t *testing.T) {
	s := newSite(t, best())
	k := s.talk()
	id := s.running(t)
	k.ask("touch new")
	commands := [][]string{{"rm", id}, {"run", "--sandbox", id, "--", "true"}}
	for _, c := range commands {
		out := s.do(c...)
		has(t, c[0]+" while it runs", out.stderr, "sandbox "+id+" is running")
	}
	k.end()
	fd, err := unix.Open(filepath.Join(s.State, "casemate", "sandboxes", id, "lock"), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		t.Fatal(err)
	}
	for _, c := range commands {
		out := s.do(c...)
		if out.exit != 125 {
			t.Error(out)
		}
		has(t, c[0], out.stderr, "sandbox "+id+" is being used by another casemate command")
		hasNot(t, c[0], out.stderr, "running")
	}
	unix.Close(fd)
	if out := s.do("rm", id); out.exit != 0 {
		t.Errorf("afterwards: %v", out)
	}
}
