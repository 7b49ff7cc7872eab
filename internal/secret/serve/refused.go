package serve

import (
	"sync"
	"time"

	"casemate.dev/internal/secret/uses"
)

// A sandbox can have itself refused as often as it likes. Its first refusals are noted one by one, and the others counted, so that it cannot push what was
// noted before out of the log. The gate's own records have each of them.
const (
	eachUpTo = 1000
	then     = time.Minute
)

type refusals struct {
	mu     sync.Mutex
	noted  int
	last   uses.Use // of those that were not noted
	at     time.Time
	unsaid int
}

func (r *refusals) note(l uses.Log, u uses.Use) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.noted < eachUpTo {
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
func (r *refusals) rest(l uses.Log) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.say(l)
}

func (r *refusals) say(l uses.Log) error {
	if r.unsaid == 0 {
		return nil
	}
	r.last.Times = r.unsaid
	r.at, r.unsaid = r.last.Time, 0
	return l.Add(r.last)
}
