package session

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"casemate.dev/internal/engine/native"
	"casemate.dev/internal/engine/native/inside"
	"casemate.dev/internal/event"
	"casemate.dev/internal/host"
	"casemate.dev/internal/limits"
	"casemate.dev/internal/plan"
	"casemate.dev/internal/relay"
	"casemate.dev/internal/syscalls"
	"casemate.dev/internal/workspace"
	"golang.org/x/sys/unix"
)

// Failed is the reason where casemate failed while the command ran or after it. What it changed is there all the same.
const Failed = "failed"

// Result is how a run ended.
type Result struct {
	Sandbox string        `json:"sandbox"`
	Exit    int           `json:"exit"`
	Reason  string        `json:"reason,omitempty"` // oom, timeout, idle, disk, output, input, signal, not-found, not-executable, failed; empty: the command ended by itself
	Detail  string        `json:"detail,omitempty"` // the reason as a sentence, or why it is not known what is held
	Elapsed time.Duration `json:"elapsed_ns"`
	CPU     time.Duration `json:"cpu_ns"`

	Changes *workspace.Summary `json:"changes,omitempty"` // what is held; nil when nothing is
	Live    *LiveChanges       `json:"live,omitempty"`    // what was changed in place
	Taken   []string           `json:"taken,omitempty"`   // what appeared in a live project, would run on the host, and was moved aside
	Aside   string             `json:"aside,omitempty"`   // where to
	Links   *Links             `json:"links,omitempty"`   // symlinks that appeared in what is written through

	Denied []Denial `json:"denied,omitempty"` // what was tried and could not be reached
}

// Do runs the prepared run to its end.
//
// The sandbox ends when the thread that made it does (PR_SET_PDEATHSIG). The Go runtime ends no thread but that of a goroutine which ends locked to it,
// and no goroutine of ours does. So the goroutine keeps its thread only where it changes the thread's ids: the first lock of a process starts
// another thread, for eight system calls.
func (r *Run) Do(host [3]int) (Result, error) {
	if r.Plan.Mode != plan.Rootless {
		runtime.LockOSThread()
	}
	s := &supervision{run: r, host: host, started: time.Now()}
	err := s.supervise()
	live, unsettled := r.settle()
	s.result.Live, s.result.Links = live, r.linksOut()
	s.result.Sandbox = r.Box.Record.ID
	if !r.nothingRan(err) {
		s.result.Changes, r.unlooked = r.summary()
	}
	if r.unlooked != nil { // the command ran, and its status is its own
		r.unlooked = fmt.Errorf("what it changed is held (casemate diff), but could not be looked at: %w", r.unlooked)
		s.result.Detail = strings.TrimPrefix(s.result.Detail+"; ", "; ") + r.unlooked.Error()
	}
	s.reap() // whoever takes the layer over must not find it mounted
	s.result.Elapsed = time.Since(s.started)
	s.result.Denied = r.Denials
	if s.result.Taken = r.Taken; len(r.Taken) > 0 {
		s.result.Aside = filepath.Join(r.Box.Dir, "taken")
	}
	after := errors.Join(unsettled, r.finish(s.result, err))
	if after != nil && err == nil {
		after = fmt.Errorf("the command ended with status %d, and then: %w", s.result.Exit, after)
	}
	nothing := r.nothingRan(err)
	if err = errors.Join(err, after); err != nil && !nothing {
		err = errors.Join(err, r.unlooked)
		s.result.Exit, s.result.Reason, s.result.Detail = 125, Failed, err.Error()
	}
	return s.result, err
}

// supervision is one run while it runs. Everything happens in the goroutine of its loop.
type supervision struct {
	run     *Run
	host    [3]int
	loop    relay.Loop
	streams *relay.Streams
	term    *relay.Terminal // nil without a terminal
	signals *relay.Signals
	box     *native.Sandbox
	orphans native.Orphans // in the mode without namespaces
	group   *limits.Group
	cleaner *native.Cleaner
	started time.Time
	stopped string // why the supervisor ended the sandbox
	result  Result
	failure error
	killed  bool // the command, by a signal
	renames *native.Renames

	metadata *native.Metadata

	handles []int // to close
	watcher *limits.Watcher
	gate    *gateway     // nil without a network
	secrets *storekeeper // nil without secrets
	signer  *signer      // nil without ssh keys

	published []published
	awaited   []func(fds []int) // sockets that pid 1 was asked for
	members   *members          // nil unless the sandbox is on a private network
	offers    *offers           // nil unless ports are offered as they open
	hiding    *rehiding
	taking    *rehiding
	over      bool // the sandbox has ended
	reaped    bool // and nothing of it is left

	suspending bool // the user's shell wants the command stopped
}

