package history

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"casemate.dev/internal/beneath"
	"golang.org/x/sys/unix"
)

// What made an entry.
type What string

const (
	Apply What = "apply"
	Live  What = "live"
	Undo  What = "undo"
	Ours  What = "ours" // what a sandbox made where the host's side won; to undo it is to take the sandbox's
)

// head is the first line of a journal.
type head struct {
	Version int       `json:"casemate-history"`
	What    What      `json:"what"`
	Sandbox string    `json:"sandbox,omitempty"`
	Project string    `json:"project"`
	Of      int       `json:"of,omitempty"` // what an undo undoes
	Time    time.Time `json:"time"`
	Token   string    `json:"token"` // in the names of temporary files
}

// line is every other line: what a path was, what it became, or how the entry ended. A later line about a path adds to an earlier one.
type line struct {
	Path   bytes  `json:"path,omitempty"`
	Before *State `json:"before,omitempty"`
	After  *State `json:"after,omitempty"`
	Parent bool   `json:"parent,omitempty"` // only the time of a directory in which something was changed

	Skipped bool `json:"skipped,omitempty"` // in a live workspace: neither this nor what lies beneath is undone

	End      bool `json:"end,omitempty"`
	Complete bool `json:"complete,omitempty"` // an undo that left nothing undone
}

// Past is an entry as it is read back.
type Past struct {
	Number   int
	What     What
	Sandbox  string
	Of       int
	Time     time.Time
	Ended    bool // it came to its end; otherwise it was cut short, or goes on
	Complete bool
	Paths    map[string]*Path

	token string
	dir   string
}

// Path is what became of one path. Without After it was not changed, or, in an entry of a live workspace, nobody has looked since.
type Path struct {
	Before, After *State
	Parent        bool
	Skipped       bool
}

// Changed lists the paths that were changed, sorted.
func (p *Past) Changed() []string {
	var list []string
	for _, rel := range slices.Sorted(maps.Keys(p.Paths)) {
		if q := p.Paths[rel]; !q.Parent && q.Before != nil && q.After != nil {
			list = append(list, rel)
		}
	}
	return list
}

var errEmpty = errors.New("its journal is empty")

const (
	journalName = "journal"
	maxJournal  = 1 << 30
)

// readEntry reads an entry back. The journal is ours, but a disk or a person may have damaged it: what is read is checked before it is used.
// A last line that was not finished is what a crash leaves, and means that what it tells of was not begun.
func readEntry(dir string, number int) (*Past, error) {
	p := &Past{Number: number, dir: filepath.Join(dir, fmt.Sprint(number)), Paths: map[string]*Path{}}
	f, err := os.OpenFile(filepath.Join(p.dir, journalName), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if _, e := os.Lstat(p.dir); e == nil && errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("history entry %d is damaged: %w", number, errEmpty)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is no history entry %d: casemate undo --list shows them", number)
	}
	if err != nil {
		return nil, fmt.Errorf("history entry %d: %w", number, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxJournal))
	if err != nil {
		return nil, fmt.Errorf("history entry %d: %w", number, err)
	}
	if err := p.parse(string(data)); err != nil {
		return nil, fmt.Errorf("history entry %d is damaged: %w; what it keeps is in %q", number, err, p.dir)
	}
	return p, nil
}

func (p *Past) parse(data string) error {
	first := true
	for number := 1; ; number++ {
		text, rest, whole := strings.Cut(data, "\n")
		if !whole {
			break
		}
		data = rest
		var err error
		if first {
			err = p.parseHead(text)
			first = false
		} else {
			err = p.parseLine(text)
		}
		if err != nil {
			return fmt.Errorf("line %d of its journal: %w", number, err)
		}
	}
	if first {
		return errEmpty
	}
	return nil
}

func (p *Past) parseHead(text string) error {
	var h head
	if err := json.Unmarshal([]byte(text), &h); err != nil {
		return err
	}
	if h.Version != 1 {
		return fmt.Errorf("it is of version %d, and this casemate knows version 1", h.Version)
	}
	if len(h.Token) != tokenLength || strings.Trim(h.Token, "0123456789abcdef") != "" {
		return fmt.Errorf("%q is no token", h.Token)
	}
	p.What, p.Sandbox, p.Of, p.Time, p.token = h.What, h.Sandbox, h.Of, h.Time, h.Token
	return nil
}

func (p *Past) parseLine(text string) error {
	var l line
	if err := json.Unmarshal([]byte(text), &l); err != nil {
		return err
	}
	if l.End {
		p.Ended, p.Complete = true, l.Complete
		return nil
	}
	rel := string(l.Path)
	if !beneath.Valid(rel) && !(rel == "" && l.Parent) {
		return fmt.Errorf("%q is no path in a project", rel)
	}
	for _, s := range []*State{l.Before, l.After} {
		if s != nil && !s.valid() {
			return fmt.Errorf("what it says of %q cannot be", rel)
		}
	}
	q := p.Paths[rel]
	if q == nil || q.Parent && !l.Parent {
		p.Paths[rel] = &Path{l.Before, l.After, l.Parent, l.Skipped}
		return nil
	}
	if l.Parent && !q.Parent {
		return nil // the whole directory is on record
	}
	if q.Before == nil {
		q.Before = l.Before
	}
	if l.After != nil {
		q.After = l.After
	}
	return nil
}

func (s *State) valid() bool {
	switch s.Type {
	case Absent, File, Dir, Other:
		return s.Mode <= 0o7777 && s.Size >= 0 && s.Object >= 0 && s.Link == "" && validContentName(s.Content)
	case Symlink:
		return s.Link != "" && len(s.Link) < unix.PathMax && strings.IndexByte(string(s.Link), 0) < 0
	}
	return false
}
