package keeper

import (
	"context"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"casemate.dev/internal/gate/wire"
	"golang.org/x/sys/unix"
)

// supervised is a gate with nothing but its socket, and the supervisor's end.
func supervised(t *testing.T) (k *Keeper, supervisor int) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(pair[1]) })
	f := os.NewFile(uintptr(pair[0]), "supervisor")
	c, err := net.FileConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &Keeper{supervisor: c.(*net.UnixConn)}, pair[1]
}

// TestTooManyFiles: a gate that can have no more descriptors goes on without the socket or the offer that did not come, and ends without its listeners.
func TestTooManyFiles(t *testing.T) {
	k, supervisor := supervised(t)
	hand := func(text string) (wire.Message, []int, error) {
		t.Helper()
		if err := unix.Sendmsg(supervisor, []byte(text), unix.UnixRights(supervisor, supervisor), nil, 0); err != nil {
			t.Fatal(err)
		}
		return k.message()
	}
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &before)
	for _, room := range []int{0, 1} {
		free, err := unix.Dup(supervisor)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(free)
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(free + room), Max: before.Max}); err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{`{"socket":2}`, `{"offer":8080}`, `{"met":{"call":1}}`} {
			if m, fds, err := hand(text); err != nil || len(fds) > 0 || m.Socket+m.Offer == 0 && (m.Met == nil || m.Met.Why == "") {
				t.Errorf("with room for %d, %s: %+v %v %v", room, text, m, fds, err)
			}
		}
		if _, fds, err := hand(`{"listeners":["tcp4","dns"]}`); err == nil || len(fds) > 0 {
			t.Errorf("with room for %d, rules came without their listeners: %v", room, fds)
		}
		if again, err := unix.Dup(supervisor); room > 0 && (err != nil || again != free) {
			t.Errorf("what came was not closed: %d is free, %v", again, err)
		} else if room > 0 {
			unix.Close(again)
		}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
			t.Fatal(err)
		}
	}
	_, fds, err := hand(`{"socket":2}`)
	if err != nil || len(fds) != 2 {
		t.Errorf("once there is room: %v %v", fds, err)
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// TestLostSocket: a request for a socket that nobody answers costs nobody else theirs.
func TestLostSocket(t *testing.T) {
	k, supervisor := supervised(t)
	wait := func(long time.Duration) (int, error) {
		ctx, cancel := context.WithTimeout(t.Context(), long)
		defer cancel()
		return k.socket(ctx, unix.AF_INET)
	}
	if fd, err := wait(50 * time.Millisecond); err == nil {
		t.Fatalf("descriptor %d came from nowhere", fd)
	}
	waits := func() int {
		k.sockets.mu.Lock()
		defer k.sockets.mu.Unlock()
		return len(k.sockets.waiting[unix.AF_INET])
	}
	for range 2 {
		go func() {
			buf := make([]byte, 128)
			unix.Read(supervisor, buf)
			if fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
				for waits() == 0 { // the request that was read may be the lost one
					runtime.Gosched()
				}
				k.sockets.deliver(unix.AF_INET, []int{fd})
			}
		}()
		fd, err := wait(20 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
	}
}