func (s *supervision) supervise() (err error) {
	r := s.run
	// From here on no signal ends us: what comes early is kept until the sandbox can be told, which it ends then.
	if s.signals, err = s.loop.Signals(s.signal, relay.Caught[:]...); err != nil {
		return err
	}
	defer s.signals.Close()
	if err := mountPoints(r.Plan); err != nil {
		return err
	}
	if err := r.keep(); err != nil {
		return err
	}
	if err := s.publish(); err != nil {
		return err
	}
	defer s.unpublish()
	if err := s.join(); err != nil {
		return err
	}
	defer s.leave()
	if err := s.startGate(); err != nil {
		return err
	}
	defer s.endGate()
	if err := s.startSecrets(); err != nil { // now, while the terminal is still the person's, who may be asked for a passphrase
		return err
	}
	defer s.endSecrets()
	if err := s.startSigner(); err != nil {
		return err
	}
	defer s.endSigner()
	if err := s.connect(); err != nil {
		return err
	}
	defer s.streams.Close()
	if s.term != nil {
		defer func() { s.term.Close(s.stopped != "" || s.failure != nil || s.killed) }()
	}
	if err := s.limit(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.release()) }()
	if err := s.gateReady(); err != nil {
		return err
	}
	if err := s.start(); err != nil {
		return r.explain(err)
	}
	defer s.close()
	s.streams.Start(&s.loop)
	s.loop.Watch(s.box.Control, unix.POLLIN, s.report)
	s.members.open()
	s.watchLive()
	if len(r.Box.Record.Cgroups) > 0 {
		r.sweep()
	}
	if err := r.begin(s.box.PID); err != nil {
		s.ended(0, err)
	}
	s.loop.At(time.Now().Add(time.Second), func(time.Time) time.Time { // a short command does not pay for it
		native.GiveBack()
		return time.Time{}
	})
	if r.Plan.Mode == plan.Landlock {
		s.watchFallback()
	}
	if err := s.loop.Run(); err != nil {
		return err
	}
	s.judgeStreams()
	return s.failure
}

// connect opens the command's streams: pipes, and a terminal of its own in place of the user's.
func (s *supervision) connect() (err error) {
	host := s.host
	if s.run.Options.Terminal {
		if s.term, err = relay.OpenTerminal(host[0], host[1]); err != nil {
			return err
		}
		s.term.HungUp = func() { s.stop("hangup") }
		s.term.Resume = func() { s.box.Send(inside.Signal, unix.SIGCONT) }
		host[0], host[1] = -1, -1
		if relay.Interactive(s.host[2], s.host[2]) {
			host[2] = -1
		}
	}
	owner := s.run.Plan.User.UID
	if owner == s.run.Facts.EUID {
		owner = -1
	}
	s.streams, err = relay.OpenStreams(host, owner)
	return err
}

// sweep removes what a supervisor that was killed, together with its cleaner, has left in the cgroup trees. It runs beside the start.
func (r *Run) sweep() {
	boxes, err := r.Store.List()
	if err != nil {
		return
	}
	dead := map[string]bool{}
	for _, b := range boxes {
		dead[b.Record.ID] = !b.Running && b.Record.ID != r.Box.Record.ID
	}
	// A group that we know nothing of may be a running sandbox of another state directory.
	limits.RemoveLeftovers(limits.Leftovers(r.Offers, func(group string) bool {
		id, pid, _ := strings.Cut(group, "-")
		return !dead[id] && (id != r.Box.Record.ID || pid == strconv.Itoa(os.Getpid()))
	}))
}

// limit makes the cgroups, and the process that removes them should we be killed.
func (s *supervision) limit() (err error) {
	r := s.run
	// Each run has groups of its own: the cleaner of one that was killed may still be removing those of the last.
	s.group, err = limits.Create(r.Offers, r.Box.Record.ID+"-"+strconv.Itoa(os.Getpid()), r.Set)
	if err != nil {
		return fmt.Errorf("limits: %w", err)
	}
	r.Box.Record.Cgroups = s.group.Dirs()
	var term *native.Terminal
	if s.term != nil {
		saved := s.term.Saved()
		term = &native.Terminal{FD: saved.FD, Groups: saved.Groups, Entered: saved.Entered, Termios: saved.Termios, Raw: saved.Raw, Reset: saved.Reset}
	}
	if term != nil || len(s.group.Dirs()) > 0 { // now: beside the command it would come too late for one that is killed at once
		s.cleaner, err = native.StartCleaner(s.group.Dirs(), term)
	}
	return err
}

