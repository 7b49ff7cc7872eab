package plan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"casemate.dev/internal/policy"
)

// NoNamespace says that an opening of the network needs a network namespace.
type NoNamespace struct{ Opening string }

func (n *NoNamespace) Error() string {
	return fmt.Sprintf("network.%s: the gate needs a network namespace, and there is none without namespaces", n.Opening)
}

// Hint names the way out.
func (n *NoNamespace) Hint() string {
	return "run it where namespaces can be had (casemate doctor says what is missing), or take the rule out of the policy (that of an agent's preset: --preset none)"
}

// maxPorts keeps the descriptors that a sandbox hands out well below what one message can carry (SCM_MAX_FD in unix(7)).
const maxPorts = 64

// maxInternal is how many private networks a sandbox can be on.
const maxInternal = 16

// network resolves what may be reached. Without a rule that still holds there is no network at all.
func (p *Plan) network(r Request) error {
	now, ended := Resolve(r.Policy.Network, r.Now)
	p.Network.Allow, p.Network.Deny, p.Network.Ask = now.Allow, now.Deny, now.Ask
	p.Notes = append(p.Notes, ended...)
	p.overruled()
	opened := ""
	for _, v := range r.Policy.Network.HostPorts {
		p.Network.HostPorts = append(p.Network.HostPorts, v.V)
		opened = "host_ports (" + v.Origin.String() + ")"
	}
	for _, v := range r.Policy.Network.Publish {
		if v.V.Auto {
			p.Network.Auto = true
		} else {
			p.Network.Publish = append(p.Network.Publish, Published{v.V.Host, v.V.Inside})
		}
		opened = "publish (" + v.Origin.String() + ")"
	}
	if p.Network.Internal = sources(r.Policy.Network.Internal); len(p.Network.Internal) > maxInternal {
		return fmt.Errorf("network.internal: %d networks, and a sandbox can be on %d", len(p.Network.Internal), maxInternal)
	} else if n := len(p.Network.Internal); n > 0 {
		opened = "internal (" + p.Network.Internal[n-1].Origin + ")"
	}
	if n := len(p.Network.HostPorts) + len(p.Network.Publish); n > maxPorts {
		return fmt.Errorf("network.host_ports and network.publish: %d ports, and a sandbox can have %d", n, maxPorts)
	}
	if ask := r.Policy.Network.Ask; ask.V {
		opened = "ask (" + ask.Origin.String() + ")"
	}
	if len(p.Network.Allow) > 0 {
		opened = "allow (" + p.Network.Allow[0].Origin + ")"
	}
	if opened == "" {
		return nil
	}
	if r.Mode == Landlock {
		return &NoNamespace{opened}
	}
	p.Network.Kind, p.Network.IPv6 = Gate, r.IPv6
	return nil
}

// String is HOST:PORT, as flags take it.
func (r Reach) String() string {
	ports := make([]string, len(r.Ports))
	for i, n := range r.Ports {
		ports[i] = strconv.Itoa(n)
	}
	host := r.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strings.Join(ports, ",")
}

func (r Reach) ofRequests() bool { return len(r.Methods)+len(r.Paths) > 0 }

// requests is what is allowed of them, as the end of a sentence; empty where all are.
func (r Reach) requests() string {
	if !r.ofRequests() {
		return ""
	}
	either := func(list []string, all string) string {
		if len(list) == 0 {
			return all
		}
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("; only requests of method %s on path %s", either(r.Methods, "any"), either(r.Paths, "any"))
}

// overruled notes the rules for single requests that have no effect, because another one allows every request.
func (p *Plan) overruled() {
	for _, a := range p.Network.Allow {
		for _, b := range p.Network.Allow {
			covers, err := policy.MatchHost(b.Host, strings.TrimPrefix(a.Host, "*."))
			covers = covers && err == nil || a.Host == b.Host
			if a.ofRequests() && !b.ofRequests() && covers && slices.ContainsFunc(a.Ports, func(n int) bool { return slices.Contains(b.Ports, n) }) {
				p.Notes = append(p.Notes, fmt.Sprintf("network.allow (%s): methods and paths of %s have no effect where %s allows every request", a.Origin, a, b.Origin))
			}
		}
	}
}

// String is the kind and what is allowed, for people.
func (n Network) String() string {
	if n.Kind == NoNetwork {
		return "none"
	}
	list := make([]string, 0, len(n.Allow)+len(n.HostPorts))
	for _, a := range n.Allow {
		list = append(list, a.String())
	}
	for _, port := range n.HostPorts {
		list = append(list, fmt.Sprintf("the host's loopback port %d", port))
	}
	for _, port := range n.Publish {
		list = append(list, fmt.Sprintf("port %d inside offered at the host's loopback port %d", port.Inside, port.Host))
	}
	for _, name := range n.Internal {
		list = append(list, "the sandboxes on the internal network "+name.Value)
	}
	if n.Auto {
		list = append(list, "each port that opens inside offered at the host's loopback")
	}
	if n.Ask {
		list = append(list, "what no rule allows is asked about in casemate watch")
	}
	return "gate: " + strings.Join(list, ", ")
}
