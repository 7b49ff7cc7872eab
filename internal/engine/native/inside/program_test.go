package inside

import (
	"errors"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// start runs the program in a plain child and returns its last report and wait status.
func start(t *testing.T, p *Program, control *os.File, status *os.File) (Child, unix.WaitStatus) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c, err := p.Start(0, int(status.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(c.PID, &ws, 0, nil); err != nil {
		t.Fatal(err)
	}
	return c, ws
}

func pair(t *testing.T) (*os.File, *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, b := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func read(t *testing.T, f *os.File) Report {
	t.Helper()
	b := make([]byte, 64)
	n, err := f.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	r, err := ParseReport(b[:n])
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestProgramRunsInOrderAndPassesResults(t *testing.T) {
	ours, theirs := pair(t)
	dir := t.TempDir()
	p := &Program{}
	p.Step("make")
	p.Call(unix.SYS_MKDIRAT, Int(unix.AT_FDCWD), p.String(dir+"/a"), Int(0o755))
	fd := p.Get(unix.SYS_OPENAT, Int(unix.AT_FDCWD), p.String(dir+"/a/f"), Int(unix.O_CREAT|unix.O_WRONLY), Int(0o644))
	p.Call(unix.SYS_WRITE, fd.Arg(), p.String("hello"), Int(5))
	p.Try(unix.EEXIST, unix.SYS_MKDIRAT, Int(unix.AT_FDCWD), p.String(dir+"/a"), Int(0o755))
	_, ws := start(t, p, ours, theirs)
	if ws.ExitStatus() != 0 {
		t.Fatalf("exit %d: %v", ws.ExitStatus(), p.Failure(read(t, ours)))
	}
	if b, _ := os.ReadFile(dir + "/a/f"); string(b) != "hello" {
		t.Fatalf("wrote %q", b)
	}
}

func TestFailedStepIsNamedAndStops(t *testing.T) {
	tests := []struct {
		name  string
		build func(*Program, string)
		step  string
		errno unix.Errno
	}{
		{"system call", func(p *Program, dir string) {
			p.Step("chdir nowhere")
			p.Call(unix.SYS_CHDIR, p.String(dir+"/nowhere"))
		}, "chdir nowhere", unix.ENOENT},
		{"difference", func(p *Program, dir string) {
			p.Step("compare")
			p.Equal(p.String("abc"), p.String("abd"), 3)
		}, "compare", unix.ESTALE},
		{"sameness", func(p *Program, dir string) {
			p.Step("differ")
			p.Differ(p.String("abc"), p.String("abc"), 3)
		}, "differ", unix.ESTALE},
		{"absence", func(p *Program, dir string) {
			p.Step("contains")
			p.Contains(p.String("NoNewPrivs:\t0\n"), Int(14), "NoNewPrivs:\t1\n")
		}, "contains", unix.ESTALE},
		{"injected", func(p *Program, dir string) {
			p.Step("first")
			p.Call(unix.SYS_GETPID)
			p.FailAt(0)
		}, "first", unix.EPERM},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ours, theirs := pair(t)
			dir := t.TempDir()
			p := &Program{}
			tt.build(p, dir)
			p.Step("after")
			p.Call(unix.SYS_MKDIRAT, Int(unix.AT_FDCWD), p.String(dir+"/after"), Int(0o755))
			_, ws := start(t, p, ours, theirs)
			if ws.ExitStatus() != 125 {
				t.Errorf("exit %d, want 125", ws.ExitStatus())
			}
			err := p.Failure(read(t, ours))
			var step *StepError
			if !errors.As(err, &step) || step.Step != tt.step || step.Errno != tt.errno {
				t.Errorf("got %v, want step %q with %v", err, tt.step, tt.errno)
			}
			if _, err := os.Stat(dir + "/after"); err == nil {
				t.Error("a step ran after the failed one")
			}
		})
	}
}

// TestEveryChildHasItsDescriptor: a goroutine's stack may move while it waits for its turn to clone, as a collection makes large ones smaller. The kernel's
// answer must arrive all the same: nothing else can end the child.
func TestEveryChildHasItsDescriptor(t *testing.T) {
	syscall.ForkLock.RLock()
	started := make(chan Child, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if n := deep(10_000); n != 10_000 {
			t.Error(n)
		}
		p := &Program{}
		p.Step("end")
		p.Call(unix.SYS_GETPID)
		c, err := p.Start(0, -1)
		if err != nil {
			t.Error(err)
		}
		started <- c
	}()
	for range 20 {
		runtime.Gosched()
		runtime.GC()
	}
	syscall.ForkLock.RUnlock()
	c := <-started
	if err := unix.PidfdSendSignal(c.PIDFD, unix.SIGKILL, nil, 0); err != nil {
		t.Fatalf("%+v: %v", c, err)
	}
	unix.Wait4(c.PID, nil, 0, nil)
	unix.Close(c.PIDFD)
}

// deep has the stack grow.
//
//go:noinline
func deep(frames int) int {
	if frames == 0 {
		return 0
	}
	return deep(frames-1) + 1
}

// TestChildHasNothingOfOurs: the child of a program does not have the heap, the stacks and the environment of the process that starts it.
func TestChildHasNothingOfOurs(t *testing.T) {
	heap, onStack := new([4096]byte), [16]byte{1}
	environment, err := ReadProc("/proc/self/environ")
	if err != nil || len(environment) == 0 {
		t.Fatal(err)
	}
	for _, place := range []struct {
		name string
		at   uintptr
	}{
		{"heap", uintptr(unsafe.Pointer(heap))}, {"stack", uintptr(unsafe.Pointer(&onStack))}, {"environment", environmentAddress(t)},
	} {
		t.Run(place.name, func(t *testing.T) {
			ours, theirs := pair(t)
			null, err := os.OpenFile(t.TempDir()+"/f", os.O_CREATE|os.O_RDWR, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			defer null.Close()
			if _, _, errno := unix.Syscall(unix.SYS_WRITE, null.Fd(), place.at, 8); errno != 0 { // control: here it can be read
				t.Fatal(errno)
			}
			p := &Program{}
			p.Step("read it")
			p.Refused(unix.EFAULT, unix.SYS_WRITE, Int(null.Fd()), Int(place.at), Int(8))
			if _, ws := start(t, p, ours, theirs); ws.ExitStatus() != 0 {
				t.Fatalf("exit %d: %v", ws.ExitStatus(), p.Failure(read(t, ours)))
			}
		})
	}
	runtime.KeepAlive(heap)
	runtime.KeepAlive(&onStack)
}

// TestStartsBesideEachOther: what one start leaves out is not what another one's child needs, nor what is unmapped meanwhile.
func TestStartsBesideEachOther(t *testing.T) {
	done := make(chan struct{})
	var mapping, starting sync.WaitGroup
	mapping.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if b, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS); err == nil {
				unix.Munmap(b)
			}
		}
	})
	for range 4 {
		starting.Go(func() {
			for range 50 {
				p := &Program{}
				p.Step("end")
				p.Equal(p.String("same"), p.String("same"), 4)
				c, err := p.Start(0, -1)
				if err != nil {
					t.Error(err)
					return
				}
				var ws unix.WaitStatus
				if _, err := unix.Wait4(c.PID, &ws, 0, nil); err != nil || !ws.Exited() || ws.ExitStatus() != 0 {
					t.Errorf("%v, %#x", err, ws)
				}
				unix.Close(c.PIDFD)
			}
		})
	}
	starting.Wait()
	close(done)
	mapping.Wait()
}

// environmentAddress is where the kernel has put the environment: field 50 of proc_pid_stat(5).
func environmentAddress(t *testing.T) uintptr {
	stat, err := ReadProc("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	at, err := strconv.ParseUint(fields[50-3], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return uintptr(at)
}
