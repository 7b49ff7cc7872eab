package relay

import (
	"os"
	"os/exec"
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSignals(t *testing.T) {
	var l Loop
	var got []unix.Signal
	raise := func() { // one after the other: SIGCONT discards a SIGTSTP that is still on its way
		if err := unix.Kill(unix.Getpid(), Caught[len(got)]); err != nil {
			t.Fatal(err)
		}
	}
	s, err := l.Signals(func(sig unix.Signal) {
		if got = append(got, sig); len(got) == len(Caught) {
			l.Stop()
			return
		}
		raise()
	}, Caught[:]...)
	if err != nil {
		t.Fatal(err)
	}
	raise()
	run(t, &l)
	if !slices.Equal(got, Caught[:]) {
		t.Errorf("got %v, want %v", got, Caught)
	}
	s.Close()
	for _, sig := range Caught {
		var act sigaction
		if err := setAction(sig, nil, &act); err != nil || act.handler == caughtPC() {
			t.Errorf("%v is still caught after Close: %v", sig, err)
		}
	}
}

// The handler interrupts Go code anywhere, on any thread, so send many signals while threads allocate and collect garbage.
func TestSignalsUnderLoad(t *testing.T) {
	var l Loop
	const each = 2000
	count := map[unix.Signal]int{}
	s, err := l.Signals(func(sig unix.Signal) { count[sig]++ }, unix.SIGUSR1, unix.SIGUSR2)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	done := make(chan bool)
	for range 4 {
		go func() {
			defer func() { done <- true }()
			var keep [][]byte
			for i := range 20000 {
				keep = append(keep, make([]byte, 64+i%512))
				if len(keep) > 1000 {
					keep = nil
				}
			}
		}()
	}
	r, w := newPipe(t)
	go func() {
		for range each {
			unix.Kill(unix.Getpid(), unix.SIGUSR1)
			unix.Kill(unix.Getpid(), unix.SIGUSR2)
			runtime.Gosched()
		}
		for range 4 {
			<-done
		}
		w.Close()
	}()
	l.Watch(int(r.Fd()), unix.POLLIN, func(int16) { l.Stop() })
	run(t, &l)
	// Standard signals are not queued, so some coincide; the last of each must have arrived.
	for _, sig := range []unix.Signal{unix.SIGUSR1, unix.SIGUSR2} {
		if count[sig] == 0 || count[sig] > each {
			t.Errorf("%v: heard %d times of %d", sig, count[sig], each)
		}
	}
}

// A signal that was ignored when the process started stays ignored, as nohup wants it.
func TestIgnoredSignalStaysIgnored(t *testing.T) {
	if os.Getenv("RELAY_TEST_IGNORED") != "" {
		var l Loop
		s, err := l.Signals(func(sig unix.Signal) {
			if sig == unix.SIGHUP {
				t.Error("SIGHUP was heard although it is ignored")
				return
			}
			l.Stop()
		}, unix.SIGHUP, unix.SIGUSR1)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		unix.Kill(unix.Getpid(), unix.SIGHUP)
		unix.Kill(unix.Getpid(), unix.SIGUSR1)
		run(t, &l)
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `trap "" HUP; exec "$0" -test.run '^TestIgnoredSignalStaysIgnored$'`, exe)
	cmd.Env = append(os.Environ(), "RELAY_TEST_IGNORED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
