package workspace

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/aymanbagabas/go-udiff/lcs"
)

// Hunks are the pieces of a change of text, each of which a person takes or leaves.
type Hunks struct {
	host, layer []string
	list        []hunk
	seen        string // digest of the host's content
}

type hunk struct {
	diffs  []lcs.Diff
	chosen bool
}

// Partial is what a part of a change makes of the host's file.
type Partial struct {
	Content []byte
	Host    string // the digest of what the host had when the parts were chosen; it must have it still
	Consent bool   // a protected change: the person said yes to exactly this
	What    string // in words, how much of it that is
}

// Hunks cuts a change into pieces, or returns nil if it is no change of a text.
func (l *Layer) Hunks(c *Change) *Hunks {
	if c.Kind != Modified || c.Old.Type != File || c.New.Type != File || c.Refused != "" || c.summarised() || c.Conflict != "" || c.Merged != "" {
		return nil
	}
	before, after, why := l.contents(c)
	if why != "" || before.opaque || after.opaque {
		return nil
	}
	h := &Hunks{host: splitLines(string(before.data)), layer: splitLines(string(after.data)), seen: contentDigest(before.data)}
	diffs := diffLines(h.host, h.layer)
	for len(diffs) > 0 {
		n := 1
		for n < len(diffs) && diffs[n].Start-diffs[n-1].End <= 2*contextLines {
			n++
		}
		h.list = append(h.list, hunk{diffs: diffs[:n]})
		diffs = diffs[n:]
	}
	return h
}

func contentDigest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Len is how many pieces there are.
func (h *Hunks) Len() int { return len(h.list) }

// Text is a piece as a diff shows it.
func (h *Hunks) Text(i int, o DiffOptions) string {
	var b bytes.Buffer
	p := &patchWriter{Writer: bufio.NewWriter(&b), o: o}
	p.hunk(h.host, h.layer, h.list[i].diffs)
	_ = p.Flush() // to memory
	return b.String()
}

// Split cuts a piece further, where unchanged lines lie in it, and reports whether there were any.
func (h *Hunks) Split(i int) bool {
	diffs := h.list[i].diffs
	if len(diffs) < 2 {
		return false
	}
	var parts []hunk
	for k := range diffs {
		parts = append(parts, hunk{diffs: diffs[k : k+1]})
	}
	h.list = slices.Replace(h.list, i, i+1, parts...)
	return true
}

// Choose takes a piece.
func (h *Hunks) Choose(i int) { h.list[i].chosen = true }

// Chosen counts the pieces that were taken.
func (h *Hunks) Chosen() (n int) {
	for i := range h.list {
		n += count(h.list[i].chosen)
	}
	return n
}

// Partial is the host's file with the pieces that were taken.
func (h *Hunks) Partial() Partial {
	var b strings.Builder
	at := 0
	for _, piece := range h.list {
		if !piece.chosen {
			continue
		}
		for _, d := range piece.diffs {
			writeLines(&b, h.host[at:d.Start])
			writeLines(&b, h.layer[d.ReplStart:d.ReplEnd])
			at = d.End
		}
	}
	writeLines(&b, h.host[at:])
	return Partial{Content: []byte(b.String()), Host: h.seen, What: plural(h.Chosen(), "hunk") + " of " + thousands(h.Len())}
}

func writeLines(b *strings.Builder, lines []string) {
	for _, s := range lines {
		b.WriteString(s)
	}
}

// Pieces is into how many a piece could be split.
func (h *Hunks) Pieces(i int) int { return len(h.list[i].diffs) }
