package relay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A host reader that stalls stops the command, and nothing else: time limits and signals go on working, and what has been
// taken from the command stays bounded.
func TestStalledReader(t *testing.T) {
	for _, kind := range []string{"pipe", "socket", "terminal", "terminal of another user"} {
		t.Run(kind, func(t *testing.T) {
			var fd int
			switch kind {
			case "terminal", "terminal of another user":
				fd = int(newTerminal(t).Fd())
			default:
				fd = newStream(t, kind, false).fd()
			}
			s := open(t, nullFD(t), fd, nullFD(t))
			inside := insideFile(t, s, 1)
			defer inside.Close()
			in := int(inside.Fd()) // which makes it blocking
			unix.SetNonblock(in, true)
			var l Loop
			if kind == "terminal of another user" { // it cannot be opened again
				s.kinds[1] = other
			}
			s.Start(&l)
			taken := 0
			fill := l.Watch(in, unix.POLLOUT, func(int16) {
				n, err := unix.Write(in, bytes.Repeat([]byte{'x'}, 1<<16))
				if err != nil && err != unix.EAGAIN {
					t.Error(err)
				}
				taken += max(n, 0)
			})
			heard := false
			signals, err := l.Signals(func(unix.Signal) { heard = true; l.Stop() }, unix.SIGUSR1)
			if err != nil {
				t.Fatal(err)
			}
			defer signals.Close()
			// Give it the time to fill everything there is, and then some turns more.
			last, still := -1, 0
			look := l.At(time.Now(), func(now time.Time) time.Time {
				if still++; taken != last {
					last, still = taken, 0
				}
				if still == 10 {
					unix.Kill(unix.Getpid(), unix.SIGUSR1)
				}
				return now.Add(5 * time.Millisecond)
			})
			run(t, &l)
			if !heard {
				t.Error("the signal was not heard")
			}
			if most := 2<<20 + 2*copyBytes; taken == 0 || taken > most {
				t.Errorf("%d bytes were taken, want at most %d", taken, most)
			}

			// The command ends, and the reader still does nothing. That must not cost anything.
			look.Close()
			fill.Close()
			inside.Close()
			before := cpu(t)
			l.At(time.Now().Add(100*time.Millisecond), func(time.Time) time.Time { l.Stop(); return time.Time{} })
			run(t, &l)
			if used := cpu(t) - before; used > 50*time.Millisecond {
				t.Errorf("waiting for a reader took %v of 100 ms", used)
			}
		})
	}
}

