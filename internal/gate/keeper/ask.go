package keeper

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"casemate.dev/internal/gate/address"
	"casemate.dev/internal/gate/rules"
	"casemate.dev/internal/gate/wire"
)

// maxRefused is how many different things a person can say no to. Then no more is asked: who asks for so much is not served by another question.
const maxRefused = 256

// questions are what connections wait for a person to decide. A host and port is asked about once, however many connections wait for it, and no more once
// the answer was no.
type questions struct {
	mu      sync.Mutex
	last    uint64
	open    map[target]*question
	refused map[target]string // who said no, and when
}

type target struct {
	host string
	port int
}

type question struct {
	target
	id     uint64
	late   *time.Timer
	over   chan struct{}   // closed when nobody is to be asked any more
	answer *rules.Decision // nil: the rules in force decide; not to be read before over is closed
}

// ask has a person decide where no rule does and somebody is there to be asked. It returns what was answered, or nil where the rules in force decide.
func (c *connection) ask() *rules.Decision {
	k, to := c.keeper, target{c.record.Name, c.record.Port}
	d := k.book.Decide(to.host, to.port)
	if d.Allowed || !d.Ask {
		return nil
	}
	if !public(to.host) { // as with names, these take a rule that was written down
		return &rules.Decision{Why: d.Why + "; an address that is not public is not asked about"}
	}
	q, first, why := k.questions.join(to, k.limits.Answer, d.Why)
	if q == nil {
		return &rules.Decision{Why: d.Why + "; " + why}
	}
	if first {
		r := c.record
		r.Verdict = wire.Asked
		k.log.Tell(r)
		go k.put(q)
	}
	select {
	case <-q.over:
		return q.answer
	case <-c.ctx.Done():
		return &rules.Decision{Why: "it was ended while it waited for an answer"}
	}
}

// public is true for names too, whose addresses are checked once they are known.
func public(host string) bool {
	a, err := netip.ParseAddr(host)
	if err != nil || address.Check(a, nil) != nil {
		return err != nil
	}
	mine, err := own(a)
	return err == nil && !mine
}

// put puts a question to the supervisor, and takes it back when it is over. A supervisor that takes nothing keeps nobody waiting but this.
func (k *Keeper) put(q *question) {
	tell := func(over bool) error {
		text, err := json.Marshal(wire.Request{Question: &wire.Question{ID: q.id, Host: q.host, Port: q.port, Over: over}})
		if err == nil {
			_, err = k.supervisor.Write(text)
		}
		return err
	}
	if tell(false) != nil {
		return // it has gone, and with it the gate in a moment
	}
	<-q.over
	_ = tell(true)
}

// join returns the question about a target, and whether it is a new one; or nil, and why there is none.
func (s *questions) join(to target, patience time.Duration, unruled string) (q *question, first bool, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if by, refused := s.refused[to]; refused {
		return nil, false, by
	}
	if q := s.open[to]; q != nil {
		return q, false, ""
	}
	switch {
	case len(s.open) >= wire.MaxQuestions:
		return nil, false, fmt.Sprintf("%d questions wait for an answer already", len(s.open))
	case len(s.refused) >= maxRefused:
		return nil, false, fmt.Sprintf("no was answered %d times, and no more is asked", len(s.refused))
	case s.open == nil:
		s.open, s.refused = map[target]*question{}, map[target]string{}
	}
	s.last++
	q = &question{target: to, id: s.last, over: make(chan struct{})}
	q.late = time.AfterFunc(patience, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.end(q, &rules.Decision{Why: fmt.Sprintf("%s; nobody answered within %v", unruled, patience)})
	})
	s.open[to] = q
	return q, true, ""
}

// end lets those go on that wait for a question. The first answer counts; mu is held.
func (s *questions) end(q *question, answer *rules.Decision) {
	if s.open[q.target] != q {
		return
	}
	delete(s.open, q.target)
	q.late.Stop()
	q.answer = answer
	close(q.over)
}

// answer is a person's word. One that comes too late is about no question any more.
func (s *questions) answer(a wire.Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for to, q := range s.open {
		switch {
		case q.id != a.ID:
		case a.Yes:
			s.end(q, &rules.Decision{Allowed: true, Rule: a.By})
		default:
			s.refused[to] = a.By
			s.end(q, &rules.Decision{Why: a.By})
		}
	}
}

// reconsider ends the questions that other rules have made needless.
func (s *questions) reconsider(book *rules.Book) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for to, q := range s.open {
		if d := book.Decide(to.host, to.port); d.Allowed || !d.Ask {
			s.end(q, nil)
		}
	}
}
