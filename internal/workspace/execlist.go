package workspace

import (
	"bytes"
	"fmt"
	"iter"
	"path"
	"slices"
	"strings"
	"sync"

	"casemate.dev/internal/policy"
)

// ProtectedPath reports whether the host executes the file at rel (slash-separated, relative to the project) without being asked, and why; extra
// are the policy's own patterns. A change to it needs consent of its own.
//
// Names are compared as the most forgiving file system or tool would: without case, without the code points that HFS+ and casefolding ext4
// ignore, without the trailing dots, spaces and streams that Windows drops, and with DOS short names (CVE-2014-9390, CVE-2019-1352).
// The project may be pushed from here and checked out there. extra compares byte for byte.
//
// NOT covered: files that the host executes because configuration outside the project names them, other than what Scan reports as Aliases,
// and bare repositories, which cannot be told by a name.
func ProtectedPath(rel string, extra *policy.Paths) (why string, ok bool) {
	name := innermostWorktree(canonicalPath(rel))
	if why := protectedInGitDir(name); why != "" {
		return why, true
	}
	list := protectedList()
	if hit, row := list.paths.Match(name, true); hit {
		return list.rows[row].why, true
	}
	if extra != nil {
		if hit, n := extra.Match(rel, true); hit {
			return fmt.Sprintf("the policy protects %q", extra.Patterns()[n]), true
		}
	}
	return "", false
}

// MarkedPath reports whether building, testing or opening the project executes the file at rel, or an agent takes it for instructions. Such a change
// is pointed out in a review, not held. Content may be nil; it is looked at where the name says nothing.
func MarkedPath(rel string, content []byte) (why string, ok bool) {
	name := canonicalPath(rel)
	dir := parentOf(name)
	list := markedList()
	if hit, row := list.paths.MatchIn(dir, strings.TrimPrefix(name[len(dir):], "/"), false); hit {
		return list.rows[row].why, true
	}
	if strings.HasSuffix(name, ".go") && hasGenerate(content) {
		return "go generate executes its //go:generate lines", true
	}
	return "", false
}

// hasGenerate finds a line that begins with the directive, as cmd/go does.
func hasGenerate(content []byte) bool {
	directive := []byte("//go:generate")
	for rest := content; ; {
		i := bytes.Index(rest, directive)
		if i < 0 {
			return false
		}
		after := rest[i+len(directive):]
		atStart := len(rest)-len(after) == len(directive) && len(rest) == len(content) || i > 0 && rest[i-1] == '\n'
		if atStart && len(after) > 0 && (after[0] == ' ' || after[0] == '\t') {
			return true
		}
		rest = after
	}
}

// execRow is one pattern and the reason it is on the list.
type execRow struct{ pattern, why string }

type execList struct {
	rows  []execRow
	paths *policy.Paths
	below []below // of the rows that name paths
}

var protectedList = sync.OnceValue(func() execList { return compileRows(protectedRows[:]) })
var markedList = sync.OnceValue(func() execList { return compileRows(markedRows[:]) })

func compileRows(rows []execRow) execList {
	patterns := make([]string, len(rows))
	for i, r := range rows {
		patterns[i] = r.pattern
	}
	paths, err := policy.CompilePaths(patterns)
	if err != nil {
		panic("bug: list of executed files: " + err.Error())
	}
	return execList{rows, paths, belowPatterns(patterns)}
}

// protectedInGitDir answers for paths in a git directory: `.git`, a conventionally named bare repository `x.git`, and what they nest.
func protectedInGitDir(name string) string {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		if part == ".git" && i == len(parts)-1 {
			return "a file or link named .git points git at another repository, whose hooks and config it obeys"
		}
		if part == ".git" || strings.HasSuffix(part, ".git") {
			if why := gitDirEntry(parts[i+1:]); why != "" {
				return why
			}
		}
	}
	return ""
}

