package store

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestDead: what a killed process left is found by its lock at once, and what another process is making, holds, ran or has damaged is not.
func TestDead(t *testing.T) {
	s := open(t)
	held, _ := s.New("")
	killed, _ := s.New("")
	killed.Unlock()
	ran, _ := s.New("")
	ran.Record.Started = time.Now()
	if err := ran.Save(false); err != nil {
		t.Fatal(err)
	}
	ran.Unlock()
	damaged, _ := s.New("")
	if err := os.WriteFile(damaged.record(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	damaged.Unlock()
	list, err := s.List()
	if err != nil || len(list) != 4 {
		t.Fatal(len(list), err)
	}
	dead := s.Dead(list)
	if len(dead) != 1 || dead[0].Record.ID != killed.Record.ID {
		t.Fatalf("%d dead, want only %s", len(dead), killed.Record.ID)
	}
	if again := s.named(killed.Record.ID); again.Lock() == nil {
		t.Error("a dead sandbox is not locked for its removal")
	}
	held.Unlock()
}

// TestDeadWhileOthersStart: however starts and searches are mixed, no sandbox is taken away before its maker has its lock.
func TestDeadWhileOthersStart(t *testing.T) {
	s := open(t)
	if err := MakeDir(s.Project("/p")); err != nil {
		t.Fatal(err)
	}
	var makers, searchers sync.WaitGroup
	done := make(chan struct{})
	searchers.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			list, _ := s.List()
			for _, b := range s.Dead(list) {
				os.RemoveAll(b.Dir)
				b.Unlock()
			}
		}
	})
	for range 4 {
		makers.Go(func() {
			for range 100 {
				b, err := s.New("/p")
				if err != nil {
					t.Errorf("a start failed: %v", err)
					return
				}
				if !exists(b.Dir) {
					t.Error("a sandbox was taken away from its maker")
				}
				if !s.Spare(b, "/p") {
					os.RemoveAll(b.Dir)
					b.Unlock()
				}
			}
		})
	}
	makers.Wait()
	close(done)
	searchers.Wait()
}

// TestRecordKeepsBytes: paths are bytes. One that came back as another would lose its protection, or be deleted in an apply.
func TestRecordKeepsBytes(t *testing.T) {
	s := open(t)
	b, err := s.New("")
	if err != nil {
		t.Fatal(err)
	}
	bad := "a\xff/\x1b[31m\n\u202e"
	id := b.Record.ID
	b.Record = Record{ID: id, Project: "/p/" + bad, Command: []string{bad}, Hidden: []string{bad, "plain"}, Protect: []string{}, Hide: []string{}, Aliases: map[string]string{bad: "why", "x\xfe": "other"}, Started: time.Now().UTC().Round(0)}
	want := b.Record
	if err := b.Save(false); err != nil {
		t.Fatal(err)
	}
	if got := s.read(id); !reflect.DeepEqual(got.Record, want) {
		t.Errorf("got %+v\nwant %+v", got.Record, want)
	}
}

// TestLongRecordIsRead: a project can make the record of a run long, and then the kept changes must not look like what nobody needs.
func TestLongRecordIsRead(t *testing.T) {
	s := open(t)
	b, _ := s.New("")
	b.Record.Started, b.Record.Command = time.Now(), []string{strings.Repeat("x", 3<<20)}
	if err := b.Save(false); err != nil {
		t.Fatal(err)
	}
	b.Unlock()
	if got := s.read(b.Record.ID); got.Damaged || len(got.Record.Command) != 1 {
		t.Error("the record was not read")
	}
}

func TestProcessStart(t *testing.T) {
	self, err := ProcessStart(os.Getpid())
	if err != nil || self == 0 {
		t.Fatal(self, err)
	}
	program := filepath.Join(t.TempDir(), "a) R 1 (b")
	if err := exec.Command("cp", "/bin/sleep", program).Run(); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(program, "1000")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Wait()
	defer c.Process.Kill()
	if start, err := ProcessStart(c.Process.Pid); err != nil || start < self {
		t.Errorf("%d, %v", start, err)
	}
}
