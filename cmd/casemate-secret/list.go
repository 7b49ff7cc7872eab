package main

import (
	"flag"
	"fmt"
	"time"

	"casemate.dev/internal/secret/book"
	"casemate.dev/internal/workspace"
)

func listVerb() verb {
	return verb{
		name: "list", args: "[NAME]", summary: "list the secrets and their grants, without values",
		example: "casemate secret list",
		help: `
Shows each secret: where its value lies, when it was last replaced and when it
expires, and under it its grants with their numbers. The value is never shown:
casemate has no verb that prints one.`,
		flags: func(_ *flag.FlagSet, d *desk) func([]string) error { return d.list },
	}
}

func (d *desk) list(args []string) error {
	if len(args) > 1 {
		return wrongUse("casemate secret list", "list takes one name")
	}
	k, err := d.open()
	if err != nil {
		return err
	}
	b, err := k.Read()
	if err != nil {
		return err
	}
	defer b.Wipe()
	if len(args) == 1 && b.Entry(args[0]) == nil {
		return noEntry(args[0])
	}
	now := time.Now()
	all := []shown{}
	for _, e := range b.Entries {
		if len(args) == 0 || e.Name == args[0] {
			all = append(all, show(e, now))
		}
	}
	if d.json {
		return d.printJSON(all)
	}
	if len(all) == 0 {
		fmt.Fprintln(d.err, "casemate: there are no secrets (casemate secret set NAME adds one)")
		return nil
	}
	fmt.Fprintf(d.out, "%-20s %-10s %-10s %s\n", "NAME", "SET", "EXPIRES", "WHERE")
	for _, s := range all {
		expires := "-"
		switch {
		case s.Expired:
			expires = "expired"
		case !s.Expires.IsZero():
			expires = s.Expires.Local().Format(time.DateOnly)
		}
		fmt.Fprintf(d.out, "%-20s %-10s %-10s %s\n", s.Name, s.Rotated.Local().Format(time.DateOnly), expires, workspace.Visible(s.Where))
		for _, g := range s.Grants {
			over := ""
			if book.Expired(g.Expires, now) {
				over = " (over)"
			}
			fmt.Fprintf(d.out, "  grant %d: %s%s\n", g.ID, workspace.Visible(words(g)), over)
		}
		if len(s.Grants) == 0 {
			fmt.Fprintln(d.out, "  no grant: nothing may use it")
		}
	}
	return nil
}
