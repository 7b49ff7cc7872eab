package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs the programs as a person types them. A script is named for the behaviour it shows, starts in a git project of its own,
// and has a home, a state and a configuration directory that no other script has.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", Setup: inProject, Condition: ranBy, RequireExplicitExec: true, RequireUniqueNames: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "sandboxes": sandboxes},
	})
}

// inProject makes $HOME/project, where the script starts. Files of the script whose names begin with home/project/ are in it already.
func inProject(env *testscript.Env) error {
	if err := os.Chmod(filepath.Dir(env.WorkDir), 0o755); err != nil { // where root makes sandboxes for others, they must get there
		return err
	}
	home := filepath.Join(env.WorkDir, "home")
	env.Cd = filepath.Join(home, "project")
	for _, d := range []string{filepath.Join(home, ".ssh"), env.Cd, filepath.Join(env.WorkDir, "state"), filepath.Join(env.WorkDir, "config")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	for name, content := range map[string]string{".ssh/id_ed25519": "KEY-OF-THE-HOST\n", ".gitconfig": "[user]\n\tname = Tess\n\temail = tess@example.org\n"} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	for _, v := range [][2]string{
		{"HOME", home}, {"PROJECT", env.Cd}, {"XDG_STATE_HOME", filepath.Join(env.WorkDir, "state")}, {"XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "config")},
		{"PATH", filepath.Dir(casemate) + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, {"USER", "tester"}, {"LANG", "C.UTF-8"}, {"TERM", "xterm"},
	} {
		env.Setenv(v[0], v[1])
	}
	init := exec.Command("git", "init", "-q", "--initial-branch=main", env.Cd)
	init.Env = env.Vars
	if out, err := init.CombinedOutput(); err != nil {
		return fmt.Errorf("git init: %v: %s", err, out)
	}
	return nil
}

// ranBy is the one condition a script may have: who runs it.
func ranBy(name string) (bool, error) {
	if name == "root" {
		return os.Getuid() == 0, nil
	}
	return false, fmt.Errorf("no condition %q", name)
}

// exits runs a command that must end with the given status: exits 77 casemate run -- false
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS COMMAND [ARGUMENT...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	switch {
	case err == nil && want != 0:
		ts.Fatalf("exit status 0, want %d", want)
	case err == nil:
	case !errors.As(err, &exit):
		ts.Fatalf("%v", err)
	case exit.ExitCode() != want:
		ts.Fatalf("exit status %d, want %d", exit.ExitCode(), want)
	}
}

// sandboxes sets variables to the names of the sandboxes there are, newest first, and fails unless there are exactly as many.
func sandboxes(ts *testscript.TestScript, neg bool, vars []string) {
	ts.Check(ts.Exec("casemate", "ps", "-a", "--json"))
	var rows []struct{ ID, State string }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &rows))
	rows = slices.DeleteFunc(rows, func(r struct{ ID, State string }) bool { return r.State == "home" })
	if neg || len(rows) != len(vars) {
		ts.Fatalf("%d sandboxes, want %d", len(rows), len(vars))
	}
	for i, v := range vars {
		ts.Setenv(v, rows[i].ID)
	}
}
