package screen

import (
	"errors"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/gdamore/tcell/v3/tty"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// terminal is the user's, as tcell wants it. Tcell's own leaves a thread reading when the screen is put aside: what the person typed for the shell
// just after Ctrl-Z went to that thread, until the kernel had stopped it. Here nobody reads any more once Drain has returned.
type terminal struct {
	file    *os.File
	found   *term.State
	reading sync.Mutex // held by who reads, and by who changes file
	resized chan os.Signal
}

// Start opens the terminal anew: its file must not be shared with the shell, because it is set not to block.
func (t *terminal) Start() error {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	var found *term.State
	err2 := control(f, func(fd int) {
		if found, err = term.MakeRaw(fd); err != nil {
			return
		}
		if err = unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH); err != nil { // what was typed before there was a screen answers nothing on it
			_ = term.Restore(fd, found)
		}
	})
	if err = errors.Join(err, err2); err != nil {
		return errors.Join(err, f.Close())
	}
	t.reading.Lock()
	defer t.reading.Unlock()
	t.file, t.found = f, found
	return nil
}

// control calls f with the descriptor; File.Fd would make it block.
func control(file *os.File, f func(fd int)) error {
	c, err := file.SyscallConn()
	if err != nil {
		return err
	}
	return c.Control(func(fd uintptr) { f(int(fd)) })
}

func (t *terminal) Read(b []byte) (int, error) {
	t.reading.Lock()
	defer t.reading.Unlock()
	return t.file.Read(b)
}

func (t *terminal) Write(b []byte) (int, error) { return t.file.Write(b) }

// Drain ends the reading.
func (t *terminal) Drain() error {
	err := t.file.SetReadDeadline(time.Now())
	t.reading.Lock()
	defer t.reading.Unlock()
	return err
}

// Stop leaves the terminal as Start found it.
func (t *terminal) Stop() error {
	t.NotifyResize(nil)
	var err error
	err2 := control(t.file, func(fd int) { err = term.Restore(fd, t.found) })
	t.reading.Lock() // tcell may begin to read after Drain: that ends at once
	defer t.reading.Unlock()
	err = errors.Join(err, err2, t.file.Close())
	t.file = nil
	return err
}

func (t *terminal) Close() error { return nil } // Stop has

// NotifyResize has c told of new sizes; nil ends it.
func (t *terminal) NotifyResize(c chan<- bool) {
	if t.resized != nil {
		signal.Stop(t.resized)
		close(t.resized)
		t.resized = nil
	}
	if c == nil {
		return
	}
	resized := make(chan os.Signal, 1)
	t.resized = resized
	signal.Notify(resized, unix.SIGWINCH)
	go func() {
		for range resized {
			select {
			case c <- true:
			default: // it has been told, and has not looked yet
			}
		}
	}()
}

// WindowSize is asked before the terminal is started, too: what is drawn first must fit.
func (t *terminal) WindowSize() (size tty.WindowSize, err error) {
	f := t.file
	if f == nil {
		if f, err = os.OpenFile("/dev/tty", os.O_RDWR, 0); err != nil {
			return size, err
		}
		defer f.Close()
	}
	err2 := control(f, func(fd int) {
		var ws *unix.Winsize
		if ws, err = unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ); err == nil {
			size = tty.WindowSize{Width: int(ws.Col), Height: int(ws.Row)}
		}
	})
	if size.Width == 0 || size.Height == 0 { // a serial line does not know its size
		size = tty.WindowSize{Width: 80, Height: 24}
	}
	return size, errors.Join(err, err2)
}
