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
	Requests bool           // Allowed: some requests are, and DecideRequest says which, or they may have a secret; the connection has to be opened
	Rule     string         // the origin of the rule that decided; empty where none did
	Networks []netip.Prefix // Allowed: ranges beside the public ones that the name may resolve to
	Why      string         // not Allowed: a sentence for the person who could allow it
	Secret   string         // not Allowed: the secret whose placeholder or value stood where it must not
	Ask      bool           // not Allowed, and not denied either: somebody is there to be asked
}

// Set is rules, read. Compile makes one; the zero Set allows nothing.
type Set struct {
	allow   []opening
	deny    []pattern
	secrets []brokered
	ask     bool   // what no rule allows or denies is asked about
	unasked string // why it is not
	broken  string // why nothing is allowed, where a rule cannot be read: whoever wrote it meant something
}

type opening struct {
	pattern
	wire.Allow
}

// pattern is one of policy.MatchHost's, taken apart, so that a decision does not read all of them again.
type pattern struct {
	text   string
	domain string // normalised
	below  bool   // the names below domain, and not domain itself
}

// Compile reads the patterns of the rules.
func Compile(r wire.Rules) Set {
	s := Set{ask: r.Ask, unasked: r.Unasked}
	for _, text := range r.Deny {
		p, err := read(text)
		if err != nil {
			return Set{broken: fmt.Sprintf("a rule that denies cannot be read, so everything is denied: %v", err)}
		}
		s.deny = append(s.deny, p)
	}
	for _, a := range r.Allow {
		p, err := read(a.Host)
		if err != nil {
			return Set{broken: fmt.Sprintf("a rule cannot be read, so nothing is allowed: %v", err)}
		}
		s.allow = append(s.allow, opening{p, a})
	}
	var err error
	if s.secrets, err = compileSecrets(r.Secrets); err != nil {
		return Set{broken: fmt.Sprintf("a rule cannot be read, so nothing is allowed: %v", err)}
	}
	return s
}

func read(text string) (pattern, error) {
	if _, err := policy.MatchHost(text, "any.example"); err != nil { // it alone says what a pattern is
		return pattern{}, err
	}
	domain, below := strings.CutPrefix(text, "*.")
	domain, err := policy.NormalizeHost(domain)
	return pattern{text, domain, below}, err
}

func (p pattern) covers(name string) bool {
	if !p.below {
		return name == p.domain
	}
	rest, ok := strings.CutSuffix(name, p.domain)
	return ok && len(rest) > 1 && rest[len(rest)-1] == '.'
}

// Decide is the only place that says yes. host is a name or an address, in any spelling that policy.NormalizeHost takes. Deny wins.
func (s *Set) Decide(host string, port int, now time.Time) Decision {
	name, err := policy.NormalizeHost(host)
	if err != nil {
		return Decision{Why: err.Error()}
	}
	if d, denied := s.denied(name); denied {
		return d
	}
	var whole, some Decision
	var near string
	for i := range s.allow {
		a := &s.allow[i]
		switch {
		case !a.covers(name):
		case ended(a.Allow, now):
			near = "; a rule for it ended at " + a.Until.UTC().Format(time.RFC3339)
		case port != AnyPort && !slices.Contains(a.Ports, port):
			near = "; a rule allows it on " + ports(a.Ports)
		case len(a.Ports) > 0 && a.OfRequests():
			some.add(a, name)
		case len(a.Ports) > 0:
			whole.add(a, name)
		}
	}
	if whole.Allowed {
		whole.Requests = port != AnyPort && len(s.SecretsAt(name, port)) > 0
		return whole
	}
	if some.Allowed {
		some.Requests = true
		return some
	}
	if s.unasked != "" {
		near += "; " + s.unasked
	}
	return Decision{Why: "no rule allows " + target(name, port) + near, Ask: s.ask}
}

// Unspoken says whether no rule has to do with the host, neither to allow nor to deny it.
func (s *Set) Unspoken(host string, now time.Time) bool {
	_, denied := s.Denied(host)
	return !denied && !s.Decide(host, AnyPort, now).Allowed
}

// add has a rule allow, after others: the first one is named, and what any of them opens is open.
func (d *Decision) add(a *opening, name string) {
	if !d.Allowed {
		d.Allowed, d.Rule = true, a.Origin
	}
	d.Networks = append(d.Networks, a.Networks...)
	if addr, err := netip.ParseAddr(name); err == nil { // whoever writes an address down means it
		d.Networks = append(d.Networks, netip.PrefixFrom(addr, addr.BitLen()))
	}
}

// Denied says whether a rule denies the host, whatever allows it.
func (s *Set) Denied(host string) (Decision, bool) {
	name, err := policy.NormalizeHost(host)
	if err != nil {
		return Decision{Why: err.Error()}, true
	}
	return s.denied(name)
}

func (s *Set) denied(name string) (Decision, bool) {
	if s.broken != "" {
		return Decision{Why: s.broken}, true
	}
	for _, p := range s.deny {
		if p.covers(name) {
			return Decision{Rule: p.text, Why: fmt.Sprintf("%s is denied by the rule %q, and deny wins", name, p.text)}, true
		}
	}
	return Decision{}, false
}

// Next is the moment after now at which the next rule ends; zero if none does.
func (s *Set) Next(now time.Time) (next time.Time) {
	for _, a := range s.allow {
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

func target(name string, port int) string {
	if port == AnyPort {
		return name
	}
	if strings.Contains(name, ":") {
		name = "[" + name + "]"
	}
	return name + ":" + strconv.Itoa(port)
}
