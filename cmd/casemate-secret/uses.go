package main

import (
	"flag"
	"fmt"
	"slices"

	"casemate.dev/internal/secret/uses"
	"casemate.dev/internal/workspace"
)

func usesVerb() verb {
	return verb{
		name: "uses", args: "[NAME]", summary: "show who was given a secret, and who was refused",
		example: "casemate secret uses anthropic",
		help: `
One line for each time that a gate was given a value, or refused one, with the
request it was for. A gate keeps a value for some seconds, so that one line may
stand for several requests. Logins by ssh (ssh: in casemate.yaml) have a line
for each signature, under the name ssh. The newest line is the last.`,
		flags: func(fs *flag.FlagSet, d *desk) func([]string) error {
			n := fs.Int("n", 50, "at most this many lines: `count`; 0: all")
			return func(args []string) error { return d.uses(args, *n) }
		},
	}
}

func (d *desk) uses(args []string, n int) error {
	if len(args) > 1 {
		return wrongUse("casemate secret uses", "uses takes one name")
	}
	list, err := d.log.Read()
	if err != nil {
		return err
	}
	if len(args) == 1 {
		list = slices.DeleteFunc(list, func(u uses.Use) bool { return u.Entry != args[0] })
	}
	if n > 0 && len(list) > n {
		list = list[len(list)-n:]
	}
	if d.json {
		if list == nil {
			list = []uses.Use{}
		}
		return d.printJSON(list)
	}
	if len(list) == 0 {
		fmt.Fprintln(d.err, "casemate: no sandbox has asked for a secret")
	}
	for _, u := range list {
		verdict := fmt.Sprintf("given, grant %d", u.Grant)
		if u.Times > 1 {
			verdict = fmt.Sprintf("given %d times, the last by grant %d", u.Times, u.Grant)
		}
		if u.Key != "" {
			verdict = fmt.Sprintf("signed a login as %s with %s", u.User, u.Key)
			if u.Times > 1 {
				verdict = fmt.Sprintf("signed %d logins, the last as %s with %s", u.Times, u.User, u.Key)
			}
		}
		if u.Refused != "" {
			verdict = "refused: " + u.Refused
			if u.Times > 1 {
				verdict = fmt.Sprintf("refused %d times: %s", u.Times, u.Refused)
			}
		}
		fmt.Fprintf(d.out, "%s %s %s %s:%d %s %s %s\n", u.Time.Local().Format("2006-01-02 15:04:05"), u.Entry, u.Sandbox, workspace.Visible(u.Host), u.Port,
			workspace.Visible(u.Method), workspace.Visible(u.Path), workspace.Visible(verdict))
	}
	return nil
}
