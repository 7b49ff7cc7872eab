package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"casemate.dev/internal/engine/native"
	"casemate.dev/internal/engine/native/inside"
	"casemate.dev/internal/event"
	"casemate.dev/internal/plan"
	"casemate.dev/internal/policy"
	"casemate.dev/internal/store"
	"casemate.dev/internal/workspace"
	"golang.org/x/sys/unix"
)

// begin records that the sandbox runs. It happens beside the command's start, not before it: the command of a run that cannot be recorded is ended at once,
// as nothing would tell of what it does.
func (r *Run) begin(pid int) error {
	rec := &r.Box.Record
	rec.Project, rec.Command, rec.Mode = r.Project, r.Plan.Command.Argv, string(r.Plan.Mode)
	rec.UID = r.Plan.User.UID
	rec.Network = string(r.Plan.Network.Kind)
	rec.Workspace, rec.By = r.Plan.Workspace.Kind, r.Plan.Workspace.By
	rec.Started, rec.Ended, rec.PID, rec.Reason = time.Now().UTC(), time.Time{}, os.Getpid(), ""
	rec.PIDStart, _ = store.ProcessStart(rec.PID)
	rec.Mounted = append(rec.Mounted, r.mounted)
	rec.Name, rec.Internal, rec.Ports, rec.Policy = r.Options.Name, nil, nil, ""
	for _, n := range r.Plan.Network.Internal {
		rec.Name, rec.Internal = r.name(), append(rec.Internal, n.Value)
	}
	for _, p := range r.Plan.Network.Publish {
		rec.Ports = append(rec.Ports, offering(p.Host, p.Inside))
	}
	rec.Hide, rec.Protect = hidePatterns(r.Policy.Files), protectPatterns(r.Policy.Files)
	if r.surveyed != nil {
		rec.Aliases = r.surveyed.Aliases
		for _, h := range r.surveyed.Hidden {
			if h.Pattern < 0 {
				rec.Hidden = append(rec.Hidden, h.Path)
			}
		}
		slices.Sort(rec.Hidden)
		rec.Hidden = slices.Compact(rec.Hidden)
	}
	if !r.Kept && rec.Workspace == string(policy.Held) {
		r.keepIndex()
	}
	if err := r.Box.Save(false); err != nil {
		return fmt.Errorf("the run cannot be recorded, so its command was ended at once: %w", err)
	}
	r.began = true
	r.emit(event.Event{Kind: event.Started, Subject: r.Plan.Command.Path, Detail: fmt.Sprintf("process %d", pid)})
	return nil
}

// finish writes the record and the events. A sandbox that changed nothing and was made for this run disappears.
func (r *Run) finish(res Result, failure error) error {
	defer r.release()
	r.trusted.remove() // now: the directory may be another run's in a moment
	rec := &r.Box.Record
	rec.Ended, rec.Exit, rec.Reason, rec.Cgroups, rec.PID = time.Now().UTC(), res.Exit, res.Reason, nil, 0
	rec.Name, rec.Internal, rec.Ports, rec.Policy = "", nil, nil, ""
	if failure == nil {
		r.emit(event.Event{Kind: event.Exited, Subject: r.Plan.Command.Path, Detail: fmt.Sprintf("status %d %s", res.Exit, res.Reason)})
	}
	if !r.Kept && r.nothingRan(failure) {
		return discard(r.Box)
	}
	unwritten := r.writeEvents()
	if res.Changes == nil && r.unlooked == nil && len(res.Taken) == 0 && !r.Kept {
		return errors.Join(unwritten, r.forget())
	}
	return errors.Join(unwritten, syncLayer(r.Box), r.Box.Save(true))
}

// nothingRan says that a run failed before its command could change anything: no code of the user's runs before or after a failed step.
func (r *Run) nothingRan(failure error) bool {
	var step *inside.StepError
	return failure != nil && (!r.began || errors.As(failure, &step))
}

