package session

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"casemate.dev/internal/engine/native"
	"casemate.dev/internal/event"
	"casemate.dev/internal/gate/wire"
	"casemate.dev/internal/guest"
	"casemate.dev/internal/plan"
	"casemate.dev/internal/policy"
	"casemate.dev/internal/workspace"
)

const hostname = "casemate"

// view gathers what the command sees of the host's system: trees, tool chains, an /etc of its own, its environment.
func (r *Run) view(req *plan.Request) error {
	o := guest.Options{UID: r.Facts.EUID, Home: r.Person.Home, Project: r.Project, State: r.Store.Root, Env: r.Person.getenv}
	v := guest.Look(o)
	for _, p := range v.System {
		req.System = append(req.System, tree(p, ""))
	}
	command, err := v.Command(req.Argv[0], r.Person.Dir, o)
	var notExecutable *guest.CommandError
	if err != nil && !errors.As(err, &notExecutable) {
		return err
	}
	if req.Path = command.Path; notExecutable != nil {
		name := req.Argv[0]
		if notExecutable.Unseen {
			name = notExecutable.File
		}
		if req.Path = r.opened(name); req.Path == "" && !r.Options.DryRun {
			return &NotExecuted{notExecutable}
		}
	}
	if rel, err := filepath.Rel(r.Project, req.Path); req.Mode == plan.Landlock && req.Copy != "" && req.Path != "" && err == nil && within(req.Path, r.Project) {
		req.Path = filepath.Join(req.Copy, rel) // the copy is what the command sees of the project
	}
	v.Tools = append(v.Tools, command.Tools...)
	for _, t := range v.Tools {
		for _, p := range t.Places {
			req.Tools = append(req.Tools, tree(p, "found through PATH: "+t.Name))
		}
	}
	offline, resolver := !r.Policy.Network.Opens(), ""
	if !offline {
		resolver = wire.Resolver
	}
	git := guest.GitOptions{Home: r.Person.Home, ConfigHome: r.Person.getenv("XDG_CONFIG_HOME"), Project: r.Project, Safe: []string{r.Project}, Offline: offline}
	if r.Policy.Git.Identity.V == policy.IdentityNone {
		git.Home, git.ConfigHome = "", ""
	}
	trust := req.Mode != plan.Landlock && plan.OpensTLS(r.Policy, req.Now)
	if trust {
		git.Logins = gitLogins(r.Policy.Secrets)
	}
	places, err := r.shownOfEtc(req)
	if err != nil {
		return err
	}
	if r.etc, err = guest.Etc(r.Store.Etc(), guest.EtcOptions{
		UID: req.User.UID, GID: req.User.GID, Name: req.User.Name, Home: req.User.Home, Shell: "/bin/bash", Hostname: hostname, Resolver: resolver, Places: places, GitConfig: guest.GitConfig(git),
	}); err != nil {
		return err
	}
	req.Etc = r.etc.Path
	if trust {
		if err := r.trust(req, v); err != nil {
			return err
		}
	}
	options := guest.EnvOptions{
		Host: r.Person.Environ, Pass: values(r.Policy.Env.Pass), Set: variables(r.Policy.Env.Set), View: v,
		User: req.User.Name, Home: req.User.Home, Shell: "/bin/bash", Sandbox: r.id(), Offline: offline, Trust: trust,
	}
	if req.Mode == plan.Landlock {
		options.Tmp, options.GitConfig = req.Tmp, filepath.Join(r.etc.Path, "gitconfig")
		if req.Told = native.Announced(); !req.Told {
			r.notice("modes and times of files cannot be changed inside, and nothing watched, as somebody listens to our system calls already, such as a container: git, npm and others will fail")
		}
	}
	req.Env = guest.Env(options)
	return nil
}

// opened returns the path of a program that lies in what the policy lets the sandbox read, or "".
func (r *Run) opened(name string) string {
	if !strings.Contains(name, "/") {
		return ""
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(r.Person.Dir, name)
	}
	for _, v := range r.Policy.Files.Read {
		if dir := plan.Expand(v.V, r.Person.Home); within(filepath.Clean(name), dir) {
			return filepath.Clean(name)
		}
	}
	return ""
}

