// Bench measures casemate against its peers: one table of ratios, peers in turn, medians of paired rounds.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A row is one line of the table: ours against the peer's, better when the ratio is smaller unless more is better.
type row struct {
	Group  string  `json:"group"`
	What   string  `json:"what"`
	Ours   string  `json:"ours"`
	Peer   string  `json:"peer"`
	Value  float64 `json:"value"`         // what the goals are about: a ratio, or a count
	P90    float64 `json:"p90,omitempty"` // of the ratios of single rounds
	Goal   float64 `json:"goal,omitempty"`
	Then   float64 `json:"then,omitempty"`
	More   bool    `json:"more,omitempty"` // the goals are lower bounds
	Count  bool    `json:"count,omitempty"`
	Rounds int     `json:"rounds"`
	Note   string  `json:"note,omitempty"`
}

// groups of rows, in the order in which they run.
var groups = []struct {
	name string
	run  func(*bench) ([]row, error)
}{
	{"version", version}, {"start", start}, {"count", counted}, {"hogs", hogs}, {"rate", rate}, {"memory", memory},
	{"hide", hide}, {"files", files}, {"changes", changes}, {"pipe", pipe}, {"mirror", mirror}, {"gate", network("gate")}, {"inject", network("inject")},
}

func main() {
	bin := flag.String("bin", "bin", "the directory of the programs to measure")
	rounds := flag.Int("rounds", 50, "rounds of the fast rows; slow ones do fewer and say so")
	dir := flag.String("dir", "", "where to keep projects, homes and state: on the disk that matters, see docs/why/fast.md; empty: "+ownPlace+", or where its ext4 has no journal, one that has")
	only := flag.String("only", "", "groups to measure, separated by commas; all when empty: "+names())
	asJSON := flag.Bool("json", false, "print JSON instead of a table")
	inside := flag.String("inside", "", "a workload to run, timing itself (used by the measurement)")
	flag.Parse()
	if *inside != "" {
		work := func() error { return workload(*inside, flag.Args()) }
		if *inside == "gate" || *inside == "inject" {
			work = func() error { return measureInNetwork(*inside, *bin, *dir, *rounds) }
		}
		if err := work(); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	if err := measure(*bin, *dir, *rounds, *only, *asJSON); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func names() string {
	var all []string
	for _, g := range groups {
		all = append(all, g.name)
	}
	return strings.Join(all, ",")
}

func measure(bin, dir string, rounds int, only string, asJSON bool) error {
	wanted := strings.Split(only, ",")
	b, err := newBench(bin, dir, rounds)
	if err != nil {
		return err
	}
	defer b.close()
	stopped := make(chan os.Signal, 1)
	signal.Notify(stopped, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGPIPE)
	go func() {
		<-stopped
		b.close()
		os.Exit(1)
	}()
	before := machine()
	var rows []row
	var failed []error
	for _, g := range groups {
		if only != "" && !slices.Contains(wanted, g.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "bench: %s\n", g.name)
		got, err := g.run(b)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", g.name, err))
		}
		for i := range got {
			got[i].Group = g.name
		}
		rows = append(rows, got...)
	}
	if asJSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "\t")
		return errors.Join(append(failed, e.Encode(map[string]any{"before": before, "after": machine(), "user": b.who(), "rows": rows}))...)
	}
	table(os.Stdout, rows, before, machine(), b.who())
	return errors.Join(failed...)
}
