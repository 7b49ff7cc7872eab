package workspace

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// ApplyOptions says what may reach the host.
type ApplyOptions struct {
	Paths     []string          // these and what lies beneath them; everything if empty
	Consent   map[string]string // protected changes: the Digest that was shown, by path
	Built     bool              // what the project's gitignore covers, too
	Overwrite []string          // conflicts in which the layer's side wins: these and what lies beneath them
	DryRun    bool              // decide, and do nothing
	Running   bool              // the sandbox runs: refused in this version
	MaxFile   int64             // as in ChangeOptions
}

// Status is what became of a change.
type Status string

const (
	Applied Status = "applied"
	Planned Status = "planned" // a dry run would apply it
	Held    Status = "held"    // it needs a word that was not given, or cannot cross at all
	Failed  Status = "failed"  // it was tried, or would have been
)

// Outcome says what became of one change, and why.
type Outcome struct {
	Change
	Status Status `json:"status"`
	Why    string `json:"why,omitempty"`
}

// Apply carries changes from the layer to the project and then takes them out of the layer. Every file appears on the host in one step, complete and
// durable before the layer gives up its own, so that a crash or a power cut at any point loses nothing: Apply again, and it goes on.
//
// Nothing is written outside of the project or through a symbolic link, whatever the layer or the project holds. What crosses are names, content,
// permission bits and link targets; new files belong to the project's owner if root applies. Times are those of the applying, so that builds
// notice. An access control list or attribute of a file that is replaced is lost with it.
//
// Not guaranteed: between the last look at a host file and its replacement lie microseconds in which another program's save would be overwritten.
//
// The error says why applying stopped early (a full disk, a cancelled context); the outcomes are complete all the same.
func (l *Layer) Apply(ctx context.Context, o ApplyOptions) ([]Outcome, error) {
	if o.Running {
		return nil, errRunning
	}
	if !o.DryRun {
		if err := l.lock(); err != nil {
			return nil, err
		}
		defer l.unlock()
	}
	r, err := l.review(ctx, ChangeOptions{Paths: o.Paths, Built: o.Built, MaxFile: o.MaxFile})
	if err == nil {
		err = checkPaths(o.Overwrite)
	}
	if err != nil {
		return nil, err
	}
	a := newApplication(l, r, o)
	if o.DryRun {
		return a.outcomes, nil
	}
	defer a.close()
	err = a.run(ctx)
	if err != nil {
		a.failRest(err)
	}
	return a.outcomes, errors.Join(err, a.settle(r.same))
}

func (l *Layer) lock() error {
	err := unix.Flock(l.top.fd, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("layer %q is being applied or discarded by another process", l.Dir)
	}
	if err != nil {
		return fmt.Errorf("lock layer %q: %w", l.Dir, err)
	}
	return nil
}

func (l *Layer) unlock() { unix.Flock(l.top.fd, unix.LOCK_UN) }

// application is one Apply.
type application struct {
	l        *Layer
	o        ApplyOptions
	outcomes []Outcome
	at       map[string]int // outcome by path
	owner    node           // of the project
	others   map[uint64]int // a descriptor on each other file system that was written to
	journal  *journal
	late     []lateMode
	few      bool // so few changes that they are synced one by one
}

func newApplication(l *Layer, r *review, o ApplyOptions) *application {
	a := &application{l: l, o: o, at: map[string]int{}, others: map[uint64]int{}}
	d := decider{o, newPathSet(o.Paths), newPathSet(o.Overwrite)}
	whys := make([]string, len(r.changes))
	for i := range r.changes {
		whys[i] = d.held(&r.changes[i])
	}
	empty := onlyHeld(r.changes, whys)
	for i, c := range r.changes {
		if empty[c.Path] {
			continue
		}
		a.at[c.Path] = len(a.outcomes)
		out := Outcome{Change: c, Status: Planned, Why: whys[i]}
		if out.Why != "" {
			out.Status = Held
		}
		a.outcomes = append(a.outcomes, out)
	}
	return a
}

