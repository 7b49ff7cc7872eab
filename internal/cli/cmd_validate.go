package cli

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"casemate.dev/internal/policy"
	"golang.org/x/sys/unix"
)

func validateCommand() command {
	return command{
		name: "validate", args: "[-- COMMAND [ARGUMENT...]]", summary: "attack the sandbox that this policy makes, from inside", direct: true,
		example: "casemate validate",
		help: `
Makes on this machine what attacks are after (secret files, services, sockets,
a process), runs a table of attacks inside the very sandbox that this project's
policy and these flags make, and prints what held. The host judges: a service
that was spoken to or a file that changed counts, whatever the attack itself
believed. Your project is not attacked: another one with the same policy stands
in for it. With a COMMAND it is the sandbox of that one, with the preset that an
agent takes by itself; the COMMAND does not run.`,
		exits: `
1    an attack succeeded
125  the attacks could not be made`,
		flags: func(fs *flag.FlagSet) func(*IO, []string) error {
			var f policy.Flags
			policyFlags(fs, &f)
			asJSON := fs.Bool("json", false, "print one JSON object per attack and line")
			return func(_ *IO, args []string) error { return executeProbe(fs, &f, args, *asJSON) }
		},
	}
}

// executeProbe becomes the sibling program that holds the attacks: they are no part of casemate itself, whose size every start pays for.
func executeProbe(fs *flag.FlagSet, f *policy.Flags, command []string, asJSON bool) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	probe := filepath.Join(filepath.Dir(exe), "casemate-probe")
	args := []string{"casemate-probe", "validate", "--casemate", exe}
	if asJSON {
		args = append(args, "--json")
	}
	if len(command) > 0 {
		args = append(args, "--for", command[0])
	}
	args = append(args, "--")
	for _, v := range append(f.Pass, f.Set...) {
		args = append(args, "--env", v)
	}
	fs.Visit(func(g *flag.Flag) {
		if l, ok := g.Value.(*list); ok {
			for _, v := range *l {
				args = append(args, "--"+g.Name, v)
			}
		} else if g.Name != "json" && g.Name != "env" {
			args = append(args, "--"+g.Name, g.Value.String())
		}
	})
	err = unix.Exec(probe, args, os.Environ())
	if errors.Is(err, unix.ENOENT) {
		return hinted(fmt.Errorf("%s is not there; it holds the attacks", probe), "make build puts both programs into one directory; install them together")
	}
	return fmt.Errorf("%s: %w", strings.TrimSpace(probe), err)
}
