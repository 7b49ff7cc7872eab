// Package cli is what the user types: one file per command, and the few things that all commands share.
package cli

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"casemate.dev/internal/policy"
	"casemate.dev/internal/session"
	"casemate.dev/internal/shim"
	"casemate.dev/internal/stdout"
	"golang.org/x/sys/unix"
)

// Version is set by the Makefile from git.
var Version = "0.1.0-dev"

// Exit statuses that are casemate's own; every other one is the command's.
const (
	exitProblem  = 1   // a check found something, or changes were not applied
	exitUsage    = 2   // the command line could not be understood
	exitRefused  = 125 // casemate refused, and the command did not run; or it failed
	exitTimeout  = 124
	exitNoExec   = 126
	exitNotFound = 127
)

// IO is where a command reads and writes.
type IO struct {
	In, Err *os.File
	Out     *stdout.Writer
	Color   bool // standard output is a terminal and nobody objects
	umask   int  // the person's, where it takes rights from themselves; otherwise 0
}

// command is one row of what casemate can do.
type command struct {
	name    string
	args    string // after the flags, as the usage line shows it
	summary string
	help    string // what it does, in the user's words
	example string // one line that works
	exits   string // the exit statuses beyond 0 and 2
	direct  bool   // flags end at the first argument, which starts another command's line
	flags   func(*flag.FlagSet) func(*IO, []string) error
}

// commands is the one list of them, in the order of the help.
func commands() []command {
	return []command{
		runCommand(), diffCommand(), reviewCommand(), applyCommand(), undoCommand(), discardCommand(), forkCommand(),
		planCommand(), validateCommand(), doctorCommand(),
		initCommand(), trustCommand(), policyCommand(),
		netCommand(), allowCommand(), watchCommand(), secretCommand(), presetCommand(), cacheCommand(),
		agentsCommand(), shimCommand(), homeCommand(),
		psCommand(), rmCommand(), completionCommand(),
	}
}

// Main runs one command line and returns the exit status.
func Main(args []string) int {
	std := &IO{In: os.Stdin, Out: &stdout.Writer{File: os.Stdout}, Err: os.Stderr}
	std.Color = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isTerminal(std.Out)
	std.umask = ownUmask()
	err := dispatch(std, args)
	var status exitStatus
	if std.Out.Lost != nil && (err == nil || errors.As(err, &status)) { // another error is said already, and is most often this one
		err = std.Out.Lost
	}
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return int(status)
	}
	report(std.Err, err)
	return statusOf(err)
}

// ownUmask leaves us the rights to what we make, without which nothing could be kept, run or removed, and returns the umask that did not.
func ownUmask() int {
	mask := unix.Umask(0o077)
	unix.Umask(mask &^ 0o700)
	if mask&0o700 == 0 {
		return 0
	}
	return mask
}

// statusOf is the exit status that an error of casemate's own has.
func statusOf(err error) int {
	var code coded
	switch {
	case errors.As(err, &code):
		return code.status
	case errors.As(err, new(*session.BadFlag)):
		return exitUsage
	}
	return exitRefused
}

func dispatch(std *IO, args []string) error {
	if len(args) == 0 {
		overview(std.Err)
		return exitStatus(exitUsage)
	}
	switch args[0] {
	case "--version", "-version", "version":
		fmt.Fprintln(std.Out, "casemate", Version)
		return nil
	case "__complete":
		complete(std.Out, args[1:])
		return nil
	case shim.Command:
		return runShim(std, args[1:])
	case session.ThawCommand:
		session.Thaw(std.In)
		return nil
	case "help", "--help", "-h", "-help":
		if len(args) > 1 && args[0] == "help" {
			return dispatch(std, []string{args[1], "--help"})
		}
		overview(std.Out)
		return nil
	}
	list := commands()
	i := slices.IndexFunc(list, func(c command) bool { return c.name == args[0] })
	if i < 0 {
		return usageError(fmt.Errorf("there is no command %q", args[0]), nearest(args[0], list))
	}
	return list[i].main(std, args[1:])
}

