package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"casemate.dev/internal/commits"
	"casemate.dev/internal/review"
	"casemate.dev/internal/session"
	"casemate.dev/internal/workspace"
)

// commitOptions are the flags of apply that also mean something with --commit.
type commitOptions struct {
	protected, yes, dry, asJSON bool
}

// committed is what apply --commit prints as JSON.
type committed struct {
	Sandbox string           `json:"sandbox"`
	Inside  string           `json:"inside"` // the branch inside; empty if HEAD was detached
	Branch  string           `json:"branch"`
	Tip     string           `json:"tip,omitempty"`
	Signed  bool             `json:"signed"`
	Commits []commits.Commit `json:"commits"`
	Held    []commits.Held   `json:"held,omitempty"`
}

// applyCommits puts the commits made inside on a branch of the host.
func applyCommits(std *IO, r *session.Review, args []string, o commitOptions) error {
	if len(args) > 1 {
		return usageError(errors.New("--commit takes at most one branch: commits are whole, and no paths can be chosen"), "casemate apply --help shows the flags")
	}
	person, err := session.Self()
	if err != nil {
		return err
	}
	ctx := context.Background()
	c, err := r.OpenCommits(ctx, person)
	if errors.Is(err, commits.ErrNone) {
		return noCommits(std, r, o)
	}
	if err != nil {
		return err
	}
	defer c.Close()
	out := committed{Sandbox: c.Box.Record.ID, Inside: c.Inside.Branch, Branch: c.DefaultBranch(), Commits: slices.Concat([]commits.Commit{}, c.Commits)}
	if len(args) == 1 {
		out.Branch = args[0]
	}
	consent, err := consentToCommits(std, c, o)
	if err != nil {
		return err
	}
	if out.Held = c.Held(consent); len(out.Held) > 0 || o.dry {
		return printHeldCommits(std, out, o)
	}
	result, err := c.Put(ctx, out.Branch, consent)
	if err != nil {
		return err
	}
	out.Tip, out.Signed = result.Tip, result.Signed
	if o.asJSON {
		return encode(std.Out, out)
	}
	printCommits(std.Out, out, result)
	return nil
}

// noCommits says what there is instead.
func noCommits(std *IO, r *session.Review, o commitOptions) error {
	changes, err := r.Changes(context.Background(), workspace.ChangeOptions{})
	if err == nil {
		err = r.Count(context.Background(), changes)
	}
	if err != nil {
		return err
	}
	if o.asJSON {
		return encode(std.Out, committed{Sandbox: r.Box.Record.ID, Commits: []commits.Commit{}})
	}
	fmt.Fprintf(std.Out, "no new commits in sandbox %s\n", r.Box.Record.ID)
	if n := workspace.Summarize(changes); n.Files > 0 {
		fmt.Fprintf(std.Out, "not committed: %s (casemate diff, then casemate apply)\n", n)
	}
	return nil
}

// consentToCommits shows the protected changes in the commits and asks for each, as askConsent does for files.
func consentToCommits(std *IO, c *session.Commits, o commitOptions) (map[string]string, error) {
	consent := map[string]string{}
	if !o.protected {
		return consent, nil
	}
	a := &review.Asker{In: std.In, Out: std.Out}
	for _, change := range c.Changes {
		if change.Protected == "" || change.Refused != "" {
			continue
		}
		if !o.yes && !o.dry {
			if !isTerminal(std.In) {
				return nil, coded{errors.New("protected changes need consent, and there is no terminal to ask on"), "casemate apply --commit names them; --with-protected --yes takes them", exitProblem}
			}
			text, err := c.Show(context.Background(), change.Path)
			if err != nil {
				return nil, err
			}
			fmt.Fprint(std.Out, review.Plainly(text))
			yes := a.Yes(review.Plainly(fmt.Sprintf("%s: %s. Let it reach the host?", workspace.Quote(change.Path), workspace.Visible(change.Protected))))
			if a.Interrupted() {
				return nil, exitStatus(exitProblem)
			}
			if !yes {
				continue
			}
		}
		consent[change.Path] = change.Digest
	}
	return consent, nil
}

// printHeldCommits says why nothing was done: commits cross whole or not at all.
func printHeldCommits(std *IO, out committed, o commitOptions) error {
	status := error(nil)
	if len(out.Held) > 0 {
		status = exitStatus(exitProblem)
	}
	if o.asJSON {
		if err := encode(std.Out, out); err != nil {
			return err
		}
		return status
	}
	for _, h := range out.Held {
		fmt.Fprintf(std.Out, "held     %s: %s\n", review.Plainly(workspace.Visible(h.Path)), review.Plainly(workspace.Visible(h.Why)))
	}
	listCommits(std.Out, out.Commits)
	switch {
	case len(out.Held) == 0:
		fmt.Fprintf(std.Out, "%s would go to branch %s\n", count(len(out.Commits), "commit"), out.Branch)
	default:
		fmt.Fprintf(std.Out, "no commits were taken, because commits are whole: --with-protected shows what is held and asks; what is refused must be taken out of them inside\n")
	}
	return status
}

const listed = 20 // commits, before the rest is counted

func listCommits(w io.Writer, list []commits.Commit) {
	for i, c := range list {
		if i == listed {
			fmt.Fprintf(w, "... and %d more\n", len(list)-listed)
			return
		}
		fmt.Fprintf(w, "%.12s %s (%s)\n", c.Hash, review.Plainly(c.Subject), review.Plainly(c.Author))
	}
}

func printCommits(w io.Writer, out committed, result commits.Result) {
	listCommits(w, out.Commits)
	signed := ""
	if out.Signed {
		signed = ", signed"
	}
	branch := shellWord(out.Branch)
	if result.New == 0 {
		fmt.Fprintf(w, "nothing new: branch %s has them\n", out.Branch)
	} else {
		fmt.Fprintf(w, "%s on branch %s%s\n", count(result.New, "new commit"), out.Branch, signed)
	}
	fmt.Fprintf(w, "look: git log -p ..%s   take: git merge --ff-only %s   undo: git branch -D %s\n", branch, branch, branch)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// shellWord quotes a word for a shell if it needs that.
func shellWord(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