func cpu(t *testing.T) time.Duration {
	var use unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &use); err != nil {
		t.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// newTerminal is a terminal that nobody reads.
func newTerminal(t *testing.T) *os.File {
	t.Helper()
	ptmx, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	slave := openSlave(ptmx)
	t.Cleanup(func() { slave.Close(); ptmx.Close() })
	return slave
}

// A command can open its own output for reading, and race us for every byte. It must not get the loop to wait for one.
func TestCommandStealsItsOutput(t *testing.T) {
	for _, kind := range []string{"append", "pipe"} {
		t.Run(kind, func(t *testing.T) {
			s := open(t, nullFD(t), newStream(t, kind, false).fd(), nullFD(t))
			inside := insideFile(t, s, 1)
			var l Loop
			s.Start(&l)
			thief, err := reopen(int(inside.Fd()), unix.O_RDONLY|unix.O_NONBLOCK)
			if err != nil {
				t.Fatal(err)
			}
			stop := make(chan bool)
			stopped := make(chan bool)
			go func() {
				defer close(stopped)
				b := make([]byte, 16)
				for {
					select {
					case <-stop:
						return
					default:
						inside.WriteString("x")
						unix.Read(thief, b)
					}
				}
			}()
			turns := 0
			l.At(time.Now(), func(now time.Time) time.Time {
				if turns++; turns == 200 {
					l.Stop()
				}
				return now.Add(time.Millisecond)
			})
			run(t, &l)
			close(stop)
			<-stopped
			inside.Close()
			unix.Close(thief)
		})
	}
}

// A command can also make its input larger, write to it or fill it. Its input is then its own problem, and nobody else's.
func TestCommandMeddlesWithItsInput(t *testing.T) {
	in := newStream(t, "pipe", true)
	long := strings.Repeat("x", 3*exactBytes) + "\n"
	go in.supply([]byte(long))
	s := open(t, in.fd(), nullFD(t), nullFD(t))
	inside := insideFile(t, s, 0)
	var l Loop
	s.Start(&l)
	if _, err := unix.FcntlInt(inside.Fd(), unix.F_SETPIPE_SZ, 1<<20); err != nil {
		t.Fatal(err)
	}
	writer, err := reopen(int(inside.Fd()), unix.O_WRONLY)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(writer, []byte("mine\n")); err != nil {
		t.Fatal(err)
	}
	unix.Close(writer)
	got := make(chan string)
	go func() {
		b, _ := io.ReadAll(inside)
		got <- string(b)
		unix.Kill(unix.Getpid(), unix.SIGUSR1)
	}()
	signals, err := l.Signals(func(unix.Signal) { l.Stop() }, unix.SIGUSR1)
	if err != nil {
		t.Fatal(err)
	}
	defer signals.Close()
	all := make(chan string, 1)
	go func() { all <- <-got }()
	run(t, &l)
	if all := <-all; strings.ReplaceAll(all, "mine\n", "") != long {
		t.Errorf("got %d bytes: %.60q", len(all), all)
	}
}

// What goes to standard output and error of one file stays in order, whatever kind of file it is.
func TestOutputAndErrorStayInOrder(t *testing.T) {
	for _, kind := range []string{"pipe", "file", "append", "socket", "terminal"} {
		t.Run(kind, func(t *testing.T) {
			var out stream
			if kind == "terminal" {
				out.near = newTerminal(t)
			} else {
				out = newStream(t, kind, false)
			}
			second, err := unix.Dup(out.fd())
			if err != nil {
				t.Fatal(err)
			}
			all := make(chan string, 1)
			if kind == "pipe" { // it holds sixteen pieces, however small
				go func() { got, _ := io.ReadAll(out.far); all <- string(got) }()
			}
			s := open(t, nullFD(t), out.fd(), second)
			runInside(t, s, exec.Command("sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do echo $i; echo e$i >&2; done"))
			if kind == "terminal" {
				return // that it has arrived is shown by TestTerminalAsOutput
			}
			out.near.Close()
			unix.Close(second)
			if kind != "pipe" {
				got, _ := io.ReadAll(out.far)
				all <- string(got)
			}
			got := <-all
			if want := "1\ne1\n2\ne2\n3\ne3\n4\ne4\n5\ne5\n6\ne6\n7\ne7\n8\ne8\n9\ne9\n"; got != want {
				t.Errorf("got %q", got)
			}
		})
	}
	t.Run("and standard error alone, where the others are a terminal", func(t *testing.T) {
		out := newStream(t, "pipe", false)
		s := open(t, -1, -1, out.fd())
		if s.Inside[0] != -1 || s.Inside[1] != -1 {
			t.Errorf("inside: %v", s.Inside)
		}
		inside := insideFile(t, s, 2)
		var l Loop
		s.Start(&l)
		inside.WriteString("error\n")
		inside.Close()
		s.Finish(l.Stop)
		run(t, &l)
		out.near.Close()
		if got, _ := io.ReadAll(out.far); string(got) != "error\n" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("but each of two files has its own", func(t *testing.T) {
		one, two := newStream(t, "pipe", false), newStream(t, "pipe", false)
		runInside(t, open(t, nullFD(t), one.fd(), two.fd()), exec.Command("sh", "-c", "echo one; echo two >&2"))
		one.near.Close()
		two.near.Close()
		a, _ := io.ReadAll(one.far)
		b, _ := io.ReadAll(two.far)
		if string(a) != "one\n" || string(b) != "two\n" {
			t.Errorf("%q and %q", a, b)
		}
	})
}

// Where the host has no stream that is worth copying the command gets /dev/null, opened anew and one way only.
func TestNothingToCopy(t *testing.T) {
	closed, err := unix.Dup(nullFD(t))
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(closed)
	for _, tt := range []struct {
		name string
		fd   int
	}{
		{"/dev/null", nullFD(t)},
		{"closed", closed},
		{"the user's terminal", int(newTerminal(t).Fd())},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := newStream(t, "pipe", false)
			s := open(t, tt.fd, out.fd(), nullFD(t))
			runInside(t, s, exec.Command("sh", "-c", `readlink /proc/self/fd/0 /proc/self/fd/2; cat; stty -echo 2>&1 || echo no terminal; (echo x >&0) 2>&1 || echo read-only`))
			out.near.Close()
			got, _ := io.ReadAll(out.far)
			for _, want := range []string{"/dev/null\n/dev/null\n", "no terminal", "read-only"} {
				if !strings.Contains(string(got), want) {
					t.Errorf("%q lacks %q", got, want)
				}
			}
		})
	}
}

// A command whose output is a terminal, in a run that is not interactive: what it shows is there when the run has ended.
func TestTerminalAsOutput(t *testing.T) {
	c := newConsole(t, "sh", "-c", "read x")
	s := open(t, nullFD(t), int(c.slave.Fd()), int(c.slave.Fd()))
	runInside(t, s, exec.Command("sh", "-c", "seq 300; echo error >&2; test -t 1 || echo not a terminal"))
	c.expect(`300\r\nerror\r\nnot a terminal\r\n`)
	if flags, err := unix.FcntlInt(c.slave.Fd(), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
		t.Errorf("flags of the host's description: %#x, %v", flags, err)
	}
}

func TestWriteErrors(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	s := open(t, nullFD(t), int(full.Fd()), nullFD(t))
	runInside(t, s, exec.Command("sh", "-c", "echo lost"))
	if err := s.Err(); !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "standard output") {
		t.Errorf("got %v", err)
	}
}

