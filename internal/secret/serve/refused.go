package serve

import (
	"sync"
	"time"

	"casemate.dev/internal/secret/uses"
)

// A sandbox can have itself refused as often as it likes, and be given what it may have. Of each the first are noted one by one, and the others counted, so
// that it cannot push what was noted before out of the log. The gate's own records have each refusal.
const (
	eachUpTo  = 1000
	givenUpTo = 5000 // of each entry: all day, for a program that sends the same request again and again
	then      = time.Minute
)

// tally notes what may come in floods: refusals, or uses of one entry.
type tally struct {
	each int // how many are noted one by one

	mu     sync.Mutex
	noted  int
	last   uses.Use // of those that were not noted
	at     time.Time
	unsaid int
}

func (r *tally) note(l uses.Log, u uses.Use) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.noted < r.each {
		r.noted++
		r.at = u.Time
		return l.Add(u)
	}
	r.last, r.unsaid = u, r.unsaid+1
	if u.Time.Sub(r.at) < then {
		return nil
	}
	return r.say(l)
}

// rest notes those that wait.
func (r *tally) rest(l uses.Log) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.say(l)
}

func (r *tally) say(l uses.Log) error {
	if r.unsaid == 0 {
		return nil
	}
	r.last.Times = r.unsaid
	r.at, r.unsaid = r.last.Time, 0
	return l.Add(r.last)
}
