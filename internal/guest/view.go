package guest

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// View is what the sandbox sees of the host's system besides /etc.
type View struct {
	System  []Place   `json:"system"`            // /usr, the links of a merged /usr, /opt, /nix, Homebrew
	Tools   []Tool    `json:"tools,omitempty"`   // found through PATH
	Path    string    `json:"path"`              // PATH inside: what of the host's exists there
	Refused []Refusal `json:"refused,omitempty"` // on PATH and not shown
}

// Look finds the system's trees and the tool chains. What it found is kept below Options.State and believed as long as nothing of what
// decided it has changed; an error to keep it is none, as the next start looks again.
func Look(o Options) View {
	cached := filepath.Join(o.State, "view", o.digest())
	if o.State != "" {
		if result, ok := decode(readAt(unix.AT_FDCWD, cached), time.Now()); ok {
			if v, ok := viewOf(result); ok {
				return v
			}
		}
	}
	v, stamp := lookNow(o)
	if o.State != "" {
		keep(cached, stamp.encode(v.record()))
	}
	return v
}

func lookNow(o Options) (View, *stamp) {
	l := newLook(o)
	l.system = l.systemDirs()
	f := l.tools()
	v := View{System: l.system, Tools: f.tools, Refused: f.refused}
	v.Path = l.pathInside(v.Places())
	return v, l.stamp
}

// Places returns everything to show, parents first, each once.
func (v View) Places() []Place {
	places := slices.Clone(v.System)
	for _, t := range v.Tools {
		places = append(places, t.Places...)
	}
	return tidy(places)
}

const viewVersion = 2

// digest covers what a look depends on besides the file system.
func (o Options) digest() string {
	h := sha256.New()
	fmt.Fprintf(h, "%d\x00%s\x00%s\x00%s\x00%s", viewVersion, o.Home, o.Project, o.State, o.Env("PATH"))
	for _, row := range toolRows() {
		if row.env != "" {
			fmt.Fprintf(h, "\x00%s", o.Env(row.env))
		}
	}
	fmt.Fprintf(h, "\x00%s\x00%d", o.Env("VIRTUAL_ENV"), o.UID)
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// keep writes a file in one step and removes others that nobody has written for long.
func keep(path string, data []byte) {
	dir := filepath.Dir(path)
	if os.MkdirAll(dir, 0o700) != nil {
		return
	}
	temporary := path + "." + unique()
	if os.WriteFile(temporary, data, 0o600) != nil || os.Rename(temporary, path) != nil {
		os.Remove(temporary)
		return
	}
	for _, e := range names(dir) {
		if st, err := e.Info(); err == nil && time.Since(st.ModTime()) > unused {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// standardPath is what PATH is inside when the host's has nothing that exists there.
const standardPath = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"

// pathInside keeps the directories that exist inside, in their order. One that exists only under its resolved name gets that name; one in
// the home that the host lacks is kept, as the sandbox's own home may come to have it. Relative ones are dropped: they would let a
// project put a program before the system's.
func (l *look) pathInside(places []Place) string {
	var out []string
	for _, e := range filepath.SplitList(l.o.Env("PATH")) {
		if !filepath.IsAbs(e) {
			continue
		}
		e = filepath.Clean(e)
		if name := l.nameInside(e, places); name != "" && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return cmp.Or(strings.Join(out, ":"), standardPath)
}

func (l *look) nameInside(e string, places []Place) string {
	if l.isProject(e) || seen(e, places) {
		return e
	}
	real, _, err := l.resolve(e)
	switch {
	case err == nil && (seen(real, places) || l.isProject(real)):
		return real
	case err != nil && below(e, l.o.Home):
		return e
	}
	return ""
}

// seen says whether a directory, or something in it, is shown.
func seen(dir string, places []Place) bool {
	return covered(dir, places) || slices.ContainsFunc(places, func(p Place) bool { return below(p.Target, dir) })
}
