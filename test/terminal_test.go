package test

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
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

// TestFullScreenPrograms edits with vim, reads with less and looks with htop.
func TestFullScreenPrograms(t *testing.T) {
	programs := []struct {
		name string
		argv []string
		use  func(p *person)
	}{
		{"vim", []string{"vim", "-u", "NONE", "-N", "-i", "NONE", "notes.txt"}, func(p *person) {
			p.sees("[New]")
			p.types("ihello from vim", "hello from vim")
			p.send("\x1b:wq\r")
		}},
		{"less", []string{"less", "lines.txt"}, func(p *person) {
			p.sees("line 1 ")
			p.types("G", "line 500 ")
			p.types("g", "line 1 ")
			p.types("/line 300\r", "line 301 ")
			p.send("q")
		}},
		{"htop", []string{"htop"}, func(p *person) {
			p.sees("Tasks")
			p.sees("Load")
			p.send("q")
		}},
	}
	eachMode(t, func(t *testing.T, s *site) {
		var lines strings.Builder
		for i := range 500 {
			fmt.Fprintf(&lines, "line %d of five hundred\n", i+1)
		}
		s.put("lines.txt", lines.String(), 0o644)
		s.Accept()
		for _, c := range programs {
			t.Run(c.name, func(t *testing.T) {
				needs(t, c.name)
				p := sitDown(t)
				before := p.modes()
				cmd := s.command(slices.Concat([]string{"run", "--quiet", "--"}, c.argv)...)
				p.start(cmd)
				c.use(p)
				if status := p.ends(cmd); status != 0 {
					t.Errorf("exit %d, the terminal shows %q", status, tail(p.unread))
				}
				if after := p.modes(); after != before {
					t.Errorf("the terminal's modes were %+v and are %+v", before, after)
				}
			})
		}
		if _, err := exec.LookPath("vim"); err == nil {
			has(t, "what vim saved", s.run("--", "cat", "notes.txt").stdout, "hello from vim\n")
		}
		s.unchanged(t)
	})
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

// TestShellInside is bash as somebody uses it inside: jobs, Ctrl-C, Ctrl-Z, fg, bg, resize, Ctrl-D.
func TestShellInside(t *testing.T) {
	needs(t, "bash")
	eachMode(t, func(t *testing.T, s *site) {
		p := sitDown(t)
		before := p.modes()
		cmd := s.command("run", "--quiet", "--env", "PS1=in> ", "--", "bash", "--norc", "--noprofile", "-i")
		p.start(cmd)
		p.sees("in> ")
		background, first, second := lasting(t), lasting(t), lasting(t)
		running := func(what string) bool { return len(named(what)) == 1 }
		p.types("sleep "+background+" &\r", "in> ")
		p.send("sleep " + first + "\r")
		eventually(t, patience, "a foreground job", func() bool { return running(first) && running(background) })
		p.types("\x03", "in> ")
		eventually(t, patience, "Ctrl-C ends the foreground job", func() bool { return !running(first) })
		p.types("echo sta''tus $?\r", "status 130")
		if !running(background) {
			t.Error("Ctrl-C ended the job in the background too")
		}
		p.sees("in> ")

		p.send("sleep " + second + "\r")
		eventually(t, patience, "a foreground job", func() bool { return running(second) })
		pid := named(second)[0]
		p.types("\x1a", "Stopped")
		eventually(t, patience, "the job stopped", func() bool { return stopped(pid) })
		p.sees("in> ")
		p.types("jobs\r", "Running")
		p.sees("in> ")
		p.types("bg\r", "in> ")
		eventually(t, patience, "the job goes on in the background", func() bool { return running(second) && !stopped(pid) })
		p.types("fg\r", "sleep "+second)
		eventually(t, patience, "the job has the terminal", func() bool { return foremost(pid) })
		p.types("\x1a", "Stopped")
		p.sees("in> ")
		p.types("fg\r", "sleep "+second)
		eventually(t, patience, "the job goes on in the foreground", func() bool { return running(second) && !stopped(pid) })
		p.types("\x03", "in> ")
		eventually(t, patience, "Ctrl-C ends it", func() bool { return !running(second) })

		if err := unix.IoctlSetWinsize(int(p.slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: 132}); err != nil {
			t.Fatal(err)
		}
		eventually(t, patience, "the new size", func() bool { return strings.Contains(p.types("stty size\r", "in> "), "50 132") })
		p.types("echo rea''dy; cat\r", "ready")
		p.types("typed\r", "typed\r\ntyped\r\n")
		p.types("\x04", "in> ")
		p.types("echo rea''dy; cat | (read x; echo got $x); echo pi''pe $?\r", "ready")
		p.types("line\r", "got line")
		p.types("\x04", "pipe 0")
		p.sees("in> ")
		p.types("read -s -p 'pass''word: ' x; echo ${#x} let''ters\r", "password: ")
		if shown := p.types("hidden\r", "6 letters"); strings.Contains(shown, "hidden") {
			t.Errorf("what is typed without echo is shown: %q", shown)
		}
		p.sees("in> ")
		p.send("\x04")
		if status := p.ends(cmd); status != 0 {
			t.Errorf("exit %d after Ctrl-D, the terminal shows %q", status, tail(p.unread))
		}
		eventually(t, patience, "the job in the background is gone", func() bool { return len(named(background)) == 0 })
		if after := p.modes(); after != before {
			t.Errorf("the terminal's modes were %+v and are %+v", before, after)
		}
	})
}

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

// parentOf is the parent of a process of the host's.
func parentOf(pid int) int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(fields[1])
	return n
}

