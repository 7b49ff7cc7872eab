package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"casemate.dev/internal/session"
	"casemate.dev/internal/workspace"
)

func forkCommand() command {
	return command{
		name: "fork", args: "[SANDBOX]", summary: "copy a sandbox's held changes into another",
		example: "casemate fork --snapshot",
		help: `
Makes a second sandbox that holds what SANDBOX, or the project's newest, holds
now, and prints its ID. From then on each goes its own way: diff, review, apply
and discard work on the copy with --sandbox ID, and casemate run --sandbox ID
goes on with it. A sandbox that runs stands still for that moment and goes on.
The original stays what these commands mean where no sandbox is named.

With --snapshot the copy stays as it is: no run goes on with it, but fork can
copy it again, and casemate ps -a shows it. casemate rm removes either.`,
		exits: "125  there is nothing to copy, or it could not be copied",
		flags: func(fs *flag.FlagSet) func(*IO, []string) error {
			snapshot := fs.Bool("snapshot", false, "a copy that no run goes on with")
			asJSON := fs.Bool("json", false, "print JSON")
			return func(std *IO, args []string) error {
				if len(args) > 1 {
					return usageError(fmt.Errorf("fork takes one sandbox, and got %d", len(args)), "casemate ps -a lists them")
				}
				return fork(std, append(args, "")[0], *snapshot, *asJSON)
			}
		},
	}
}

func fork(std *IO, id string, snapshot, asJSON bool) error {
	person, err := session.Self()
	if err != nil {
		return err
	}
	f, err := session.Fork(context.Background(), person, id, snapshot)
	if errors.Is(err, session.ErrNoChanges) {
		return hinted(err, "casemate ps -a lists what is kept")
	}
	if err != nil {
		return err
	}
	for _, s := range f.Skipped {
		fmt.Fprintf(std.Err, "casemate: not in the copy: %s\n", workspace.Visible(s))
	}
	if asJSON {
		return encode(std.Out, f)
	}
	if snapshot {
		fmt.Fprintf(std.Err, "casemate: a snapshot of %s; casemate fork copies it again\n", f.Origin)
	} else {
		fmt.Fprintf(std.Err, "casemate: a copy of %s; casemate run --sandbox %s -- COMMAND goes on with it\n", f.Origin, f.Sandbox)
	}
	fmt.Fprintln(std.Out, f.Sandbox)
	return nil
}
