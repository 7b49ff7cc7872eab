package commits

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"casemate.dev/internal/workspace"
)

// read lists the new commits and what they change.
func (t *Transfer) read(ctx context.Context) error {
	list, err := t.checked.run(ctx, t.since(t.Inside.Commit), "rev-list", "--topo-order", "--reverse", "--stdin")
	if err != nil {
		return missing(err)
	}
	fresh := t.notDone(list)
	if err := t.readCommits(ctx, fresh); err != nil {
		return err
	}
	made, err := t.treeChanges(ctx, fresh)
	if err != nil {
		return err
	}
	t.Changes = t.o.Judge.JudgeCommits(made)
	return t.bringsAlong(ctx, list)
}

func (t *Transfer) readCommits(ctx context.Context, list []byte) error {
	objects, err := t.checked.run(ctx, list, "cat-file", "--batch")
	if err != nil {
		return err
	}
	for len(objects) > 0 {
		var c Commit
		if c, objects, err = cutCommit(objects); err != nil {
			return err
		}
		t.Commits = append(t.Commits, c)
	}
	if n := bytes.Count(list, []byte("\n")); n != len(t.Commits) {
		return fmt.Errorf("bug: %d commits of %d were read", len(t.Commits), n)
	}
	return nil
}

// notDone leaves out the commits that were re-created before: they were judged then.
func (t *Transfer) notDone(list []byte) []byte {
	var rest []byte
	for line := range bytes.Lines(list) {
		if t.done[string(bytes.TrimSpace(line))] == "" {
			rest = append(rest, line...)
		}
	}
	return rest
}

var errCommit = errors.New("a commit inside is not in git's format")

// cutCommit reads one answer of cat-file --batch: a line with hash, type and size, the content, a line end.
func cutCommit(b []byte) (c Commit, rest []byte, err error) {
	line, rest, ok := bytes.Cut(b, []byte("\n"))
	fields := strings.Fields(string(line))
	if !ok || len(fields) != 3 || fields[1] != "commit" {
		return c, nil, errCommit
	}
	size, err := strconv.Atoi(fields[2])
	if err != nil || size < 0 || size >= len(rest) {
		return c, nil, errCommit
	}
	c, err = parseCommit(rest[:size])
	c.Hash = fields[0]
	return c, rest[size+1:], err
}

// parseCommit reads a commit object. What it does not know (signatures, merged tags, extensions) is left behind: it would not hold for the
// commit that is made of it.
func parseCommit(b []byte) (Commit, error) {
	var c Commit
	head, message, ok := bytes.Cut(b, []byte("\n\n"))
	if !ok {
		head, message = bytes.TrimSuffix(b, []byte("\n")), nil
	}
	author := ""
	for line := range strings.SplitSeq(string(head), "\n") {
		key, value, _ := strings.Cut(line, " ")
		switch key {
		case "tree":
			c.Tree = value
		case "parent":
			c.Parents = append(c.Parents, value)
		case "author":
			author = value
		case "encoding":
			c.encoding = value
		}
	}
	c.message = message
	if c.Tree == "" || len(message) > maxMessage || strings.Trim(c.encoding, encodingLetters) != "" || !c.setAuthor(author) {
		return c, fmt.Errorf("%w, or its message is larger than %d bytes", errCommit, maxMessage)
	}
	subject, _, _ := strings.Cut(strings.TrimLeft(string(message), "\n"), "\n")
	c.Subject = workspace.Visible(subject)
	return c, nil
}

const encodingLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.:"

// setAuthor takes "name <e-mail> seconds zone" apart.
func (c *Commit) setAuthor(s string) bool {
	open, end := strings.Index(s, " <"), strings.LastIndex(s, "> ")
	if open < 0 || end < open {
		return false
	}
	c.name, c.email = s[:open], s[open+2:end]
	seconds, zone, ok := strings.Cut(s[end+2:], " ")
	if _, err := strconv.ParseUint(seconds, 10, 63); err != nil || !ok || len(zone) != 5 || strings.ContainsAny(c.email+c.name, "<>\n\x00") {
		return false
	}
	c.date = "@" + seconds + " " + zone
	c.Author = workspace.Visible(c.name + " <" + c.email + ">")
	return true
}

