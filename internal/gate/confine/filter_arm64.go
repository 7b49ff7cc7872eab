package confine

import "golang.org/x/sys/unix"

const audit = unix.AUDIT_ARCH_AARCH64

// machineCalls are the calls that this machine has and others lack.
func machineCalls() []int { return []int{unix.SYS_NEWFSTATAT} }
