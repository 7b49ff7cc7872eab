package workspace

import (
	"io"
	"os"

	"casemate.dev/internal/history"
)

// partial is what was chosen of a change, if only a part of it was.
func (a *application) partial(c *Change) (Partial, bool) {
	p, ok := a.o.Partial[c.Path]
	return p, ok && c.Kind == Modified && c.Old.Type == File && c.New.Type == File
}

// partialStep carries a part of a change. The mode stays the host's, as does the layer its version.
func (a *application) partialStep(s *history.Step, c *Change, p Partial) {
	s.Want.Mode, s.Want.Size = c.host.perm(), int64(len(p.Content))
	s.Fill = func(out *os.File) error {
		host, err := a.l.project.openFile(c.Path, c.host)
		if err != nil {
			return err
		}
		defer host.Close()
		data, err := io.ReadAll(host)
		if err != nil {
			return err
		}
		if contentDigest(data) != p.Host {
			return history.ErrMoved
		}
		_, err = out.Write(p.Content)
		return err
	}
}

// notePartial records that what the host has now is from here, so that the rest of the change is no conflict with it.
func (a *application) notePartial() error {
	noted := false
	for i := range a.outcomes {
		out := &a.outcomes[i]
		if _, partial := a.partial(&out.Change); !partial || out.Status != Applied {
			continue
		}
		host, still, err := a.leftAt(out)
		if err != nil {
			return err
		}
		noted = true
		if a.l.Kind == CopyLayer {
			if !still {
				continue
			}
			e := a.l.base.entries[out.Path]
			e.State, e.mtime, e.ctime, e.ino = host.State, host.mtime, host.ctime, host.ino
			a.l.base.entries[out.Path] = e
			continue
		}
		a.l.noting()
		a.l.note(out.Path, host, still)
	}
	switch {
	case !noted:
		return nil
	case a.l.Kind == CopyLayer:
		return a.l.base.write(a.l.top)
	}
	return a.l.writeApplied()
}
