package syscalls

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// openTerminal makes a terminal and returns its two ends: master, and the one that programs see.
func openTerminal() (master, slave *os.File, err error) {
	if master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return nil, nil, err
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, err
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		return nil, nil, err
	}
	slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	return master, slave, err
}

// inject is a role: it takes a terminal and types into it, as if for the shell that reads there next, by a request with and without an upper bit.
func inject(role, []string) error {
	_, slave, err := openTerminal()
	if err != nil {
		return err
	}
	if err := unix.IoctlSetInt(int(slave.Fd()), unix.TIOCSCTTY, 0); err != nil {
		return err
	}
	for _, request := range []uintptr{unix.TIOCSTI, unix.TIOCSTI | upper} {
		for _, c := range []byte("id\n") {
			if _, _, errno := unix.Syscall(unix.SYS_IOCTL, slave.Fd(), request, uintptr(unsafe.Pointer(&c))); errno != 0 {
				fmt.Println(errno)
			}
		}
	}
	waiting, err := unix.IoctlGetInt(int(slave.Fd()), unix.TIOCINQ)
	fmt.Println(waiting, "bytes waiting")
	return err
}

func TestNothingIsTypedIntoTheTerminal(t *testing.T) {
	if got, err := output(child(role{Name: "inject", Filtered: true})); err != nil || !strings.HasSuffix(got, "\n0 bytes waiting\n") {
		t.Errorf("with the filter: %q, %v", got, err)
	}
	if legacy, err := os.ReadFile("/proc/sys/dev/tty/legacy_tiocsti"); err == nil && string(legacy) == "0\n" && !privileged() {
		t.Skip("the control needs dev.tty.legacy_tiocsti=1 or CAP_SYS_ADMIN: this kernel refuses by itself")
	}
	if got, err := output(child(role{Name: "inject"})); err != nil || got != "6 bytes waiting\n" {
		t.Errorf("without the filter: %q, %v, want the two lines typed", got, err)
	}
}
