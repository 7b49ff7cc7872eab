package relay

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// console is a user's terminal as its user sees it, with a shell or another program in it.
type console struct {
	t      *testing.T
	master *os.File
	slave  *os.File
	before unix.Termios // its attributes before anything ran in it
	seen   []byte       // shown and not yet expected
	cmd    *exec.Cmd
}

// newConsole runs a command as the leader of a session on a terminal of 24 lines and 80 columns.
func newConsole(t *testing.T, name string, args ...string) *console {
	t.Helper()
	ptmx, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	c := &console{t: t, master: ptmx, slave: openSlave(ptmx)}
	c.resize(24, 80)
	c.before = c.attributes()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c.cmd = exec.Command(name, args...)
	c.cmd.Env = append(os.Environ(), "SUPERVISOR=env RELAY_TEST_ROLE=supervisor "+exe, "PS1=host> ", "TERM=xterm", "HISTFILE=", "INPUTRC=/dev/null", "LC_ALL=C.UTF-8")
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = c.slave, c.slave, c.slave
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ptmx.Close() // SIGHUP for whatever is left
		c.slave.Close()
		c.cmd.Process.Kill()
		c.cmd.Wait()
		if t.Failed() {
			t.Logf("not expected yet: %q", c.seen)
		}
	})
	return c
}

func newShell(t *testing.T) *console {
	t.Helper()
	if _, err := exec.LookPath("bash"); err != nil {
		t.Fatal("bash is missing, for its job control")
	}
	c := newConsole(t, "bash", "--norc", "--noprofile", "-i")
	c.expect(`host> `)
	return c
}

// newScript runs the supervisor from a shell without job control, which changes nothing about the terminal.
func newScript(t *testing.T, command string) *console {
	t.Helper()
	return newConsole(t, "sh", "-c", `$SUPERVISOR `+command+`; echo "ended $?"; read x`)
}

