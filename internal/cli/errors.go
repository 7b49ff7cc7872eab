package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"casemate.dev/internal/workspace"
)

// exitStatus ends casemate with a status and no further words.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// coded is an error with an exit status and, when there is one, a hint at the way out.
type coded struct {
	err    error
	hint   string
	status int
}

func (e coded) Error() string { return e.err.Error() }
func (e coded) Unwrap() error { return e.err }

func usageError(err error, hint string) error { return coded{err, hint, exitUsage} }

func hinted(err error, format string, args ...any) error {
	return coded{err, fmt.Sprintf(format, args...), exitRefused}
}

// Hinter is an error of another package that knows the way out.
type Hinter interface{ Hint() string }

// report prints an error as the person who can fix it reads it.
func report(w io.Writer, err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintln(w, "casemate: error:", workspace.Visible(line)) // names in it come from whoever made them
	}
	var c coded
	var h Hinter
	hint := ""
	if errors.As(err, &c) {
		hint = c.hint
	}
	if hint == "" && errors.As(err, &h) {
		hint = h.Hint()
	}
	if hint != "" {
		for line := range strings.SplitSeq(strings.TrimSpace(hint), "\n") {
			fmt.Fprintln(w, "casemate: hint:", workspace.Visible(line))
		}
	}
}

// nearest suggests the command that was probably meant.
func nearest(name string, list []command) string {
	best, distance := "", 3
	for _, c := range list {
		if d := edits(name, c.name); d < distance {
			best, distance = c.name, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean: casemate %s", best)
	}
	return "casemate --help lists the commands"
}

// edits is the Levenshtein distance.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := before
			if a[i] != b[j] {
				cost++
			}
			before = row[j+1]
			row[j+1] = min(cost, row[j]+1, before+1)
		}
	}
	return row[len(b)]
}
