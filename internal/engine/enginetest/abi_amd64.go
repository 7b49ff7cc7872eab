package enginetest

import (
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// abiCases enter the kernel by the doors of other ABIs, and by numbers that only amd64 has.
func abiCases() []Case {
	const x32 = 0x40000000
	cases := []Case{
		{ID: "P21.int80", Group: "processes", Title: "a 32-bit system call: int 0x80 getpid", Guarantee: surface, Control: Outside, Optional: "CONFIG_IA32_EMULATION", Attack: func(*Env) Outcome {
			return int80(20, 0, 0, 0, uint32(os.Getpid()))
		}},
		{ID: "P21.int80-mount", Group: "processes", Title: "int 0x80 mount, past a filter for 64-bit numbers", Guarantee: surface, Control: Outside, Optional: "CONFIG_IA32_EMULATION", Attack: func(*Env) Outcome {
			return int80(21, 0, 0, 0, 0) // no path to mount on: EFAULT
		}},
		{ID: "P21.int80-keyctl", Group: "processes", Title: "int 0x80 keyctl, a call that the filter refuses", Guarantee: surface, Control: Outside, Optional: "CONFIG_IA32_EMULATION", Attack: func(*Env) Outcome {
			return int80(288, 0, 0xfffffffd, 0, 0)
		}},
		maybe(row("P21.x32", "an x32 system call: getpid", surface, Outside, x32|unix.SYS_GETPID), "CONFIG_X86_X32_ABI"),
		maybe(row("P21.x32-unshare", "an x32 unshare", surface, Outside, x32|unix.SYS_UNSHARE), "CONFIG_X86_X32_ABI"),
		row("E25.high-bits", "a refused call with high bits in its number", surface, Outside, 1<<32|unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, ^uintptr(2), 0),
		row("K08.iopl", "iopl", surface, AsRoot, unix.SYS_IOPL, 0xff),
		row("K08.ioperm", "ioperm", surface, AsRoot, unix.SYS_IOPERM, 0, ^uintptr(0), 1),
		row("K09.modify-ldt", "modify_ldt", surface, Outside, unix.SYS_MODIFY_LDT, 0, addr(page()), 16),
		row("K09.ustat", "ustat", surface, Outside, unix.SYS_USTAT, 0, addr(page())),
		row("K09.sysfs", "sysfs", surface, Outside, unix.SYS_SYSFS, 3, 0, 0),
		row("K08.kexec-file", "kexec_file_load", surface, AsRoot, unix.SYS_KEXEC_FILE_LOAD, ^uintptr(0), ^uintptr(0), 0, 0, 0xffff),
	}
	for _, absent := range []struct {
		name string
		nr   uintptr
	}{
		{"uselib", unix.SYS_USELIB}, {"lookup_dcookie", unix.SYS_LOOKUP_DCOOKIE}, {"nfsservctl", unix.SYS_NFSSERVCTL}, {"_sysctl", unix.SYS__SYSCTL},
		{"create_module", unix.SYS_CREATE_MODULE}, {"get_kernel_syms", unix.SYS_GET_KERNEL_SYMS}, {"query_module", unix.SYS_QUERY_MODULE},
		{"afs_syscall", unix.SYS_AFS_SYSCALL}, {"tuxcall", unix.SYS_TUXCALL}, {"security", unix.SYS_SECURITY}, {"vserver", unix.SYS_VSERVER},
		{"getpmsg", unix.SYS_GETPMSG}, {"putpmsg", unix.SYS_PUTPMSG}, {"a-number-nobody-has", 999},
	} {
		cases = append(cases, maybe(row("K09."+absent.name, absent.name, surface, Outside, absent.nr), "gone from this kernel"))
	}
	for i := range cases {
		if cases[i].ID == "K08.kexec-file" || cases[i].ID == "K08.iopl" || cases[i].ID == "K08.ioperm" || cases[i].ID == "K09.modify-ldt" {
			cases[i].Optional = "the kernel may be built without it"
		}
	}
	return cases
}

// int80 makes a 32-bit system call from machine code in a page of its own. want is the result that shows it was executed; zero takes any answer
// that is not ENOSYS.
func int80(nr, a, b, c, want uint32) Outcome {
	code := []byte{
		0x53,       // push rbx
		0x89, 0xf8, //               mov eax, edi
		0x89, 0xf3, //               mov ebx, esi
		0x89, 0xd1, //               mov ecx, edx
		0x44, 0x89, 0xc2, //         mov edx, r8d
		0x31, 0xf6, //               xor esi, esi
		0x31, 0xff, //               xor edi, edi
		0xcd, 0x80, //               int 0x80
		0x5b, //                     pop rbx
		0xc3, //                     ret
	}
	mem, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return notRun("%v", err)
	}
	copy(mem, code)
	if err := unix.Mprotect(mem, unix.PROT_READ|unix.PROT_EXEC); err != nil {
		return held("no executable page: %v", err)
	}
	got := callCode(uintptr(unsafe.Pointer(&mem[0])), uintptr(nr), uintptr(a), uintptr(b), uintptr(c))
	if errno := syscall.Errno(-int32(got)); int32(got) < 0 && refused(errno) {
		return held("%v", errno)
	}
	if want != 0 && got != want {
		return held("it returned %d, not %d", got, want)
	}
	return open("it was executed and returned %d", int32(got))
}

// callCode calls machine code with the System V convention: arguments in rdi, rsi, rdx, r8.
func callCode(code, di, si, dx, r8 uintptr) uint32
