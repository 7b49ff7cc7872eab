package enginetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Result is one line of what the probe prints.
type Result struct {
	ID        string  `json:"id"`
	Group     string  `json:"group"`
	Title     string  `json:"title"`
	Guarantee string  `json:"guarantee"`
	Verdict   Verdict `json:"verdict"`
	Detail    string  `json:"detail"`
	Millis    int64   `json:"ms"`
}

// Names of the variables by which the probe's processes tell each other what to do.
const (
	envVar    = "CASEMATE_PROBE_ENV" // the Env as JSON
	resultVar = "CASEMATE_PROBE_FD"  // where the outcome goes
	resultFD  = 1021
)

// Environ is the variable that hands the Env to the probe.
func (e *Env) Environ() string {
	b, err := json.Marshal(e)
	if err != nil {
		panic("bug: " + err.Error())
	}
	return envVar + "=" + string(b)
}

// LoadEnv reads the Env from a file, or from the environment when path is empty.
func LoadEnv(path string) (*Env, error) {
	text := []byte(os.Getenv(envVar))
	if path != "" {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		text = b
	}
	e := &Env{UID: os.Getuid()}
	if len(text) == 0 {
		return e, nil
	}
	if err := json.Unmarshal(text, e); err != nil {
		return nil, fmt.Errorf("the fixtures' description: %w", err)
	}
	if e.Mode == "landlock" && path != "" {
		// Without namespaces the command sees a copy of the project, in which it starts.
		if dir, err := os.Getwd(); err == nil {
			e.host, e.Work = e.Work, dir
		}
	}
	return e, nil
}

// Attack runs one case in this very process and hands the outcome to whoever started it. It is `casemate-probe case ID`.
func Attack(id string, fds []int) error {
	cases, err := Find([]string{id})
	if err != nil {
		return err
	}
	e, err := LoadEnv("")
	if err != nil {
		return err
	}
	e.id, e.fds = cases[0].ID, fds
	out := os.Stdout
	if os.Getenv(resultVar) != "" {
		e.rout = resultFD
		unix.CloseOnExec(resultFD)
		out = os.NewFile(resultFD, "result")
		if err := os.Unsetenv(resultVar); err != nil {
			return err
		}
	}
	o := cases[0].Attack(e)
	return json.NewEncoder(out).Encode(o)
}

// Runner runs cases, each in a process of its own: many cannot be undone, and some end in the death of who tries.
type Runner struct {
	Probe string // the program
	Env   *Env
	Extra []string // variables beyond the own ones
}

// Run runs one case and judges what is left of it.
func (r Runner) Run(c Case) Result {
	start := time.Now()
	o, err := r.start(c)
	if err != nil {
		o = notRun("%v", err)
	}
	if o.Verdict == Open && slices.Contains(r.Env.Without, c.Guarantee) {
		o.Verdict = Excused
	}
	if o.Verdict == Open && c.Advisory != "" && r.Env.Control == "" {
		o = Outcome{Excused, c.Advisory}
	}
	return Result{c.ID, c.Group, c.Title, c.Guarantee, o.Verdict, o.Detail, time.Since(start).Milliseconds()}
}

func (r Runner) start(c Case) (Outcome, error) {
	pipe, w, err := os.Pipe()
	if err != nil {
		return Outcome{}, err
	}
	defer pipe.Close()
	// The number is high and fixed, so that it hides no descriptor that the sandbox inherited. os.StartProcess would renumber it.
	if err := unix.Dup3(int(w.Fd()), resultFD, 0); err != nil {
		w.Close()
		return Outcome{}, err
	}
	w.Close()
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, envVar) })
	p, err := os.StartProcess(r.Probe, []string{"casemate-probe", "case", c.ID}, &os.ProcAttr{
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Env:   append(append(env, r.Extra...), r.Env.Environ(), resultVar+"=1"),
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
	_ = unix.Close(resultFD)
	if err != nil {
		return Outcome{}, fmt.Errorf("start of the attack: %w", err)
	}
	timeout := c.Timeout
	if timeout == 0 {
		timeout = 10 * time.Second
	}
	var o Outcome
	_ = pipe.SetReadDeadline(time.Now().Add(timeout))
	text, err := io.ReadAll(io.LimitReader(pipe, 1<<20))
	late := errors.Is(err, os.ErrDeadlineExceeded)
	_ = unix.Kill(-p.Pid, unix.SIGKILL) // and whatever it left behind
	_ = p.Kill()
	state, err := p.Wait()
	switch {
	case len(text) > 0:
		if err := json.Unmarshal(text, &o); err != nil {
			return Outcome{}, fmt.Errorf("the attack said %q: %w", brief(string(text)), err)
		}
		return o, nil
	case late:
		return Outcome{Hung, "no answer in " + timeout.String()}, nil
	case err != nil:
		return Outcome{}, err
	}
	return died(state), nil
}

// died judges an attack that ended without a word: the sandbox killed it, or the attack is broken.
func died(state *os.ProcessState) Outcome {
	ws, ok := state.Sys().(syscall.WaitStatus)
	if ok && ws.Signaled() {
		if ws.Signal() == syscall.SIGSYS || ws.Signal() == syscall.SIGKILL {
			return held("killed: %v", ws.Signal())
		}
	}
	return Outcome{Hung, "the attack ended without an answer: " + state.String()}
}
