package cli

import (
	"flag"
	"fmt"
	"strings"
	"time"

	"casemate.dev/internal/session"
	"casemate.dev/internal/store"
	"casemate.dev/internal/workspace"
)

func psCommand() command {
	return command{
		name: "ps", summary: "list running and kept sandboxes",
		example: "casemate ps -a",
		help: `
Lists the sandboxes that run now, with the ports that they offer on your
loopback, and what of a policy that was changed meanwhile does not hold in
them. With -a also those whose changes are kept, snapshots, and the homes that
sandboxes have, each with its size on disk and its age. Of a copy it says what
it was forked from.`,
		exits: "125  the state directory cannot be read",
		flags: func(fs *flag.FlagSet) func(*IO, []string) error {
			all := fs.Bool("a", false, "also kept layers and homes")
			asJSON := fs.Bool("json", false, "print JSON")
			return func(std *IO, _ []string) error {
				p, err := session.Anywhere()
				if err != nil {
					return err
				}
				st, err := store.Open(p.StateHome, p.Home)
				if err != nil {
					return err
				}
				if err := session.Clean(p, st); err != nil {
					return err
				}
				rows, err := st.Usage(*all)
				if err != nil {
					return err
				}
				if *asJSON {
					return encode(std.Out, rows)
				}
				printUsage(std, rows, *all)
				return nil
			}
		},
	}
}

func openStore() (*store.Store, error) {
	p, err := session.Anywhere()
	if err != nil {
		return nil, err
	}
	return store.Open(p.StateHome, p.Home)
}

func printUsage(std *IO, rows []store.Row, all bool) {
	if len(rows) == 0 {
		if all {
			fmt.Fprintln(std.Err, "casemate: nothing runs and nothing is kept")
		} else {
			fmt.Fprintln(std.Err, "casemate: nothing runs (casemate ps -a lists what is kept)")
		}
		return
	}
	width := 9
	for _, r := range rows {
		width = max(width, len(r.ID))
	}
	fmt.Fprintf(std.Out, "%-*s %-8s %8s %5s  %-24s %s\n", width, "ID", "STATE", "SIZE", "AGE", "PROJECT", "COMMAND")
	for _, r := range rows {
		command := strings.Join(r.Command, " ")
		if r.Origin != "" {
			command = "of " + r.Origin + ": " + command
		}
		fmt.Fprintf(std.Out, "%-*s %-8s %8s %5s  %-24s %s\n", width, r.ID, r.State, size(r.Size), age(time.Since(r.Since)), tail(r.Project, 24), head(command, 20))
		if r.Name != "" && len(r.Internal) == 0 {
			fmt.Fprintf(std.Out, "%9s its name is %s\n", "", r.Name)
		}
		for _, n := range r.Internal {
			fmt.Fprintf(std.Out, "%9s http://%s:PORT on the internal network %s\n", "", r.Name, n)
		}
		for _, p := range r.Ports {
			host, inside, _ := strings.Cut(p, ":")
			fmt.Fprintf(std.Out, "%9s http://127.0.0.1:%s is its port %s\n", "", host, inside)
		}
		if r.Policy != "" {
			fmt.Fprintf(std.Out, "%9s its policy changed, and not all of it holds: %s\n", "", workspace.Visible(r.Policy))
		}
	}
}

// tail keeps the end of a path, which tells more than its beginning; head keeps the beginning of a command. What would steer a terminal is written
// out: names come from whoever made them.
func tail(s string, n int) string {
	if r := []rune(workspace.Visible(s)); len(r) > n {
		return "…" + string(r[len(r)-n+1:])
	}
	return workspace.Visible(s)
}

func head(s string, n int) string {
	if r := []rune(workspace.Visible(s)); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return workspace.Visible(s)
}

func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}

func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
