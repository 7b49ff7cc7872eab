package enginetest

import (
	"fmt"
	"io"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

const ready = "ready\n"

// Target is `casemate-probe target MARK`: a process of the host that says which signals it gets, until its standard input ends.
func Target(stdout io.Writer) error {
	signals := make(chan os.Signal, 16)
	// SIGWINCH is what the attack on everyone sends: it is ignored by default, and the Go runtime does not use it.
	signal.Notify(signals, unix.SIGUSR1, unix.SIGUSR2, unix.SIGTERM, unix.SIGHUP, unix.SIGWINCH)
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		ended <- err
	}()
	if _, err := io.WriteString(stdout, ready); err != nil {
		return err
	}
	for {
		select {
		case s := <-signals:
			if _, err := fmt.Fprintln(stdout, s); err != nil {
				return err
			}
		case err := <-ended:
			return err
		}
	}
}

func readReady(r io.Reader) error {
	buf := make([]byte, len(ready))
	if _, err := io.ReadFull(r, buf); err != nil {
		return fmt.Errorf("the host's process did not start: %w", err)
	}
	return nil
}

// Listen is `casemate-probe listen`: it listens on every address, says on which port, answers whoever connects, and ends with its standard input.
func Listen(stdout io.Writer) error {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet6{}); err != nil {
		return err
	}
	if err := unix.Listen(fd, 16); err != nil {
		return err
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return err
	}
	in6, ok := sa.(*unix.SockaddrInet6)
	if !ok {
		return fmt.Errorf("bug: bound to %v", sa)
	}
	if _, err := fmt.Fprintln(stdout, in6.Port); err != nil {
		return err
	}
	go func() {
		for {
			conn, _, err := unix.Accept(fd)
			if err != nil {
				return
			}
			_, _ = unix.Write(conn, []byte(answer))
			unix.Close(conn)
		}
	}()
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
