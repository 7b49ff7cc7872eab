package policy

import "strings"

// MatchPath says whether a pattern of network.allow[].paths covers the decoded path of a request. Both are compared segment by segment, and letters by
// their case. A pattern is a path in which `*` stands for one or more characters of a segment; where it is the whole last segment, for all that is below:
// "/v1/*" covers "/v1/", "/v1/a" and "/v1/a/b", and neither "/v1" nor "/v1a"; "/*" covers every path.
func MatchPath(pattern, path string) bool {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	for i, w := range want {
		switch {
		case i >= len(got):
			return false
		case i > 0 && i == len(want)-1 && w == "*":
			return true
		case !matchSegment(w, got[i]):
			return false
		}
	}
	return len(want) == len(got)
}

// matchSegment takes each literal at its first place after the one before: what a later place would leave to a `*`, this one leaves to the next.
func matchSegment(pattern, text string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	text, ok := strings.CutPrefix(text, first)
	if !ok || !star {
		return ok && text == ""
	}
	for {
		literal, after, more := strings.Cut(rest, "*")
		if !more {
			return len(text) > len(literal) && strings.HasSuffix(text, literal)
		}
		if text == "" {
			return false
		}
		i := strings.Index(text[1:], literal)
		if i < 0 {
			return false
		}
		text, rest = text[1+i+len(literal):], after
	}
}
