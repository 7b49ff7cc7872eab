package test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

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
