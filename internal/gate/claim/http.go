package claim

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// readRequest reads the head of an HTTP/1 request. What is taken for one is wide, so that no lenient server sees a request where we see none; what
// is accepted as one is narrow. HTTP/2 without TLS (its preface) and the request without a version of HTTP/0.9 name no host here and are opaque.
func readRequest(b []byte) (Claim, int, error) {
	start := skipBlanks(b)
	line, rest, state := requestLine(b[start:])
	switch state {
	case lineOpen:
		return Claim{}, len(b) + 1, nil
	case lineOther:
		return Claim{}, 0, nil
	}
	c := Claim{Protocol: HTTP}
	head, ok := head(rest)
	if !ok {
		return c, len(b) + 1, nil
	}
	var err error
	if c.Hosts, err = target(line); err != nil {
		return c, 0, err
	}
	for field := range bytes.SplitSeq(head, []byte("\n")) {
		host, err := hostField(bytes.TrimSuffix(field, []byte("\r")))
		if err != nil {
			return c, 0, err
		}
		c.Hosts = append(c.Hosts, host...)
	}
	return c, 0, nil
}

// blanks stand between the words of a request line for a lenient server (RFC 9112, 3).
const blanks = " \t\v\f\r"

// skipBlanks passes over what a server ignores before a request line: empty lines (RFC 9112, 2.2) and, as some do, blanks.
func skipBlanks(b []byte) int {
	return len(b) - len(bytes.TrimLeft(b, blanks+"\n"))
}

type lineState int

const (
	lineOther lineState = iota // no request line
	lineOpen                   // it may become one
	lineHTTP
)

// requestLine looks for a line of a token, a blank and "HTTP/".
func requestLine(b []byte) (line string, rest []byte, state lineState) {
	i := 0
	for i < len(b) && IsToken(b[i]) {
		i++
	}
	switch {
	case i == len(b):
		return "", nil, lineOpen
	case i == 0 || b[i] != ' ' && b[i] != '\t' && (!isMethod(b[:i]) || strings.IndexByte(blanks, b[i]) < 0):
		return "", nil, lineOther
	}
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		if !isMethod(b[:i]) && bytes.IndexByte(b, 0) >= 0 { // git's own protocol, for one; behind a method some servers take NUL for a part of the target
			return "", nil, lineOther
		}
		return "", nil, lineOpen
	}
	line = strings.TrimSuffix(string(b[:end]), "\r")
	if line == "PRI * HTTP/2.0" || !namesHTTP(line) {
		return "", nil, lineOther
	}
	return line, b[end+1:], lineHTTP
}

// namesHTTP looks for a blank and "HTTP/".
func namesHTTP(line string) bool {
	words := strings.FieldsFunc(strings.ToLower(line), func(r rune) bool { return strings.ContainsRune(blanks, r) })
	return slices.ContainsFunc(words[1:], func(word string) bool { return strings.HasPrefix(word, "http/") }) // the first is the token
}

// isMethod is true for what all registered methods are made of. Other words begin other protocols: LDAP with a zero and a form feed, git's with a number.
func isMethod(word []byte) bool {
	return strings.Trim(strings.ToUpper(string(word)), "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") == ""
}

// head is the fields of the head, if the empty line that ends them is there.
func head(b []byte) ([]byte, bool) {
	for off := 0; ; {
		end := bytes.IndexByte(b[off:], '\n')
		if end < 0 {
			return nil, false
		}
		if line := b[off : off+end]; len(line) == 0 || string(line) == "\r" {
			return bytes.TrimSuffix(b[:off], []byte("\n")), true
		}
		off += end + 1
	}
}

// target reads the request line, and the host where its target names one.
func target(line string) ([]Host, error) {
	parts := strings.Split(line, " ")
	if len(parts) != 3 || parts[2] != "HTTP/1.1" && parts[2] != "HTTP/1.0" || strings.ContainsFunc(line, isControl) {
		return nil, fmt.Errorf("the request line %.80q is ambiguous", line)
	}
	method, to := parts[0], parts[1]
	if method == "CONNECT" {
		h, err := Authority(to)
		return []Host{h}, err
	}
	if strings.HasPrefix(to, "/") || to == "*" {
		return nil, nil
	}
	_, after, ok := strings.Cut(to, "://")
	if !ok {
		return nil, fmt.Errorf("the target of the request line %.80q is ambiguous", line)
	}
	if i := strings.IndexAny(after, `/?#\`); i >= 0 {
		after = after[:i]
	}
	h, err := Authority(after)
	return []Host{h}, err
}

// hostField returns the host if the field is one that names it.
func hostField(field []byte) ([]Host, error) {
	if len(field) == 0 {
		return nil, nil
	}
	name, value, ok := strings.Cut(string(field), ":")
	switch {
	case !ok || name == "" || strings.ContainsFunc(name, func(r rune) bool { return r > 127 || !IsToken(byte(r)) }):
		return nil, fmt.Errorf("the header line %.80q is ambiguous", field)
	case strings.ContainsAny(value, "\r\x00"):
		return nil, errors.New("a header line holds a carriage return or NUL")
	case !strings.EqualFold(name, "Host"):
		return nil, nil
	}
	h, err := Authority(strings.Trim(value, " \t"))
	return []Host{h}, err
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// IsToken is tchar of RFC 9110, 5.6.2.
func IsToken(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c != 0 && strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