// onlyHeld finds the new directories that hold nothing but protected changes without consent: made on the host they would be empty stubs.
func onlyHeld(changes []Change, whys []string) map[string]bool {
	leads, others := map[string]bool{}, map[string]bool{}
	for i := range changes {
		c := &changes[i]
		if whys[i] != "" && c.Class == ClassProtected {
			markAbove(leads, c.Path)
		} else if !c.directory() {
			markAbove(others, c.Path)
		}
	}
	empty := map[string]bool{}
	for i := range changes {
		if c := &changes[i]; c.directory() && c.Kind == Added && leads[c.Path] && !others[c.Path] {
			empty[c.Path] = true
		}
	}
	return empty
}

// decider decides what may cross. It is all of the policy of Apply.
type decider struct {
	o         ApplyOptions
	paths     pathSet
	overwrite pathSet
}

// held says what a change lacks, or "".
func (d decider) held(c *Change) string {
	switch {
	case c.Refused != "":
		return c.Refused
	case c.Built && !d.o.Built:
		return "built files stay inside unless asked for"
	case c.Conflict != "" && (len(d.o.Overwrite) == 0 || !d.overwrite.has(c.Path)):
		return "conflict: " + c.Conflict
	case c.ByName != "" && !d.paths.names(c.Path):
		return c.ByName + ": name it to apply it"
	case c.Protected == "":
		return ""
	}
	switch shown, ok := d.o.Consent[c.Path]; {
	case !ok:
		return "it would run on your machine: " + c.Protected
	case shown != c.Digest || c.Digest == "":
		return "it is not what was shown: look at it again"
	}
	return ""
}

func (a *application) close() {
	for _, fd := range a.others {
		unix.Close(fd)
	}
}

// run applies what is planned, in an order in which no step needs a later one: what appears or changes, parents first; then what goes, children
// first; then what takes the place of a directory.
func (a *application) run(ctx context.Context) (err error) {
	if a.owner, err = statFd(a.l.project.fd); err != nil {
		return err
	}
	interrupted, err := a.l.removeTemporaries()
	if err != nil {
		return err
	}
	if a.journal, err = newJournal(a.l.top); err != nil {
		return err
	}
	var appear, vanish, replace []int
	for i := range a.outcomes {
		switch c := &a.outcomes[i]; {
		case c.Status != Planned:
		case c.Kind == Deleted:
			vanish = append(vanish, i)
		case c.Kind == TypeChanged && c.Old.Type == Dir:
			replace = append(replace, i)
		default:
			appear = append(appear, i)
		}
	}
	slices.Reverse(vanish)
	a.few = !interrupted && len(appear)+len(vanish)+len(replace) <= fewChanges
	if err := a.place(ctx, appear); err != nil {
		return err
	}
	for _, i := range vanish {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := a.finish(i, a.remove(&a.outcomes[i].Change)); err != nil {
			return err
		}
	}
	if err := a.place(ctx, replace); err != nil {
		return err
	}
	return a.lateModes()
}

// finish records how a change went. It returns an error only if the rest cannot go better.
func (a *application) finish(i int, err error) error {
	out := &a.outcomes[i]
	if err == nil {
		out.Status = Applied
		return nil
	}
	out.Status, out.Why = Failed, reasonFor(err)
	var h held
	if errors.As(err, &h) {
		out.Status = Held
	}
	if hopeless(err) {
		return fmt.Errorf("apply %s: %w", Quote(out.Path), err)
	}
	return nil
}

// held is a reason not to do something that appeared while doing it.
type held string

func (h held) Error() string { return string(h) }

const errChanged = held("conflict: the host changed it just now")

func hopeless(err error) bool {
	for _, e := range []error{unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EIO, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func reasonFor(err error) string {
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

// failRest marks what was not reached.
func (a *application) failRest(err error) {
	for i := range a.outcomes {
		if out := &a.outcomes[i]; out.Status == Planned {
			out.Status, out.Why = Failed, "not reached: "+reasonFor(err)
		}
	}
}
