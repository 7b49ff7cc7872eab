package limits

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The attacks run in children: this binary again, with a role in its environment. A role prints "ready", waits for a line, and begins.

func TestMain(m *testing.M) {
	if role := os.Getenv("CASEMATE_LIMITS_ROLE"); role != "" {
		play(role)
		return
	}
	os.Exit(m.Run())
}

func play(role string) {
	f := strings.Fields(role)
	if len(f) > 0 && f[0] == "inside" {
		must(unix.Mount("proc", "/proc", "proc", 0, ""))
		f = f[1:]
	}
	if len(f) > 1 && f[0] == "mounted" { // a tmpfs of its own, which nobody else fills or empties
		must(unix.Mount("limits", f[1], "tmpfs", 0, ""))
		f = f[2:]
	}
	fmt.Println("ready")
	if line, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		fmt.Fprintln(os.Stderr, "no go:", line)
		os.Exit(3)
	}
	roles[f[0]](f[1:])
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
}

func num(s string) int {
	n, err := strconv.Atoi(s)
	must(err)
	return n
}

func wait() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGUSR1)
	<-c
}

func done() { fmt.Println("done") }

var roles = map[string]func([]string){
	"idle": func([]string) { done(); wait() },
	"burn": func([]string) {
		for {
			zero++
		}
	},
	// anonymous, shared and memfd memory, in MiB
	"eat": func(a []string) { touch(num(a[0]), unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, -1); done(); wait() },
	"eat-shared": func(a []string) {
		touch(num(a[0]), unix.MAP_SHARED|unix.MAP_ANONYMOUS, -1)
		done()
		wait()
	},
	"eat-memfd": func(a []string) {
		fd, err := unix.MemfdCreate("x", 0)
		must(err)
		fill(fd, num(a[0]))
		done()
		wait()
	},
	"eat-tables": func(a []string) { // one zero page read in each 2 MiB: all memory is in page tables
		n := num(a[0])
		for range n {
			m, err := unix.Mmap(-1, 0, 1<<30, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
			must(err)
			must(unix.Madvise(m, unix.MADV_NOHUGEPAGE))
			for i := 0; i < len(m); i += 2 << 20 {
				zero += m[i]
			}
		}
		done()
		wait()
	},
	// share lets children hold the same pages: together no more than one has
	"share": func(a []string) {
		touch(num(a[0]), unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, -1)
		for range num(a[1]) {
			if pid, _, _ := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0); pid == 0 {
				for {
					syscall.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
				}
			}
		}
		done()
		wait()
	},
	"forks": func(a []string) { // prints how many of n children could be made
		made := 0
		for range num(a[0]) {
			pid, _, _ := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
			if pid == 0 {
				for {
					syscall.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
				}
			}
			if int(pid) > 0 {
				made++
			}
		}
		fmt.Println("done", made)
		wait()
	},
	"bomb": func([]string) { // every child forks on; those that cannot try again
		for {
			syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		}
	},
	"file": func(a []string) { writeFile(a[0]+"/big", num(a[1])); done(); wait() },
	"files": func(a []string) {
		for i := range num(a[1]) {
			writeFile(fmt.Sprintf("%s/f%d", a[0], i), 1)
		}
		done()
		wait()
	},
	"tmpfile": func(a []string) {
		fd, err := unix.Open(a[0], unix.O_TMPFILE|unix.O_RDWR, 0o600)
		must(err)
		fill(fd, num(a[1]))
		done()
		wait()
	},
	"overlay": func(a []string) { // the engine's kind of workspace: an overlay with its upper in DIR
		for _, d := range []string{"lower", "upper", "work", "merged"} {
			must(os.MkdirAll(a[0]+"/"+d, 0o755))
		}
		must(unix.Mount("overlay", a[0]+"/merged", "overlay", 0, "userxattr,lowerdir="+a[0]+"/lower,upperdir="+a[0]+"/upper,workdir="+a[0]+"/work"))
		fd, err := unix.Open(a[0]+"/merged", unix.O_TMPFILE|unix.O_RDWR, 0o600)
		must(err)
		fill(fd, num(a[1]))
		done()
		wait()
	},
	"unlinked": func(a []string) {
		fd, err := unix.Open(a[0]+"/gone", unix.O_CREAT|unix.O_RDWR, 0o600)
		must(err)
		must(unix.Unlink(a[0] + "/gone"))
		fill(fd, num(a[1]))
		done()
		wait()
	},
	"sparse": func(a []string) {
		fd, err := unix.Open(a[0]+"/sparse", unix.O_CREAT|unix.O_RDWR, 0o600)
		must(err)
		size := int64(1) << 50
		for unix.Ftruncate(fd, size) != nil { // ext4 ends at 16 TiB
			size /= 2
		}
		_, err = unix.Pwrite(fd, []byte{1}, size-1)
		must(err)
		done()
		wait()
	},
	"hidden": func(a []string) {
		must(os.Mkdir(a[0]+"/closed", 0o700))
		writeFile(a[0]+"/closed/big", num(a[1]))
		must(os.Chmod(a[0]+"/closed", 0))
		done()
		wait()
	},
	"deep": func(a []string) {
		must(os.Chdir(a[0]))
		for range 300 {
			must(os.Mkdir("d", 0o700))
			must(os.Chdir("d"))
		}
		writeFile("big", num(a[1]))
		done()
		wait()
	},
}

