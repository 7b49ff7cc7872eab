package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"time"

	"casemate.dev/internal/history"
	"casemate.dev/internal/session"
	"casemate.dev/internal/workspace"
)

func undoCommand() command {
	return command{
		name: "undo", args: "[ID] [PATH...]", summary: "bring back what was there before an apply or a live run",
		example: "casemate undo --dry-run",
		help: `
Brings back the project's files as they were before the newest apply or live
run that was not undone yet, or before the one with the number ID: content,
mode and time. With paths, only these. What you changed yourself since stays,
and is named; --force brings back the old one there too, and keeps yours. An
undo is on the list as well, so it can be undone by its number.`,
		exits: `
1    some files stayed as they are; they are named
125  the history could not be read, or the files not be written`,
		flags: func(fs *flag.FlagSet) func(*IO, []string) error {
			list := fs.Bool("list", false, "show what can be undone, with size and age")
			dry := fs.Bool("dry-run", false, "say what would be done, and do nothing")
			force := fs.Bool("force", false, "also where you changed the file since")
			asJSON := fs.Bool("json", false, "print JSON")
			return func(std *IO, args []string) error {
				person, err := session.Self()
				if err != nil {
					return err
				}
				h, err := session.OpenHistory(person)
				if err != nil {
					return err
				}
				defer h.Close()
				if *list {
					return listHistory(std, h, *asJSON)
				}
				o := history.UndoOptions{Force: *force, DryRun: *dry}
				if len(args) > 0 {
					if n, err := strconv.Atoi(args[0]); err == nil && n > 0 {
						o.Number, args = n, args[1:]
					}
				}
				if o.Paths, err = session.PathsIn(h.Project, args); err != nil {
					return err
				}
				return undo(std, h, o, *asJSON)
			}
		},
	}
}

func undo(std *IO, h *history.Log, o history.UndoOptions, asJSON bool) error {
	past, outcomes, err := h.Undo(context.Background(), o)
	if errors.Is(err, history.ErrNothing) {
		if asJSON {
			return encode(std.Out, undoJSON{Outcomes: []history.Outcome{}})
		}
		fmt.Fprintln(std.Err, "casemate: there is nothing to undo in this project")
		return nil
	}
	if past == nil {
		return err
	}
	if asJSON {
		if e := encode(std.Out, undoJSON{past.Number, past.What, outcomes}); e != nil {
			return e
		}
	} else {
		fmt.Fprintf(std.Err, "casemate: entry %d, %s of %s\n", past.Number, past.What, past.Time.Local().Format(time.DateTime))
		printUndone(std.Out, outcomes)
	}
	if err != nil {
		return err
	}
	for _, out := range outcomes {
		if out.Status == history.Conflict || out.Status == history.Failed {
			return exitStatus(exitProblem)
		}
	}
	return nil
}

type undoJSON struct {
	Entry    int               `json:"entry"` // 0: there was nothing to undo
	What     history.What      `json:"what"`
	Outcomes []history.Outcome `json:"outcomes"`
}

func printUndone(w io.Writer, outcomes []history.Outcome) {
	done := map[history.Status]int{}
	for _, out := range outcomes {
		done[out.Status]++
		switch {
		case out.Why != "":
			fmt.Fprintf(w, "%-8s %s: %s\n", out.Status, workspace.Quote(out.Path), workspace.Visible(out.Why))
		case out.Status == history.Planned && out.To == history.Absent:
			fmt.Fprintf(w, "%-8s %s: would go\n", out.Status, workspace.Quote(out.Path))
		case out.Status == history.Planned:
			fmt.Fprintf(w, "%-8s %s\n", out.Status, workspace.Quote(out.Path))
		}
	}
	for _, s := range []history.Status{history.Undone, history.Planned, history.Already, history.Conflict, history.Failed} {
		if n := done[s]; n > 0 {
			fmt.Fprintf(w, "%d %s\n", n, s)
		}
	}
	if len(outcomes) == 0 {
		fmt.Fprintln(w, "no changes")
	}
}

type historyRow struct {
	Entry   int          `json:"entry"`
	What    history.What `json:"what"`
	Sandbox string       `json:"sandbox,omitempty"`
	Of      int          `json:"of,omitempty"`
	Time    time.Time    `json:"time"`
	Paths   int          `json:"paths"`
	Size    int64        `json:"size"`
	State   string       `json:"state,omitempty"` // undone, interrupted
}

func listHistory(std *IO, h *history.Log, asJSON bool) error {
	list, err := h.List()
	rows := []historyRow{}
	undone := map[int]bool{}
	for _, p := range list {
		r := historyRow{Entry: p.Number, What: p.What, Sandbox: p.Sandbox, Of: p.Of, Time: p.Time, Paths: len(p.Changed()), Size: p.Size()}
		switch {
		case undone[p.Number]:
			r.State = "undone"
		case p.What == history.Undo && p.Complete:
			undone[p.Of] = true
		case !p.Ended:
			r.State = "interrupted"
		}
		rows = append(rows, r)
	}
	if asJSON {
		return errors.Join(encode(std.Out, rows), err)
	}
	if len(rows) == 0 && err == nil {
		fmt.Fprintln(std.Err, "casemate: nothing was applied in this project yet")
		return nil
	}
	fmt.Fprintf(std.Out, "%-5s %-9s %6s %9s %5s  %-9s %s\n", "ID", "WHAT", "PATHS", "SIZE", "AGE", "SANDBOX", "STATE")
	for _, r := range rows {
		what := string(r.What)
		if r.Of > 0 {
			what = fmt.Sprintf("%s %d", r.What, r.Of)
		}
		fmt.Fprintf(std.Out, "%-5d %-9s %6d %9s %5s  %-9s %s\n", r.Entry, what, r.Paths, size(r.Size), age(time.Since(r.Time)), workspace.Visible(r.Sandbox), r.State)
	}
	return err
}
