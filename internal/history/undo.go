package history

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"casemate.dev/internal/beneath"
	"golang.org/x/sys/unix"
)

// UndoOptions says what to bring back.
type UndoOptions struct {
	Number int      // of the entry; 0 is the newest one that changed something and was not undone
	Paths  []string // these and what lies beneath them; everything if empty
	Force  bool     // also what the host changed since: that is kept in turn
	DryRun bool
}

// Status is what became of a path.
type Status string

const (
	Undone   Status = "undone"
	Planned  Status = "planned"  // a dry run would undo it
	Already  Status = "already"  // the host has what was there before
	Conflict Status = "conflict" // the host moved on since
	Failed   Status = "failed"
)

// Outcome says what became of one path, and why.
type Outcome struct {
	Path   string `json:"path"`
	Raw    []byte `json:"path_bytes,omitempty"` // where the path is not UTF-8
	Status Status `json:"status"`
	To     Type   `json:"to"` // what is there after it: nothing, a file, ...
	Why    string `json:"why,omitempty"`

	step *Step
}

// ErrNothing says that there is nothing to undo.
var ErrNothing = errors.New("there is nothing to undo")

// Newest returns the newest entry of an apply or of a live workspace that was not undone, or ErrNothing.
func (h *Log) Newest() (*Past, error) {
	list, err := h.List()
	undone := map[int]bool{}
	for _, p := range list { // newest first: an undo that was undone itself comes after what undid it
		switch {
		case undone[p.Number]:
		case p.What == Undo && p.Complete:
			undone[p.Of] = true
		case p.What != Undo && p.What != Ours && len(p.Changed()) > 0:
			return p, nil
		}
	}
	return nil, errors.Join(ErrNothing, err)
}

// Undo brings back what was there before an entry: content, mode, time, links, directories. Where the host moved on since, it refuses for that
// path, unless forced. What it does is an entry as well, and can be undone. Cut short, it is finished by another Undo.
func (h *Log) Undo(ctx context.Context, o UndoOptions) (*Past, []Outcome, error) {
	var err error
	if !o.DryRun {
		if err = h.Lock(); err != nil {
			return nil, nil, err
		}
		defer h.Unlock()
		if err = h.Recover(); err != nil {
			return nil, nil, err
		}
	}
	var p *Past
	if o.Number == 0 {
		p, err = h.Newest()
	} else {
		p, err = readEntry(h.Dir, o.Number)
	}
	if err != nil {
		return nil, nil, err
	}
	u := &undoing{h: h, p: p, o: o}
	outcomes := u.decide()
	if o.DryRun {
		return p, outcomes, nil
	}
	return p, outcomes, u.carry(ctx, outcomes)
}

type undoing struct {
	h       *Log
	p       *Past
	o       UndoOptions
	skipped bool // paths that were not asked for
}

// decide looks at every path of the entry.
func (u *undoing) decide() []Outcome {
	var outcomes []Outcome
	for _, rel := range u.p.Changed() {
		if !u.asked(rel) {
			u.skipped = true
			continue
		}
		q := u.p.Paths[rel]
		out := Outcome{Path: rel, To: q.Before.Type}
		if strings.ToValidUTF8(rel, "") != rel {
			out.Raw = []byte(rel)
		}
		u.judge(&out, q)
		outcomes = append(outcomes, out)
	}
	return outcomes
}

func (u *undoing) asked(rel string) bool {
	if len(u.o.Paths) == 0 {
		return true
	}
	for _, p := range u.o.Paths {
		if rel == p || strings.HasPrefix(rel, p+"/") {
			return true
		}
	}
	return false
}

// judge compares what the host has with what the entry left there.
func (u *undoing) judge(out *Outcome, q *Path) {
	now, open, err := u.h.look(out.Path)
	switch {
	case err != nil:
		out.Status, out.Why = Failed, err.Error()
		return
	case q.Before.holds(now, open) && u.sameTime(q.Before, now):
		out.Status = Already
		return
	case now.Type == Other && !replacedBy(q, now) || q.Before.Type == Other:
		out.Status, out.Why = Failed, "it is no file, directory or link"
		return
	case !u.left(q, now, open) && !u.o.Force:
		out.Status, out.Why = Conflict, moreThan(q.After, now)
		return
	}
	out.Status = Planned
	out.step = &Step{Path: out.Path, Seen: now, Want: *q.Before, Exact: true, Unkept: now.Type == Other}
	if q.Before.Type == File {
		out.step.Fill = u.fill(q.Before)
		out.step.ModeOnly = q.Before.Object == 0 && q.Before.Content == ""
	}
}

