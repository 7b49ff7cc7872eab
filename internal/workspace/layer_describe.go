package workspace

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// describe makes a Change of what the walk found, with everything that stands between it and the host.
func (l *Layer) describe(o ChangeOptions, rel string, kind ChangeKind, q pair, a area, twin string) Change {
	c := Change{Path: rel, Kind: kind, Old: q.host.State, New: q.in.State, Conflict: q.moved, Built: a.ignored, in: q.in, host: q.host}
	if kind == ModeChanged && q.in.Type == Dir {
		c.Conflict = "" // nothing is lost by it, and an Apply that was cut short may have made the directory
	}
	if !utf8.ValidString(rel) {
		c.Raw = []byte(rel)
	}
	if c.sum = l.summary(o, rel, a); c.sum != nil {
		return c
	}
	if a.built == "" {
		c.Protected = a.reason
		if reason, ok := l.Protected(rel); ok {
			c.Protected = reason
		}
		c.Built = c.Built && c.Protected == ""
	}
	c.Refused = l.refusal(&c, o.MaxFile)
	if c.Refused == "" {
		c.ByName = l.caution(&c, twin)
		c.Notes = append(c.Notes, notes(q)...)
		l.bind(&c)
	}
	return c
}

// summary returns the directory that stands for rel, if one does.
func (l *Layer) summary(o ChangeOptions, rel string, a area) *Change {
	_, protected := l.Protected(rel)
	s := &Change{Kind: a.kind, Old: State{Type: Dir}, New: State{Type: Dir}, whole: true}
	switch {
	case a.kind == Added:
		s.Old = State{}
	case a.kind == Deleted:
		s.New = State{}
	}
	switch {
	case a.git != "" && path.Base(a.git) != ".git":
		s.Path, s.Refused = a.git, "other systems take its name for .git"
	case a.git != "" && a.kind == Added:
		s.Path, s.Protected, s.Refused = a.git, "git runs its hooks and obeys its config", "a git repository made inside stays inside"
	case a.git != "" && !protected:
		s.Path, s.Refused = a.git, "git's own files stay inside: casemate apply --commit takes the commits"
		if a.git != ".git" {
			s.Refused += " of the project's own repository only"
		}
	case a.git == "" && a.built != "" && !o.Built:
		s.Path, s.Built = a.built, true
	default:
		return nil
	}
	return s
}

// refusal says why a change cannot cross at all.
func (l *Layer) refusal(c *Change, maxFile int64) string {
	switch c.New.Type {
	case Device, Fifo, Socket:
		return fmt.Sprintf("a %s does not leave the sandbox", c.New.Type)
	case File:
		if c.New.Size > maxFile {
			return tooLarge(c.New.Size, maxFile)
		}
		return l.openRefusal(c)
	}
	return ""
}

func tooLarge(size, limit int64) string {
	return fmt.Sprintf("it is too large: %s, and the limit is %s", humanBytes(size), humanBytes(limit))
}

// openRefusal opens the file: what cannot be read cannot be applied, and what does not come along is noted.
func (l *Layer) openRefusal(c *Change) string {
	f, err := l.inside.openFile(c.Path, c.in)
	if errors.Is(err, unix.EACCES) {
		return fmt.Sprintf("it cannot be read: its mode is %04o", c.New.Mode)
	}
	if err != nil {
		return fmt.Sprintf("it cannot be read: %v", err)
	}
	defer f.Close()
	if !c.Built {
		c.Marks = l.marks(c.Path, f)
	}
	dropped, err := attributes(int(f.Fd()))
	if err != nil {
		return err.Error()
	}
	for _, name := range dropped {
		c.Notes = append(c.Notes, fmt.Sprintf("the extended attribute %s stays behind", Quote(name)))
	}
	return ""
}

// marks looks at the beginning of a file, too, for what a build would run.
func (l *Layer) marks(rel string, f *os.File) []string {
	why, ok := l.Marked(rel, nil)
	if !ok {
		head := l.buffer(0)
		n, _ := io.ReadFull(f, head)
		why, ok = l.Marked(rel, head[:n])
	}
	if !ok {
		return nil
	}
	return []string{why}
}

// caution says why a change crosses only if its own path is given.
func (l *Layer) caution(c *Change, twin string) string {
	switch {
	case c.Kind == Deleted:
		return ""
	case c.New.Type == Symlink && l.leaves(c.Path, c.New.Link):
		return "it points out of the project"
	case !printable(c.Path):
		return "its name holds bytes that a terminal must not see"
	case twin != "":
		return fmt.Sprintf("some systems take it for %s, which exists", Quote(twin))
	}
	return ""
}

func notes(q pair) (notes []string) {
	if q.in.Type == File && q.in.Mode&0o7000 != 0 {
		notes = append(notes, "its setuid, setgid or sticky bit stays behind")
	}
	if q.in.Type == File && q.in.nlink > 1 {
		notes = append(notes, "it has other names inside (hard links): each becomes a file of its own")
	}
	if q.host.Type == File && q.host.nlink > 1 && q.in.Type != Absent {
		notes = append(notes, "the host's file has other names (hard links), which keep what they have")
	}
	return notes
}

// differ compares two files of the same type by content. What cannot be read counts as different.
func (l *Layer) differ(rel string, in, host node, maxFile int64) bool {
	if in.Size != host.Size || in.Size > maxFile {
		return true
	}
	a, err := l.inside.openFile(rel, in)
	if err != nil {
		return true
	}
	defer a.Close()
	b, err := l.project.openFile(rel, host)
	if err != nil {
		return true
	}
	defer b.Close()
	return !sameContent(a, b, l.buffer(0), l.buffer(1))
}

// buffer lends one of two buffers until it is lent again.
func (l *Layer) buffer(i int) []byte {
	if l.buffers[i] == nil {
		l.buffers[i] = make([]byte, 64<<10)
	}
	return l.buffers[i]
}

func sameContent(a, b *os.File, x, y []byte) bool {
	for {
		n, errA := io.ReadFull(a, x)
		m, errB := io.ReadFull(b, y)
		if !bytes.Equal(x[:n], y[:m]) {
			return false
		}
		if errA != nil || errB != nil {
			return ended(errA) && ended(errB)
		}
	}
}

func ended(err error) bool { return err == io.EOF || err == io.ErrUnexpectedEOF }

// bind gives a protected change the digest that consent is bound to: of its path, and of all that would be on the host afterwards.
func (l *Layer) bind(c *Change) {
	if c.Protected == "" || c.Refused != "" || c.summarised() {
		return
	}
	if c.New.Size > maxProtectedFile {
		c.Refused = tooLarge(c.New.Size, maxProtectedFile)
		return
	}
	h := newDigest(c)
	if c.New.Type == File {
		f, err := l.inside.openFile(c.Path, c.in)
		if err == nil {
			_, err = io.Copy(h, io.LimitReader(f, maxProtectedFile+1))
			f.Close()
		}
		if err != nil {
			c.Refused = fmt.Sprintf("it cannot be read: %v", err)
			return
		}
	}
	c.Digest = sumOf(h)
}

// newDigest begins the digest of a change; of a file, its content follows.
func newDigest(c *Change) hash.Hash {
	h := sha256.New()
	fmt.Fprintf(h, "casemate change 1\x00%s\x00%s\x00%s\x00%o\x00%s\x00", c.Path, c.Kind, c.New.Type, c.New.perm(), c.New.Link)
	return h
}

func sumOf(h hash.Hash) string { return "sha256:" + hex.EncodeToString(h.Sum(nil)) }
