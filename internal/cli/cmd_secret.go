package cli

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

func secretCommand() command {
	return command{
		name: "secret", args: "VERB [ARG...]", summary: "keep credentials outside, and say where sandboxes may use them",
		example: "casemate secret set anthropic", direct: true,
		help: `
Inside, a variable holds a placeholder; the gate puts the value in, at the hosts
that a grant names. No verb shows a value.

set     add a secret: its value is asked for, or read from standard input
list    what there is, with its grants
rotate  replace a value; what runs uses the new one from its next request on
rm      remove a secret
grant   let a project, a preset, a sandbox or all use it at a host
revoke  take a grant back
uses    who was given it, and who was refused
init    have a passphrase, or none

casemate secret VERB --help explains one. The values are held by a program of
their own, casemate-secret, which lies beside casemate.`,
		exits: `
1    not removed: the answer was no
125  it could not be done; nothing was changed`,
		flags: func(*flag.FlagSet) func(*IO, []string) error {
			return func(_ *IO, args []string) error {
				program, err := secretProgram()
				if err != nil {
					return err
				}
				return fmt.Errorf("%s: %w", program, unix.Exec(program, append([]string{program}, args...), os.Environ()))
			}
		},
	}
}

// secretProgram holds the values. It lies beside this one.
func secretProgram() (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(exe), "casemate-secret")
	if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() || st.Mode()&0o111 == 0 {
		return "", hinted(fmt.Errorf("%s is not there", path), "casemate-secret lies beside casemate: make install installs both")
	}
	return path, nil
}

// completeSecret lets the other program say the words.
func completeSecret(w io.Writer, words []string) {
	if program, err := secretProgram(); err == nil {
		cmd := exec.Command(program, append([]string{"__complete"}, words...)...)
		cmd.Stdout = w
		_ = cmd.Run() // no words, then
	}
}
