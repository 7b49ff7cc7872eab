package workspace

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
)

// DiffOptions says how a diff is written.
type DiffOptions struct {
	Terminal bool // the writer is a terminal: everything from the layer is shown with Visible, and the output is not a patch any more
	Color    bool // with what follows from Terminal
}

const (
	maxText      = 5 << 20 // larger files are said to differ, not shown
	binaryProbe  = 8000    // git's own: a NUL in so many bytes makes a file binary
	contextLines = 3
)

// Diff writes the changes as git shows them. Unless it goes to a terminal, the output is a patch that git-apply takes, as long as no file in it
// is binary or larger than 5 MiB (then git refuses all of it, and says so). What a patch cannot say stands in lines that begin with #.
func (l *Layer) Diff(ctx context.Context, w io.Writer, changes []Change, o DiffOptions) error {
	p := &patchWriter{Writer: bufio.NewWriter(w), o: o}
	alone := directoriesAlone(changes)
	for i := range changes {
		if err := ctx.Err(); err != nil {
			return err
		}
		c := &changes[i]
		if c.directory() && !alone[c.Path] && c.Class == ClassChanged {
			continue
		}
		p.remarks(c)
		if c.Refused == "" && !c.summarised() && !c.directory() {
			l.patch(p, c)
		}
	}
	return p.Flush()
}

// directoriesAlone finds the directories that no other change implies.
func directoriesAlone(changes []Change) map[string]bool {
	led := map[string]bool{}
	for i := range changes {
		markAbove(led, changes[i].Path)
	}
	alone := map[string]bool{}
	for i := range changes {
		if c := &changes[i]; c.directory() && (!led[c.Path] || c.Kind == ModeChanged) {
			alone[c.Path] = true
		}
	}
	return alone
}

// patch writes one change; another type is a deletion and an addition, as it is to git.
func (l *Layer) patch(p *patchWriter, c *Change) {
	before, after, why := l.contents(c)
	if why != "" {
		p.remark(c.Path, "it cannot be read: "+why)
		return
	}
	p.sides(c, before, after)
}

func (p *patchWriter) sides(c *Change, before, after *text) {
	was, is := c.Old, c.New
	if was.Type == Dir {
		was = State{}
	}
	if is.Type == Dir {
		is = State{}
	}
	if was.Type != Absent && is.Type != Absent && was.Type != is.Type {
		p.file(c.Path, was, State{}, before, nil)
		p.file(c.Path, State{}, is, nil, after)
		return
	}
	p.file(c.Path, was, is, before, after)
}

// text is one side of a file as far as it is shown.
type text struct {
	data   []byte
	size   int64
	opaque bool // binary, or too large
}

// contents reads both sides of a change. A link's content is its target, as it is to git.
func (l *Layer) contents(c *Change) (before, after *text, why string) {
	before, err := readText(l.project, c.Path, c.host)
	if err == nil {
		after, err = readText(l.inside, c.Path, c.in)
	}
	if err != nil {
		return nil, nil, err.Error()
	}
	if c.Merged != "" {
		after = &text{data: c.union, size: int64(len(c.union))}
	}
	return before, after, ""
}

func readText(side *rooted, rel string, n node) (*text, error) {
	switch {
	case n.Type == Symlink:
		return &text{data: []byte(n.Link), size: int64(len(n.Link))}, nil
	case n.Type != File:
		return &text{}, nil
	case n.Size > maxText:
		return &text{size: n.Size, opaque: true}, nil
	}
	f, err := side.openFile(rel, n)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, n.Size)
	k, err := io.ReadFull(f, data)
	if err != nil && !ended(err) {
		return nil, err
	}
	data = data[:k]
	return &text{data, int64(k), bytes.IndexByte(data[:min(k, binaryProbe)], 0) >= 0}, nil
}

// Count fills in how many lines each change adds and takes away.
func (l *Layer) Count(ctx context.Context, changes []Change) error {
	for i := range changes {
		if err := ctx.Err(); err != nil {
			return err
		}
		c := &changes[i]
		if c.Refused != "" || c.summarised() || c.directory() || c.Kind == ModeChanged {
			continue
		}
		before, after, why := l.contents(c)
		if why != "" || before.opaque || after.opaque {
			c.Binary = true
			continue
		}
		c.Insertions, c.Deletions = countLines(string(before.data), string(after.data))
	}
	return nil
}

func countLines(before, after string) (insertions, deletions int) {
	if before == "" || after == "" {
		return len(splitLines(after)), len(splitLines(before))
	}
	for _, d := range diffLines(splitLines(before), splitLines(after)) {
		insertions += d.ReplEnd - d.ReplStart
		deletions += d.End - d.Start
	}
	return insertions, deletions
}

// splitLines keeps the newlines.
func splitLines(s string) []string {
	lines := make([]string, 0, strings.Count(s, "\n")+1)
	for line := range strings.Lines(s) {
		lines = append(lines, line)
	}
	return lines
}

// remarks writes what git has no words for.
func (p *patchWriter) remarks(c *Change) {
	switch {
	case c.Refused != "" && c.summarised():
		p.remark(c.Path, fmt.Sprintf("%s (%s)", c.Refused, plural(c.Count, "file")))
	case c.Refused != "":
		p.remark(c.Path, "refused: "+c.Refused)
	case c.summarised():
		p.remark(c.Path+"/", fmt.Sprintf("%s, %s", staysInside(c.Count), humanBytes(c.Bytes)))
	case c.Kind == ModeChanged && gitMode(c.Old) == gitMode(c.New), c.directory() && c.Kind == ModeChanged:
		p.remark(c.Path, fmt.Sprintf("mode %04o becomes %04o", c.Old.Mode, c.New.perm()))
	case c.directory():
		p.remark(c.Path+"/", string(c.Kind)+" directory")
	}
	for _, s := range []struct{ what, why string }{
		{"would run on your machine: ", c.Protected}, {"conflict: ", c.Conflict}, {"merged with your own change: ", c.Merged}, {"applied only by name: ", c.ByName},
	} {
		if s.why != "" {
			p.remark(c.Path, s.what+s.why)
		}
	}
	for _, s := range c.Marks {
		p.remark(c.Path, "a build would run it: "+s)
	}
	for _, s := range c.Notes {
		p.remark(c.Path, s)
	}
}