// main parses the command's flags and runs it. Flags may stand after arguments, except where the arguments are another command's line.
func (c command) main(std *IO, args []string) error {
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	run := c.flags(fs)
	var rest []string
	for {
		if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
			c.printHelp(std.Out, fs)
			return nil
		} else if err != nil {
			return usageError(errors.New(strings.NewReplacer(": -", ": --", "for flag -", "for flag --", `" for -`, `" for --`).Replace(err.Error())), c.flagHint(fs, err))
		}
		if err := notEmpty(fs); err != nil {
			return err
		}
		ended := len(fs.Args()) < len(args) && len(args)-len(fs.Args()) > 0 && args[len(args)-len(fs.Args())-1] == "--"
		args = fs.Args()
		if c.direct || ended || len(args) == 0 {
			rest = append(rest, args...)
			if c.args == "" && len(rest) > 0 { // whoever names one means it, and not the newest or all
				return usageError(fmt.Errorf("%s takes no argument, and got %q", c.name, rest[0]), fmt.Sprintf("casemate %s --help shows the flags", c.name))
			}
			return run(std, rest)
		}
		rest, args = append(rest, args[0]), args[1:]
	}
}

// flagHint suggests the flag that was probably meant by one that is not known.
func (c command) flagHint(fs *flag.FlagSet, err error) string {
	hint := fmt.Sprintf("casemate %s --help shows the flags", c.name)
	wrote, unknown := strings.CutPrefix(err.Error(), "flag provided but not defined: -")
	if !unknown {
		return hint
	}
	var names []string
	fs.VisitAll(func(f *flag.Flag) { names = append(names, flagName(f)) })
	if near := policy.DidYouMean("--"+wrote, names); near != "" {
		return near + "\n" + hint
	}
	return hint
}

// notEmpty refuses a flag whose value is nothing, as a script writes it that lacks a variable: what was to be limited or named would not be.
func notEmpty(fs *flag.FlagSet) (err error) {
	fs.Visit(func(f *flag.Flag) {
		if v, ok := f.Value.(flag.Getter); ok && v.Get() == "" {
			err = usageError(fmt.Errorf("%s: \"\" is empty", flagName(f)), "give it a value, or leave it out")
		}
	})
	return err
}

func overview(w io.Writer) {
	fmt.Fprint(w, `casemate runs AI agents and code that nobody has read yet in a sandbox that
denies by default. What it changed waits until you have looked at it.

  casemate run -- npm test      run a command in the sandbox
  casemate diff                 see what it changed
  casemate review               look through it, and choose what to apply
  casemate apply                let the changes reach the project

Commands:
`)
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-12s %s\n", c.name, c.summary)
	}
	fmt.Fprint(w, "\ncasemate COMMAND --help explains one, with an example and its exit statuses.\n")
}

func flagName(f *flag.Flag) string {
	if len(f.Name) == 1 {
		return "-" + f.Name
	}
	return "--" + f.Name
}

func (c command) printHelp(w io.Writer, fs *flag.FlagSet) {
	usage, first := c.name, true
	fs.VisitAll(func(*flag.Flag) { usage = c.name + " [flags]" })
	fmt.Fprintf(w, "casemate %s: %s\n\nUsage: casemate %s\n\n%s\n", c.name, c.summary, strings.TrimSpace(usage+" "+c.args), strings.TrimSpace(c.help))
	fs.VisitAll(func(f *flag.Flag) {
		if first {
			fmt.Fprint(w, "\nFlags:\n")
			first = false
		}
		value, usage := flag.UnquoteUsage(f)
		name := flagName(f)
		if value != "" {
			name += " " + strings.ToUpper(value)
		}
		if len(name) > 24 {
			fmt.Fprintf(w, "  %s\n  %-24s ", name, "")
		} else {
			fmt.Fprintf(w, "  %-24s ", name)
		}
		fmt.Fprintln(w, wrap(usage, 52, "                           "))
	})
	fmt.Fprintf(w, "\nExample:\n  %s\n\nExit statuses:\n  0    success\n", c.example)
	for line := range strings.SplitSeq(strings.TrimSpace(c.exits), "\n") {
		if line = strings.TrimSpace(line); line != "" {
			fmt.Fprintln(w, "  "+line)
		}
	}
	fmt.Fprint(w, "  2    the command line could not be understood\n")
}

// wrap breaks text at blanks so that lines fit, and indents all but the first.
func wrap(text string, width int, indent string) string {
	var b strings.Builder
	col := 0
	for i, w := range strings.Fields(text) {
		if i > 0 && col+1+len(w) > width {
			b.WriteString("\n" + indent)
			col = 0
		} else if i > 0 {
			b.WriteByte(' ')
			col++
		}
		b.WriteString(w)
		col += len(w)
	}
	return b.String()
}

// list is a flag that may be given several times.
type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }
