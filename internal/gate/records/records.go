// Package records tells the supervisor what happened, and never makes anything wait for it.
package records

import (
	"encoding/json"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"casemate.dev/internal/gate/wire"
)

const (
	queued     = 1024        // records that wait for the supervisor; what comes on top is counted
	remembered = 128         // different denials of one second, and as many alarms; more are counted, so that a flood does not fill the supervisor's disk
	window     = time.Second // how long the same denial is counted instead of told
	maxText    = 512         // bytes of a name or sentence

	together = 5 * time.Millisecond // within which records are told one after the other
)

// Log is the way to the supervisor. New makes one.
type Log struct {
	to    io.Writer
	queue chan wire.Record
	loud  chan wire.Record // alarms for which the queue has no room: whoever floods it does not keep one from being told
	lost  atomic.Int64
	last  atomic.Uint64
	end   chan struct{}
	ended chan struct{}

	mu      sync.Mutex
	repeats map[denial]*repeat
	alarms  map[denial]*repeat
}

// denial is what makes two denials the same.
type denial struct {
	verdict      wire.Verdict
	name, why    string
	method, path string
	port         int
}

type repeat struct {
	record wire.Record
	times  int
	since  time.Time
}

// New starts a log that writes each record to w with one call. Close ends it.
func New(w io.Writer) *Log {
	l := &Log{to: w, queue: make(chan wire.Record, queued), loud: make(chan wire.Record, remembered), end: make(chan struct{}), ended: make(chan struct{})}
	l.repeats, l.alarms = map[denial]*repeat{}, map[denial]*repeat{}
	go l.write()
	return l
}

// Next is the number of a record that others will follow.
func (l *Log) Next() uint64 { return l.last.Add(1) }

// Tell queues a record, or counts it where the queue is full.
func (l *Log) Tell(r wire.Record) {
	if r.ID == 0 {
		r.ID = l.Next()
	}
	if r.Time.IsZero() {
		r.Time = time.Now().UTC()
	}
	r.Name, r.Why, r.Method, r.Path = printable(r.Name), printable(r.Why), printable(r.Method), printable(r.Path)
	select {
	case l.queue <- r:
		return
	default:
	}
	if r.Secret != "" {
		select {
		case l.loud <- r:
			return
		default:
		}
	}
	l.lost.Add(1)
}

// TellOnce is Tell for what a program may do over and over: the first is told at once, and how many more came within a second when that is over.
func (l *Log) TellOnce(r wire.Record) {
	key := denial{r.Verdict, r.Name, r.Why, r.Method, r.Path, r.Port}
	l.mu.Lock()
	defer l.mu.Unlock()
	told := l.repeats
	if r.Secret != "" {
		told = l.alarms
	}
	if again := told[key]; again != nil {
		again.times++
		return
	}
	if len(told) == remembered {
		l.lost.Add(1)
		return
	}
	told[key] = &repeat{record: r, since: time.Now()}
	l.Tell(r)
}

// sum tells how often denials were repeated, of those whose second is over, or of all.
func (l *Log) sum(all bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, told := range []map[denial]*repeat{l.repeats, l.alarms} {
		for key, again := range told {
			if !all && time.Since(again.since) < window {
				continue
			}
			if again.times > 0 {
				again.record.Times, again.record.ID, again.record.Time = again.times, 0, time.Time{}
				l.Tell(again.record)
			}
			delete(told, key)
		}
	}
}

// Close tells what is left, as long as the supervisor takes it and no longer than the time given.
func (l *Log) Close(within time.Duration) {
	l.sum(true)
	close(l.end)
	select {
	case <-l.ended:
	case <-time.After(within):
	}
}

func (l *Log) write() {
	defer close(l.ended)
	second := time.NewTicker(window / 2)
	defer second.Stop()
	for {
		select {
		case r := <-l.loud:
			l.send(r)
		case r := <-l.queue:
			l.gather()
			l.send(r)
			l.sendQueued()
		case <-second.C:
			l.sum(false)
			l.sendLost()
		case <-l.end:
			l.drain()
			return
		}
	}
}

// gather lets some more come. A supervisor that hears of each connection at once works on it while the connection's first bytes are waited for, and hears of
// its end separately.
func (l *Log) gather() {
	select {
	case <-time.After(together):
	case <-l.end:
	}
}

func (l *Log) drain() {
	l.sendQueued()
	l.sendLost()
}

// sendQueued sends what is there now, and not what comes meanwhile: there is more to do than to send.
func (l *Log) sendQueued() {
	for range len(l.loud) {
		l.send(<-l.loud)
	}
	for range len(l.queue) {
		l.send(<-l.queue)
	}
}

func (l *Log) send(r wire.Record) {
	b, err := json.Marshal(r)
	if err == nil {
		_, err = l.to.Write(b)
	}
	if err != nil {
		l.lost.Add(1) // the supervisor has gone, which the reader of its messages hears
		return
	}
	l.sendLost()
}

func (l *Log) sendLost() {
	n := l.lost.Swap(0)
	if n == 0 {
		return
	}
	b, err := json.Marshal(wire.Record{ID: l.Next(), Time: time.Now().UTC(), Verdict: wire.Lost, Times: int(n), Why: strconv.FormatInt(n, 10) + " records were left out, because there were too many"})
	if err == nil {
		_, err = l.to.Write(b)
	}
	if err != nil {
		l.lost.Add(n)
	}
}

// printable bounds text that a hostile program chose, and leaves nothing in it that a terminal or a line of a log would act on.
func printable(text string) string {
	if len(text) > maxText {
		text = text[:maxText] + "…"
	}
	for _, r := range text {
		if r == utf8.RuneError || !strconv.IsPrint(r) {
			quoted := strconv.QuoteToASCII(text)
			return quoted[1 : len(quoted)-1]
		}
	}
	return text
}
