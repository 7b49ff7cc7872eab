package syscalls

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What cannot be undone happens in a child: this test binary, started again with a role, options and whether to install the filter (without it, the
// child is the control).
const roleVariable = "CASEMATE_SYSCALLS_ROLE"

type role struct {
	Name     string
	Options  Options
	Filtered bool
}

// roles are run on a thread that has the filter, if there is to be one; the other threads of the child never have it.
var roles = map[string]func(r role, arguments []string) error{
	"attempt":  attemptAll,
	"exec":     execute,
	"rename":   renameSupervised,
	"metadata": metadataSupervised,
	"inject":   inject,
}

func TestMain(m *testing.M) {
	description := os.Getenv(roleVariable)
	if description == "" {
		os.Exit(m.Run())
	}
	os.Unsetenv(roleVariable)
	if err := play(description); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	os.Exit(0)
}

func play(description string) error {
	var r role
	if err := json.Unmarshal([]byte(description), &r); err != nil {
		return err
	}
	runtime.LockOSThread()
	if r.Filtered {
		if err := install(r.Options); err != nil {
			return err
		}
	}
	return roles[r.Name](r, os.Args[1:])
}

// child is the command that plays r, in a session of its own.
func child(r role, arguments ...string) *exec.Cmd {
	description, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	cmd := exec.Command("/proc/self/exe", arguments...)
	cmd.Env = append(os.Environ(), roleVariable+"="+string(description))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

// output runs cmd and returns what it wrote.
func output(cmd *exec.Cmd) (string, error) {
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, stderr.String())
	}
	return string(out), err
}

// listener is the descriptor of the listening side of the last filter installed with a hook.
var listener int

// install gives the filter to the calling thread. A supervisor listens where a row says NOTIFY.
func install(opts Options) error {
	filter, err := Compile(opts)
	if err != nil {
		return err
	}
	flags := 0
	if opts.RenameHook || opts.MetadataHook {
		flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(flags), uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(filter)
	if errno != 0 {
		return fmt.Errorf("install the filter: %w", errno)
	}
	listener = int(fd)
	return nil
}

// execute becomes another program, as the sandbox's command does.
func execute(_ role, arguments []string) error {
	return syscall.Exec(arguments[0], arguments, os.Environ())
}

func killedBy(err error) syscall.Signal {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if status := exit.Sys().(syscall.WaitStatus); status.Signaled() {
			return status.Signal()
		}
	}
	return 0
}
