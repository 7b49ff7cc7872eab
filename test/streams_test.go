package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"casemate.dev/internal/engine/enginetest"
	"golang.org/x/sys/unix"
)

// TestDescriptors starts casemate with a directory and a file of the host left open, and with host files as stdout and stderr.
func TestDescriptors(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		s.describe(nil)
		out, err := os.OpenFile(filepath.Join(t.TempDir(), "out"), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		if _, err := out.WriteString("before\n"); err != nil {
			t.Fatal(err)
		}
		etc, err := os.Open("/etc")
		if err != nil {
			t.Fatal(err)
		}
		defer etc.Close()
		canary, err := os.OpenFile(s.Env.Canary, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer canary.Close()
		cmd := s.command(append(append([]string{"run"}, probing()...), "fds", "D06", "P03.descriptors")...)
		cmd.ExtraFiles = []*os.File{etc, canary, etc, etc, etc, etc, canary} // 3 to 9
		cmd.Stdin, cmd.Stdout, cmd.Stderr = out, out, out
		s.finish(cmd)
		text := read(t, out.Name())
		has(t, "what the file held before", text, "before\n")
		results, other, err := enginetest.ReadResults(strings.NewReader(text))
		if err != nil || len(results) < 5 {
			t.Fatalf("%d results, %q, %v", len(results), other, err)
		}
		judge(t, s.Verify(results, text))
	})
}

// TestFirstDescriptorsClosed: a caller who closed 0, 1 or 2 gives the sandbox no descriptor of casemate's own in their place.
func TestFirstDescriptorsClosed(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		for _, redirect := range []string{"<&-", "<&- >&-", "2>&-", "<&- >&- 2>&-"} {
			cmd := s.command()
			*cmd = *exec.Command("sh", "-c", `"$@" `+redirect, "sh", casemate, "run", "--", "sh", "-c", `ls -l /proc/self/fd >fds; cat /dev/null >&0; echo done >finished`)
			if len(s.mode.flags) > 0 {
				cmd.Args = append(cmd.Args[:6:6], append(s.mode.flags, cmd.Args[6:]...)...)
			}
			cmd.Dir, cmd.Env = s.Work, s.environ()
			out := s.finish(cmd)
			got := s.sh("cat fds finished; rm -f fds finished")
			hasNot(t, redirect, got.stdout, "socket:")
			for _, own := range []string{"events.jsonl", "sandbox.json", "/lock", "/upper", "pidfd", "cgroup"} {
				hasNot(t, redirect, got.stdout, own)
			}
			if !strings.Contains(got.stdout, "done") && out.exit != 125 {
				t.Errorf("%s: neither ran nor refused: %v\n%v", redirect, out, got)
			}
		}
	})
}

// terminal is a pseudo-terminal of the host's, with the test at the other end.
type terminal struct {
	t             *testing.T
	master, slave *os.File
	seen          chan string
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	// Not blocking, or closing it would wait for the reader.
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	master := os.NewFile(uintptr(fd), "ptmx")
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, master: master, slave: slave, seen: make(chan string, 4096)}
	t.Cleanup(func() { master.Close(); slave.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			if n > 0 {
				term.seen <- string(buf[:n])
			}
			if err != nil {
				close(term.seen)
				return
			}
		}
	}()
	return term
}

// start starts the command with the terminal as its controlling one.
func (term *terminal) start(cmd *exec.Cmd) {
	term.t.Helper()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = term.slave, term.slave, term.slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		term.t.Fatal(err)
	}
	term.t.Cleanup(func() { _ = cmd.Process.Kill() })
}

// expect reads until the text appears, and returns all that was read.
func (term *terminal) expect(want string) string {
	term.t.Helper()
	var all strings.Builder
	deadline := time.After(patience)
	for !strings.Contains(all.String(), want) {
		select {
		case s, ok := <-term.seen:
			if !ok {
				term.t.Fatalf("the terminal closed before %q; it showed %q", want, all.String())
			}
			all.WriteString(s)
		case <-deadline:
			term.t.Fatalf("%q did not appear in %v; the terminal shows %q", want, patience, all.String())
		}
	}
	return all.String()
}

func (term *terminal) send(s string) {
	term.t.Helper()
	if _, err := term.master.WriteString(s); err != nil {
		term.t.Fatal(err)
	}
}

func (term *terminal) modes() unix.Termios {
	term.t.Helper()
	m, err := unix.IoctlGetTermios(int(term.slave.Fd()), unix.TCGETS)
	if err != nil {
		term.t.Fatal(err)
	}
	return *m
}

