package cli

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"casemate.dev/internal/gate/wire"
	"casemate.dev/internal/session"
	"casemate.dev/internal/workspace"
	"golang.org/x/sys/unix"
)

// prompt is a question that stands on the screen: one for which a connection waits, or one about what was denied.
type prompt struct {
	waits    *session.Question // nil: about what was denied
	sandbox  string
	target   string
	question string
}

const (
	choices      = "[o]nce  " + afterChoices
	afterChoices = "[y]es, this run  an [h]our  [a]lways  [N]o  no to [e]verything: "
	answerHelp   = `o - once: the connection that waits now
y - yes: until the run of this sandbox ends
h - for an hour of it
a - always: written into your own policy, so it holds for every sandbox of yours
n - no (also Enter); casemate allow changes your mind
e - no to everything that this sandbox asks
`
)

// attend sees to questions that a connection waits for. It reports whether one stands there.
func (w *watching) attend() bool {
	if w.typed == nil {
		return false
	}
	list := slices.DeleteFunc(session.Questions(w.store), func(q session.Question) bool { return w.known[number(q)] || w.closed[q.Sandbox] })
	if p := w.prompt; p != nil && p.waits != nil {
		if slices.ContainsFunc(list, func(q session.Question) bool { return number(q) == number(*p.waits) }) {
			return true
		}
		fmt.Fprintf(w.std.Out, "\nIt is over: %s waits no more.\n", workspace.Visible(p.target))
		w.prompt, w.hasty = nil, time.Now().Add(time.Second)
	}
	if len(list) == 0 {
		return false
	}
	if w.prompt != nil { // about what was denied: that can wait
		fmt.Fprintln(w.std.Out)
		w.hasty = time.Now().Add(time.Second)
	}
	q := list[0]
	left := max(0, int(time.Until(q.Until).Seconds()))
	line := fmt.Sprintf("May %s reach %s? %d s left.", workspace.Visible(q.Sandbox), workspace.Visible(q.Target), left)
	w.put(&prompt{waits: &q, sandbox: q.Sandbox, target: q.Target, question: line + w.command(q.Sandbox, 79-len(line)) + "\n" + choices})
	return true
}

// number is of one question only: a sandbox that is run again begins to count anew.
func number(q session.Question) string {
	return q.Sandbox + " " + strconv.FormatUint(q.ID, 10) + " " + q.Until.UTC().Format(time.RFC3339Nano)
}

// command is what runs in a sandbox, where there is room for it.
func (w *watching) command(sandbox string, room int) string {
	const least = 10
	box, err := w.store.Find(sandbox)
	if err != nil || room < least {
		return ""
	}
	return " (" + head(strings.Join(box.Record.Command, " "), room-3) + ")"
}

// note keeps what a person can be asked about afterwards: not what a rule denies. What else a sandbox tries meanwhile is listed, and not asked about. Nor is
// a request to a host of which the policy allows only some, since a yes would allow them all, nor an address that is not public.
func (w *watching) note(list []session.Connection) {
	const most = 64
	for _, c := range list {
		key := c.Sandbox + " " + c.Target()
		if w.typed == nil || c.Verdict != wire.Denied || c.Rule != "" || c.Unasked || w.known[key] || w.closed[c.Sandbox] || !c.Allowable() || len(w.waiting) == most {
			continue
		}
		w.known[key] = true
		w.waiting = append(w.waiting, c)
	}
}

// ask asks about the first that was denied. Sandboxes that have ended have nothing to be allowed any more.
func (w *watching) ask() {
	for w.prompt == nil && len(w.waiting) > 0 {
		c := w.waiting[0]
		if box, err := w.store.Find(c.Sandbox); err != nil || !box.Running || w.closed[c.Sandbox] {
			w.waiting = w.waiting[1:]
			continue
		}
		w.put(&prompt{sandbox: c.Sandbox, target: c.Target(), question: fmt.Sprintf("May %s reach %s? It was denied.\n%s", c.Sandbox, workspace.Visible(c.Target()), afterChoices)})
	}
}

// put shows a question. What was typed before is no answer to it.
func (w *watching) put(p *prompt) {
	unix.IoctlSetInt(int(w.std.In.Fd()), unix.TCFLSH, unix.TCIFLUSH)
	for drained := false; !drained; {
		select {
		case _, more := <-w.typed:
			drained = !more
		default:
			drained = true
		}
	}
	w.prompt = p
	fmt.Fprint(w.std.Out, p.question)
}

// answered does what was answered to the question that stands there. A line typed before there was one is no answer.
func (w *watching) answered(line string) {
	p := w.prompt
	if p == nil {
		return
	}
	if time.Now().Before(w.hasty) {
		w.put(p)
		return
	}
	say, known := p.meaning(strings.ToLower(strings.TrimSpace(line)))
	if !known {
		fmt.Fprint(w.std.Out, answerHelp)
		w.put(p)
		return
	}
	w.prompt, w.known[p.sandbox+" "+p.target] = nil, true
	if p.waits != nil {
		w.known[number(*p.waits)] = true
	} else {
		w.waiting = w.waiting[1:]
	}
	if say == session.None {
		w.closed[p.sandbox] = true
	}
	if err := w.act(p, say); err != nil {
		report(w.std.Err, err)
		return
	}
	fmt.Fprintln(w.std.Out, outcome(p, say))
}

func (p *prompt) meaning(answer string) (say session.Answer, known bool) {
	switch answer {
	case "y", "yes":
		return session.Session, true
	case "h", "hour":
		return session.Hour, true
	case "a", "always":
		return session.Always, true
	case "", "n", "no":
		return session.No, true
	case "e", "everything":
		return session.None, true
	case "o", "once":
		return session.Once, p.waits != nil
	}
	return "", false
}

func (w *watching) act(p *prompt, say session.Answer) error {
	by := "casemate watch"
	if tty, err := os.Readlink("/proc/self/fd/0"); err == nil {
		by += " on " + tty
	}
	if p.waits != nil {
		return w.person.Answer(*p.waits, say, by)
	}
	var until time.Time
	switch say {
	case session.No, session.None:
		return nil
	case session.Hour:
		until = time.Now().Add(time.Hour)
	}
	_, err := session.Allow(w.person, p.sandbox, p.target, until, by)
	if err == nil && say == session.Always {
		_, err = w.person.SaveRule(p.target)
	}
	return err
}

func outcome(p *prompt, say session.Answer) string {
	who, what := workspace.Visible(p.sandbox), workspace.Visible(p.target)
	switch say {
	case session.No:
		return who + " may not reach " + what
	case session.None:
		return who + " asks no more"
	case session.Once:
		return who + " reaches " + what + " this once"
	case session.Always:
		return who + " may reach " + what + ", and so may every sandbox of yours: it is in your policy"
	case session.Hour:
		return who + " may reach " + what + howLong(time.Now().Add(time.Hour))
	}
	return who + " may reach " + what + howLong(time.Time{})
}
