package confine

import (
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data; both machines are little-endian, so the low half of an argument comes first.
const (
	offNumber   = 0
	offArch     = 4
	offArgument = 16
)

const (
	allow  = uint32(unix.SECCOMP_RET_ALLOW)
	refuse = uint32(unix.SECCOMP_RET_ERRNO) | uint32(unix.EPERM)
	kill   = uint32(unix.SECCOMP_RET_KILL_PROCESS)

	aThread = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_SYSVSEM | unix.CLONE_THREAD // as the Go runtime makes one
)

// rule allows a call, if each of the arguments is as said.
type rule struct {
	call int
	args []argument
}

// argument is about the low 32 bits of one, which is all that the kernel takes of those asked about here.
type argument struct {
	index int
	mask  uint32 // the bits compared
	in    []uint32
}

func exactly(index int, in ...uint32) argument { return argument{index, ^uint32(0), in} }
func without(index int, bits uint32) argument  { return argument{index, bits, []uint32{0}} }

// rules is what the Go runtime, its network poller and resolver, and the gate's own calls need. Everything else is refused with EPERM: no programs, no
// processes, no memory that becomes executable, no sockets but TCP and UDP, no listening.
func rules(self uint32) []rule {
	list := []rule{
		{unix.SYS_SOCKET, []argument{exactly(0, unix.AF_INET, unix.AF_INET6), {1, 0xf, []uint32{unix.SOCK_STREAM}}, exactly(2, 0, unix.IPPROTO_TCP)}},
		{unix.SYS_SOCKET, []argument{exactly(0, unix.AF_INET, unix.AF_INET6), {1, 0xf, []uint32{unix.SOCK_DGRAM}}, exactly(2, 0, unix.IPPROTO_UDP)}},
		{unix.SYS_SENDTO, []argument{without(3, unix.MSG_FASTOPEN)}},
		{unix.SYS_SENDMSG, []argument{without(2, unix.MSG_FASTOPEN)}},
		{unix.SYS_CLONE, []argument{exactly(0, aThread, aThread|unix.CLONE_SETTLS)}},
		{unix.SYS_MMAP, []argument{without(2, unix.PROT_EXEC)}},
		{unix.SYS_MPROTECT, []argument{without(2, unix.PROT_EXEC)}},
		{unix.SYS_TGKILL, []argument{exactly(0, self)}},
		{unix.SYS_OPENAT, []argument{without(2, unix.O_WRONLY|unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC)}},
		// Not F_SETPIPE_SZ among others: all pipes of a user share one allowance (pipe-user-pages-soft).
		{unix.SYS_FCNTL, []argument{exactly(1, unix.F_GETFL, unix.F_SETFL, unix.F_GETFD, unix.F_SETFD, unix.F_DUPFD_CLOEXEC)}},
	}
	for _, call := range append(machineCalls(),
		unix.SYS_READ, unix.SYS_WRITE, unix.SYS_WRITEV, unix.SYS_PREAD64, unix.SYS_CLOSE, unix.SYS_FSTAT, unix.SYS_LSEEK, unix.SYS_SPLICE, unix.SYS_PIPE2,
		unix.SYS_MUNMAP, unix.SYS_MADVISE, unix.SYS_MLOCK, unix.SYS_MINCORE, unix.SYS_BRK,
		unix.SYS_FUTEX, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_GETTIMEOFDAY, unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY,
		unix.SYS_GETPID, unix.SYS_GETTID, unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_UNAME, unix.SYS_GETRANDOM,
		unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK, unix.SYS_RESTART_SYSCALL,
		unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EVENTFD2,
		unix.SYS_CONNECT, unix.SYS_ACCEPT4, unix.SYS_SHUTDOWN, unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME, unix.SYS_GETSOCKOPT, unix.SYS_SETSOCKOPT,
		unix.SYS_RECVFROM, unix.SYS_RECVMSG,
		unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
	) {
		list = append(list, rule{call: call})
	}
	return list
}

// alone leaves out what makes sockets, connects them, passes descriptors on, or opens files.
func alone(list []rule) []rule {
	return slices.DeleteFunc(list, func(r rule) bool {
		return slices.Contains([]int{unix.SYS_SOCKET, unix.SYS_CONNECT, unix.SYS_SENDMSG, unix.SYS_OPENAT, unix.SYS_PIPE2, unix.SYS_SPLICE}, r.call)
	})
}

// compile writes the rules one after the other, each with its own jump over itself, so that nothing far away is counted.
func compile(list []rule) []unix.SockFilter {
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	equal := func(k uint32, yes, no int) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jt: uint8(yes), Jf: uint8(no)}
	}
	answer := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }

	program := []unix.SockFilter{load(offArch), equal(audit, 1, 0), answer(kill)}
	for _, r := range list {
		tail := []unix.SockFilter{answer(allow)}
		for i := len(r.args) - 1; i >= 0; i-- {
			a := r.args[i]
			test := []unix.SockFilter{load(offArgument + 8*uint32(a.index)), {Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: a.mask}}
			for j, v := range a.in {
				left := len(a.in) - 1 - j
				if left > 0 {
					test = append(test, equal(v, left, 0))
				} else {
					test = append(test, equal(v, 0, len(tail)))
				}
			}
			tail = append(test, tail...)
		}
		program = append(program, load(offNumber), equal(uint32(r.call), 0, len(tail)))
		program = append(program, tail...)
	}
	return append(program, answer(refuse))
}

// filter installs the filter on all threads at once.
func filter(calls []rule) error {
	if audit == 0 {
		return fmt.Errorf("no system call filter for %s", runtime.GOARCH)
	}
	program := compile(calls)
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(program)
	if errno != 0 {
		return fmt.Errorf("system call filter: %w", errno)
	}
	return nil
}