// supervisorOf is the casemate process among a process's ancestors, and those in between are the sandbox's.
func supervisorOf(t *testing.T, pid int) (supervisor int, inside []int) {
	t.Helper()
	for ; pid > 1; pid = parentOf(pid) {
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && exe == casemate && parentOf(pid) != 0 {
			if parent, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", parentOf(pid))); err != nil || parent != casemate {
				return pid, inside
			}
		}
		inside = append(inside, pid)
	}
	t.Fatal("no casemate process among the ancestors")
	return 0, nil
}

// TestTerminalAfterKill: whatever is killed while the terminal is raw and full of modes, the shell has it back as it was.
func TestTerminalAfterKill(t *testing.T) {
	for _, c := range []struct {
		name string
		kill func(supervisor int, inside []int) []int
	}{
		{"supervisor", func(supervisor int, inside []int) []int { return []int{supervisor} }},
		{"command", func(supervisor int, inside []int) []int { return inside[:len(inside)-1] }},
		{"everything inside", func(supervisor int, inside []int) []int { return inside }},
		{"first process inside", func(supervisor int, inside []int) []int { return inside[len(inside)-1:] }},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, s *site) {
				p := sitDown(t)
				sh := p.shell(s)
				before := p.attributes()
				for range 3 {
					forever := lasting(t)
					p.types(`$run -- sh -c 'stty raw -echo; printf "\033[?1049h\033[?25l\033[?1000h\033[?2004h"; echo REA""DY; sleep `+forever+"; :'\r", "READY")
					eventually(t, patience, "the command runs", func() bool { return len(named(forever)) == 1 })
					supervisor, inside := supervisorOf(t, named(forever)[0])
					from := p.shown.Len()
					for _, pid := range c.kill(supervisor, inside) {
						_ = unix.Kill(pid, unix.SIGKILL)
					}
					p.sees("out> ")
					eventually(t, patience, "nothing of the sandbox left", func() bool { return len(named(forever)) == 0 })
					eventually(t, patience, "the modes of the terminal ended", func() bool {
						p.types("\r", "out> ") // so that what is shown is read
						return modesEnded(p.shown.String()[from:])
					})
					if now := p.attributes(); now != before {
						t.Errorf("the terminal's attributes are %q, they were %q", now, before)
					}
				}
				p.send("\x04")
				p.ends(sh)
			})
		})
	}
}

// modesEnded says whether what a terminal was shown ends what a full-screen program has begun.
func modesEnded(shown string) bool {
	for _, want := range []string{"\x1b[?1049l", "\x1b[?25h", "\x1b[?1000l"} {
		if !strings.Contains(shown, want) {
			return false
		}
	}
	return true
}

