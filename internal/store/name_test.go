package store

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

// TestName: of many that take a name at once one has it, and nothing is left of it.
func TestName(t *testing.T) {
	s := open(t)
	var held, had atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				n, err := s.FreeName("api")
				if errors.Is(err, ErrRunning) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if held.Add(1) != 1 {
					t.Error("two have the name")
				}
				had.Add(1)
				held.Add(-1)
				n.Release()
			}
		})
	}
	all.Wait()
	if had.Load() == 0 {
		t.Error("nobody had the name")
	}
	n, err := s.TakeName("api")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.TakeName("api"); !errors.Is(err, ErrRunning) {
		t.Errorf("a second one: %v", err)
	}
	n.Release()
	if left, _ := os.ReadDir(filepath.Join(s.Root, "names")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