func (c *console) resize(rows, cols uint16) {
	c.t.Helper()
	if err := unix.IoctlSetWinsize(int(c.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *console) send(s string) {
	c.t.Helper()
	if _, err := c.master.WriteString(s); err != nil {
		c.t.Fatal(err)
	}
}

// expect waits until what is shown matches, and forgets it up to there. It returns the submatches.
func (c *console) expect(pattern string) []string {
	c.t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.Now().Add(20 * time.Second)
	for {
		if m := re.FindSubmatchIndex(c.seen); m != nil {
			var got []string
			for i := 0; i < len(m); i += 2 {
				got = append(got, string(c.seen[m[i]:m[i+1]]))
			}
			c.seen = c.seen[m[1]:]
			return got
		}
		if !c.more(deadline) {
			c.t.Fatalf("%q was not shown; what was: %q", pattern, c.seen)
		}
	}
}

func (c *console) more(deadline time.Time) bool {
	ready := []unix.PollFd{{Fd: int32(c.master.Fd()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(ready, int(time.Until(deadline).Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if n <= 0 {
			return false
		}
		break
	}
	b := make([]byte, 1<<16)
	n, err := c.master.Read(b)
	c.seen = append(c.seen, b[:max(n, 0)]...)
	return err == nil
}

func (c *console) attributes() unix.Termios {
	c.t.Helper()
	got, err := getAttributes(int(c.slave.Fd()))
	if err != nil {
		c.t.Fatal(err)
	}
	return *got
}

func TestJobControl(t *testing.T) {
	t.Run("Ctrl-C ends the foreground job inside and nothing else", func(t *testing.T) {
		c := newShell(t)
		c.send("PS1='inner> ' $SUPERVISOR bash --norc --noprofile -i\n")
		c.expect(`inner> `)
		c.send("sleep 1000\n")
		c.expect(`sleep 1000\r\n`)
		c.waitForeground("sleep")
		c.send("\x03")
		c.expect(`inner> `)
		c.send("echo status $?, alive $((20+3))\n")
		c.expect(`status 130, alive 23`)
		c.send("exit 7\n")
		c.expect(`host> `)
		c.send("echo status $?\n")
		c.expect(`status 7`)
	})
	t.Run("Ctrl-Z and fg within the shell inside", func(t *testing.T) {
		c := newShell(t)
		c.send("PS1='inner> ' $SUPERVISOR bash --norc --noprofile -i\n")
		c.expect(`inner> `)
		c.send("cat\n")
		c.waitForeground("cat")
		c.send("\x1a")
		c.expect(`Stopped +cat`)
		c.expect(`inner> `)
		c.send("fg\n")
		c.expect(`\rcat\r\n`)
		c.send("hello\n")
		c.expect(`hello\r\nhello\r\n`)
		c.send("\x04")
		c.expect(`inner> `)
	})
	t.Run("Ctrl-Z stops the run as a job of the user's shell, and fg continues it", func(t *testing.T) {
		c := newShell(t)
		c.send("$SUPERVISOR cat\n")
		c.waitForeground("cat")
		for range 3 {
			c.send("one\n")
			c.expect(`one\r\none\r\n`)
			c.send("\x1a")
			c.expect(`\[1\]\+ +Stopped`)
			c.expect(`host> `)
			c.send("echo between $((1+1))\n")
			c.expect(`between 2`)
			c.expect(`host> `)
			c.resize(30, 100)
			c.send("fg\n")
			c.expect(`SUPERVISOR cat\r\n`)
			c.waitAttributes("raw", isRaw) // or the terminal outside echoes as well
		}
		c.send("two\n")
		c.expect(`two\r\ntwo\r\n`)
		c.send("\x04")
		c.expect(`host> `)
	})
	t.Run("what the command shows last, before it stops itself, is shown", func(t *testing.T) {
		c := newShell(t)
		c.send("$SUPERVISOR sh -c 'seq 20000; echo last word; kill -STOP $$; echo again; stty size'\n")
		c.expect(`20000\r\nlast word\r\n`)
		c.expect(`\[1\]\+ +Stopped`)
		c.expect(`host> $`) // readline sets the size that it has read when it sets up
		c.resize(31, 99)
		c.send("fg\n")
		c.expect(`again\r\n31 99\r\n`)
		c.expect(`host> `)
	})
	for _, sig := range []unix.Signal{unix.SIGTSTP, unix.SIGSTOP} {
		t.Run("stopped by somebody else with "+unix.SignalName(sig), func(t *testing.T) {
			c := newShell(t)
			c.send("$SUPERVISOR cat\n")
			c.waitForeground("cat")
			for range 2 {
				c.kill("supervisor", sig)
				c.expect(`Stopped`)
				c.expect(`host> `)
				if sig == unix.SIGTSTP {
					waitFor(t, "the command to be stopped too", func() bool { return c.state("cat") == "T" })
				}
				c.send("fg\n")
				c.expect(`SUPERVISOR cat\r\n`)
				c.waitAttributes("raw", isRaw)
				waitFor(t, "the command to be continued", func() bool { return c.state("cat") == "S" })
			}
			c.send("two\n")
			c.expect(`two\r\ntwo\r\n`)
			c.send("\x04")
			c.expect(`host> `)
		})
	}
	t.Run("in the background it neither stops nor disturbs, and fg brings the input", func(t *testing.T) {
		c := newShell(t)
		c.send("$SUPERVISOR sh -c 'echo started; read x; echo got $x' &\n")
		c.expect(`started\r\r?\n`) // the terminal is the shell's, which makes \r\n of \n once more
		c.send("echo here $((1+2))\n")
		c.expect(`here 3`)
		c.send("fg\n")
		c.expect(`read x; echo got .*\r\n`)
		c.waitAttributes("raw", isRaw)
		c.send("typed\n")
		c.expect(`^typed\r\ngot typed\r\n`) // echoed: the attributes inside are not those of the shell's line editor
		c.expect(`host> `)
	})
	t.Run("Ctrl-Z and bg: output goes on", func(t *testing.T) {
		c := newShell(t)
		c.send("$SUPERVISOR sh -c 'cat; echo end of input; read x </dev/tty'\n")
		c.waitForeground("cat")
		c.send("x\n")
		c.expect(`x\r\nx\r\n`)
		c.send("\x1a")
		c.expect(`Stopped`)
		c.expect(`host> `)
		c.send("bg\n")
		c.expect(`host> `)
		c.send("fg\n")
		c.waitAttributes("raw", isRaw)
		c.send("\x04")
		c.expect(`end of input`)
		c.send("\n")
		c.expect(`host> `)
	})
	t.Run("where nobody could continue us, the command is continued at once", func(t *testing.T) {
		c := newScript(t, "cat")
		c.waitForeground("cat")
		c.send("one\n")
		c.expect(`one\r\none\r\n`)
		c.send("\x1a")
		c.expect(`\^Z`)
		c.send("two\n")
		c.expect(`two\r\ntwo\r\n`)
		c.send("\x04")
		c.expect(`ended 0`)
	})
}

// waitForeground waits until a program of this name is in the foreground of a terminal that is not the user's.
func (c *console) waitForeground(name string) {
	c.t.Helper()
	waitFor(c.t, name+" in the foreground inside", func() bool {
		for _, p := range processes(c.cmd.Process.Pid) {
			if p.name == name && p.terminal != c.device() && p.foreground == p.group {
				return true
			}
		}
		return false
	})
}

func (c *console) state(name string) string {
	for _, p := range processes(c.cmd.Process.Pid) {
		if p.name == name {
			return p.state
		}
	}
	return ""
}

func (c *console) device() int {
	var st unix.Stat_t
	if err := unix.Fstat(int(c.slave.Fd()), &st); err != nil {
		c.t.Fatal(err)
	}
	return int(st.Rdev)
}

func (c *console) waitAttributes(what string, ok func(unix.Termios) bool) {
	c.t.Helper()
	waitFor(c.t, "attributes: "+what, func() bool { return ok(c.attributes()) })
}

func isRaw(a unix.Termios) bool { return a == rawAttributes(a) }

// waitFor waits for a condition that nothing can be waited on for.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited 20 s for: %s", what)
		}
		unix.Poll(nil, 2)
	}
}

type process struct {
	pid, parent, group, terminal, foreground int
	name, state                              string
}

// processes lists a process's descendants.
func processes(root int) (found []process) {
	all := map[int][]process{}
	dirs, _ := os.ReadDir("/proc")
	for _, d := range dirs {
		b, err := os.ReadFile("/proc/" + d.Name() + "/stat")
		if err != nil {
			continue
		}
		open, closed := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
		if open < 0 {
			continue
		}
		var p process
		p.pid, _ = strconv.Atoi(d.Name())
		p.name = string(b[open+1 : closed])
		f := strings.Fields(string(b[closed+1:]))
		p.state = f[0]
		for i, to := range map[int]*int{1: &p.parent, 2: &p.group, 4: &p.terminal, 5: &p.foreground} {
			*to, _ = strconv.Atoi(f[i])
		}
		all[p.parent] = append(all[p.parent], p)
	}
	for next := all[root]; len(next) > 0; next = next[1:] {
		found = append(found, next[0])
		next = append(next, all[next[0].pid]...)
	}
	return found
}

func TestSize(t *testing.T) {
	c := newScript(t, `sh -c 'trap "stty size" WINCH; stty size; echo ready; while :; do read x && eval "$x"; done'`)
	c.expect(`24 80\r\nready`)
	for _, size := range [][2]uint16{{40, 132}, {1, 1}, {500, 1000}} {
		c.resize(size[0], size[1])
		c.expect(fmt.Sprintf(`%d %d\r\n`, size[0], size[1]))
	}
	c.send("exit\n")
	c.expect(`ended 0`)
}

// The terminal inside starts with the attributes of the user's, and what the command does to its own stays inside.
func TestAttributes(t *testing.T) {
	c := newConsole(t, "sh", "-c", `stty intr ^X erase ^H -echoctl 9600; stty -a >&2; $SUPERVISOR sh -c 'echo inside; stty -a; stty -icanon min 7; echo done'; echo "ended $?"; read x`)
	outside := c.expect(`(?s)(speed.*?)inside\r\n`)[1]
	inside := c.expect(`(?s)(speed.*?)done\r\n`)[1]
	if strings.Join(strings.Fields(inside), " ") != strings.Join(strings.Fields(outside), " ") {
		t.Errorf("outside:\n%s\ninside:\n%s", outside, inside)
	}
	c.expect(`ended 0`)
	if a := c.attributes(); a.Lflag&unix.ICANON == 0 || a.Cc[unix.VINTR] != 'X'&0x1f {
		t.Errorf("the user's terminal was changed: %+v", a)
	}
}

func TestAttributesAreRestored(t *testing.T) {
	const fullScreen = `sh -c 'printf "\033[?1049h\033[?25l\033[?1000h\033[?2004hscreen"; stty raw -echo; %s'`
	for _, tt := range []struct {
		name, command string
		act           func(c *console)
		ended         string
		reset         bool
	}{
		{"the command exits", `sh -c 'echo screen; read x; exit 3'`, func(c *console) { c.send("\n") }, "ended 3", false},
		{"it exits and leaves modes on", fmt.Sprintf(fullScreen, "read x; exit 4"), func(c *console) { c.send("\n") }, "ended 4", true},
		{"the command is killed", fmt.Sprintf(fullScreen, "read x; kill -9 $$"), func(c *console) { c.send("\n") }, "ended 137", true},
		{"the sandbox's init is killed", fmt.Sprintf(fullScreen, "sleep 1000"), func(c *console) { c.kill("init", unix.SIGKILL) }, "ended 0", true},
		{"the supervisor panics", fmt.Sprintf(fullScreen, "sleep 1000"), func(c *console) { c.kill("supervisor", unix.SIGUSR1) }, "ended 70", true},
		{"the supervisor is killed", fmt.Sprintf(fullScreen, "sleep 1000"), func(c *console) { c.kill("supervisor", unix.SIGKILL) }, "ended 137", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newScript(t, tt.command)
			before := c.before
			c.expect(`screen`)
			if c.attributes() == before {
				t.Error("the terminal was not raw while the command ran")
			}
			tt.act(c)
			if tt.ended == "ended 137" && tt.name == "the supervisor is killed" {
				// The shell and the cleaner race, so look for both in any order.
				c.waitAttributes("as they were", func(a unix.Termios) bool { return a == before })
			}
			shown := c.expect(`(?s)(.*)` + tt.ended)[1]
			if got := c.attributes(); got != before {
				t.Errorf("attributes\nbefore %+v\nafter  %+v", before, got)
			}
			if tt.name == "the supervisor is killed" {
				c.send("\n")
				for !strings.Contains(shown, Reset) && c.more(time.Now().Add(20*time.Second)) {
					shown += string(c.seen)
					c.seen = nil
				}
			}
			if got := strings.Contains(shown, Reset); got != tt.reset {
				t.Errorf("modes were reset: %v, want %v; shown: %q", got, tt.reset, shown)
			}
		})
	}
}

// kill sends a signal to the process that plays a part.
func (c *console) kill(part string, sig unix.Signal) {
	c.t.Helper()
	for _, p := range processes(c.cmd.Process.Pid) {
		env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.pid))
		exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.pid))
		own, _ := os.Executable()
		if exe == own && bytes.Contains(env, []byte("RELAY_TEST_ROLE="+part+"\x00")) {
			unix.Kill(p.pid, sig)
			return
		}
	}
	c.t.Fatalf("no process plays %q", part)
}

