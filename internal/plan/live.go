package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"casemate.dev/internal/policy"
)

// Reachable is the part of a network that can change while the sandbox runs.
type Reachable struct {
	Allow []Reach
	Deny  []Source
	Ask   bool
}

// Reachable is what the plan says of it.
func (n Network) Reachable() Reachable { return Reachable{n.Allow, n.Deny, n.Ask} }

// Resolve is what a policy says of it at a moment, with a note about each rule that holds no more.
func Resolve(n policy.Network, now time.Time) (r Reachable, ended []string) {
	r.Deny, r.Ask = sources(n.Deny), n.Ask.V
	for _, v := range n.Allow {
		if v.V.Expired(now) {
			ended = append(ended, fmt.Sprintf("network.allow (%s): %s has ended and has no effect", v.Origin, v.V))
			continue
		}
		reach := Reach{Host: v.V.Host, Ports: v.V.Ports, Methods: v.V.Methods, Paths: v.V.Paths, Networks: v.V.Networks, Origin: v.Origin.String()}
		if !v.V.Until.IsZero() {
			reach.Until = v.V.Until.AddDate(0, 0, 1)
		}
		r.Allow = append(r.Allow, reach)
	}
	return r, ended
}

// Narrowed is what both allow: of next only what is allowed already, and what either denies.
func (r Reachable) Narrowed(next Reachable) Reachable {
	n := Reachable{Deny: slices.Clone(r.Deny), Ask: r.Ask && next.Ask}
	for _, a := range next.Allow {
		if slices.ContainsFunc(r.Allow, func(b Reach) bool { return b.covers(a) }) {
			n.Allow = append(n.Allow, a)
		}
	}
	for _, d := range next.Deny {
		if !slices.ContainsFunc(r.Deny, func(b Source) bool { return b.Value == d.Value }) {
			n.Deny = append(n.Deny, d)
		}
	}
	return n
}

// covers says whether another opening opens nothing beyond this one. Where that is not plain, it does.
func (r Reach) covers(o Reach) bool {
	subset := func(narrow, wide []string) bool {
		return len(wide) == 0 || len(narrow) > 0 && !slices.ContainsFunc(narrow, func(s string) bool { return !slices.Contains(wide, s) })
	}
	for _, p := range o.Ports {
		if !slices.Contains(r.Ports, p) {
			return false
		}
	}
	for _, n := range o.Networks {
		if !slices.Contains(r.Networks, n) {
			return false
		}
	}
	if !r.Until.IsZero() && (o.Until.IsZero() || o.Until.After(r.Until)) {
		return false
	}
	return coversHost(r.Host, o.Host) && subset(o.Methods, r.Methods) && subset(o.Paths, r.Paths)
}

// coversHost says whether all names of a pattern are among another's.
func coversHost(wide, narrow string) bool {
	if wide == narrow {
		return true
	}
	covers, err := policy.MatchHost(wide, strings.TrimPrefix(narrow, "*."))
	return err == nil && covers && strings.HasPrefix(wide, "*.")
}

// Openable takes out the rules for single requests at hosts that the gate was not told of when it made its authority, and returns them: programs inside would
// trust no certificate for these.
func (r *Reachable) Openable(tls *TLS) (out []Reach) {
	r.Allow = slices.DeleteFunc(r.Allow, func(a Reach) bool {
		if !a.ofRequests() || tls != nil && slices.ContainsFunc(tls.Hosts, func(h Source) bool { return coversHost(h.Value, a.Host) }) {
			return false
		}
		out = append(out, a)
		return true
	})
	return out
}

// Since says in words what differs from what was before; nothing where nothing does.
func (r Reachable) Since(before Reachable) (said []string) {
	say := func(what string, list []string) {
		const most = 8
		if len(list) > most {
			list = append(list[:most:most], fmt.Sprintf("and %d more", len(list)-most))
		}
		if len(list) > 0 {
			said = append(said, what+" "+strings.Join(list, ", "))
		}
	}
	say("allowed now:", lacking(reaches(r.Allow), reaches(before.Allow)))
	say("allowed no more:", lacking(reaches(before.Allow), reaches(r.Allow)))
	say("denied now:", lacking(texts(r.Deny), texts(before.Deny)))
	say("denied no more:", lacking(texts(before.Deny), texts(r.Deny)))
	switch {
	case r.Ask && !before.Ask:
		said = append(said, "what no rule allows is asked about in casemate watch")
	case before.Ask && !r.Ask:
		said = append(said, "what no rule allows is not asked about any more")
	}
	return said
}

func reaches(list []Reach) (out []string) {
	for _, a := range list {
		text := a.String() + a.requests()
		for _, n := range a.Networks {
			text += " in " + n.String()
		}
		if !a.Until.IsZero() {
			text += " until " + a.Until.AddDate(0, 0, -1).Format(time.DateOnly) // the last day
		}
		out = append(out, text)
	}
	return out
}

func texts(list []Source) (out []string) {
	for _, s := range list {
		out = append(out, s.Value)
	}
	return out
}

// lacking are the elements of one list that the other has not.
func lacking(list, in []string) (out []string) {
	for _, s := range list {
		if !slices.Contains(in, s) {
			out = append(out, s)
		}
	}
	return out
}
