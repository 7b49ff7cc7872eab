package cli

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"casemate.dev/internal/preset"
	"casemate.dev/internal/session"
	"casemate.dev/internal/shim"
	"casemate.dev/internal/workspace"
	"golang.org/x/sys/unix"
)

func shimCommand() command {
	return command{
		name: "shim", args: "install AGENT | list | remove AGENT", summary: "have plain claude and the like run in a sandbox",
		example: "casemate shim install claude",
		help: `
A shim is a script of the agent's name in a directory that you put first on your
PATH. Whoever starts the agent then, you or an editor, runs it as casemate run
-- AGENT would: without a word of casemate's own, streams byte for byte, its own
exit status. Inside a sandbox it is only the agent. What is changed is held; say
once where it is to be live: casemate run --workspace ask -- AGENT.

install  write the shim, and say what is left to do
list     the shims, and whether the PATH leads to them
remove   take one away

It also fits the settings for wrappers, which start it with the agent's own
command line: claudeCode.claudeProcessWrapper of Claude Code's extension for
editors, and the variable CLAUDE_CODE_PROCESS_WRAPPER.`,
		exits: "125  it could not be written, or something else is in its place",
		flags: func(fs *flag.FlagSet) func(*IO, []string) error {
			asJSON := fs.Bool("json", false, "print JSON")
			return func(std *IO, args []string) error {
				person, err := session.Anywhere()
				if err != nil {
					return err
				}
				st, err := openStore()
				if err != nil {
					return err
				}
				dir := shim.Dir(st.Root)
				switch {
				case len(args) == 1 && args[0] == "list":
					return listShims(std, person, dir, *asJSON)
				case len(args) == 2 && args[0] == "install":
					return installShim(std, person, dir, args[1])
				case len(args) == 2 && args[0] == "remove":
					if err := shim.Remove(dir, args[1]); err != nil {
						return err
					}
					fmt.Fprintf(std.Err, "casemate: plain %s is the agent itself again\n", workspace.Visible(args[1]))
					return nil
				}
				return usageError(errors.New("shim needs install and an agent, list, or remove and an agent"), "casemate shim install claude")
			}
		},
	}
}

func installShim(std *IO, person session.Person, dir, name string) error {
	if name != filepath.Base(name) || preset.OfCommand(name) == "" {
		return usageError(fmt.Errorf("%q is no agent's command that casemate knows", name), "casemate agents lists them")
	}
	self, err := ownPath(person)
	if err != nil {
		return err
	}
	path, err := shim.Install(dir, name, self)
	if err != nil {
		return err
	}
	say := func(format string, args ...any) { fmt.Fprintf(std.Err, "casemate: "+format+"\n", args...) }
	say("wrote %s", path)
	if environ := environment(person, "PATH"); !shim.IsFirst(dir, name, environ) {
		say("put its directory first on your PATH, in ~/.profile or your shell's own file:")
		fmt.Fprintf(std.Out, "export PATH=%s:$PATH\n", shellWord(dir))
	}
	if name == "claude" {
		say("for the extension of VS Code, in its settings: \"claudeCode.claudeProcessWrapper\": %q", path)
	}
	if shim.Find(name, environment(person, "PATH")) == "" {
		say("%s itself is not on your PATH yet", name)
	}
	return nil
}

// ownPath is where casemate is called from, by the name on the PATH if that leads to this very program: what a link leads to may be another after an update.
func ownPath(person session.Person) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if named := shim.Find("casemate", environment(person, "PATH")); named != "" {
		if real, err := filepath.EvalSymlinks(named); err == nil && real == self {
			return named, nil
		}
	}
	return self, nil
}

func environment(person session.Person, name string) string {
	for _, kv := range person.Environ {
		if value, ok := strings.CutPrefix(kv, name+"="); ok {
			return value
		}
	}
	return ""
}

// shimRow is one shim, for list.
type shimRow struct {
	Name  string `json:"name"`
	Path  string `json:"path"`
	First bool   `json:"first"`           // the PATH leads to it before the agent itself
	Agent string `json:"agent,omitempty"` // the program that it stands for
}

func listShims(std *IO, person session.Person, dir string, asJSON bool) error {
	path := environment(person, "PATH")
	rows := []shimRow{}
	for _, name := range shim.List(dir) {
		rows = append(rows, shimRow{name, filepath.Join(dir, name), shim.IsFirst(dir, name, path), shim.Find(name, path)})
	}
	if asJSON {
		return encode(std.Out, rows)
	}
	if len(rows) == 0 {
		fmt.Fprintln(std.Err, "casemate: there is no shim (casemate shim install claude)")
		return nil
	}
	fmt.Fprintf(std.Out, "%-10s %-12s %s\n", "NAME", "ON THE PATH", "STANDS FOR")
	for _, r := range rows {
		first := "first"
		if !r.First {
			first = "not first"
		}
		fmt.Fprintf(std.Out, "%-10s %-12s %s\n", r.Name, first, tail(orNone(r.Agent, "no program on the PATH"), 56))
	}
	if slices.ContainsFunc(rows, func(r shimRow) bool { return !r.First }) {
		fmt.Fprintf(std.Err, "casemate: put %s first on your PATH\n", workspace.Visible(dir))
	}
	return nil
}

// isInside says whether this runs in a sandbox already. The variable alone does not: a project can set variables for who opens it, by the settings of an editor
// or a file of a shell's tool, and the agent would run outside without a word. What is inside can gain no privileges, for ever (PR_SET_NO_NEW_PRIVS(2const)), and
// no variable makes it look so.
func isInside(p session.Person) bool {
	set, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	return environment(p, "CASEMATE") != "" && err == nil && set == 1
}

// runShim is what a shim starts: the agent itself where it is in a sandbox already, else the agent in one, without a word of our own.
func runShim(std *IO, args []string) error {
	if len(args) == 0 {
		return usageError(errors.New("a shim names its agent"), "casemate shim install claude")
	}
	person, err := session.Self()
	if err != nil {
		return err
	}
	argv, err := shim.Argv(args[0], args[1:], environment(person, "PATH"))
	if err != nil {
		return coded{err, "casemate shim remove " + args[0] + " takes the shim away", exitNotFound}
	}
	if isInside(person) {
		if std.umask != 0 {
			unix.Umask(std.umask)
		}
		return unix.Exec(argv[0], argv, person.Environ)
	}
	o := session.Options{Command: argv, Answered: true, Umask: std.umask, Terminal: isTerminal(std.In) && isTerminal(std.Out)}
	if name := preset.OfCommand(args[0]); preset.OfCommand(argv[0]) != name {
		o.Flags.Presets = []string{name}
	}
	r, err := session.Prepare(person, o)
	if err != nil {
		return notStarted(std, err, false)
	}
	res, err := r.Do([3]int{int(std.In.Fd()), int(std.Out.Fd()), int(std.Err.Fd())})
	if err != nil && res.Reason != session.Failed {
		return err
	}
	if err != nil {
		report(std.Err, err)
	} else if res.Detail != "" {
		fmt.Fprintln(std.Err, "casemate:", workspace.Visible(res.Detail))
	}
	sayLinks(std, res.Links)
	if res.Changes != nil && (res.Changes.Files > 0 || res.Changes.Git > 0) && mayAsk(std) { // a person would look for them in the project
		fmt.Fprintln(std.Err, heldLine(res.Changes, true))
	}
	if res.Exit != 0 {
		return exitStatus(res.Exit)
	}
	return nil
}
