package relay

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The test binary also plays the parts that surround a relay: casemate's supervisor, the sandbox's init, and the process
// that cleans up after a supervisor that was killed.
func TestMain(m *testing.M) {
	switch os.Getenv("RELAY_TEST_ROLE") {
	case "supervisor":
		os.Exit(supervisor(os.Args[1:]))
	case "init":
		os.Exit(sandboxInit(os.Args[1:]))
	case "cleaner":
		os.Exit(cleaner())
	}
	os.Exit(m.Run())
}

func must(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "relay test: %v\r\n", err)
		os.Exit(125)
	}
}

func role(name string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "RELAY_TEST_ROLE=") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, "RELAY_TEST_ROLE="+name)
	return cmd
}

// supervisor does what a session does with an interactive command.
func supervisor(args []string) (status int) {
	t, err := OpenTerminal(0, 1)
	must(err)
	killed := false
	stopCleaner := func() {}
	defer func() {
		t.Close(killed)
		stopCleaner()
		if r := recover(); r != nil {
			status = 70
		}
	}()
	var l Loop
	signals, err := l.Signals(func(sig unix.Signal) {
		if sig == unix.SIGUSR1 {
			panic("asked for")
		}
		t.Signal(sig)
	}, Caught[:]...)
	must(err)
	stopCleaner = startCleaner(t.Saved())

	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	must(err)
	child := role("init", args...)
	child.ExtraFiles = []*os.File{os.NewFile(uintptr(pair[1]), "")}
	child.Stdin, child.Stdout, child.Stderr = nil, nil, nil
	if os.Getenv("RELAY_TEST_DEBUG") != "" {
		child.Stderr = os.Stderr
	}
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGKILL}
	must(child.Start())
	unix.Close(pair[1])

	master := receive(pair[0])
	attributes := t.Attributes()
	must(setAttributes(master, &attributes))
	must(t.Adopt(master))
	t.Resume = func() { unix.Write(pair[0], []byte("continue")) }
	t.Start(&l, signals)
	unix.Write(pair[0], []byte("go"))

	var watch *Watch
	watch = l.Watch(pair[0], unix.POLLIN, func(int16) {
		message := make([]byte, 64)
		n, _ := unix.Read(pair[0], message)
		switch word, rest, _ := strings.Cut(string(message[:max(n, 0)]), " "); word {
		case "stopped":
			t.Suspend()
		case "exited":
			fmt.Sscan(rest, &status)
		case "killed":
			fmt.Sscan(rest, &status)
			status, killed = status+128, true
		default: // init is gone, and with it the sandbox
			watch.Close()
			child.Wait()
			t.Finish(l.Stop)
		}
	})
	must(l.Run())
	return status
}

// sandboxInit leads the session inside and lives as long as the sandbox.
func sandboxInit(args []string) int {
	const sock = 3
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP) // as the first process of a pid namespace, which no signal ends
	unix.CloseOnExec(sock)
	ptmx, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	must(err)
	slave := openSlave(ptmx)
	must(unix.IoctlSetInt(int(slave.Fd()), unix.TIOCSCTTY, 0))
	must(unix.Sendmsg(sock, []byte("terminal"), unix.UnixRights(int(ptmx.Fd())), nil, 0))
	ptmx.Close()
	unix.Read(sock, make([]byte, 16)) // go

	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Foreground: true, Ctty: int(slave.Fd()), Pdeathsig: unix.SIGKILL}
	must(cmd.Start())
	go func() {
		for {
			if n, _ := unix.Read(sock, make([]byte, 16)); n <= 0 {
				return
			}
			unix.Kill(-cmd.Process.Pid, unix.SIGCONT)
		}
	}()
	for {
		var ws unix.WaitStatus
		if _, err := unix.Wait4(cmd.Process.Pid, &ws, unix.WUNTRACED, nil); err == unix.EINTR {
			continue
		}
		switch {
		case ws.Stopped():
			unix.Write(sock, fmt.Appendf(nil, "stopped %d", ws.StopSignal()))
		case ws.Signaled():
			unix.Write(sock, fmt.Appendf(nil, "killed %d", ws.Signal()))
			return 0
		default:
			unix.Write(sock, fmt.Appendf(nil, "exited %d", ws.ExitStatus()))
			return 0
		}
	}
}

// startCleaner starts the process that is the last to hold a pipe's other end, and returns how to end it.
func startCleaner(saved SavedTerminal) func() {
	own := saved
	own.FD = 3
	b, err := json.Marshal(own)
	must(err)
	r, w, err := os.Pipe()
	must(err)
	tty, err := unix.FcntlInt(uintptr(saved.FD), unix.F_DUPFD_CLOEXEC, 3)
	must(err)
	cmd := role("cleaner", "relay-test-cleaner")
	cmd.Env = append(cmd.Env, "RELAY_TEST_SAVED="+string(b))
	cmd.Stdin = r
	cmd.ExtraFiles = []*os.File{os.NewFile(uintptr(tty), "")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	must(cmd.Start())
	r.Close()
	keepOpen = w
	return func() {
		cmd.Process.Kill()
		cmd.Wait()
	}
}

var keepOpen *os.File

func cleaner() int {
	signal.Ignore(unix.SIGTTOU)
	var saved SavedTerminal
	must(json.Unmarshal([]byte(os.Getenv("RELAY_TEST_SAVED")), &saved))
	unix.SetNonblock(saved.FD, true)
	new(bytes.Buffer).ReadFrom(os.Stdin) // until the supervisor is gone
	saved.restore()
	return 0
}

// restore makes the calls that SavedTerminal lists, but for the look at Entered, which this process does not share. It reports whether the
// terminal was reset.
func (s SavedTerminal) restore() bool {
	group, err := unix.IoctlGetInt(s.FD, unix.TIOCGPGRP)
	if err != nil || int32(group) != s.Groups[0] && int32(group) != s.Groups[1] {
		return false
	}
	now, err := getAttributes(s.FD)
	unix.Write(s.FD, s.Reset)
	if err == nil && string(attributeBytes(now)) == string(s.Raw) {
		discardInput(s.FD)
		setAttributes(s.FD, (*unix.Termios)(unsafe.Pointer(&s.Termios[0])))
	}
	return true
}

// receive takes one descriptor from a socket.
func receive(socket int) int {
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, make([]byte, 16), oob, unix.MSG_CMSG_CLOEXEC)
	must(err)
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	must(err)
	fds, err := unix.ParseUnixRights(&messages[0])
	must(err)
	return fds[0]
}

func openSlave(ptmx *os.File) *os.File {
	must(unix.IoctlSetPointerInt(int(ptmx.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetUint32(int(ptmx.Fd()), unix.TIOCGPTN)
	must(err)
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	must(err)
	return slave
}
