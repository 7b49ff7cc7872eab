package policy

import (
	"errors"
	"strings"
)

// Flags is what the command line says about the policy, as it was written. The caller makes paths of the host absolute: this package knows no directory.
type Flags struct {
	Level, Workspace, Home   string
	Read, Readonly, Write    []string
	Hide, Protect            []string
	Allow                    []string // HOST or HOST:PORT
	Ask                      string   // true or false
	SSH                      []string // HOST, HOST:PORT, each perhaps with =KEY
	Presets                  []string
	Cache                    []string
	HostPorts, Publish       []string // ports of the host's loopback; ports inside
	Internal                 []string // names of private networks
	Memory, Pids, CPUs, Disk string
	Time, Idle               string
	Pass, Set                []string // --env NAME and --env NAME=VALUE
	Engine                   string
	AllowFallback, Require   []string
}

// Source is the flags as a source of the command line's tier. The error is of type Errors.
func (f Flags) Source() (Source, error) {
	doc := &Document{Name: "command line", present: map[string]Origin{}}
	var errs Errors
	for _, g := range f.given() {
		o := Origin{File: g.flag}
		for _, t := range g.texts {
			doc.present[g.key] = o
			e, err := flagEntry(g.key, t)
			if err != nil {
				errs = append(errs, flagError(err, o))
				continue
			}
			e.key, e.origin = g.key, o
			doc.entries = append(doc.entries, e)
		}
	}
	if err := errs.orNil(); err != nil {
		return Source{}, err
	}
	for _, e := range doc.entries {
		e.put(&doc.Settings, e.origin)
	}
	return Source{Tier: CommandLine, Doc: doc}, nil
}

type given struct {
	flag, key string
	texts     []string
}

func (f Flags) given() []given {
	return []given{
		{"--level", "level", one(f.Level)},
		{"--workspace", "files.workspace", one(f.Workspace)},
		{"--home", "home", one(f.Home)},
		{"--read", "files.read", f.Read},
		{"--readonly", "files.readonly", f.Readonly},
		{"--write", "files.write", f.Write},
		{"--hide", "files.hide", f.Hide},
		{"--protect", "files.protect", f.Protect},
		{"--allow", "network.allow", f.Allow},
		{"--ask", "network.ask", one(f.Ask)},
		{"--ssh", "ssh", f.SSH},
		{"--preset", "presets", f.Presets},
		{"--cache", "cache", f.Cache},
		{"--publish", "network.publish", f.Publish},
		{"--host-port", "network.host_ports", f.HostPorts},
		{"--internal", "network.internal", f.Internal},
		{"--memory", "limits.memory", one(f.Memory)},
		{"--pids", "limits.pids", one(f.Pids)},
		{"--cpus", "limits.cpus", one(f.CPUs)},
		{"--disk", "limits.disk", one(f.Disk)},
		{"--time", "limits.time", one(f.Time)},
		{"--idle", "limits.idle", one(f.Idle)},
		{"--env", "env.pass", f.Pass},
		{"--env", "env.set", f.Set},
		{"--engine", "engine", one(f.Engine)},
		{"--allow-fallback", "allow_fallback", f.AllowFallback},
		{"--require", "require", f.Require},
	}
}

func one(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

func flagEntry(key, text string) (entry, error) {
	if key == "env.set" {
		name, value, _ := strings.Cut(text, "=")
		return setVariable(name, value)
	}
	row, _ := find(key)
	return row.field.item(text)
}

func flagError(err error, o Origin) *Error {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Msg: err.Error()}
	}
	return e.at(o)
}
