package relay

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// Caught are the signals that a run wants to hear of: those it passes on to the command, and those that concern the terminal.
var Caught = [...]unix.Signal{
	unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2,
	unix.SIGTSTP, unix.SIGCONT, unix.SIGWINCH,
}

// Signals brings the process's signals into a loop, without os/signal: its Notify starts two threads and three goroutines
// and was measured to cost 0.5 ms and 34 context switches at every start (a whole Go program: 1.4 ms and 12). Here the
// kernel calls a few instructions that write the signal's number into a pipe, on whichever thread it picks, without
// entering the Go runtime; the loop reads the pipe. Signalfd is no way in Go: it needs the signals blocked in every thread,
// and the runtime starts threads with the mask that the process was started with.
//
// The dispositions belong to the process: two Signals must not want the same signal, and os/signal must not be used for
// it. A child made by a raw clone has copies of the handlers and of the pipe until it executes something: it must set
// these signals to their defaults first, or it reports its own signals here.
type Signals struct {
	watch   *Watch
	handle  func(unix.Signal)
	restore []disposition
}

type disposition struct {
	sig unix.Signal
	old sigaction
}

// sigaction is the kernel's struct sigaction, the same on amd64 and arm64 (not libc's).
type sigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

// pipe is where the handlers write. It is made once and never closed: a handler may be running on another thread at any time.
var pipe struct {
	once sync.Once
	r    int
	err  error
}

func signalPipe() (r int, made bool, err error) {
	pipe.once.Do(func() {
		made = true
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
			pipe.err = fmt.Errorf("make a pipe for signals: %w", err)
			return
		}
		pipe.r, signalFD = p[0], int32(p[1])
	})
	return pipe.r, made, pipe.err
}

// signalFD is the pipe's other end. Written before any handler is in place, never after.
//
//lint:ignore U1000 read in assembly
var signalFD int32

// Signals calls handle for every signal of sigs that the process gets. A signal that was ignored when the process started
// (nohup, a background job of a script) stays ignored. SIGKILL and SIGSTOP cannot be had.
func (l *Loop) Signals(handle func(unix.Signal), sigs ...unix.Signal) (*Signals, error) {
	r, made, err := signalPipe()
	if err != nil {
		return nil, err
	}
	for n := 1; n > 0 && !made; { // what came too late for an earlier Signals
		n, _ = unix.Read(r, make([]byte, 64))
	}
	s := &Signals{handle: handle}
	for _, sig := range sigs {
		old, err := catch(sig)
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("catch signal %d (%s): %w", sig, unix.SignalName(sig), err)
		}
		s.restore = append(s.restore, disposition{sig, old})
	}
	s.watch = l.Watch(r, unix.POLLIN, func(int16) { s.deliver(r) })
	return s, nil
}

func (s *Signals) deliver(r int) {
	var buf [64]byte
	n, _ := unix.Read(r, buf[:]) // EAGAIN and EINTR: poll says when there is more
	for i := 0; i < n; i++ {
		s.handle(unix.Signal(buf[i]))
	}
}

// Close gives the signals back the dispositions they had.
func (s *Signals) Close() {
	for _, d := range s.restore {
		release(d.sig, d.old)
	}
	s.restore = nil
	s.watch.Close()
}

// StopSelf stops this process, or its whole process group, as Ctrl-Z would, so that the user's shell shows a stopped job.
// It reports whether a stop is to be expected. If so, the process goes on running for a moment, then stops, and hears
// SIGCONT when it is continued, upon which the caller must call Resumed. If it reports false, nothing was done: nobody
// could continue us (the process group is orphaned, so the kernel would discard the signal).
func (s *Signals) StopSelf(group bool) bool {
	if Orphaned() {
		return false
	}
	// The handler is put back by Resumed, not here: another thread may be the one that takes the signal, a little later.
	byDefault(unix.SIGTSTP)
	target := unix.Getpid()
	if group {
		target = 0
	}
	if unix.Kill(target, unix.SIGTSTP) != nil {
		s.Resumed()
		return false
	}
	return true
}

// Resumed makes SIGTSTP heard again after StopSelf.
func (s *Signals) Resumed() {
	for _, d := range s.restore {
		if d.sig == unix.SIGTSTP {
			catch(d.sig)
		}
	}
}
