// Package screen shows a review on the whole terminal: a list of changes above, the diff of one of them below.
package screen

import (
	"fmt"
	"os"
	"os/signal"
	"time"

	"casemate.dev/internal/relay"
	"casemate.dev/internal/review"
	"casemate.dev/internal/workspace"
	"github.com/gdamore/tcell/v3"
	"golang.org/x/sys/unix"
)

// Run shows the changes until the person has decided. Whatever ends it, the terminal is as it was: return, panic, or a signal, of which the
// number is returned.
func Run(l *workspace.Layer, changes []workspace.Change) (d review.Decision, ended unix.Signal, err error) {
	d.Action = review.Keep
	stops := !relay.Ignored(unix.SIGTSTP) // as a trap of the shell may have it
	signals := make(chan os.Signal, 8)
	listen(signals)
	defer signal.Stop(signals) // only once the terminal is as it was: a second signal would end us before
	// Nothing is asked of the terminal: its answers could be typed by what it shows, and some terminals never answer.
	s, err := tcell.NewTerminfoScreenFromTty(&terminal{}, tcell.OptNegotiation(false), tcell.OptKeyboardProtocol(tcell.LegacyKeyboard))
	if err == nil {
		err = s.Init()
	}
	if err != nil {
		return d, 0, fmt.Errorf("open the terminal: %w", err)
	}
	defer s.Fini() // also on the way out of a panic
	v := newView(s, l, changes)
	v.signals, v.stops = signals, stops
	for v.decided == nil && v.ended == 0 {
		v.draw()
		v.next()
	}
	if v.decided != nil {
		d = *v.decided
	}
	return d, v.ended, nil
}

func listen(signals chan os.Signal) {
	signal.Notify(signals, unix.SIGTERM, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTSTP, unix.SIGCONT)
}

// next waits for an event and acts on it. While nobody presses anything, lines are counted.
func (v *view) next() {
	q := v.screen.EventQ()
	for {
		select {
		case e := <-q:
			v.event(e)
			return
		case s := <-v.signals:
			v.signal(s)
			return
		default:
		}
		if !v.countSome() {
			break
		}
		if time.Since(v.drawn) > 200*time.Millisecond {
			return // with what has been counted
		}
	}
	if v.stale {
		return
	}
	select {
	case e := <-q:
		v.event(e)
	case s := <-v.signals:
		v.signal(s)
	}
}

func (v *view) event(e tcell.Event) {
	switch e := e.(type) {
	case nil: // the terminal is gone
		v.ended = unix.SIGHUP
	case *tcell.EventResize:
		v.screen.Sync()
	case *tcell.EventKey:
		v.message = ""
		v.key(e)
	case *tcell.EventError:
		v.ended = unix.SIGHUP
	}
}

func (v *view) signal(s os.Signal) {
	switch s {
	case unix.SIGTSTP:
		v.suspend()
	case unix.SIGCONT: // after a SIGSTOP: whoever had the terminal meanwhile has left it otherwise
		if v.screen.Suspend() == nil && v.screen.Resume() == nil {
			v.screen.Sync()
		}
	default:
		v.ended = s.(unix.Signal)
	}
}

// suspend gives the terminal back and stops, with the whole job, until the shell continues it.
func (v *view) suspend() {
	if v.screen.Suspend() != nil {
		return
	}
	signal.Stop(v.signals)
	signal.Reset(unix.SIGTSTP)
	continued := make(chan os.Signal, 1)
	signal.Notify(continued, unix.SIGCONT)
	if v.stops && !relay.Orphaned() { // else nobody could continue us, and the kernel would not stop us
		unix.Kill(0, unix.SIGTSTP)
		<-continued
	}
	signal.Stop(continued)
	listen(v.signals)
	if err := v.screen.Resume(); err != nil {
		v.ended = unix.SIGHUP
		return
	}
	v.screen.Sync()
}
