package test

import (
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestEarlySignal sends signals from the moment that casemate is started until well after the command runs. None is lost: each ends the run,
// with its own status, and leaves nothing.
func TestEarlySignal(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		s.run("--", "true")
		start := time.Now()
		s.run("--", "true") // the first run took longer
		span := min(time.Since(start), 150*time.Millisecond)
		for _, c := range []struct {
			name string
			sig  unix.Signal
			key  string
		}{{"Ctrl-C", unix.SIGINT, "\x03"}, {"SIGINT", unix.SIGINT, ""}, {"SIGTERM", unix.SIGTERM, ""}, {"SIGHUP", unix.SIGHUP, ""}} {
			for _, with := range []string{"terminal", "no terminal"} {
				if c.key != "" && with == "no terminal" {
					continue
				}
				t.Run(c.name+", "+with, func(t *testing.T) {
					const times = 8
					for i := range times {
						forever := lasting(t)
						p := sitDown(t)
						cmd := s.command("run", "--quiet", "--", "sleep", forever)
						if with == "terminal" {
							p.start(cmd)
						} else if err := cmd.Start(); err != nil {
							t.Fatal(err)
						}
						time.Sleep(span * time.Duration(i) / times) // the point is that it is any moment
						if c.key != "" {
							p.send(c.key)
						} else if err := unix.Kill(cmd.Process.Pid, c.sig); err != nil {
							t.Fatal(err)
						}
						p.ends(cmd)
						ws := cmd.ProcessState.Sys().(syscall.WaitStatus)
						if ws.ExitStatus() != 128+int(c.sig) && !(ws.Signaled() && ws.Signal() == c.sig) {
							t.Errorf("after %v: %v, and the terminal shows %q", span*time.Duration(i)/times, cmd.ProcessState, tail(p.unread))
						}
						eventually(t, patience, "nothing of the sandbox left", func() bool { return len(named(forever)) == 0 })
					}
				})
			}
		}
	})
}

// TestRunInShell types `casemate run` into a shell and treats it as any job.
func TestRunInShell(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		p := sitDown(t)
		sh := p.shell(s)
		before := p.attributes()
		same := func(t *testing.T, when string) {
			t.Helper()
			p.t = t
			if now := p.attributes(); now != before {
				t.Errorf("%s the terminal's attributes are %q, they were %q", when, now, before)
			}
		}
		t.Run("stop and continue", func(t *testing.T) {
			p.t = t
			p.types(`$run -- sh -c 'echo rea""dy; exec cat'`+"\r", "ready")
			p.types("hello\r", "hello\r\nhello\r\n")
			p.types("\x1a", "Stopped")
			p.sees("out> ")
			same(t, "while the job is stopped")
			p.types("jobs\r", "Stopped")
			p.types("fg\r", "cat")
			p.types("again\r", "again\r\nagain\r\n")
			p.types("\x1a", "Stopped")
			p.types("fg\r", "cat")
			p.types("and again\r", "and again\r\nand again\r\n")
			p.types("\x04", "out> ")
			p.types("echo sta''tus $?\r", "status 0")
			p.sees("out> ")
			same(t, "afterwards")
		})
		t.Run("full screen, stop and continue", func(t *testing.T) {
			p.t = t
			needs(t, "vim")
			p.types("$run -- vim -u NONE -N -i NONE notes.txt\r", "[New]")
			p.types("ione", "one")
			p.types("\x1b\x1a", "Stopped")
			p.sees("out> ")
			same(t, "while vim is stopped")
			p.types("fg\r", "one")
			p.types("o", "\x1b")
			p.types("two", "two")
			p.types("\x1b:wq\r", "out> ")
			p.types("echo sta''tus $?\r", "status 0")
			p.sees("out> ")
			same(t, "after vim")
			has(t, "what vim saved", s.run("--", "cat", "notes.txt").stdout, "one\ntwo\n")
		})
		t.Run("interrupt", func(t *testing.T) {
			p.t = t
			p.types(`$run -- sh -c 'trap "echo GO""T-IT; exit 7" INT; echo REA""DY; while :; do sleep 0.05; done'`+"\r", "READY")
			p.types("\x03", "GOT-IT")
			p.sees("out> ")
			p.types("echo sta''tus $?\r", "status 7")
			p.sees("out> ")
			for range 10 { // also when it comes before the command is executed
				p.send("$run -- sleep " + lasting(t) + "\r")
				p.foreground()
				time.Sleep(time.Duration(rand.IntN(20_000)) * time.Microsecond) // the point is that it is any moment
				p.types("\x03", "out> ")
				p.types("echo sta''tus $?\r", "status 130")
				p.sees("out> ")
			}
			same(t, "after Ctrl-C")
		})
		t.Run("background", func(t *testing.T) {
			p.t = t
			p.types(`$run -- sh -c 'echo back""ground; cat </dev/null; exit 5' & wait $!; echo sta''tus $?`+"\r", "background")
			p.sees("status 5")
			p.sees("out> ")
			same(t, "after a job in the background")
			forever := lasting(t)
			p.types("$run -- sh -c 'echo REA\"\"DY; sleep "+forever+"' &\r", "READY")
			p.types("\r", "out> ")
			same(t, "beside a job in the background")
			p.types("fg\r", "sleep")
			p.foreground()
			p.types("\x03", "out> ")
			eventually(t, patience, "Ctrl-C ends what was brought to the foreground", func() bool { return len(named(forever)) == 0 })
			same(t, "after a job that was brought to the foreground")
		})
		t.Run("pipeline", func(t *testing.T) {
			p.t = t
			p.types("echo through | $run -- tr a-z A-Z | cat; echo sta''tus $?\r", "THROUGH")
			p.sees("status 0")
			p.sees("out> ")
			same(t, "after a pipeline")
		})
		p.t = t
		p.send("\x04")
		p.ends(sh)
	})
}