// syncLayer makes kept changes survive a power failure: the overlay was mounted volatile.
func syncLayer(box *store.Sandbox) error {
	fd, err := unix.Open(box.Dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("sandbox %s: %w", box.Record.ID, err)
	}
	defer unix.Close(fd)
	if err := unix.Syncfs(fd); err != nil {
		return fmt.Errorf("kept changes of %s: %w", box.Record.ID, err)
	}
	return nil
}

// summary counts what the layer holds; nil is nothing.
func (r *Run) summary() (*workspace.Summary, error) {
	if r.emptyOverlay() || r.Plan.Workspace.Kind != string(policy.Held) {
		return nil, nil
	}
	review, err := openReview(r.Box, nil)
	if err != nil {
		return nil, err
	}
	defer review.Close()
	ctx := context.Background()
	if err := review.Settle(ctx); err != nil {
		r.notice("%v", err)
	}
	changes, err := review.Changes(ctx, workspace.ChangeOptions{Note: true})
	if err != nil || len(changes) == 0 {
		return nil, err
	}
	review.Count(ctx, changes)
	s := workspace.Summarize(changes)
	return &s, nil
}

// forget removes a sandbox that changed nothing.
func (r *Run) forget() error {
	if r.Plan.Workspace.By == "overlay" && r.emptyOverlay() && r.renewUpper() == nil && r.Store.Spare(r.Box, r.Project) {
		return nil
	}
	return discard(r.Box)
}

// renewUpper makes the empty directory of a layer anew. What a command has set of the old one, which is the project's own as it sees it, would be there in the
// next run: attributes, times, and the access list that new files inherit.
func (r *Run) renewUpper() error {
	if err := workspace.ForgetFirsts(r.Box.Layer()); err != nil {
		return err
	}
	upper := filepath.Join(r.Box.Layer(), "upper")
	if err := unix.Rmdir(upper); err != nil && err != unix.ENOENT {
		return err
	}
	if err := unix.Mkdir(upper, 0o700); err != nil {
		return err
	}
	return r.own(upper, r.Plan.User)
}

// emptyOverlay says, without looking further, that there is no layer or nothing in it.
func (r *Run) emptyOverlay() bool {
	if r.Plan.Workspace.By == "copy" || r.masked != nil && exists(filepath.Join(r.Box.Dir, "git")) {
		return false
	}
	return isEmpty(filepath.Join(r.Box.Layer(), "upper"))
}

// isEmpty says whether a directory holds nothing, or is not there.
func isEmpty(dir string) bool {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err == unix.ENOENT // without a project there is no layer
	}
	defer unix.Close(fd)
	var buf [4096]byte
	n, err := unix.Getdents(fd, buf[:])
	if err != nil {
		return false
	}
	_, count, _ := unix.ParseDirent(buf[:n], -1, nil)
	return count == 0
}

func (r *Run) writeEvents() error {
	var lines []byte
	for i := range r.events {
		lines = r.events[i].Line(lines)
	}
	r.events = nil
	return r.Store.Record(lines)
}

// sentence is what a reason means, for the person.
func (r *Run) sentence(reason string) string {
	switch reason {
	case "oom", "memory":
		return fmt.Sprintf("stopped at the memory limit of %s: raise it with --memory", r.limit0("memory"))
	case "disk":
		return fmt.Sprintf("stopped at the disk limit of %s: raise it with --disk", r.limit0("disk"))
	case "timeout":
		return fmt.Sprintf("stopped at the time limit of %s: raise it with --time", r.limit0("time"))
	case "idle":
		return fmt.Sprintf("stopped after %s without output and work: raise it with --idle", r.limit0("idle"))
	}
	return ""
}

// fileTooLong names the limit that one file ran into (RLIMIT_FSIZE), before the watcher could see it.
func (r *Run) fileTooLong() string {
	if r.Set.Disk == 0 || r.Offers.FileSize < uint64(r.Set.Disk) {
		return "stopped at the limit of one file's size, which is not casemate's: ulimit -f shows yours"
	}
	return fmt.Sprintf("stopped as one file reached the disk limit of %s: raise it with --disk", r.limit0("disk"))
}