// TestTerminalAttacks runs the attacks on terminals with one: the sandbox has its own, and types nothing into the user's.
func TestTerminalAttacks(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		for _, flags := range [][]string{nil, {"--no-terminal"}} {
			term := newTerminal(t)
			var st unix.Stat_t
			if err := unix.Fstat(int(term.slave.Fd()), &st); err != nil {
				t.Fatal(err)
			}
			s.Env.Terminal = st.Rdev
			s.describe(nil)
			before := term.modes()
			args := append(append([]string{"run", "--quiet"}, flags...), "--", "sh", "-c", `./bin/probe run --json --env probe.json tty T08 E14 D03 >results 2>&1; stty -echo raw 2>/dev/null; cat results; rm results; echo "the-""end"`)
			cmd := s.command(args...)
			term.start(cmd)
			shown := strings.ReplaceAll(term.expect("the-end"), "\r\n", "\n")
			if err := cmd.Wait(); err != nil {
				t.Errorf("%v: %v", flags, err)
			}
			results, _, err := enginetest.ReadResults(strings.NewReader(shown))
			if err != nil || len(results) < 5 {
				t.Fatalf("%d results, %v: %q", len(results), err, shown)
			}
			judge(t, s.Verify(results, shown))
			if after := term.modes(); after != before {
				t.Errorf("%v: the terminal's modes were %+v and are %+v", flags, before, after)
			}
			if n, err := unix.IoctlGetInt(int(term.slave.Fd()), unix.TIOCINQ); err == nil && n > 0 {
				t.Errorf("%v: %d bytes were typed into the user's terminal", flags, n)
			}
		}
	})
}

// TestT07JobControl: Ctrl-C, Ctrl-Z and resize work, and the terminal is as it was after each way to end.
func TestT07JobControl(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		t.Run("interrupt", func(t *testing.T) {
			term := newTerminal(t)
			cmd := s.command("run", "--quiet", "--", "sh", "-c", `trap 'echo GOT-IT; exit 3' INT; echo READY; while :; do sleep 0.05; done`)
			term.start(cmd)
			term.expect("READY")
			term.send("\x03")
			term.expect("GOT-IT")
			if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 3 {
				t.Errorf("exit %d", cmd.ProcessState.ExitCode())
			}
		})
		t.Run("resize", func(t *testing.T) {
			term := newTerminal(t)
			cmd := s.command("run", "--quiet", "--", "sh", "-c", `stty size; trap 'stty size; exit 0' WINCH; echo READY; while :; do sleep 0.05; done`)
			term.start(cmd)
			has(t, "at the start", term.expect("READY"), "24 80")
			if err := unix.IoctlSetWinsize(int(term.slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: 132}); err != nil {
				t.Fatal(err)
			}
			term.expect("50 132")
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
		t.Run("hang-up", func(t *testing.T) {
			term := newTerminal(t)
			forever := lasting(t)
			cmd := s.command("run", "--quiet", "--", "sh", "-c", "echo READY; sleep "+forever)
			term.start(cmd)
			term.expect("READY")
			term.slave.Close()
			term.master.Close()
			eventually(t, patience, "everything gone after the terminal closed", func() bool { return len(named(forever)) == 0 })
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		t.Run("killed supervisor", func(t *testing.T) {
			term := newTerminal(t)
			before := term.modes()
			cmd := s.command("run", "--quiet", "--", "sh", "-c", `stty raw -echo; echo READY; sleep `+lasting(t))
			term.start(cmd)
			term.expect("READY")
			if term.modes() == before {
				t.Log("the user's terminal was not in raw mode: nothing had to be restored")
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			eventually(t, patience, "the terminal restored after SIGKILL to the supervisor", func() bool { return term.modes() == before })
		})
	})
}

// TestStreamsByteForByte: what goes through casemate arrives as it was.
func TestStreamsByteForByte(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		var all strings.Builder
		for i := range 1 << 16 {
			all.WriteByte(byte(i * 7))
		}
		text := strings.Repeat(all.String(), 32)
		cmd := s.command("run", "--", "sh", "-c", "cat; echo to-stderr >&2")
		cmd.Stdin = strings.NewReader(text)
		out := s.finish(cmd)
		if out.stdout != text {
			t.Errorf("%d bytes came back of %d", len(out.stdout), len(text))
		}
		has(t, "stderr", out.stderr, "to-stderr")
		odd := "a b\n$(x) 'q' \"d\" \\ \x01\xff*"
		if out := s.run("--", "printf", "%s", odd); out.stdout != odd {
			t.Errorf("an argument came through as %q", out.stdout)
		}
	})
}