// treeChanges lists, for each commit, the paths at which it has something else than each of its parents. So everything in its tree is either
// here, or the host's own at that very path.
func (t *Transfer) treeChanges(ctx context.Context, commits []byte) ([]workspace.TreeChange, error) {
	raw, err := t.checked.run(ctx, commits, append(rawDiff(), "--stdin", "-c", "--root")...)
	if err != nil {
		return nil, err
	}
	return t.parseChanges(ctx, raw)
}

func rawDiff() []string {
	return []string{"diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", "--no-commit-id", "--no-ext-diff", "--no-textconv"}
}

// parseChanges reads what rawDiff prints, and the links in it.
func (t *Transfer) parseChanges(ctx context.Context, raw []byte) ([]workspace.TreeChange, error) {
	made, err := parseRaw(raw)
	if err != nil {
		return nil, err
	}
	for i := range made {
		if made[i].Mode == 0o120000 {
			if made[i].Link, err = t.link(ctx, made[i].Object); err != nil {
				return nil, err
			}
		}
	}
	return made, nil
}

// link reads what a symlink holds.
func (t *Transfer) link(ctx context.Context, object string) (string, error) {
	size, err := t.checked.line(ctx, "cat-file", "-s", object)
	if err != nil {
		return "", err
	}
	if n, err := strconv.Atoi(size); err != nil || n > 4096 {
		return "", fmt.Errorf("a symlink inside holds %s bytes, more than any system takes", size)
	}
	target, err := t.checked.run(ctx, nil, "cat-file", "blob", object)
	return string(target), err
}

// parseRaw reads the raw diff format of git-diff-tree(1), "RAW OUTPUT FORMAT" and "DIFF FORMAT FOR MERGES", with NUL after each field: one colon
// for each parent, then as many modes and one, as many hashes and one, the status; then the path.
func parseRaw(b []byte) ([]workspace.TreeChange, error) {
	var made []workspace.TreeChange
	for len(b) > 0 {
		head, rest, ok := bytes.Cut(b, []byte{0})
		if !ok {
			return nil, errRaw
		}
		if len(head) == 0 || head[0] != ':' { // the commit's own hash, with older versions of git
			b = rest
			continue
		}
		path, rest, ok := bytes.Cut(rest, []byte{0})
		parents := len(head) - len(bytes.TrimLeft(head, ":"))
		fields := strings.Fields(string(head[parents:]))
		if !ok || len(fields) != 2*(parents+1)+1 || len(path) == 0 {
			return nil, errRaw
		}
		c := workspace.TreeChange{Path: string(path), Object: fields[2*parents+1]}
		for i, f := range fields[:parents+1] {
			mode, err := strconv.ParseUint(f, 8, 32)
			if err != nil {
				return nil, errRaw
			}
			if i < parents {
				c.Was = max(c.Was, uint32(mode))
			} else {
				c.Mode = uint32(mode)
			}
		}
		if made = append(made, c); len(made) > maxEntries {
			return nil, fmt.Errorf("the commits inside change more than %d paths", maxEntries)
		}
		b = rest
	}
	return made, nil
}

var errRaw = errors.New("git diff-tree printed what is not its format")

// Show is what the commits make of a path, as a terminal may see it.
func (t *Transfer) Show(ctx context.Context, path string) (string, error) {
	list, which := "", []string{"--stdin", "-c", "--root"}
	for i := range t.Commits {
		list += t.Commits[i].Hash + "\n"
	}
	if t.along[path] {
		list, which = "", []string{t.base, t.Inside.Commit}
	}
	args := append([]string{"--literal-pathspecs", "diff-tree", "-r", "-p", "--no-renames", "--no-ext-diff", "--no-textconv"}, which...)
	text, err := t.checked.run(ctx, []byte(list), append(args, "--", path)...)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		b.WriteString(workspace.Visible(strings.TrimSuffix(line, "\n")) + "\n")
	}
	return b.String(), nil
}
