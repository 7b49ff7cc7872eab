package keeper

import (
	"runtime"
	"sync"
)

// processors are how many of the machine's the gate runs on. To pass bytes through is the kernel's work, and one processor does it for all connections sooner
// than several: with more the Go runtime wakes another thread at each step of a connection, which finds nothing to do and takes the processor of whoever is
// waited for. Requests that are decided are work of the gate's own, of which there can be much at once.
type processors struct {
	few, all int // few is 0: they stay as they are
	mu       sync.Mutex
	opened   int
	many     bool
}

func newProcessors(few int) *processors {
	p := &processors{few: few, all: runtime.GOMAXPROCS(0)}
	if few > 0 {
		runtime.GOMAXPROCS(min(few, p.all))
	}
	return p
}

// use has all of them be used, until done.
func (p *processors) use() (done func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opened++
	if !p.many && p.few > 0 {
		p.many = true
		runtime.GOMAXPROCS(p.all)
	}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.opened--
	}
}

// rest goes back to few where nobody uses them all. It is called now and then, because each change stops all that runs for a moment.
func (p *processors) rest() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.many && p.opened == 0 {
		p.many = false
		runtime.GOMAXPROCS(min(p.few, p.all))
	}
}
