// Package uses is the record of who was given a secret, or refused it: one line for each time, never with the value.
package uses

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Use is one line. The gate keeps a value for some seconds, so that one line may stand for several requests that came right after each other.
type Use struct {
	Time    time.Time `json:"time"`
	Entry   string    `json:"entry"`
	Sandbox string    `json:"sandbox"`
	Project string    `json:"project,omitempty"`
	Host    string    `json:"host"`
	Port    int       `json:"port"`
	Method  string    `json:"method,omitempty"`
	Path    string    `json:"path,omitempty"` // at most MaxPath of it, and never the query
	Grant   int       `json:"grant,omitempty"`
	Key     string    `json:"key,omitempty"`     // of ssh: the fingerprint of the key that was to sign a login
	User    string    `json:"user,omitempty"`    // the same: whom the login was for
	Refused string    `json:"refused,omitempty"` // why not; empty: it was given
	Times   int       `json:"times,omitempty"`   // how many uses or refusals the line stands for, the last of which it shows; 0 is one
}

// MaxPath is how much of a path is kept, and of why a use was refused, which may quote it.
const MaxPath = 256

// most is how long the file grows before it becomes the older one, of which there is one.
const most = 4 << 20

// Log is the file, which several programs add to at once.
type Log struct{ Path string }

// Find is the log of this person: in $XDG_STATE_HOME/casemate.
func Find(getenv func(string) string) (Log, error) {
	state := getenv("XDG_STATE_HOME")
	if state == "" {
		if getenv("HOME") == "" {
			return Log{}, errors.New("neither XDG_STATE_HOME nor HOME is set, so there is no place to note uses")
		}
		state = filepath.Join(getenv("HOME"), ".local", "state")
	}
	if !filepath.IsAbs(state) {
		return Log{}, fmt.Errorf("XDG_STATE_HOME is %q, which is no absolute path", state)
	}
	return Log{filepath.Join(state, "casemate", "secret-uses.jsonl")}, nil
}

// Add writes one line. What cannot be noted is not given: whoever calls it does so before the value leaves.
func (l Log) Add(u Use) error {
	u.Path, u.User, u.Refused = cut(u.Path), cut(u.User), cut(u.Refused)
	line, err := encode(u)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(l.Path), 0o700); err != nil {
		return err
	}
	var fd int
	if err := again(func() (err error) {
		fd, err = unix.Open(l.Path, unix.O_RDWR|unix.O_APPEND|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o600)
		return err
	}); err != nil {
		return &fs.PathError{Op: "open", Path: l.Path, Err: err}
	}
	f := os.NewFile(uintptr(fd), l.Path)
	defer f.Close()
	if err := again(func() error { return unix.Flock(fd, unix.LOCK_EX) }); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o022 != 0 {
		return fmt.Errorf("%q is no file that you alone can write", l.Path)
	}
	if isCut(f, st.Size) {
		line = append([]byte("\n"), line...)
	}
	if _, err := f.Write(line); err != nil { // one that was renamed meanwhile takes the line too
		return err
	}
	return l.putAside(&st)
}

// again does what a signal interrupted, such as one of Go's own scheduler: several wait for the lock, and none is to fail for that.
func again(do func() error) error {
	for {
		if err := do(); err != unix.EINTR {
			return err
		}
	}
}

// cut bounds a text that what runs inside has chosen: its length is not to push other lines out of the log.
func cut(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), MaxPath)], "?")
}

// encode makes a line that is about as long as what it says.
func encode(u Use) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(u)
	return b.Bytes(), err
}

// isCut says whether the last line has no end: whoever wrote it was killed, or the disk was full. What came after it on the same line would be read by nobody.
func isCut(f *os.File, size int64) bool {
	var last [1]byte
	if size == 0 {
		return false
	}
	_, err := f.ReadAt(last[:], size-1)
	return err != nil || last[0] != '\n'
}

// putAside makes the file the older one if it is long. Others may have waited with it for the lock: by then the path leads to a new one, which stays.
func (l Log) putAside(of *unix.Stat_t) error {
	var now unix.Stat_t
	if of.Size <= most || unix.Lstat(l.Path, &now) != nil || now.Dev != of.Dev || now.Ino != of.Ino {
		return nil
	}
	return os.Rename(l.Path, l.Path+".1")
}

// Read returns the lines, the oldest first. A line that was cut by a kill is left out.
func (l Log) Read() (list []Use, err error) {
	for _, path := range []string{l.Path + ".1", l.Path} {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		s := bufio.NewScanner(f)
		s.Buffer(nil, most)
		for s.Scan() {
			var u Use
			if json.Unmarshal(s.Bytes(), &u) == nil && u.Entry != "" {
				list = append(list, u)
			}
		}
		err = s.Err()
		f.Close()
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}
