package enginetest

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// call is a raw system call.
type call struct {
	nr   uintptr
	args [6]uintptr
}

func sys(nr uintptr, args ...uintptr) call {
	c := call{nr: nr}
	copy(c.args[:], args)
	return c
}

func (c call) do() (uintptr, syscall.Errno) {
	r, _, errno := syscall.Syscall6(c.nr, c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], c.args[5])
	return r, errno
}

// page is zeroed memory at a fixed address that system calls may read and write.
func page() []byte {
	b, err := unix.Mmap(-1, 0, 1<<16, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		panic("bug: no memory: " + err.Error())
	}
	return b
}

func addr(b []byte) uintptr { return uintptr(unsafe.Pointer(&b[0])) }

// text puts a C string into memory that the collector does not move or free.
func text(s string) uintptr {
	b := page()
	copy(b, s)
	return addr(b)
}

// inFork makes the calls in a process with one thread, cloned with the flags, and returns each errno. It stops at the first that fails.
// The child only makes system calls: nothing in it needs the Go runtime.
func inFork(flags uintptr, calls ...call) []syscall.Errno {
	results := page()
	words := unsafe.Slice((*uintptr)(unsafe.Pointer(&results[0])), len(calls)+1)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(syscall.SIGCHLD)|flags, 0, 0, 0, 0, 0)
	if errno != 0 {
		return []syscall.Errno{errno}
	}
	if pid == 0 {
		for i := range calls {
			_, _, e := syscall.RawSyscall6(calls[i].nr, calls[i].args[0], calls[i].args[1], calls[i].args[2], calls[i].args[3], calls[i].args[4], calls[i].args[5])
			words[i+1] = uintptr(e) + 1
			if e != 0 {
				break
			}
		}
		for {
			syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
	}
	var status unix.WaitStatus
	for {
		if _, err := unix.Wait4(int(pid), &status, 0, nil); err != unix.EINTR {
			break
		}
	}
	out := []syscall.Errno{0} // the clone itself
	for i := range calls {
		switch {
		case words[i+1] != 0:
			out = append(out, syscall.Errno(words[i+1]-1))
		case status.Signaled():
			return append(out, syscall.ENOSYS) // killed in the call
		}
	}
	return out
}

// forked is open when the clone and every call in it went through.
func forked(what string, flags uintptr, calls ...call) Outcome {
	errs := inFork(flags, calls...)
	last := errs[len(errs)-1]
	if last == 0 && len(errs) == len(calls)+1 {
		return open("%s succeeded", what)
	}
	return held("%s: %v (step %d)", what, last, len(errs)-1)
}

// refused is true for the answers of a filter, or of a kernel that asks for a capability.
func refused(errno syscall.Errno) bool { return errno == unix.EPERM || errno == unix.ENOSYS }

// readSome reads the beginning of a file, without waiting for a pipe or a terminal.
func readSome(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 1<<20))
}

// program runs a program and returns what it printed. The second result says that it is missing. It is not os/exec, which would be
// initialised in every start of casemate.
func program(dir string, argv ...string) (string, bool) {
	path := lookPath(argv[0])
	if path == "" {
		return argv[0] + " is not installed", false
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err.Error(), true
	}
	defer r.Close()
	null, err := os.Open("/dev/null")
	if err != nil {
		w.Close()
		return err.Error(), true
	}
	p, err := os.StartProcess(path, argv, &os.ProcAttr{Dir: dir, Files: []*os.File{null, w, w}})
	null.Close()
	w.Close()
	if err != nil {
		return err.Error(), true
	}
	out, _ := io.ReadAll(io.LimitReader(r, 4<<20))
	state, err := p.Wait()
	if err != nil {
		return string(out) + " [" + err.Error() + "]", true
	}
	if !state.Success() {
		return string(out) + " [" + state.String() + "]", true
	}
	return string(out), true
}

// lookPath finds a program, or returns the empty string.
func lookPath(name string) string {
	if strings.Contains(name, "/") {
		return name
	}
	for dir := range strings.SplitSeq(os.Getenv("PATH"), ":") {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && unix.Access(path, unix.X_OK) == nil {
			return path
		}
	}
	return ""
}

// shell runs a line of sh that tries to get at a token.
func (e *Env) shell(dir, line string, needs ...string) Outcome {
	for _, name := range append(needs, "sh") {
		if lookPath(name) == "" {
			return notRun("%s is not installed", name)
		}
	}
	out, _ := program(dir, "sh", "-c", line)
	if name := e.leak([]byte(out)); name != "" {
		return open("the output holds %s", name)
	}
	return held("%s", brief(out))
}

// brief is the end of a program's output, on one line.
func brief(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 160 {
		s = "..." + s[len(s)-157:]
	}
	return s
}

// write is open when the file could be made or changed.
func write(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|unix.O_NOCTTY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString("casemate was here\n")
	return errors.Join(err, f.Close())
}

// canOpen tells whether a file can be opened with the flags; nothing is read or written.
func canOpen(path string, flags int) error {
	fd, err := unix.Open(path, flags|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	return unix.Close(fd)
}

// canWrite tells whether a file can be opened for writing. Files that a sandbox covers with /dev/null do not count.
func canWrite(path string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3) {
		return &os.PathError{Op: "open", Path: path, Err: errors.New("it is /dev/null")}
	}
	return nil
}

// up is a relative path from the directory to the root and down to the path.
func up(dir, path string) string {
	return strings.Repeat("../", strings.Count(filepath.Clean(dir), "/")) + strings.TrimPrefix(path, "/")
}

// pids lists the processes in /proc.
func pids() []string {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		if e.Name()[0] >= '0' && e.Name()[0] <= '9' {
			out = append(out, e.Name())
		}
	}
	return out
}
