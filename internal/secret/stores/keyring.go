package stores

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"casemate.dev/internal/secret"
	"github.com/godbus/dbus/v5"
)

// keyring is the desktop's Secret Service (GNOME Keyring, KWallet, KeePassXC), over D-Bus: https://specifications.freedesktop.org/secret-service-spec/latest/.
// The session is a plain one: the bus is a socket that the same user alone can open, and who can listen there can ask the service itself.
type keyring struct {
	name    string
	address string // of the session bus
}

const (
	service   = "org.freedesktop.secrets"
	servicePa = dbus.ObjectPath("/org/freedesktop/secrets")
	serviceIf = "org.freedesktop.Secret.Service."
	itemIf    = "org.freedesktop.Secret.Item."
	nothing   = dbus.ObjectPath("/") // no prompt, no collection

	// keyringTime is long enough for a person who is asked to unlock it.
	keyringTime = 60 * time.Second
)

// wrapped is a secret as the interface has it.
type wrapped struct {
	Session     dbus.ObjectPath
	Parameters  []byte
	Value       []byte
	ContentType string
}

// desk is one conversation with the service.
type desk struct {
	bus     *dbus.Conn
	session dbus.ObjectPath
	ctx     context.Context
}

func (k keyring) with(ctx context.Context, f func(*desk) error) error {
	ctx, cancel := context.WithTimeout(ctx, keyringTime)
	defer cancel()
	if k.address == "" {
		return problem("use another store, or start casemate in the desktop's session", "there is no keyring: DBUS_SESSION_BUS_ADDRESS is not set")
	}
	bus, err := dbus.Connect(k.address, dbus.WithContext(ctx))
	if err != nil {
		return problem("use another store, or start casemate in the desktop's session", "the session bus cannot be reached: %v", err)
	}
	defer bus.Close()
	d := &desk{bus: bus, ctx: ctx}
	var out dbus.Variant
	if err := d.call(servicePa, serviceIf+"OpenSession", "plain", dbus.MakeVariant("")).Store(&out, &d.session); err != nil {
		return problem("start one, such as gnome-keyring or KeePassXC, or use another store", "no keyring answers on the session bus: %v", err)
	}
	err = f(d)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return problem("unlock the keyring, and try again", "the keyring did not answer within %s", keyringTime)
	}
	return err
}

func (d *desk) call(path dbus.ObjectPath, method string, args ...any) *dbus.Call {
	return d.bus.Object(service, path).CallWithContext(d.ctx, method, 0, args...)
}

func (k keyring) attributes() map[string]string {
	return map[string]string{"xdg:schema": "dev.casemate.Secret", "entry": k.name}
}

// item finds the entry's item, unlocked; nothing where there is none.
func (d *desk) item(attributes map[string]string) (dbus.ObjectPath, error) {
	var open, locked []dbus.ObjectPath
	if err := d.call(servicePa, serviceIf+"SearchItems", attributes).Store(&open, &locked); err != nil {
		return nothing, err
	}
	switch {
	case len(open) > 0:
		return open[0], nil
	case len(locked) > 0:
		return locked[0], d.unlock(locked[0])
	}
	return nothing, nil
}

// unlock asks the service, and it the person, where one has to be asked.
func (d *desk) unlock(path dbus.ObjectPath) error {
	var open []dbus.ObjectPath
	var prompt dbus.ObjectPath
	if err := d.call(servicePa, serviceIf+"Unlock", []dbus.ObjectPath{path}).Store(&open, &prompt); err != nil {
		return err
	}
	return d.prompt(prompt)
}

func (d *desk) prompt(prompt dbus.ObjectPath) error {
	if prompt == nothing {
		return nil
	}
	done := make(chan *dbus.Signal, 8)
	d.bus.Signal(done)
	defer d.bus.RemoveSignal(done)
	if err := d.bus.AddMatchSignalContext(d.ctx, dbus.WithMatchObjectPath(prompt), dbus.WithMatchInterface("org.freedesktop.Secret.Prompt")); err != nil {
		return err
	}
	if err := d.call(prompt, "org.freedesktop.Secret.Prompt.Prompt", "").Err; err != nil {
		return err
	}
	for {
		select {
		case s, ok := <-done:
			switch {
			case !ok:
				return errors.New("the session bus has ended")
			case s.Path != prompt || s.Name != "org.freedesktop.Secret.Prompt.Completed" || len(s.Body) == 0:
			case s.Body[0] == true:
				return problem("unlock it when it asks", "the keyring was not unlocked")
			default:
				return nil
			}
		case <-d.ctx.Done():
			return d.ctx.Err()
		}
	}
}

// Get reads the item.
func (k keyring) Get(ctx context.Context) (v secret.Value, until time.Time, err error) {
	err = k.with(ctx, func(d *desk) error {
		item, err := d.item(k.attributes())
		if err != nil {
			return k.wrong(err)
		}
		if item == nothing {
			return problem("casemate secret rotate "+k.name+" puts it there", "the keyring has no value for secret %q", k.name)
		}
		var w wrapped
		if err := d.call(item, itemIf+"GetSecret", d.session).Store(&w); err != nil {
			return k.wrong(err)
		}
		v, err = secret.New(w.Value)
		return err
	})
	return v, until, err
}

// Put makes the item in the default collection, or replaces it.
func (k keyring) Put(ctx context.Context, v secret.Value) error {
	return k.with(ctx, func(d *desk) error {
		var collection dbus.ObjectPath
		if err := d.call(servicePa, serviceIf+"ReadAlias", "default").Store(&collection); err != nil {
			return k.wrong(err)
		}
		if collection == nothing {
			return problem("make one in the keyring's own program", "the keyring has no default collection")
		}
		if err := d.unlock(collection); err != nil {
			return k.wrong(err)
		}
		properties := map[string]dbus.Variant{
			"org.freedesktop.Secret.Item.Label":      dbus.MakeVariant("casemate: " + k.name),
			"org.freedesktop.Secret.Item.Attributes": dbus.MakeVariant(k.attributes()),
		}
		return v.Use(func(b []byte) error {
			w := wrapped{Session: d.session, Value: bytes.Clone(b), ContentType: "text/plain"}
			defer clear(w.Value)
			var item, prompt dbus.ObjectPath
			if err := d.call(collection, "org.freedesktop.Secret.Collection.CreateItem", properties, w, true).Store(&item, &prompt); err != nil {
				return k.wrong(err)
			}
			return d.prompt(prompt)
		})
	})
}

// Remove deletes the item.
func (k keyring) Remove(ctx context.Context) error {
	return k.with(ctx, func(d *desk) error {
		item, err := d.item(k.attributes())
		if err != nil || item == nothing {
			return k.wrong(err)
		}
		var prompt dbus.ObjectPath
		if err := d.call(item, itemIf+"Delete").Store(&prompt); err != nil {
			return k.wrong(err)
		}
		return d.prompt(prompt)
	})
}

func (k keyring) wrong(err error) error {
	if err == nil || errors.As(err, new(*secret.Problem)) {
		return err
	}
	return fmt.Errorf("the keyring: %w", err)
}
