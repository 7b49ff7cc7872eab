package main

import (
	"flag"
	"fmt"

	"casemate.dev/internal/secret"
	"casemate.dev/internal/secret/book"
	"casemate.dev/internal/secret/stores"
)

func rmVerb() verb {
	return verb{
		name: "rm", args: "NAME...", summary: "remove secrets, from running sandboxes too",
		example: "casemate secret rm anthropic",
		exits:   "1    not removed: the answer was no",
		help: `
Removes the secret with its grants, and its value where casemate keeps it: in
the encrypted file, or in the keyring. What lies elsewhere stays there. It asks
first, where standard input is a terminal.`,
		flags: func(fs *flag.FlagSet, d *desk) func([]string) error {
			yes := fs.Bool("yes", false, "do not ask")
			return func(args []string) error {
				if len(args) == 0 {
					return wrongUse("casemate secret list", "rm needs the name of a secret")
				}
				for _, name := range args {
					if err := d.remove(name, *yes); err != nil {
						return err
					}
				}
				return nil
			}
		},
	}
}

func (d *desk) remove(name string, yes bool) error {
	k, e, err := d.find(name)
	if err != nil {
		return err
	}
	if !yes && !d.yes("Remove secret "+name+"?") {
		return errNo
	}
	err = k.Update(func(b *book.Book) error {
		if b.Entry(name) == nil {
			return noEntry(name)
		}
		b.Remove(name)
		return nil
	})
	if err != nil {
		return err
	}
	if d.json {
		err = d.printJSON(map[string]any{"name": name, "removed": true})
	} else {
		fmt.Fprintf(d.err, "casemate: secret %s is removed\n", name)
	}
	if err != nil {
		return err
	}
	if e.Source.Store != book.Keyring {
		return nil
	}
	ctx, stop := interrupted()
	defer stop()
	store, err := stores.Open(&e, stores.Host{Getenv: d.getenv})
	if err == nil {
		err = store.(secret.Keeper).Remove(ctx)
	}
	if err != nil {
		return &secret.Problem{Err: fmt.Errorf("its value is still in the keyring: %w", err), Help: "remove \"casemate: " + name + "\" in the keyring's own program"}
	}
	return nil
}
