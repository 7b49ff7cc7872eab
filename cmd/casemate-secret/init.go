package main

import (
	"flag"
	"fmt"

	"casemate.dev/internal/secret"
)

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
