package dns

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// TestStreamsOutlastDescriptors: a resolver that has no descriptor left goes on when there are some again.
func TestStreamsOutlastDescriptors(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	release := useUp(t)
	r, _ := resolver()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		NewServer(r).Streams(l.(*net.TCPListener))
	}()
	time.Sleep(100 * time.Millisecond) // in which it cannot accept: nothing shows that it tried, and were it too short the test would prove less, not fail
	release()
	q := query(t, "api.example.com.", dnsmessage.TypeA)
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(q))), q...)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 2)); err != nil {
		t.Errorf("no answer: %v", err)
	}
	l.Close()
	<-ended
}

// useUp opens files until there can be no more.
func useUp(t *testing.T) (release func()) {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: min(128, before.Max), Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	var fds []int
	for {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			break
		}
		fds = append(fds, fd)
	}
	return func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
			t.Error(err)
		}
	}
}
