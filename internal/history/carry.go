package history

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"

	"casemate.dev/internal/beneath"
	"golang.org/x/sys/unix"
)

// Step brings one path of the project into a state.
type Step struct {
	Path string
	Seen State // what was there when it was decided; if that is not so any more, nothing is done (ErrMoved)
	Want State // Absent removes it

	ModeOnly bool                 // only the permission bits change; Want says the rest as Seen does
	Unkept   bool                 // what is there is no file, directory or link, and goes all the same: it cannot be kept
	Exact    bool                 // mode, time, owner and attributes as in Want; otherwise those of a new file, and setgid and sticky bits of directories stay
	Fill     func(*os.File) error // writes the content of a file

	Err  error // why it was not done
	Done bool
	Left *State // what is there right after it; nil of a directory, and where the host was quicker
}

// ErrMoved says that the host has changed a path since it was looked at.
var ErrMoved = errors.New("the host changed it just now")

// ErrNotEmpty says that a directory that was to go still holds something.
var ErrNotEmpty = errors.New("the host's directory still holds what was not applied")

// A batch is kept and staged, made durable, and then put into place.
const (
	batchFiles = 2048
	batchBytes = 64 << 20

	// fewSteps is up to how many steps are synced one by one with fsync(2). For more, syncfs(2) is quicker, though it waits for whatever else
	// the file system has to write.
	fewSteps = 16
)

// Carry takes the steps, and says in each how it went. For every path, what was there is kept and durable before it is changed, and a file appears
// in one step, complete and durable: after a crash at any point each is old or new, and what was done can be undone. When it returns without
// an error, all is durable.
//
// It goes in an order in which no step needs a later one: what appears or changes, parents first; then what goes, children first; then what takes
// the place of a directory. Nothing is written outside of the project or through a link.
//
// Not guaranteed: between the last look at a file and its replacement lie microseconds in which another program's save would be overwritten.
//
// The error says why it stopped early: a full disk, a cancelled context.
func (e *Entry) Carry(ctx context.Context, steps []*Step) error {
	var appear, vanish, replace []*Step
	for _, s := range steps {
		switch {
		case s.Want.Type == Absent:
			vanish = append(vanish, s)
		case s.Seen.Type == Dir && s.Want.Type != Dir:
			replace = append(replace, s)
		default:
			appear = append(appear, s)
		}
	}
	byPath := func(a, b *Step) int { return compare(a.Path, b.Path) }
	slices.SortFunc(appear, byPath)
	slices.SortFunc(vanish, byPath)
	slices.SortFunc(replace, byPath)
	slices.Reverse(vanish)
	e.few = len(steps) <= fewSteps
	c := &carrying{e: e}
	for _, todo := range [][]*Step{appear, vanish, replace} {
		if err := c.batches(ctx, todo); err != nil {
			return errors.Join(err, c.finish())
		}
	}
	return c.finish()
}

// compare orders parents before what lies in them, and by name.
func compare(a, b string) int {
	for i := 0; i < len(a) && i < len(b); i++ {
		if a[i] != b[i] {
			switch {
			case a[i] == '/':
				return -1
			case b[i] == '/':
				return 1
			}
			return int(a[i]) - int(b[i])
		}
	}
	return len(a) - len(b)
}

type carrying struct {
	e    *Entry
	late []*Step // directories that get their mode and time when everything is in them
	tmp  int     // number of the last temporary name
	done []*Step
}

