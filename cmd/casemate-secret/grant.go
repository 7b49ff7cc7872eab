package main

import (
	"flag"
	"fmt"
	"slices"
	"strconv"
	"time"

	"casemate.dev/internal/secret"
	"casemate.dev/internal/secret/book"
)

func grantVerb() verb {
	return verb{
		name: "grant", args: "NAME", summary: "let sandboxes use a secret at a host",
		example: "casemate secret grant anthropic --host api.anthropic.com --project . --for 30d",
		help: `
Without --project, --preset or --sandbox, every sandbox whose policy names the
secret may use it at these hosts; with more than one of them, a sandbox must fit
them all. The port is 443 where none is named. A grant opens no network: a host
that no rule of the policy allows stays denied.`,
		flags: func(fs *flag.FlagSet, d *desk) func([]string) error {
			var o grantFlags
			o.add(fs)
			return func(args []string) error { return d.grant(o, args) }
		},
	}
}

func (d *desk) grant(o grantFlags, args []string) error {
	name, err := oneName("grant", args)
	if err != nil {
		return err
	}
	now := time.Now().UTC().Truncate(time.Second)
	grants, err := o.grants(now)
	if err != nil {
		return err
	}
	if len(grants) == 0 {
		return wrongUse("casemate secret grant "+name+" --host HOST", "a grant names a host")
	}
	k, err := d.open()
	if err != nil {
		return err
	}
	var made []book.Grant
	err = k.Update(func(b *book.Book) error {
		e := b.Entry(name)
		if e == nil {
			return noEntry(name)
		}
		for _, g := range grants {
			if _, err := e.Grant(g, now); err != nil {
				return &usage{err, "casemate secret grant --help"}
			}
			made = append(made, e.Grants[len(e.Grants)-1])
		}
		return nil
	})
	if err != nil {
		return err
	}
	if d.json {
		return d.printJSON(made)
	}
	for _, g := range made {
		fmt.Fprintf(d.err, "casemate: grant %d of %s: %s\n", g.ID, name, words(g))
	}
	return nil
}

func revokeVerb() verb {
	return verb{
		name: "revoke", args: "NAME GRANT...", summary: "take grants back; it holds from the next request on",
		example: "casemate secret revoke anthropic 1",
		help: `
GRANT is a number that casemate secret list shows. The secret stays, and a
number is never used again.`,
		flags: func(fs *flag.FlagSet, d *desk) func([]string) error {
			all := fs.Bool("all", false, "all grants of the secret")
			return func(args []string) error { return d.revoke(args, *all) }
		},
	}
}

func (d *desk) revoke(args []string, all bool) error {
	if len(args) == 0 || all == (len(args) > 1) {
		return wrongUse("casemate secret list shows the numbers", "revoke needs the name of a secret, and the numbers of grants or --all")
	}
	name, numbers := args[0], map[int]bool{}
	for _, a := range args[1:] {
		n, err := strconv.Atoi(a)
		if err != nil {
			return wrongUse("casemate secret list shows the numbers", "%q is no number of a grant", a)
		}
		numbers[n] = true
	}
	k, _, err := d.find(name)
	if err != nil {
		return err
	}
	gone := []int{}
	err = k.Update(func(b *book.Book) error {
		e := b.Entry(name)
		if e == nil {
			return noEntry(name)
		}
		for n := range numbers {
			if !slices.ContainsFunc(e.Grants, func(g book.Grant) bool { return g.ID == n }) {
				return &secret.Problem{Err: fmt.Errorf("secret %q has no grant %d", name, n), Help: "casemate secret list " + name}
			}
		}
		e.Grants = slices.DeleteFunc(e.Grants, func(g book.Grant) bool {
			if all || numbers[g.ID] {
				gone = append(gone, g.ID)
			}
			return all || numbers[g.ID]
		})
		return nil
	})
	if err != nil {
		return err
	}
	if d.json {
		return d.printJSON(map[string]any{"name": name, "revoked": gone})
	}
	for _, id := range gone {
		fmt.Fprintf(d.err, "casemate: grant %d of %s is revoked\n", id, name)
	}
	return nil
}
