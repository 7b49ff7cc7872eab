package keeper

import (
	"runtime"
	"testing"
)

// TestProcessors: all of them are there for requests that are decided, and few for everything else.
func TestProcessors(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(3))
	p := newProcessors(1)
	now := func(want int, when string) {
		t.Helper()
		if n := runtime.GOMAXPROCS(0); n != want {
			t.Errorf("%s: %d processors", when, n)
		}
	}
	now(1, "at first")
	first, second := p.use(), p.use()
	now(3, "with two connections opened")
	first()
	p.rest()
	now(3, "with one left")
	second()
	now(3, "before the next look")
	p.rest()
	now(1, "afterwards")
}
