package session

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"casemate.dev/internal/store"
	"golang.org/x/sys/unix"
)

// frozen is a running sandbox whose processes all stand still.
type frozen struct {
	thawer  *exec.Cmd
	tell    io.WriteCloser
	stopped map[process]bool
	stood   map[int]string // when all stood still: for each thread, how often it had run by then
	of      int            // the supervisor
}

// process is one process, by what no other has at any time.
type process struct{ pid, start int }

// ThawCommand is the hidden command that lets a frozen sandbox go on (Thaw).
const ThawCommand = "__thaw"

// freezePatience is how long the processes have to come to a stand, and freezeTries how often it is tried.
const (
	freezePatience = 500 * time.Millisecond
	freezeTries    = 4
)

// freeze stops every process of a running sandbox with SIGSTOP, which none can catch or ignore, and returns when all stand still. Those that were
// stopped already stay so afterwards. A process of ours lets them go on, at the latest when this one is gone.
//
// Not hidden from the sandbox: a parent that waits for stopped children could see one, but parents stop first and go on last; a shell's
// clock jumps.
func freeze(box *store.Sandbox) (*frozen, error) {
	var err error
	for range freezeTries {
		var f *frozen
		if f, err = tryFreeze(box); err == nil {
			return f, nil
		}
		if errors.Is(err, errNoNamespace) {
			break
		}
	}
	return nil, &Refusal{fmt.Errorf("sandbox %s runs and cannot be frozen for the moment: %w", box.Record.ID, err), "wait for its end, or end it: casemate rm --force " + box.Record.ID + " removes it with its changes"}
}

var errNoNamespace = errors.New("its processes cannot be told from others")

func tryFreeze(box *store.Sandbox) (*frozen, error) {
	f := &frozen{thawer: exec.Command("/proc/self/exe", ThawCommand), stopped: map[process]bool{}, of: box.Record.PID}
	f.thawer.Env = []string{}
	f.thawer.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt from the terminal must not end it before us
	var err error
	if f.tell, err = f.thawer.StdinPipe(); err != nil {
		return nil, err
	}
	if err := f.thawer.Start(); err != nil {
		return nil, err
	}
	if err := f.stopAll(box.Record.PID); err != nil {
		f.thaw()
		return nil, err
	}
	return f, nil
}

// thaw lets all go on, and returns when they do.
func (f *frozen) thaw() {
	f.tell.Close()
	f.thawer.Wait()
}

// stopAll goes through the sandbox's processes until all stand still. What stands still forks no more, so the rest can only become fewer.
func (f *frozen) stopAll(supervisor int) error {
	for deadline := time.Now().Add(freezePatience); ; time.Sleep(time.Millisecond) {
		all, err := insideOf(supervisor)
		if err != nil {
			return err
		}
		busy := 0
		for _, p := range all {
			if still, err := f.stop(p); err != nil {
				return err
			} else if !still {
				busy = p.pid
			}
		}
		if busy == 0 {
			if f.stood = standing(all); f.stood != nil {
				return nil
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d is busy in the kernel", busy)
		}
	}
}

// stayed reports whether all have stood still ever since. A program can have SIGCONT sent to itself, by a timer (timer_create(2)) or by another that
// has not come to a stand yet: no signal stops who is determined to go on, so it is found out afterwards.
func (f *frozen) stayed() bool {
	all, err := insideOf(f.of)
	now := standing(all)
	if err != nil || now == nil {
		return false
	}
	for thread, ran := range now {
		if f.stood[thread] != ran {
			return false
		}
	}
	return true
}

// standing tells of each thread how often it has run (proc_pid_status(5)), or nothing if one runs now.
func standing(all []process) map[int]string {
	found := map[int]string{}
	for _, p := range all {
		dir := fmt.Sprintf("/proc/%d/task", p.pid)
		tasks, err := os.ReadDir(dir)
		if err != nil {
			continue // it has ended
		}
		for _, t := range tasks {
			data, err := os.ReadFile(dir + "/" + t.Name() + "/status")
			if err != nil {
				continue
			}
			state, thread := field(data, "State"), 0
			if thread, err = strconv.Atoi(t.Name()); err != nil || state == "" || !strings.ContainsRune("TtZX", rune(state[0])) {
				return nil
			}
			found[thread] = field(data, "voluntary_ctxt_switches") + " " + field(data, "nonvoluntary_ctxt_switches")
		}
	}
	return found
}

// stop stops a process unless it is stopped, and says whether all its threads stand still.
func (f *frozen) stop(p process) (still bool, err error) {
	if still = standsStill(p.pid); still || f.stopped[p] || aboutToStop(p.pid) {
		return still, nil
	}
	fd, err := hold(p)
	if err != nil {
		return true, nil // it is gone
	}
	defer unix.Close(fd)
	// The thawer knows before we do it: whenever we die, it goes on.
	if _, err := fmt.Fprintf(f.tell, "%d %d\n", p.pid, p.start); err != nil {
		return false, err
	}
	f.stopped[p] = true
	if err := unix.PidfdSendSignal(fd, unix.SIGSTOP, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return false, fmt.Errorf("stop process %d: %w", p.pid, err)
	}
	return false, nil
}

// hold returns a descriptor that means this very process.
func hold(p process) (int, error) {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		return -1, err
	}
	if s, ok := readStat(p.pid); !ok || s.start != p.start { // looked at after it was opened: it cannot change any more
		unix.Close(fd)
		return -1, unix.ESRCH
	}
	return fd, nil
}

