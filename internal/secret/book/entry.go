// Package book is the encrypted file that lists the secrets of one person: what they are, who may use them where, and the values that lie in the file itself.
package book

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"casemate.dev/internal/policy"
	"casemate.dev/internal/secret"
	"casemate.dev/internal/secret/ask"
)

// Entry is one secret, without its value.
type Entry struct {
	Name    string       `json:"name"`
	Kind    string       `json:"kind,omitempty"` // a name of secret.Kinds
	Source  Source       `json:"source"`
	Shape   secret.Shape `json:"shape"`
	Created time.Time    `json:"created"`
	Rotated time.Time    `json:"rotated"`          // when the value was last set
	Expires time.Time    `json:"expires,omitzero"` // no use from then on
	Version int          `json:"version"`          // counts the values it had
	Grants  []Grant      `json:"grants"`
	Next    int          `json:"next"` // the number of the next grant: a number is never used again
}

// Source says where the value lies. Which fields are needed is the store's business.
type Source struct {
	Store     string   `json:"store"` // one of Stores
	Variable  string   `json:"variable,omitempty"`
	Command   []string `json:"command,omitempty"` // the program's absolute path, and its arguments
	Address   string   `json:"address,omitempty"`
	Namespace string   `json:"namespace,omitempty"`
	Mount     string   `json:"mount,omitempty"`
	Path      string   `json:"path,omitempty"`  // below the mount; or a login's file
	Login     string   `json:"login,omitempty"` // whose it is: a kind of package login
	Field     string   `json:"field,omitempty"`
}

// The stores.
const (
	File    = "file"    // in this file, encrypted
	Keyring = "keyring" // the desktop's Secret Service
	Env     = "env"
	Command = "command"
	Vault   = "vault" // Vault or OpenBao, KV version 2
	Login   = "login" // what an agent keeps of its own, on this machine
)

// Stores are the names of all.
func Stores() []string { return []string{File, Keyring, Env, Command, Vault, Login} }

// Grant lets some use an entry somewhere. Every part that is said must fit; one that is empty fits everything, but for Hosts.
type Grant struct {
	ID      int       `json:"id"`
	Project string    `json:"project,omitempty"` // its absolute path
	Preset  string    `json:"preset,omitempty"`
	Sandbox string    `json:"sandbox,omitempty"` // its id
	Hosts   []string  `json:"hosts"`             // patterns as policy.MatchHost takes them
	Ports   []int     `json:"ports"`
	Methods []string  `json:"methods,omitempty"`
	Paths   []string  `json:"paths,omitempty"` // patterns as policy.MatchPath takes them
	Made    time.Time `json:"made"`
	Expires time.Time `json:"expires,omitzero"`
}

// Who wants to use an entry.
type Who struct {
	Sandbox, Project string
	Presets          []string
}

// Use is one use.
type Use struct {
	Host, Method, Path string
	Port               int
}

// Expired says whether a moment is reached; the zero one never is.
func Expired(at, now time.Time) bool { return !at.IsZero() && !now.Before(at) }

// For says whether a grant is for them, and holds now.
func (g *Grant) For(w Who, now time.Time) bool {
	return !Expired(g.Expires, now) && (g.Project == "" || g.Project == w.Project) && (g.Sandbox == "" || g.Sandbox == w.Sandbox) &&
		(g.Preset == "" || slices.Contains(w.Presets, g.Preset))
}

// Covers says whether a grant is about this use.
func (g *Grant) Covers(u Use) bool {
	return MatchesOne(g.Hosts, u.Host) && slices.Contains(g.Ports, u.Port) && (len(g.Methods) == 0 || slices.Contains(g.Methods, u.Method)) &&
		(len(g.Paths) == 0 || slices.ContainsFunc(g.Paths, func(p string) bool { return matchPath(p, u.Path) }))
}

// matchPath covers no path that a server may take for another one.
func matchPath(pattern, p string) bool {
	clean := path.Clean(p)
	return strings.HasPrefix(p, "/") && (p == clean || p == clean+"/") && policy.MatchPath(pattern, p)
}

// MatchesOne says whether one of the patterns covers the host. What is no host is covered by none.
func MatchesOne(patterns []string, host string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := policy.MatchHost(p, host)
		return err == nil && ok
	})
}

