package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"
)

// Widening is what a project's document would widen if a person trusted it, beside the other sources: what `casemate trust` shows.
// Limits whose default depends on the machine are listed too, since they may.
func Widening(doc *Document, base ...Source) []Widened {
	var sources []Source
	for _, s := range base {
		if s.Tier < Project {
			sources = append(sources, s)
		}
	}
	m := newMerge(append(sources, Source{Tier: Project, Doc: doc}))
	m.chooseLevel()
	for _, src := range m.sources {
		m.apply(src)
	}
	return append(m.Ignored, m.unsure...)
}

// Digest names the exact bytes of a document.
func Digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Trust is which bytes of which project's policy a person approved. The zero value approves nothing.
type Trust struct {
	projects map[string]Approval
}

// Approval is one person's word for one state of one file.
type Approval struct {
	Digest string    `json:"digest"`
	Date   time.Time `json:"date"`
}

type trustFile struct {
	Version  int                 `json:"version"`
	Projects map[string]Approval `json:"projects"` // by the absolute path of the policy file
}

// ParseTrust reads the store's file. Anything unexpected is an error: a store that is half understood must not approve.
func ParseTrust(data []byte) (*Trust, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var f trustFile
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("the list of trusted policies is damaged: %v", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("the list of trusted policies is damaged: it goes on after its end")
	}
	if f.Version != 1 {
		return nil, fmt.Errorf("the list of trusted policies has version %d, and this casemate knows 1", f.Version)
	}
	for file, a := range f.Projects {
		if !path.IsAbs(file) || !isDigest(a.Digest) {
			return nil, fmt.Errorf("the list of trusted policies is damaged at %s", quoted(file))
		}
	}
	return &Trust{f.Projects}, nil
}

// isDigest wants the one spelling that Digest makes.
func isDigest(s string) bool {
	hexa, ok := strings.CutPrefix(s, "sha256:")
	return ok && len(hexa) == 2*sha256.Size && strings.Trim(hexa, "0123456789abcdef") == ""
}

// Encode is the store's file.
func (t *Trust) Encode() ([]byte, error) {
	projects := t.projects
	if projects == nil {
		projects = map[string]Approval{}
	}
	out, err := json.MarshalIndent(trustFile{1, projects}, "", "  ")
	return append(out, '\n'), err
}

// Approved says whether a person approved exactly the bytes with this digest for this file, which is named by its absolute path.
func (t *Trust) Approved(file, digest string) bool {
	return isDigest(digest) && t.projects[file].Digest == digest
}

// Since is when that was.
func (t *Trust) Since(file string) time.Time { return t.projects[file].Date }

// Approve replaces what was approved for the file before.
func (t *Trust) Approve(file, digest string, now time.Time) error {
	if !path.IsAbs(file) || !isDigest(digest) {
		return fmt.Errorf("bug: approving %q with digest %q", file, digest)
	}
	if t.projects == nil {
		t.projects = map[string]Approval{}
	}
	t.projects[file] = Approval{digest, now.UTC().Truncate(time.Second)}
	return nil
}

// Revoke forgets a file, and says whether it was there.
func (t *Trust) Revoke(file string) bool {
	_, was := t.projects[file]
	delete(t.projects, file)
	return was
}
