package test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// person is somebody at a terminal: types, and reads what it shows, in order.
type person struct {
	*terminal
	unread string
	shown  strings.Builder // everything
}

// patience is how long a test waits for what must happen: long, because the machine may be busy, and nobody waits when it does happen.
const patience = 30 * time.Second

func sitDown(t *testing.T) *person {
	t.Helper()
	return &person{terminal: newTerminal(t)}
}

// sees reads until the text appears and returns everything up to it; what comes after it is read next.
func (p *person) sees(want string) string {
	p.t.Helper()
	deadline := time.After(patience)
	for {
		if i := strings.Index(p.unread, want); i >= 0 {
			shown := p.unread[:i+len(want)]
			p.unread = p.unread[i+len(want):]
			return shown
		}
		select {
		case s, ok := <-p.seen:
			if !ok {
				p.t.Fatalf("the terminal closed before %q; it showed %q", want, tail(p.unread))
			}
			p.unread += s
			p.shown.WriteString(s)
		case <-deadline:
			p.t.Fatalf("%q did not appear in %v; the terminal shows %q", want, patience, tail(p.unread))
		}
	}
}

// types sends keys and waits for what they lead to.
func (p *person) types(keys, want string) string {
	p.t.Helper()
	p.send(keys)
	return p.sees(want)
}

// shell starts an interactive bash on the terminal, as a terminal emulator does, and waits for its prompt.
func (p *person) shell(s *site) *exec.Cmd {
	p.t.Helper()
	needs(p.t, "bash")
	cmd := exec.Command("bash", "--norc", "--noprofile", "-i")
	cmd.Dir, cmd.Env = s.Work, append(s.environ(), "PS1=out> ", "HISTFILE=", "INPUTRC=/dev/null", "casemate="+casemate, "run="+casemate+" run --quiet "+strings.Join(s.mode.flags, " "))
	p.start(cmd)
	p.sees("out> ")
	return cmd
}

// attributes asks the shell for the terminal's attributes.
func (p *person) attributes() string {
	p.t.Helper()
	shown := p.types("echo attributes '='; stty -g; echo at''tributes end\r", "attributes end")
	_, shown, _ = strings.Cut(shown, "attributes =")
	p.sees("out> ")
	return strings.TrimSpace(strings.TrimSuffix(shown, "attributes end"))
}

// ends waits for the command and gives its status.
func (p *person) ends(cmd *exec.Cmd) int {
	p.t.Helper()
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	deadline := time.After(patience)
	for {
		select {
		case <-done:
			return cmd.ProcessState.ExitCode()
		case s := <-p.seen: // somebody must read, or nothing ends
			p.unread += s
		case <-deadline:
			p.t.Fatalf("%v did not end in %v; the terminal shows %q", cmd.Args, patience, tail(p.unread))
		}
	}
}

// stopped says whether a process of the host is stopped.
func stopped(pid int) bool {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	return strings.HasPrefix(rest, "T")
}

// foremost says whether a process is in the foreground of its terminal.
func foremost(pid int) bool {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest) // state, parent, group, session, terminal, the terminal's foreground group
	return len(fields) > 5 && fields[2] == fields[5] && fields[0] != "T"
}

// foreground waits until casemate has the terminal.
func (p *person) foreground() {
	p.t.Helper()
	eventually(p.t, patience, "casemate in the foreground", func() bool {
		group, err := unix.IoctlGetInt(int(p.master.Fd()), unix.TIOCGPGRP)
		exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", group))
		return err == nil && exe == casemate
	})
}

// gone waits for a command whose terminal is gone.
func (p *person) gone(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Error("the shell did not end with its terminal")
		_ = cmd.Process.Kill()
	}
}
