package stores

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"casemate.dev/internal/secret"
)

// CommandTime is how long a command may take: it may ask a person for a finger.
const CommandTime = 60 * time.Second

// command is a program that prints the value, such as `op read op://Private/Anthropic/key` or `pass show anthropic`. No shell is between: its arguments are a
// list. It has the environment of casemate, because password managers need it, and no input. What it says on standard error is shown to nobody: it may hold
// the value, and the person can run it.
type command struct {
	argv    []string
	timeout time.Duration
}

// Resolve finds the program now, so that a later PATH cannot lead to another one.
func Resolve(argv []string) ([]string, error) {
	if len(argv) == 0 {
		return nil, problem("casemate secret set NAME --from command -- pass show NAME", "there is no command")
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(path, "/") {
		return nil, problem("write its whole path", "the program %q would depend on the directory", argv[0])
	}
	return append([]string{path}, argv[1:]...), nil
}

// bounded takes what a value may have, and a line break.
type bounded struct {
	b    []byte
	over bool
}

func (o *bounded) Write(b []byte) (int, error) {
	if len(o.b)+len(b) > secret.MaxValue+2 {
		o.over = true
		return 0, errors.New("too long")
	}
	o.b = append(o.b, b...)
	return len(b), nil
}

// Get runs the program, and ends it with everything that it started once the time is over. A trailing line break is not part of the value.
func (c command) Get(ctx context.Context) (v secret.Value, until time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	out := bounded{b: make([]byte, 0, secret.MaxValue+2)} // never grown: that would leave a copy
	defer func() { clear(out.b[:cap(out.b)]) }()
	cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	cmd.Dir, cmd.Stdout = "/", &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	name := c.argv[0]
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return v, until, problem("run it yourself: "+c.line(), "%q did not end within %s", name, c.timeout)
	case out.over:
		return v, until, fmt.Errorf("%q printed more than the %d bytes that a value may have", name, secret.MaxValue)
	case err != nil && !errors.As(err, new(*exec.ExitError)):
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return v, until, problem("casemate secret set takes another command", "%q: %v", name, err)
	case err != nil:
		return v, until, problem("run it yourself: "+c.line(), "%q ended with %v", name, err)
	}
	value := bytes.TrimSuffix(bytes.TrimSuffix(out.b, []byte("\n")), []byte("\r"))
	if len(value) == 0 {
		return v, until, problem("run it yourself: "+c.line(), "%q printed nothing", name)
	}
	v, err = secret.New(value)
	return v, until, err
}

func (c command) line() string { return strings.Join(c.argv, " ") }
