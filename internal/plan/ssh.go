package plan

import (
	"fmt"
	"slices"
	"strings"

	"casemate.dev/internal/policy"
)

// Login is where some of the person's ssh keys may log in. The keys stay outside.
type Login struct {
	Keys   []string `json:"keys,omitempty"` // none: the only one that the person's agent has
	Hosts  []string `json:"hosts"`
	Ports  []int    `json:"ports"`
	Origin string   `json:"origin"`
}

// Agent is the ssh-agent of a sandbox: a directory with its socket, and with what ssh inside is to know of the hosts.
type Agent struct {
	Dir    string // of the sandbox on the host
	Target string // where it is seen inside
	Socket string // its name in there
}

// authSock is how programs find their agent (ssh-agent(1)).
const authSock = "SSH_AUTH_SOCK"

// maxLogins is how many rules a sandbox may have (package ask says as much).
const maxLogins = 32

// logins resolves the keys. It comes after the network: they open nothing by themselves.
func (p *Plan) logins(r Request) error {
	if n := len(r.Policy.SSH); n > maxLogins {
		return fmt.Errorf("ssh: %d rules, and a sandbox can have %d", n, maxLogins)
	}
	for _, v := range r.Policy.SSH {
		l := Login{v.V.Keys, v.V.Hosts, v.V.Ports, v.Origin.String()}
		if p.Network.Kind != Gate {
			p.Notes = append(p.Notes, fmt.Sprintf("ssh (%s): there is no network here, so there is no agent either (--allow %s opens it)", v.Origin, Reach{Host: l.Hosts[0], Ports: l.Ports}))
			continue
		}
		for _, k := range l.Keys {
			if path := Expand(k, r.Host); r.Project != "" && within(path, r.Project) {
				return fmt.Errorf("ssh (%s): the key %s lies in the project, where what runs inside could put another one: name one that lies elsewhere, or its fingerprint", v.Origin, k)
			}
		}
		for _, host := range l.Hosts {
			if !p.reaches(host, l.Ports) {
				p.Notes = append(p.Notes, fmt.Sprintf("ssh (%s): no rule of network.allow reaches %[2]s, and a key opens nothing (--allow %[2]s does)", v.Origin, Reach{Host: host, Ports: l.Ports}))
			}
		}
		p.SSH = append(p.SSH, l)
	}
	if len(p.SSH) == 0 {
		return nil
	}
	if origin := variableOrigin(r.Policy, authSock); origin != "" {
		return fmt.Errorf("ssh (%s): %s is in env as well (%s): take it out there", p.SSH[0].Origin, authSock, origin)
	}
	p.Command.Env = append(slices.Clone(p.Command.Env), authSock+"="+r.Agent.Target+"/"+r.Agent.Socket)
	return nil
}

// SignsLogins says whether there is an agent inside.
func SignsLogins(pol *policy.Policy, r Request) bool {
	return len(pol.SSH) > 0 && r.Mode != Landlock && gated(pol, r.Now)
}

// agent is mounted whole: the directory is read-only, and who connects to the socket in it changes nothing there.
func (p *Plan) agent(r Request) {
	if len(p.SSH) > 0 {
		p.mount(Mount{Kind: Bind, Source: r.Agent.Dir, Target: r.Agent.Target})
	}
}

// use is what may be done with the keys, for people.
func (l Login) use() string {
	to := make([]string, len(l.Hosts))
	for i, h := range l.Hosts {
		to[i] = Reach{Host: h, Ports: l.Ports}.String()
	}
	keys := "the only ssh key of your agent"
	if len(l.Keys) > 0 {
		keys = "your ssh key " + strings.Join(l.Keys, ", ")
	}
	return fmt.Sprintf("log in at %s with %s, which stays outside", strings.Join(to, ", "), keys)
}
