package cli

import (
	"flag"
	"fmt"
	"io"
	"strings"

	"casemate.dev/internal/engine/native"
	"casemate.dev/internal/host"
	"casemate.dev/internal/limits"
	"casemate.dev/internal/session"
	"casemate.dev/internal/store"
)

func doctorCommand() command {
	return command{
		name: "doctor", summary: "say what this machine can enforce, and how to mend the rest",
		example: "casemate doctor",
		help: `
Tries each mechanism that the engine needs, in children that leave nothing
behind, and says which limits are held by what. For everything that is missing
it gives the exact command or file that mends it.`,
		exits: "1    something that the engine needs is missing",
		flags: func(fs *flag.FlagSet) func(*IO, []string) error {
			asJSON := fs.Bool("json", false, "print JSON")
			return func(std *IO, _ []string) error {
				person, err := session.Anywhere()
				if err != nil {
					return err
				}
				st, err := store.Open(person.StateHome, person.Home)
				if err != nil {
					return err
				}
				facts := host.Full()
				offers := limits.Detect(person.UID, !facts.AtLeast(5, 14))
				checks := host.Examine(facts, st.Root, native.Redirects(true))
				held := limits.By(offers, limits.Defaults(offers.Memory, 1<<40, true))
				if *asJSON {
					err = encode(std.Out, struct {
						Facts   host.Facts        `json:"facts"`
						Checks  []host.Check      `json:"checks"`
						Limits  []limits.Enforced `json:"limits"`
						Cgroups limits.Facts      `json:"cgroups"`
					}{facts, checks, held, offers})
				} else {
					printDoctor(std.Out, checks, held)
				}
				if err != nil {
					return err
				}
				for _, c := range checks {
					if c.Needed && !c.OK {
						return exitStatus(exitProblem)
					}
				}
				return nil
			}
		},
	}
}

func printDoctor(w io.Writer, checks []host.Check, held []limits.Enforced) {
	const indent = "                              "
	for _, c := range checks {
		state := "ok"
		if !c.OK && c.Needed {
			state = "MISSING"
		} else if !c.OK {
			state = "note"
		}
		fmt.Fprintf(w, "%-8s %-20s %s\n", state, c.Name, wrap(c.Detail, 50, indent))
		if c.Remedy != "" && !c.OK {
			for line := range strings.SplitSeq(strings.TrimSpace(c.Remedy), "\n") {
				fmt.Fprintf(w, "%s%s\n", indent, line)
			}
		}
	}
	fmt.Fprintln(w, "\nLimits")
	for _, l := range held {
		fmt.Fprintf(w, "  %-11s %-9s %s\n", l.Name, l.Strength, wrap(l.By, 54, "                        "))
	}
}