// A cleaner that comes late leaves alone what the shell has set.
func TestCleanerThatComesLate(t *testing.T) {
	c := newScript(t, `sh -c 'echo screen; sleep 1000'`)
	c.expect(`screen`)
	raw := c.attributes()
	now := raw
	now.Lflag |= unix.ECHO
	saved := SavedTerminal{FD: int(c.slave.Fd()), Raw: attributeBytes(&raw), Termios: attributeBytes(&now)}
	if saved.restore() {
		t.Error("a terminal of another session was touched")
	}
}

// 1 MiB is pasted while as much comes back; neither direction may wait for the other.
func TestPaste(t *testing.T) {
	data := base64.StdEncoding.EncodeToString(randomBytes(768 << 10))
	c := newScript(t, fmt.Sprintf(`sh -c 'stty raw -echo; echo ready; head -c %d; exit 5'`, len(data)))
	c.expect(`ready\r?\n`)
	go c.master.WriteString(data)
	for len(c.seen) < len(data) && c.more(time.Now().Add(20*time.Second)) {
	}
	if got := string(c.seen[:min(len(c.seen), len(data))]); got != data {
		t.Errorf("got %d bytes back, or not the same", len(got))
	}
	c.seen = c.seen[min(len(c.seen), len(data)):]
	c.expect(`ended 5`)
}