// TestOthersTerminalAfterKill: when a supervisor is killed that does not have the terminal, nothing is done to the terminal. The control is the
// same kill of one that has it.
func TestOthersTerminalAfterKill(t *testing.T) {
	const alternate = "\x1b[?1049l"
	for _, c := range []struct {
		name, after, end string
		leave            func(p *person, supervisor int)
		reset            bool
	}{
		{"control", "", "", func(*person, int) {}, true},
		{"in the background", " &", "", func(p *person, _ int) { p.types("\r", "out> ") }, false},
		{"stopped by Ctrl-Z", "", "", func(p *person, _ int) { p.types("\x1a", "Stopped"); p.sees("out> ") }, false},
		{"another program has it", "", "\x04", func(p *person, supervisor int) {
			_ = unix.Kill(supervisor, unix.SIGSTOP) // without giving the terminal back
			p.sees("Stopped")
			p.sees("out> ")
			p.types(`sh -c 'echo other pro""gram; exec cat'`+"\r", "other program")
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, best())
			p := sitDown(t)
			sh := p.shell(s)
			forever := lasting(t)
			p.types(`$run -- sh -c 'echo REA""DY; sleep `+forever+`; :'`+c.after+"\r", "READY")
			eventually(t, patience, "the command runs", func() bool { return len(named(forever)) == 1 })
			supervisor, _ := supervisorOf(t, named(forever)[0])
			started := children(supervisor)
			c.leave(p, supervisor)
			from := p.shown.Len()
			_ = unix.Kill(supervisor, unix.SIGKILL)
			eventually(t, patience, "the supervisor and all that it started gone", func() bool {
				return len(named(forever)) == 0 && !slices.ContainsFunc(started, lives)
			})
			p.send(c.end)
			p.types("echo e''nd\r", "end")
			if got := strings.Contains(p.shown.String()[from:], alternate); got != c.reset {
				t.Errorf("the terminal was reset: %v, want %v; it showed %q", got, c.reset, p.shown.String()[from:])
			}
			_ = sh.Process.Kill()
			p.ends(sh)
		})
	}
}

// children lists a process's children.
func children(pid int) (list []int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		if child, err := strconv.Atoi(filepath.Base(dir)); err == nil && parentOf(child) == pid {
			list = append(list, child)
		}
	}
	return list
}

// lives says whether there is a process that has not ended.
func lives(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	return err == nil && !strings.HasPrefix(rest, "Z")
}

// TestPaste pastes 64 KiB at once, as bytes to a program that reads them raw and as lines to one that does not. The control is the same
// without casemate.
func TestPaste(t *testing.T) {
	var lines strings.Builder
	for i := 0; lines.Len() < 64<<10; i++ {
		fmt.Fprintf(&lines, "%05d pasted line, with \t and ü in it ......................................\n", i)
	}
	text := lines.String()
	raw := make([]byte, 64<<10)
	for i := range raw {
		raw[i] = byte(i * 7 >> 3)
	}
	cases := []struct{ name, line, text string }{
		{"raw", `stty raw -echo; echo REA""DY; head -c 65536 | sha256sum; stty sane; echo E""ND`, string(raw)},
		{"lines", `stty -echo; echo REA""DY; sha256sum; echo E""ND`, text + "\x04"},
		{"lines with echo", `echo REA""DY; sha256sum; echo E""ND`, text + "\x04"},
	}
	paste := func(t *testing.T, cmd *exec.Cmd, text string) {
		p := sitDown(t)
		p.start(cmd)
		p.sees("READY")
		go func() { _, _ = p.master.WriteString(text) }()
		shown := p.sees("END")
		p.ends(cmd)
		has(t, "the digest of what arrived", shown, fmt.Sprintf("%x", sha256.Sum256([]byte(strings.TrimSuffix(text, "\x04")))))
	}
	for _, c := range cases {
		t.Run("control "+c.name, func(t *testing.T) { paste(t, exec.Command("sh", "-c", c.line), c.text) })
	}
	eachMode(t, func(t *testing.T, s *site) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) { paste(t, s.command("run", "--quiet", "--", "sh", "-c", c.line), c.text) })
		}
	})
}

