package session

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestLastWords: what a process said last is heard although it left something unread. Ctrl-C at the moment when the command ended made a run end with "without
// a word".
func TestLastWords(t *testing.T) {
	ended := func() int {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(pair[0]) })
		for from, text := range []string{"unread", "last"} {
			if _, err := unix.Write(pair[from], []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		unix.Close(pair[1])
		return pair[0]
	}
	buf := make([]byte, 64)
	if _, _, err := unix.Recvfrom(ended(), buf, 0); err != unix.ECONNRESET {
		t.Errorf("control: %v", err)
	}
	fd := ended()
	if n, err := hear(fd, buf, 0); err != nil || string(buf[:n]) != "last" {
		t.Errorf("%q, %v", buf[:n], err)
	}
	if n, err := hear(fd, buf, 0); err != nil || n != 0 {
		t.Errorf("then %q, %v", buf[:n], err)
	}
	if n, _, err := receive(ended(), buf); err != nil || string(buf[:n]) != "last" {
		t.Errorf("of pid 1: %q, %v", buf[:n], err)
	}
}
