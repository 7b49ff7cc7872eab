package policy

import (
	"fmt"
	"strings"
)

// Error is one thing that is wrong in a policy, at its place, for the person who can fix it.
type Error struct {
	File      string // a file or a flag
	Line, Col int    // from 1; 0 where there is none
	Msg       string
	Hint      string // what to write instead; may be empty
}

// Error is "FILE:LINE:COL: MSG; HINT".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
		if e.Col > 0 {
			fmt.Fprintf(&b, ":%d", e.Col)
		}
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	b.WriteString(e.Msg)
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	return b.String()
}

// at is the error moved to where o points.
func (e *Error) at(o Origin) *Error {
	return &Error{File: o.File, Line: o.Line, Col: o.Col, Msg: e.Msg, Hint: e.Hint}
}

// bad is an error whose place the caller knows.
func bad(hint, format string, args ...any) *Error {
	return &Error{Msg: fmt.Sprintf(format, args...), Hint: hint}
}

// Errors is everything that is wrong, in the order of the file.
type Errors []*Error

// Error is one line for each error.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the single errors to errors.As.
func (e Errors) Unwrap() []error {
	out := make([]error, len(e))
	for i, err := range e {
		out[i] = err
	}
	return out
}

// orNil avoids the error that is not nil and holds nothing.
func (e Errors) orNil() error {
	if len(e) == 0 {
		return nil
	}
	return e
}

// didYouMean is a hint naming the candidate nearest to what was written, or "" when none is near.
func didYouMean(wrote string, candidates []string) string {
	best, at := "", 1+max(1, len(wrote)/3)
	for _, c := range candidates {
		if d := distance(strings.ToLower(wrote), c, at); d < at {
			best, at = c, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", best)
}

// distance is the number of single-byte edits and swaps of neighbours between a and b, or limit when it is at least that.
// A key of a megabyte must not cost a quadratic comparison: what differs that much in length is never near.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	before, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(row[j]+1, prev[j+1]+1, prev[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, prev, row = prev, row, before
	}
	return min(prev[len(b)], limit)
}
