package relay

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Terminal connects the user's terminal with one inside the sandbox, of which the command knows nothing else: what it does
// to its terminal (TIOCSTI, attributes, making it its own) it does to that one.
//
// The user's terminal is raw meanwhile: Ctrl-C and Ctrl-Z travel as bytes, and the terminal inside makes signals of them
// for its own foreground. For that the command must not be the leader of its session but a process group of its own in
// the session of a parent that lives on, or the kernel discards SIGTSTP (see Orphaned); when it stops, that parent must
// have Suspend called here, and be told to continue it by Resume.
//
// While our process group is not the terminal's foreground (casemate run ... &, or Ctrl-Z and bg) its attributes are left
// alone and nothing is read from it; output is still shown. That ends when we are brought to the foreground.
type Terminal struct {
	Resume func() // must continue the stopped command; nil: its foreground gets SIGCONT from here
	HungUp func() // the user's terminal is gone, and the one inside has been hung up
	Filter Filter // what of the command's output reaches the terminal

	host    int          // a description of our own of the user's terminal, where that can be had
	out     int          // the same, unless standard output is another terminal; or the way to it
	own     [2]bool      // host and out were opened by us
	detour  *detour      // to out, which blocks
	before  unix.Termios // how the terminal was found, and is left
	raw     unix.Termios
	given   unix.Termios // what the terminal inside was given last
	entered bool         // the terminal is in raw mode because of us
	mark    []byte       // the same, for the process that outlives us

	master int // the terminal inside; -1 before Adopt, and once it has been hung up
	slave  int // keeps the terminal inside from ending while the command has it closed for a moment

	loop              *Loop
	signals           *Signals
	hostIn, hostOut   *Watch
	inner             *Watch
	waiting           *Timer // looks whether we are in the foreground again
	buf               []byte
	typed             []byte // read from the user and not yet taken inside
	shown             []byte // to be shown and not yet taken by the terminal
	carried           int64
	typedBuf          []byte
	innerOver, hungUp bool
	midLine           bool // what was shown last does not end a line
	stopping, stopped bool
	moved             time.Time // when the last of the command's output came
	settling          *Timer    // looks once more whether that was all
	drained           func()
}

// How long nothing must have come before the end of the output is believed: of a command that stopped, and of one that is gone. While a worker of the
// kernel's moves what was written at the other end, which takes it several turns where there is much, a read can find nothing for a moment
// (n_tty_receive_buf_common in the kernel).
const (
	settleStopped = 10 * time.Millisecond
	settleGone    = 2 * time.Millisecond
)

const terminalBytes = 32 << 10 // how much is read at once

// OpenTerminal takes the user's terminal, standard input and output as a rule. It changes nothing yet.
func OpenTerminal(in, out int) (*Terminal, error) {
	t := &Terminal{host: in, out: out, master: -1, slave: -1}
	before, err := getAttributes(in)
	if err != nil {
		return nil, fmt.Errorf("read the attributes of the terminal: %w", err)
	}
	t.before, t.raw = *before, rawAttributes(*before)
	if t.mark, err = unix.Mmap(-1, 0, 1, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS); err != nil {
		return nil, fmt.Errorf("memory to share: %w", err)
	}
	var a, b unix.Stat_t
	same := unix.Fstat(in, &a) == nil && unix.Fstat(out, &b) == nil && a.Rdev == b.Rdev
	if fd, err := openTerminal(in, unix.O_RDWR|unix.O_NONBLOCK); err == nil {
		t.host, t.own[0] = fd, true
	}
	if same && t.own[0] {
		t.out = t.host
		return t, nil
	}
	if fd, err := openTerminal(out, unix.O_WRONLY|unix.O_NONBLOCK); err == nil {
		t.out, t.own[1] = fd, true
		return t, nil
	}
	if t.detour, err = newDetour(out); err != nil {
		t.Close(false)
		return nil, fmt.Errorf("make a pipe to the terminal: %w", err)
	}
	t.out, t.own[1] = t.detour.w, true
	return t, nil
}

