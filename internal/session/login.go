package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"casemate.dev/internal/plan"
	"casemate.dev/internal/policy"
	"casemate.dev/internal/preset"
	"casemate.dev/internal/secret/ask"
	"casemate.dev/internal/store"
	"golang.org/x/sys/unix"
)

// What may be said of a person's login in Options.
const (
	LoginYes = "yes" // it is used in this run, and no key; where it is no secret yet, it becomes one
	LoginNo  = "no"  // it is not used in this run
	LoginAsk = "ask" // they are asked again
)

// loginUse is how an agent's login is among its secrets.
type loginUse int

const (
	loginIfNoKey loginUse = iota
	loginNever
	loginOnly
)

// askedForLogin decides how a person's login is among an agent's secrets; barred is why it cannot be.
type askedForLogin func(f preset.Found, chosen policy.Tier, merged *policy.Policy, barred error) (loginUse, error)

// unasked is for where nobody is asked.
func unasked(preset.Found, policy.Tier, *policy.Policy, error) (loginUse, error) {
	return loginIfNoKey, nil
}

// loginUse has it decided for an agent that can use a login.
func (p Person) loginUse(f preset.Found, chosen policy.Tier, merged *policy.Policy, others []policy.Source, asked askedForLogin) (loginUse, error) {
	if f.Preset.Agent == nil || f.Preset.Agent.Login == nil {
		return loginIfNoKey, nil
	}
	own, err := f.Sources(chosen, f.Preset.Agent.Secrets())
	if err == nil {
		_, err = policy.Merge(slices.Concat(own, others)) // fails where an organisation has locked them
	}
	return asked(f, chosen, merged, err)
}

// useLogin decides on the person's login before an agent's preset is taken. The login itself is never looked at here: what it is, casemate-secret says.
func (r *Run) useLogin(f preset.Found, chosen policy.Tier, merged *policy.Policy, barred error) (loginUse, error) {
	a, o := f.Preset.Agent, r.Options
	said := slices.IndexFunc(a.Secrets(), func(s policy.Secret) bool { return saidOtherwise(merged, s) })
	switch {
	case o.Login == LoginNo:
		return loginNever, nil
	case barred != nil && o.Login == LoginYes:
		return loginOnly, fmt.Errorf("--login yes: %w", barred)
	case barred != nil:
		return loginNever, nil
	case o.Login == LoginYes && said >= 0:
		return loginOnly, &Refusal{fmt.Errorf("--login yes, and %s or a secret of its name is given otherwise", a.Secrets()[said].Env), "leave one of them out: --env, env and secrets of a policy are your word, too"}
	case o.Login == LoginYes && o.DryRun:
		return loginOnly, nil
	case o.Login == LoginYes:
		return loginOnly, r.takeLogin(f)
	case said < 0 && o.DryRun:
		if _, answered := r.Person.loginAnswer(a); !answered && len(r.Person.logins(a)) > 0 {
			r.notice("preset %s: you are logged in here; where the store has no key, the first run on a terminal asks whether your login is used (casemate run --login)", f.Preset.Name)
		}
	case said < 0 && r.mayAskForLogin(f, chosen):
		return r.askForLogin(f)
	}
	return loginIfNoKey, nil
}

// mayAskForLogin says whether the person is there, logged in, and has not answered yet. A project whose policy chooses a preset asks nobody for a login.
func (r *Run) mayAskForLogin(f preset.Found, chosen policy.Tier) bool {
	o := r.Options
	if !o.Attended || o.AskLogin == nil || len(o.Command) == 0 || preset.OfCommand(o.Command[0]) != f.Preset.Name && chosen != policy.CommandLine {
		return false
	}
	if o.Login == LoginAsk {
		return true
	}
	_, answered := r.Person.loginAnswer(f.Preset.Agent)
	return !answered && len(r.Person.logins(f.Preset.Agent)) > 0
}

// askForLogin asks, unless the store has a key or the login already.
func (r *Run) askForLogin(f preset.Found) (loginUse, error) {
	a := f.Preset.Agent
	names := []string{a.Login.Name}
	if a.Secret != nil {
		names = append(names, a.Secret.Name)
	}
	there, err := r.aboutLogin(append([]string{"look"}, names...)...)
	again := r.Options.Login == LoginAsk
	switch {
	case again && err != nil:
		return loginNever, err
	case !again && (err != nil || len(there.Have) > 0): // nobody asked for it
		return loginIfNoKey, nil
	}
	yes, ok := r.Options.AskLogin(strings.ToUpper(f.Preset.Name[:1]) + f.Preset.Name[1:])
	switch {
	case !ok:
		return loginNever, ErrNoAnswer
	case !yes:
		if slices.Contains(there.Have, a.Login.Name) {
			r.notice("your login is not used in this run (casemate secret rm %s takes it back for good)", a.Login.Name)
		}
		return loginNever, r.Person.rememberLogin(a, false)
	}
	return loginIfNoKey, r.takeLogin(f)
}