// TestMuchOutput shows 50 MB on a terminal.
func TestMuchOutput(t *testing.T) {
	const size = 50_000_000
	const line = `head -c 50000000 /dev/zero | tr '\0' x; echo E""ND`
	show := func(t *testing.T, cmd *exec.Cmd) time.Duration {
		p := sitDown(t)
		start := time.Now()
		p.start(cmd)
		got, last := 0, ""
		deadline := time.After(90 * time.Second)
		for !strings.Contains(last, "END") {
			select {
			case s, ok := <-p.seen:
				if !ok {
					t.Fatalf("the terminal closed after %d bytes: %q", got, last)
				}
				got += strings.Count(s, "x")
				last = (last + s)[max(0, len(last)+len(s)-64):]
			case <-deadline:
				t.Fatalf("%d bytes in 90 s: %q", got, last)
			}
		}
		if got != size {
			t.Errorf("%d bytes of %d were shown", got, size)
		}
		p.ends(cmd)
		return time.Since(start)
	}
	bare := show(t, exec.Command("sh", "-c", line))
	s := newSite(t, best())
	inside := show(t, s.command("run", "--quiet", "--", "sh", "-c", line))
	t.Logf("50 MB took %v inside and %v without casemate", inside, bare)
	if inside > 10*bare+10*time.Second {
		t.Errorf("50 MB took %v inside and %v without casemate", inside, bare)
	}
}

// TestHangUp closes the terminal under a sandbox. Its processes end, also those that left the session or do not care, and also where the
// command itself does not. The control is the same without a sandbox: they stay.
func TestHangUp(t *testing.T) {
	others := func(forever string) string {
		return `setsid sleep ` + forever + ` & nohup sleep ` + forever + ` >/dev/null 2>&1 & (trap "" HUP TERM INT; exec sleep ` + forever + `) & `
	}
	for _, c := range []struct {
		name, command string
		stay          int // how many remain without a sandbox
	}{
		{"the command cares", "echo REA\"\"DY; sleep ", 2},
		{"the command does not care", `trap "" HUP TERM INT; while [ ! -e /nonexistent ]; do echo REA""DY; sleep `, 4},
	} {
		line := func(forever string) string {
			if strings.Contains(c.command, "while") {
				return "sh -c '" + others(forever) + c.command + forever + "; done'\r"
			}
			return "sh -c '" + others(forever) + c.command + forever + "; :'\r"
		}
		run := func(t *testing.T, s *site, how string) (string, *exec.Cmd, *person) {
			p := sitDown(t)
			sh := p.shell(s)
			forever := lasting(t)
			p.types(how+line(forever), "READY")
			eventually(t, patience, "four processes", func() bool { return len(named(forever)) == 4 })
			p.slave.Close()
			p.master.Close()
			return forever, sh, p
		}
		t.Run(c.name, func(t *testing.T) {
			t.Run("control", func(t *testing.T) {
				forever, sh, p := run(t, newSite(t, best()), "")
				p.gone(t, sh)
				if n := len(named(forever)); n < c.stay {
					t.Errorf("without a sandbox %d of 4 are left, want %d: the case proves nothing", n, c.stay)
				}
				for _, pid := range named(forever) {
					if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", parentOf(pid))); strings.TrimSpace(string(comm)) == "sh" {
						_ = unix.Kill(parentOf(pid), unix.SIGKILL)
					}
					_ = unix.Kill(pid, unix.SIGKILL)
				}
			})
			eachMode(t, func(t *testing.T, s *site) {
				forever, sh, p := run(t, s, "$run -- ")
				eventually(t, patience, "everything gone after the terminal closed", func() bool { return len(named(forever)) == 0 })
				p.gone(t, sh)
			})
		})
	}
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
	case <-time.After(10 * time.Second):
		t.Error("the shell did not end with its terminal")
		_ = cmd.Process.Kill()
	}
}

