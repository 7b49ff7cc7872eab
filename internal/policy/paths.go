package policy

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
)

// Paths matches paths of a project against an ordered list of gitignore patterns (gitignore(5)), byte for byte as git 2.39 does.
// The last pattern that matches decides, `!` takes out of the list again, and nothing comes back below a directory that is hidden.
// A Paths does not change once compiled, so any number of goroutines may use it.
type Paths struct {
	source   []string
	patterns []pathPattern

	// Every pattern is in exactly one of these, in rising order. A name is compared with the patterns that begin or end with its own bytes only.
	first [256][]int32 // patterns for a base name that begin with that byte
	last  [256][]int32 // other patterns that end with that byte
	rest  []int32

	exact      sync.Once // fills what follows when somebody asks for it: it costs more than all the rest, and most lists are only matched
	everywhere []string  // exact base names hidden in every directory
	somewhere  []string  // exact base names that a later `!` takes out in some directories
	anchored   []string  // exact paths
}

type pathKind uint8

const (
	pathExact  pathKind = iota // the base name is text
	pathPrefix                 // the base name begins with text
	pathSuffix                 // the base name ends with text
	pathBase                   // the base name matches glob
	pathWhole                  // the path is text
	pathGlob                   // the path matches glob
)

type pathPattern struct {
	kind    pathKind
	negated bool
	dirOnly bool
	text    string
	glob    glob
}

// MaxPattern is the length in bytes of the longest pattern: as long as the longest path (PATH_MAX).
const MaxPattern = 4096

// CompilePaths compiles gitignore patterns, one per element. What git would silently read as a comment, trim or never match is an error here:
// a pattern that hides nothing is worse than none.
func CompilePaths(patterns []string) (*Paths, error) {
	if len(patterns) > math.MaxInt32 {
		return nil, errors.New("more path patterns than can be counted")
	}
	p := &Paths{source: slices.Clone(patterns), patterns: make([]pathPattern, 0, len(patterns))}
	for i, s := range patterns {
		c, err := compilePattern(s)
		if err != nil {
			return nil, err
		}
		p.patterns = append(p.patterns, c)
		p.file(int32(i), &p.patterns[i])
	}
	return p, nil
}

// Patterns returns the patterns as they were given. The caller must not change them.
func (p *Paths) Patterns() []string { return p.source }

// file puts a pattern where Match finds it.
func (p *Paths) file(i int32, c *pathPattern) {
	begin, begins, end, ends := c.ends()
	switch onBase := c.kind < pathWhole; {
	case onBase && begins:
		p.first[begin] = append(p.first[begin], i)
	case ends:
		p.last[end] = append(p.last[end], i)
	default:
		p.rest = append(p.rest, i)
	}
}

// ends returns the bytes that whatever the pattern matches begins and ends with, where they are fixed.
func (c *pathPattern) ends() (begin byte, begins bool, end byte, ends bool) {
	switch n := len(c.text); c.kind {
	case pathExact, pathWhole:
		return c.text[0], true, c.text[n-1], true
	case pathPrefix:
		return c.text[0], true, 0, false
	case pathSuffix:
		if n == 0 {
			return 0, false, 0, false
		}
		return 0, false, c.text[n-1], true
	default:
		a, z := c.glob[0], c.glob[len(c.glob)-1]
		return a.b, a.op == opByte, z.b, z.op == opByte
	}
}

// Match reports whether rel, a slash-separated path relative to the project, is hidden: by itself or with one of its parents.
// It returns the pattern that decided, or -1. Symbolic links are not directories, whatever they point to.
func (p *Paths) Match(rel string, isDir bool) (hidden bool, pattern int) {
	dir := ""
	for i := 0; i < len(rel); i++ {
		if rel[i] != '/' {
			continue
		}
		if hidden, pattern = p.MatchIn(dir, rel[baseStart(dir):i], true); hidden {
			return true, pattern
		}
		dir = rel[:i]
	}
	return p.MatchIn(dir, rel[baseStart(dir):], isDir)
}

func baseStart(dir string) int {
	if dir == "" {
		return 0
	}
	return len(dir) + 1
}

// MatchIn is Match for the entry name of the directory dir ("" is the project itself), which the caller knows not to be hidden.
func (p *Paths) MatchIn(dir, name string, isDir bool) (hidden bool, pattern int) {
	if name == "" {
		return false, -1
	}
	best := p.latest(-1, p.rest, dir, name, isDir)
	best = p.latest(best, p.first[name[0]], dir, name, isDir)
	best = p.latest(best, p.last[name[len(name)-1]], dir, name, isDir)
	return best >= 0 && !p.patterns[best].negated, best
}

// latest returns the last of candidates that matches if it comes after best, else best.
func (p *Paths) latest(best int, candidates []int32, dir, name string, isDir bool) int {
	for i := len(candidates) - 1; i >= 0; i-- {
		n := int(candidates[i])
		if n <= best {
			break
		}
		if c := &p.patterns[n]; (isDir || !c.dirOnly) && c.match(dir, name) {
			return n
		}
	}
	return best
}

func (c *pathPattern) match(dir, name string) bool {
	switch c.kind {
	case pathExact:
		return name == c.text
	case pathPrefix:
		return strings.HasPrefix(name, c.text)
	case pathSuffix:
		return strings.HasSuffix(name, c.text)
	case pathBase:
		return c.glob.match(name)
	case pathWhole:
		return isJoinedPath(c.text, dir, name)
	default:
		return c.glob.match(joinPath(dir, name))
	}
}

