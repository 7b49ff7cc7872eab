package cli

import (
	"errors"
	"flag"
	"fmt"
	"slices"

	"casemate.dev/internal/policy"
	"casemate.dev/internal/session"
	"casemate.dev/internal/workspace"
)

func policyCommand() command {
	return command{
		name: "policy", args: "show|check|schema|reference", summary: "show, check and explain the policy",
		example: "casemate policy show",
		help: `
show       the merged policy with the origin of each value
check      reads all policy files and names every mistake with file:line:column
schema     the JSON Schema of policy files, for editors
reference  every key with its meaning, type, default and an example (Markdown)`,
		exits: "125  a policy file is wrong; the message says where and how to mend it",
		flags: func(fs *flag.FlagSet) func(*IO, []string) error {
			var f policy.Flags
			policyFlags(fs, &f)
			asJSON := fs.Bool("json", false, "print JSON")
			return func(std *IO, args []string) error {
				if len(args) != 1 {
					return usageError(errors.New("policy needs one of: show, check, schema, reference"), "casemate policy show")
				}
				switch args[0] {
				case "schema":
					_, err := std.Out.Write(policy.Schema())
					return err
				case "reference":
					_, err := std.Out.Write(policy.Reference())
					return err
				case "show", "check":
					return showPolicy(std, f, args[0] == "check", *asJSON)
				}
				return usageError(fmt.Errorf("policy has no part %q", args[0]), "casemate policy show|check|schema|reference")
			}
		},
	}
}

// checked is what policy check prints of files that are in order.
type checked struct {
	Files   []string         `json:"files"`
	Ignored []policy.Widened `json:"ignored"` // what has no effect until it is approved
}

func showPolicy(std *IO, f policy.Flags, check, asJSON bool) error {
	person, err := session.Self()
	if err != nil {
		return err
	}
	tiers, err := person.Load(person.FindProject(), f)
	if err != nil {
		return err
	}
	files := []string{}
	for _, s := range tiers.Sources[:len(tiers.Sources)-1] { // the last source is the flags
		files = append(files, s.Name)
	}
	notices, err := person.AddPresets(tiers, person.FindProject())
	if err != nil {
		return err
	}
	for _, n := range notices {
		fmt.Fprintln(std.Err, "casemate:", workspace.Visible(n))
	}
	merged, err := policy.Merge(tiers.Sources)
	if err != nil {
		return err
	}
	if check {
		if err := checkApproved(tiers.Sources); err != nil {
			return err
		}
		for _, w := range merged.Ignored {
			fmt.Fprintf(std.Err, "casemate: %s widens %s and is not approved (casemate trust)\n", w.Origin, w.Key)
		}
		if asJSON {
			return encode(std.Out, checked{files, slices.Concat([]policy.Widened{}, merged.Ignored)})
		}
		fmt.Fprintf(std.Out, "in order: %s\n", count(len(files), "policy file"))
		return nil
	}
	values := merged.Explain()
	if asJSON {
		return encode(std.Out, values)
	}
	for _, v := range values {
		fmt.Fprintf(std.Out, "%-18s %-28s %s\n", v.Key, workspace.Visible(v.Value), workspace.Visible(v.From))
	}
	return nil
}

// checkApproved finds what would be wrong once the project's policy were approved: before that, it has no effect.
func checkApproved(sources []policy.Source) error {
	sources = slices.Clone(sources)
	for i := range sources {
		sources[i].Trusted = true
	}
	merged, err := policy.Merge(sources)
	if err != nil {
		return err
	}
	return errors.Join(policy.NotInThisVersion(merged)...)
}
