package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"casemate.dev/internal/secret"
	"casemate.dev/internal/secret/book"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// hidden asks on a terminal for what is not to be shown: echo is off while it is typed, and on again however this ends.
func (d *desk) hidden(tty *os.File, say io.Writer, question string) (secret.Value, error) {
	fd := int(tty.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return secret.Value{}, err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	done := make(chan struct{})
	defer close(done)
	defer signal.Stop(stop)
	var modes sync.Mutex // a signal that comes while echo is being switched off must not be followed by that
	go func() {
		select {
		case s := <-stop:
			modes.Lock()
			term.Restore(fd, before)
			fmt.Fprintln(say)
			if d.left != nil {
				d.left()
			}
			os.Exit(128 + int(s.(syscall.Signal)))
		case <-done:
		}
	}()
	defer term.Restore(fd, before)
	modes.Lock()
	err = echoOff(fd) // before the question: who answers at once is not shown either
	modes.Unlock()
	if err != nil {
		return secret.Value{}, fmt.Errorf("the terminal: %w", err)
	}
	fmt.Fprint(say, question)
	typed, err := readLine(tty)
	fmt.Fprintln(say)
	defer clear(typed)
	if err != nil {
		return secret.Value{}, fmt.Errorf("the terminal: %w", err)
	}
	return secret.New(typed)
}

func echoOff(fd int) error {
	modes, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	modes.Lflag &^= unix.ECHO
	modes.Lflag |= unix.ICANON | unix.ISIG
	modes.Iflag |= unix.ICRNL
	return unix.IoctlSetTermios(fd, unix.TCSETS, modes)
}

// readLine reads what was typed, without the line's end: the terminal gives a line at a time. Package term would set the modes itself, and after a signal, too.
func readLine(tty io.Reader) ([]byte, error) {
	line := make([]byte, 0, secret.MaxValue+2)
	for len(line) < cap(line) {
		n, err := tty.Read(line[len(line):cap(line)])
		line = line[:len(line)+n]
		if text, whole := bytes.CutSuffix(line, []byte("\n")); whole {
			return text, nil
		}
		if err != nil && (err != io.EOF || len(line) == 0) {
			clear(line)
			return nil, err
		}
		if err == io.EOF {
			break
		}
	}
	return line, nil
}

// newValue is the value of an entry: typed at the terminal, or read from standard input, whose last line break is not part of it.
// until is when it expires, where it says so itself.
func (d *desk) newValue(e *book.Entry) (v secret.Value, until time.Time, err error) {
	what := ""
	if e.Kind == secret.AWS {
		what = ", as ID:SECRET or ID:SECRET:TOKEN"
	}
	if term.IsTerminal(int(d.in.Fd())) {
		v, err = d.hidden(d.in, d.err, "Value of "+e.Name+what+" (not shown): ")
	} else {
		v, err = readValue(d.in)
	}
	if err != nil {
		return v, until, err
	}
	return secret.Normal(e.Kind, v)
}

func readValue(r io.Reader) (secret.Value, error) {
	b := make([]byte, secret.MaxValue+3)
	defer clear(b)
	n, err := io.ReadFull(r, b)
	if err == nil {
		return secret.Value{}, fmt.Errorf("the value is longer than %d bytes", secret.MaxValue)
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return secret.Value{}, err
	}
	return secret.New(bytes.TrimSuffix(bytes.TrimSuffix(b[:n], []byte("\n")), []byte("\r")))
}

// passphrase is who is asked for it: the file that a variable names, or the person at the terminal, wherever standard input comes from. nil: nobody.
func (d *desk) passphrase() book.Ask {
	if file := d.getenv(book.PassphraseVariable); file != "" {
		return func() (secret.Value, error) { return passphraseFrom(file) }
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil
	}
	return func() (secret.Value, error) { return d.hidden(tty, tty, "Passphrase of casemate's secrets: ") }
}

func passphraseFrom(file string) (secret.Value, error) {
	b, err := book.ReadPrivate(file)
	if err != nil {
		return secret.Value{}, fmt.Errorf("%s: %w", book.PassphraseVariable, err)
	}
	defer clear(b)
	return readValue(bytes.NewReader(b))
}

// newPassphrase asks twice, because nobody sees what is typed.
func (d *desk) newPassphrase() (secret.Value, error) {
	if file := d.getenv(book.PassphraseVariable); file != "" {
		return passphraseFrom(file)
	}
	if !term.IsTerminal(int(d.in.Fd())) {
		return readValue(d.in)
	}
	first, err := d.hidden(d.in, d.err, "New passphrase (not shown): ")
	if err != nil {
		return first, err
	}
	second, err := d.hidden(d.in, d.err, "Once more: ")
	defer second.Wipe()
	if err != nil {
		return first, err
	}
	same := false
	err = first.Use(func(a []byte) error {
		return second.Use(func(b []byte) error { same = bytes.Equal(a, b); return nil })
	})
	if err == nil && !same {
		err = errors.New("the two are not the same")
	}
	return first, err
}

// yes asks a question at the terminal; elsewhere the command line itself is the answer.
func (d *desk) yes(question string) bool {
	if !term.IsTerminal(int(d.in.Fd())) {
		return true
	}
	fmt.Fprint(d.err, question+" [y/N] ")
	var answer [64]byte
	n, _ := d.in.Read(answer[:])
	return n > 0 && (answer[0] == 'y' || answer[0] == 'Y')
}
