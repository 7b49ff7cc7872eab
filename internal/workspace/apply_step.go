package workspace

import (
	"io"
	"os"

	"casemate.dev/internal/beneath"
	"casemate.dev/internal/history"
)

// step is how a change is carried to the host.
func (a *application) step(c *Change) *history.Step {
	s := &history.Step{
		Path: c.Path, Seen: c.host.seen(), ModeOnly: c.Kind == ModeChanged,
		Want: history.State{Type: history.Type(c.New.Type), Mode: c.New.perm()},
	}
	switch c.New.Type {
	case Absent:
		s.Want.Mode = 0
	case Symlink:
		s.Want = history.LinkTo(c.New.Link)
	case File:
		s.Want.Size = c.New.Size
		s.Fill = func(out *os.File) error { return a.fill(out, c) }
		if c.Merged != "" && a.sides.side(c) != theirs {
			s.Want.Size = int64(len(c.union))
			s.Fill = func(out *os.File) error { _, err := out.Write(c.union); return err }
		}
		if p, ok := a.partial(c); ok {
			a.partialStep(s, c, p)
		}
	}
	return s
}

// seen is what the history knows an entry by.
func (n node) seen() history.State {
	if n.Type == Symlink {
		s := history.LinkTo(n.Link)
		s.Mode, s.Size, s.Mtime, s.UID, s.GID, s.Dev, s.Ino = n.Mode, n.Size, n.mtime, int(n.uid), int(n.gid), n.dev, n.ino
		s.Ctime, s.Links = n.ctime, n.nlink
		return s
	}
	t := history.Type(n.Type)
	if n.Type == Device || n.Type == Fifo || n.Type == Socket {
		t = history.Other
	}
	return history.State{Type: t, Mode: n.Mode, Size: n.Size, Mtime: n.mtime, UID: int(n.uid), GID: int(n.gid), Dev: n.dev, Ino: n.ino, Ctime: n.ctime, Links: n.nlink}
}

// fill writes the content of the layer's file. Of a protected file, exactly the bytes that were consented to are written, or none stay.
func (a *application) fill(out *os.File, c *Change) error {
	in, err := a.l.inside.openFile(c.Path, c.in)
	if err != nil {
		return err
	}
	defer in.Close()
	if c.Protected == "" {
		return beneath.Copy(out, in, c.New.Size)
	}
	h := newDigest(c)
	if _, err := io.Copy(io.MultiWriter(out, h), io.LimitReader(in, c.New.Size+1)); err != nil {
		return err
	}
	if sumOf(h) != a.o.Consent[c.Path] {
		return held("it is not what was shown: look at it again")
	}
	return nil
}

// parents adds the directories that a change belongs in, if the layer made them and no change of their own is applied.
func (a *application) parents(rel string) error {
	for dir := parentOf(rel); dir != "" && a.steps[dir] == nil; dir = parentOf(dir) {
		host, err := a.l.project.stat(dir)
		if err != nil || host.Type != Absent || a.forbidden(dir) {
			return err
		}
		in, err := a.l.inside.stat(dir)
		if err != nil || in.Type != Dir {
			return err
		}
		a.steps[dir] = &history.Step{Path: dir, Want: history.State{Type: history.Dir, Mode: in.perm()}}
	}
	return nil
}

// forbidden reports a directory that must not be made for what is in it.
func (a *application) forbidden(dir string) bool {
	i, listed := a.at[dir]
	if !listed {
		return false
	}
	out := &a.outcomes[i]
	return out.Status == Held && (out.Refused != "" || out.ByName != "")
}
