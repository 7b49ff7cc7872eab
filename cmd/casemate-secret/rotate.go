package main

import (
	"flag"
	"fmt"
	"time"

	"casemate.dev/internal/secret"
	"casemate.dev/internal/secret/ask"
	"casemate.dev/internal/secret/book"
	"casemate.dev/internal/secret/stores"
)

func rotateVerb() verb {
	return verb{
		name: "rotate", args: "NAME", summary: "replace a value, in running sandboxes too",
		example: "casemate secret rotate anthropic",
		help: `
Asks for the new value as set does, and writes it where the value lies. Grants
stay; an earlier --expires does not. What runs now sends the new value from its
next request on; the placeholder inside stays the same.

What lies in a variable, or is what a command prints, is replaced there by you:
rotate reads it anew.`,
		flags: func(fs *flag.FlagSet, d *desk) func([]string) error {
			expires := fs.String("expires", "", "the new value is of no use after this `time`: 90d, or a date")
			return func(args []string) error { return d.rotate(args, *expires) }
		},
	}
}

func (d *desk) rotate(args []string, expires string) error {
	name, err := oneName("rotate", args)
	if err != nil {
		return err
	}
	now := time.Now().UTC().Truncate(time.Second)
	until, err := moment(expires, now)
	if err != nil {
		return err
	}
	k, e, err := d.find(name)
	if err != nil {
		return err
	}
	ctx, stop := interrupted()
	defer stop()
	store, err := stores.Open(&e, d.host())
	if err != nil {
		return err
	}
	keep, _ := store.(secret.Keeper)
	var v secret.Value
	if e.Source.Store == book.File || keep != nil {
		var ends time.Time
		if v, ends, err = d.newValue(&e); until.IsZero() {
			until = ends
		}
	} else {
		v, _, err = stores.Get(ctx, store, &e)
	}
	if err != nil {
		return err
	}
	defer v.Wipe()
	shape, err := secret.ShapeOf(e.Kind, v)
	if err != nil {
		return &secret.Problem{Err: fmt.Errorf("the value of %s cannot be used: %w", name, err), Help: "is it the whole value, and nothing else?"}
	}
	var after book.Entry
	err = k.Update(func(b *book.Book) error {
		e := b.Entry(name)
		if e == nil {
			return noEntry(name)
		}
		if keep != nil {
			if err := keep.Put(ctx, v); err != nil {
				return err
			}
		}
		e.Shape, e.Rotated, e.Expires, e.Version = shape, now, until, e.Version+1
		after = *e
		if e.Source.Store != book.File {
			return nil
		}
		own, err := v.Copy()
		if err == nil {
			b.SetValue(name, own)
		}
		return err
	})
	if err != nil {
		return err
	}
	if d.json {
		return d.printJSON(show(after, now))
	}
	fmt.Fprintf(d.err, "casemate: secret %s is rotated\n", name)
	return nil
}

// find is an entry as it is now.
func (d *desk) find(name string) (*book.Keyed, book.Entry, error) {
	if !ask.IsName(name) {
		return nil, book.Entry{}, noEntry(name)
	}
	k, err := d.open()
	if err != nil {
		return nil, book.Entry{}, err
	}
	b, err := k.Read()
	if err != nil {
		return nil, book.Entry{}, err
	}
	defer b.Wipe()
	e := b.Entry(name)
	if e == nil {
		return nil, book.Entry{}, noEntry(name)
	}
	return k, *e, nil
}
