package cli

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"casemate.dev/internal/cache"
	"casemate.dev/internal/policy"
	"casemate.dev/internal/preset"
	"casemate.dev/internal/review"
	"casemate.dev/internal/session"
	"casemate.dev/internal/workspace"
)

func presetCommand() command {
	return command{
		name: "preset", args: "list | show NAME", summary: "list what tool chains and agents need of the network",
		example: "casemate preset show npm",
		help: `
A preset opens the network to what a tool chain installs from, and nothing more:
casemate run --preset npm -- npm ci, or presets: [npm] in a policy. Only what
installing asks is allowed there: publishing, or a push, is answered with 403.
The hosts of package registries come from the tool's own configuration, so
mirrors need no further word. Where no file says it the tool itself is asked,
once.

An agent's preset opens the API of its model, and its command takes it by
itself: casemate run -- claude. --preset none, or presets: [none] in a policy,
leaves that out. casemate agents lists these.

list       the presets, and which are usable here
show NAME  the hosts that it opens, which line or command named each, and the
           requests that it allows there

A file $XDG_CONFIG_HOME/casemate/presets/NAME.yaml adds a preset of your own, or
takes the place of the built-in one. A project cannot add any.`,
		exits: "125  there is no such preset, or its file is wrong",
		flags: func(fs *flag.FlagSet) func(*IO, []string) error {
			asJSON := fs.Bool("json", false, "print JSON")
			return func(std *IO, args []string) error {
				person, err := session.Self()
				if err != nil {
					return err
				}
				here, err := person.Presets(person.FindProject())
				if err != nil {
					return err
				}
				switch {
				case len(args) == 1 && args[0] == "list":
					return listPresets(std, here, *asJSON)
				case len(args) == 2 && args[0] == "show":
					found, err := here.Find(args[1])
					if err != nil {
						return err
					}
					if *asJSON {
						return encode(std.Out, found)
					}
					showPreset(std.Out, here, found)
					return nil
				}
				return usageError(errors.New("preset needs list, or show and a name"), "casemate preset list")
			}
		},
	}
}

func listPresets(std *IO, here *preset.Here, asJSON bool) error {
	var rows []preset.Found
	for _, name := range here.Names() {
		found, err := here.Find(name)
		if err != nil { // one broken file of a person's must not hide the others
			fmt.Fprintln(std.Err, "casemate:", workspace.Visible(err.Error()))
			continue
		}
		rows = append(rows, found)
	}
	if asJSON {
		return encode(std.Out, rows)
	}
	fmt.Fprintf(std.Out, "%-12s %-8s %-32s %s\n", "NAME", "HERE", "OPENS", "AS SAID BY")
	for _, f := range rows {
		host, from := "no host was found", ""
		if n := len(f.Openings); n > 0 {
			host, from = f.Openings[0].Target(), f.Openings[0].From
			if n > 1 {
				more := fmt.Sprintf(" and %d more", n-1)
				host = cut(host, 32-len(more)) + more
			}
		}
		fmt.Fprintf(std.Out, "%s\n", strings.TrimRight(fmt.Sprintf("%-12s %-8s %-32s %s", cut(f.Preset.Name, 12), usable(f), cut(workspace.Visible(host), 32), cut(workspace.Visible(from), 25)), " "))
	}
	return nil
}

// usable says in a word whether a preset does something here.
func usable(f preset.Found) string {
	switch {
	case len(f.Openings) == 0:
		return "no"
	case len(f.Preset.Tools) > 0 && f.Tool == "":
		return "no tool"
	}
	return "yes"
}

// cut shortens text to a width.
func cut(text string, width int) string {
	r := []rune(text)
	if len(r) <= width {
		return text
	}
	return string(r[:width-1]) + "…"
}

func showPreset(w io.Writer, here *preset.Here, f preset.Found) {
	p := f.Preset
	field := func(name, text string) {
		fmt.Fprintf(w, "%-8s %s\n", name, wrap(workspace.Visible(text), 70, "         "))
	}
	fmt.Fprintf(w, "%s: %s\n\n", p.Name, wrap(workspace.Visible(p.Description), 76-len(p.Name), "  "))
	if len(p.Tools) > 0 {
		field("tool", orNone(f.Tool, "none of "+strings.Join(p.Tools, ", ")+" is installed"))
	}
	field("preset", orNone(p.File, "built in; a file of yours would take its place: "+here.Dir()+"/"+p.Name+".yaml"))
	field("see", p.Source)
	fmt.Fprintln(w, "\nOpens")
	if len(f.Openings) == 0 {
		fmt.Fprintln(w, "  nothing: no host was found")
	}
	for _, o := range f.Openings {
		target, from := workspace.Visible(o.Target()), workspace.Visible(o.From)
		if len(p.Requests) > 0 && len(o.Requests) == 0 {
			from += ", wholly"
		}
		if len(target) > 34 || len(from) > 42 {
			fmt.Fprintf(w, "  %s\n    %s\n", target, wrap(from, 74, "    "))
		} else {
			fmt.Fprintf(w, "  %-34s %s\n", target, from)
		}
	}
	if len(p.Requests) > 0 {
		fmt.Fprintln(w, "\nAllows there, by opening TLS at the gate")
		for _, r := range p.Requests {
			fmt.Fprintf(w, "  %s\n", wrap(r.String(), 74, "      "))
		}
	}
	if len(f.Set) > 0 {
		fmt.Fprintln(w, "\nTells the tool inside")
		for _, v := range f.Set {
			fmt.Fprintf(w, "  %s\n", workspace.Visible(policy.Variable(v).String()))
		}
	}
	if p.Agent != nil {
		showAgent(w, p)
	}
	for _, n := range append(f.Warnings, f.Notes...) {
		fmt.Fprintf(w, "\nNote: %s\n", wrap(workspace.Visible(n), 72, "      "))
	}
	if names := cache.ForPreset(p.Name); len(names) > 0 {
		fmt.Fprintf(w, "\nNote: %s\n", wrap("what you have downloaded already need not be again: --cache "+strings.Join(names, " or --cache "), 72, "      "))
	}
	if !p.ReadOnly() {
		text := publishing
		if p.Agent != nil {
			text = telling
		}
		fmt.Fprintf(w, "\nNote: %s\n", wrap(text, 72, "      "))
	}
}