// Saved is what a process that outlives us needs. It must inherit FD.
func (t *Terminal) Saved() SavedTerminal {
	return SavedTerminal{
		FD:      t.host,
		Groups:  [2]int32{int32(unix.Getpgrp()), int32(shellGroup())},
		Entered: t.mark,
		Termios: attributeBytes(&t.before),
		Raw:     attributeBytes(&t.raw),
		Reset:   []byte(Reset),
	}
}

// Attributes are those of the terminal as it was found. The terminal inside must have them before the command is executed:
// we cannot give them to it, because by the time that we have it the command may have set its own.
func (t *Terminal) Attributes() unix.Termios { return t.before }

// Adopt takes the master of the terminal inside, and gives that terminal the size of the user's. master is ours from then on.
func (t *Terminal) Adopt(master int) error {
	if _, err := unix.IoctlGetUint32(master, unix.TIOCGPTN); err != nil {
		return fmt.Errorf("take the terminal inside: not the master of a pseudoterminal: %w", err)
	}
	if err := nonblocking(master); err != nil {
		return fmt.Errorf("take the terminal inside: %w", err)
	}
	t.given = t.before
	t.master = master
	t.Resize()
	if fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC); errno == 0 {
		t.slave = int(fd)
	}
	return nil
}

// Resize gives the terminal inside the size of the user's; the kernel tells its foreground.
func (t *Terminal) Resize() {
	if size, err := unix.IoctlGetWinsize(t.host, unix.TIOCGWINSZ); err == nil && t.master >= 0 {
		unix.IoctlSetWinsize(t.master, unix.TIOCSWINSZ, size)
	}
}

// Start makes the user's terminal raw and begins to copy. Close must be called whatever happens then.
func (t *Terminal) Start(l *Loop, signals *Signals) {
	t.loop, t.signals = l, signals
	t.buf, t.typedBuf = make([]byte, terminalBytes), make([]byte, terminalBytes)
	t.hostIn = l.Watch(t.host, 0, t.fromHost)
	t.hostOut = l.Watch(t.out, 0, func(int16) { t.turn() })
	t.inner = l.Watch(t.master, 0, func(int16) { t.turn() })
	t.enter()
	t.update()
}

// Signal acts on the signals that concern the terminal, and reports whether sig was one. The others are for the caller to
// pass on, with Send for example; so is SIGTSTP before Adopt.
func (t *Terminal) Signal(sig unix.Signal) bool {
	switch {
	case sig == unix.SIGWINCH:
		t.Resize()
	case sig == unix.SIGCONT:
		t.Continue()
	case sig == unix.SIGTSTP && t.master >= 0:
		t.Send(sig) // it is for the command to stop; we do when it has
	default:
		return false
	}
	return true
}

// Send sends a signal to the foreground of the terminal inside, as the terminal itself does for Ctrl-C. Before the command
// is that, it is the process which made the terminal: it must pass on what it gets.
func (t *Terminal) Send(sig unix.Signal) {
	// Only a process of the session that has the terminal can make a group its foreground, so this is one of the sandbox's.
	if group, err := unix.IoctlGetInt(t.master, unix.TIOCGPGRP); err == nil && group > 1 {
		unix.Kill(-group, sig)
	}
}

// enter makes the terminal raw if we are in the foreground, or else looks again later. A shell sends SIGCONT when it brings
// a stopped job to the foreground, but nothing when the job was running.
func (t *Terminal) enter() {
	if !t.foreground() {
		if t.waiting == nil {
			t.waiting = t.loop.At(time.Time{}, t.look)
		}
		t.waiting.Reset(time.Now().Add(lookAgain))
		return
	}
	if now, err := getAttributes(t.host); err == nil && *now != t.raw {
		t.before = *now
		t.giveAttributes()
	}
	t.set(true) // before it is so: what may be raw must be restored
	if setAttributes(t.host, &t.raw) != nil {
		t.set(false)
	}
}

// set keeps account of whose the terminal is.
func (t *Terminal) set(entered bool) {
	t.entered = entered
	t.mark[0] = 0
	if entered {
		t.mark[0] = 1
	}
}

// giveAttributes passes on what the user's shell has changed, unless the command has set its own: a job started in the
// background finds the terminal as the shell's line editor wants it.
func (t *Terminal) giveAttributes() {
	now, err := getAttributes(t.master)
	if err == nil && *now == t.given && t.before != t.given && setAttributes(t.master, &t.before) == nil {
		t.given = t.before
	}
}

