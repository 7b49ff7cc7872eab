//go:build !amd64

package inside

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// fork clones the command with a copy of pid 1's memory and stack, on which it goes on with 0 for a result.
//
//go:norace
//go:nosplit
func fork(_ uintptr, _ *machine, _ uintptr) (pid uintptr) {
	r, _, e := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if e != 0 {
		return -uintptr(e)
	}
	return r
}
