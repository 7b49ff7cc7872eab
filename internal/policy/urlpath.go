package policy

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

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

// ReadPath decodes the path of a request, as it was sent and without its query. One that servers read in different ways is an error, because the server may
// take it for another path than we do: it is never put in order here.
func ReadPath(raw string) (string, error) {
	if !strings.HasPrefix(raw, "/") {
		return "", errors.New("it does not begin with a slash")
	}
	segments := strings.Split(raw[1:], "/")
	for i, text := range segments {
		segment, ok := unescape(text)
		if !ok {
			return "", errors.New("it is not encoded rightly")
		}
		if err := checkPathSegment(segment, i == len(segments)-1); err != nil {
			return "", err
		}
		segments[i] = segment
	}
	return "/" + strings.Join(segments, "/"), nil
}

// checkPathSegment refuses what a server may take for something else. Some cut a segment at its semicolon before they look at it.
func checkPathSegment(segment string, last bool) error {
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
	case isEncoded(segment):
		return errors.New("it is encoded twice")
	}
	return nil
}

// isEncoded says whether text would change if it were decoded.
func isEncoded(text string) bool {
	again, ok := unescape(text)
	return ok && again != text
}

// unescape undoes the escapes of a segment (RFC 3986, 2.1). ok is false where a percent sign begins none. Package net/url does the same and is not linked here.
func unescape(text string) (plain string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			b.WriteByte(text[i])
			continue
		}
		if len(text) < i+3 {
			return "", false
		}
		n, err := strconv.ParseUint(text[i+1:i+3], 16, 8)
		if err != nil {
			return "", false
		}
		b.WriteByte(byte(n))
		i += 2
	}
	return b.String(), true
}
