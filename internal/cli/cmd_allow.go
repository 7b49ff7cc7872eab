package cli

import (
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"casemate.dev/internal/session"
)

func allowCommand() command {
	return command{
		name: "allow", args: "SANDBOX net:HOST[:PORT]", summary: "let a running sandbox reach a host",
		example: "casemate allow k7f3q2ab net:api.example.com --for 1h",
		help: `
Opens a running sandbox to one host, at once: what it was denied a moment ago
it can reach now. Without --for it holds until the sandbox's run ends. --save
also writes the rule into your own policy, for every run, those that run now
too. What a policy denies stays denied. The sandbox must have been started with
a network: by run --allow or a rule in a policy. casemate net shows what was
denied, with this command's line for each.`,
		exits: "125  the sandbox does not run, has no network, or a policy denies the host",
		flags: func(fs *flag.FlagSet) func(*IO, []string) error {
			during := fs.Duration("for", 0, "only for this `DURATION`, such as 1h")
			save := fs.Bool("save", false, "also write the rule into your policy")
			asJSON := fs.Bool("json", false, "print JSON")
			return func(std *IO, args []string) error {
				if len(args) != 2 {
					return usageError(errors.New("allow needs a sandbox and what it may reach"), "casemate allow SANDBOX net:HOST[:PORT]")
				}
				host, isNet := strings.CutPrefix(args[1], "net:")
				if !isNet {
					return usageError(fmt.Errorf("%q is not of the form net:HOST[:PORT]", args[1]), "casemate allow "+args[0]+" net:"+args[1])
				}
				if *during < 0 || *during > 0 && *save {
					return usageError(errors.New("--for needs a time to come, and what is saved has none"), "give --for or --save")
				}
				var until time.Time
				if *during > 0 {
					until = time.Now().Add(*during)
				}
				person, err := session.Anywhere()
				if err != nil {
					return err
				}
				rule, err := session.Allow(person, args[0], host, until, "casemate allow")
				if err != nil {
					return err
				}
				saved := ""
				if *save {
					if saved, err = person.SaveRule(host); err != nil {
						return err
					}
				}
				if *asJSON {
					return encode(std.Out, map[string]any{"sandbox": args[0], "rule": rule, "saved": saved})
				}
				fmt.Fprintf(std.Err, "casemate: %s may reach %s%s\n", args[0], host, howLong(until))
				if saved != "" {
					fmt.Fprintf(std.Err, "casemate: and so may every sandbox of yours: written to %s\n", saved)
				}
				return nil
			}
		},
	}
}

func howLong(until time.Time) string {
	if until.IsZero() {
		return " until its run ends"
	}
	return " until " + until.Format("15:04:05")
}
