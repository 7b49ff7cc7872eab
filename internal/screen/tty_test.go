package screen

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	switch os.Getenv("CASEMATE_TEST_TTY") {
	case "":
		os.Exit(m.Run())
	case "stopped":
		readAsTcell(true)
	case "reading":
		readAsTcell(false)
	}
}

// readAsTcell reads for a screen, which is put aside or not, and says then which line comes to a shell.
func readAsTcell(stop bool) {
	t := &terminal{}
	if err := t.Start(); err != nil {
		panic(err)
	}
	taken := make(chan bool)
	go func() {
		t.Read(make([]byte, 128))
		close(taken)
	}()
	for reading := false; !reading; { // until it does
		if reading = !t.reading.TryLock(); !reading {
			t.reading.Unlock()
		}
	}
	if stop {
		if err := errors.Join(t.Drain(), t.Stop()); err != nil {
			panic(err)
		}
	}
	fmt.Println("ready")
	if stop {
		time.Sleep(100 * time.Millisecond) // the time that a shell takes, for a thief: were it too short the test would prove less, not fail
	} else {
		<-taken
		fmt.Println("taken")
	}
	var line [64]byte
	n, _ := os.Stdin.Read(line[:])
	fmt.Printf("read %q\n", line[:n])
}

// TestNobodyReadsWhenStopped: what is typed once the screen is put aside goes to whoever has the terminal then.
func TestNobodyReadsWhenStopped(t *testing.T) {
	for state, first := range map[string]string{"stopped": "first\n", "reading": "second\n"} {
		t.Run(state, func(t *testing.T) {
			master, slave := pty(t)
			child := exec.Command("/proc/self/exe")
			child.Env = append(os.Environ(), "CASEMATE_TEST_TTY="+state)
			child.Stdin, child.Stdout, child.Stderr = slave, slave, slave
			child.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = child.Process.Kill(); _ = child.Wait() })
			slave.Close()
			lines := bufio.NewScanner(master)
			sees := func(want string) {
				t.Helper()
				for lines.Scan() {
					if strings.Contains(lines.Text(), want) {
						return
					}
				}
				t.Fatalf("%q was not shown", want)
			}
			sees("ready")
			if _, err := io.WriteString(master, "first\n"); err != nil {
				t.Fatal(err)
			}
			if state == "reading" {
				sees("taken")
				if _, err := io.WriteString(master, "second\n"); err != nil {
					t.Fatal(err)
				}
			}
			sees(fmt.Sprintf("read %q", first))
		})
	}
}

func pty(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}
