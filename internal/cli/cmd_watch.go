package cli

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"casemate.dev/internal/session"
	"casemate.dev/internal/store"
)

func watchCommand() command {
	return command{
		name: "watch", summary: "follow what sandboxes reach, and answer what they ask",
		example: "casemate watch",
		help: `
For a second terminal: lists the connections of all sandboxes as they happen,
and asks you. A sandbox that was started with run --ask waits for your answer
before it reaches what no rule allows: yes once, until its run ends, for an
hour, or always, which writes the rule into your own policy. What other
sandboxes were denied is asked about afterwards, each host once; most programs
try again. Listed and not asked about are addresses that are not public, and
requests to a host of which your policy allows some: a rule opens them. Enter
is no. One question stands there at a time, and what was typed before it
counts as nothing. Without a terminal nothing is asked; casemate allow is the
same in a script. Interrupt it to end.`,
		exits: "125  the record of connections cannot be read",
		flags: func(fs *flag.FlagSet) func(*IO, []string) error {
			asJSON := fs.Bool("json", false, "print JSON, one line for each record, and ask nothing")
			return func(std *IO, args []string) error {
				st, err := openStore()
				if err != nil {
					return err
				}
				person, err := session.Anywhere()
				if err != nil {
					return err
				}
				w := watching{
					lister: lister{std: std, json: *asJSON, open: map[string]session.Connection{}}, person: person, store: st,
					known: map[string]bool{}, closed: map[string]bool{},
				}
				if !*asJSON && isTerminal(std.In) && isTerminal(std.Out) {
					there, err := st.Watch()
					if err != nil {
						return err
					}
					defer there.Close()
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
	known   map[string]bool      // what was asked about, or answered, by sandbox and target or number
	closed  map[string]bool      // the sandboxes of which the person wants to hear no more
	waiting []session.Connection // denied, and to be asked about
	prompt  *prompt              // the question that stands there
	hasty   time.Time            // what is typed until then may be meant for a question that is gone
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
		}
		if w.attend() {
			continue // nothing is printed below a question that somebody has seconds to answer
		}
		var list []session.Connection
		if list, next, err = session.Connections(w.store, "", next); err != nil {
			return err
		}
		if err := w.show(list); err != nil {
			return err
		}
	}
}

// show lists what happened. The question that stood there is asked again below; where it is over, the next one is, which a key that was meant for the other
// must not answer.
func (w *watching) show(list []session.Connection) error {
	stood := w.prompt
	if len(list) > 0 && stood != nil {
		fmt.Fprintln(w.std.Out)
		w.prompt = nil
	}
	if err := w.print(list); err != nil {
		return err
	}
	w.note(list)
	w.ask()
	if stood != nil && w.prompt != nil && w.prompt.question != stood.question {
		w.hasty = time.Now().Add(time.Second)
	}
	return nil
}
