package cli

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"casemate.dev/internal/gate/wire"
	"casemate.dev/internal/session"
	"casemate.dev/internal/store"
	"casemate.dev/internal/workspace"
)

func watchCommand() command {
	return command{
		name: "watch", summary: "follow what sandboxes reach, and allow what was denied",
		example: "casemate watch",
		help: `
For a second terminal: lists the connections of all sandboxes as they happen,
and asks about each host that was denied, once, whether its sandbox may reach
it. What is allowed holds for the next attempt on: the one that was denied has
failed, and most programs try again. Enter leaves it denied. Without a terminal
nothing is asked; casemate allow is the same in a script. Interrupt it to end.`,
		exits: "125  the record of connections cannot be read",
		flags: func(fs *flag.FlagSet) func(*IO, []string) error {
			asJSON := fs.Bool("json", false, "print JSON, one line for each record, and ask nothing")
			return func(std *IO, args []string) error {
				if len(args) > 0 {
					return usageError(fmt.Errorf("watch takes no argument, and got %q", args[0]), "casemate net --follow SANDBOX follows one")
				}
				st, err := openStore()
				if err != nil {
					return err
				}
				person, err := session.Self()
				if err != nil {
					return err
				}
				w := watching{lister: lister{std: std, json: *asJSON, open: map[string]session.Connection{}}, person: person, store: st, known: map[string]bool{}}
				if !*asJSON && isTerminal(std.In) && isTerminal(std.Out) {
					w.typed = lines(std.In)
				}
				return w.run()
			}
		},
	}
}

// watching is one casemate watch.
type watching struct {
	lister
	person  session.Person
	store   *store.Store
	typed   <-chan string        // nil: nobody is asked
	known   map[string]bool      // what was asked about, by sandbox and target
	waiting []session.Connection // denied, and to be asked about; the first one is, when asked is set
	asked   bool
}

// lines reads what a person types. The channel is closed at the end.
func lines(f *os.File) <-chan string {
	c := make(chan string)
	go func() {
		defer close(c)
		for sc := bufio.NewScanner(f); sc.Scan(); {
			c <- sc.Text()
		}
	}()
	return c
}

func (w *watching) run() error {
	_, next, err := session.Connections(w.store, "", 0) // what was before is in casemate net
	if err != nil {
		return err
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	if !w.json {
		fmt.Fprintln(w.std.Err, "casemate: watching; interrupt with Ctrl-C")
	}
	for {
		select {
		case <-interrupted:
			return nil
		case answer, more := <-w.typed:
			if !more {
				return nil
			}
			w.answered(answer)
		case <-time.After(200 * time.Millisecond):
			var list []session.Connection
			if list, next, err = session.Connections(w.store, "", next); err != nil {
				return err
			}
			if len(list) > 0 && w.asked {
				fmt.Fprintln(w.std.Out) // the question is asked again below
				w.asked = false
			}
			if err := w.print(list); err != nil {
				return err
			}
			w.note(list)
		}
		w.ask()
	}
}

// note keeps what a person can be asked about.
func (w *watching) note(list []session.Connection) {
	for _, c := range list {
		key := c.Sandbox + " " + c.Target()
		if w.typed == nil || c.Verdict != wire.Denied || w.known[key] || !c.Allowable() {
			continue
		}
		w.known[key] = true
		w.waiting = append(w.waiting, c)
	}
}

// ask asks about the first that waits. Sandboxes that have ended have nothing to be allowed any more.
func (w *watching) ask() {
	for !w.asked && len(w.waiting) > 0 {
		c := w.waiting[0]
		if box, err := w.store.Find(c.Sandbox); err != nil || !box.Running {
			w.waiting = w.waiting[1:]
			continue
		}
		fmt.Fprintf(w.std.Out, "May %s reach %s? [y]es, for an [h]our, and [s]ave it, [N]o: ", c.Sandbox, workspace.Visible(c.Target()))
		w.asked = true
	}
}

// answered does what was answered to the question that stands there. A line typed before there was one is no answer.
func (w *watching) answered(answer string) {
	if !w.asked {
		return
	}
	c := w.waiting[0]
	w.waiting, w.asked = w.waiting[1:], false
	var until time.Time
	answer = strings.ToLower(strings.TrimSpace(answer))
	switch answer {
	case "y", "yes", "s", "save":
	case "h", "hour":
		until = time.Now().Add(time.Hour)
	default:
		return
	}
	_, err := session.Allow(w.person, c.Sandbox, c.Target(), until)
	if err == nil && strings.HasPrefix(answer, "s") {
		_, err = w.person.SaveRule(c.Target())
	}
	if err != nil {
		report(w.std.Err, err)
		return
	}
	fmt.Fprintf(w.std.Out, "%s may reach %s%s\n", c.Sandbox, workspace.Visible(c.Target()), howLong(until))
}
