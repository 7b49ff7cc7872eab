package main

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"casemate.dev/internal/secret"
	"casemate.dev/internal/secret/book"
	"casemate.dev/internal/secret/login"
	"casemate.dev/internal/secret/stores"
)

// setOptions are the flags of set.
type setOptions struct {
	grantFlags
	from, variable, login, address, at, field, namespace, kind, expires string
}

func setVerb() verb {
	return verb{
		name: "set", args: "NAME [-- COMMAND [ARG...]]", summary: "add a secret, and say where it may be used",
		example: "casemate secret set anthropic",
		help: `
Asks for the value without showing it, or reads it from standard input; it is
never an argument. A sandbox uses it where three agree: its policy names the
secret (secrets: in casemate.yaml), a grant covers the request, and the gate
lets the request through. With --host, set makes that grant at once; a NAME
that is a known kind gets its provider's hosts without it:
` + wrap(strings.Join(knownHosts(), ", ")+".", 76, "") + `

A credential of AWS (aws, or --kind aws) is ID:SECRET or ID:SECRET:TOKEN, or the
JSON that "aws configure export-credentials" prints; with --from env --variable
AWS_ACCESS_KEY_ID it is that variable and those that belong to it.

--from says where the value lies:
  file     in $XDG_CONFIG_HOME/casemate/secrets.age, encrypted (the default)
  keyring  in the desktop's keyring
  env      in the variable --variable of whoever starts casemate
  command  it is what COMMAND prints; no shell reads it
  vault    in the field --field of --at MOUNT/PATH, of Vault or OpenBao (KV
           version 2) at --address; the token is VAULT_TOKEN or ~/.vault-token
  login    it is the login that an agent keeps in a file of yours, renewed out
           here before it ends: casemate secret set claude --from login`,
		flags: func(fs *flag.FlagSet, d *desk) func([]string) error {
			var o setOptions
			o.add(fs)
			fs.StringVar(&o.from, "from", book.File, "where the value lies: "+strings.Join(book.Stores(), ", "))
			fs.StringVar(&o.variable, "variable", "", "env: `name` of the variable")
			fs.StringVar(&o.login, "login", "", "login: `name` of the agent whose it is; otherwise NAME")
			fs.StringVar(&o.address, "address", "", "vault: `url` of the server; otherwise VAULT_ADDR or BAO_ADDR")
			fs.StringVar(&o.at, "at", "", "vault: mount and `path`, such as secret/anthropic")
			fs.StringVar(&o.field, "field", "value", "vault: `name` of the field")
			fs.StringVar(&o.namespace, "namespace", "", "vault: `name` of the namespace; otherwise VAULT_NAMESPACE")
			fs.StringVar(&o.kind, "kind", "", "what it is: `name` of a known kind, whose hosts it gets")
			fs.StringVar(&o.expires, "expires", "", "the value is of no use after this `time`: 90d, or a date")
			return func(args []string) error { return d.set(o, args) }
		},
	}
}

// knownHosts are the kinds whose provider has hosts of its own.
func knownHosts() (list []string) {
	for _, k := range secret.Kinds() {
		if len(k.Hosts) > 0 {
			list = append(list, k.Name)
		}
	}
	return list
}

// source checks the flags that say where the value lies. args are the command of a command, and otherwise none.
func (d *desk) source(name string, o setOptions, args []string) (book.Source, error) {
	s := book.Source{Store: o.from}
	var err error
	switch o.from {
	case book.File, book.Keyring:
	case book.Env:
		if s.Variable = o.variable; s.Variable == "" || strings.ContainsAny(s.Variable, "= ") {
			return s, wrongUse("casemate secret set NAME --from env --variable NAME", "--from env needs --variable")
		}
	case book.Command:
		if s.Command, err = stores.Resolve(args); err != nil {
			return s, &usage{err, "casemate secret set NAME --from command -- pass show NAME"}
		}
	case book.Login:
		if o.login == "" {
			o.login = name
		}
		return stores.FindLogin(o.login, d.getenv)
	case book.Vault:
		s.Address, s.Namespace, s.Field = o.address, o.namespace, o.field
		s.Mount, s.Path, _ = strings.Cut(o.at, "/")
		for value, names := range map[*string][]string{&s.Address: {"VAULT_ADDR", "BAO_ADDR"}, &s.Namespace: {"VAULT_NAMESPACE", "BAO_NAMESPACE"}} {
			for _, name := range names {
				if *value == "" {
					*value = d.getenv(name)
				}
			}
		}
		if _, err := stores.CheckVault(s); err != nil {
			return s, wrongUse("casemate secret set NAME --from vault --address URL --at MOUNT/PATH --field NAME", "%w", err)
		}
	default:
		return s, wrongUse("one of "+strings.Join(book.Stores(), ", "), "there is no store %q", o.from)
	}
	return s, nil
}

