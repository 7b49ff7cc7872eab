package cli

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"casemate.dev/internal/policy"
	"casemate.dev/internal/session"
	"casemate.dev/internal/workspace"
)

func initCommand() command {
	return command{
		name: "init", summary: "write a commented policy file for this project",
		example: "casemate init",
		help: `
Writes casemate.yaml at the project's root, with every key explained and
commented out, so that nothing changes until you edit it. Its first line names
the schema, so that editors complete and check the file. An existing file is
left alone.`,
		exits: "125  there is a policy file already",
		flags: func(fs *flag.FlagSet) func(*IO, []string) error {
			user := fs.Bool("user", false, "write your own policy, for all projects, instead of the project's")
			return func(std *IO, _ []string) error {
				person, err := session.Self()
				if err != nil {
					return err
				}
				path, text := filepath.Join(person.FindProject(), session.PolicyFile), policy.Commented()
				if *user {
					path, text = filepath.Join(person.Config, "policy.yaml"), policy.CommentedOwn()
					if err := os.MkdirAll(person.Config, 0o700); err != nil {
						return err
					}
				}
				f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
				if errors.Is(err, os.ErrExist) {
					return hinted(fmt.Errorf("%s exists already", path), "casemate policy check reads it; casemate policy reference explains the keys")
				}
				if err != nil {
					return err
				}
				_, err = f.Write(text)
				if e := f.Close(); err == nil {
					err = e
				}
				if err == nil {
					fmt.Fprintf(std.Out, "wrote %s\n", workspace.Visible(path))
				}
				return err
			}
		},
	}
}
