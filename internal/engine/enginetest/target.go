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