func TestLargeOutput(t *testing.T) {
	c := newScript(t, `seq 300000`)
	for i := 1; i <= 300000; i++ {
		want := strconv.Itoa(i) + "\r\n"
		for len(c.seen) < len(want) && c.more(time.Now().Add(20*time.Second)) {
		}
		if !bytes.HasPrefix(c.seen, []byte(want)) {
			t.Fatalf("want %q, got %.40q", want, c.seen)
		}
		c.seen = c.seen[len(want):]
	}
	c.expect(`^ended 0`)
}

func TestHangUp(t *testing.T) {
	name := t.TempDir() + "/f"
	c := newScript(t, `sh -c 'trap "echo hung up >`+name+`; exit" HUP; echo ready; while :; do sleep 0.1; done'`)
	c.expect(`ready`)
	c.master.Close()
	waitFor(t, "the command inside to hear of it", func() bool {
		b, _ := os.ReadFile(name)
		return string(b) == "hung up\n"
	})
}

func TestOutputIsFiltered(t *testing.T) {
	c := newScript(t, `sh -c 'printf "a\033]52;c;ZXZpbA==\007b\033[21tc\n"'`)
	c.expect(`^abc\r\n`)
	c.expect(`ended 0`)
}

func TestPrograms(t *testing.T) {
	for _, tt := range []struct {
		name, command string
		steps         func(c *console)
	}{
		{"vim", "vim -u NONE -N -i NONE", func(c *console) {
			c.expect(`\[No Name\]|~`)
			c.send("ihello from vim\x1b")
			c.expect(`hello from vim`)
			c.send("\x1a")
			c.expect(`Stopped`)
			c.expect(`host> `)
			c.send("fg\n")
			c.expect(`(?s)1049h.*hello from vim`)
			c.send(":q!\r")
		}},
		{"less", "sh -c 'seq 1000 | less'", func(c *console) {
			c.expect(`\r\n20\r\n`)
			c.send("G")
			c.expect(`1000`)
			c.send("g")
			c.expect(`1\r\n`)
			c.send("q")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := exec.LookPath(tt.name); err != nil {
				t.Fatal(tt.name + " is missing: test/setup.sh installs it")
			}
			c := newShell(t)
			c.send("$SUPERVISOR " + tt.command + "\n")
			tt.steps(c)
			c.expect(`host> `)
			c.send("echo status $?\n")
			c.expect(`status 0`)
		})
	}
}

