package session

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"

	"casemate.dev/internal/policy"
	"casemate.dev/internal/store"
)

// agents are the commands that are known to be AI agents: for them it matters whether an editor is open on the project.
var agents = [...]string{"aider", "amp", "claude", "cline", "cn", "codex", "copilot", "crush", "cursor-agent", "gemini", "goose", "opencode", "qwen"}

// ErrNoAnswer says that the person did not answer: nothing is to be run.
var ErrNoAnswer = errors.New("there was no answer, so nothing was run")

// answerFile is where a project's answer is kept, in its state directory: no sandbox reaches it.
const answerFile = "workspace"

// live reports whether an agent's run in this project shall be live because the person said so once. It asks, if somebody is there to be asked
// and no policy says anything.
func (r *Run) wantsLive() (bool, error) {
	o := r.Options
	if !o.Attended && !o.Answered || r.Project == "" || len(o.Command) == 0 || !o.Answered && !slices.Contains(agents[:], filepath.Base(o.Command[0])) {
		return false, nil
	}
	if at := r.Policy.Files.Workspace; at.Origin.Tier != policy.LevelTier || at.V != policy.Held {
		return false, nil
	}
	st, err := store.Open(r.Person.StateHome, r.Person.Home)
	if err != nil {
		return false, err
	}
	dir := st.Project(r.Project)
	answer, err := store.Read(filepath.Join(dir, answerFile), 64)
	switch {
	case o.AskAgain && o.Ask != nil:
	case err == nil && string(answer) == string(policy.Live)+"\n":
		return true, nil
	case err == nil:
		return false, nil
	case !errors.Is(err, fs.ErrNotExist) || o.Ask == nil:
		return false, nil
	}
	said, ok := o.Ask()
	if !ok {
		return false, ErrNoAnswer
	}
	if err := store.MakeDir(dir); err != nil {
		return false, err
	}
	return said == policy.Live, store.WriteFile(filepath.Join(dir, answerFile), []byte(string(said)+"\n"), 0o600)
}

// yourAnswer is what origins call it.
const yourAnswer = "your answer"

// merge makes one policy of the tiers, and of what the person answered once about this project, which any policy file overrules.
func (r *Run) merge(tiers *Tiers) (err error) {
	if r.Policy, err = policy.Merge(tiers.Sources); err != nil {
		return err
	}
	live, err := r.wantsLive()
	if err != nil || !live {
		return err
	}
	doc, err := policy.Parse(yourAnswer, []byte("files: {workspace: live}\n"))
	if err != nil {
		return err
	}
	answer := policy.Source{Tier: policy.User, Name: yourAnswer, Doc: doc}
	at := slices.IndexFunc(tiers.Sources, func(s policy.Source) bool { return s.Tier != policy.Organisation })
	tiers.Sources = slices.Insert(tiers.Sources, at, answer)
	r.notice("live, as you answered once for this project: changes appear at once, casemate undo brings them back (--workspace held for once; casemate run --workspace ask asks again)")
	r.Policy, err = policy.Merge(tiers.Sources)
	return err
}
