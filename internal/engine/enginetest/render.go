package enginetest

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// ReadResults reads the lines that the probe printed with --json. Other lines come back as text: a token may be in them.
func ReadResults(r io.Reader) (results []Result, other string, err error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, "", err
	}
	var rest strings.Builder
	for line := range strings.Lines(string(b)) {
		var res Result
		if strings.HasPrefix(line, `{"id":`) && json.Unmarshal([]byte(line), &res) == nil {
			results = append(results, res)
			continue
		}
		rest.WriteString(line)
	}
	return results, rest.String(), nil
}

// Failed are the results that show a broken promise, or an attack that gave no answer.
func Failed(results []Result) []Result {
	var failed []Result
	for _, r := range results {
		if r.Verdict == Open || r.Verdict == Hung {
			failed = append(failed, r)
		}
	}
	return failed
}

// Render is the results as a table for people: one line per guarantee, and below it every attack that did not simply hold.
func Render(results []Result, width int) string {
	var b strings.Builder
	total := map[Verdict]int{}
	for _, group := range order(results, func(r Result) string { return r.Group }) {
		b.WriteString(clip(group, width))
		in := slices.DeleteFunc(slices.Clone(results), func(r Result) bool { return r.Group != group })
		for _, name := range order(in, func(r Result) string { return r.Guarantee }) {
			renderGuarantee(&b, in, name, width)
		}
	}
	for _, r := range results {
		total[r.Verdict]++
	}
	fmt.Fprintf(&b, "%d attacks: %s\n", len(results), counts(total))
	return b.String()
}

func renderGuarantee(b *strings.Builder, results []Result, name string, width int) {
	n := map[Verdict]int{}
	for _, r := range results {
		if r.Guarantee == name {
			n[r.Verdict]++
		}
	}
	b.WriteString(clip(fmt.Sprintf("  %-22s %s", name, counts(n)), width))
	for _, r := range results {
		if r.Guarantee == name && r.Verdict != Held {
			b.WriteString(clip(fmt.Sprintf("    %-12s %-20s %s: %s", strings.ToUpper(string(r.Verdict)), r.ID, r.Title, r.Detail), width))
		}
	}
}

// order is the values in the order in which they first come.
func order(results []Result, value func(Result) string) []string {
	var out []string
	for _, r := range results {
		if v := value(r); !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

func counts(n map[Verdict]int) string {
	var parts []string
	for _, v := range []Verdict{Held, Open, Hung, Excused, Asks, NotRun} {
		if n[v] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n[v], v))
		}
	}
	return strings.Join(parts, ", ")
}

// clip keeps a line within the width. What an attack reports may hold control characters: they are shown, not sent to the terminal.
func clip(line string, width int) string {
	line = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == utf8.RuneError {
			return '?'
		}
		return r
	}, line)
	if r := []rune(line); len(r) > width {
		line = string(r[:width-3]) + "..."
	}
	return line + "\n"
}