// sameTime reports whether there is nothing to bring back: of a file and of a link the time counts, of a directory what is in it makes it.
func (u *undoing) sameTime(before *State, now State) bool {
	return before.Type == Dir || before.Type == Absent || before.Mtime == now.Mtime
}

// replacedBy reports whether a device, fifo or socket is the one that the entry found in the place of what was there: a live run made it.
func replacedBy(q *Path, now State) bool {
	return q.Before.Type != Absent && q.After.Type == Other && q.After.Dev == now.Dev && q.After.Ino == now.Ino
}

// left reports whether the host still has what the entry left. A directory that it made is known by being one.
func (u *undoing) left(q *Path, now State, open func() (*os.File, error)) bool {
	if q.After.Type == Dir && now.Type == Dir && q.Before.Type != Dir {
		return true
	}
	return q.After.holds(now, open)
}

func moreThan(after *State, now State) string {
	switch {
	case now.Type == Absent:
		return "the host deleted it since"
	case after.Type == Absent:
		return "the host created it since"
	case after.Type != now.Type:
		return fmt.Sprintf("on the host it is a %s now", now.Type)
	}
	return "the host changed it since"
}

// look describes a path of the project, and says how to open it.
func (h *Log) look(rel string) (State, func() (*os.File, error), error) {
	parent, err := beneath.Parent(h.project, rel)
	if beneath.Absent(err) {
		return State{}, nil, nil
	}
	if err != nil {
		return State{}, nil, err
	}
	defer unix.Close(parent)
	now, err := statAt(parent, path.Base(rel))
	return now, func() (*os.File, error) {
		parent, err := beneath.Parent(h.project, rel)
		if err != nil {
			return nil, err
		}
		defer unix.Close(parent)
		return openSame(parent, path.Base(rel), now)
	}, err
}

// fill copies the kept content. An object of another size is damaged, and never put in the place of anything.
func (u *undoing) fill(before *State) func(*os.File) error {
	return func(out *os.File) error {
		name := filepath.Join(u.p.dir, "objects", cmp.Or(before.Content, strconv.Itoa(before.Object)))
		in, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("what was kept of it cannot be read: %w", err)
		}
		defer in.Close()
		st, err := statFd(int(in.Fd()))
		if err != nil || st.Type != File || st.Size != before.Size {
			return errors.Join(err, fmt.Errorf("what was kept of it in %q is damaged: %d bytes, and it had %d", name, st.Size, before.Size))
		}
		return beneath.Copy(out, in, before.Size)
	}
}

func (u *undoing) carry(ctx context.Context, outcomes []Outcome) error {
	var steps []*Step
	for i := range outcomes {
		if outcomes[i].step != nil {
			steps = append(steps, outcomes[i].step)
		}
	}
	if len(steps) == 0 {
		return nil
	}
	e, err := u.h.Begin(Undo, u.p.Sandbox, u.p.Number)
	if err != nil {
		return err
	}
	err = e.Carry(ctx, steps)
	complete := err == nil && !u.skipped
	for i := range outcomes {
		out := &outcomes[i]
		switch {
		case out.step == nil:
		case out.step.Done:
			out.Status = Undone
		case out.step.Err != nil:
			out.Status, out.Why = Failed, Reason(out.step.Err)
			if errors.Is(out.step.Err, ErrMoved) {
				out.Status = Conflict
			}
			if errors.Is(out.step.Err, ErrNotEmpty) {
				out.Status, out.Why = Conflict, "the directory holds something else by now"
			}
		default:
			out.Status, out.Why = Failed, "not reached"
		}
		complete = complete && (out.Status == Undone || out.Status == Already)
	}
	u.restoreTimes(e)
	return errors.Join(err, e.end(complete))
}

// restoreTimes gives directories in which something was changed, and is not any more, the time they had, unless the host changed them too.
func (u *undoing) restoreTimes(e *Entry) {
	for rel, q := range u.p.Paths {
		was, touched := e.parents[rel] // by this undo: what it was just before
		if !q.Parent || q.Before == nil || q.After == nil || !touched || was.Mtime != q.After.Mtime {
			continue
		}
		fd, err := beneath.Open(u.h.project, rel, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
		if err != nil {
			continue
		}
		_ = setTime(fd, ".", q.Before.Mtime)
		unix.Close(fd)
		_ = e.afterParent(rel)
	}
}
