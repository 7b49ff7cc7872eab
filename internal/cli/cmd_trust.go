package cli

import (
	"errors"
	"flag"
	"fmt"

	"casemate.dev/internal/policy"
	"casemate.dev/internal/review"
	"casemate.dev/internal/session"
	"casemate.dev/internal/workspace"
)

func trustCommand() command {
	return command{
		name: "trust", summary: "approve what the project's policy file widens",
		example: "casemate trust --yes",
		help: `
A project's casemate.yaml lies where an agent can write. What it narrows holds
at once; what it widens has no effect until you approve exactly these bytes.
This shows the widening lines, and asks. A changed file asks again. Sandboxes of
the project that run take up at once what it says of network.allow.`,
		exits: `
1    not approved
125  the policy could not be read`,
		flags: func(fs *flag.FlagSet) func(*IO, []string) error {
			yes := fs.Bool("yes", false, "approve without asking")
			revoke := fs.Bool("revoke", false, "withdraw the approval")
			asJSON := fs.Bool("json", false, "print the widening lines as JSON and change nothing")
			return func(std *IO, _ []string) error {
				person, err := session.Self()
				if err != nil {
					return err
				}
				tiers, err := person.Load(person.FindProject(), policy.Flags{})
				if err != nil {
					return err
				}
				if tiers.Project == nil {
					return hinted(errors.New("this project has no "+session.PolicyFile), "casemate init writes one")
				}
				if *revoke {
					err := person.Approve(tiers.Project, false)
					if err == nil {
						fmt.Fprintf(std.Out, "%s is not approved any more\n", workspace.Visible(tiers.Project.Path))
					}
					return err
				}
				widened := policy.Widening(tiers.Project.Doc, tiers.Sources...)
				if *asJSON {
					return encode(std.Out, struct {
						File    string           `json:"file"`
						Digest  string           `json:"digest"`
						Trusted bool             `json:"trusted"`
						Widens  []policy.Widened `json:"widens"`
					}{tiers.Project.Path, tiers.Project.Digest, tiers.Project.Trusted, widened})
				}
				return askTrust(std, person, tiers.Project, widened, *yes)
			}
		},
	}
}

func askTrust(std *IO, person session.Person, own *session.ProjectPolicy, widened []policy.Widened, yes bool) error {
	switch {
	case len(widened) == 0:
		fmt.Fprintf(std.Out, "%s only narrows; there is nothing to approve\n", workspace.Visible(own.Path))
		return nil
	case own.Trusted:
		fmt.Fprintf(std.Out, "%s is approved as it is\n", workspace.Visible(own.Path))
		return nil
	}
	fmt.Fprintf(std.Out, "%s would widen:\n", workspace.Visible(own.Path))
	for _, w := range widened {
		why := ""
		if w.Why != policy.NotTrusted {
			why = " (" + w.Why + ")"
		}
		fmt.Fprintf(std.Out, "  %s  %s: %s%s\n", w.Origin, w.Key, review.Plainly(workspace.Visible(w.Text)), why)
	}
	if !yes {
		if !isTerminal(std.In) {
			return coded{errors.New("not approved: there is no terminal to ask on"), "casemate trust --yes approves exactly these lines", exitProblem}
		}
		if a := (&review.Asker{In: std.In, Out: std.Out}); !a.Yes("Approve exactly these bytes?") {
			return exitStatus(exitProblem)
		}
	}
	if err := person.Approve(own, true); err != nil {
		return err
	}
	fmt.Fprintf(std.Out, "approved %s\n", own.Digest)
	return nil
}
