package commits

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strings"

	"casemate.dev/internal/workspace"
)

// Held is a change that needs a word that was not given.
type Held struct {
	workspace.Change
	Why string `json:"why"`
}

// Held lists what stands between the commits and the host; consent is the digests of protected changes that were shown, by path.
func (t *Transfer) Held(consent map[string]string) (held []Held) {
	for _, c := range t.Changes {
		switch shown, ok := consent[c.Path]; {
		case c.Refused != "":
			held = append(held, Held{c, c.Refused})
		case c.Protected != "" && !ok:
			held = append(held, Held{c, "it would run on your machine: " + c.Protected})
		case c.Protected != "" && shown != c.Digest:
			held = append(held, Held{c, "it is not what was shown: look at it again"})
		}
	}
	return held
}

// Result is what a transfer did.
type Result struct {
	Branch  string            `json:"branch"`
	Tip     string            `json:"tip"`
	Signed  bool              `json:"signed"`
	Created map[string]string `json:"created"` // by what they were inside, with those of before
	New     int               `json:"new"`
}

// Recreate makes the commits anew, with the same author, message and tree, the person as the committer and their signature where their git signs,
// and puts them on a branch: a new one, or one that is their ancestor and checked out nowhere. It touches no working tree.
func (t *Transfer) Recreate(ctx context.Context, branch string, consent map[string]string) (Result, error) {
	r := Result{Branch: branch, Created: maps.Clone(t.done), New: len(t.Commits)}
	if len(t.Held(consent)) > 0 {
		return r, errors.New("bug: commits with held changes")
	}
	old, err := t.target(ctx, branch)
	if err != nil {
		return r, err
	}
	maker, err := t.maker(ctx)
	if err != nil {
		return r, err
	}
	r.Signed = maker.sign
	for i := range t.Commits {
		c := &t.Commits[i]
		if r.Created[c.Hash], err = maker.make(ctx, c, r.Created); err != nil {
			return r, fmt.Errorf("commit %.12s (%s): %w", c.Hash, c.Subject, err)
		}
	}
	r.Tip = r.Created[t.Inside.Commit]
	return r, t.publish(ctx, &r, old)
}

// target checks that the branch may be made or moved, and returns where it is.
func (t *Transfer) target(ctx context.Context, branch string) (old string, err error) {
	if _, err := t.host.line(ctx, "check-ref-format", "--branch", branch); err != nil || strings.HasPrefix(branch, "-") || branch == "HEAD" || strings.HasPrefix(branch, "refs/") {
		return "", fmt.Errorf("%q is no name for a branch", branch)
	}
	ref := "refs/heads/" + branch
	if head, err := t.host.line(ctx, "symbolic-ref", "--quiet", "HEAD"); err == nil && head == ref {
		return "", &CheckedOutError{branch}
	}
	found, err := t.host.run(ctx, nil, "for-each-ref", "--format=%(refname)%00%(objectname)%00%(worktreepath)", ref)
	for line := range strings.Lines(string(found)) {
		switch f := strings.Split(strings.TrimSuffix(line, "\n"), "\x00"); {
		case len(f) < 3:
			return "", fmt.Errorf("bug: git for-each-ref printed %q", line)
		case f[0] != ref:
			return "", fmt.Errorf("branch %q is in the way of %q", strings.TrimPrefix(f[0], "refs/heads/"), branch)
		case f[2] != "":
			return "", &CheckedOutError{branch}
		default:
			old = f[1]
		}
	}
	return old, err
}

// CheckedOutError says that a branch is the one somebody works on: moving it would leave their working tree behind.
type CheckedOutError struct{ Branch string }

func (e *CheckedOutError) Error() string {
	return fmt.Sprintf("branch %q is checked out, and a working tree is not touched", e.Branch)
}

// Hint names the way.
func (e *CheckedOutError) Hint() string {
	return "casemate apply --commit puts the commits on a branch of their own; then git merge --ff-only takes them"
}

// maker makes commits.
type maker struct {
	git  git
	sign bool
}

// maker runs git in the host's repository, for its identity and its key, and has it write into the quarantine.
func (t *Transfer) maker(ctx context.Context) (maker, error) {
	m := maker{git: t.host.with("GIT_OBJECT_DIRECTORY="+filepath.Join(t.checked.dir, "objects"), "GIT_ALTERNATE_OBJECT_DIRECTORIES="+quoteList(t.o.Objects))}
	if t.o.User != nil {
		person := git{program: t.host.program, dir: "/", env: append(baseEnvironment(t.o.Environ), pick(t.o.Environ, "HOME", "XDG_CONFIG_HOME")...)}
		name, err := person.line(ctx, "config", "--global", "user.name")
		email, err2 := person.line(ctx, "config", "--global", "user.email")
		if err != nil || err2 != nil {
			return m, errors.New("git does not know who you are, and the committer is you: git config --global user.name and user.email")
		}
		m.git = m.git.with("GIT_COMMITTER_NAME="+name, "GIT_COMMITTER_EMAIL="+email)
		return m, nil
	}
	sign, err := t.host.line(ctx, "config", "--type=bool", "commit.gpgSign")
	m.sign = err == nil && sign == "true"
	return m, nil
}

// quoteList writes one path for a list that colons separate.
func quoteList(path string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(path) + `"`
}

func (m maker) make(ctx context.Context, c *Commit, created map[string]string) (string, error) {
	args := []string{"commit-tree"}
	if m.sign {
		args = append(args, "-S")
	}
	for _, p := range c.Parents {
		if again := created[p]; again != "" {
			p = again
		}
		args = append(args, "-p", p)
	}
	if c.encoding != "" {
		args = append([]string{"-c", "i18n.commitEncoding=" + c.encoding}, args...)
	}
	g := m.git.with("GIT_AUTHOR_NAME="+c.name, "GIT_AUTHOR_EMAIL="+c.email, "GIT_AUTHOR_DATE="+c.date)
	out, err := g.run(ctx, c.message, append(args, c.Tree)...)
	return strings.TrimSpace(string(out)), err
}

// publish carries the objects into the host's repository and sets the branch, which must still be where it was.
func (t *Transfer) publish(ctx context.Context, r *Result, old string) error {
	if r.Tip == old {
		return nil
	}
	err := pipe(ctx, t.checked, t.since(r.Tip), []string{"pack-objects", "--revs", "--stdout", "-q", "--delta-base-offset"},
		t.host, []string{"unpack-objects", "-q", "--strict"})
	if err != nil {
		return err
	}
	if old != "" {
		if _, err := t.host.run(ctx, nil, "merge-base", "--is-ancestor", old, r.Tip); err != nil {
			return &DivergedError{r.Branch}
		}
	} else {
		old = strings.Repeat("0", len(r.Tip))
	}
	_, err = t.host.run(ctx, nil, "update-ref", "--create-reflog", "-m", "casemate apply --commit", "refs/heads/"+r.Branch, r.Tip, old)
	return err
}

// DivergedError says that a branch has commits that these do not build on.
type DivergedError struct{ Branch string }

func (e *DivergedError) Error() string {
	return fmt.Sprintf("branch %q has commits that the sandbox's do not build on", e.Branch)
}

// Hint names the way.
func (e *DivergedError) Hint() string {
	return "name another branch: casemate apply --commit NAME; or remove that one: git branch -D " + e.Branch
}