func (s *supervision) release() error {
	if len(s.group.Dirs()) > 0 {
		s.reap()
	}
	err := s.group.Remove()
	if s.cleaner != nil {
		s.cleaner.Stop()
	}
	return err
}

func (s *supervision) close() {
	s.box.Close()
	s.offers.close()
	if s.metadata != nil {
		s.metadata.Close()
	}
	if s.watcher != nil {
		s.watcher.Close()
	}
	if s.hiding != nil {
		s.hiding.stop(s.run)
	}
	if s.taking != nil {
		s.taking.stop(s.run)
	}
	for _, fd := range s.handles {
		unix.Close(fd)
	}
	if s.hiding != nil {
		s.hiding.settle(s.run)
	}
}

func (s *supervision) start() error {
	r := s.run
	filter, err := r.filter()
	if err != nil {
		return err
	}
	at := native.Attach{
		KillableWait: r.Facts.AtLeast(5, 19),
		Stdio:        s.streams.Inside, Join: s.group.JoinFDs(), Filter: filter, OOMScore: 300,
		FailStep: os.Getenv("CASEMATE_TEST_FAIL_STEP"), Watch: r.Plan.Mode != plan.Landlock,
	}
	if s.term != nil {
		at.Terminal, at.Termios = true, s.term.Attributes()
		if size, err := unix.IoctlGetWinsize(s.host[1], unix.TIOCGWINSZ); err == nil {
			at.Winsize = *size
		}
	}
	if cpus, needed := limits.Affinity(r.Offers, r.Set); needed {
		at.CPUs = &cpus
	}
	rlimits := limits.Rlimits(r.Set, r.Offers)
	if r.Plan.Mode == plan.Landlock {
		rlimits = limits.OnTop(rlimits, r.Plan.User.UID)
	}
	for _, l := range rlimits {
		at.Rlimits = append(at.Rlimits, native.Rlimit(l))
	}
	if mask := r.Options.Umask; mask != 0 {
		defer unix.Umask(unix.Umask(mask))
	}
	if r.Plan.Mode == plan.Landlock {
		if s.orphans, err = native.Inherit(); err != nil {
			return err
		}
	}
	r.mounted = time.Now().UTC()
	s.box, err = native.Start(r.Plan, at)
	s.group.Joined()
	return err
}

// filter compiles the system call filter that the plan and the ways of holding limits ask for.
func (r *Run) filter() ([]unix.SockFilter, error) {
	_, affinity := limits.Affinity(r.Offers, r.Set)
	return syscalls.Compile(syscalls.Options{
		Fallback: r.Plan.Syscalls.Fallback, RenameHook: r.Plan.Syscalls.Rename, MetadataHook: r.Plan.Syscalls.Metadata, Affinity: affinity, Watched: r.Set.Disk > 0,
	})
}

var errSilent = errors.New("the sandbox's first process ended without a word")

// report takes one message of pid 1.
func (s *supervision) report(int16) {
	var buf [64]byte
	n, handles, err := receive(s.box.Control, buf[:])
	if err != nil || n == 0 {
		s.ended(0, errSilent)
		return
	}
	report, err := inside.ParseReport(buf[:n])
	if err != nil {
		s.ended(0, err)
		return
	}
	switch report.Kind {
	case inside.Handles:
		s.take(report.Value, handles)
	case inside.NewSocket:
		s.newSocket(handles)
	case inside.Listeners:
		if err := s.openNetwork(handles); err != nil {
			s.ended(0, err)
		}
	case inside.Stopped:
		if s.term != nil {
			s.term.Suspend()
		} else {
			s.stoppedInside()
		}
	case inside.Exited:
		s.ended(unix.WaitStatus(report.Value), nil)
	case inside.Failed:
		s.ended(0, s.box.Failure(report))
	}
}

// stoppedInside follows a command without a terminal of its own: the user's shell stops and continues it through us. What stopped by
// itself, or where nobody could continue us, goes on at once.
func (s *supervision) stoppedInside() {
	if !s.suspending || !s.signals.StopSelf(false) {
		s.suspending = false
		s.box.Send(inside.Signal, unix.SIGCONT)
	}
}

