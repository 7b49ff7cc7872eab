package plan

import (
	"fmt"
	"slices"
	"strings"

	"casemate.dev/internal/policy"
)

// Secret is a credential that stays outside: inside, the variable holds a placeholder. A plan holds neither.
type Secret struct {
	Name    string   `json:"name"`
	Env     string   `json:"env"`
	Hosts   []string `json:"hosts"`
	Ports   []int    `json:"ports"`
	Place   string   `json:"place,omitempty"`
	Methods []string `json:"methods,omitempty"`
	Paths   []string `json:"paths,omitempty"`
	Origin  string   `json:"origin"`

	Optional bool   `json:"optional,omitempty"` // only if the store has it
	Unless   string `json:"unless,omitempty"`   // and only if it does not have that one
}

// Variables are those inside that hold what stands for it.
func (s Secret) Variables() []string { return policy.SecretVariables(s.Place, s.Env) }

// maxSecrets is how many a sandbox may have (package ask says as much).
const maxSecrets = 64

// secrets resolves the credentials. It comes after the network: they open nothing by themselves.
func (p *Plan) secrets(r Request) error {
	if n := len(r.Policy.Secrets); n > maxSecrets {
		return fmt.Errorf("secrets: %d of them, and a sandbox can have %d", n, maxSecrets)
	}
	for _, v := range r.Policy.Secrets {
		if err := p.ownVariable(r, v); err != nil {
			return err
		}
		s := v.V
		if s.Optional && p.Network.Kind != Gate { // nobody asked for it
			continue
		}
		p.Secrets = append(p.Secrets, Secret{s.Name, s.Env, s.Hosts, s.Ports, s.Place, s.Methods, s.Paths, v.Origin.String(), s.Optional, s.Unless})
		if p.Network.Kind != Gate {
			p.Notes = append(p.Notes, fmt.Sprintf("secrets.%s (%s): there is no network here, so %s holds a placeholder that nothing replaces", s.Name, v.Origin, s.Env))
			continue
		}
		for _, host := range s.Hosts {
			if !p.reaches(host, s.Ports) {
				p.Notes = append(p.Notes, fmt.Sprintf("secrets.%s (%s): no rule of network.allow reaches %s, and a secret opens nothing", s.Name, v.Origin, Reach{Host: host, Ports: s.Ports}))
			} else if s.Place == policy.PlaceSigV4 && (overlap(host, "sts.amazonaws.com") || overlap(host, "sts.us-east-1.amazonaws.com")) {
				p.Notes = append(p.Notes, fmt.Sprintf("secrets.%s (%s): %s covers AWS's STS, whose answers hold real credentials: name the hosts of the services that are used", s.Name, v.Origin, host))
			}
		}
	}
	return nil
}

// ownVariable refuses a variable that something else sets: a value would be inside then, or a placeholder where a program looks for something else.
func (p *Plan) ownVariable(r Request, v policy.Value[policy.Secret]) error {
	for _, name := range policy.SecretVariables(v.V.Place, v.V.Env) {
		for _, other := range p.Secrets {
			if slices.Contains(other.Variables(), name) {
				return fmt.Errorf("secrets.%s (%s): %s holds the placeholder of secrets.%s (%s) already: give one of them another env", v.V.Name, v.Origin, name, other.Name, other.Origin)
			}
		}
		if origin := variableOrigin(r.Policy, name); origin != "" {
			return fmt.Errorf("secrets.%s (%s): %s is in env as well (%s), which would bring its value inside: take it out there", v.V.Name, v.Origin, name, origin)
		}
		if slices.ContainsFunc(r.Env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") }) {
			return fmt.Errorf("secrets.%s (%s): every sandbox has a variable %s of its own: name another one", v.V.Name, v.Origin, name)
		}
	}
	return nil
}

// reaches says whether a rule allows a part of what a pattern stands for, on one of the ports.
func (p *Plan) reaches(host string, ports []int) bool {
	return slices.ContainsFunc(p.Network.Allow, func(a Reach) bool {
		return overlap(a.Host, host) && slices.ContainsFunc(a.Ports, func(n int) bool { return slices.Contains(ports, n) })
	})
}

// overlap says whether there is a host that both patterns cover.
func overlap(a, b string) bool {
	if a == b {
		return true
	}
	for _, pair := range [][2]string{{a, b}, {b, a}} {
		below, wide := strings.CutPrefix(pair[0], "*")
		if wide && strings.HasSuffix(strings.TrimPrefix(pair[1], "*"), below) {
			return true
		}
	}
	return false
}

// use is what may be done with it, for people.
func (s Secret) use() string {
	to := make([]string, len(s.Hosts))
	for i, h := range s.Hosts {
		to[i] = Reach{Host: h, Ports: s.Ports}.String()
	}
	text := fmt.Sprintf("use the secret %s (inside: a placeholder in %s) in requests to %s", s.Name, strings.Join(s.Variables(), ", "), strings.Join(to, ", "))
	if s.Place != "" {
		text += ", as " + s.Place
	}
	text += Reach{Methods: s.Methods, Paths: s.Paths}.requests()
	if s.Optional {
		text += ", if the store has it"
	}
	if s.Unless != "" {
		text += " and not " + s.Unless
	}
	return text
}
