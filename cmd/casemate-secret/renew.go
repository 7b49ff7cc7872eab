package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"casemate.dev/internal/secret"
	"casemate.dev/internal/secret/login"
	"casemate.dev/internal/secret/stores"
)

// renewVerb is for this program itself.
const renewVerb = "__renew"

// host is what the stores have of this process.
func (d *desk) host() stores.Host { return stores.Host{Getenv: d.getenv, Renew: d.renew} }

func (d *desk) renew(ctx context.Context, f login.File) error { return d.renewer.Renew(ctx, f) }

// renewed is what the other process says, when it has done everything.
type renewed struct {
	Error   string `json:"error,omitempty"`
	Hint    string `json:"hint,omitempty"`
	Refused bool   `json:"refused,omitempty"`
}

// renewBeside has a login renewed by another process of this program, in a session of its own: neither the end of the sandbox, which kills this one, nor Ctrl-C
// reaches it between the vendor's answer and the file. Whoever waits may leave.
func renewBeside(ctx context.Context, f login.File) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var out bytes.Buffer
	cmd := exec.Command(self, renewVerb, f.Name, f.Path)
	cmd.Dir, cmd.Stdout = "/", &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err = <-ended:
	}
	var said renewed
	if json.Unmarshal(out.Bytes(), &said) != nil {
		return fmt.Errorf("the login of %s could not be renewed: %w", f.Agent, errors.Join(err, errors.New("the process that does it said nothing")))
	}
	if said.Error == "" {
		return nil
	}
	err = &secret.Problem{Err: errors.New(said.Error), Help: said.Hint}
	if said.Refused {
		err = &login.Refused{Err: err}
	}
	return err
}

// within is the longest that a renewal takes: the locks, the vendor and the file.
const within = 2 * time.Minute

// renewNow is that other process.
func (d *desk) renewNow(args []string) error {
	if len(args) != 2 {
		return wrongUse("casemate secret --help", "%s is run by casemate secret", renewVerb)
	}
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE)
	f, err := login.At(args[0], args[1])
	if err != nil {
		return err
	}
	ctx, done := context.WithTimeout(context.Background(), within)
	defer done()
	err = f.Renew(ctx, login.Client(), time.Now)
	var said renewed
	if err != nil {
		said.Error, said.Refused = err.Error(), errors.As(err, new(*login.Refused))
		var p *secret.Problem
		if errors.As(err, &p) {
			said.Hint = p.Help
		}
	}
	return json.NewEncoder(d.out).Encode(said)
}
