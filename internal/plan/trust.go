package plan

import (
	"fmt"
	"slices"
	"time"

	"casemate.dev/internal/policy"
)

// Trust is what makes programs inside trust the gate, where it opens TLS.
type Trust struct {
	Dir       string  // of the sandbox on the host: the certificate, and each file of Over with it
	Target    string  // where the directory is seen inside
	Over      []Mount // files that are seen in place of the system's; only Source and Target are set
	Variables []Variable
}

// OpensTLS says whether a rule that still holds is about single requests, or a secret may have to be put in: only an opened connection shows them.
func OpensTLS(pol *policy.Policy, now time.Time) bool { return len(opened(pol, now)) > 0 }

func opened(pol *policy.Policy, now time.Time) []Source {
	var hosts []Source
	for _, v := range pol.Network.Allow {
		if len(v.V.Methods)+len(v.V.Paths) > 0 && !v.V.Expired(now) {
			hosts = append(hosts, Source{v.V.Host, v.Origin.String()})
		}
	}
	if !gated(pol, now) {
		return hosts
	}
	for _, v := range pol.Secrets { // also those that no rule reaches yet: casemate allow may
		for _, host := range v.V.Hosts {
			hosts = append(hosts, Source{host, v.Origin.String()})
		}
	}
	return hosts
}

// gated says whether there is a gate at all.
func gated(pol *policy.Policy, now time.Time) bool {
	n := pol.Network
	return len(n.Publish)+len(n.HostPorts)+len(n.Internal) > 0 || n.Ask.V || slices.ContainsFunc(n.Allow, func(v policy.Value[policy.NetRule]) bool { return !v.V.Expired(now) })
}

// trust lays the authorities that hold inside over the system's.
func (p *Plan) trust(r Request) {
	hosts := opened(r.Policy, r.Now)
	if len(hosts) == 0 {
		return
	}
	tls := &TLS{Hosts: hosts, Files: []string{r.Trust.Target}, Variables: []Variable{}}
	p.mount(Mount{Kind: Bind, Source: r.Trust.Dir, Target: r.Trust.Target})
	for _, m := range r.Trust.Over {
		p.mount(Mount{Kind: Bind, Source: m.Source, Target: m.Target, File: true})
		tls.Files = append(tls.Files, m.Target)
	}
	for _, v := range r.Trust.Variables {
		if v.Origin = variableOrigin(r.Policy, v.Name); v.Origin != "" {
			v.Value = ""
			p.Notes = append(p.Notes, fmt.Sprintf("%s is yours (%s): programs that read it trust the gate only if the file that it names does", v.Name, v.Origin))
		}
		tls.Variables = append(tls.Variables, v)
	}
	p.Network.TLS = tls
}

// variableOrigin is the policy line that sets or passes a variable by its name; empty: none does.
func variableOrigin(pol *policy.Policy, name string) string {
	for _, v := range pol.Env.Set {
		if v.V.Name == name {
			return v.Origin.String()
		}
	}
	for _, v := range pol.Env.Pass {
		if v.V == name {
			return v.Origin.String()
		}
	}
	return ""
}
