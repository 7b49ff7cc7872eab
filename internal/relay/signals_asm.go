//go:build amd64 || arm64

package relay

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	saOnStack  = 0x08000000 // required by Go: goroutine stacks are too small for a signal frame
	saRestart  = 0x10000000
	saRestorer = 0x04000000
	sigIgnored = 1 // SIG_IGN
)

// caught is entered by the kernel. It is not called from Go.
//
//lint:ignore U1000 its address is taken in assembly
func caught()

// restorer is what a handler returns to.
//
//lint:ignore U1000 its address is taken in assembly
func restorer()

// These give the addresses of the two: a Go func value would be that of a wrapper.
func caughtPC() uintptr
func restorerPC() uintptr

func catch(sig unix.Signal) (old sigaction, err error) {
	act := sigaction{caughtPC(), saOnStack | saRestart | saRestorer, restorerPC(), ^uint64(0)}
	if err := setAction(sig, &act, &old); err != nil {
		return old, err
	}
	if old.handler == sigIgnored {
		return old, setAction(sig, &old, nil)
	}
	return old, nil
}

func release(sig unix.Signal, old sigaction) { setAction(sig, &old, nil) }

func byDefault(sig unix.Signal) { setAction(sig, &sigaction{}, nil) }

// Ignored reports whether the kernel throws a signal to us away, as nohup and a trap of the shell have it.
func Ignored(sig unix.Signal) bool {
	var now sigaction
	return setAction(sig, nil, &now) == nil && now.handler == sigIgnored
}

func setAction(sig unix.Signal, act, old *sigaction) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(act)), uintptr(unsafe.Pointer(old)), unsafe.Sizeof(act.mask), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
