package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestHeldWhenTheFirstProcessIsKilled: as the kernel does when memory runs out. What the command changed until then is work that nobody has seen yet.
func TestHeldWhenTheFirstProcessIsKilled(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		k := s.talk()
		k.ask("echo work >made")
		if err := syscall.Kill(k.first(t), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-k.ended
		has(t, "the end", k.stderr.String(), "SIGKILL")
		has(t, "diff", s.do("diff").stdout, "work")
	})
}

// TestHeldWhenItCannotBeLookedAt: a layer is not taken for empty because the look at it failed. A directory is in the way of what is written at the end of a run, as a
// full disk would be.
func TestHeldWhenItCannotBeLookedAt(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		k := s.talk()
		k.ask("echo work >made")
		layers := glob(s.State + "/casemate/sandboxes/*/layer")
		if len(layers) != 1 {
			t.Fatal(layers)
		}
		inTheWay := filepath.Join(layers[0], "firsts.new")
		if err := os.Mkdir(inTheWay, 0o700); err != nil {
			t.Fatal(err)
		}
		k.in.Close()
		if err := <-k.ended; err != nil {
			t.Errorf("the command's own status is 0: %v", err)
		}
		has(t, "the end", k.stderr.String(), "could not be looked at")
		if err := os.Remove(inTheWay); err != nil {
			t.Fatal(err)
		}
		has(t, "diff", s.do("diff").stdout, "work")
	})
}

// first is the sandbox's first process, by its number there.
func (k *talk) first(t *testing.T) int {
	t.Helper()
	for _, list := range glob(fmt.Sprintf("/proc/%d/task/*/children", k.cmd.Process.Pid)) {
		pids, _ := os.ReadFile(list)
		for _, pid := range strings.Fields(string(pids)) {
			status, _ := os.ReadFile("/proc/" + pid + "/status")
			_, ids, _ := strings.Cut(string(status), "NSpid:")
			ids, _, _ = strings.Cut(ids, "\n")
			if n, err := strconv.Atoi(pid); err == nil && len(strings.Fields(ids)) > 1 && strings.HasSuffix(ids, "\t1") {
				return n
			}
		}
	}
	t.Fatal("the run has no sandbox")
	return 0
}
