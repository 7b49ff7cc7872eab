// Package guest is what the sandbox sees of the host's system: an /etc of our own making, the system's trees, the tool chains on PATH.
//
// Everything it names is read-only inside. It never names the home directory, anything above it, the state directory, or a place that
// another user can write, however links lead there; a project cannot make it name anything (see Options.Project).
package guest

import (
	"encoding/hex"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Options says whose system it is.
type Options struct {
	UID     int                 // who runs casemate: what was found for one user is not another's
	Home    string              // the user's home directory on the host, absolute
	Project string              // absolute, or empty; it is shown by the workspace, so nothing in it is a tool chain, and links in it are not trusted
	State   string              // where sandboxes are kept, absolute; what was found is remembered there
	Env     func(string) string // the host's environment
}

// Place is something of the host that the sandbox sees, read-only.
type Place struct {
	Target string   `json:"target"`         // absolute path inside
	Source string   `json:"source"`         // absolute path on the host, without links; for Link the link's text
	Link   bool     `json:"link,omitempty"` // a symbolic link in the sandbox's root
	File   bool     `json:"file,omitempty"` // the source is no directory
	Dev    uint64   `json:"dev,omitempty"`  // what the source was when it was looked at: compare before use
	Ino    uint64   `json:"ino,omitempty"`
	Hide   []string `json:"hide,omitempty"` // paths below Target that hold credentials and exist now. What appears there later is not hidden
}

// Variable is one environment variable that a tool chain needs, and why.
type Variable struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Why   string `json:"why"`
}

// Tool is one installation that PATH or a variable leads to.
type Tool struct {
	Name   string     `json:"name"`
	Why    string     `json:"why"`
	Places []Place    `json:"places"`
	Env    []Variable `json:"env,omitempty"`
}

// Refusal is something on PATH that is not shown.
type Refusal struct {
	Path string `json:"path"`
	Why  string `json:"why"`
}

// unique is a part of a file name that nobody else makes. Package crypto/rand would cost every start its inits.
func unique() string {
	var b [5]byte
	unix.Getrandom(b[:], 0) // never short for so few bytes
	return hex.EncodeToString(b[:])
}

// within says whether path is dir or lies below it. Both must be clean.
func within(path, dir string) bool {
	if dir == "" {
		return false
	}
	rest, ok := strings.CutPrefix(path, dir)
	return ok && (rest == "" || rest[0] == '/' || dir == "/")
}

func below(path, dir string) bool { return path != dir && within(path, dir) }

// covered says whether a path inside exists because of the places. What a link leads to counts: links are made only to what is shown.
func covered(path string, places []Place) bool {
	for _, p := range places {
		if within(path, p.Target) && (!p.File || path == p.Target) {
			return true
		}
	}
	return false
}

// tidy sorts the places and drops those that lie in another one at the same place of the host.
func tidy(places []Place) []Place {
	slices.SortStableFunc(places, func(a, b Place) int { return strings.Compare(a.Target, b.Target) })
	var out []Place
	for _, p := range places {
		if !slices.ContainsFunc(out, func(q Place) bool { return contains(q, p) }) {
			out = append(out, p)
		}
	}
	return out
}

func contains(q, p Place) bool {
	if q.Link || p.Link {
		return q.Target == p.Target
	}
	rel, err := filepath.Rel(q.Target, p.Target)
	return err == nil && within(p.Target, q.Target) && filepath.Join(q.Source, rel) == p.Source
}
