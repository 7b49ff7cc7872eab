// Package uses is the record of who was given a secret, or refused it: one line for each time, never with the value.
package uses

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
	Times   int       `json:"times,omitempty"`   // how many refusals the line stands for, the last of which it shows; 0 is one
}

// MaxPath is how much of a path is kept.
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
	if len(u.Path) > MaxPath {
		u.Path = u.Path[:MaxPath]
	}
	line, err := json.Marshal(u)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(l.Path), 0o700); err != nil {
		return err
	}
	fd, err := unix.Open(l.Path, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return &fs.PathError{Op: "open", Path: l.Path, Err: err}
	}
	f := os.NewFile(uintptr(fd), l.Path)
	defer f.Close()
	if err := unix.Flock(fd, unix.LOCK_EX); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o022 != 0 {
		return fmt.Errorf("%q is no file that you alone can write", l.Path)
	}
	if _, err := f.Write(append(line, '\n')); err != nil { // one that was renamed meanwhile takes the line too
		return err
	}
	if st.Size > most {
		return os.Rename(l.Path, l.Path+".1")
	}
	return nil
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
