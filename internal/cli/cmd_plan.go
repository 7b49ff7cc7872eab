package cli

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"strings"

	"casemate.dev/internal/plan"
	"casemate.dev/internal/policy"
	"casemate.dev/internal/session"
	"casemate.dev/internal/workspace"
)

func planCommand() command {
	return command{
		name: "plan", args: "[-- COMMAND [ARGUMENT...]]", summary: "show exactly what would be enforced", direct: true,
		example: "casemate plan --explain -- npm test",
		help: `
Resolves the policy for this machine and COMMAND, as casemate run would, and
prints what the engine will do, without doing it: what is mounted, what is
hidden, which limits hold and by what, which guarantees are kept, and every
opening with the policy line that made it.`,
		exits: "125  run would refuse; the message says why",
		flags: func(fs *flag.FlagSet) func(*IO, []string) error {
			o := session.Options{DryRun: true}
			policyFlags(fs, &o.Flags)
			explain := fs.Bool("explain", false, "name the tier, file and line of every value that holds")
			steps := fs.Bool("steps", false, "list the set-up steps that the engine would take")
			asJSON := fs.Bool("json", false, "print JSON")
			return func(std *IO, args []string) error {
				if len(args) == 0 {
					args = []string{"sh"}
				}
				o.Command = args
				o.Umask = std.umask
				o.Terminal = isTerminal(std.In) && isTerminal(std.Out)
				person, err := session.Self()
				if err != nil {
					return err
				}
				r, err := session.Prepare(person, o)
				if err != nil {
					return err
				}
				if *steps {
					return printSteps(std.Out, r, *asJSON)
				}
				return printPlan(std.Out, r, *explain, *asJSON)
			}
		},
	}
}

func printSteps(w io.Writer, r *session.Run, asJSON bool) error {
	steps, err := r.Steps()
	if err != nil {
		return err
	}
	if asJSON {
		return encode(w, steps)
	}
	for i, s := range steps {
		fmt.Fprintf(w, "%3d  %s\n", i, s)
	}
	return nil
}

func encode(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func printPlan(w io.Writer, r *session.Run, explain, asJSON bool) error {
	var values []policy.Effective
	if explain {
		values = r.Explain()
	}
	if asJSON {
		return encode(w, struct {
			*plan.Plan
			Policy  []policy.Effective `json:"policy,omitempty"`
			Notices []string           `json:"notices,omitempty"`
		}{r.Plan, values, r.Notices})
	}
	p := r.Plan
	fmt.Fprintf(w, "mode       %s, level %s\n", p.Mode, p.Level)
	fmt.Fprintf(w, "command    %s\n", workspace.Visible(strings.Join(p.Command.Argv, " ")))
	fmt.Fprintf(w, "           %s as %s (%d:%d) in %s\n", workspace.Visible(orNone(p.Command.Path, "not found")), p.User.Name, p.User.UID, p.User.GID, workspace.Visible(p.Command.Dir))
	fmt.Fprintf(w, "workspace  %s by %s\n", p.Workspace.Kind, p.Workspace.By)
	fmt.Fprintf(w, "           %s\n", p.Workspace.Mirror)
	fmt.Fprintf(w, "network    %s\n", p.Network)
	if p.Network.Kind == plan.Gate {
		fmt.Fprintln(w, "           follows allow, deny and ask of the policy files while it runs")
	} else {
		fmt.Fprintln(w, "           until it ends: without a gate at the start nothing can be opened")
	}
	fmt.Fprintln(w, "\nSeen inside")
	for _, m := range p.Mounts {
		fmt.Fprintf(w, "  %-9s %s\n", access(m), workspace.Visible(mountText(m)))
	}
	if p.Mode == plan.Landlock {
		for _, r := range p.Landlock.Allow {
			how := access(plan.Mount{Writable: r.Write})
			if r.List {
				how = "list"
			}
			fmt.Fprintf(w, "  %-9s %s\n", how, workspace.Visible(r.Path))
		}
	}
	if t := p.Network.TLS; t != nil {
		printTLS(w, t)
	}
	fmt.Fprintln(w, "\nLimits")
	for _, l := range p.Limits {
		fmt.Fprintf(w, "  %-11s %-11s %s\n", l.Name, l.Value, l.By)
	}
	fmt.Fprintln(w, "\nGuarantees")
	for _, g := range p.Guarantees {
		fmt.Fprintf(w, "  %-19s %-9s %s\n", g.Name, g.State, wrap(g.By, 48, "                                "))
	}
	fmt.Fprintln(w, "\nOpenings")
	if len(p.Openings) == 0 {
		fmt.Fprintln(w, "  none")
	}
	for _, o := range p.Openings {
		fmt.Fprintf(w, "  %s\n      %s\n", workspace.Visible(o.What), workspace.Visible(o.Origin))
	}
	for _, n := range append(p.Notes, r.Notices...) {
		fmt.Fprintf(w, "\nNote: %s\n", wrap(workspace.Visible(n), 72, "      "))
	}
	if explain {
		fmt.Fprintln(w, "\nPolicy")
		for _, v := range values {
			fmt.Fprintf(w, "  %-18s %-28s %s\n", v.Key, workspace.Visible(v.Value), workspace.Visible(v.From))
		}
	}
	return nil
}

// printTLS says what is opened at the gate, and how programs inside are made to trust it.
func printTLS(w io.Writer, t *plan.TLS) {
	fmt.Fprintln(w, "\nTLS opened at the gate")
	for _, h := range t.Hosts {
		fmt.Fprintf(w, "  %s\n      %s\n", workspace.Visible(h.Value), workspace.Visible(h.Origin))
	}
	fmt.Fprintln(w, "Trusted inside because of it")
	for _, f := range t.Files {
		fmt.Fprintf(w, "  file      %s\n", workspace.Visible(f))
	}
	for _, v := range t.Variables {
		if v.Origin != "" {
			fmt.Fprintf(w, "  yours     %s\n      %s\n", v.Name, workspace.Visible(v.Origin))
			continue
		}
		fmt.Fprintf(w, "  variable  %s=%s\n", v.Name, v.Value)
	}
}

func orNone(s, none string) string {
	if s == "" {
		return none
	}
	return s
}

func access(m plan.Mount) string {
	switch {
	case m.Kind == plan.Overlay && m.ReadOnly:
		return "read"
	case m.Cache != "":
		return "cache"
	case m.Kind == plan.Overlay:
		return "held"
	case m.Kind == plan.Symlink:
		return "link"
	case m.Source == "/dev/null":
		return "hidden"
	case m.Writable:
		return "write"
	}
	return "read"
}

func mountText(m plan.Mount) string {
	switch {
	case m.Kind == plan.Symlink:
		return m.Target + " -> " + m.Source
	case m.Kind == plan.Tmpfs:
		return fmt.Sprintf("%s, in memory, at most %d MiB", m.Target, m.Size>>20)
	case m.Kind == plan.Proc, m.Kind == plan.Devices, m.Source == m.Target, m.Source == "/dev/null":
		return m.Target
	}
	return m.Target + " from " + m.Source
}
