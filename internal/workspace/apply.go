package workspace

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"casemate.dev/internal/history"
	"golang.org/x/sys/unix"
)

// ApplyOptions says what may reach the host.
type ApplyOptions struct {
	Paths     []string           // these and what lies beneath them; everything if empty
	Consent   map[string]string  // protected changes: the Digest that was shown, by path
	Built     bool               // what the project's gitignore covers, too
	Overwrite []string           // conflicts in which the layer's side wins: these and what lies beneath them
	Ours      []string           // conflicts in which the host's side wins: the layer's leaves it, into the history
	Both      []string           // conflicts in which the layer's side is put beside the host's, under another name
	Partial   map[string]Partial // of these changes only a part; the layer keeps its version
	DryRun    bool               // decide, and do nothing
	Running   bool               // the layer is mounted: what is applied stays in it for now (Settle)
	Sandbox   string             // whose layer it is, for the history
	MaxFile   int64              // as in ChangeOptions
}

// Status is what became of a change.
type Status string

const (
	Applied Status = "applied"
	Merged  Status = "merged"  // applied, together with what the host changed
	Dropped Status = "dropped" // the host's side stays; the layer's is kept in the history
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

// Apply carries changes from the layer to the project and then takes them out of the layer. What the host had is kept in the project's history
// first, so that all of it can be undone. Every file appears on the host in one step, complete and durable before the layer gives up its own, so
// that a crash or a power cut at any point loses nothing: Apply again, and it goes on.
//
// Nothing is written outside of the project or through a symbolic link, whatever the layer or the project holds. What crosses are names, content,
// permission bits and link targets; new files belong to the project's owner if root applies. Times are those of the applying, so that builds
// notice. An access control list or attribute of a file that is replaced is lost with it, until it is undone.
//
// Not guaranteed: between the last look at a host file and its replacement lie microseconds in which another program's save would be overwritten.
//
// The error says why applying stopped early (a full disk, a cancelled context); the outcomes are complete all the same.
func (l *Layer) Apply(ctx context.Context, o ApplyOptions) ([]Outcome, error) {
	if !o.DryRun {
		if err := l.lock(); err != nil {
			return nil, err
		}
		defer l.unlock()
		if err := l.log.Lock(); err != nil {
			return nil, err
		}
		defer l.log.Unlock()
	}
	r, err := l.review(ctx, ChangeOptions{Paths: o.Paths, Built: o.Built, MaxFile: o.MaxFile})
	if err == nil {
		err = checkPaths(slices.Concat(o.Overwrite, o.Ours, o.Both))
	}
	if err != nil {
		return nil, err
	}
	a := newApplication(l, r, o)
	if o.DryRun {
		return a.outcomes, nil
	}
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
	steps    map[string]*history.Step
	sides    decider
	left     map[string]bool // conflicts of which the layer's side leaves it although the host has another
}

func newApplication(l *Layer, r *review, o ApplyOptions) *application {
	a := &application{l: l, o: o, at: map[string]int{}, steps: map[string]*history.Step{}, left: map[string]bool{}}
	d := newDecider(o)
	a.sides = d
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

// onlyHeld finds the new directories that hold nothing but protected changes without consent, and conflicts: made on the host they would be empty
// stubs.
func onlyHeld(changes []Change, whys []string) map[string]bool {
	leads, others := map[string]bool{}, map[string]bool{}
	for i := range changes {
		c := &changes[i]
		if whys[i] != "" && (c.Class == ClassProtected || c.Class == ClassConflict) {
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
	ours      pathSet
	both      pathSet
}

func newDecider(o ApplyOptions) decider {
	return decider{o, newPathSet(o.Paths), newPathSet(o.Overwrite), newPathSet(o.Ours), newPathSet(o.Both)}
}

// held says what a change lacks, or "".
func (d decider) held(c *Change) string {
	switch {
	case c.Refused != "":
		return c.Refused
	case c.Built && !d.o.Built:
		return "built files stay inside unless asked for"
	case c.Conflict != "" && d.side(c) == "":
		return "conflict: " + c.Conflict
	case c.Conflict != "" && d.side(c) != theirs && (c.directory() || d.o.Running):
		return "conflict: " + c.Conflict + ", and only files of a sandbox that does not run can be decided so"
	case c.Merged != "" && d.o.Running && d.side(c) != theirs:
		return "conflict: " + c.Merged + "; both changes fit together, and are merged when the run has ended"
	case c.ByName != "" && !d.paths.names(c.Path):
		return c.ByName + ": name it to apply it"
	case c.Protected == "":
		return ""
	}
	if d.o.Partial[c.Path].Consent {
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

// Whose side wins in a conflict.
const (
	theirs = "theirs"
	ours   = "ours"
	both   = "both"
)

// side says what was decided about a conflict, or "".
func (d decider) side(c *Change) string {
	switch {
	case len(d.o.Overwrite) > 0 && d.overwrite.has(c.Path):
		return theirs
	case c.Conflict == "":
		return ""
	case len(d.o.Ours) > 0 && d.ours.has(c.Path):
		return ours
	case len(d.o.Both) > 0 && d.both.has(c.Path):
		return both
	}
	return ""
}

// run carries what is planned to the host.
func (a *application) run(ctx context.Context) error {
	if err := a.decideSides(); err != nil {
		return err
	}
	var steps []*history.Step
	for i := range a.outcomes {
		if out := &a.outcomes[i]; out.Status == Planned && a.steps[out.Path] == nil {
			a.steps[out.Path] = a.step(&out.Change)
		}
	}
	for i := range a.outcomes {
		if out := &a.outcomes[i]; out.Status == Planned && out.Kind != Deleted {
			if err := a.parents(out.Path); err != nil {
				return err
			}
		}
	}
	for _, s := range a.steps {
		steps = append(steps, s)
	}
	if len(steps) == 0 {
		return nil
	}
	e, err := a.l.log.Begin(history.Apply, a.o.Sandbox, 0)
	if err != nil {
		return err
	}
	err = errors.Join(e.Carry(ctx, steps), e.End())
	for i := range a.outcomes {
		out := &a.outcomes[i]
		out.went(a.steps[out.Path])
		if p, partial := a.partial(&out.Change); partial && out.Status == Applied {
			out.Why = p.What
		}
		if out.Status == Applied && out.Merged != "" && a.sides.side(&out.Change) != theirs {
			out.Status = Merged
		}
	}
	return err
}

// went says how a step went.
func (out *Outcome) went(s *history.Step) {
	var h held
	switch {
	case s == nil || out.Status != Planned:
	case s.Done:
		out.Status = Applied
	case s.Err == nil: // not reached
	case errors.Is(s.Err, history.ErrMoved):
		out.Status, out.Why = Held, "conflict: "+history.ErrMoved.Error()
	case errors.Is(s.Err, history.ErrNotEmpty), errors.As(s.Err, &h):
		out.Status, out.Why = Held, s.Err.Error()
	default:
		out.Status, out.Why = Failed, history.Reason(s.Err)
	}
}

// held is a reason not to do something that appeared while doing it.
type held string

func (h held) Error() string { return string(h) }

// failRest marks what was not reached.
func (a *application) failRest(err error) {
	for i := range a.outcomes {
		if out := &a.outcomes[i]; out.Status == Planned {
			out.Status, out.Why = Failed, "not reached: "+history.Reason(err)
		}
	}
}