// reap waits for the end of pid 1, and with it of the sandbox's namespaces and mounts.
func (s *supervision) reap() (how unix.WaitStatus) {
	if s.box == nil || s.reaped {
		return 0
	}
	s.reaped = true
	how, usage, _ := s.box.Wait()
	s.result.CPU = time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	return how
}

// ended drains what the sandbox wrote, and stops the loop.
func (s *supervision) ended(status unix.WaitStatus, failure error) {
	if s.over {
		return
	}
	s.over = true
	if failure != nil {
		s.box.Kill()
	}
	first := false
	if failure != nil || s.stopped != "" { // otherwise pid 1 has reaped all others, and what is left of its own end need not be waited for yet
		if how := s.reap(); failure == errSilent && how.Signaled() { // the command, if it was still alive, ended so too
			status, failure, first = how, nil, true
			if s.run.Plan.Mode == plan.Landlock {
				s.orphans.End()
			}
		}
	}
	s.judge(status, failure)
	if first && s.result.Reason == "signal" {
		s.result.Detail = unix.SignalName(status.Signal()) + " ended the sandbox's first process"
	}
	s.streams.Finish(func() {
		if s.term != nil {
			s.term.Finish(s.loop.Stop)
		} else {
			s.loop.Stop()
		}
	})
}

// judge says how the run ended, in the exit statuses of casemate --help.
func (s *supervision) judge(status unix.WaitStatus, failure error) {
	var step *inside.StepError
	switch {
	case s.stopped != "":
		s.result.Exit, s.result.Reason = 137, s.stopped
		switch s.stopped {
		case "timeout", "idle":
			s.result.Exit = 124
		case "hangup":
			s.result.Exit = 128 + int(unix.SIGHUP)
		}
	case errors.As(failure, &step) && step.Step == native.Execute:
		s.result.Exit, s.result.Reason = 126, "not-executable"
		if step.Errno == unix.ENOENT {
			s.result.Exit, s.result.Reason = 127, "not-found"
		}
		s.result.Detail = s.run.notExecuted(step.Errno)
	case failure != nil:
		s.failure = s.run.explain(failure)
	case status.Signaled():
		s.killed = true
		s.result.Exit, s.result.Reason = 128+int(status.Signal()), "signal"
		switch {
		case s.group.OOM() > 0:
			s.result.Reason = "oom"
		case status.Signal() == unix.SIGXFSZ:
			s.result.Reason, s.result.Detail = "disk", s.run.fileTooLong()
		}
	default:
		s.result.Exit = status.ExitStatus()
		if s.result.Exit != 0 && s.group.OOM() > 0 {
			s.result.Reason = "oom"
		}
	}
	if s.result.Detail == "" {
		s.result.Detail = s.run.sentence(s.result.Reason)
	}
}

// judgeStreams says that output or input was lost, as the command itself would have said: what it wrote was taken from it before the host refused it, and
// of its input it saw no more than the end.
func (s *supervision) judgeStreams() {
	reason, err := "output", s.streams.Err()
	if err == nil {
		reason, err = "input", s.streams.InputErr()
	}
	byPipe := reason == "output" && s.result.Reason == "signal" && s.result.Exit == 128+int(unix.SIGPIPE) // the signal only followed from it
	if err == nil || s.failure != nil || s.result.Reason != "" && !byPipe {
		return
	}
	s.result.Reason, s.result.Detail = reason, err.Error()
	if s.result.Exit == 0 {
		s.result.Exit = 125
	}
}

// stop ends the sandbox from outside, for a reason.
func (s *supervision) stop(reason string) {
	if s.stopped == "" {
		s.stopped = reason
	}
	if s.run.Plan.Mode == plan.Landlock { // without a pid namespace the first process must live to end the others
		unix.Shutdown(s.box.Control, unix.SHUT_WR)
	} else {
		s.box.Kill()
	}
	s.group.Kill()
	s.ended(0, nil)
}

// explain adds cause and remedy to a failed set-up step.
func (r *Run) explain(err error) error {
	var step *inside.StepError
	if !errors.As(err, &step) {
		return err
	}
	cause, remedy := host.Diagnose(step.Errno, step.Step, r.Facts)
	if cause != "" {
		err = fmt.Errorf("%w: %s", err, cause)
	}
	return &Refusal{err, r.cacheStep(step.Step, remedy)}
}

func (r *Run) emit(e event.Event) {
	e.Time, e.Sandbox = time.Now().UTC(), r.Box.Record.ID
	r.events = append(r.events, e)
}