func joinPath(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// isJoinedPath is whole == joinPath(dir, name), without making it.
func isJoinedPath(whole, dir, name string) bool {
	if dir == "" {
		return whole == name
	}
	n := len(dir)
	return len(whole) == n+1+len(name) && whole[n] == '/' && whole[:n] == dir && whole[n+1:] == name
}

// Exact returns the base names that are hidden in every directory, be they there or not. They can be masked before they appear.
func (p *Paths) Exact() []string {
	p.exact.Do(p.listExact)
	return p.everywhere
}

// ExactIn returns the names that are hidden in the directory dir ("" is the project itself), be they there or not: those of Exact, those that
// a later `!` takes out elsewhere but not here, and those of exact paths. An entry that is there may still be visible, if only directories
// of that name are hidden: ask Match. The caller must not change the result.
func (p *Paths) ExactIn(dir string) []string {
	names := p.Exact()
	add := func(name string) {
		if hidden, _ := p.MatchIn(dir, name, true); hidden && !slices.Contains(names, name) {
			names = append(slices.Clip(names), name)
		}
	}
	for _, name := range p.somewhere {
		add(name)
	}
	for _, path := range p.anchored {
		if parent, name := splitPath(path); parent == dir {
			add(name)
		}
	}
	return names
}

func splitPath(path string) (dir, name string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}

// listExact sorts the patterns without wildcards by where they apply.
func (p *Paths) listExact() {
	for i := range p.patterns {
		c := &p.patterns[i]
		switch {
		case c.negated:
		case c.kind == pathWhole:
			p.anchored = append(p.anchored, c.text)
		case c.kind != pathExact || slices.Contains(p.everywhere, c.text) || slices.Contains(p.somewhere, c.text):
		case p.takenOut(c.text):
			p.somewhere = append(p.somewhere, c.text)
		default:
			p.everywhere = append(p.everywhere, c.text)
		}
	}
}

// takenOut reports whether an exact name may be visible somewhere, because a `!` follows the last pattern that hides it by its name alone.
func (p *Paths) takenOut(name string) bool {
	for i := len(p.patterns) - 1; i >= 0; i-- {
		switch c := &p.patterns[i]; {
		case c.negated && (c.kind >= pathWhole || c.match("", name)):
			return true
		case !c.negated && c.kind < pathWhole && c.match("", name):
			return false
		}
	}
	return true
}

func compilePattern(s string) (pathPattern, error) {
	var c pathPattern
	body := s
	if err := checkText(s); err != nil {
		return c, err
	}
	if body, c.negated = strings.CutPrefix(body, "!"); body == "" {
		return c, fmt.Errorf("path pattern %q takes out nothing", s)
	}
	body, c.dirOnly = cutSlash(body)
	onPath := strings.Contains(body, "/")
	body = strings.TrimPrefix(body, "/")
	if body == "" {
		return c, fmt.Errorf("path pattern %q names the project itself", s)
	}
	if !onPath && body != "." && body != ".." && !strings.ContainsAny(body, `*?[\`) { // most patterns are plain names, and every start compiles them
		c.kind, c.text = pathExact, body
		return c, nil
	}
	g, err := parseGlob(body, onPath)
	if err != nil {
		return c, fmt.Errorf("path pattern %q %w", s, err)
	}
	if onPath && g[0].op == opDirs && !g[1:].hasSlash() {
		g, onPath = g[1:], false // `**/x` is `x`
	}
	c.classify(g, onPath)
	return c, nil
}

// checkText refuses what a .gitignore would read differently from a list element.
func checkText(s string) error {
	switch {
	case strings.TrimSpace(s) == "":
		return fmt.Errorf("path pattern %q is empty", s)
	case len(s) > MaxPattern:
		return fmt.Errorf("path pattern %.40q... is longer than %d bytes", s, MaxPattern)
	case strings.IndexByte(s, 0) >= 0:
		return fmt.Errorf("path pattern %q contains a NUL byte, which no file name can", s)
	case s[0] == '#':
		return fmt.Errorf(`path pattern %q would be a comment to git: write "\#" for a name that begins with #`, s)
	case strings.HasSuffix(s, " ") && !endsQuoted(s):
		return fmt.Errorf(`path pattern %q ends in a space that git would drop: remove it, or write "\ "`, s)
	}
	return nil
}

// endsQuoted reports whether a backslash quotes the last byte.
func endsQuoted(s string) bool {
	before := s[:len(s)-1]
	return (len(before)-len(strings.TrimRight(before, `\`)))%2 == 1
}

// cutSlash cuts the slash that says "directories only". git does so without looking for a backslash before it; such a pattern is invalid anyway.
func cutSlash(s string) (string, bool) {
	return strings.CutSuffix(s, "/")
}

func (c *pathPattern) classify(g glob, onPath bool) {
	text, literal := g.literal()
	switch n := len(g); {
	case literal && onPath:
		c.kind, c.text = pathWhole, text
	case literal:
		c.kind, c.text = pathExact, text
	case onPath:
		c.kind, c.glob = pathGlob, g
	default:
		c.kind, c.glob = pathBase, g
		if t, ok := g[1:].literal(); ok && g[0].op == opStar {
			c.kind, c.text, c.glob = pathSuffix, t, nil
		} else if t, ok := g[:n-1].literal(); ok && g[n-1].op == opStar {
			c.kind, c.text, c.glob = pathPrefix, t, nil
		}
	}
}
