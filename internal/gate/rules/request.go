package rules

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

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
		path, err := readPath(text)
		if err != nil {
			return nil, fmt.Errorf("the path %.80q is ambiguous: %w", text, err)
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// readPath decodes a path. One that servers read in different ways is an error, because the server may take it for another path than we do: it is never
// put in order here.
func readPath(raw string) (string, error) {
	if !strings.HasPrefix(raw, "/") {
		return "", errors.New("it does not begin with a slash")
	}
	segments := strings.Split(raw[1:], "/")
	for i, text := range segments {
		segment, err := url.PathUnescape(text)
		if err != nil {
			return "", errors.New("it is not encoded rightly")
		}
		if err := checkSegment(segment, i == len(segments)-1); err != nil {
			return "", err
		}
		segments[i] = segment
	}
	return "/" + strings.Join(segments, "/"), nil
}

// checkSegment refuses what a server may take for something else. Some cut a segment at its semicolon before they look at it.
func checkSegment(segment string, last bool) error {
	name, _, parameters := strings.Cut(segment, ";")
	switch {
	case name == "" && (parameters || !last):
		return errors.New("it has an empty segment")
	case name == "." || name == "..":
		return errors.New("it has a dot segment")
	case strings.ContainsAny(segment, `/\`):
		return errors.New("a segment of it has a slash or a backslash")
	case strings.ContainsFunc(segment, func(r rune) bool { return r < ' ' || r == 0x7f || r == '#' || r == '?' }):
		return errors.New("a segment of it has a control character or a mark that ends a path")
	case !utf8.ValidString(segment):
		return errors.New("it is not UTF-8")
	case encoded(segment):
		return errors.New("it is encoded twice")
	}
	return nil
}

// encoded says whether text would change if it were decoded.
func encoded(text string) bool {
	again, err := url.PathUnescape(text)
	return err == nil && again != text
}
