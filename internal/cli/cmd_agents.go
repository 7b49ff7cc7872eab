package cli

import (
	"flag"
	"fmt"
	"strings"

	"casemate.dev/internal/preset"
	"casemate.dev/internal/session"
	"casemate.dev/internal/workspace"
)

func agentsCommand() command {
	return command{
		name: "agents", summary: "list the AI agents that casemate knows, and what each opens",
		example: "casemate agents",
		help: `
Lists the presets of agents: the version that each was tested with, where the
agent is installed here, where somebody is logged in with it, and the hosts that
it opens. Logged in means that the file is there in which the agent keeps its
login: here in your home, inside in the home of this project's sandboxes. Yours
is never shown inside; "used" says that you have answered yes to the question
whether the agent may use it through the gate.

casemate run -- claude takes the preset by itself; casemate preset show claude
says all about it.`,
		exits: "125  a preset's file is wrong",
		flags: func(fs *flag.FlagSet) func(*IO, []string) error {
			asJSON := fs.Bool("json", false, "print JSON")
			return func(std *IO, _ []string) error {
				person, err := session.Self()
				if err != nil {
					return err
				}
				rows, broken, err := session.Agents(person)
				if err != nil {
					return err
				}
				if broken != nil {
					fmt.Fprintln(std.Err, "casemate:", workspace.Visible(broken.Error()))
				}
				if *asJSON {
					return encode(std.Out, rows)
				}
				printAgents(std, person, rows)
				return nil
			}
		},
	}
}

func printAgents(std *IO, person session.Person, rows []session.Agent) {
	fmt.Fprintf(std.Out, "%-9s %-9s %-25s %-12s %s\n", "NAME", "TESTED", "HERE", "LOGGED IN", "OPENS")
	for _, a := range rows {
		here := a.Tool
		if rest, below := strings.CutPrefix(here, person.Home+"/"); below {
			here = "~/" + rest
		}
		fmt.Fprintf(std.Out, "%-9s %-9s %-25s %-12s %s\n", cut(a.Name, 9), cut(orNone(a.Agent.Tested, "no"), 9), tail(orNone(here, "-"), 25), orNone(where(a), "-"), opensShort(a.Openings))
	}
}

// where are the places of logins, each once.
func where(a session.Agent) string {
	var words []string
	for _, l := range a.Logins {
		if l.Where == "here" && a.Answer == session.LoginYes {
			l.Where = "here, used"
		}
		if len(words) == 0 || words[len(words)-1] != l.Where {
			words = append(words, l.Where)
		}
	}
	return strings.Join(words, ", ")
}

func opensShort(list []preset.Opening) string {
	if len(list) == 0 {
		return "-"
	}
	host := workspace.Visible(list[0].Target())
	if len(list) == 1 {
		return cut(host, 21)
	}
	more := fmt.Sprintf(" +%d", len(list)-1)
	return cut(host, 21-len(more)) + more
}
