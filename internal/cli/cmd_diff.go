package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"casemate.dev/internal/commits"
	"casemate.dev/internal/review"
	"casemate.dev/internal/session"
	"casemate.dev/internal/workspace"
)

func diffCommand() command {
	return command{
		name: "diff", args: "[PATH...]", summary: "show what the sandbox changed",
		example: "casemate diff --stat",
		help: `
Shows the held changes of the project's newest sandbox as git would. Changes
that the host would execute by itself (git hooks, editor tasks, CI, agent
settings) are marked; built files, which the project's gitignore covers, are
counted only. Into a file or pipe it writes a patch that git apply takes.`,
		exits: "125  the changes could not be read",
		flags: func(fs *flag.FlagSet) func(*IO, []string) error {
			id := fs.String("sandbox", "", "the `SANDBOX` to look at; default: the project's newest")
			stat := fs.Bool("stat", false, "a table of files with the number of changed lines")
			names := fs.Bool("name-only", false, "only the names")
			built := fs.Bool("built", false, "list built files one by one")
			asJSON := fs.Bool("json", false, "print JSON")
			return func(std *IO, args []string) error {
				var none func() error
				if *asJSON {
					none = func() error { return workspace.WriteJSON(std.Out, nil) }
				}
				return withReview(std, *id, none, func(r *session.Review) error {
					ctx := context.Background()
					paths, err := r.Paths(args)
					if err != nil {
						return err
					}
					changes, err := r.Changes(ctx, workspace.ChangeOptions{Paths: paths, Built: *built})
					if err != nil {
						return err
					}
					switch {
					case *asJSON:
						if err := r.Count(ctx, changes); err != nil {
							return err
						}
						return workspace.WriteJSON(std.Out, changes)
					case *names:
						return workspace.WriteNames(std.Out, slices.DeleteFunc(changes, func(c workspace.Change) bool { return c.Class == workspace.ClassRefused }))
					case *stat:
						if err := r.Count(ctx, changes); err != nil {
							return err
						}
						if err := workspace.WriteStat(std.Out, changes); err != nil {
							return err
						}
						return saySummary(std, r, "held", changes)
					}
					terminal := isTerminal(std.Out)
					if err := r.Diff(ctx, std.Out, changes, workspace.DiffOptions{Terminal: terminal, Color: std.Color}); err != nil || !terminal {
						return err
					}
					return saySummary(std, r, "held", changes)
				})
			}
		},
	}
}

// saySummary says in one line what kinds of changes there are, as the end of a run does.
func saySummary(std *IO, r *session.Review, what string, changes []workspace.Change) error {
	if err := r.Count(context.Background(), changes); err != nil {
		return err
	}
	if s := workspace.Summarize(changes).String(); s != "no changes" {
		fmt.Fprintf(std.Err, "casemate: %s: %s\n", what, s)
	}
	return nil
}

