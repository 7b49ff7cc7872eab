package cli

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"casemate.dev/internal/gate/wire"
	"casemate.dev/internal/session"
	"casemate.dev/internal/store"
	"casemate.dev/internal/workspace"
)

func netCommand() command {
	return command{
		name: "net", args: "[SANDBOX]", summary: "list what a sandbox reached, and what it could not",
		example: "casemate net --follow k7f3q2ab",
		help: `
Lists the connections of a sandbox, by default of the one that used the network
last: when, what became of it, the host's name and port, bytes to it and from
it, and the rule that allowed it. What waited for an answer in casemate watch
has a line for that, and one with the answer; so has each change of a policy
while the sandbox runs, which says what is allowed from then on; and each login
by ssh that one of your keys signed, or did not. What was denied
comes with the reason and the command that allows it while the sandbox runs;
after that, run --allow does.`,
		exits: "125  the record of connections cannot be read",
		flags: func(fs *flag.FlagSet) func(*IO, []string) error {
			follow := fs.Bool("follow", false, "go on listing as they happen, until interrupted")
			denied := fs.Bool("denied", false, "only what was denied")
			asJSON := fs.Bool("json", false, "print JSON, one line for each record")
			return func(std *IO, args []string) error {
				if len(args) > 1 {
					return usageError(errors.New("net takes one sandbox"), "casemate net [SANDBOX]")
				}
				st, err := openStore()
				if err != nil {
					return err
				}
				l := lister{std: std, denied: *denied, json: *asJSON, open: map[string]session.Connection{}}
				if len(args) == 1 {
					l.sandbox = args[0]
					if box, err := st.Find(args[0]); err == nil { // one that left nothing is in the record still
						l.sandbox = box.Record.ID
					}
				}
				return l.list(st, *follow)
			}
		},
	}
}

// lister prints connections.
type lister struct {
	std          *IO
	sandbox      string
	denied, json bool
	head         bool                          // the heading was printed
	open         map[string]session.Connection // those without an end yet
}

func (l *lister) list(st *store.Store, follow bool) error {
	list, next, err := session.Connections(st, l.sandbox, 0)
	if err != nil {
		return err
	}
	old, err := session.OldConnections(st, l.sandbox)
	if err != nil {
		return err
	}
	list = append(old, list...)
	for i := len(list) - 1; i >= 0 && l.sandbox == "" && !follow; i-- {
		if list[i].Verdict != wire.Ruled { // which is of all that run
			l.sandbox = list[i].Sandbox
		}
	}
	if err := l.print(list); err != nil {
		return err
	}
	if !follow {
		for _, c := range list { // in the order in which they began
			if o, still := l.open[key(c)]; still && c.Verdict == wire.Opened {
				l.row(o, "open", "")
			}
		}
		if !l.head && !l.json {
			fmt.Fprintln(l.std.Err, "casemate: nothing was tried over the network")
		}
		return nil
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	for {
		select {
		case <-interrupted:
			return nil
		case <-time.After(200 * time.Millisecond):
		}
		if list, next, err = session.Connections(st, l.sandbox, next); err != nil {
			return err
		}
		if err := l.print(list); err != nil {
			return err
		}
	}
}

func key(c session.Connection) string { return fmt.Sprint(c.Sandbox, c.ID) }

func (l *lister) print(list []session.Connection) error {
	for _, c := range list {
		switch {
		case l.sandbox != "" && c.Sandbox != l.sandbox, l.denied && c.Verdict != wire.Denied && c.Verdict != wire.Unsigned:
			continue
		case l.json:
			if err := json.NewEncoder(l.std.Out).Encode(c); err != nil {
				return err
			}
			continue
		}
		switch c.Verdict {
		case wire.Opened:
			l.open[key(c)] = c
		case wire.Closed:
			delete(l.open, key(c))
			rule := c.Rule
			if c.Allowed > 0 { // the requests of a connection that was opened
				rule = fmt.Sprintf("%d allowed, %s", c.Allowed, rule)
			}
			l.row(c, "closed", rule)
		case wire.Asked:
			l.row(c, "asked", "")
		case wire.Failed:
			delete(l.open, key(c))
			l.row(c, "failed", "")
			l.below(c.Why)
		case wire.Denied:
			delete(l.open, key(c))
			l.row(c, "denied", "")
			l.below(c.Why)
			if c.Method != "" && !strings.Contains(c.Why, c.Method+" "+c.Path) {
				l.below(c.Method + " " + c.Path)
			}
			if rule := c.AllowRule(); rule != "" {
				l.below(rule)
			}
			if command := c.AllowCommand(); command != "" {
				l.below(command)
			}
		case wire.Signed:
			l.row(c, "signed", c.Rule)
			l.below(c.Why)
		case wire.Unsigned:
			l.row(c, "denied", "")
			l.below("the ssh-agent did not sign: " + c.Why)
		case wire.Ruled:
			l.row(c, "rules", "")
			for part := range strings.SplitSeq(c.Why, "; ") {
				l.below(part)
			}
		case wire.Lost:
			l.below(fmt.Sprintf("%d records are missing: there were more than could be written down", c.Times))
		}
	}
	return nil
}

func (l *lister) row(c session.Connection, verdict, rule string) {
	if !l.head {
		l.head = true
		fmt.Fprintf(l.std.Out, "%-8s %-6s %-26s %7s %7s  %s\n", "TIME", "", "HOST", "SENT", "GOT", "RULE")
	}
	sent, got := size(c.Sent), size(c.Got)
	if verdict == "denied" || verdict == "failed" || verdict == "asked" || verdict == "rules" || verdict == "signed" {
		sent, got = "", ""
	}
	if c.Times > 1 {
		rule = fmt.Sprintf("%d times", c.Times)
	}
	line := fmt.Sprintf("%-8s %-6s %-26s %7s %7s  %s", c.Time.Local().Format(time.TimeOnly), verdict, workspace.Visible(orNone(c.Shown(), "-")), sent, got, workspace.Visible(rule))
	fmt.Fprintln(l.std.Out, strings.TrimRight(line, " "))
}

// below is a line about the row above.
func (l *lister) below(text string) { fmt.Fprintf(l.std.Out, "%9s%s\n", "", workspace.Visible(text)) }

// sayDenied says at the end of a run what could not be reached, and how to allow it next time.
func sayDenied(std *IO, res session.Result) {
	const most = 3
	for i, d := range res.Denied {
		if i == most {
			fmt.Fprintf(std.Err, "casemate: and %d more: casemate net %s\n", len(res.Denied)-most, res.Sandbox)
			return
		}
		c := session.Connection{Record: wire.Record{Name: d.Name, Port: d.Port}}
		times := ""
		if d.Port != 0 && d.Times > 1 { // a name is looked up for each family of addresses
			times = fmt.Sprintf(" (%d times)", d.Times)
		}
		allow := ""
		if how := d.Allow(); how != "" {
			allow = " (" + workspace.Visible(how) + " allows it)"
		}
		fmt.Fprintf(std.Err, "casemate: denied %s%s: %s%s\n", workspace.Visible(c.Target()), times, workspace.Visible(d.Why), allow)
	}
}
