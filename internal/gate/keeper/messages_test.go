package keeper

import (
	"context"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestLostSocket: a request for a socket that nobody answers costs nobody else theirs.
func TestLostSocket(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])
	f := os.NewFile(uintptr(pair[0]), "supervisor")
	c, err := net.FileConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	k := &Keeper{supervisor: c.(*net.UnixConn)}
	wait := func(long time.Duration) (int, error) {
		ctx, cancel := context.WithTimeout(t.Context(), long)
		defer cancel()
		return k.socket(ctx, unix.AF_INET)
	}
	if fd, err := wait(50 * time.Millisecond); err == nil {
		t.Fatalf("descriptor %d came from nowhere", fd)
	}
	for range 2 {
		go func() {
			buf := make([]byte, 128)
			unix.Read(pair[1], buf)
			if fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
				time.Sleep(50 * time.Millisecond) // it waits by then
				k.sockets.deliver(unix.AF_INET, []int{fd})
			}
		}()
		fd, err := wait(5 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
	}
}
