package review

import (
	"fmt"
	"io"
	"os"
	"strings"

	"casemate.dev/internal/relay"
	"golang.org/x/sys/unix"
)

// Asker asks a person in lines, on a terminal in its usual mode: it needs no colour, no cursor and no screen.
type Asker struct {
	In  *os.File
	Out io.Writer

	buf     []byte
	over    bool
	stopped bool
}

// Ask writes a question and returns the answer without blanks around it. ok is false if there is none: Ctrl-C, Ctrl-D or a terminal that is gone.
func (a *Asker) Ask(question string) (answer string, ok bool) {
	line, ok := a.line(question)
	if !ok {
		fmt.Fprintln(a.Out)
	}
	return strings.TrimSpace(line), ok
}

// Fresh forgets what was typed before the question that comes: nobody consents to what they have not seen yet.
func (a *Asker) Fresh() {
	a.buf = nil
	unix.IoctlSetInt(int(a.In.Fd()), unix.TCFLSH, unix.TCIFLUSH)
}

// Yes asks a question that only a clear yes answers with yes.
func (a *Asker) Yes(question string) bool {
	a.Fresh()
	answer, _ := a.Ask(question + " [y/N] ")
	return strings.EqualFold(answer, "y") || strings.EqualFold(answer, "yes")
}

// Key asks for one of the letters in keys; Enter is the first of them. Any other answer brings the help and the question again. It returns 0 if
// there is no answer.
func (a *Asker) Key(question, keys, help string) byte {
	for {
		answer, ok := a.Ask(question)
		switch {
		case !ok:
			return 0
		case answer == "":
			return keys[0]
		case len(answer) == 1 && strings.Contains(keys, answer):
			return answer[0]
		}
		io.WriteString(a.Out, help)
	}
}

// Interrupted reports whether the person has pressed Ctrl-C, or has gone.
func (a *Asker) Interrupted() bool { return a.stopped || a.over }

// line asks and reads one line. Signals come by way of the loop, because Ctrl-C is an answer too: it must not end a program that has its own status to give.
func (a *Asker) line(question string) (string, bool) {
	var loop relay.Loop
	signals, err := loop.Signals(func(unix.Signal) { a.stopped = true; loop.Stop() }, unix.SIGINT)
	if err != nil {
		return "", false
	}
	defer signals.Close()
	io.WriteString(a.Out, question) // from here on somebody may press Ctrl-C
	if a.over || a.stopped {
		return "", false
	}
	if line, ok := a.cut(); ok {
		return line, true
	}
	watch := loop.Watch(int(a.In.Fd()), unix.POLLIN, func(int16) {
		buf := make([]byte, 4096)
		n, err := unix.Read(int(a.In.Fd()), buf)
		if err == unix.EINTR || err == unix.EAGAIN {
			return
		}
		if n <= 0 {
			a.over = true
			loop.Stop()
			return
		}
		a.buf = append(a.buf, buf[:n]...)
		loop.Stop()
	})
	defer watch.Close()
	for {
		if err := loop.Run(); err != nil || a.stopped || a.over {
			return "", false
		}
		if line, ok := a.cut(); ok {
			return line, true
		}
	}
}

func (a *Asker) cut() (string, bool) {
	line, rest, found := strings.Cut(string(a.buf), "\n")
	if !found {
		return "", false
	}
	a.buf = []byte(rest)
	return line, true
}
