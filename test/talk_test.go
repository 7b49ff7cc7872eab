package test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// talk is a shell in a sandbox that the test gives lines to, one after the other: what happens inside and on the host is in order without
// waiting for time to pass.
type talk struct {
	t      *testing.T
	cmd    *exec.Cmd
	in     io.WriteCloser
	lines  chan string
	stderr *bytes.Buffer
	ended  chan error
}

const endOfAnswer = "--casemate-test-end--"

// begin starts a command that the test talks with.
func begin(t testing.TB, cmd *exec.Cmd) (in io.WriteCloser, out io.Reader) {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err = cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return in, out
}

// talk starts the shell.
func (s *site) talk(flags ...string) *talk {
	s.t.Helper()
	cmd := s.command(append(append([]string{"run", "--json"}, flags...), "--", "sh", "-c",
		`echo `+endOfAnswer+`; while IFS= read -r line; do eval "$line" </dev/null 2>&1; echo; echo `+endOfAnswer+`; done`)...)
	k := &talk{t: s.t, cmd: cmd, lines: make(chan string, 1024), stderr: &bytes.Buffer{}, ended: make(chan error, 1)}
	cmd.Stderr = k.stderr
	in, out := begin(s.t, cmd)
	k.in = in
	go func() {
		sc := bufio.NewScanner(out)
		sc.Buffer(nil, 1<<20)
		for sc.Scan() {
			k.lines <- sc.Text()
		}
		close(k.lines)
		k.ended <- cmd.Wait()
	}()
	s.t.Cleanup(func() { _ = cmd.Process.Kill() })
	if got, ok := k.hear(); !ok {
		s.t.Fatalf("the shell did not start: %s%s", got, k.stderr)
	}
	return k
}

// ask runs a line of shell inside and returns what it printed.
func (k *talk) ask(line string) string {
	k.t.Helper()
	if _, err := io.WriteString(k.in, line+"\n"); err != nil {
		k.t.Fatalf("%q: %v; %s", line, err, k.stderr)
	}
	got, ok := k.hear()
	if !ok {
		k.t.Fatalf("%q: the shell ended: %s%s", line, got, k.stderr)
	}
	return got
}

func (k *talk) hear() (string, bool) {
	k.t.Helper()
	var b strings.Builder
	deadline := time.After(time.Minute)
	for {
		select {
		case line, ok := <-k.lines:
			if !ok {
				return b.String(), false
			}
			if line == endOfAnswer {
				return strings.TrimSpace(b.String()), true
			}
			b.WriteString(line + "\n")
		case <-deadline:
			k.t.Fatalf("no answer in a minute; so far %q, %s", b.String(), k.stderr)
		}
	}
}

// end lets the shell end and returns casemate's words.
func (k *talk) end() string {
	k.t.Helper()
	if err := k.in.Close(); err != nil {
		k.t.Fatal(err)
	}
	for range k.lines {
	}
	if err := <-k.ended; err != nil {
		k.t.Errorf("the run ended with %v: %s", err, k.stderr)
	}
	return k.stderr.String()
}

// eventually waits until the condition holds, and says how long it took. It fails the test when it does not within the limit.
func eventually(t *testing.T, limit time.Duration, what string, holds func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	for !holds() {
		if time.Since(start) > limit {
			t.Errorf("not within %v: %s", limit, what)
			break
		}
		time.Sleep(5 * time.Millisecond) // between two looks
	}
	return time.Since(start)
}

// named lists the host's processes with the word in their command line, but not casemate itself.
func named(word string) []int {
	var pids []int
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		b, err := os.ReadFile(dir + "/cmdline")
		argv := strings.Split(string(b), "\x00")
		if err != nil || len(argv) < 2 || filepath.Base(argv[0]) != "sleep" || argv[1] != word {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// lasting makes up a duration for sleep that no other process on this machine sleeps. What still sleeps it when the test is over is ended.
func lasting(t *testing.T) string {
	t.Helper()
	forever := fmt.Sprintf("%d.%09d", 600, time.Now().UnixNano()%1_000_000_000)
	t.Cleanup(func() {
		for _, pid := range named(forever) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	})
	return forever
}
