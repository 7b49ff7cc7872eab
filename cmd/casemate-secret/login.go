package main

import (
	"encoding/json"
	"errors"
	"time"

	"casemate.dev/internal/secret"
	"casemate.dev/internal/secret/ask"
	"casemate.dev/internal/secret/book"
	"casemate.dev/internal/secret/login"
	"casemate.dev/internal/secret/stores"
)

// aboutLogin is for casemate, which asks a person about their login and never sees it.
func (d *desk) aboutLogin(args []string) error {
	var said ask.OfLogin
	var err error
	switch {
	case len(args) >= 2 && args[0] == "look":
		said.Have, err = d.look(args[1:])
	case len(args) >= 4 && args[0] == "take":
		said.Made, err = d.take(args[1], args[2], args[3:])
	default:
		return wrongUse("casemate secret --help", "%s is run by casemate run", ask.LoginVerb)
	}
	if err != nil {
		said.Error = err.Error()
		var h interface{ Hint() string }
		if errors.As(err, &h) {
			said.Hint = h.Hint()
		}
	}
	return json.NewEncoder(d.out).Encode(said)
}

// look says which of the names are secrets, the first of which is that of a login. An error is about the login; a store that nobody has opened says nothing.
func (d *desk) look(names []string) (have []string, err error) {
	if k, err := book.Open(d.place, nil); err == nil {
		if b, err := k.Read(); err == nil {
			for _, name := range names {
				if b.Entry(name) != nil {
					have = append(have, name)
				}
			}
			b.Wipe()
		}
	}
	source, err := stores.FindLogin(names[0], d.getenv)
	if err != nil {
		return have, err
	}
	f, err := login.At(source.Login, source.Path)
	if err != nil {
		return have, err
	}
	return have, f.Check()
}

// take makes a secret of a login, which is granted to one preset, where there is none of that name yet.
func (d *desk) take(name, preset string, hosts []string) (made bool, err error) {
	k, err := d.open()
	if err != nil {
		return false, err
	}
	b, err := k.Read()
	if err != nil {
		return false, err
	}
	there := b.Entry(name) != nil
	b.Wipe()
	if there {
		return false, nil
	}
	now := time.Now().UTC().Truncate(time.Second)
	e := book.Entry{Name: name, Created: now, Rotated: now, Version: 1}
	if _, known := secret.KindOf(name); known {
		e.Kind = name
	}
	if e.Source, err = stores.FindLogin(name, d.getenv); err != nil {
		return false, err
	}
	o := grantFlags{hosts: hosts, preset: preset}
	grants, err := o.grants(now)
	if err != nil {
		return false, err
	}
	for _, g := range grants {
		if _, err := e.Grant(g, now); err != nil {
			return false, err
		}
	}
	return true, d.write(k, &e)
}
