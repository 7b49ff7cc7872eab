package rules

import (
	"fmt"
	"slices"
	"strings"

	"casemate.dev/internal/gate/wire"
	"casemate.dev/internal/policy"
)

// brokered is a secret with its patterns read.
type brokered struct {
	wire.Secret
	hosts []pattern
}

func compileSecrets(list []wire.Secret) (out []brokered, err error) {
	for _, s := range list {
		b := brokered{Secret: s}
		if n := len(Placeholders(s)); s.Place == policy.PlaceSigV4 && (n < 2 || n > 3) {
			return nil, fmt.Errorf("the secret %q: its placeholder has %d parts", s.Name, n)
		}
		for _, text := range s.Hosts {
			p, err := read(text)
			if err != nil {
				return nil, fmt.Errorf("the secret %q: %w", s.Name, err)
			}
			b.hosts = append(b.hosts, p)
		}
		out = append(out, b)
	}
	return out, nil
}

// at says whether the secret is for a host and port.
func (b *brokered) at(name string, port int) bool {
	return slices.Contains(b.Ports, port) && slices.ContainsFunc(b.hosts, func(p pattern) bool { return p.covers(name) })
}

// HasSecrets says whether a placeholder is inside at all.
func (s *Set) HasSecrets() bool { return len(s.secrets) > 0 }

// Secrets are all of them.
func (s *Set) Secrets() []wire.Secret {
	list := make([]wire.Secret, len(s.secrets))
	for i, b := range s.secrets {
		list[i] = b.Secret
	}
	return list
}

// Placeholders are those of a secret: one, or one for each part of an AWS credential: the key's id, the key, and the token of a temporary one.
func Placeholders(s wire.Secret) []string {
	if s.Place == policy.PlaceSigV4 {
		return strings.Split(s.Placeholder, ":")
	}
	return []string{s.Placeholder}
}

// SecretsAt are those that requests to a host and port may have. A host that has one has its connections opened, where a rule allows them.
func (s *Set) SecretsAt(host string, port int) (list []wire.Secret) {
	name, err := policy.NormalizeHost(host)
	if err != nil || s.broken != "" {
		return nil
	}
	for i := range s.secrets {
		if s.secrets[i].at(name, port) {
			list = append(list, s.secrets[i].Secret)
		}
	}
	return list
}

// TakesSecret says whether a request to one of its hosts may have a secret. A method or path that servers may take for another one has to be its own as well.
func TakesSecret(s wire.Secret, r Request) bool {
	o := opening{Allow: wire.Allow{Methods: s.Methods, Paths: s.Paths}}
	paths, _ := readPaths(r.Paths)
	return o.allows(r.Methods, paths)
}
