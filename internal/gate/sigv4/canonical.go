package sigv4

import (
	"crypto/sha256"
	"encoding/hex"
	"net/textproto"
	"slices"
	"strings"
)

// Way is how a client writes a request down before it signs it. Services differ, and a request does not say which way is theirs: it is found by trying, and
// used again.
type Way struct {
	path    pathWay
	plus    bool   // a plus in the query stands for a blank
	without bool   // the token in the query is not signed: it was put there later
	Payload string // what stands for the body: its hash, or a word
}

type pathWay int

const (
	once       pathWay = iota // as S3 has it: escaped once
	twice                     // as the others have it: what was escaped is escaped again
	normalized                // the same, of a path without dots and empty segments
	pathWays
)

// ways are those that a request can be written in.
func (s *Signature) ways(r Request, payload string) (list []Way) {
	bools := func(both bool) []bool { return []bool{false, true}[:1+number(both)] }
	for path := range pathWays {
		for _, plus := range bools(strings.Contains(r.Query, "+")) {
			for _, without := range bools(s.InQuery && s.Token != "") {
				list = append(list, Way{path, plus, without, payload})
			}
		}
	}
	return list
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// canonical is the request as it is signed.
func (r Request) canonical(signed []string, w Way) string {
	var b strings.Builder
	b.WriteString(r.Method + "\n" + w.pathOf(r.Path) + "\n" + w.queryOf(r.Query) + "\n")
	for _, name := range signed {
		b.WriteString(name + ":" + fieldValue(r.Header[textproto.CanonicalMIMEHeaderKey(name)]) + "\n")
	}
	b.WriteString("\n" + strings.Join(signed, ";") + "\n" + w.Payload)
	return b.String()
}

// fieldValue is that of a field: without blanks around it, and with one where there are several.
func fieldValue(values []string) string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = strings.Join(strings.FieldsFunc(v, func(c rune) bool { return c == ' ' || c == '\t' }), " ")
	}
	return strings.Join(out, ",")
}

func (w Way) pathOf(path string) string {
	if path == "" {
		path = "/"
	}
	if w.path == normalized {
		path = clean(path)
	}
	segments := strings.Split(path, "/")
	for i, text := range segments {
		if w.path == once {
			text = decoded(text)
		}
		segments[i] = escape(text)
	}
	return strings.Join(segments, "/")
}

// clean takes dot segments and empty ones out (RFC 3986, 5.2.4). A slash at the end stays.
func clean(path string) string {
	var out []string
	segments := strings.Split(path, "/")
	for _, text := range segments {
		switch {
		case text == "" || text == ".":
		case text == "..":
			out = out[:max(0, len(out)-1)]
		default:
			out = append(out, text)
		}
	}
	whole := "/" + strings.Join(out, "/")
	if end := segments[len(segments)-1]; len(out) > 0 && (end == "" || end == "." || end == "..") {
		whole += "/"
	}
	return whole
}

func (w Way) queryOf(query string) string {
	if w.plus {
		query = strings.ReplaceAll(query, "+", "%20")
	}
	type pair struct{ name, value string }
	var list []pair
	for _, p := range parameters(query) {
		if p.name != querySignature && (!w.without || p.name != fieldToken) {
			list = append(list, pair{escape(p.name), escape(p.value)})
		}
	}
	slices.SortFunc(list, func(a, b pair) int {
		if c := strings.Compare(a.name, b.name); c != 0 {
			return c
		}
		return strings.Compare(a.value, b.value)
	})
	out := make([]string, len(list))
	for i, p := range list {
		out[i] = p.name + "=" + p.value
	}
	return strings.Join(out, "&")
}

// escape writes all but the unreserved characters (RFC 3986, 2.3) as their bytes.
func escape(text string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for _, c := range []byte(text) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_.~", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.Write([]byte{'%', digits[c>>4], digits[c&15]})
	}
	return b.String()
}

// Hash is that of a body, or of a part of one.
func Hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