// gitDirEntry answers for a path relative to a git directory. Objects, refs, logs and the index hold content and are not executed.
func gitDirEntry(parts []string) string {
	if len(parts) == 0 {
		return ""
	}
	sub := strings.Join(parts[1:], "/")
	switch parts[0] {
	case "hooks":
		return "git executes its hooks"
	case "config", "config.worktree":
		return "git executes the commands in its config (core.fsmonitor, core.hooksPath, filters, aliases)"
	case "commondir", "gitdir":
		return "points git at another repository, whose hooks and config it obeys"
	case "modules":
		return nestedGitDir(parts[1:])
	case "worktrees":
		if len(parts) > 2 {
			return gitDirEntry(parts[2:])
		}
	case "info":
		if sub == "attributes" {
			return "chooses the filters and diff commands that git executes"
		}
	case "objects":
		if sub == "info/alternates" || sub == "info/http-alternates" {
			return "makes git read objects from another place"
		}
	case "rebase-merge", "rebase-apply", "sequencer":
		return "git rebase --continue executes its exec lines"
	}
	return ""
}

// nestedGitDir looks for a git directory of a submodule, whose name may itself contain slashes.
func nestedGitDir(parts []string) string {
	for i := 1; i < len(parts); i++ {
		if why := gitDirEntry(parts[i:]); why != "" {
			return why
		}
	}
	return ""
}

// innermostWorktree cuts `.claude/worktrees/NAME/` off: a whole checkout lies there, which is judged by its own names. In a place that is protected
// itself, such as .github/workflows, there are no checkouts.
func innermostWorktree(name string) string {
	const dir = ".claude/worktrees/"
	for begin := 0; ; {
		i := strings.Index(name[begin:], dir)
		if i < 0 {
			return name
		}
		above, below := name[:begin+i], name[begin+i+len(dir):]
		_, rest, found := strings.Cut(below, "/")
		if above != "" && above[len(above)-1] != '/' || !found {
			begin += i + len(dir)
			continue
		}
		if _, protected := ProtectedPath(strings.TrimSuffix(above, "/"), nil); protected {
			return name
		}
		name, begin = rest, 0
	}
}