// takeLogin makes a secret of the login, for sandboxes with this preset alone, where it is none yet.
func (r *Run) takeLogin(f preset.Found) error {
	a := f.Preset.Agent
	there, err := r.aboutLogin(append([]string{"take", a.Login.Name, f.Preset.Name}, a.Login.Hosts...)...)
	if err != nil {
		return err
	}
	if there.Made {
		r.notice("your login stays outside, and the gate puts it in at %s (casemate secret rm %s takes that back)", strings.Join(a.Login.Hosts, ", "), a.Login.Name)
	}
	return r.Person.rememberLogin(a, true)
}

// settleLogins ends what a plan said of logins, once the store has said which secrets it has: an agent's command is told to use its login, or what the login
// alone opens is closed again.
func (r *Run) settleLogins() error {
	for _, f := range r.agents {
		a := f.Preset.Agent
		if a.Login == nil {
			continue
		}
		used := slices.ContainsFunc(r.Plan.Secrets, func(s plan.Secret) bool { return s.Name == a.Login.Name && s.Env == a.Login.Env })
		argv := r.Plan.Command.Argv
		switch {
		case used && preset.OfCommand(argv[0]) == f.Preset.Name:
			r.Plan.Command.Argv = slices.Concat(argv[:1], a.Login.Args, argv[1:])
		case !used && len(a.Login.Paths) > 0:
			if err := r.withoutLogin(a, f.Preset.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Run) withoutLogin(a *preset.Agent, name string) (err error) {
	isLogin := func(v policy.Value[policy.Secret]) bool { return a.IsLogin(v.V.Name) }
	r.tiers.Sources = slices.DeleteFunc(r.tiers.Sources, func(s policy.Source) bool {
		return s.Tier == policy.Preset && s.Doc.Name == name && slices.ContainsFunc(s.Doc.Secrets, isLogin)
	})
	if r.Policy, err = policy.Merge(r.tiers.Sources); err != nil {
		return err
	}
	now, _ := plan.Resolve(r.Policy.Network, time.Now())
	r.Plan.Network.Allow = now.Allow
	r.Plan.Secrets = slices.DeleteFunc(r.Plan.Secrets, func(s plan.Secret) bool {
		return a.IsLogin(s.Name) && strings.HasPrefix(s.Origin, policy.Preset.String()+" ")
	})
	return nil
}

// loginAnswers is the directory of what a person has answered about their logins, for all their projects.
const loginAnswers = "logins"

// loginAnswer is what they answered, if they did.
func (p Person) loginAnswer(a *preset.Agent) (yes, answered bool) {
	st, err := store.Open(p.StateHome, p.Home)
	if err != nil {
		return false, false
	}
	text, err := store.Read(filepath.Join(st.Root, loginAnswers, a.Login.Name), 64)
	return string(text) == LoginYes+"\n", err == nil || !errors.Is(err, fs.ErrNotExist)
}

func (p Person) rememberLogin(a *preset.Agent, yes bool) error {
	st, err := store.Open(p.StateHome, p.Home)
	if err != nil {
		return err
	}
	dir := filepath.Join(st.Root, loginAnswers)
	if err := store.MakeDir(dir); err != nil {
		return err
	}
	answer := LoginNo
	if yes {
		answer = LoginYes
	}
	return store.WriteFile(filepath.Join(dir, a.Login.Name), []byte(answer+"\n"), 0o600)
}

// logins are the files there are of an agent's logins. They are never opened.
func (p Person) logins(a *preset.Agent) (list []string) {
	for _, l := range a.Logins {
		home, rel := p.Home, l
		if dir := p.getenv(a.Where); a.Where != "" && dir != "" {
			home, rel = dir, filepath.Base(l)
		}
		if isFileIn(home, rel, 0) {
			list = append(list, filepath.Join(home, rel))
		}
	}
	return list
}

// aboutLogin has casemate-secret look or do something. It may ask for the store's passphrase.
func (r *Run) aboutLogin(args ...string) (said ask.OfLogin, err error) {
	program, err := sibling("casemate-secret")
	if err != nil {
		return said, err
	}
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return said, err
	}
	defer null.Close()
	out, in, err := os.Pipe()
	if err != nil {
		return said, err
	}
	defer out.Close()
	attr := &os.ProcAttr{Dir: "/", Env: r.Person.Environ, Files: []*os.File{null, in, null}, Sys: &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}}
	process, err := os.StartProcess(program, append([]string{program, ask.LoginVerb}, args...), attr)
	in.Close()
	if err != nil {
		return said, fmt.Errorf("casemate-secret: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(out, 1<<16))
	state, waited := process.Wait()
	if err = errors.Join(err, waited); err != nil {
		return said, err
	}
	if json.Unmarshal(text, &said) != nil {
		return said, &Refusal{fmt.Errorf("casemate-secret ended with %v", state), "casemate-secret must be of the same build as casemate: make install installs both"}
	}
	if said.Error != "" {
		return said, &Refusal{errors.New(said.Error), said.Hint}
	}
	return said, nil
}