func (r *Run) limit0(name string) string {
	for _, l := range r.Plan.Limits {
		if l.Name == name {
			return l.Value
		}
	}
	return "none"
}

// notExecuted says why the command could not be executed.
func (r *Run) notExecuted(errno unix.Errno) string {
	path := r.Plan.Command.Path
	if errno == unix.ENOENT {
		if interpreter := shebang(path); interpreter != "" {
			return fmt.Sprintf("%s: its interpreter %q is not there inside", path, interpreter)
		}
		if _, err := os.Stat(path); err == nil {
			return fmt.Sprintf("%s is there on the host but not inside the sandbox: --read %s shows its directory inside", path, filepath.Dir(path))
		}
		return fmt.Sprintf("%s: command not found", path)
	}
	return fmt.Sprintf("%s cannot be executed: %v", path, errno)
}

// shebang is what the first line of a script names, or "".
func shebang(path string) string {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	head := make([]byte, 256) // as much as the kernel reads (BINPRM_BUF_SIZE)
	n, _ := f.Read(head)
	line, _, _ := bytes.Cut(head[:n], []byte("\n"))
	interpreter, found := bytes.CutPrefix(line, []byte("#!"))
	if !found {
		return ""
	}
	return string(bytes.TrimSpace(interpreter))
}

// take keeps the descriptors that pid 1 handed over.
func (s *supervision) take(bits uint32, fds []int) {
	r := s.run
	next := func(bit uint32) int {
		if bits&bit == 0 || len(fds) == 0 {
			return -1
		}
		fd := fds[0]
		fds = fds[1:]
		s.handles = append(s.handles, fd)
		return fd
	}
	terminal, proc, workspace, calls := next(native.HandleTerminal), next(native.HandleProc), next(native.HandleWorkspace), next(native.HandleCalls)
	tmp, shm := next(native.HandleTmp), next(native.HandleShm)
	if terminal >= 0 && s.term != nil {
		s.handles = slices.DeleteFunc(s.handles, func(fd int) bool { return fd == terminal }) // the relay's from now on
		if err := s.term.Adopt(terminal); err != nil {
			s.ended(0, err)
			return
		}
		s.term.Start(&s.loop, s.signals)
	}
	if r.Plan.Mode == plan.Landlock {
		s.answerMetadata(calls)
		return
	}
	s.watchLimits(proc, []int{tmp, shm})
	s.watchProject(workspace)
	if calls >= 0 {
		s.renames = &native.Renames{
			FD: calls, Workspace: workspace, Path: r.Plan.Workspace.Path, Project: r.Project, Upper: filepath.Join(r.Box.Layer(), "upper"),
			Mounts: mountedIn(r.Plan), FSUID: r.Plan.User.UID, FSGID: r.Plan.User.GID,
		}
		s.loop.Watch(calls, unix.POLLIN, func(revents int16) {
			if revents&unix.POLLIN != 0 {
				s.renames.Answer()
			}
		})
	}
}

// mountedIn are the places in the workspace on which something is mounted.
func mountedIn(p *plan.Plan) []string {
	var list []string
	for _, m := range p.Mounts {
		if m.Target != p.Workspace.Path && within(m.Target, p.Workspace.Path) {
			list = append(list, m.Target)
		}
	}
	return list
}

// signal passes a signal of the host on to the command.
func (s *supervision) signal(sig unix.Signal) {
	if s.term != nil && s.term.Signal(sig) {
		return
	}
	switch {
	case sig == unix.SIGWINCH:
	case sig == unix.SIGTSTP && s.term != nil: // it came before the terminal inside did
		s.box.Send(inside.Signal, sig)
	case sig == unix.SIGTSTP: // the command is in a session of its own, where the kernel discards TSTP; once it has stopped, so do we
		s.suspending = true
		s.box.Send(inside.Signal, unix.SIGSTOP)
	case sig == unix.SIGCONT:
		s.suspending = false
		s.signals.Resumed()
		s.box.Send(inside.Signal, unix.SIGCONT)
	default:
		s.box.Send(inside.Signal, sig)
	}
}