func (c *carrying) batches(ctx context.Context, todo []*Step) error {
	for len(todo) > 0 {
		n, size := 0, int64(0)
		for n < len(todo) && n < batchFiles && (n == 0 || size < batchBytes) {
			size += max(todo[n].Want.Size, todo[n].Seen.Size)
			n++
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.batch(ctx, todo[:n]); err != nil {
			return err
		}
		todo = todo[n:]
	}
	return nil
}

// staged is a step whose result lies beside its destination.
type staged struct {
	*Step
	tmp   string
	state State // of what lies there
}

func (c *carrying) batch(ctx context.Context, todo []*Step) error {
	stop := c.keep(ctx, todo)
	c.e.h.step("kept")
	if err := c.announce(todo); err != nil {
		return err
	}
	c.e.h.step("announced")
	ready, err := c.stage(ctx, todo)
	if stop == nil {
		stop = err
	}
	c.e.h.step("staged")
	if err := c.sync(); err != nil {
		c.drop(ready)
		return err
	}
	for _, s := range ready {
		c.e.h.step("commit")
		err := c.commit(s)
		if err != nil {
			c.drop([]staged{s})
		}
		if err := c.went(s.Step, err); err != nil && stop == nil {
			stop = err
		}
	}
	return stop
}

// went records how a step went, and returns an error only if the rest cannot go better.
func (c *carrying) went(s *Step, err error) error {
	if err == nil {
		s.Done = true
		c.done = append(c.done, s)
		c.e.changed++
		return nil
	}
	s.Err = err
	if Hopeless(err) {
		return fmt.Errorf("%q: %w", s.Path, err)
	}
	return nil
}

// Hopeless reports an error that the next step would meet too.
func Hopeless(err error) bool {
	for _, e := range []error{unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EIO, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Reason says an error of a step in the words of the person whose disk it is.
func Reason(err error) string {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "it was interrupted"
	case errors.Is(err, unix.ENOSPC):
		return "the disk is full"
	case errors.Is(err, unix.EDQUOT):
		return "the disk quota is used up"
	case errors.Is(err, unix.EROFS):
		return "the file system is read-only"
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return "permission denied on the host"
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR):
		return "on the host, a directory above it is a link or a file"
	case errors.Is(err, unix.ENOENT):
		return "on the host, the directory it belongs in is not there"
	}
	return err.Error()
}

// keep keeps what is there at each path. Steps for which that fails are not taken.
func (c *carrying) keep(ctx context.Context, todo []*Step) error {
	for _, s := range todo {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := c.keepOne(s)
		if err == nil {
			continue
		}
		if err := c.went(s, err); err != nil {
			return err
		}
	}
	return nil
}

func (c *carrying) keepOne(s *Step) error {
	if !beneath.Valid(s.Path) {
		return fmt.Errorf("bug: %q is no path in a project", s.Path)
	}
	parent, err := beneath.Parent(c.e.h.project, s.Path)
	if beneath.Absent(err) && s.Seen.Type == Absent { // an earlier step of the batch makes it, or else staging says what is wrong
		return c.e.record(c.line(s, State{}))
	}
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	now, err := statAt(parent, path.Base(s.Path))
	if err != nil {
		return err
	}
	if !s.Seen.unmoved(now) {
		return moved(s, now)
	}
	if err := c.e.keepParent(parent, s.Path); err != nil {
		return err
	}
	if s.ModeOnly && now.Type == File || s.Unkept && now.Type == Other { // its content stays, or there is none
		return c.e.record(c.line(s, now))
	}
	if now, err = c.e.keepAt(parent, path.Base(s.Path), now); err != nil {
		if errors.Is(err, beneath.ErrReplaced) {
			err = ErrMoved
		}
		return err
	}
	if was, changed := c.e.parents[s.Path]; changed && now.Type == Dir {
		now.Mtime = was.Mtime // of before what was in it went
	}
	return c.e.record(c.line(s, now))
}

// line is what the journal says of a step before it is taken. What a file will be known by is added when it is written.
func (c *carrying) line(s *Step, now State) line {
	l := line{Path: bytes(s.Path), Before: &now}
	if s.Want.Type == Dir || s.Want.Type == Absent || s.ModeOnly {
		after := s.after(now)
		l.After = &after
	}
	return l
}

// moved is no error where the host already has the directory that is wanted.
func moved(s *Step, now State) error {
	if s.Want.Type == Dir && now.Type == Dir && s.Seen.Type == Absent && !s.Exact {
		s.Done = true
		return nil
	}
	return ErrMoved
}

// after is what a step that writes no content will leave.
func (s *Step) after(now State) State {
	if s.Want.Type == Absent {
		return State{}
	}
	a := State{Type: s.Want.Type, Mode: s.mode(now)}
	if now.Type == File {
		a.Size, a.Mtime, a.Ino, a.Dev = now.Size, now.Mtime, now.Ino, now.Dev
	}
	return a
}

// mode is the mode that the result gets.
func (s *Step) mode(now State) uint32 {
	if s.Exact {
		return s.Want.Mode
	}
	if s.Want.Type == Dir && now.Type == Dir {
		return s.Want.Mode&0o777 | now.Mode&0o7000
	}
	return s.Want.Mode & 0o777
}

// keepParent notes the time of a directory before the first change in it.
func (e *Entry) keepParent(fd int, rel string) error {
	dir := beneath.Dir(rel)
	if _, known := e.parents[dir]; known || e.kept[dir] {
		return nil
	}
	s, err := statFd(fd)
	if err != nil {
		return err
	}
	e.parents[dir] = s
	return e.record(line{Path: bytes(dir), Before: &s, Parent: true})
}

// announce writes down where temporary files will lie, and, if what follows changes the project at once, makes all that was kept durable.
func (c *carrying) announce(todo []*Step) error {
	for _, s := range todo {
		if s.Err == nil && !s.Done && (s.Want.Type == Dir || s.ModeOnly) {
			return c.e.Sync()
		}
	}
	return c.e.flush(true)
}

// sync makes durable what was kept and what was staged.
func (c *carrying) sync() error {
	if err := c.e.Sync(); err != nil {
		return err
	}
	c.e.h.step("synced")
	if c.e.few {
		return nil // each staged file was
	}
	own, err := statFd(c.e.dir)
	if err != nil {
		return err
	}
	if own.Dev == c.e.owner.Dev && len(c.e.others) == 0 {
		return nil // that was the same file system
	}
	return c.e.syncProject()
}

func (e *Entry) syncProject() error {
	err := unix.Syncfs(e.h.project)
	for _, fd := range e.others {
		err = errors.Join(err, unix.Syncfs(fd))
	}
	if err != nil {
		return fmt.Errorf("write the changes to disk: %w", err)
	}
	return nil
}

// finish gives directories their modes and times, and makes names, deletions and modes durable.
func (c *carrying) finish() error {
	var errs []error
	for _, s := range slices.Backward(c.late) {
		if err := c.finishDir(s); err != nil {
			s.Done, s.Err = false, err
		}
	}
	for dir := range c.e.parents {
		if err := c.e.afterParent(dir); err != nil {
			errs = append(errs, err)
		}
	}
	c.e.h.step("done")
	if err := c.e.flush(true); err != nil {
		errs = append(errs, err)
	}
	if !c.e.few || c.syncNames() != nil {
		errs = append(errs, c.e.syncProject())
	}
	return errors.Join(errs...)
}

func (e *Entry) afterParent(dir string) error {
	fd, err := beneath.Open(e.h.project, dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return nil // it went with what was in it
	}
	defer unix.Close(fd)
	now, err := statFd(fd)
	if err != nil {
		return err
	}
	return e.record(line{Path: bytes(dir), After: &now, Parent: true})
}

// syncNames syncs the directories that were changed, up to the project's root, and what got another mode.
func (c *carrying) syncNames() error {
	touched := map[string]bool{"": true}
	for _, s := range c.done {
		for dir := beneath.Dir(s.Path); dir != ""; dir = beneath.Dir(dir) {
			touched[dir] = true
		}
		if s.ModeOnly || s.Want.Type == Dir {
			touched[s.Path] = true
		}
	}
	for rel := range touched {
		fd, err := beneath.Open(c.e.h.project, rel, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY)
		if beneath.Absent(err) {
			continue // deleted with what was in it
		}
		if err != nil {
			return err
		}
		err = unix.Fsync(fd)
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}