// withReview opens the layer. Having none is no error: there is nothing to show, apply or discard. What --json prints then is none's.
func withReview(std *IO, id string, none func() error, f func(*session.Review) error) error {
	person, err := session.Self()
	if err != nil {
		return err
	}
	r, err := session.OpenReview(person, id)
	if errors.Is(err, session.ErrNoChanges) {
		fmt.Fprintln(std.Err, "casemate: no sandbox holds changes of this project")
		if none != nil {
			return none()
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer r.Close()
	for _, o := range r.Others {
		if id != "" { // it was chosen
			break
		}
		fmt.Fprintf(std.Err, "casemate: sandbox %s holds changes of this project too (--sandbox %s)\n", o, o)
	}
	return f(r)
}

func applyCommand() command {
	return command{
		name: "apply", args: "[PATH...] | --commit [BRANCH]", summary: "let held changes reach the project",
		example: "casemate apply --dry-run",
		help: `
Carries the held changes of the project's newest sandbox to the project, all or
the given paths. Three kinds stay behind unless you ask for them: changes that
the host would execute by itself (--with-protected, which shows each before it
asks), built files (--built), and conflicts, where you changed the same lines
too: there --theirs PATH takes the sandbox's side, --ours PATH keeps yours, and
--both PATH puts the sandbox's beside it. Other lines of a file that git tracks
are merged. Applied changes leave the layer; each file arrives whole or not at
all, also if the machine stops; casemate undo brings back what was there. A
sandbox that runs stands still for that moment.

With --commit it is commits that cross, not files: those made inside are made
anew outside, by their authors, committed and signed by you, on a branch of
their own (casemate/SANDBOX, or BRANCH). Your working tree stays as it is.`,
		exits: `
1    some changes stayed behind; they are named
125  the changes could not be read or written`,
		flags: func(fs *flag.FlagSet) func(*IO, []string) error {
			var theirs, ours, both list
			id := fs.String("sandbox", "", "the `SANDBOX` to apply; default: the project's newest")
			protected := fs.Bool("with-protected", false, "also what the host would execute; shown, and asked for on a terminal")
			yes := fs.Bool("yes", false, "do not ask")
			built := fs.Bool("built", false, "also what the project's gitignore covers")
			dry := fs.Bool("dry-run", false, "say what would be done, and do nothing")
			asJSON := fs.Bool("json", false, "print JSON")
			commit := fs.Bool("commit", false, "put the commits made inside on a branch")
			patch := fs.Bool("patch", false, "choose hunk by hunk on the terminal, as git add -p does")
			fs.Var(&theirs, "theirs", "let the sandbox's side win in a conflict at `PATH`; may be repeated")
			fs.Var(&theirs, "overwrite", "the same as --theirs `PATH`")
			fs.Var(&ours, "ours", "keep your side of a conflict at `PATH`; the sandbox's goes into the history")
			fs.Var(&both, "both", "keep both sides of a conflict at `PATH`: the sandbox's as PATH.sandbox")
			return func(std *IO, args []string) error {
				var none func() error
				switch {
				case *asJSON && *commit:
					none = func() error { return encode(std.Out, committed{Commits: []commits.Commit{}}) }
				case *asJSON:
					none = func() error { return encode(std.Out, []workspace.Outcome{}) }
				}
				return withReview(std, *id, none, func(r *session.Review) error {
					if *commit {
						return applyCommits(std, r, args, commitOptions{*protected, *yes, *dry, *asJSON})
					}
					paths, err := r.Paths(args)
					if err != nil {
						return err
					}
					o := workspace.ApplyOptions{Paths: paths, Built: *built, DryRun: *dry}
					for _, side := range []struct {
						to    *[]string
						typed list
					}{{&o.Overwrite, theirs}, {&o.Ours, ours}, {&o.Both, both}} {
						if *side.to, err = sidePaths(r, side.typed); err != nil {
							return err
						}
					}
					if *patch {
						return applyPatch(std, r, o)
					}
					if *protected {
						consent, err := askConsent(std, r, paths, *yes || *dry)
						if err != nil {
							return err
						}
						o.Consent = consent
					}
					return apply(std, r, o, *asJSON)
				})
			}
		},
	}
}

// sidePaths is Paths for flags that mean nothing at all without a path.
func sidePaths(r *session.Review, typed []string) ([]string, error) {
	paths, err := r.Paths(typed)
	if err == nil && paths == nil && len(typed) > 0 {
		paths = []string{""} // the whole project
	}
	return paths, err
}

// askConsent shows the protected changes and asks for them one by one. The answer is bound to exactly what was shown.
func askConsent(std *IO, r *session.Review, paths []string, yes bool) (map[string]string, error) {
	changes, err := r.Changes(context.Background(), workspace.ChangeOptions{Paths: paths})
	if err != nil {
		return nil, err
	}
	consent := map[string]string{}
	a := &review.Asker{In: std.In, Out: std.Out}
	items := review.Items(changes)
	for i := range items {
		it := &items[i]
		switch {
		case it.Group != review.Protected:
			continue
		case yes:
			consent[it.Path] = it.Digest
			continue
		case !isTerminal(std.In):
			return nil, coded{errors.New("protected changes need consent, and there is no terminal to ask on"), "casemate diff shows them; casemate apply --with-protected --yes takes them", exitProblem}
		}
		diff, err := review.Look(r.Layer, it, std.Color) // not the digest of the walk: a sandbox that runs may have changed it since
		if err != nil {
			return nil, err
		}
		fmt.Fprintln(std.Out, diff.Text)
		if a.Yes(fmt.Sprintf("%s: %s. Let it reach the host?", it.Name(), workspace.Visible(it.Protected))) {
			consent[it.Path] = diff.Digest
		}
		if a.Interrupted() {
			return nil, exitStatus(exitProblem)
		}
	}
	return consent, nil
}

func apply(std *IO, r *session.Review, o workspace.ApplyOptions, asJSON bool) error {
	if !o.DryRun {
		if err := r.Hold(); err != nil {
			return err
		}
		defer r.Box.Unlock()
	}
	sayOverlaps(std, r, o.Paths)
	outcomes, err := r.Apply(context.Background(), o)
	if asJSON {
		if e := encode(std.Out, slices.Concat([]workspace.Outcome{}, outcomes)); e != nil {
			return e
		}
	} else {
		printOutcomes(std.Out, outcomes)
		for _, dir := range r.LeftHidden(outcomes) {
			fmt.Fprintf(std.Err, "casemate: %s stays with the hidden files in it, which the sandbox could neither see nor move\n", workspace.Quote(dir+"/"))
		}
	}
	if err == nil && !asJSON && !o.DryRun {
		err = sayRest(std, r)
	}
	if err == nil {
		err = misnamed(r, o.Paths, outcomes)
	}
	if err != nil {
		return err
	}
	for _, out := range outcomes {
		gitsOwn := out.Class == workspace.ClassRefused && out.Count > 0 // every git command changes some
		if out.Status == workspace.Failed || out.Status == workspace.Held && out.Class != workspace.ClassBuilt && !gitsOwn {
			return exitStatus(exitProblem)
		}
	}
	if o.DryRun {
		return nil
	}
	return r.Done()
}

// misnamed finds a path that was given and names nothing, neither on the host nor among the changes.
func misnamed(r *session.Review, paths []string, outcomes []workspace.Outcome) error {
	for _, p := range paths {
		if _, err := os.Lstat(filepath.Join(r.Box.Record.Project, p)); err == nil {
			continue
		}
		names := func(o workspace.Outcome) bool { return o.Path == p || strings.HasPrefix(o.Path, p+"/") }
		if !slices.ContainsFunc(outcomes, names) {
			return coded{fmt.Errorf("%s is not there, and no change of it is held", workspace.Quote(p)), "casemate diff --name-only lists what is held", exitProblem}
		}
	}
	return nil
}

// sayOverlaps says, before it happens, which changes another sandbox of the project has its own version of.
func sayOverlaps(std *IO, r *session.Review, paths []string) {
	const most = 10
	list, err := r.Overlaps(context.Background(), paths)
	if err != nil {
		fmt.Fprintf(std.Err, "casemate: what other sandboxes changed cannot be told: %v\n", err)
	}
	for i, o := range list {
		if i == most {
			fmt.Fprintf(std.Err, "casemate: and %d more\n", len(list)-most)
			break
		}
		fmt.Fprintf(std.Err, "casemate: sandbox %s changed %s too: there it will be merged, or a conflict\n", o.Sandbox, workspace.Quote(o.Path))
	}
}

// sayRest says what an apply has left in the layer.
func sayRest(std *IO, r *session.Review) error {
	changes, err := r.Changes(context.Background(), workspace.ChangeOptions{})
	if err != nil {
		return err
	}
	return saySummary(std, r, "still held", changes)
}

func printOutcomes(w io.Writer, outcomes []workspace.Outcome) {
	done := map[workspace.Status]int{}
	for _, out := range outcomes {
		done[out.Status]++
		switch {
		case out.Why != "":
			fmt.Fprintf(w, "%-8s %s: %s\n", out.Status, review.Plainly(workspace.Visible(out.Path)), review.Plainly(workspace.Visible(out.Why)))
		case out.Merged != "" && out.Status != workspace.Applied:
			fmt.Fprintf(w, "%-8s %s: merged with your own change (%s)\n", out.Status, workspace.Visible(out.Path), out.Merged)
		}
	}
	for _, s := range []workspace.Status{workspace.Applied, workspace.Merged, workspace.Dropped, workspace.Planned, workspace.Held, workspace.Failed} {
		if n := done[s]; n > 0 {
			fmt.Fprintf(w, "%d %s\n", n, s)
		}
	}
	if len(outcomes) == 0 {
		fmt.Fprintln(w, "no changes")
	}
}

func discardCommand() command {
	return command{
		name: "discard", summary: "throw the held changes away",
		example: "casemate discard --yes",
		help: `
Removes the change layer of the project's newest sandbox, once you have said
yes to it. Without a terminal to ask on that is --yes, and nothing goes without.
The sandbox's own home, with what tools have left there, stays; casemate rm
--home removes it.`,
		exits: `
1    not confirmed; everything is still held
125  the sandbox is running, or the layer could not be removed`,
		flags: func(fs *flag.FlagSet) func(*IO, []string) error {
			id := fs.String("sandbox", "", "the `SANDBOX` to discard; default: the project's newest")
			yes := fs.Bool("yes", false, "do not ask")
			return func(std *IO, _ []string) error {
				return withReview(std, *id, nil, func(r *session.Review) error {
					if !*yes {
						if err := askDiscard(std, r); err != nil {
							return err
						}
					}
					if err := r.Discard(); err != nil {
						return err
					}
					fmt.Fprintf(std.Err, "casemate: discarded the changes of %s\n", r.Box.Record.ID)
					return nil
				})
			}
		},
	}
}

func askDiscard(std *IO, r *session.Review) error {
	if !isTerminal(std.In) {
		return coded{errors.New("not discarded: there is no terminal to ask on"), "casemate diff shows the changes; casemate discard --yes throws them away", exitProblem}
	}
	changes, err := r.Changes(context.Background(), workspace.ChangeOptions{})
	if err == nil {
		err = r.Count(context.Background(), changes)
	}
	if err != nil {
		return err
	}
	if a := (&review.Asker{In: std.In, Out: std.Out}); !a.Yes(fmt.Sprintf("%s. Throw them away?", workspace.Summarize(changes))) {
		return exitStatus(exitProblem)
	}
	return nil
}