// showAgent says what becomes of an agent inside.
func showAgent(w io.Writer, p preset.Preset) {
	list := func(title string, lines []string) {
		if len(lines) > 0 {
			fmt.Fprintf(w, "\n%s\n", title)
		}
		for _, l := range lines {
			fmt.Fprintf(w, "  %s\n", wrap(workspace.Visible(l), 74, "    "))
		}
	}
	a := p.Agent
	if a.Secret != nil {
		list("Its key", []string{fmt.Sprintf("%s, for %s", a.Secret.Env, strings.Join(a.Secret.Hosts, ", "))})
	}
	if a.Login != nil {
		text := fmt.Sprintf("%s, for %s", a.Login.Env, strings.Join(a.Login.Hosts, ", "))
		if len(a.Login.Paths) > 0 {
			text += " at " + strings.Join(a.Login.Paths, ", ") + ", open only " + preset.FromLogin
		}
		list("Your login, where there is no key", []string{text})
	}
	list("Its own sandbox", []string{a.Sandbox})
	list("Keeps in a home of its own", []string{strings.Join(a.Home, ", ")})
	list("Sees of your home, read-only", a.Imports)
	var lays []string
	for _, l := range a.Lays {
		text := l.File
		if len(l.Keep) > 0 {
			text += ": of yours " + strings.Join(l.Keep, ", ")
		}
		lays = append(lays, text)
	}
	list("Gets there, once", lays)
	list("Cannot", a.Cannot)
	fmt.Fprintf(w, "\nNote: %s\n", wrap(tested(a), 72, "      "))
}

func tested(a *preset.Agent) string {
	if a.Tested == "" {
		return "untested: nobody has tried this preset with the agent itself"
	}
	return "tested with version " + a.Tested
}

// telling is the honest limit of an agent's preset.
const telling = "what the agent reads of the project it may send to these hosts: that is how it works"

// publishing is the honest limit of a preset that opens hosts wholly.
const publishing = "a host that serves both installs and publishing can be published to by whoever has a credential inside; there is none unless you let one in"

// sayPresets names the presets that would have allowed what was denied, or may; it returns the former.
func sayPresets(std *IO, r *session.Run, res session.Result) (names []string) {
	if name := r.OfflineInstall(res); name != "" {
		fmt.Fprintf(std.Err, "casemate: there was no network: --preset %s allows installing\n", name)
		names = append(names, name)
	}
	would, might := r.MissingPresets(res.Denied)
	for _, name := range would {
		fmt.Fprintf(std.Err, "casemate: %s was denied its registry: --preset %s allows installing\n", name, name)
		names = append(names, name)
	}
	if len(would) == 0 && len(might) > 0 {
		fmt.Fprintf(std.Err, "casemate: if that was to install: --preset %s may allow it\n", strings.Join(might, " or --preset "))
	}
	return names
}

const presetHelp = `y - run the same command again with %s
N - leave it (also Enter)
always - run it again, and write "presets: [%s]" into your own policy: for
    every sandbox of yours
`

// offerPresets asks whether a command that failed without presets is to be run again with them.
func offerPresets(std *IO, r *session.Run, names []string) (again, saved bool, err error) {
	if drawable() {
		io.WriteString(std.Err, "\x1b[0m\x1b(B\x0f")
	}
	a := &review.Asker{In: std.In, Out: std.Err}
	a.Fresh() // what was typed for the command is no answer
	flags := "--preset " + strings.Join(names, " --preset ")
	what := strings.Join(names, " and ")
	if readOnly(r, names) {
		what += ", read-only,"
	}
	for {
		answer, ok := a.Ask(fmt.Sprintf("Allow installs from %s and run it again? [y/N/always] ", what))
		switch answer = strings.ToLower(answer); {
		case !ok || answer == "" || answer == "n" || answer == "no":
			return false, false, nil
		case answer == "y" || answer == "yes":
			return true, false, nil
		case answer == "always":
			for _, name := range names {
				path, err := r.Person.SavePreset(name)
				if err != nil {
					return false, false, err
				}
				fmt.Fprintf(std.Err, "casemate: wrote preset %s to %s\n", name, workspace.Visible(path))
			}
			return true, true, nil
		}
		fmt.Fprintf(std.Err, presetHelp, flags, strings.Join(names, ", "))
	}
}

// readOnly is true if nothing can be written by what the presets open.
func readOnly(r *session.Run, names []string) bool {
	here, err := r.Person.Presets(r.Project)
	return err == nil && !slices.ContainsFunc(names, func(name string) bool {
		p, err := here.Load(name)
		return err != nil || !p.ReadOnly()
	})
}
