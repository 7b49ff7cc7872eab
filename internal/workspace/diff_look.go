package workspace

import (
	"bufio"
	"bytes"
	"slices"
)

// Listed leaves out what a person need not be shown one by one: directories that other changes imply.
func Listed(changes []Change) []Change {
	alone := directoriesAlone(changes)
	return slices.DeleteFunc(slices.Clone(changes), func(c Change) bool {
		return c.Class == ClassChanged && c.directory() && !c.summarised() && !alone[c.Path]
	})
}

// Summarised reports whether c stands for a whole directory, of built files or of git's own.
func (c *Change) Summarised() bool { return c.summarised() }

// Directory reports whether c is about a directory only, which git would not show.
func (c *Change) Directory() bool { return c.directory() }

// Look returns a change's diff as Diff writes it, and for a protected one the digest of the very bytes that the diff shows. A sandbox that still
// runs can so not show one thing and be given consent to another. What is too large to be shown has the digest it had.
func (l *Layer) Look(c *Change, o DiffOptions) (diff []byte, digest string, err error) {
	var b bytes.Buffer
	p := &patchWriter{Writer: bufio.NewWriter(&b), o: o}
	p.remarks(c)
	if c.Refused != "" || c.summarised() || c.directory() {
		return b.Bytes(), c.Digest, p.Flush()
	}
	before, after, why := l.contents(c)
	if why != "" {
		p.remark(c.Path, "it cannot be read: "+why)
		return b.Bytes(), "", p.Flush()
	}
	p.sides(c, before, after)
	digest = c.Digest
	if digest != "" && c.New.Type == File && int64(len(after.data)) == after.size {
		h := newDigest(c)
		h.Write(after.data)
		digest = sumOf(h)
	}
	if err := p.Flush(); err != nil {
		return nil, "", err
	}
	return b.Bytes(), digest, nil
}