// Reset does nothing to a terminal that needs none, and puts one right that a full-screen program has left, as tmux sees it.
func TestResetInTmux(t *testing.T) {
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Fatal("tmux is missing: test/setup.sh installs it")
	}
	// The alternate screen was used before, so a cursor is saved somewhere else.
	const used = `\033[?1049h\033[?1049l\033[2;5H`
	const spoilt = `\033[?1049h\033[?25l\033[?1000h\033[?1h\033=\033[2;5r\033[?6h\033[4h\033[?7l\033[?2004h`
	const state = `#{cursor_x},#{cursor_y} #{alternate_on}#{cursor_flag}#{mouse_any_flag}#{keypad_flag}#{keypad_cursor_flag}#{wrap_flag}` +
		`#{insert_flag}#{origin_flag} #{scroll_region_upper}-#{scroll_region_lower}`
	for _, tt := range []struct{ name, before string }{{"idle", used}, {"spoilt", used + spoilt}} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := unix.Mkfifo(dir+"/fifo", 0o600); err != nil {
				t.Fatal(err)
			}
			tmux := func(args ...string) string {
				cmd := exec.Command("tmux", append([]string{"-S", dir + "/s", "-f", "/dev/null"}, args...)...)
				cmd.Env = append(os.Environ(), "TMUX=", "TERM=xterm", "LC_ALL=C.UTF-8")
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Fatalf("tmux %q: %v: %s", args, err, out)
				}
				return string(out)
			}
			tmux("new-session", "-d", "-x", "60", "-y", "12", "seq 3; printf '"+tt.before+"'; cat "+dir+"/fifo; cat "+dir+"/fifo")
			defer tmux("kill-server")
			if err := os.WriteFile(dir+"/fifo", []byte(Reset+"\x1b[31m"), 0); err != nil { // waits for the reader
				t.Fatal(err)
			}
			const want = "4,1 01000100 0-11\n"
			var got string
			waitFor(t, "the terminal to be as it was", func() bool { got = tmux("display", "-p", state); return got == want })
			if screen := strings.TrimSpace(tmux("capture-pane", "-p")); screen != "1\n2\n3" {
				t.Errorf("the screen shows %q", screen)
			}
		})
	}
}

// The command may run, and have set attributes, before its terminal has come to us.
func TestAdoptLeavesAttributesAlone(t *testing.T) {
	open := func() (master, slave *os.File) {
		ptmx, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			t.Fatal(err)
		}
		slave = openSlave(ptmx)
		t.Cleanup(func() { ptmx.Close(); slave.Close() })
		return ptmx, slave
	}
	_, outside := open()
	master, inside := open()
	term, err := OpenTerminal(int(outside.Fd()), int(outside.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer term.Close(false)
	want := rawAttributes(term.Attributes())
	if err := setAttributes(int(inside.Fd()), &want); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(master.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if err := term.Adopt(fd); err != nil {
		t.Fatal(err)
	}
	if got, err := getAttributes(int(inside.Fd())); err != nil || *got != want {
		t.Errorf("the command had set %+v; now there is %+v, %v", want, got, err)
	}
}
