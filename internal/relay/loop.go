// Package relay copies the command's streams and terminal between host and sandbox in one poll loop.
package relay

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Loop calls functions when descriptors become ready or a time has come. Everything runs in the goroutine that called
// Run, one function at a time: a goroutine for each stream would cost thread starts and context switches, which are what
// a sandbox's start-up is made of. The zero value is ready to use. It is not safe for use by several goroutines.
type Loop struct {
	polled  []unix.PollFd // parallel to watches: what poll(2) is asked
	watches []*Watch
	timers  []*Timer
	gone    bool // a watch was closed and its place must be removed
	stopped bool
}

// Watch is one descriptor the loop looks at. Once closed, its methods do nothing.
type Watch struct {
	loop  *Loop
	at    int // index in loop.polled
	fd    int
	ready func(revents int16)
}

// Watch calls ready each time poll(2) reports one of events for fd, or an error or hang-up, which are always reported.
// ready must cope with being called when nothing is to be had: another callback of the same turn may have been first.
func (l *Loop) Watch(fd int, events int16, ready func(revents int16)) *Watch {
	w := &Watch{loop: l, at: len(l.watches), fd: fd, ready: ready}
	l.watches = append(l.watches, w)
	l.polled = append(l.polled, unix.PollFd{Fd: int32(fd), Events: events})
	return w
}

// Want changes what the watch waits for. With no events it still hears of errors and hang-ups.
func (w *Watch) Want(events int16) {
	if w.ready != nil {
		p := &w.loop.polled[w.at]
		p.Fd, p.Events = int32(w.fd), events
	}
}

// Mute makes the watch report nothing, not even a hang-up, which would otherwise wake the loop for ever.
func (w *Watch) Mute() {
	if w.ready != nil {
		w.loop.polled[w.at].Fd = -1
	}
}

// Close ends the watch. It does not close the descriptor, which must be closed afterwards, not before.
func (w *Watch) Close() {
	if w == nil || w.ready == nil {
		return
	}
	w.Mute()
	w.ready = nil
	w.loop.gone = true
}

// Timer is a function that is called when its time has come.
type Timer struct {
	loop *Loop
	when time.Time // zero: not running
	f    func(now time.Time) time.Time
}

// At calls f once when is reached. f returns when it wants to be called again, or the zero time for never.
func (l *Loop) At(when time.Time, f func(now time.Time) time.Time) *Timer {
	t := &Timer{loop: l, when: when, f: f}
	l.timers = append(l.timers, t)
	return t
}

// Reset moves the timer to a new time, also when it has run out.
func (t *Timer) Reset(when time.Time) { t.when = when }

// Close ends the timer.
func (t *Timer) Close() {
	if t == nil || t.f == nil {
		return
	}
	t.when, t.f = time.Time{}, nil
	t.loop.gone = true
}

// Stop makes Run return once the callback that called it has returned.
func (l *Loop) Stop() { l.stopped = true }

// Run calls the callbacks until one of them calls Stop.
func (l *Loop) Run() error {
	defer func() { l.stopped = false }()
	for !l.stopped {
		wait := l.runTimers()
		if l.stopped {
			return nil
		}
		l.sweep()
		n, err := unix.Ppoll(l.polled, wait, nil)
		if err == unix.EINTR {
			continue // a signal: its own descriptor is readable now
		}
		if err != nil {
			return fmt.Errorf("poll %d descriptors: %w", len(l.polled), err)
		}
		l.dispatch(n)
	}
	return nil
}

// dispatch looks only at the watches there were when poll was called; callbacks may add and close watches.
func (l *Loop) dispatch(n int) {
	for i := 0; n > 0 && i < len(l.polled) && !l.stopped; i++ {
		revents := l.polled[i].Revents
		if revents == 0 {
			continue
		}
		n--
		l.polled[i].Revents = 0
		if w := l.watches[i]; w.ready != nil && l.polled[i].Fd >= 0 {
			w.ready(revents)
		}
	}
}

// runTimers calls what is due and returns how long poll may wait, nil for ever.
func (l *Loop) runTimers() *unix.Timespec {
	if len(l.timers) == 0 {
		return nil // without asking the clock
	}
	now := time.Now()
	for i := 0; i < len(l.timers) && !l.stopped; i++ { // callbacks may add timers
		t := l.timers[i]
		if t.when.IsZero() || t.when.After(now) {
			continue
		}
		t.when = time.Time{}
		if next := t.f(now); t.f != nil && !next.IsZero() {
			t.when = next
		}
	}
	var first time.Time
	for _, t := range l.timers {
		if !t.when.IsZero() && (first.IsZero() || t.when.Before(first)) {
			first = t.when
		}
	}
	if first.IsZero() {
		return nil
	}
	wait := unix.NsecToTimespec(max(0, int64(time.Until(first))))
	return &wait
}

// sweep removes what was closed, between polls, so that indexes are stable during a turn.
func (l *Loop) sweep() {
	if !l.gone {
		return
	}
	l.gone = false
	kept := 0
	for i, w := range l.watches {
		if w.ready == nil {
			continue
		}
		w.at = kept
		l.watches[kept], l.polled[kept] = w, l.polled[i]
		kept++
	}
	clear(l.watches[kept:])
	l.watches, l.polled = l.watches[:kept], l.polled[:kept]
	timers := l.timers[:0]
	for _, t := range l.timers {
		if t.f != nil {
			timers = append(timers, t)
		}
	}
	clear(l.timers[len(timers):])
	l.timers = timers
}
