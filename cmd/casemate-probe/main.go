// Command casemate-probe attacks the sandbox that it runs in; `casemate validate` and the conformance tests start it inside.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"

	"casemate.dev/internal/engine/enginetest"
)

const usage = `casemate-probe attacks the sandbox it runs in, and reports what held.

usage:
  casemate-probe list [--json]                           the attacks
  casemate-probe run [--json] [--env FILE] [ID...]       run them here; one line per attack with --json
  casemate-probe control [--json] [--env FILE] [ID...]   run them where they must succeed
  casemate-probe case ID                                 one attack in this process

example:
  casemate run -- casemate-probe run F01 P11

exit status: 0 everything held (control: everything was open), 1 something did not, 125 the probe could not do its work
`

// An attack is made by the main thread. Go's runtime would take any: one that had itself traced and was not the main one could not be waited for.
func init() { runtime.LockOSThread() }

func main() {
	fds := enginetest.Inherited() // before anything opens a descriptor
	code, err := run(os.Args[1:], fds, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "casemate-probe: error:", err)
		code = 125
	}
	os.Exit(code)
}

func run(args []string, fds []int, stdout io.Writer) (int, error) {
	if len(args) == 0 || args[0] == "help" || args[0] == "--help" || args[0] == "-h" {
		fmt.Fprint(stdout, usage)
		return 0, nil
	}
	switch args[0] {
	case "list", "run", "control":
		return table(args[0], args[1:], stdout)
	case "validate":
		return validate(args[1:], stdout)
	case "listen":
		return 0, enginetest.Listen(stdout)
	case "case", "scratch", "target":
		if len(args) != 2 {
			return 0, fmt.Errorf("%s takes one argument", args[0])
		}
		switch args[0] {
		case "case":
			return 0, enginetest.Attack(args[1], fds)
		case "scratch":
			return 0, enginetest.ScratchInit(args[1], stdout)
		default:
			return 0, enginetest.Target(stdout)
		}
	}
	return 0, fmt.Errorf("no command %q: list, run, control or case", args[0])
}

func table(command string, args []string, stdout io.Writer) (int, error) {
	flags := flag.NewFlagSet(command, flag.ContinueOnError)
	asJSON := flags.Bool("json", false, "one JSON object per line")
	envFile := flags.String("env", "", "file that describes the fixtures")
	if err := flags.Parse(args); err != nil {
		return 0, err
	}
	cases, err := enginetest.Find(flags.Args())
	if err != nil {
		return 0, err
	}
	out := bufio.NewWriter(stdout)
	defer out.Flush()
	if command == "list" {
		return 0, list(cases, *asJSON, out)
	}
	env, err := enginetest.LoadEnv(*envFile)
	if err != nil {
		return 0, err
	}
	exe, err := os.Executable()
	if err != nil {
		return 0, err
	}
	runner := enginetest.Runner{Probe: exe, Env: env}
	var results []enginetest.Result
	want, try := enginetest.Held, runner.Run
	if command == "control" {
		want, try = enginetest.Open, runner.RunControl
	}
	code := 0
	for _, c := range cases {
		r := try(c)
		results = append(results, r)
		switch r.Verdict {
		case want, enginetest.NotRun, enginetest.Asks, enginetest.Excused:
		default:
			code = 1
		}
		if *asJSON {
			if err := json.NewEncoder(out).Encode(r); err != nil {
				return 0, err
			}
			if err := out.Flush(); err != nil {
				return 0, err
			}
		}
	}
	if !*asJSON {
		if _, err := io.WriteString(out, enginetest.Render(results, 80)); err != nil {
			return 0, err
		}
	}
	return code, nil
}

func list(cases []enginetest.Case, asJSON bool, out io.Writer) error {
	for _, c := range cases {
		if asJSON {
			r := enginetest.Result{ID: c.ID, Group: c.Group, Title: c.Title, Guarantee: c.Guarantee}
			if err := json.NewEncoder(out).Encode(r); err != nil {
				return err
			}
			continue
		}
		if _, err := fmt.Fprintf(out, "%-22s %-20s %s\n", c.ID, c.Guarantee, c.Title); err != nil {
			return err
		}
	}
	return nil
}
