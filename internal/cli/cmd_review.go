package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"casemate.dev/internal/relay"
	"casemate.dev/internal/review"
	"casemate.dev/internal/session"
	"casemate.dev/internal/workspace"
	"golang.org/x/sys/unix"
)

func reviewCommand() command {
	return command{
		name: "review", args: "[SANDBOX]", summary: "look through the changes, and choose what to apply",
		example: "casemate review",
		help: `
Shows the held changes of SANDBOX, or of the project's newest one, on the whole
terminal: a list with what your machine would execute first, and the diff of
one change below it. Space chooses, a applies what is chosen, d discards
everything, q leaves everything as it is, ? lists the keys. What your machine
would execute can be chosen only after it has been shown whole; exactly what
was shown is applied.

With --plain, or where the terminal can no more (TERM=dumb), it asks about one
change after the other in plain lines, as git add -p does.`,
		exits: `
1    some changes that were chosen stayed behind; they are named
125  there is no terminal, or the changes could not be read or written`,
		flags: func(fs *flag.FlagSet) func(*IO, []string) error {
			plain := fs.Bool("plain", false, "ask in plain lines, one change after the other")
			return func(std *IO, args []string) error {
				if len(args) > 1 {
					return usageError(errors.New("review takes one sandbox"), "casemate ps -a lists them")
				}
				if !isTerminal(std.In) || !isTerminal(std.Out) {
					return hinted(errors.New("there is no terminal to review changes on"), "casemate diff shows them; casemate apply and casemate discard --yes need no terminal")
				}
				id := ""
				if len(args) == 1 {
					id = args[0]
				}
				return withReview(std, id, nil, func(r *session.Review) error { return reviewOn(std, r, *plain) })
			}
		},
	}
}

// reviewOn walks the person through the changes and does what they decided.
func reviewOn(std *IO, r *session.Review, plain bool) error {
	decide := fullScreen
	if program, found := reviewProgram(); plain || !found || !drawable() {
		if !plain && !found {
			fmt.Fprintf(std.Err, "casemate: %s is not there, so in plain lines:\n", program)
		}
		decide = plainLines
	}
	d, err := decide(std, r)
	if err != nil {
		return err
	}
	return carryOut(std, r, d)
}

// drawable says whether the terminal can do more than print lines.
func drawable() bool {
	term := os.Getenv("TERM")
	return term != "" && term != "dumb"
}

// carryOut does what was decided.
func carryOut(std *IO, r *session.Review, d review.Decision) error {
	for _, name := range d.Left {
		fmt.Fprintf(std.Err, "casemate: %s stays: it goes only together with all that is in it\n", workspace.Quote(name))
	}
	switch d.Action {
	case review.Apply:
		return apply(std, r, d.What, false)
	case review.Discard:
		if err := r.Discard(); err != nil {
			return err
		}
		fmt.Fprintf(std.Err, "casemate: discarded the changes of %s\n", r.Box.Record.ID)
		return nil
	}
	fmt.Fprintf(std.Err, "casemate: nothing was applied; the changes stay in %s\n", r.Box.Record.ID)
	return nil
}

// plainLines asks about each change.
func plainLines(std *IO, r *session.Review) (review.Decision, error) {
	changes, err := r.Changes(context.Background(), workspace.ChangeOptions{})
	if err != nil {
		return review.Decision{}, err
	}
	if err := r.Count(context.Background(), changes); err != nil {
		return review.Decision{}, err
	}
	fmt.Fprintln(std.Out, workspace.Summarize(changes))
	items := review.Items(changes)
	w := review.Walker{Asker: &review.Asker{In: std.In, Out: std.Out}, Layer: r.Layer, Color: std.Color}
	if !w.All(items) {
		return review.Decision{Action: review.Keep}, nil
	}
	return review.Decide(changes, items), nil
}

// reviewProgram is the screen, a program of its own that lies beside this one.
func reviewProgram() (path string, found bool) {
	exe, err := os.Executable()
	if err != nil {
		return "casemate-review", false
	}
	path = filepath.Join(filepath.Dir(exe), "casemate-review")
	st, err := os.Stat(path)
	return path, err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0
}

// fullScreen runs the screen and reads its decision. Should the screen be killed, the terminal is restored here; should we be, the screen
// hears of it and restores it.
func fullScreen(std *IO, r *session.Review) (d review.Decision, err error) {
	d.Action = review.Keep
	program, _ := reviewProgram()
	before, err := unix.IoctlGetTermios(int(std.In.Fd()), unix.TCGETS)
	if err != nil {
		return d, err
	}
	from, to, err := os.Pipe()
	if err != nil {
		return d, err
	}
	defer from.Close()
	p, err := os.StartProcess(program, []string{program, r.Box.Record.ID}, &os.ProcAttr{
		Files: []*os.File{std.In, std.Out.File, std.Err, to}, Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM},
	})
	to.Close()
	if err != nil {
		var notThere *fs.PathError
		if errors.As(err, &notThere) {
			return d, hinted(err, "casemate review --plain needs no other program")
		}
		return d, err
	}
	said, readErr := io.ReadAll(from)
	state, err := p.Wait()
	if err != nil {
		return d, err
	}
	if !state.Exited() {
		unix.IoctlSetTermios(int(std.In.Fd()), unix.TCSETS, before)
		io.WriteString(std.Out, relay.Reset)
	}
	switch {
	case readErr != nil:
		return d, readErr
	case !state.Success() && state.ExitCode() == exitRefused:
		return d, exitStatus(exitRefused) // it has said why
	case !state.Success():
		return d, nil // ended by a signal: all is kept
	}
	if err := json.NewDecoder(bytes.NewReader(said)).Decode(&d); err != nil {
		return review.Decision{Action: review.Keep}, fmt.Errorf("%s: %w", program, err)
	}
	return d, nil
}
