package workspace

import (
	"fmt"

	"casemate.dev/internal/history"
)

// decideSides takes the conflicts that a person decided otherwise than for the sandbox. For both, what the sandbox made is carried to a name beside
// the host's own; for the host's side, it goes into the history, from where undo brings it by its number. Either way it leaves the layer.
func (a *application) decideSides() error {
	var dropped []*Outcome
	for i := range a.outcomes {
		out := &a.outcomes[i]
		if out.Status != Planned {
			continue
		}
		switch side := a.sides.side(&out.Change); {
		case side != ours && side != both:
			continue
		case a.l.Kind == CopyLayer:
			out.Status, out.Why = Held, "conflict: "+out.Conflict+", and a copy cannot take the host's side: apply it, or discard the copy"
			continue
		case side == both && out.New.Type != Absent:
			if err := a.beside(out); err != nil {
				return err
			}
		default:
			dropped = append(dropped, out)
		}
		a.left[out.Path] = true
	}
	if len(dropped) == 0 {
		return nil
	}
	return a.drop(dropped)
}

// beside carries the sandbox's side to a free name.
func (a *application) beside(out *Outcome) error {
	s := a.step(&out.Change)
	for n := 1; ; n++ {
		s.Path = out.Path + ".sandbox"
		if n > 1 {
			s.Path = fmt.Sprintf("%s%d", s.Path, n)
		}
		host, err := a.l.project.stat(s.Path)
		if err != nil {
			return err
		}
		if _, taken := a.at[s.Path]; host.Type == Absent && !taken {
			break
		}
	}
	s.Seen, s.ModeOnly = history.State{}, false
	a.steps[out.Path] = s
	out.Why = "beside yours, as " + Quote(s.Path)
	return nil
}

// drop keeps the sandbox's side of conflicts in an entry of its own, which undo can carry to the host by its number.
func (a *application) drop(dropped []*Outcome) error {
	e, err := a.l.log.Begin(history.Ours, a.o.Sandbox, 0)
	if err != nil {
		return err
	}
	for _, out := range dropped {
		if err := a.dropOne(e, &out.Change); err != nil {
			return fmt.Errorf("keep the sandbox's side of %s: %w", Quote(out.Path), err)
		}
	}
	if err := e.Sync(); err != nil {
		return err
	}
	if err := e.End(); err != nil {
		return err
	}
	for _, out := range dropped {
		out.Status, out.Why = Dropped, fmt.Sprintf("the sandbox's side is kept: casemate undo %d brings it", e.Number)
	}
	return nil
}

func (a *application) dropOne(e *history.Entry, c *Change) error {
	want := a.step(c).Want
	want.Mtime = c.in.mtime
	if c.New.Type != File {
		return e.Aside(c.Path, want, nil)
	}
	f, err := a.l.inside.openFile(c.Path, c.in)
	if err != nil {
		return err
	}
	defer f.Close()
	want.UID, want.GID = int(c.host.uid), int(c.host.gid)
	return e.Aside(c.Path, want, f)
}
