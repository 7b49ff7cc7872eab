package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"casemate.dev/internal/review"
	"casemate.dev/internal/session"
	"casemate.dev/internal/stdout"
	"casemate.dev/internal/workspace"
	"golang.org/x/sys/unix"
)

// then is what happens to the changes after a run.
type then string

const (
	thenAsk     then = "" // ask on a terminal, else keep
	thenKeep    then = "keep"
	thenReview  then = "review"
	thenApply   then = "apply"
	thenDiscard then = "discard"
)

func (t *then) String() string { return string(*t) }

func (t *then) Set(s string) error {
	switch *t = then(s); *t {
	case thenKeep, thenReview, thenApply, thenDiscard:
		return nil
	}
	return errors.New("keep, review, apply or discard")
}

// afterwards is what a run did with its changes, as --json tells it.
type afterwards struct {
	session.Result
	Then   then `json:"then,omitempty"`
	Stayed bool `json:"stayed,omitempty"` // something that was to be applied was not: it needs a word of its own
}

// finished says what is held after a run, and does with it what was asked for or what the person answers. Whatever comes of it, the status stays
// the command's; only if something fails is it casemate's.
func finished(std *IO, res session.Result, t then, asJSON, quiet bool) error {
	silent := asJSON || quiet
	held := res.Changes != nil && res.Changes.String() != "no changes"
	ask := t == thenAsk && held && res.Changes.Files > 0 && !silent && mayAsk(std)
	if held && !silent {
		fmt.Fprintln(std.Err, heldLine(res.Changes, t == thenAsk && !ask))
	}
	if !held {
		t = thenKeep
	}
	if t == thenApply && res.Exit != 0 {
		t = thenKeep
		if !silent {
			fmt.Fprintln(std.Err, "casemate: the command failed, so its changes stay held")
		}
	}
	words := &IO{In: std.In, Out: &stdout.Writer{File: std.Err}, Err: std.Err, Color: std.Color} // standard output is the command's
	if silent {
		null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer null.Close()
		words.Out, words.Err = &stdout.Writer{File: null}, null
	}
	err := withChanges(words, res.Sandbox, t, ask)
	var stayed exitStatus
	if errors.As(err, &stayed) && int(stayed) == exitProblem {
		err = nil // they are named, and it is no failure of the command
	} else {
		stayed = 0
	}
	if !asJSON {
		return err
	}
	if err != nil {
		report(std.Err, err)
		err = exitStatus(exitRefused)
	}
	line, e := json.Marshal(afterwards{res, t, stayed != 0})
	if e != nil {
		return e
	}
	fmt.Fprintf(std.Err, "%s\n", line)
	return err
}

// heldLine says what is held, and what can be done with it that is not about to be asked or done.
func heldLine(s *workspace.Summary, unasked bool) string {
	var ways []string
	gitOnly := *s == workspace.Summary{Git: s.Git}
	if unasked && !gitOnly {
		ways = append(ways, "casemate review, then apply or discard")
	}
	if s.Git > 0 {
		ways = append(ways, "casemate apply --commit takes the commits")
	}
	if unasked && gitOnly {
		ways = append(ways, "casemate discard throws it away")
	}
	line := fmt.Sprintf("casemate: held: %s", s)
	if len(ways) > 0 {
		line += " (" + strings.Join(ways, "; ") + ")"
	}
	return line
}

func withChanges(std *IO, id string, t then, ask bool) error {
	if t == thenKeep || t == thenAsk && !ask {
		return nil
	}
	return withReview(std, id, nil, func(r *session.Review) error {
		switch {
		case ask:
			return askThen(std, r)
		case t == thenApply:
			return apply(std, r, workspace.ApplyOptions{}, false)
		case t == thenDiscard:
			return carryOut(std, r, review.Decision{Action: review.Discard})
		case isTerminal(std.In) && isTerminal(std.Out):
			return reviewOn(std, r, false)
		}
		fmt.Fprintln(std.Err, "casemate: there is no terminal to review them on: casemate review")
		return nil
	})
}

// mayAsk reports whether somebody is there to answer: all three streams are a terminal, of which we have the foreground, and it is no CI job.
func mayAsk(std *IO) bool {
	if ci := os.Getenv("CI"); ci != "" && ci != "false" && ci != "0" {
		return false
	}
	foreground, err := unix.IoctlGetInt(int(std.In.Fd()), unix.TIOCGPGRP)
	return err == nil && foreground == unix.Getpgrp() && isTerminal(std.Out) && isTerminal(std.Err)
}

const thenHelp = `r - review: look through the changes and choose
a - apply them; what your machine would execute and conflicts are shown and asked for one by one
k - keep them in the sandbox (also Enter)
d - discard them
`

// askThen asks what is to happen. Ctrl-C keeps, as Enter does.
func askThen(std *IO, r *session.Review) error {
	if drawable() {
		io.WriteString(std.Err, "\x1b[0m\x1b(B\x0f") // whatever the command has made of colours and character sets
	}
	a := &review.Asker{In: std.In, Out: std.Err}
	a.Fresh() // what was typed for the command is no answer
	switch a.Key("[r]eview  [a]pply  [k]eep (default)  [d]iscard: ", "krad", thenHelp) {
	case 'r':
		return reviewOn(std, r, false)
	case 'a':
		return applyAsking(std, r, a)
	case 'd':
		if a.Yes(fmt.Sprintf("Throw away what %s holds?", r.Box.Record.ID)) {
			return carryOut(std, r, review.Decision{Action: review.Discard})
		}
	}
	fmt.Fprintln(std.Err, "casemate: kept (later: casemate review, apply or discard)")
	return nil
}

// applyAsking applies what needs no question, and asks for the rest.
func applyAsking(std *IO, r *session.Review, a *review.Asker) error {
	changes, err := r.Changes(context.Background(), workspace.ChangeOptions{})
	if err != nil {
		return err
	}
	items := review.Items(changes)
	w := review.Walker{Asker: a, Layer: r.Layer, Color: std.Color}
	d := review.Decision{Action: review.Keep}
	if w.Questions(items) {
		d = review.Decide(changes, items)
	}
	return carryOut(std, r, d)
}