// NotExecuted says that there is no such command, or that it cannot be executed: the statuses 127 and 126.
type NotExecuted struct{ *guest.CommandError }

// Hint names the way out.
func (e *NotExecuted) Hint() string {
	switch {
	case e.Unseen:
		return "if it is an installation of your own: --read DIRECTORY shows it inside"
	case e.Denied:
		return "if it is a program: chmod +x; if it is a script, name its interpreter, such as: sh FILE"
	}
	return ""
}

func (r *Run) id() string {
	if r.Box == nil {
		return "new"
	}
	return r.Box.Record.ID
}

func tree(p guest.Place, why string) plan.Tree {
	return plan.Tree{Source: p.Source, Target: p.Target, Link: p.Link, File: p.File, Hide: p.Hide, Why: why}
}

func values(list []policy.Value[string]) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = v.V
	}
	return out
}

func variables(list []policy.Value[policy.Variable]) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = v.V.Name + "=" + v.V.Value
	}
	return out
}

func (p Person) getenv(name string) string {
	for _, kv := range p.Environ {
		if value, ok := strings.CutPrefix(kv, name+"="); ok {
			return value
		}
	}
	return ""
}

// hidePatterns makes one list of the policy's sets: in one list the last pattern that matches decides, so the organisation's come last,
// and its own exceptions are left out rather than let them reach what others hide.
func hidePatterns(f policy.Files) []string {
	sets := f.HideSets()
	list := slices.Clone(sets[0])
	for _, set := range sets[1:] {
		for _, p := range set {
			if !strings.HasPrefix(p, "!") {
				list = append(list, p)
			}
		}
	}
	return list
}

// mask brings the project's layer of whiteouts up to date, and tells what the project holds that a sandbox must be careful with.
func (r *Run) mask(req *plan.Request) error {
	hide, err := policy.CompilePaths(hidePatterns(r.Policy.Files))
	if err != nil {
		return err
	}
	r.hide = hide
	o, err := r.scanOptions(req)
	if err != nil {
		return err
	}
	m, err := workspace.PrepareMask(r.Project, hide, workspace.MaskOptions{ScanOptions: o, Dir: r.Store.Project(r.Project)})
	if err != nil {
		return err
	}
	r.masked, r.surveyed = m, m.Survey
	if err := r.elsewhere(m.Survey); err != nil {
		return err
	}
	req.Mask = m.Dir
	r.findings(m.Survey)
	return nil
}

// elsewhere refuses to show the project a second time under another path, where nothing of it would be hidden.
func (r *Run) elsewhere(s *workspace.Survey) error {
	for _, v := range r.Policy.Files.Read {
		shown := plan.Expand(v.V, r.Person.Home)
		for _, other := range s.Elsewhere {
			if within(other, shown) || within(shown, other) {
				return &Refusal{fmt.Errorf("files.read (%s): %s shows the project again, as it is mounted on %s too, with everything that is hidden in it", v.Origin, shown, other), "name a directory that does not hold that mount"}
			}
		}
	}
	return nil
}

// findings tells the person what cannot be handled silently.
func (r *Run) findings(s *workspace.Survey) {
	for _, h := range s.Hidden {
		if h.Tracked {
			r.notice("%s is hidden but git tracks it: its content stays readable in the repository's objects (git rm --cached %s, then rotate the secret)", workspace.Visible(h.Path), workspace.Visible(h.Path))
			r.events = append(r.events, event.Event{Kind: event.Warned, Subject: h.Path, Detail: "hidden and tracked by git"})
		}
	}
	for _, f := range s.Findings {
		if f.Answer == workspace.Reported && f.Kind != "tracked" && f.Kind != "gitdir" {
			r.notice("%s: %s", workspace.Visible(orProject(f.Path)), f.Detail)
		}
	}
}

func orProject(path string) string {
	if path == "" {
		return "the project"
	}
	return path
}
