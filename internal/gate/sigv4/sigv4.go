// Package sigv4 reads, checks and makes the signatures of requests to AWS and those who speak like it (AWS Signature Version 4).
//
// Written from "Create a signed AWS API request" (IAM User Guide) and "Authenticating Requests (AWS Signature Version 4)" (Amazon S3 API Reference).
package sigv4

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Request is what a signature is about. The header has the names that net/http writes, and Host and Content-Length as they are sent.
type Request struct {
	Method string
	Path   string // escaped, as it is sent
	Query  string // the same
	Header map[string][]string
}

// Signature is one as a request carries it, in its header or its query.
type Signature struct {
	ID      string // of the access key
	Date    string // of the scope: 20060102
	Region  string
	Service string
	Time    string   // 20060102T150405Z
	Signed  []string // the names of the fields that are signed, in small letters and in order
	Hex     string
	Token   string // the session token; "" is none
	InQuery bool
}

// What the parts are called.
const (
	algorithm = "AWS4-HMAC-SHA256"
	last      = "aws4_request"
	basicTime = "20060102T150405Z"

	fieldDate    = "X-Amz-Date"
	fieldToken   = "X-Amz-Security-Token"
	fieldPayload = "X-Amz-Content-Sha256"

	queryAlgorithm  = "X-Amz-Algorithm"
	queryCredential = "X-Amz-Credential"
	querySigned     = "X-Amz-SignedHeaders"
	querySignature  = "X-Amz-Signature"
)

// maxSigned is how many fields may be signed; a request has some ten.
const maxSigned = 128

// Read finds the signature of a request; nil where it has none of AWS's. An error is one that cannot be made anew, or that readers may understand in more
// than one way.
func Read(r Request) (*Signature, error) {
	field := r.Header["Authorization"]
	ofAWS := slices.ContainsFunc(field, func(v string) bool { return strings.HasPrefix(v, "AWS") })
	query := parameters(r.Query)
	inQuery := slices.ContainsFunc(query, func(p parameter) bool {
		return slices.Contains([]string{queryAlgorithm, queryCredential, querySignature, "AWSAccessKeyId"}, p.name)
	})
	switch {
	case !ofAWS && !inQuery:
		return nil, nil
	case inQuery && len(field) > 0:
		return nil, errors.New("the request has a signature in its query, and a field Authorization beside it")
	case inQuery:
		return readQuery(query)
	case len(field) != 1:
		return nil, fmt.Errorf("the request has %d fields Authorization", len(field))
	}
	return readField(r, field[0])
}

// other says which way of signing it is that cannot be made anew.
func other(name string) error {
	switch {
	case strings.HasPrefix(name, "AWS4-ECDSA-"):
		return errors.New("the request is signed with SigV4A (for several regions at once), which is not signed anew: have the program use an endpoint of one region, and no multi-region access point")
	case name == "AWS" || name == "AWS3" || name == "AWS3-HTTPS":
		return errors.New("the request is signed in AWS's old way (Signature Version 2), which is not signed anew: have the program use Signature Version 4 (in boto3: Config(signature_version='s3v4'))")
	}
	return fmt.Errorf("the request is signed with %.40q, and nothing but %s is signed anew", name, algorithm)
}

func readField(r Request, text string) (*Signature, error) {
	name, rest, _ := strings.Cut(text, " ")
	if name != algorithm {
		return nil, other(name)
	}
	parts := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if _, again := parts[key]; again || !ok {
			return nil, fmt.Errorf("its field Authorization is not what AWS takes: %.40q", part)
		}
		parts[key] = value
	}
	if len(parts) != 3 {
		return nil, errors.New("its field Authorization does not hold Credential, SignedHeaders and Signature, and nothing else")
	}
	times, tokens := r.Header[fieldDate], r.Header[fieldToken]
	if len(times) != 1 || len(tokens) > 1 {
		return nil, fmt.Errorf("it has %d fields %s and %d fields %s, and a signed request has one and one at most", len(times), fieldDate, len(tokens), fieldToken)
	}
	s := &Signature{Time: times[0], Token: strings.Join(tokens, "")}
	return s, s.read(parts["Credential"], parts["SignedHeaders"], parts["Signature"])
}

func readQuery(query []parameter) (*Signature, error) {
	values := map[string]string{}
	for _, p := range query {
		if !strings.HasPrefix(p.name, "X-Amz-") && p.name != "AWSAccessKeyId" {
			continue
		}
		if _, again := values[p.name]; again {
			return nil, fmt.Errorf("its query has the parameter %.40q twice", p.name)
		}
		values[p.name] = p.value
	}
	if _, old := values["AWSAccessKeyId"]; old {
		return nil, other("AWS")
	}
	if values[queryAlgorithm] != algorithm {
		return nil, other(values[queryAlgorithm])
	}
	s := &Signature{Time: values[fieldDate], Token: values[fieldToken], InQuery: true}
	return s, s.read(values[queryCredential], values[querySigned], values[querySignature])
}

// read takes what both kinds have.
func (s *Signature) read(credential, signed, signature string) error {
	scope := strings.Split(credential, "/")
	if len(scope) != 5 || scope[0] == "" || scope[4] != last || !plain(scope[2]) || !plain(scope[3]) {
		return errors.New("its credential is not KEY/DATE/REGION/SERVICE/" + last)
	}
	s.ID, s.Date, s.Region, s.Service, s.Hex = scope[0], scope[1], scope[2], scope[3], signature
	if t, err := time.Parse(basicTime, s.Time); err != nil || s.Time[:8] != s.Date || t.Format(basicTime) != s.Time {
		return errors.New("its time is not that of " + fieldDate + ", such as 20060102T150405Z, on the day of its credential")
	}
	if len(s.Hex) != 64 || strings.Trim(s.Hex, "0123456789abcdef") != "" {
		return errors.New("its signature is not 64 hexadecimal digits")
	}
	s.Signed = strings.Split(signed, ";")
	if len(s.Signed) > maxSigned || !slices.Contains(s.Signed, "host") {
		return errors.New("the field Host is not among those that it signs")
	}
	for i, name := range s.Signed {
		if !isField(name) || i > 0 && s.Signed[i-1] >= name {
			return errors.New("the fields that it signs are not in order, in small letters, each once")
		}
	}
	return nil
}

// plain is for regions and services.
func plain(text string) bool {
	return text != "" && len(text) <= 64 && !strings.ContainsFunc(text, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_')
	})
}

// isField is for the names of fields, in small letters (RFC 9110, 5.6.2).
func isField(name string) bool {
	return name != "" && len(name) <= 256 && !strings.ContainsFunc(name, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", c))
	})
}

// Holds says whether a part of the request's query, between two ampersands, is one in which the signature names its credential.
func (s *Signature) Holds(part string) bool {
	list := parameters(part)
	return s.InQuery && len(list) == 1 && (list[0].name == queryCredential || list[0].name == fieldToken)
}

// scope is what the key is made for.
func (s *Signature) scope() string {
	return strings.Join([]string{s.Date, s.Region, s.Service, last}, "/")
}

// parameter is one of a query, decoded once. A plus stays one.
type parameter struct{ raw, name, value string }

func parameters(query string) (list []parameter) {
	for raw := range strings.SplitSeq(query, "&") {
		if raw == "" {
			continue
		}
		name, value, _ := strings.Cut(raw, "=")
		list = append(list, parameter{raw, decoded(name), decoded(value)})
	}
	return list
}

// decoded undoes escapes. What is none stays as it is.
func decoded(text string) string {
	if plain, err := url.PathUnescape(text); err == nil {
		return plain
	}
	return text
}
