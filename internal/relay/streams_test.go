package relay

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// runInside runs cmd with the streams as the sandbox would, and returns when it has ended and its output has been copied.
func runInside(t testing.TB, s *Streams, cmd *exec.Cmd) {
	t.Helper()
	var l Loop
	startInside(t, &l, s, cmd, func() { s.Finish(l.Stop) })
	run(t, &l)
}

// startInside starts cmd and calls ended in the loop when it has ended.
func startInside(t testing.TB, l *Loop, s *Streams, cmd *exec.Cmd, ended func()) {
	t.Helper()
	var files [3]*os.File
	for i := range s.Inside {
		files[i] = insideFile(t, s, i)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = files[0], files[1], files[2]
	pidfd := 0
	cmd.SysProcAttr = &unix.SysProcAttr{PidFD: &pidfd, Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		f.Close()
	}
	s.Start(l)
	alive := true
	t.Cleanup(func() {
		if alive {
			unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
			cmd.Wait()
		}
	})
	var watch *Watch
	watch = l.Watch(pidfd, unix.POLLIN, func(int16) {
		alive = false
		watch.Close()
		unix.Close(pidfd)
		cmd.Wait()
		ended()
	})
}

func insideFile(t testing.TB, s *Streams, i int) *os.File {
	t.Helper()
	fd, err := unix.FcntlInt(uintptr(s.Inside[i]), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), fmt.Sprintf("inside %d", i))
}

// stream is a standard stream as casemate may find it: near is the end that is casemate's, far the one that the rest of
// the host has. For a file they are two descriptions of it.
type stream struct{ near, far *os.File }

func (s stream) fd() int { return int(s.near.Fd()) }