// Find decides about one use: the grant that allows it, or a sentence that says what is missing and what to do. Deny is the last line.
func (e *Entry) Find(w Who, u Use, now time.Time) (*Grant, error) {
	if err := e.Usable(w, now); err != nil {
		return nil, err
	}
	for i := range e.Grants {
		if g := &e.Grants[i]; g.For(w, now) && g.Covers(u) {
			return g, nil
		}
	}
	request := strings.TrimSpace(fmt.Sprintf("%s %s", u.Method, u.Path))
	if request != "" {
		request = ", " + request
	}
	return nil, &secret.Problem{
		Err:  fmt.Errorf("no grant of secret %q covers %s:%d%s", e.Name, u.Host, u.Port, request),
		Help: fmt.Sprintf("casemate secret grant %s --host %s%s", e.Name, u.Host, portFlag(u.Port)),
	}
}

func portFlag(port int) string {
	if port == 443 {
		return ""
	}
	return fmt.Sprintf(":%d", port)
}

// Usable says whether they may use the entry anywhere now.
func (e *Entry) Usable(w Who, now time.Time) error {
	if Expired(e.Expires, now) {
		return &secret.Problem{
			Err:  fmt.Errorf("secret %q has expired at %s", e.Name, e.Expires.UTC().Format(time.RFC3339)),
			Help: fmt.Sprintf("casemate secret rotate %s --expires WHEN", e.Name),
		}
	}
	if !slices.ContainsFunc(e.Grants, func(g Grant) bool { return g.For(w, now) }) {
		return &secret.Problem{
			Err:  fmt.Errorf("no grant lets this sandbox use secret %q", e.Name),
			Help: fmt.Sprintf("casemate secret list --json shows the grants; casemate secret grant %s --host HOST%s makes one", e.Name, projectFlag(w.Project)),
		}
	}
	return nil
}

func projectFlag(project string) string {
	if project == "" {
		return ""
	}
	return " --project " + project
}

// Grant adds a grant, and says under which number.
func (e *Entry) Grant(g Grant, now time.Time) (int, error) {
	if err := g.check(); err != nil {
		return 0, err
	}
	if len(e.Grants) >= maxGrants {
		return 0, fmt.Errorf("secret %q has %d grants, and cannot have more", e.Name, maxGrants)
	}
	e.Next++
	g.ID, g.Made = e.Next, now
	e.Grants = append(e.Grants, g)
	return g.ID, nil
}

const maxGrants = 256

func (g *Grant) check() error {
	if len(g.Hosts) == 0 || len(g.Ports) == 0 {
		return errors.New("a grant names a host")
	}
	for _, h := range g.Hosts {
		if _, err := policy.ParseAllow(h); err != nil {
			return err
		}
	}
	for _, p := range g.Ports {
		if p < 1 || p > 65535 {
			return fmt.Errorf("a port cannot be %d", p)
		}
	}
	if g.Project != "" && !strings.HasPrefix(g.Project, "/") {
		return fmt.Errorf("the project %q is not an absolute path", g.Project)
	}
	if g.Preset != "" && !ask.IsName(g.Preset) || g.Sandbox != "" && !ask.IsName(g.Sandbox) {
		return fmt.Errorf("there can be no preset %q or sandbox %q", g.Preset, g.Sandbox)
	}
	return policy.CheckRequests(g.Methods, g.Paths)
}

// check holds what the file says to what casemate writes. The file cannot be made without its key; this is about damage and other versions.
func (e *Entry) check() error {
	if !ask.IsName(e.Name) {
		return fmt.Errorf("there can be no secret %q", e.Name)
	}
	if !slices.Contains(Stores(), e.Source.Store) {
		return fmt.Errorf("secret %q lies in a store %q, which this version does not know", e.Name, e.Source.Store)
	}
	if err := e.Shape.Check(); err != nil {
		return fmt.Errorf("secret %q: %w", e.Name, err)
	}
	if len(e.Grants) > maxGrants {
		return fmt.Errorf("secret %q has more than %d grants", e.Name, maxGrants)
	}
	for i := range e.Grants {
		if err := e.Grants[i].check(); err != nil {
			return fmt.Errorf("secret %q, grant %d: %w", e.Name, e.Grants[i].ID, err)
		}
	}
	return nil
}
