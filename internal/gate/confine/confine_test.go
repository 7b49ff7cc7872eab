package confine

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// What cannot be undone happens in a child: this binary, started again.
const roleVariable = "CASEMATE_CONFINE_TEST"

func TestMain(m *testing.M) {
	switch role := os.Getenv(roleVariable); role {
	case "":
		os.Exit(m.Run())
	default:
		child(map[string]func() error{"free": func() error { return nil }, "confined": Confine, "alone": Alone}[role], role == "alone")
	}
}

// attack is something that a gate in hostile hands would try.
type attack struct {
	name string
	try  func(dir string, parent int) error
}

func attacks() []attack {
	open := func(path string, flags int) error {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o600)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
	socket := func(family, kind, protocol int) error {
		fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
	return []attack{
		{"read a file of the user", func(dir string, _ int) error { return open(dir+"/secret", unix.O_RDONLY) }},
		{"read the parent's environment", func(_ string, p int) error { return open(fmt.Sprintf("/proc/%d/environ", p), unix.O_RDONLY) }},
		{"list the root", func(string, int) error { return open("/", unix.O_RDONLY|unix.O_DIRECTORY) }},
		{"read the users", func(string, int) error { return open("/etc/passwd", unix.O_RDONLY) }},
		{"read its own memory", func(string, int) error { return open("/proc/self/mem", unix.O_RDONLY) }},
		{"write a file", func(dir string, _ int) error { return open(dir+"/new", unix.O_WRONLY|unix.O_CREAT) }},
		{"remove a file", func(dir string, _ int) error { return unix.Unlink(dir + "/removed") }},
		{"make a directory", func(dir string, _ int) error { return unix.Mkdir(dir+"/made", 0o700) }},
		{"change a mode", func(dir string, _ int) error { return unix.Chmod(dir+"/secret", 0o644) }},
		{"execute", func(string, int) error { return exec.Command("/bin/true").Run() }},
		{"signal the parent", func(_ string, p int) error { return unix.Kill(p, 0) }},
		{"unix socket", func(string, int) error { return socket(unix.AF_UNIX, unix.SOCK_STREAM, 0) }},
		{"netlink socket", func(string, int) error { return socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE) }},
		{"MPTCP", func(string, int) error { return socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP) }},
		{"listen", func(string, int) error {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err == nil {
				l.Close()
			}
			return err
		}},
		{"listen without bind", func(string, int) error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return nil // this is not what was tried
			}
			defer unix.Close(fd)
			return unix.Listen(fd, 1)
		}},
		{"fast open", func(string, int) error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return nil
			}
			defer unix.Close(fd)
			err = unix.Sendto(fd, []byte("x"), unix.MSG_FASTOPEN|unix.MSG_NOSIGNAL, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 1}})
			if err == unix.ECONNREFUSED || err == unix.EINPROGRESS {
				return nil // it went out
			}
			return err
		}},
		{"executable memory", func(string, int) error {
			m, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
			if err == nil {
				unix.Munmap(m)
			}
			return err
		}},
		{"make memory executable", func(string, int) error {
			m, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
			if err != nil {
				return nil
			}
			defer unix.Munmap(m)
			return unix.Mprotect(m, unix.PROT_READ|unix.PROT_EXEC)
		}},
		{"a file in memory", func(string, int) error {
			fd, err := unix.MemfdCreate("x", 0)
			if err == nil {
				unix.Close(fd)
			}
			return err
		}},
		{"a user namespace", func(string, int) error {
			_, _, errno := unix.RawSyscall(unix.SYS_UNSHARE, unix.CLONE_FILES, 0, 0)
			if errno != 0 {
				return errno
			}
			return nil
		}},
		{"grow a pipe", func(string, int) error {
			var p [2]int
			if unix.Pipe2(p[:], unix.O_CLOEXEC) != nil {
				return nil
			}
			defer unix.Close(p[0])
			defer unix.Close(p[1])
			_, err := unix.FcntlInt(uintptr(p[0]), unix.F_SETPIPE_SZ, 128<<10)
			return err
		}},
		{"more files", func(string, int) error {
			var limit unix.Rlimit
			if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
				return err
			}
			return unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
		}},
		{"the environment", func(string, int) error {
			if os.Getenv("SECRET") == "" {
				return unix.ENOENT
			}
			return nil
		}},
	}
}

// child tries everything, then says that it works still, and waits.
func child(confine func() error, alone bool) {
	dir, _ := os.Getwd()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		fmt.Println("works:", err)
		os.Exit(1)
	}
	var idle sync.WaitGroup // threads that exist before
	for range 4 {
		idle.Add(1)
		go func() {
			runtime.LockOSThread()
			idle.Done()
			select {}
		}()
	}
	idle.Wait()
	if err := confine(); err != nil {
		fmt.Println("confine:", err)
		os.Exit(1)
	}
	for _, a := range append(attacks(), attacksAlone(pair[0])...) {
		verdict := "succeeded"
		if err := a.try(dir, os.Getppid()); err != nil {
			verdict = "failed: " + err.Error()
		}
		fmt.Printf("%s: %s\n", a.name, verdict)
	}
	if alone {
		fmt.Println("works:", worksAlone(pair))
	} else {
		fmt.Println("works:", works())
	}
	bufio.NewReader(os.Stdin).ReadString('\n')
	os.Exit(0)
}