func newStream(t testing.TB, kind string, input bool) stream {
	t.Helper()
	var s stream
	switch kind {
	case "pipe":
		r, w := newPipe(t)
		if s = (stream{near: w, far: r}); input {
			s = stream{near: r, far: w}
		}
	case "socket":
		p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		s = stream{near: os.NewFile(uintptr(p[0]), "near"), far: os.NewFile(uintptr(p[1]), "far")}
	case "file", "append":
		name, flags := t.TempDir()+"/f", os.O_RDWR|os.O_CREATE
		if kind == "append" {
			flags |= os.O_APPEND
		}
		for _, f := range []**os.File{&s.near, &s.far} {
			var err error
			if *f, err = os.OpenFile(name, flags, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	default:
		t.Fatalf("no such kind of stream: %q", kind)
	}
	t.Cleanup(func() { s.near.Close(); s.far.Close() })
	return s
}

// supply gives the input its bytes and its end.
func (s stream) supply(data []byte) {
	s.far.Write(data)
	s.far.Close()
}

func nullFD(t testing.TB) int {
	t.Helper()
	f, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return int(f.Fd())
}

func open(t testing.TB, stdin, stdout, stderr int) *Streams {
	t.Helper()
	s, err := OpenStreams([3]int{stdin, stdout, stderr}, -1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// Every byte arrives, unchanged and in order, both ways at once, through every kind of descriptor that a host may have.
func TestByteForByte(t *testing.T) {
	for _, tt := range []struct {
		in, out string
		n       int
	}{
		{"pipe", "pipe", 100 << 20},
		{"pipe", "pipe", 0},
		{"pipe", "pipe", 1},
		{"pipe", "pipe", exactBytes + 1},
		{"file", "file", 20 << 20},
		{"file", "append", 20 << 20},
		{"socket", "socket", 20 << 20},
		{"pipe", "append", 5 << 20},
		{"file", "pipe", 5 << 20},
	} {
		t.Run(fmt.Sprintf("%s to %s, %d", tt.in, tt.out, tt.n), func(t *testing.T) {
			data := randomBytes(tt.n)
			in, out := newStream(t, tt.in, true), newStream(t, tt.out, false)
			s := open(t, in.fd(), out.fd(), nullFD(t))
			if tt.in == "file" {
				in.supply(data)
			} else {
				go in.supply(data)
			}
			got := make(chan [32]byte)
			collect := func() {
				sum := sha256.New()
				io.Copy(sum, out.far)
				got <- [32]byte(sum.Sum(nil))
			}
			atOnce := tt.out == "pipe" || tt.out == "socket"
			if atOnce {
				go collect()
			}
			runInside(t, s, exec.Command("cat"))
			if err := s.Err(); err != nil {
				t.Error(err)
			}
			out.near.Close()
			if !atOnce {
				go collect()
			}
			if <-got != sha256.Sum256(data) {
				t.Error("the bytes differ")
			}
		})
	}
}

// What the command does not read stays where the next reader finds it.
func TestInputIsNotReadAhead(t *testing.T) {
	for _, tt := range []struct {
		name, in, command, want string
	}{
		{"a command that reads nothing leaves a pipe as it was", "pipe", "true", "one\ntwo\nthree\n"},
		{"a command that reads nothing leaves a file as it was", "file", "true", "one\ntwo\nthree\n"},
		{"a command that reads a line, byte by byte, leaves the rest of a pipe", "pipe", "read x", "two\nthree\n"},
		{"a command that reads a line leaves the rest of a file", "file", "read x", "two\nthree\n"},
		{"a command that closes its input leaves the rest", "pipe", "read x; read x; exec <&-; sleep 0.2", "three\n"},
		{"a command that reads everything leaves nothing", "pipe", "cat", ""},
		{"a command that reads all of a file leaves nothing", "file", "cat", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := newStream(t, tt.in, true)
			in.supply([]byte("one\ntwo\nthree\n"))
			keep, err := unix.Dup(in.fd()) // Streams let go of near when the command closes its input
			if err != nil {
				t.Fatal(err)
			}
			f := os.NewFile(uintptr(keep), "")
			defer f.Close()
			runInside(t, open(t, in.fd(), nullFD(t), nullFD(t)), exec.Command("sh", "-c", tt.command))
			if got, _ := io.ReadAll(f); string(got) != tt.want {
				t.Errorf("left %q, want %q", got, tt.want)
			}
		})
	}
}

// Long inputs are settled too: a file to the byte, whatever was under way.
func TestLongFileIsGivenBack(t *testing.T) {
	in := newStream(t, "file", true)
	data := randomBytes(3 << 20)
	in.supply(data)
	runInside(t, open(t, in.fd(), nullFD(t), nullFD(t)), exec.Command("dd", "bs=1000000", "count=1", "iflag=fullblock", "of=/dev/null"))
	if got, _ := io.ReadAll(in.near); !bytes.Equal(got, data[1000000:]) {
		t.Errorf("%d bytes left, want %d", len(got), len(data)-1000000)
	}
}

func TestEndsOfStream(t *testing.T) {
	t.Run("the end of the host's input reaches the command", func(t *testing.T) {
		for _, kind := range []string{"pipe", "file", "socket"} {
			in := newStream(t, kind, true)
			in.supply(nil)
			runInside(t, open(t, in.fd(), nullFD(t), nullFD(t)), exec.Command("cat"))
		}
	})
	t.Run("a command that closes its output and lives on is seen by the reader", func(t *testing.T) {
		in, out := newStream(t, "pipe", true), newStream(t, "pipe", false)
		s := open(t, in.fd(), out.fd(), nullFD(t))
		go func() {
			got, _ := io.ReadAll(out.far) // returns at the end of the stream
			in.supply([]byte("seen " + string(got)))
		}()
		cmd := exec.Command("sh", "-c", `printf x; exec >&-; read a b; test "$a $b" = "seen x"`)
		runInside(t, s, cmd)
		if !cmd.ProcessState.Success() {
			t.Errorf("the command ended with %v", cmd.ProcessState)
		}
	})
	t.Run("a command that closes its input is seen by the writer", func(t *testing.T) {
		in := newStream(t, "pipe", true)
		s := open(t, in.fd(), nullFD(t), nullFD(t))
		var l Loop
		startInside(t, &l, s, exec.Command("sh", "-c", "exec <&-; sleep 60"), func() { s.Finish(l.Stop) })
		failed := make(chan error, 1)
		go func() {
			for {
				if _, err := in.far.Write(make([]byte, 1<<16)); err != nil {
					failed <- err
					unix.Kill(unix.Getpid(), unix.SIGUSR1)
					return
				}
			}
		}()
		signals, err := l.Signals(func(unix.Signal) { l.Stop() }, unix.SIGUSR1)
		if err != nil {
			t.Fatal(err)
		}
		defer signals.Close()
		run(t, &l)
		if err := <-failed; !errors.Is(err, unix.EPIPE) {
			t.Errorf("the writer got %v, want EPIPE", err)
		}
	})
	for _, to := range []string{"pipe", "socket"} {
		t.Run("a reader that goes away kills the command as it would without us: "+to, func(t *testing.T) {
			out := newStream(t, to, false)
			s := open(t, nullFD(t), out.fd(), nullFD(t))
			go func() {
				io.CopyN(io.Discard, out.far, 1<<20)
				out.far.Close()
			}()
			cmd := exec.Command("yes")
			runInside(t, s, cmd)
			if got := cmd.ProcessState.Sys().(syscall.WaitStatus).Signal(); got != unix.SIGPIPE {
				t.Errorf("the command ended with %v, want SIGPIPE", cmd.ProcessState)
			}
			if err := s.Err(); err != nil {
				t.Errorf("a reader that goes away is not an error: %v", err)
			}
		})
	}
	t.Run("a reader that goes away is noticed before the command writes", func(t *testing.T) {
		out := newStream(t, "pipe", false)
		s := open(t, nullFD(t), out.fd(), nullFD(t))
		inside := insideFile(t, s, 1)
		defer inside.Close()
		var l Loop
		s.Start(&l)
		out.far.Close()
		l.Watch(int(inside.Fd()), 0, func(revents int16) { l.Stop() })
		run(t, &l)
		if _, err := inside.WriteString("x"); !errors.Is(err, unix.EPIPE) {
			t.Errorf("the first write got %v, want EPIPE", err)
		}
	})
}
