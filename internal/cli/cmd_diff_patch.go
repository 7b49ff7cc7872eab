package cli

import (
	"context"
	"errors"
	"fmt"

	"casemate.dev/internal/review"
	"casemate.dev/internal/session"
	"casemate.dev/internal/workspace"
)

const patchHelp = `y - apply this hunk
n - leave it in the sandbox (also Enter)
q - leave it and all that follows; apply what was chosen
a - apply it and all that follows in this file
d - leave it and all that follows in this file
s - split it into smaller hunks
? - this help
Ctrl-C - apply nothing
`

// applyPatch asks about each hunk, and applies those that were chosen.
func applyPatch(std *IO, r *session.Review, o workspace.ApplyOptions) error {
	if !isTerminal(std.In) {
		return hinted(errors.New("--patch asks about each hunk, and there is no terminal to ask on"), "casemate apply PATH... applies whole files")
	}
	changes, err := r.Changes(context.Background(), workspace.ChangeOptions{Paths: o.Paths, Built: o.Built})
	if err != nil {
		return err
	}
	p := patching{std: std, r: r, o: &o, ask: &review.Asker{In: std.In, Out: std.Out}}
	o.Paths, o.Consent, o.Partial = nil, map[string]string{}, map[string]workspace.Partial{}
	for _, it := range review.Items(changes) {
		if it.Stays() && !(it.Built && o.Built) {
			continue
		}
		if quit := p.item(&it); quit {
			break
		}
	}
	switch {
	case p.ask.Interrupted():
		fmt.Fprintln(std.Err, "casemate: nothing was applied")
		return exitStatus(exitProblem)
	case len(o.Paths) == 0:
		fmt.Fprintln(std.Err, "casemate: nothing was chosen, so nothing was applied")
		return nil
	}
	return apply(std, r, o, false)
}

type patching struct {
	std *IO
	r   *session.Review
	o   *workspace.ApplyOptions
	ask *review.Asker
}

// item asks about one change, whole or hunk by hunk.
func (p *patching) item(it *review.Item) (quit bool) {
	hunks := p.r.Hunks(&it.Change)
	if hunks == nil || hunks.Len() < 2 && !canSplit(hunks) {
		return p.whole(it)
	}
	fmt.Fprintf(p.std.Out, "%s\n", it.Name())
	p.reason(it)
	if it.Protected != "" {
		p.ask.Fresh()
	}
	options := workspace.DiffOptions{Terminal: true, Color: p.std.Color}
	key, split := byte(0), false
	for i := 0; i < hunks.Len(); i++ {
		if key != 'a' {
			fmt.Fprint(p.std.Out, hunks.Text(i, options))
			key = p.ask.Key(fmt.Sprintf("(%d/%d) Apply this hunk [y,n,q,a,d,s,?]? ", i+1, hunks.Len()), "nyqads", patchHelp)
		}
		if split = key == 's'; split {
			if !hunks.Split(i) {
				fmt.Fprintln(p.std.Out, "It cannot be split further.")
			}
			i--
			continue
		}
		if key == 'y' || key == 'a' {
			hunks.Choose(i)
		}
		if key == 'q' || key == 'd' || key == 0 {
			break
		}
	}
	p.take(it, hunks)
	return key == 'q' || key == 0
}

func canSplit(h *workspace.Hunks) bool { return h.Len() == 1 && h.Pieces(0) > 1 }

// take notes what was chosen of a file: all of it, or a part.
func (p *patching) take(it *review.Item, hunks *workspace.Hunks) {
	if hunks.Chosen() == 0 {
		return
	}
	p.o.Paths = append(p.o.Paths, it.Path)
	part := hunks.Partial()
	part.Consent = it.Protected != ""
	if hunks.Chosen() < hunks.Len() || part.Consent { // of a protected file, exactly the bytes that were shown
		p.o.Partial[it.Path] = part
	}
}

// reason says why a change needs thought.
func (p *patching) reason(it *review.Item) {
	for _, s := range []struct{ what, why string }{
		{"It would run on your machine: ", it.Protected}, {"You changed it too, and yours would be replaced: ", it.Conflict}, {"", it.ByName},
	} {
		if s.why != "" {
			fmt.Fprintf(p.std.Out, "%s%s\n", s.what, workspace.Visible(s.why))
		}
	}
}

// whole asks about a change that has no hunks: a new or deleted file, a link, a mode, a binary file, a conflict.
func (p *patching) whole(it *review.Item) (quit bool) {
	diff, err := review.Look(p.r.Layer, it, p.std.Color)
	if err != nil {
		fmt.Fprintf(p.std.Out, "%s: %s\n", it.Name(), workspace.Visible(err.Error()))
		return false
	}
	fmt.Fprintln(p.std.Out, diff.Text)
	p.reason(it)
	if it.Protected != "" || it.Conflict != "" {
		p.ask.Fresh()
	}
	key := p.ask.Key("(1/1) Apply this change [y,n,q,a,d,?]? ", "nyqad", patchHelp)
	if key == 'y' || key == 'a' {
		p.o.Paths = append(p.o.Paths, it.Path)
		if it.Protected != "" {
			p.o.Consent[it.Path] = diff.Digest
		}
		if it.Conflict != "" {
			p.o.Overwrite = append(p.o.Overwrite, it.Path)
		}
	}
	return key == 'q' || key == 0
}
