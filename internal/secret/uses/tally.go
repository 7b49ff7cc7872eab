package uses

import (
	"sync"
	"time"
)

// then is how often those that are counted are noted.
const then = time.Minute

// Tally notes what may come in floods. A sandbox can have itself refused as often as it likes, and be given what it may have. Of each the first are noted one by
// one, and the others counted, so that it cannot push what was noted before out of the log.
type Tally struct {
	Each int // how many are noted one by one

	mu     sync.Mutex
	noted  int
	last   Use // of those that were not noted
	at     time.Time
	unsaid int
}

// Note notes one, now or with those that follow.
func (t *Tally) Note(l Log, u Use) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.noted < t.Each {
		t.noted++
		t.at = u.Time
		return l.Add(u)
	}
	t.last, t.unsaid = u, t.unsaid+1
	if u.Time.Sub(t.at) < then {
		return nil
	}
	return t.say(l)
}

// Rest notes those that wait.
func (t *Tally) Rest(l Log) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.say(l)
}

func (t *Tally) say(l Log) error {
	if t.unsaid == 0 {
		return nil
	}
	t.last.Times = t.unsaid
	t.at, t.unsaid = t.last.Time, 0
	return l.Add(t.last)
}
