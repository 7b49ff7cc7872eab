package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// machine says where the figures come from.
func machine() string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	model := "unknown CPU"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	load, _ := os.ReadFile("/proc/loadavg")
	return fmt.Sprintf("Linux %s, %d x %s, load %.14s", unix.ByteSliceToString(u.Release[:]), runtime.NumCPU(), model, load)
}

func table(out io.Writer, rows []row, before, after, who string) {
	wrap(out, "", before+"; afterwards "+after[strings.LastIndex(after, "load"):])
	wrap(out, "", who)
	fmt.Fprintln(out)
	line(out, "%-30s %8s %8s %6s %5s %-8s %s", "what", "casemate", "peer", "x", "p90", "goal", "then")
	var notes []string
	for _, r := range rows {
		what := r.What
		if r.Note != "" {
			notes = append(notes, r.Note)
			what = fmt.Sprintf("%s [%d]", what, len(notes))
		}
		p90, x := "", fmt.Sprintf("%.2f", r.Value)
		if r.P90 != 0 {
			p90 = fmt.Sprintf("%.2f", r.P90)
		}
		if r.Count {
			x = fmt.Sprintf("%.*f", decimals(r.Value), r.Value)
		}
		line(out, "%-30s %8s %8s %6s %5s %-8s %s", what, r.Ours, r.Peer, x, p90, mark(r, r.Goal), mark(r, r.Then))
	}
	fmt.Fprintln(out)
	for i, n := range notes {
		wrap(out, fmt.Sprintf("[%d] ", i+1), n)
	}
	wrap(out, "", "casemate and peer: medians. x: median of the ratios of single rounds, each peer once per round in turn. p90: of those ratios. + reached, - not reached.")
}

func decimals(count float64) int {
	if count < 100 {
		return 1
	}
	return 0
}

// mark is a goal and whether it is reached.
func mark(r row, goal float64) string {
	if goal == 0 {
		return ""
	}
	sign, reached := "<=", r.Value <= goal
	if r.More {
		sign, reached = ">=", r.Value >= goal
	}
	m := "-"
	if reached {
		m = "+"
	}
	return fmt.Sprintf("%s%.4g %s", sign, goal, m)
}

func line(out io.Writer, format string, values ...any) {
	fmt.Fprintln(out, strings.TrimRight(fmt.Sprintf(format, values...), " "))
}

const width = 80

func wrap(out io.Writer, prefix, text string) {
	line := prefix
	for _, w := range strings.Fields(text) {
		if len(line)+1+len(w) > width {
			fmt.Fprintln(out, strings.TrimRight(line, " "))
			line = strings.Repeat(" ", len(prefix))
		}
		line += w + " "
	}
	fmt.Fprintln(out, strings.TrimRight(line, " "))
}