const lookAgain = 200 * time.Millisecond

func (t *Terminal) look(now time.Time) time.Time {
	if t.stopping || t.stopped || t.entered || t.hungUp {
		return time.Time{}
	}
	if !t.foreground() {
		return now.Add(lookAgain)
	}
	t.enter()
	t.Resize()
	t.update()
	return time.Time{}
}

// foreground: a terminal that is not the one which controls us has no say in it.
func (t *Terminal) foreground() bool {
	group, err := unix.IoctlGetInt(t.host, unix.TIOCGPGRP)
	return err != nil || group == unix.Getpgrp()
}

// leave gives the terminal back as it was. From the background that would stop us, and it is not ours then.
func (t *Terminal) leave(discard bool) {
	if t.entered && t.foreground() {
		if discard {
			discardInput(t.host)
		}
		setAttributes(t.host, &t.before)
	}
	t.set(false)
}

// update says to the loop what is of interest now.
func (t *Terminal) update() {
	if t.loop == nil {
		return
	}
	if t.reading() {
		t.hostIn.Want(unix.POLLIN)
	} else {
		t.hostIn.Want(0) // a hang-up is always heard
	}
	watch(t.hostOut, unix.POLLOUT, !t.stopped && len(t.shown) > 0)
	var events int16
	if len(t.shown) == 0 {
		events |= unix.POLLIN
	}
	if len(t.typed) > 0 {
		events |= unix.POLLOUT
	}
	watch(t.inner, events, !t.stopped && !t.innerOver && t.master >= 0 && events != 0)
}

// reading says whether what the user types is wanted now.
func (t *Terminal) reading() bool {
	return t.entered && !t.stopping && !t.stopped && !t.innerOver && t.master >= 0 && len(t.typed) == 0
}

func watch(w *Watch, events int16, on bool) {
	if on {
		w.Want(events)
	} else {
		w.Mute()
	}
}

// fromHost takes what the user typed or pasted.
func (t *Terminal) fromHost(revents int16) {
	if revents&unix.POLLIN == 0 {
		t.hangUp()
		return
	}
	if !t.reading() {
		return // something has happened in this turn
	}
	n, err := unix.Read(t.host, t.typedBuf)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
	case err != nil || n <= 0:
		t.hangUp()
		return
	default:
		t.typed = t.typedBuf[:n]
	}
	t.turn()
}

// turn moves what can be moved, both ways.
func (t *Terminal) turn() {
	t.passTyped()
	t.show()
	t.update()
	switch {
	case len(t.shown) > 0:
	case t.drained != nil && t.innerOver:
		drained := t.drained
		t.drained = nil
		drained()
	case t.stopping && t.settled(settleStopped):
		t.stop()
	}
}

// passTyped passes on what was typed.
func (t *Terminal) passTyped() {
	if len(t.typed) == 0 || t.master < 0 {
		return
	}
	n, err := unix.Write(t.master, t.typed)
	if n > 0 {
		t.typed = t.typed[n:]
		t.carried += int64(n)
	} else if err != unix.EAGAIN && err != unix.EINTR {
		t.typed = nil // nobody is there to take it
	}
}

// show passes on the command's output, as much as there is: a read of a master that says EAGAIN has waited for everything
// that had been written at the other end (n_tty_read).
func (t *Terminal) show() {
	for moved := 0; moved < turnBytes && t.flush() && !t.innerOver && t.master >= 0; {
		n, err := unix.Read(t.master, t.buf)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return
		case err != nil || n <= 0: // EIO: closed at the other end
			if !t.settled(settleGone) {
				return
			}
			t.innerOver = true
		default:
			t.moved = time.Now()
			t.shown = t.Filter.Next(t.buf[:n])
			if len(t.shown) > 0 {
				t.midLine = t.shown[len(t.shown)-1] != '\n'
			}
			moved += n
			t.carried += int64(n)
		}
	}
	t.flush()
}

// settled reports whether the last output is long enough ago, and sees to another turn if not.
func (t *Terminal) settled(quiet time.Duration) bool {
	end := t.moved.Add(quiet)
	if !time.Now().Before(end) {
		return true
	}
	if t.settling == nil {
		t.settling = t.loop.At(end, func(time.Time) time.Time { t.turn(); return time.Time{} })
	}
	t.settling.Reset(end)
	return false
}

