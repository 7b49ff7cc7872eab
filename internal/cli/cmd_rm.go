package cli

import (
	"errors"
	"flag"
	"fmt"

	"casemate.dev/internal/session"
)

func rmCommand() command {
	return command{
		name: "rm", args: "SANDBOX...", summary: "remove kept sandboxes with their layers",
		example: "casemate rm --home k7f3q2ab",
		help: `
Removes sandboxes, whatever changes they hold. A running one is refused, unless
--force ends it first. With --home the project's sandbox home goes too: what
agents and tools have left there, such as settings and logins made inside.`,
		exits: "125  a sandbox is running, or could not be removed",
		flags: func(fs *flag.FlagSet) func(*IO, []string) error {
			home := fs.Bool("home", false, "also the home of the sandbox's project")
			force := fs.Bool("force", false, "end the sandbox first if it runs")
			return func(std *IO, args []string) error {
				if len(args) == 0 {
					return usageError(errors.New("rm needs the name of a sandbox"), "casemate ps -a lists them")
				}
				st, err := openStore()
				if err != nil {
					return err
				}
				for _, id := range args {
					box, err := st.Find(id)
					if err != nil {
						return err
					}
					if err := session.Remove(st, box, *home, *force); err != nil {
						return err
					}
					fmt.Fprintf(std.Err, "casemate: removed %s\n", box.Record.ID)
				}
				return nil
			}
		},
	}
}