// What cannot be read is not taken for an empty input, and what has come to its end, or that the command does not want, is no error.
func TestReadErrors(t *testing.T) {
	onlyWritten := filepath.Join(t.TempDir(), "f")
	for _, c := range []struct {
		name string
		open func() (*os.File, error)
		run  string
		want error
	}{
		{"directory", func() (*os.File, error) { return os.Open("/etc") }, "cat", unix.EISDIR},
		{"memory that is not mapped", func() (*os.File, error) { return os.Open("/proc/self/mem") }, "cat", unix.EIO},
		{"file open only for writing", func() (*os.File, error) { return os.OpenFile(onlyWritten, os.O_CREATE|os.O_WRONLY, 0o600) }, "cat", nil},
		{"pipe open only for writing", func() (*os.File, error) { _, w, err := os.Pipe(); return w, err }, "cat", nil},
		{"what nohup gives", func() (*os.File, error) { return os.OpenFile(os.DevNull, os.O_WRONLY, 0) }, "cat", nil},
		{"empty", func() (*os.File, error) { return os.Create(onlyWritten + " and read") }, "cat", nil},
		{"not wanted", func() (*os.File, error) { return os.Open("/dev/zero") }, "head -c 9 >&2", nil},
		{"pipe that ended", func() (*os.File, error) { r, w, err := os.Pipe(); w.Close(); return r, err }, "cat", nil},
		{"terminal that hung up", hungUpTerminal, "cat", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			in, err := c.open()
			if err != nil {
				t.Skip(err)
			}
			defer in.Close()
			s := open(t, int(in.Fd()), nullFD(t), nullFD(t))
			runInside(t, s, exec.Command("sh", "-c", c.run))
			if err := s.InputErr(); !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// hungUpTerminal is a terminal whose other side was closed.
func hungUpTerminal() (*os.File, error) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer master.Close()
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return nil, err
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		return nil, err
	}
	return os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
}

// Daemons that the command leaves hold its output open. They die with the sandbox, and what they wrote is copied.
func TestOutputOfWhatOutlivesTheCommand(t *testing.T) {
	out := newStream(t, "pipe", false)
	s := open(t, nullFD(t), out.fd(), nullFD(t))
	cmd := exec.Command("sh", "-c", `(echo daemon; exec sleep 1000) & until read name </proc/$!/comm && [ "$name" = sleep ]; do :; done; echo command`)
	var l Loop
	inside := insideFile(t, s, 1) // plays the daemon's part
	startInside(t, &l, s, cmd, func() {
		unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		inside.WriteString("last word")
		inside.Close()
		s.Finish(l.Stop)
	})
	run(t, &l)
	out.near.Close()
	got, _ := io.ReadAll(out.far)
	if string(got) != "daemon\ncommand\nlast word" {
		t.Errorf("got %q", got)
	}
}

// The pipes belong to the command's user, so that it can open /dev/stdout.
func TestOwner(t *testing.T) {
	if unix.Geteuid() != 0 {
		t.Skip("missing: CAP_CHOWN")
	}
	const owner = 12345
	out := newStream(t, "pipe", false)
	s, err := OpenStreams([3]int{newStream(t, "pipe", true).fd(), out.fd(), out.fd()}, owner)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i, fd := range s.Inside {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Uid != owner {
			t.Errorf("stream %d belongs to %d, %v", i, st.Uid, err)
		}
	}
}

func TestInteractive(t *testing.T) {
	tty := int(newTerminal(t).Fd())
	null := nullFD(t)
	for _, tt := range []struct {
		in, out int
		want    bool
	}{{tty, tty, true}, {tty, null, false}, {null, tty, false}, {null, null, false}, {-1, -1, false}} {
		if got := Interactive(tt.in, tt.out); got != tt.want {
			t.Errorf("Interactive(%d, %d) = %v", tt.in, tt.out, got)
		}
	}
}
