package relay

import (
	"bytes"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Orphaned reports whether our process group has no parent in the same session to continue it, in which case the kernel
// discards SIGTSTP (setpgid(2), "orphaned process group"). Asked of our own ancestors only: that is the way up to the
// shell. A shell that is itself the machine's first process counts as one that can continue us, which it can in a container.
func Orphaned() bool { return shellGroup() == 0 }

// shellGroup is the process group of the first ancestor in our session that is not in our own group, the user's shell as a
// rule, or 0.
func shellGroup() int {
	session, err := unix.Getsid(0)
	if err != nil {
		return 0
	}
	group := unix.Getpgrp()
	for pid := unix.Getppid(); pid > 0; pid = parent(pid) {
		if s, err := unix.Getsid(pid); err != nil || s != session {
			return 0
		}
		g, err := unix.Getpgid(pid)
		if err != nil {
			return 0
		}
		if g != group {
			return g
		}
	}
	return 0
}

// parent returns 0 for a process that has none or cannot be asked.
func parent(pid int) int {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	// The name before it is chosen by the process and may hold anything, so look for its last parenthesis.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return 0
	}
	ppid, _ := strconv.Atoi(string(fields[1]))
	return ppid
}
