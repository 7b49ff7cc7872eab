package session

import (
	"crypto/sha256"
	"io/fs"
	"os"
	"path/filepath"

	"casemate.dev/internal/workspace"
)

// Links are the symlinks that a run left on the host in what is written through and that lead out of the project: whoever follows one there, as a build or
// a copy does, reads or writes what the sandbox chose.
type Links struct {
	List []Link `json:"list"`
	More int    `json:"more,omitempty"` // that are not listed
	Cut  bool   `json:"cut,omitempty"`  // there was too much to look at all of it
}

// Link is a symlink on the host.
type Link struct {
	Path   string `json:"path"` // relative to the project
	Target string `json:"target"`
}

// Bounds of what is looked at after a run: the sandbox decides how much there is.
const (
	maxLinksListed = 20
	maxLinkEntries = 1 << 20 // names in what is written through
	maxLinkLooks   = 1 << 18 // names on the ways that links lead
)

// linksOut finds the links that were not there before the run. It must come after everything of the sandbox has ended.
func (r *Run) linksOut() *Links {
	c := r.guarded
	if c == nil || c.links == nil {
		return nil
	}
	trails, err := workspace.OpenTrails(r.Project, maxLinkLooks)
	if err != nil {
		return &Links{Cut: true}
	}
	defer trails.Close()
	look := linkLook{cover: c, trails: trails, left: maxLinkEntries}
	for _, root := range r.roots {
		if err := filepath.WalkDir(filepath.Join(r.Project, root), look.visit); err != nil {
			look.found.Cut = true
		}
	}
	if len(look.found.List) == 0 && !look.found.Cut {
		return nil
	}
	return &look.found
}

// linkLook is one walk through what is written through.
type linkLook struct {
	*cover
	trails *workspace.Trails
	left   int
	found  Links
}

func (l *linkLook) visit(p string, d fs.DirEntry, err error) error {
	if l.left--; l.left < 0 {
		l.found.Cut = true
		return fs.SkipAll
	}
	if err != nil {
		l.found.Cut = true
		return nil
	}
	rel, err := filepath.Rel(l.project, p)
	if err != nil {
		return err
	}
	switch {
	case d.IsDir() && l.closed(rel):
		return fs.SkipDir
	case d.Type()&fs.ModeSymlink != 0:
		l.link(rel, p)
	}
	return nil
}

// closed says whether the sandbox could make nothing in a directory: it was hidden, or protected when the run began.
func (l *linkLook) closed(rel string) bool {
	hidden, _ := l.hide.Match(rel, true)
	led, protected := l.before[rel]
	return hidden || l.hidden[rel] || protected && led == mounted
}

func (l *linkLook) link(rel, p string) {
	target, err := os.Readlink(p)
	if before, was := l.links[rel]; err != nil || was && before == sha256.Sum256([]byte(target)) {
		return
	}
	out, told := l.trails.LeadOut(rel, target)
	switch {
	case !told:
		l.found.Cut = true
	case out && len(l.found.List) < maxLinksListed:
		l.found.List = append(l.found.List, Link{rel, target})
	case out:
		l.found.More++
	}
}
