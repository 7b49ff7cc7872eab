package test

import (
	"os"
	"syscall"
	"testing"
)

// TestInterruptedValidate leaves nothing of what it made, and says nothing of attacks that it did not come to make.
func TestInterruptedValidate(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
			tmp, err := os.MkdirTemp("", "v") // the paths of sockets in it are short
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(tmp)
			cmd := s.command("validate")
			cmd.Env = append(cmd.Env, "TMPDIR="+tmp)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			defer os.Remove(tmp + ".out")
			out, err := os.Create(tmp + ".out")
			if err != nil {
				t.Fatal(err)
			}
			cmd.Stdout, cmd.Stderr = out, out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			eventually(t, patience, "a sandbox that is attacked", func() bool { return len(glob(s.State+"/casemate/sandboxes/*/sandbox.json")) > 0 })
			if err := syscall.Kill(cmd.Process.Pid, sig); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			if how := cmd.ProcessState.Sys().(syscall.WaitStatus); !how.Signaled() || how.Signal() != sig {
				t.Errorf("it ended with %v", cmd.ProcessState)
			}
			if said, _ := os.ReadFile(tmp + ".out"); len(said) > 0 {
				t.Errorf("it said %s", said)
			}
			if left := append(glob(tmp+"/*"), glob(s.State+"/casemate/[ps]*s/*")...); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
		}
	})
}
