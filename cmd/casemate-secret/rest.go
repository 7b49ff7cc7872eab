package main

import (
	"flag"
	"fmt"
	"slices"
	"strconv"
	"time"

	"casemate.dev/internal/secret"
	"casemate.dev/internal/secret/book"
	"casemate.dev/internal/secret/stores"
	"casemate.dev/internal/secret/uses"
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

func usesVerb() verb {
	return verb{
		name: "uses", args: "[NAME]", summary: "show who was given a secret, and who was refused",
		example: "casemate secret uses anthropic",
		help: `
One line for each time that a gate was given a value, or refused one, with the
request it was for. A gate keeps a value for some seconds, so that one line may
stand for several requests. The newest line is the last.`,
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
		if u.Refused != "" {
			verdict = "refused: " + u.Refused
		}
		fmt.Fprintf(d.out, "%s %s %s %s:%d %s %s %s\n", u.Time.Local().Format("2006-01-02 15:04:05"), u.Entry, u.Sandbox, workspace.Visible(u.Host), u.Port,
			workspace.Visible(u.Method), workspace.Visible(u.Path), workspace.Visible(verdict))
	}
	return nil
}

func initVerb() verb {
	return verb{
		name: "init", summary: "have a passphrase, or none",
		example: "casemate secret init --no-passphrase",
		help: `
The first secret makes the file and its key by itself, and needs no init. The
key is $XDG_CONFIG_HOME/casemate/secrets.key, which only you can read; whoever
has both files has the secrets. With --passphrase the key is encrypted too, and
casemate asks for the passphrase at every start that needs a secret. Run it
again to change the passphrase, or with --no-passphrase to have none.

CASEMATE_SECRET_KEY_FILE names another place for the key, and
CASEMATE_SECRET_PASSPHRASE_FILE a file of yours that holds the passphrase.`,
		flags: func(fs *flag.FlagSet, d *desk) func([]string) error {
			with := fs.Bool("passphrase", false, "ask for a new passphrase, or read it from standard input")
			without := fs.Bool("no-passphrase", false, "the key file alone unlocks the secrets")
			return func(args []string) error {
				if len(args) > 0 || *with == *without {
					return wrongUse("casemate secret init --help", "init needs --passphrase or --no-passphrase")
				}
				return d.init(*with)
			}
		},
	}
}

func (d *desk) init(with bool) error {
	k, err := d.open()
	if err != nil {
		return err
	}
	var passphrase secret.Value
	defer passphrase.Wipe()
	if with {
		if passphrase, err = d.newPassphrase(); err != nil {
			return err
		}
	}
	if err := k.Protect(passphrase); err != nil {
		return err
	}
	if d.json {
		return d.printJSON(map[string]any{"key": k.Key, "passphrase": with})
	}
	if with {
		fmt.Fprintf(d.err, "casemate: the key %s needs the passphrase from now on\n", k.Key)
	} else {
		fmt.Fprintf(d.err, "casemate: the key %s needs no passphrase\n", k.Key)
	}
	return nil
}
