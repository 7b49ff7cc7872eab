package main

import (
	"bytes"
	"encoding/binary"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

func cpus() int { return runtime.NumCPU() }

func bwrapArgs(project, home string) []string {
	return []string{
		"/usr/bin/bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--ro-bind", "/usr", "/usr",
		"--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--symlink", "usr/sbin", "/sbin",
		"--ro-bind", "/etc", "/etc", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--bind", home, home, "--bind", project, project,
		"--chdir", project, "--seccomp", "3", "--",
	}
}

// denied are the calls that the peer's filter refuses: the usual list of what reaches deep into a kernel.
func denied() []uint32 {
	return []uint32{
		unix.SYS_ACCT, unix.SYS_ADD_KEY, unix.SYS_BPF, unix.SYS_CLOCK_ADJTIME, unix.SYS_CLOCK_SETTIME, unix.SYS_DELETE_MODULE, unix.SYS_FINIT_MODULE,
		unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSOPEN, unix.SYS_FSPICK, unix.SYS_INIT_MODULE, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
		unix.SYS_IO_URING_SETUP, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_KEXEC_LOAD, unix.SYS_KEYCTL, unix.SYS_MOUNT, unix.SYS_MOVE_MOUNT,
		unix.SYS_NAME_TO_HANDLE_AT, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_OPEN_TREE, unix.SYS_PERF_EVENT_OPEN, unix.SYS_PIVOT_ROOT, unix.SYS_PTRACE,
		unix.SYS_QUOTACTL, unix.SYS_REBOOT, unix.SYS_REQUEST_KEY, unix.SYS_SETNS, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_SYSLOG, unix.SYS_UMOUNT2,
		unix.SYS_USERFAULTFD,
	}
}

// denyFilter is the peer's filter, in a file that the peer reads.
func denyFilter() (*os.File, error) {
	var prog []unix.SockFilter
	add := func(code uint16, jt, jf uint8, k uint32) {
		prog = append(prog, unix.SockFilter{Code: code, Jt: jt, Jf: jf, K: k})
	}
	const nr, allow, refuse = 0, 0x7fff0000, 0x00050000 | uint32(unix.EPERM)
	add(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, 0, 0, nr)
	for _, call := range denied() {
		add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, 0, 1, call)
		add(unix.BPF_RET|unix.BPF_K, 0, 0, refuse)
	}
	add(unix.BPF_RET|unix.BPF_K, 0, 0, allow)
	var buf bytes.Buffer
	if err := binary.Write(&buf, binary.NativeEndian, prog); err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("filter", 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "filter")
	_, err = f.Write(buf.Bytes())
	return f, err
}
