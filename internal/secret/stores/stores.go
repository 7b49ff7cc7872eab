// Package stores reads the value of a secret from where it lies: the encrypted file, the desktop's keyring, a variable, a command, a server, or an agent's own login.
package stores

import (
	"context"
	"fmt"
	"strings"
	"time"

	"casemate.dev/internal/policy"
	"casemate.dev/internal/secret"
	"casemate.dev/internal/secret/book"
	"casemate.dev/internal/secret/login"
)

// Host is what the stores need of this process.
type Host struct {
	Getenv func(string) string
	Value  func(name string) (secret.Value, error) // a copy of the one in the encrypted file
	Renew  func(context.Context, login.File) error // has a login renewed, in a process that nobody ends before it is done
}

// Open finds the store of an entry.
func Open(e *book.Entry, h Host) (secret.Store, error) {
	switch s := e.Source; s.Store {
	case book.File:
		return inFile{e.Name, h.Value}, nil
	case book.Env:
		if e.Kind == secret.AWS {
			return parts{s.Variable, h.Getenv}, nil
		}
		return variable{s.Variable, h.Getenv}, nil
	case book.Command:
		return command{argv: s.Command, timeout: CommandTime}, nil
	case book.Keyring:
		return keyring{name: e.Name, address: h.Getenv("DBUS_SESSION_BUS_ADDRESS")}, nil
	case book.Vault:
		return newVault(s, h.Getenv)
	case book.Login:
		return newLogin(s, h)
	}
	return nil, fmt.Errorf("bug: secret %q lies in %q", e.Name, e.Source.Store)
}

// Get reads the value of an entry as it is kept and handed over.
func Get(ctx context.Context, s secret.Store, e *book.Entry) (v secret.Value, until time.Time, err error) {
	v, until, err = s.Get(ctx)
	if err != nil {
		return v, until, err
	}
	v, ends, err := secret.Normal(e.Kind, v)
	if until.IsZero() || !ends.IsZero() && ends.Before(until) {
		until = ends
	}
	return v, until, err
}

// Fresh is how long a value may be used again without reading it anew: reading from other programs takes time, and may ask a person to touch something.
func Fresh(store string) time.Duration {
	switch store {
	case book.Command, book.Keyring, book.Vault:
		return time.Minute
	}
	return 0
}

// Describe says where an entry's value lies, in words.
func Describe(s book.Source) string {
	switch s.Store {
	case book.Env:
		return "env " + s.Variable
	case book.Command:
		return "command " + strings.Join(s.Command, " ")
	case book.Login:
		return "login of " + s.Login + " in " + s.Path
	case book.Vault:
		return fmt.Sprintf("vault %s/%s field %s", s.Mount, s.Path, s.Field)
	}
	return s.Store
}

// inFile is the encrypted file itself.
type inFile struct {
	name  string
	value func(string) (secret.Value, error)
}

func (f inFile) Get(context.Context) (v secret.Value, until time.Time, err error) {
	v, err = f.value(f.name)
	return v, until, err
}

// variable is one of this process's environment, which whoever started it has too, and every program that was started before it.
type variable struct {
	name   string
	getenv func(string) string
}

func (e variable) Get(context.Context) (v secret.Value, until time.Time, err error) {
	text := e.getenv(e.name)
	if text == "" {
		return v, until, problem("export it where casemate is started", "the variable %s is not set", e.name)
	}
	v, err = secret.New([]byte(text))
	return v, until, err
}

// parts are the variables that programs of AWS read: the one that is named, and those that belong to it.
type parts struct {
	name   string
	getenv func(string) string
}

func (p parts) Get(ctx context.Context) (v secret.Value, until time.Time, err error) {
	names := policy.SecretVariables(policy.PlaceSigV4, p.name)
	if p.name == names[1] || p.getenv(names[1]) == "" { // it holds all of them, or JSON
		return variable(p).Get(ctx)
	}
	text := p.getenv(names[0]) + ":" + p.getenv(names[1])
	if token := p.getenv(names[2]); token != "" {
		text += ":" + token
	}
	v, err = secret.New([]byte(text))
	return v, until, err
}

func problem(help, format string, args ...any) error {
	return &secret.Problem{Err: fmt.Errorf(format, args...), Help: help}
}