// attacksAlone are what a gate may do, and a signer of logins must not.
func attacksAlone(fd int) []attack {
	return []attack{
		{"TCP socket", func(string, int) error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err == nil {
				unix.Close(fd)
			}
			return err
		}},
		{"UDP socket", func(string, int) error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err == nil {
				unix.Close(fd)
			}
			return err
		}},
		{"connect", func(string, int) error {
			if err := unix.Connect(fd, &unix.SockaddrUnix{Name: "/nothing"}); err == unix.EPERM {
				return err
			}
			return nil // it was tried
		}},
		{"read the names of hosts", func(string, int) error { _, err := os.ReadFile("/etc/hosts"); return err }},
		{"pass a descriptor on", func(string, int) error {
			return unix.Sendmsg(fd, []byte("x"), unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL)
		}},
	}
}

// worksAlone does what a signer does.
func worksAlone(pair [2]int) error {
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			runtime.LockOSThread()
			_ = make([]byte, 1<<20)
		})
	}
	all.Wait()
	runtime.GC()
	f := os.NewFile(uintptr(pair[1]), "peer")
	c, err := net.FileConn(f)
	if err != nil {
		return err
	}
	if err := unix.Sendto(pair[0], []byte("x"), unix.MSG_NOSIGNAL, nil); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 1))
	return err
}

// works does what a gate does: new threads, garbage collection, the resolver's files, sockets.
func works() error {
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			runtime.LockOSThread()
			_ = make([]byte, 1<<20)
		})
	}
	all.Wait()
	runtime.GC()
	if _, err := os.ReadFile("/etc/hosts"); err != nil {
		return err
	}
	if list, err := net.LookupHost("localhost"); err != nil || len(list) == 0 {
		return fmt.Errorf("localhost is %v: %w", list, err)
	}
	for _, at := range []string{"127.0.0.1:9", "[::1]:9"} {
		c, err := net.Dial("udp", at)
		if err != nil && !strings.Contains(err.Error(), "unreachable") && !strings.Contains(err.Error(), "cannot assign") {
			return err
		}
		if err == nil {
			c.Close()
		}
	}
	if c, err := net.Dial("tcp", "127.0.0.1:9"); err == nil {
		c.Close()
	} else if !strings.Contains(err.Error(), "refused") {
		return err
	}
	return nil
}

// run starts a child and returns what it said; while it waits, look is called with its number.
func run(t *testing.T, role string, look func(pid int)) map[string]string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range []string{"secret", "removed"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), roleVariable+"="+role, "SECRET=1")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		what, verdict, _ := strings.Cut(lines.Text(), ": ")
		said[what] = verdict
		if what == "works" {
			break
		}
	}
	if look != nil {
		look(cmd.Process.Pid)
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s: %v, after %v", role, err, said)
	}
	return said
}

// TestAttacksFail: each succeeds in a process that is not confined, and fails in one that is.
func TestAttacksFail(t *testing.T) {
	free := run(t, "free", nil)
	confined := run(t, "confined", func(pid int) {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
		if err != nil || len(tasks) < 5 {
			t.Fatalf("%d threads: %v", len(tasks), err)
		}
		for _, task := range tasks {
			text, err := os.ReadFile(task)
			if err != nil {
				continue // a thread that has ended
			}
			for _, line := range []string{"Seccomp:\t2", "NoNewPrivs:\t1", "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000"} {
				if !strings.Contains(string(text), line) {
					t.Errorf("%s has no %q", task, line)
				}
			}
		}
	})
	for _, a := range attacks() {
		if !strings.HasPrefix(free[a.name], "succeeded") {
			t.Errorf("the control: %s %s", a.name, free[a.name])
		}
		if !strings.HasPrefix(confined[a.name], "failed") {
			t.Errorf("%s %s", a.name, confined[a.name])
		}
	}
	alone := run(t, "alone", nil)
	for _, a := range append(attacks(), attacksAlone(-1)...) {
		if !strings.HasPrefix(free[a.name], "succeeded") {
			t.Errorf("the control: %s %s", a.name, free[a.name])
		}
		if before := []string{"listen without bind", "fast open", "grow a pipe"}; slices.Contains(before, a.name) {
			continue // there is no socket, and no pipe, to try it with
		}
		if !strings.HasPrefix(alone[a.name], "failed") {
			t.Errorf("alone: %s %s", a.name, alone[a.name])
		}
	}
	if alone["works"] != "<nil>" {
		t.Errorf("alone it does not work any more: %q", alone["works"])
	}
	if confined["works"] != "<nil>" || free["works"] != "<nil>" {
		t.Errorf("it does not work any more: %q, and unconfined %q", confined["works"], free["works"])
	}
}