// canonicalPath gives every name that some file system or tool takes for the same file the same spelling.
func canonicalPath(rel string) string {
	if isCanonical(rel) {
		return rel
	}
	parts := strings.Split(strings.ReplaceAll(rel, `\`, "/"), "/")
	for i, part := range parts {
		parts[i] = canonicalName(part)
	}
	return strings.Join(parts, "/")
}

// isCanonical is the quick answer for nearly every path.
func isCanonical(rel string) bool {
	for i := 0; i < len(rel); i++ {
		switch c := rel[i]; {
		case c >= 0x80, 'A' <= c && c <= 'Z', c == '~', c == ':', c == '\\':
			return false
		case (c == ' ' || c == '.') && (i+1 == len(rel) || rel[i+1] == '/'):
			return false
		}
	}
	return true
}

func canonicalName(name string) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case ignorable(r):
			return -1
		case r == 'ſ': // long s folds to s; the Kelvin sign, the other such letter, is lower-cased to k by ToLower
			return 's'
		}
		return r
	}, name)
	name, _, _ = strings.Cut(strings.ToLower(name), ":")
	if trimmed := strings.TrimRight(name, ". "); trimmed != "" {
		name = trimmed
	}
	if before, after, found := strings.Cut(name, "~"); found && before != "" && after != "" && after[0] >= '0' && after[0] <= '9' {
		return longName(name, before)
	}
	return name
}

// ignorable are the code points that HFS+ and casefolding ext4 skip in comparisons: the default ignorable ones of Unicode.
func ignorable(r rune) bool {
	switch {
	case r < 0xad:
		return false
	case r == 0xad, r == 0x34f, r == 0x61c, r == 0x115f, r == 0x1160, r == 0x17b4, r == 0x17b5, r == 0x3164, r == 0xfeff, r == 0xffa0,
		r >= 0x180b && r <= 0x180f, r >= 0x200b && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x2060 && r <= 0x206f,
		r >= 0xfe00 && r <= 0xfe0f, r >= 0xfff0 && r <= 0xfff8, r >= 0x1bca0 && r <= 0x1bca3, r >= 0x1d173 && r <= 0x1d17a,
		r >= 0xe0000 && r <= 0xe0fff:
		return true
	}
	return false
}

// longName finds the protected name that Windows may have given a short name such as GIT~1. The hashed form (GI7EBA~1), which it uses after four
// names that begin alike, is not recognised.
func longName(short, before string) string {
	if before == "git" {
		return ".git"
	}
	for _, r := range protectedRows {
		name := r.pattern[strings.LastIndexByte(r.pattern, '/')+1:]
		if !strings.ContainsAny(name, "*?[") && shortStem(name) == before {
			return name
		}
	}
	return short
}

// shortStem is what Windows puts before the ~ of a short name.
func shortStem(name string) string {
	stem := strings.TrimLeft(name, ".")
	if dot := strings.LastIndexByte(stem, '.'); dot >= 0 {
		stem = stem[:dot]
	}
	stem = strings.ReplaceAll(stem, ".", "")
	return stem[:min(6, len(stem))]
}

// LeadsToProtected reports whether a directory of this name may hold something protected, so that a link in its place gives that name to
// whatever it leads to: `.github -> w` makes w/workflows/ci.yml a workflow. aliases are other protected paths, extra the policy's patterns.
func LeadsToProtected(rel string, extra *policy.Paths, aliases map[string]string) (why string, ok bool) {
	for alias, why := range aliases {
		if alias != rel && under(alias, rel) {
			return why, true
		}
	}
	for _, why := range behind(rel, extra) {
		return why, true
	}
	return "", false
}

// behind yields what of a directory of this name is protected: path patterns relative to it, or "" for all of it, and the reason.
func behind(rel string, extra *policy.Paths) iter.Seq2[string, string] {
	return func(yield func(rest, why string) bool) {
		list := protectedList()
		for i, rest := range leadsInto(canonicalPath(rel), list.below) {
			if !yield(rest, list.rows[i].why) {
				return
			}
		}
		if extra == nil {
			return
		}
		for i, rest := range leadsInto(rel, belowPatterns(extra.Patterns())) {
			if !yield(rest, fmt.Sprintf("the policy protects %q", extra.Patterns()[i])) {
				return
			}
		}
	}
}

// below is a pattern that names a path and not only a base name.
type below struct {
	row      int
	names    []string
	anywhere bool // it may begin in any directory
}

func belowPatterns(patterns []string) (list []below) {
	for i, p := range patterns {
		p = strings.TrimSuffix(p, "/")
		if !strings.Contains(p, "/") || strings.HasPrefix(p, "!") {
			continue
		}
		p, anywhere := strings.CutPrefix(p, "**/")
		list = append(list, below{i, strings.Split(strings.TrimPrefix(p, "/"), "/"), anywhere})
	}
	return list
}

// leadsInto compares the names of a path with the beginnings of patterns that name paths, and yields the rows of those that match and the rest of
// their names: "" if it has wildcards, as then anything may be meant. Where in doubt it says yes.
func leadsInto(rel string, list []below) iter.Seq2[int, string] {
	return func(yield func(row int, rest string) bool) {
		base, parts := baseName(rel), []string(nil)
		for _, b := range list {
			for n := len(b.names) - 1; n > 0; n-- {
				if ok, err := path.Match(b.names[n-1], base); !ok && err == nil && b.names[n-1] != "**" {
					continue // for most, that is all
				}
				if parts == nil {
					parts = strings.Split(rel, "/")
				}
				if b.names[n-1] != "**" && (len(parts) < n || !b.anywhere && len(parts) != n && !slices.Contains(b.names[:n], "**") || !matchAll(b.names[:n], parts[len(parts)-n:])) {
					continue
				}
				rest := strings.Join(b.names[n:], "/")
				if strings.ContainsAny(rest, "*?[\\") {
					rest = ""
				}
				if !yield(b.row, rest) {
					return
				}
				break
			}
		}
	}
}

func matchAll(patterns, names []string) bool {
	for i, p := range patterns {
		if ok, err := path.Match(p, names[i]); !ok && err == nil && p != "**" {
			return false
		}
	}
	return true
}