func (d *desk) set(o setOptions, args []string) error {
	command := []string(nil)
	if o.from == book.Command && len(args) > 0 {
		args, command = args[:1], args[1:]
	}
	name, err := oneName("set", args)
	if err != nil {
		return err
	}
	now := time.Now().UTC().Truncate(time.Second)
	e := book.Entry{Name: name, Kind: o.kind, Created: now, Rotated: now, Version: 1}
	if e.Source, err = d.source(name, o, command); err != nil {
		return err
	}
	if e.Expires, err = moment(o.expires, now); err != nil {
		return err
	}
	if err := o.ofKind(&e); err != nil {
		return err
	}
	grants, err := o.grants(now)
	if err != nil {
		return err
	}
	for _, g := range grants {
		if _, err := e.Grant(g, now); err != nil {
			return &usage{err, "casemate secret grant --help"}
		}
	}
	return d.add(e)
}

// ofKind fills in what a known kind says: where its provider is. Hosts that were named are all that is granted.
func (o *setOptions) ofKind(e *book.Entry) error {
	k, known := secret.KindOf(e.Kind)
	if e.Kind == "" {
		if k, known = secret.KindOf(e.Name); known {
			e.Kind = k.Name
		}
	} else if !known {
		return wrongUse("one of "+strings.Join(kinds(), ", "), "there is no kind %q", e.Kind)
	}
	if len(o.hosts) == 0 {
		o.hosts = k.Hosts
	}
	return nil
}

// add gets the value, whose shape is part of the entry, and writes both.
func (d *desk) add(e book.Entry) error {
	k, err := d.open()
	if err != nil {
		return err
	}
	if err := absent(k, e.Name); err != nil { // before anybody types a value
		return err
	}
	if err := d.write(k, &e); err != nil {
		return err
	}
	return d.tellSet(e)
}

// write puts a new entry into the book, with the value that it has now.
func (d *desk) write(k *book.Keyed, e *book.Entry) error {
	ctx, stop := interrupted()
	defer stop()
	v, keep, err := d.first(ctx, e)
	if err != nil {
		return err
	}
	defer v.Wipe()
	if e.Shape, err = secret.ShapeOf(e.Kind, v); err != nil {
		return &secret.Problem{Err: fmt.Errorf("the value of %s cannot be used: %w", e.Name, err), Help: "is it the whole value, and nothing else?"}
	}
	err = k.Update(func(b *book.Book) error {
		if b.Entry(e.Name) != nil {
			return exists(e.Name)
		}
		if keep != nil {
			if err := keep.Put(ctx, v); err != nil {
				return err
			}
		}
		b.Add(*e)
		if e.Source.Store == book.File {
			own, err := v.Copy()
			if err != nil {
				return err
			}
			b.SetValue(e.Name, own)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return d.writeBeside(k, e)
}

// writeBeside is for a login of two parts, each of which goes into a field of its own: the other one is granted as the first.
func (d *desk) writeBeside(k *book.Keyed, e *book.Entry) error {
	kind, _ := login.KindOf(e.Source.Login)
	if kind.Beside == "" {
		return nil
	}
	b, err := k.Read()
	if err != nil {
		return err
	}
	there := b.Entry(kind.Beside) != nil
	b.Wipe()
	if there {
		return nil
	}
	other := *e
	other.Name, other.Kind, other.Source.Login, other.Grants = kind.Beside, kind.Beside, kind.Beside, slices.Clone(e.Grants)
	return d.write(k, &other)
}

// first is the value that a new entry has: asked for, where it is to be kept, and otherwise read from where it lies, so that a mistake shows now.
func (d *desk) first(ctx context.Context, e *book.Entry) (secret.Value, secret.Keeper, error) {
	switch e.Source.Store {
	case book.File:
		v, err := d.typed(e)
		return v, nil, err
	case book.Keyring:
		store, err := stores.Open(e, d.host())
		if err != nil {
			return secret.Value{}, nil, err
		}
		v, err := d.typed(e)
		return v, store.(secret.Keeper), err
	}
	store, err := stores.Open(e, d.host())
	if err != nil {
		return secret.Value{}, nil, err
	}
	v, _, err := stores.Get(ctx, store, e)
	return v, nil, err
}

// typed is a value whose end is the entry's, unless that has one.
func (d *desk) typed(e *book.Entry) (secret.Value, error) {
	v, until, err := d.newValue(e)
	if e.Expires.IsZero() {
		e.Expires = until
	}
	return v, err
}

func absent(k *book.Keyed, name string) error {
	b, err := k.Read()
	if err != nil {
		return err
	}
	defer b.Wipe()
	if b.Entry(name) != nil {
		return exists(name)
	}
	return nil
}

func exists(name string) error {
	return &secret.Problem{
		Err:  fmt.Errorf("there is a secret %q already", name),
		Help: fmt.Sprintf("casemate secret rotate %s replaces its value; casemate secret rm %s removes it", name, name),
	}
}

func (d *desk) tellSet(e book.Entry) error {
	if d.json {
		return d.printJSON(show(e, time.Now()))
	}
	fmt.Fprintf(d.err, "casemate: secret %s is set (%s)\n", e.Name, stores.Describe(e.Source))
	for _, g := range e.Grants {
		fmt.Fprintf(d.err, "casemate: grant %d: %s\n", g.ID, words(g))
	}
	if len(e.Grants) == 0 {
		fmt.Fprintf(d.err, "casemate: nothing may use it yet: casemate secret grant %s --host HOST\n", e.Name)
	}
	return nil
}
