package secret

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"time"
)

// AWS is the kind of a credential of AWS, or of a service that speaks like it: an access key's id, the secret access key and, where it is a temporary one, a
// session token, with colons between.
const AWS = "aws"

var errNoPair = errors.New("a credential of AWS is written ID:SECRET, or ID:SECRET:TOKEN, or as the JSON that `aws configure export-credentials` prints")

// printed is what programs of AWS print: `aws configure export-credentials` and other credential processes, and with Credentials around it `aws sts`.
type printed struct {
	AccessKeyId, SecretAccessKey, SessionToken text
	Expiration                                 time.Time
}

// text is a string that can be overwritten.
type text []byte

func (t *text) UnmarshalJSON(b []byte) error {
	if len(b) < 2 || b[0] != '"' || bytes.IndexByte(b, '\\') >= 0 { // no part of a credential needs to be escaped
		return errNoPair
	}
	*t = bytes.Clone(b[1 : len(b)-1])
	return nil
}

// readPrinted never quotes what it reads in an error.
func readPrinted(b []byte) (parts [][]byte, until time.Time, err error) {
	var p struct {
		printed
		Credentials printed
	}
	if json.Unmarshal(b, &p) != nil {
		return nil, until, errNoPair
	}
	if p.AccessKeyId == nil {
		p.printed = p.Credentials
	}
	parts = [][]byte{p.AccessKeyId, p.SecretAccessKey}
	if len(p.SessionToken) > 0 {
		parts = append(parts, p.SessionToken)
	}
	return parts, p.Expiration, nil
}

// Normal has the value of a kind as it is kept and handed over; v is wiped where it is not the same. until is the moment from which the value is of no use,
// where it says so itself.
func Normal(kind string, v Value) (normal Value, until time.Time, err error) {
	if kind != AWS {
		return v, until, nil
	}
	defer v.Wipe()
	err = v.Use(func(b []byte) (err error) {
		parts := bytes.SplitN(b, []byte(":"), maxParts)
		if b = bytes.TrimSpace(b); len(b) > 0 && b[0] == '{' {
			if parts, until, err = readPrinted(b); err != nil {
				return err
			}
			defer wipe(parts)
		}
		if err := checkParts(parts); err != nil {
			return err
		}
		normal, err = New(bytes.Join(parts, []byte(":")))
		return err
	})
	return normal, until, err
}

// notInID are characters that end an access key's id where it stands in a request.
const notInID = "/,;=&%+"

// checkParts refuses what could not stand in a request's signature, or would be taken for another part.
func checkParts(parts [][]byte) error {
	if len(parts) < 2 {
		return errNoPair
	}
	for i, p := range parts {
		for _, c := range p {
			if c <= ' ' || c >= 0x7f || c == ':' || i == 0 && strings.IndexByte(notInID, c) >= 0 {
				return errNoPair
			}
		}
		if len(p) == 0 {
			return errNoPair
		}
	}
	return nil
}

func wipe(parts [][]byte) {
	for _, p := range parts {
		clear(p)
	}
}
