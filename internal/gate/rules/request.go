package rules

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"casemate.dev/internal/policy"
)

// Request is what rules ask about an HTTP request. A rule allows it if it allows all of its methods on all of its paths.
type Request struct {
	Methods []string // its own, and what it asks its server to take instead
	Paths   []string // the same; as they were sent, without a query
}

// String is the request for a sentence, and not a kilobyte of it.
func (r Request) String() string {
	const most = 200
	text := func(list []string) string {
		all := strings.Join(list, " and ")
		if len(all) > most {
			return all[:most] + "…"
		}
		return all
	}
	return text(r.Methods) + " " + text(r.Paths)
}

// DecideRequest is Decide for a request on a connection. Where a rule allows the host wholly, it allows every request.
func (s *Set) DecideRequest(host string, port int, r Request, now time.Time) Decision {
	d := s.Decide(host, port, now)
	if !d.Allowed || !d.Requests {
		return d
	}
	name, err := policy.NormalizeHost(host)
	if err != nil {
		return Decision{Why: err.Error()}
	}
	paths, unclear := readPaths(r.Paths)
	var yes Decision
	for i := range s.allow {
		a := &s.allow[i]
		if a.covers(name) && !ended(a.Allow, now) && slices.Contains(a.Ports, port) && a.allows(r.Methods, paths) {
			yes.add(a, name)
		}
	}
	if yes.Allowed {
		return yes
	}
	why := fmt.Sprintf("no rule allows %v at %s", r, target(name, port))
	if unclear != nil {
		why += fmt.Sprintf("; %v, and a rule with paths takes no such path", unclear)
	}
	return Decision{Why: why}
}

// allows is about the methods and the decoded paths of a request. No paths are ones that cannot be read.
func (o *opening) allows(methods, paths []string) bool {
	for _, m := range methods {
		if len(o.Methods) > 0 && !slices.Contains(o.Methods, m) {
			return false
		}
	}
	if len(o.Paths) == 0 {
		return true
	}
	for _, path := range paths {
		if !slices.ContainsFunc(o.Paths, func(pattern string) bool { return policy.MatchPath(pattern, path) }) {
			return false
		}
	}
	return len(paths) > 0
}

func readPaths(raw []string) (paths []string, err error) {
	for _, text := range raw {
		path, err := policy.ReadPath(text)
		if err != nil {
			return nil, fmt.Errorf("the path %.80q is ambiguous: %w", text, err)
		}
		paths = append(paths, path)
	}
	return paths, nil
}