// Thaw is what the thawer does: it learns what is stopped, one "PID START" a line, and lets it go on when nobody can tell it more.
// Children go first, so that no parent finds one stopped.
func Thaw(in io.Reader) {
	var stopped []process
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var p process
		if _, err := fmt.Sscanf(lines.Text(), "%d %d", &p.pid, &p.start); err == nil {
			stopped = append(stopped, p)
		}
	}
	for i := len(stopped) - 1; i >= 0; i-- {
		if fd, err := hold(stopped[i]); err == nil {
			unix.PidfdSendSignal(fd, unix.SIGCONT, nil, 0)
			unix.Close(fd)
		}
	}
}

// stat is what we need of /proc/PID/stat.
type stat struct {
	state         byte
	parent, start int
}

func readStat(pid int) (stat, bool) { return parseStat(fmt.Sprintf("/proc/%d/stat", pid)) }

// parseStat reads proc_pid_stat(5). The name in field 2 may hold anything, so fields are counted from its last parenthesis.
func parseStat(path string) (s stat, ok bool) {
	data, err := os.ReadFile(path)
	end := bytes.LastIndexByte(data, ')')
	if err != nil || end < 0 {
		return s, false
	}
	fields := strings.Fields(string(data[end+1:]))
	if len(fields) < 20 {
		return s, false
	}
	s.state = fields[0][0]
	s.parent, _ = strconv.Atoi(fields[1])
	s.start, err = strconv.Atoi(fields[19])
	return s, err == nil
}

// standsStill reports whether no thread of a process can do anything: stopped, traced or dead.
func standsStill(pid int) bool {
	dir := fmt.Sprintf("/proc/%d/task", pid)
	tasks, err := os.ReadDir(dir)
	if err != nil {
		return true
	}
	for _, t := range tasks {
		if s, ok := parseStat(dir + "/" + t.Name() + "/stat"); ok && !strings.ContainsRune("TtZX", rune(s.state)) {
			return false
		}
	}
	return true
}

// aboutToStop reports whether somebody inside has sent the process a SIGSTOP that it has not taken yet: then it is not ours to continue.
func aboutToStop(pid int) bool {
	pending, err := strconv.ParseUint(statusField(pid, "ShdPnd"), 16, 64)
	return err == nil && pending&(1<<(unix.SIGSTOP-1)) != 0
}

// statusField is a field of /proc/PID/status, or "".
func statusField(pid int, name string) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return ""
	}
	return field(data, name)
}

func field(data []byte, name string) string {
	_, rest, _ := strings.Cut(string(data), "\n"+name+":")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(line)
}

// insideOf lists the processes in the sandbox of a supervisor, parents first: the descendants of its child that is the first process of a pid
// namespace. Orphans in there are that one's children.
func insideOf(supervisor int) ([]process, error) {
	names, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	children := map[int][]process{}
	for _, n := range names {
		if pid, err := strconv.Atoi(n.Name()); err == nil {
			if s, ok := readStat(pid); ok {
				children[s.parent] = append(children[s.parent], process{pid, s.start})
			}
		}
	}
	var all []process
	for _, p := range children[supervisor] {
		if supervisor > 1 && firstInside(p.pid) {
			all = append(all, p)
		}
	}
	if len(all) != 1 {
		return nil, errNoNamespace
	}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i].pid]...)
	}
	return all, nil
}

// firstInside reports whether a process is number 1 of a pid namespace below ours.
func firstInside(pid int) bool {
	numbers := strings.Fields(statusField(pid, "NSpid"))
	return len(numbers) > 1 && numbers[len(numbers)-1] == "1"
}