// TestNoTerminal: a command gets a terminal only when it reads and writes one. Otherwise it cannot reach the caller's either, which the same
// command outside can.
func TestNoTerminal(t *testing.T) {
	const ask = `for i in 0 1 2; do if [ -t $i ]; then echo $i is; else echo $i is not; fi; done; if (: </dev/tty) 2>/dev/null || (: >/dev/tty) 2>/dev/null; then echo tty opens; else echo tty is closed; fi; echo END`
	eachMode(t, func(t *testing.T, s *site) {
		for _, c := range []struct {
			name, before, after, flags string
			is                         []string
		}{
			{"all three", "", "", "", []string{"0 is\r", "1 is\r", "2 is\r", "tty opens"}},
			{"standard error in a file", "", "2>err", "", []string{"0 is\r", "1 is\r", "2 is not", "tty opens"}},
			{"input from /dev/null", "", "</dev/null", "", []string{"0 is not", "1 is not", "tty is closed"}},
			{"input from a pipe", "echo x |", "", "", []string{"0 is not", "1 is not", "tty is closed"}},
			{"output into a pipe", "", "| cat", "", []string{"0 is not", "1 is not", "tty is closed"}},
			{"everything elsewhere", "", "</dev/null 2>&1 | cat", "", []string{"0 is not", "1 is not", "2 is not", "tty is closed"}},
			{"by a word", "", "", "--no-terminal", []string{"0 is not", "1 is not", "2 is not", "tty is closed"}},
		} {
			t.Run(c.name, func(t *testing.T) {
				run := func(program string) string {
					p := sitDown(t)
					cmd := exec.Command("bash", "-c", c.before+" "+program+` sh -c "$ASK" `+c.after)
					cmd.Dir, cmd.Env = s.Work, append(s.environ(), "ASK="+ask)
					p.start(cmd)
					shown := p.sees("END")
					p.ends(cmd)
					return shown
				}
				has(t, "control", run(""), "tty opens")
				shown := run(casemate + " run --quiet " + strings.Join(s.mode.flags, " ") + " " + c.flags + " --")
				for _, want := range c.is {
					has(t, "inside", shown, want)
				}
			})
		}
	})
}

// TestTyping: a program that types into terminals (TIOCSTI) types nothing into the user's shell. Outside it does, where the kernel still lets it.
func TestTyping(t *testing.T) {
	needs(t, "python3")
	eachMode(t, func(t *testing.T, s *site) {
		s.script("tiocsti.py")
		s.Accept()
		p := sitDown(t)
		sh := p.shell(s)
		const after = "; echo sta''tus $?\r"
		for _, flags := range []string{"", "--no-terminal", "</dev/null", "| cat"} {
			shell, redirect := flags, ""
			if !strings.HasPrefix(flags, "--") {
				shell, redirect = "", flags
			}
			shown := p.types("$run "+shell+" -- python3 work/tiocsti.py "+redirect+after, "status 0")
			has(t, flags, shown, "typed 0 times")
			shown = p.types("echo mar''ker\r", "marker")
			hasNot(t, flags+": what the shell executed", shown, "injected")
			p.sees("out> ")
		}
		if n, err := unix.IoctlGetInt(int(p.slave.Fd()), unix.TIOCINQ); err != nil || n > 0 {
			t.Errorf("%d bytes were typed into the user's terminal (%v)", n, err)
		}
		shown := p.types("python3 work/tiocsti.py --own"+after, "status 0")
		switch {
		case !strings.Contains(shown, "typed 0 times"):
			p.sees("injected") // the control: the shell executes what was typed
		case strings.TrimSpace(legacyTyping()) == "1":
			t.Errorf("control: nothing was typed outside, although the kernel allows it: %q", shown)
		default:
			t.Logf("control: this kernel refuses it outside too (dev.tty.legacy_tiocsti)")
		}
		_ = sh.Process.Kill() // its line editor may have got half of what was typed
		p.ends(sh)
	})
}

func legacyTyping() string {
	b, err := os.ReadFile("/proc/sys/dev/tty/legacy_tiocsti")
	if err != nil {
		return "1" // kernels before 6.2 always allow it
	}
	return string(b)
}
