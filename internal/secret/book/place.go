package book

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"casemate.dev/internal/secret"
	"casemate.dev/internal/secret/ask"
	"golang.org/x/sys/unix"
)

// The names in the directory. The lock is a file of its own, because the book is replaced by rename.
const (
	bookName = ask.BookName
	keyName  = ask.KeyName
	lockName = "secrets.lock"
	newBook  = ".new.secrets.age" // what a writer that was killed leaves; the next one removes it
	newKey   = ".new.secrets.key" // its name ends as those of keys do, which no sandbox sees (policy.hide)
)

// Place is where a book and its key lie.
type Place struct {
	Dir string
	Key string // the key file's path
}

// KeyVariable names another key file, such as one on a medium that is taken along.
const KeyVariable = ask.KeyVariable

// Find is the place of this person: $XDG_CONFIG_HOME/casemate.
func Find(getenv func(string) string) (Place, error) {
	config := getenv("XDG_CONFIG_HOME")
	if config == "" {
		home := getenv("HOME")
		if home == "" {
			return Place{}, errors.New("neither XDG_CONFIG_HOME nor HOME is set, so there is no place for secrets")
		}
		config = filepath.Join(home, ".config")
	}
	if !filepath.IsAbs(config) {
		return Place{}, fmt.Errorf("XDG_CONFIG_HOME is %q, which is no absolute path", config)
	}
	dir := filepath.Join(config, "casemate")
	key := getenv(KeyVariable)
	if key == "" {
		key = filepath.Join(dir, keyName)
	}
	if !filepath.IsAbs(key) {
		return Place{}, fmt.Errorf("%s is %q, which is no absolute path", KeyVariable, key)
	}
	return Place{dir, key}, nil
}

// File is the book's path.
func (p Place) File() string { return filepath.Join(p.Dir, bookName) }

func problem(help, format string, args ...any) error {
	return &secret.Problem{Err: fmt.Errorf(format, args...), Help: help}
}

// readChecked reads a file that must be the person's alone. It looks at what it opened, so nobody can change it in between.
func readChecked(path string, most int64) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err == unix.ELOOP {
		return nil, problem("put the file itself there; a link could be led elsewhere", "%q is a symbolic link", path)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, problem("", "%q is no file", path)
	case int(st.Uid) != os.Geteuid():
		return nil, problem(fmt.Sprintf("run casemate as the user whose secrets these are, or: chown %d %s", os.Geteuid(), path), "%q belongs to user %d, and not to you", path, st.Uid)
	case st.Mode&0o077 != 0:
		return nil, problem("chmod 600 "+path+"; and rotate what others may have read", "others may read or write %q (mode %04o)", path, st.Mode&0o7777)
	case st.Nlink != 1:
		return nil, problem("remove the other name", "%q has %d names (hard links)", path, st.Nlink)
	case st.Size > most:
		return nil, problem("", "%q is longer than %d bytes", path, most)
	}
	b := make([]byte, st.Size)
	if n, err := io.ReadFull(f, b); err != nil {
		return b[:n], fmt.Errorf("read %q: %w", path, err)
	}
	return b, nil
}

// checkDir refuses a directory in which another user could put files.
func checkDir(dir string) error {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return problem("", "%q is no directory", dir)
	case int(st.Uid) != os.Geteuid():
		return problem("run casemate as the user whose secrets these are", "%q belongs to user %d, and not to you", dir, st.Uid)
	case st.Mode&0o022 != 0:
		return problem("chmod go-w "+dir, "others may write into %q (mode %04o)", dir, st.Mode&0o7777)
	}
	return nil
}

// waits is how long a writer waits for another one, who holds the lock for some milliseconds as a rule.
const waits = 30 * time.Second

// lock is held by every writer while it reads, changes and writes. The kernel gives it back when its holder is killed.
func (p Place) lock() (unlock func(), err error) {
	if err := os.MkdirAll(p.Dir, 0o700); err != nil {
		return nil, err
	}
	if err := checkDir(p.Dir); err != nil {
		return nil, err
	}
	path := filepath.Join(p.Dir, lockName)
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	for end := time.Now().Add(waits); ; time.Sleep(10 * time.Millisecond) {
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { unix.Close(fd) }, nil
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR || time.Now().After(end) {
			unix.Close(fd)
			return nil, problem("see who: fuser "+path, "%q is held by another program: %v", path, err)
		}
	}
}

// replace puts a file in place whole, or not at all: whenever the machine or this process stops, path has the old contents or the new ones.
func replace(path, temporary string, contents []byte) error {
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // O_EXCL follows no link
	if err != nil {
		return err
	}
	_, err = f.Write(contents)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		os.Remove(temporary)
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// ReadPrivate reads a file that must be the person's alone, such as one that holds a passphrase.
func ReadPrivate(path string) ([]byte, error) { return readChecked(path, maxKeyFile) }
