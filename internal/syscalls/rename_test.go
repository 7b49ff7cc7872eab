package syscalls

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	notifyReceive = 0xc0502100 // SECCOMP_IOCTL_NOTIF_RECV
	notifySend    = 0xc0182101 // SECCOMP_IOCTL_NOTIF_SEND
)

// notification is struct seccomp_notif, and reply struct seccomp_notif_resp.
type notification struct {
	id         uint64
	pid, flags uint32
	data       struct {
		number, arch uint32
		pointer      uint64
		args         [6]uint64
	}
}

type reply struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

// renameSupervised is a role: it renames a file in three ways, while another thread, the supervisor, lets each call go on, and prints which calls that
// thread was told of.
func renameSupervised(r role, arguments []string) error {
	told := make(chan string, 16)
	if r.Filtered {
		go supervise(told)
	}
	name := func(n int) string { return filepath.Join(arguments[0], fmt.Sprint("name", n)) }
	if err := os.WriteFile(name(0), nil, 0o600); err != nil {
		return err
	}
	err := errors.Join(rename(name(0), name(1)), unix.Renameat(unix.AT_FDCWD, name(1), unix.AT_FDCWD, name(2)),
		unix.Renameat2(unix.AT_FDCWD, name(2), unix.AT_FDCWD, name(3), unix.RENAME_NOREPLACE))
	if err != nil {
		return err
	}
	if _, err := os.Stat(name(3)); err != nil {
		return err
	}
	for r.Filtered && len(told) > 0 {
		fmt.Println(<-told)
	}
	return nil
}

// rename is the old call where there is one; the wrappers use renameat.
func rename(from, to string) error {
	number, known := native.number("rename")
	if !known {
		return unix.Renameat(unix.AT_FDCWD, from, unix.AT_FDCWD, to)
	}
	f := fixture{}
	if _, _, errno := unix.Syscall(uintptr(number), f.path(from), f.path(to), 0); errno != 0 {
		return errno
	}
	return nil
}

// supervise never ends: who has the hook and nobody who listens waits for ever.
func supervise(told chan<- string) {
	for {
		var n notification
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), notifyReceive, uintptr(unsafe.Pointer(&n))); errno != 0 {
			panic(errno)
		}
		told <- native.name(n.data.number)
		r := reply{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), notifySend, uintptr(unsafe.Pointer(&r))); errno != 0 {
			panic(errno)
		}
	}
}

func TestRenameIsNotified(t *testing.T) {
	want := "rename\nrenameat\nrenameat2\n"
	if _, has := native.number("rename"); !has {
		want = "renameat\nrenameat\nrenameat2\n"
	}
	for _, fallback := range []bool{false, true} {
		got, err := output(child(role{Name: "rename", Options: Options{RenameHook: true, Fallback: fallback}, Filtered: true}, t.TempDir()))
		if err != nil || got != want {
			t.Errorf("fallback %t: the supervisor was told of %q, %v, want %q", fallback, got, err, want)
		}
	}
	if got, err := output(child(role{Name: "rename"}, t.TempDir())); err != nil || got != "" {
		t.Errorf("without the filter: %q, %v", got, err)
	}
}
