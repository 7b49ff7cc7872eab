package session

import (
	"bufio"
	"io"
	"os/exec"
	"testing"
	"time"
)

// TestStoreIsAskedToEnd: the store's process may have the terminal's echo switched off for a passphrase, so it is let put that right. One that does not listen
// is ended all the same.
func TestStoreIsAskedToEnd(t *testing.T) {
	for name, c := range map[string]struct {
		script, last string
		within       time.Duration
	}{
		"one that listens":  {`trap 'echo echo is on; exit' TERM; echo ready; while :; do sleep 0.05; done`, "echo is on\n", time.Minute},
		"one that does not": {`trap '' TERM; echo ready; while :; do sleep 0.05; done`, "", time.Millisecond},
	} {
		cmd := exec.Command("sh", "-c", c.script)
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		said := bufio.NewReader(out)
		if _, err := said.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		(&storekeeper{process: cmd.Process}).end(c.within)
		if rest, _ := io.ReadAll(said); string(rest) != c.last {
			t.Errorf("%s said %q at its end", name, rest)
		}
	}
}
