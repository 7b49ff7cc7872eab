package store

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Row is one thing that takes room: a sandbox that runs or whose changes are kept, or a home.
type Row struct {
	ID       string    `json:"id"`
	State    string    `json:"state"` // running, kept, snapshot or home
	Size     int64     `json:"size"`  // bytes on disk
	Since    time.Time `json:"since"` // of the start, or of the last use
	Project  string    `json:"project,omitempty"`
	Command  []string  `json:"command,omitempty"`
	Mode     string    `json:"mode,omitempty"`
	Exit     int       `json:"exit"`
	Reason   string    `json:"reason,omitempty"`
	Origin   string    `json:"origin,omitempty"`   // the sandbox that it was forked from
	PID      int       `json:"pid,omitempty"`      // of the supervisor, while it runs
	Name     string    `json:"name,omitempty"`     // while it runs: by which others reach it
	Internal []string  `json:"internal,omitempty"` // while it runs: the private networks that it is on
	Ports    []string  `json:"ports,omitempty"`    // HOST:INSIDE, while it runs: ports of the host's loopback, and those inside that are behind them
	Policy   string    `json:"policy,omitempty"`   // while it runs: what of the policy files does not hold in it, as they changed
}

// Usage lists what runs, and with all what is kept.
func (s *Store) Usage(all bool) ([]Row, error) {
	list, err := s.List()
	if err != nil {
		return nil, err
	}
	rows := []Row{}
	for _, b := range list {
		if !b.Running && !all {
			continue
		}
		r := Row{ID: b.Record.ID, State: "kept", Size: Size(b.Dir), Since: b.Record.Started, Project: b.Record.Project, Command: b.Record.Command, Mode: b.Record.Mode, Exit: b.Record.Exit, Reason: b.Record.Reason, Origin: b.Record.Origin}
		if b.Record.Snapshot {
			r.State = "snapshot"
		}
		if b.Record.Forked.After(r.Since) {
			r.Since = b.Record.Forked
		}
		if r.Since.IsZero() { // there is no record of it that can be read
			r.Since = changed(b.Dir)
		}
		if b.Running {
			r.State, r.PID, r.Ports = "running", b.Record.PID, b.Record.Ports
			r.Name, r.Internal, r.Policy = b.Record.Name, b.Record.Internal, b.Record.Policy
		}
		rows = append(rows, r)
	}
	if !all {
		return rows, nil
	}
	homes, err := s.homes()
	if err != nil {
		return nil, err
	}
	for _, h := range homes {
		dir := filepath.Dir(h)
		project, _ := os.ReadFile(filepath.Join(dir, "project"))
		rows = append(rows, Row{ID: homeID(h), State: "home", Size: Size(h), Project: string(project), Since: changed(h)})
	}
	return rows, nil
}

func changed(dir string) (t time.Time) {
	if st, err := os.Stat(dir); err == nil {
		t = st.ModTime()
	}
	return t
}

func (s *Store) homes() ([]string, error) {
	return filepath.Glob(filepath.Join(s.Root, "projects", "*", "home*"))
}

// Home is one home that sandboxes of a project have.
type Home struct {
	ID      string // as Usage lists it
	Dir     string
	Project string
}

// Homes lists them all.
func (s *Store) Homes() ([]Home, error) {
	dirs, err := s.homes()
	list := make([]Home, len(dirs))
	for i, dir := range dirs {
		project, _ := Read(filepath.Join(filepath.Dir(dir), "project"), unix.PathMax)
		list[i] = Home{homeID(dir), dir, string(project)}
	}
	return list, err
}

// homeID is what Usage calls a home: for its project, of which root's sandboxes have one for each user.
func homeID(home string) string {
	return filepath.Base(filepath.Dir(home))[:8] + strings.TrimPrefix(filepath.Base(home), "home")
}

// HomeNamed returns the home that Usage lists under this id, or "".
func (s *Store) HomeNamed(id string) (string, error) {
	homes, err := s.homes()
	for _, h := range homes {
		if homeID(h) == id {
			return h, nil
		}
	}
	return "", err
}

// Size is what a tree takes on disk, as far as it can be read; links are not followed.
func Size(root string) int64 {
	var total int64
	filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		var st unix.Stat_t
		if unix.Lstat(path, &st) == nil {
			total += st.Blocks * 512
		}
		return nil
	})
	return total
}
