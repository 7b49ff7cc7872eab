package test

import (
	"bufio"
	"errors"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"casemate.dev/internal/engine/enginetest"
	"golang.org/x/sys/unix"
)

// TestN01AnotherHost makes a network of the test's own, with one other host, and attacks from a sandbox on this side of it.
func TestN01AnotherHost(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("making a network needs root")
	}
	needs(t, "ip")
	done := make(chan struct{})
	go func() { // t.Fatal must not end the test from here; the goroutine's thread, which has another network, ends with it
		defer close(done)
		runtime.LockOSThread()
		target, err := otherHost()
		if err != nil {
			t.Error(err)
			return
		}
		link, err := os.Readlink("/proc/thread-self/ns/net")
		if err != nil {
			t.Error(err)
			return
		}
		for _, m := range modes() {
			s := newSite(t, m)
			s.Env.Target, s.Env.HostNS["net"] = target, link
			outside := s.Env
			outside.Control = enginetest.Outside
			cases, err := enginetest.Find([]string{"N01.tcp"})
			if err != nil {
				t.Error(err)
				return
			}
			if r := (enginetest.Runner{Probe: probe, Env: &outside}).Run(cases[0]); r.Verdict != enginetest.Open {
				t.Errorf("control: from outside the other host is not reached: %s: %s", r.Verdict, r.Detail)
			}
			for _, r := range s.attack(nil, "N01", "N07", "N11", "N13", "K15.race") {
				if r.Verdict != enginetest.Held {
					t.Errorf("%s: %s: %s: %s", m.name, r.ID, r.Verdict, r.Detail)
				}
			}
		}
	}()
	<-done
}

// otherHost gives the calling thread a network of its own and puts a host on the other end of it, which answers on the address returned.
func otherHost() (string, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return "", err
	}
	type host struct {
		tid int
		err error
	}
	made, connected, listening := make(chan host), make(chan struct{}), make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread keeps its network
		err := unix.Unshare(unix.CLONE_NEWNET)
		made <- host{unix.Gettid(), err}
		if err != nil {
			return
		}
		<-connected
		listening <- serve()
		select {} // the network lives as long as its sockets and this thread
	}()
	other := <-made
	if other.err != nil {
		return "", other.err
	}
	err := commands("ip link set lo up", "ip link add casemate0 type veth peer name casemate1", "ip link set casemate1 netns "+strconv.Itoa(other.tid),
		"ip addr add 10.213.0.1/24 dev casemate0", "ip link set casemate0 up")
	if err != nil {
		return "", err
	}
	close(connected)
	return "10.213.0.2:7", <-listening
}

// serve answers on the other host.
func serve() error {
	if err := commands("ip link set lo up", "ip addr add 10.213.0.2/24 dev casemate1", "ip link set casemate1 up"); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Port: 7}), unix.Listen(fd, 16)); err != nil {
		return err
	}
	go func() {
		for {
			conn, _, err := unix.Accept(fd)
			if err != nil {
				return
			}
			_, _ = unix.Write(conn, []byte("casemate-host"))
			unix.Close(conn)
		}
	}()
	return nil
}

func commands(lines ...string) error {
	for _, line := range lines {
		f := strings.Fields(line)
		if out, err := exec.Command(f[0], f[1:]...).CombinedOutput(); err != nil {
			return errors.New(line + ": " + err.Error() + ": " + string(out))
		}
	}
	return nil
}

// TestN25PortsInside: a port opened inside cannot be reached from the host.
func TestN25PortsInside(t *testing.T) {
	reach := func(t *testing.T, cmd *exec.Cmd) bool {
		t.Helper()
		var stderr strings.Builder
		cmd.Stderr = &stderr
		in, out := begin(t, cmd)
		defer func() { _ = cmd.Wait() }()
		defer in.Close()
		line, err := bufio.NewReader(out).ReadString('\n')
		port := strings.TrimSpace(line)
		if err != nil || port == "" {
			t.Logf("it could not listen: %v %s", err, stderr.String())
			return false
		}
		for _, addr := range []string{"127.0.0.1", "::1", "localhost"} {
			conn, err := net.DialTimeout("tcp", net.JoinHostPort(addr, port), 3*time.Second)
			if err == nil {
				conn.Close()
				return true
			}
		}
		return false
	}
	if !reach(t, exec.Command(probe, "listen")) {
		t.Error("control: outside the port cannot be reached either")
	}
	eachMode(t, func(t *testing.T, s *site) {
		reached := 0
		for range 3 { // a port of the same number may be somebody else's on the host, once
			if !reach(t, s.command("run", "--", "sh", "-c", "exec ./bin/probe listen")) {
				break
			}
			reached++
		}
		if reached == 3 {
			t.Error("the host reached ports that were opened inside")
		}
	})
}
