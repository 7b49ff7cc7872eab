package confine

import "golang.org/x/sys/unix"

const audit = unix.AUDIT_ARCH_X86_64

// machineCalls are the calls that this machine has and others lack.
func machineCalls() []int {
	return []int{unix.SYS_NEWFSTATAT, unix.SYS_EPOLL_WAIT, unix.SYS_ARCH_PRCTL}
}