var zero byte // a use for what is only read

func touch(mebibytes, flags, fd int) {
	m, err := unix.Mmap(fd, 0, mebibytes<<20, unix.PROT_READ|unix.PROT_WRITE, flags)
	must(err)
	for i := 0; i < len(m); i += os.Getpagesize() {
		m[i] = 1
	}
}

func fill(fd, mebibytes int) {
	buf := make([]byte, 1<<20)
	for range mebibytes {
		if _, err := unix.Write(fd, buf); err != nil {
			return // a limit: not every attack gets as far as it wants
		}
	}
}

func writeFile(path string, mebibytes int) {
	fd, err := unix.Open(path, unix.O_CREAT|unix.O_WRONLY, 0o600)
	must(err)
	fill(fd, mebibytes)
	unix.Close(fd)
}

// child is a role that runs.
type child struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// start runs a role, up to "ready". The shell in between joins the groups while it has one thread only.
func start(t *testing.T, role string, join []int, attr *syscall.SysProcAttr) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// By descriptor, for `go test` builds where other users may not look.
	binary, err := os.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	script, files := "", []*os.File{binary}
	for i, fd := range join {
		copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, os.NewFile(uintptr(copied), "join"))
		script += fmt.Sprintf("printf 0 >&%d || exit 9; exec %d>&-; ", 4+i, 4+i)
	}
	c := &child{t: t, cmd: exec.Command("/bin/sh", "-c", script+"exec /proc/self/fd/3 -test.run=none")}
	c.cmd.Env = append(os.Environ(), "CASEMATE_LIMITS_ROLE="+role, "GOMAXPROCS=2")
	c.cmd.ExtraFiles, c.cmd.SysProcAttr, c.cmd.Stderr = files, attr, os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.stop() })
	for _, f := range files {
		f.Close()
	}
	if line := c.line(); line != "ready" {
		t.Fatalf("%s: %q", role, line)
	}
	return c
}

func (c *child) line() string {
	line, _ := c.out.ReadString('\n')
	return strings.TrimSpace(line)
}

func (c *child) begin() { fmt.Fprintln(c.in, "go") }

// computed is the CPU time it had.
func (c *child) computed() time.Duration {
	c.t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		c.t.Fatal(err)
	}
	return time.Duration(parseTicks(data)) * tick
}

// stop ends it and returns its status.
func (c *child) stop() syscall.WaitStatus {
	if c.cmd.ProcessState == nil {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	}
	return c.cmd.ProcessState.Sys().(syscall.WaitStatus)
}

// ended waits for its own end.
func (c *child) ended() syscall.WaitStatus {
	_ = c.cmd.Wait()
	return c.cmd.ProcessState.Sys().(syscall.WaitStatus)
}

// userNamespace maps one id of ours, as the engine does, but to root inside so that the child can mount its proc. As root, another id than
// 0 is used: no limit of processes holds for that.
func userNamespace() *syscall.SysProcAttr {
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 {
		uid, gid = 61000, 61000
	}
	return &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: gid, Size: 1}},
		Credential:  &syscall.Credential{Uid: 0, Gid: 0, NoSetGroups: true},
	}
}

// sandboxed starts a role as init of a pid namespace with its own proc, and opens that.
func sandboxed(t *testing.T, role string) (c *child, proc int) {
	t.Helper()
	c = start(t, "inside "+role, nil, userNamespace())
	proc, err := unix.Open(fmt.Sprintf("/proc/%d/root/proc", c.cmd.Process.Pid), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(proc) })
	return c, proc
}

// shared is a directory that the child's user can write, on the disk rather than in tmpfs.
func shared(t *testing.T) (string, int) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "upper")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for p := dir; p != "/" && p != os.TempDir(); p = filepath.Dir(p) {
		_ = os.Chmod(p, 0o777)
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Close(fd)
		_ = os.Chmod(dir+"/closed", 0o700)
	})
	return dir, fd
}

// inTmpfs is sandboxed with a tmpfs at /tmp, which it opens.
func inTmpfs(t *testing.T, role string) (c *child, proc, tmp int) {
	t.Helper()
	c, proc = sandboxed(t, "mounted /tmp "+role)
	tmp, err := unix.Open(fmt.Sprintf("/proc/%d/root/tmp", c.cmd.Process.Pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(tmp) })
	return c, proc, tmp
}

// until waits for a condition.
func until(t *testing.T, what string, limit time.Duration, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}
