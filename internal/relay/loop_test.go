package relay

import (
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func newPipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

func run(t testing.TB, l *Loop) {
	t.Helper()
	// A loop that hangs is what several of these tests look for, so say so instead of hanging too.
	guard := l.At(time.Now().Add(2*time.Minute), func(time.Time) time.Time {
		t.Error("the loop was still running after two minutes")
		l.Stop()
		return time.Time{}
	})
	defer guard.Close()
	if err := l.Run(); err != nil {
		t.Fatal(err)
	}
}

func TestLoop(t *testing.T) {
	t.Run("a closed watch is not called in the turn that closes it", func(t *testing.T) {
		var l Loop
		r1, w1 := newPipe(t)
		r2, w2 := newPipe(t)
		io.WriteString(w1, "x")
		io.WriteString(w2, "x")
		var second *Watch
		l.Watch(int(r1.Fd()), unix.POLLIN, func(int16) { second.Close(); l.At(time.Now(), stop(&l)) })
		second = l.Watch(int(r2.Fd()), unix.POLLIN, func(int16) { t.Error("called after Close") })
		run(t, &l)
	})
	t.Run("a watch added during a turn is called, and indexes survive the removal of earlier ones", func(t *testing.T) {
		var l Loop
		r1, w1 := newPipe(t)
		r2, w2 := newPipe(t)
		io.WriteString(w1, "x")
		io.WriteString(w2, "x")
		var first *Watch
		first = l.Watch(int(r1.Fd()), unix.POLLIN, func(int16) {
			first.Close()
			var added *Watch
			added = l.Watch(int(r2.Fd()), 0, func(int16) { added.Close(); l.Stop() })
			l.At(time.Now(), func(time.Time) time.Time { added.Want(unix.POLLIN); return time.Time{} })
		})
		run(t, &l)
	})
	t.Run("a muted watch reports not even a hang-up", func(t *testing.T) {
		var l Loop
		r, w := newPipe(t)
		w.Close()
		calls := 0
		watch := l.Watch(int(r.Fd()), unix.POLLIN, func(int16) { calls++ })
		watch.Mute()
		l.At(time.Now().Add(5*time.Millisecond), stop(&l))
		run(t, &l)
		if calls != 0 {
			t.Errorf("called %d times", calls)
		}
	})
	t.Run("timers run in order, again when they say so, and not after Close", func(t *testing.T) {
		var l Loop
		var got []string
		now := time.Now()
		b := l.At(now.Add(time.Hour), func(time.Time) time.Time { got = append(got, "b"); l.Stop(); return time.Time{} })
		n := 0
		l.At(now, func(now time.Time) time.Time {
			got = append(got, "a")
			if n++; n == 2 {
				b.Reset(now.Add(time.Microsecond))
				return time.Time{}
			}
			return now.Add(time.Microsecond)
		})
		l.At(now, func(time.Time) time.Time { got = append(got, "no"); return time.Time{} }).Close()
		run(t, &l)
		if want := "aab"; want != got[0]+got[1]+got[2] || len(got) != 3 {
			t.Errorf("got %v", got)
		}
	})
}

func stop(l *Loop) func(time.Time) time.Time {
	return func(time.Time) time.Time { l.Stop(); return time.Time{} }
}