// Carried counts the bytes so far, in both directions: while somebody types, the command is not idle.
func (t *Terminal) Carried() int64 { return t.carried }

// flush writes to the user's terminal and reports whether everything was taken.
func (t *Terminal) flush() bool {
	for len(t.shown) > 0 {
		n, err := unix.Write(t.out, t.shown)
		switch {
		case n > 0:
			t.shown = t.shown[n:]
		case err == unix.EAGAIN:
			return false
		case err != unix.EINTR:
			t.shown = nil // hung up; fromHost notices
		}
	}
	return true
}

// hangUp does inside what happened outside. Closing the master sends SIGHUP to the leader of the session inside only, which
// is not the command.
func (t *Terminal) hangUp() {
	t.Send(unix.SIGHUP)
	t.Send(unix.SIGCONT) // or a stopped one would not hear of it
	t.closeInner()
	t.hostIn.Close()
	t.hostOut.Close()
	t.shown, t.typed = nil, nil
	t.hungUp = true
	t.set(false) // there is nothing left to restore
	if t.HungUp != nil {
		t.HungUp()
	}
	t.turn()
}

func (t *Terminal) closeInner() {
	t.innerOver = true
	t.inner.Close()
	for _, fd := range []*int{&t.master, &t.slave} {
		if *fd >= 0 {
			unix.Close(*fd)
		}
		*fd = -1
	}
}

// Suspend stops us as the command inside has stopped: what it wrote before is shown, the terminal is given back, and our
// process group stops, so that the user's shell reports a stopped job. When it is continued, Signal must be called with
// SIGCONT; then the terminal is taken again and Resume called. Where nobody could continue us, the command is at once.
func (t *Terminal) Suspend() {
	if t.stopping || t.stopped || t.hungUp || t.loop == nil {
		return
	}
	t.stopping = true
	t.turn()
}

func (t *Terminal) stop() {
	t.stopping, t.stopped = false, true
	t.leave(false)
	t.update()
	if !t.signals.StopSelf(true) {
		t.Continue()
	}
}

// Continue is for SIGCONT, whether it was Suspend that stopped us or somebody's SIGSTOP: the attributes may have changed.
func (t *Terminal) Continue() {
	if t.loop == nil {
		return
	}
	t.signals.Resumed()
	if t.hungUp {
		return
	}
	resume := t.stopped
	t.stopping, t.stopped = false, false
	t.enter()
	t.Resize()
	t.update()
	switch {
	case resume && t.Resume != nil:
		t.Resume()
	case resume:
		t.Send(unix.SIGCONT)
	}
}

// Finish is told that the sandbox is gone; it calls drained when the last of its output has been shown.
func (t *Terminal) Finish(drained func()) {
	t.drained = drained
	t.typed = nil
	if t.slave >= 0 {
		unix.Close(t.slave)
		t.slave = -1
	}
	t.turn()
}

// Close gives the terminal back as it was found. It also ends modes that the command has left on (see Reset); killed says
// that it had no chance to do that itself. Answers of the terminal to questions that the command asked and did not wait
// for are discarded, or they would be typed into the user's shell. It may be called at any time, and twice.
func (t *Terminal) Close(killed bool) {
	if t.entered && (killed || t.Filter.Altered()) && t.foreground() {
		writeSoon(t.out, Reset)
	}
	if t.detour != nil {
		unix.Close(t.out)
		t.own[1] = false
		unix.Poll([]unix.PollFd{{Fd: int32(t.detour.done)}}, 200) // all of it has been shown then
		unix.Close(t.detour.done)
		t.detour = nil
	}
	t.leave(true)
	if t.loop != nil {
		t.hostIn.Close()
		t.hostOut.Close()
		t.inner.Close()
		t.waiting.Close()
		t.loop = nil
	}
	for _, fd := range []*int{&t.master, &t.slave} {
		if *fd >= 0 {
			unix.Close(*fd)
		}
		*fd = -1
	}
	for i, fd := range [2]int{t.host, t.out} {
		if t.own[i] {
			unix.Close(fd)
		}
	}
	t.own = [2]bool{}
}
