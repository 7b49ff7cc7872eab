// Package rules decides what a sandbox may reach.
package rules

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"casemate.dev/internal/gate/wire"
	"casemate.dev/internal/policy"
)

// AnyPort asks whether a host may be reached by one port at least, as whoever looks its name up does.
const AnyPort = 0

// Decision is what the rules say about a host and a port.
type Decision struct {
	Allowed  bool
	Rule     string         // the origin of the rule that decided; empty where none did
	Networks []netip.Prefix // Allowed: ranges beside the public ones that the name may resolve to
	Why      string         // not Allowed: a sentence for the person who could allow it
}

// Decide is the only place that says yes. host is a name or an address, in any spelling that policy.NormalizeHost takes. Deny wins, and a rule that cannot
// be read denies everything: whoever wrote it meant something.
func Decide(r wire.Rules, host string, port int, now time.Time) Decision {
	name, err := policy.NormalizeHost(host)
	if err != nil {
		return Decision{Why: err.Error()}
	}
	if d, denied := deny(r.Deny, name); denied {
		return d
	}
	var yes Decision
	var near []string
	for _, a := range r.Allow {
		switch match, err := policy.MatchHost(a.Host, name); {
		case err != nil:
			return Decision{Rule: a.Origin, Why: fmt.Sprintf("a rule cannot be read, so nothing is allowed: %v", err)}
		case !match:
		case ended(a, now):
			near = append(near, "a rule for it ended at "+a.Until.UTC().Format(time.RFC3339))
		case port != AnyPort && !slices.Contains(a.Ports, port):
			near = append(near, "a rule allows it on "+ports(a.Ports))
		case len(a.Ports) > 0:
			if !yes.Allowed {
				yes = Decision{Allowed: true, Rule: a.Origin}
			}
			yes.Networks = append(yes.Networks, a.Networks...)
			if addr, err := netip.ParseAddr(name); err == nil { // whoever writes an address down means it
				yes.Networks = append(yes.Networks, netip.PrefixFrom(addr, addr.BitLen()))
			}
		}
	}
	if yes.Allowed {
		return yes
	}
	return Decision{Why: missing(name, port, near)}
}

// Denied says whether a rule denies the host, whatever allows it.
func Denied(r wire.Rules, host string) (Decision, bool) {
	name, err := policy.NormalizeHost(host)
	if err != nil {
		return Decision{Why: err.Error()}, true
	}
	return deny(r.Deny, name)
}

func deny(patterns []string, name string) (Decision, bool) {
	for _, p := range patterns {
		switch match, err := policy.MatchHost(p, name); {
		case err != nil:
			return Decision{Rule: p, Why: fmt.Sprintf("a rule that denies cannot be read, so everything is denied: %v", err)}, true
		case match:
			return Decision{Rule: p, Why: fmt.Sprintf("%s is denied by the rule %q, and deny wins", name, p)}, true
		}
	}
	return Decision{}, false
}

// Next is the moment after now at which the next rule ends; zero if none does.
func Next(r wire.Rules, now time.Time) (next time.Time) {
	for _, a := range r.Allow {
		if !a.Until.IsZero() && a.Until.After(now) && (next.IsZero() || a.Until.Before(next)) {
			next = a.Until
		}
	}
	return next
}

func ended(a wire.Allow, now time.Time) bool { return !a.Until.IsZero() && !now.Before(a.Until) }

func ports(list []int) string {
	if len(list) == 0 {
		return "no port"
	}
	var b strings.Builder
	b.WriteString("port ")
	for i, p := range list {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(strconv.Itoa(p))
	}
	return b.String()
}

func missing(name string, port int, near []string) string {
	target := name
	if port != AnyPort {
		target = netJoin(name, port)
	}
	why := "no rule allows " + target
	if len(near) > 0 {
		why += "; " + near[0]
	}
	return why
}

func netJoin(name string, port int) string {
	if strings.Contains(name, ":") {
		name = "[" + name + "]"
	}
	return name + ":" + strconv.Itoa(port)
}
