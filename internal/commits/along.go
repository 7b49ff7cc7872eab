package commits

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
)

// bringsAlong adds what a merge of these commits would bring into the branch that is checked out and that none of them makes: they may build on, or
// merge, commits that the host has and nobody has taken yet, such as a stranger's branch that was fetched to be looked at. Only what the host would
// execute counts. list is the commits inside that the host has not, as they are there, parents first.
func (t *Transfer) bringsAlong(ctx context.Context, list []byte) error {
	if t.head == "" {
		return nil
	}
	taken := []string{"merge-base", t.Inside.Commit, t.head}
	for line := range bytes.Lines(list) {
		if hash := string(bytes.TrimSpace(line)); t.done[hash] != "" {
			taken = append(taken[:3], hash) // what leads to it was judged before
		}
	}
	base, err := t.checked.line(ctx, taken...)
	if base == "" || err != nil {
		return ignoreStatus(err, 1) // the histories have nothing in common, and then all of it is new
	}
	raw, err := t.checked.run(ctx, nil, append(rawDiff(), base, t.Inside.Commit)...)
	if err != nil {
		return err
	}
	brought, err := t.parseChanges(ctx, raw)
	if err != nil {
		return err
	}
	t.base, t.along = base, map[string]bool{}
	made := map[string]bool{}
	for i := range t.Changes {
		made[t.Changes[i].Path] = true
	}
	for _, c := range t.o.Judge.JudgeCommits(brought) {
		if c.Protected != "" && !made[c.Path] {
			c.Refused = "" // the host has it
			c.Protected += ", and it comes along from a commit that is not in what you have checked out"
			t.along[c.Path] = true
			t.Changes = append(t.Changes, c)
		}
	}
	return nil
}

// ignoreStatus takes an exit status of git that is no mistake for none.
func ignoreStatus(err error, status int) error {
	var f *failed
	var exit *exec.ExitError
	if errors.As(err, &f) && f.status == status || errors.As(err, &exit) && exit.ExitCode() == status {
		return nil
	}
	return err
}
