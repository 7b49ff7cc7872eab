package records

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"casemate.dev/internal/gate/wire"
)

// supervisor takes records, when it is let.
type supervisor struct {
	mu   sync.Mutex
	got  []wire.Record
	gate chan struct{}
}

func (s *supervisor) Write(b []byte) (int, error) {
	if s.gate != nil {
		<-s.gate
	}
	var r wire.Record
	if err := json.Unmarshal(b, &r); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, r)
	return len(b), nil
}

// TestSlowSupervisor: nobody waits, and what was not told is counted.
func TestSlowSupervisor(t *testing.T) {
	s := &supervisor{gate: make(chan struct{})}
	l := New(s)
	const all = 5 * queued
	for range all {
		l.Tell(wire.Record{Verdict: wire.Opened, Name: "a"})
	}
	close(s.gate)
	l.Close(10 * time.Second)
	told, lost := 0, 0
	for _, r := range s.got {
		if r.Verdict == wire.Lost {
			lost += r.Times
		} else {
			told++
		}
	}
	if told+lost != all || lost == 0 || told < queued {
		t.Errorf("%d told, %d lost, of %d", told, lost, all)
	}
}

// TestAlarmsAreHeard: neither a supervisor that is slow nor a flood of denials, or of connections, keeps an alarm from being told.
func TestAlarmsAreHeard(t *testing.T) {
	s := &supervisor{gate: make(chan struct{})}
	l := New(s)
	for i := range 2 * remembered {
		l.TellOnce(wire.Record{Verdict: wire.Denied, Name: strings.Repeat("a", 1+i)})
	}
	for range 2 * queued {
		l.Tell(wire.Record{Verdict: wire.Opened, Name: "a"})
	}
	for i := range 2 * remembered {
		l.TellOnce(wire.Record{Verdict: wire.Denied, Secret: "key", Name: strings.Repeat("a", 1+i)})
	}
	close(s.gate)
	l.Close(10 * time.Second)
	alarms := 0
	for _, r := range s.got {
		if r.Secret != "" {
			alarms++
		}
	}
	if alarms != remembered {
		t.Errorf("%d alarms of %d were told", alarms, remembered)
	}
}

func TestRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &supervisor{}
		l := New(s)
		denied := wire.Record{Verdict: wire.Denied, Name: "evil.org", Port: 443, Why: "no rule allows it"}
		for range 100 {
			l.TellOnce(denied)
		}
		other := denied
		other.Port = 80
		l.TellOnce(other)
		time.Sleep(2 * time.Second)
		l.TellOnce(denied)
		l.Close(time.Second)
		times := map[int]int{}
		for _, r := range s.got {
			times[r.Port*1000+r.Times]++
		}
		if len(s.got) != 4 || times[443000] != 2 || times[443099] != 1 || times[80000] != 1 {
			t.Errorf("%+v", s.got)
		}
	})
}

// TestFloodOfDenials: different denials are neither remembered nor told without bound, and each is counted.
func TestFloodOfDenials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &supervisor{}
		l := New(s)
		const all = 10 * remembered
		for i := range all {
			l.TellOnce(wire.Record{Verdict: wire.Denied, Name: "evil.org", Port: i + 1})
		}
		time.Sleep(2 * window)
		l.Close(time.Second)
		told, lost := 0, 0
		for _, r := range s.got {
			if r.Verdict == wire.Lost {
				lost += r.Times
			} else {
				told++
			}
		}
		if told != remembered || told+lost != all {
			t.Errorf("%d told, %d lost, of %d", told, lost, all)
		}
	})
}

func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{"a.b": "a.b", "a\x1b[2Jb": `a\x1b[2Jb`, "a\nb": `a\nb`, "a\u202eb": `a\u202eb`, "a\xffb": `a\xffb`, strings.Repeat("a", 600): strings.Repeat("a", 512) + "…"} {
		if got := printable(text); got != want {
			t.Errorf("%q becomes %q", text, got)
		}
	}
}
