package workspace

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"strings"
	"unicode/utf8"
)

// TreeChange is what one commit made of one path: not what any of its parents has there.
type TreeChange struct {
	Path   string // relative to the working tree
	Was    uint32 // git's mode of it in a parent, 0 if absent
	Mode   uint32 // git's mode, 0 if the commit deletes it
	Object string
	Link   string // what a symlink holds
}

// Git's modes.
const (
	treeLink      = 0o120000
	treeSubmodule = 0o160000
)

// JudgeCommits says of every path that commits change what stands between it and the host, as Changes does for files. It judges all that any of
// the commits made of a path, also what a later one took back: whoever has the branch can check each of them out.
func (l *Layer) JudgeCommits(made []TreeChange) []Change {
	j := commitJudge{l: l, at: map[string]int{}, made: made}
	for i := range made {
		j.add(&made[i])
	}
	j.protectLinked()
	j.protectBare()
	for i := range j.changes {
		j.changes[i].classify()
	}
	return j.changes
}

type commitJudge struct {
	l       *Layer
	made    []TreeChange
	changes []Change
	at      map[string]int
}

func (j *commitJudge) add(t *TreeChange) {
	i, known := j.at[t.Path]
	if !known {
		i = len(j.changes)
		j.at[t.Path] = i
		c := Change{Path: t.Path, Kind: Modified}
		if t.Was == 0 {
			c.Kind = Added
		}
		if !utf8.ValidString(t.Path) {
			c.Raw = []byte(t.Path)
		}
		j.changes = append(j.changes, c)
	}
	c := &j.changes[i]
	if t.Mode == 0 {
		c.Kind = Deleted
	} else if c.Kind == Deleted {
		c.Kind = Modified
	}
	c.New.Link = t.Link
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %o %s", c.Digest, t.Path, t.Mode, t.Object))
	c.Digest = hex.EncodeToString(sum[:])
	if c.Refused == "" {
		c.Refused = j.refusal(t)
	}
	if c.Protected == "" {
		c.Protected = j.protection(t)
	}
	if why, marked := j.l.Marked(t.Path, nil); marked && len(c.Marks) == 0 {
		c.Marks = []string{why}
	}
}

// refusal says why commits with this path cannot cross at all.
func (j *commitJudge) refusal(t *TreeChange) string {
	for part := range strings.SplitSeq(t.Path, "/") {
		switch {
		case part == "" || part == "." || part == "..":
			return "it is no path in a working tree"
		case part == ".git" || looksLikeGit(part):
			return "it would reach into a git directory (CVE-2014-9390)"
		}
	}
	if j.l.Hidden(t.Path, false) {
		return "the host's own is hidden from the sandbox, so a commit made there must leave it as it is"
	}
	return ""
}

func (j *commitJudge) protection(t *TreeChange) string {
	if why, ok := j.l.Protected(t.Path); ok {
		return why
	}
	switch t.Mode {
	case treeSubmodule:
		return "a submodule: git fetches and checks out what it names"
	case treeLink:
		if why, leads := j.l.Leads(t.Path); leads {
			return "a link in the place of a directory: " + why
		}
		if _, inside := resolve(t.Path, t.Link, j.l.Project, nothingThere); !inside {
			return "it points out of the project"
		}
	}
	return ""
}

func nothingThere(string) (node, error) { return node{}, nil }

// protectLinked protects what a protected link would come to mean: see review.protectLinked.
func (j *commitJudge) protectLinked() {
	targets := map[string]string{}
	for i := range j.made {
		t := &j.made[i]
		if why := j.changes[j.at[t.Path]].Protected; t.Mode == treeLink && why != "" {
			if target, inside := resolve(t.Path, t.Link, j.l.Project, nothingThere); inside {
				targets[target] = fmt.Sprintf("%s, through the link %s", why, Quote(t.Path))
			}
		}
	}
	for i := range j.changes {
		c := &j.changes[i]
		for dir := c.Path; c.Protected == "" && len(targets) > 0; dir = parentOf(dir) {
			if c.Protected = targets[dir]; dir == "" {
				break
			}
		}
	}
}

// protectBare protects repositories laid in plain files: see bareRepository.
func (j *commitJudge) protectBare() {
	there := map[string]bool{}
	for i := range j.changes {
		for p := j.changes[i].Path; p != ""; p = parentOf(p) {
			there[p] = true
		}
	}
	has := func(rel string) bool {
		if there[rel] {
			return true
		}
		n, err := j.l.project.stat(rel)
		return err == nil && n.Type != Absent
	}
	bare := map[string]bool{}
	for p := range there {
		if dir := parentOf(p); dir != "" && (path.Base(p) == "HEAD" || path.Base(p) == "objects" || path.Base(p) == "refs") {
			bare[dir] = has(join(dir, "HEAD")) && has(join(dir, "objects")) && has(join(dir, "refs"))
		}
	}
	for i := range j.changes {
		c := &j.changes[i]
		for dir := parentOf(c.Path); dir != "" && c.Protected == ""; dir = parentOf(dir) {
			if bare[dir] {
				c.Protected = "git takes the directory for a repository and runs its config and hooks"
			}
		}
	}
}
