// Command casemate-secret keeps the secrets of a person, and gives them to the gates of their sandboxes. It is a program of its own because it holds values:
// casemate executes it as `casemate secret`, and never holds one.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"casemate.dev/internal/secret/ask"
	"casemate.dev/internal/secret/book"
	"casemate.dev/internal/secret/login"
	"casemate.dev/internal/secret/uses"
	"casemate.dev/internal/stdout"
	"casemate.dev/internal/workspace"
	"golang.org/x/sys/unix"
)

// Exit statuses.
const (
	exitProblem = 1   // the answer was no
	exitUsage   = 2   // the command line could not be understood
	exitRefused = 125 // it could not be done
)

func main() { os.Exit(run(os.Args[1:])) }

// verb is one row of what casemate-secret can do.
type verb struct {
	name, args, summary, help, example, exits string
	flags                                     func(*flag.FlagSet, *desk) func([]string) error
}

// verbs is the one list of them, in the order of the help.
func verbs() []verb {
	return []verb{setVerb(), listVerb(), rotateVerb(), rmVerb(), grantVerb(), revokeVerb(), usesVerb(), initVerb()}
}

// desk is what every verb works with.
type desk struct {
	in, err *os.File
	out     *stdout.Writer
	getenv  func(string) string
	place   book.Place
	log     uses.Log
	json    bool
	renewer login.Renewer
	left    func() // is called when the person leaves a question with Ctrl-C; may be nil
}

func run(args []string) int {
	d := &desk{in: os.Stdin, out: &stdout.Writer{File: os.Stdout}, err: os.Stderr, getenv: os.Getenv, renewer: login.Renewer{Do: renewBeside}}
	err := d.run(args)
	if err == nil {
		err = d.out.Lost
	}
	var u *usage
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errNo):
		return exitProblem
	}
	d.report(err)
	if errors.As(err, &u) {
		return exitUsage
	}
	return exitRefused
}

// errNo is the person's no.
var errNo = errors.New("no")

// usage is an error of the command line. It never quotes an argument that may be a value.
type usage struct {
	err  error
	help string
}

func (u *usage) Error() string { return u.err.Error() }
func (u *usage) Hint() string  { return u.help }

func wrongUse(help, format string, args ...any) error {
	return &usage{fmt.Errorf(format, args...), help}
}

func (d *desk) report(err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintln(d.err, "casemate: error:", workspace.Visible(line))
	}
	var h interface{ Hint() string }
	if errors.As(err, &h) && h.Hint() != "" {
		fmt.Fprintln(d.err, "casemate: hint:", workspace.Visible(h.Hint()))
	}
}

// guard comes before everything: nobody else's process may read this one's memory (ptrace(2), proc(5)), and no crash writes it to a file.
func guard() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("no core dumps: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("be not dumpable: %w", err)
	}
	unix.Umask(0o077)
	return nil
}

func (d *desk) run(args []string) error {
	if err := guard(); err != nil {
		return err
	}
	if len(args) == 0 {
		overview(d.err)
		return wrongUse("casemate secret --help", "secret needs one of: %s", strings.Join(names(), ", "))
	}
	switch args[0] {
	case "help", "--help", "-h", "-help":
		overview(d.out)
		return nil
	case "__complete":
		d.complete(args[1:])
		return nil
	case "ssh-agent":
		return d.sshAgent(args[1:])
	}
	var err error
	if d.place, err = book.Find(d.getenv); err != nil {
		return err
	}
	if d.log, err = uses.Find(d.getenv); err != nil {
		return err
	}
	switch args[0] {
	case "serve":
		return d.serve(args[1:])
	case ask.LoginVerb:
		return d.aboutLogin(args[1:])
	case renewVerb:
		return d.renewNow(args[1:])
	}
	list := verbs()
	i := slices.IndexFunc(list, func(v verb) bool { return v.name == args[0] })
	if i < 0 {
		return wrongUse("casemate secret --help", "secret needs one of: %s", strings.Join(names(), ", "))
	}
	return list[i].main(d, args[1:])
}

func names() (list []string) {
	for _, v := range verbs() {
		list = append(list, v.name)
	}
	return list
}

// main parses the flags, which may stand after arguments too, up to a --.
func (v verb) main(d *desk, args []string) error {
	fs := flag.NewFlagSet(v.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.BoolVar(&d.json, "json", false, "print JSON")
	do := v.flags(fs, d)
	var rest []string
	for {
		if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
			v.printHelp(d.out, fs)
			return nil
		} else if err != nil {
			return wrongUse("casemate secret "+v.name+" --help shows the flags", "%s", strings.NewReplacer(": -", ": --", "for flag -", "for flag --").Replace(err.Error()))
		}
		left := fs.Args()
		ended := len(left) < len(args) && args[len(args)-len(left)-1] == "--"
		if ended || len(left) == 0 {
			return do(append(rest, left...))
		}
		rest, args = append(rest, left[0]), left[1:]
	}
}
