package workspace

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// journal says in which host directories an Apply may have left temporary files. It lies in the layer's directory, out of the sandbox's reach, so
// that after a crash they can be told from everybody else's: by a number that nobody knew before.
//
// It needs to say no more: a file reaches its place in one step, and leaves the layer only when everything is durable on the host. An Apply that
// was cut short is finished by another one, which finds the rest still in the layer.
type journal struct {
	top   *rooted
	token string
	dirs  map[string]bool
}

const (
	journalName = "applying"
	tmpPrefix   = ".casemate-"
)

func newJournal(top *rooted) (*journal, error) {
	var b [12]byte
	if _, err := unix.Getrandom(b[:], 0); err != nil {
		return nil, fmt.Errorf("make a name for temporary files: %w", err)
	}
	return &journal{top: top, token: hex.EncodeToString(b[:]), dirs: map[string]bool{}}, nil
}

// name returns the temporary name for an outcome.
func (j *journal) name(i int) string { return fmt.Sprintf("%s%s-%d", tmpPrefix, j.token, i) }

// announce writes down where a batch will put temporary files, before it does.
func (a *application) announce(todo []int) error {
	var b strings.Builder
	if len(a.journal.dirs) == 0 {
		b.WriteString(a.journal.token + "\x00")
	}
	for _, i := range todo {
		dir := parentOf(a.outcomes[i].Path)
		if !a.journal.dirs[dir] {
			a.journal.dirs[dir] = true
			b.WriteString(dir + "\x00")
		}
	}
	if b.Len() == 0 {
		return nil
	}
	if err := a.journal.append(b.String()); err != nil {
		return fmt.Errorf("write %q in %q: %w", journalName, a.l.Dir, err)
	}
	return nil
}

func (j *journal) append(s string) error {
	fd, err := unix.Openat(j.top.fd, journalName, unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), journalName)
	_, err = f.WriteString(s)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// recover cleans up after an Apply that was killed, unless one is at work.
func (l *Layer) recover() error {
	if n, err := l.top.stat(journalName); err != nil || n.Type == Absent {
		return err
	}
	if l.lock() != nil {
		return nil
	}
	defer l.unlock()
	_, err := l.removeTemporaries()
	return err
}

// removeTemporaries removes from the project what an Apply left that did not come to its end, and reports whether there was one.
func (l *Layer) removeTemporaries() (interrupted bool, err error) {
	n, err := l.top.stat(journalName)
	if err != nil || n.Type == Absent {
		return false, err
	}
	f, err := l.top.openFile(journalName, n)
	if err != nil {
		return true, fmt.Errorf("read %q in %q: %w", journalName, l.Dir, err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return true, fmt.Errorf("read %q in %q: %w", journalName, l.Dir, err)
	}
	token, rest, whole := strings.Cut(string(data), "\x00")
	for whole && rest != "" {
		var dir string
		if dir, rest, whole = strings.Cut(rest, "\x00"); whole {
			l.removeTemporariesIn(dir, tmpPrefix+token+"-")
		}
	}
	return true, l.endJournal()
}

func (l *Layer) removeTemporariesIn(dir, prefix string) {
	fd, err := l.project.openDir(dir)
	if err != nil {
		return // it is not there any more, or was never made
	}
	defer unix.Close(fd)
	names, _ := namesIn(fd)
	for _, name := range names {
		if strings.HasPrefix(name, prefix) {
			_ = unix.Unlinkat(fd, name, 0)
		}
	}
}

func (l *Layer) endJournal() error {
	err := unix.Unlinkat(l.top.fd, journalName, 0)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove %q in %q: %w", journalName, l.Dir, err)
	}
	return nil
}
