package store

import (
	"encoding/hex"
	"strings"
	"unicode/utf8"
)

// escaped marks text that is no UTF-8, written in hexadecimal. No path and no argument holds a NUL byte.
const escaped = "\x00hex:"

// escape makes a path or an argument, which may be any bytes, into text that JSON can hold: it would put the same letter for every byte that it
// cannot, and then a protected path would be another one when it is read again.
func escape(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return escaped + hex.EncodeToString([]byte(s))
}

func unescape(s string) string {
	digits, is := strings.CutPrefix(s, escaped)
	if !is {
		return s
	}
	b, err := hex.DecodeString(digits)
	if err != nil {
		return s
	}
	return string(b)
}

// each changes all paths, patterns and arguments of a record, into lists of its own.
func (r *Record) each(change func(string) string) {
	list := func(in []string) []string {
		out := make([]string, len(in))
		for i, s := range in {
			out[i] = change(s)
		}
		return out
	}
	r.Project = change(r.Project)
	r.Command, r.Hidden, r.Protect, r.Hide = list(r.Command), list(r.Hidden), list(r.Protect), list(r.Hide)
	aliases := make(map[string]string, len(r.Aliases))
	for path, why := range r.Aliases {
		aliases[change(path)] = why
	}
	r.Aliases = aliases
}
