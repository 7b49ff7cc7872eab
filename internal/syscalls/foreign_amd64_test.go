package syscalls

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() { roles["foreign"] = callForeign }

// callForeign asks for its process id through the 32-bit entry, where that is call 20.
func callForeign(role, []string) error {
	code, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	copy(code, []byte{
		0xb8, 20, 0, 0, 0, // mov $20, %eax
		0xcd, 0x80, // int $0x80
		0xc3, // ret
	})
	if err := unix.Mprotect(code, unix.PROT_READ|unix.PROT_EXEC); err != nil {
		return err
	}
	entry := unsafe.Pointer(&code[0])
	function := unsafe.Pointer(&entry) // a Go function value points at the address of its code
	pid := (*(*func() int32)(unsafe.Pointer(&function)))()
	fmt.Println(int(pid) == os.Getpid())
	return nil
}

func TestInt80IsKilled(t *testing.T) {
	out, err := output(child(role{Name: "foreign"}))
	if err != nil {
		t.Skipf("needs a kernel with 32-bit emulation and executable anonymous memory: %v", err)
	}
	if strings.TrimSpace(out) != "true" {
		t.Fatalf("without the filter int 0x80 gave no process id: %q", out)
	}
	if out, err := output(child(role{Name: "foreign", Filtered: true})); killedBy(err) != syscall.SIGSYS {
		t.Errorf("with the filter int 0x80 printed %q and ended with %v, want SIGSYS", out, err)
	}
}
