package keeper

import (
	"testing"
	"time"
)

// TestUntilLook: no wait for a rule's end is so long that a suspended machine would stretch it by more than seconds.
func TestUntilLook(t *testing.T) {
	now := time.Now()
	for left, want := range map[time.Duration]time.Duration{time.Hour: 10 * time.Second, 3 * time.Second: 3 * time.Second, 0: 0, -time.Hour: 0} {
		if got := untilLook(now.Add(left).Round(0), now); got != want {
			t.Errorf("with %v left it waits for %v", left, got)
		}
	}
}
