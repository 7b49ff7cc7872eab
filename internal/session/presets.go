package session

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"casemate.dev/internal/plan"
	"casemate.dev/internal/policy"
	"casemate.dev/internal/preset"
	"casemate.dev/internal/store"
)

// Presets is the machine as presets see it. Nothing of the project is believed.
func (p Person) Presets(project string) (*preset.Here, error) {
	st, err := store.Open(p.StateHome, p.Home)
	if err != nil {
		return nil, err
	}
	if project == p.Home { // that is none, see checkProject; or all that is the person's own would be taken for an agent's
		project = ""
	}
	return &preset.Here{Home: p.Home, Config: filepath.Dir(p.Config), Env: p.Environ, Project: project, Cache: filepath.Join(st.Root, "presets")}, nil
}

// AddPresets adds what the chosen presets open, as sources of their tier, and returns what the person should hear. A preset is chosen by a tier that is
// believed: an untrusted project's word adds none, and one that a level takes back adds none.
//
// NoPreset among them opens nothing, and keeps a command from taking an agent's preset by itself.
func (p Person) AddPresets(t *Tiers, project string) (notices []string, err error) {
	_, notices, err = p.addPresets(t, project, "", unasked)
	return notices, err
}

// NoPreset is the name that stands for no preset.
const NoPreset = "none"

// addPresets does it for a command, which may be an agent that has a preset: it is chosen by nobody, so that whatever anybody says of the network holds.
func (p Person) addPresets(t *Tiers, project, command string, login askedForLogin) (agents []preset.Found, notices []string, err error) {
	automatic := preset.OfCommand(command)
	if automatic == "" && !slices.ContainsFunc(t.Sources, func(s policy.Source) bool { return len(s.Doc.Presets) > 0 }) {
		return nil, nil, nil // and a start without presets pays nothing for them
	}
	merged, err := policy.Merge(t.Sources)
	if err != nil {
		return nil, nil, err
	}
	here, err := p.Presets(project)
	if err != nil {
		return nil, nil, err
	}
	list := merged.Presets
	if automatic != "" && !slices.ContainsFunc(list, func(v policy.Value[string]) bool { return v.V == automatic || v.V == NoPreset }) {
		list = append(slices.Clone(list), policy.Value[string]{V: automatic, Origin: policy.Origin{Tier: policy.Preset}})
	}
	var sources []policy.Source
	for _, chosen := range list {
		if chosen.V == NoPreset {
			continue
		}
		found, err := here.Find(chosen.V)
		if err != nil {
			err = fmt.Errorf("%s: %w", chosen.Origin, err)
			if chosen.Origin.Tier == policy.CommandLine && errors.As(err, new(*preset.Unknown)) {
				err = &BadFlag{err}
			}
			return nil, nil, err
		}
		if found.Preset.Agent != nil {
			agents = append(agents, found)
		}
		if len(found.Openings) == 0 {
			nothing := opensNothing(found)
			if chosen.Origin.Tier == policy.CommandLine {
				return nil, nil, nothing
			}
			notices = append(notices, fmt.Sprintf("%s: %v", chosen.Origin, nothing))
		}
		for _, w := range found.Warnings {
			notices = append(notices, "preset "+chosen.V+": "+w)
		}
		use, err := p.loginUse(found, chosen.Origin.Tier, merged, t.Sources, login)
		if err != nil {
			return nil, nil, err
		}
		own, err := p.agentSources(found, use, chosen.Origin.Tier, merged, t.Sources)
		if err != nil {
			return nil, nil, fmt.Errorf("preset %s: %w", chosen.V, err)
		}
		sources = append(sources, own...)
	}
	t.Sources = append(sources, t.Sources...)
	return agents, notices, nil
}

// opensNothing says why no host was found, and what to do.
func opensNothing(f preset.Found) error {
	why := "no configuration here names its hosts"
	switch {
	case len(f.Warnings) > 0:
		why = f.Warnings[len(f.Warnings)-1]
	case f.Tool == "":
		why = "its tool is not installed, and " + why
	case len(f.Notes) > len(f.Preset.Notes):
		why = f.Notes[len(f.Notes)-1]
	}
	return &Refusal{fmt.Errorf("preset %s opens nothing: %s", f.Preset.Name, why), "name the hosts yourself (--allow HOST), or write a preset of your own; casemate preset show " + f.Preset.Name + " says where"}
}

// MissingPresets names the presets that would have allowed what was denied, for the tools whose lockfiles lie in the project, and those of which only their
// tools could say whether they would. Those are not asked: a lockfile is the project's word, and it must not make casemate execute a program out here. Where
// the command was one that installs, the person has said it. Names of presets that hold already are left out: what they did not open, they would not.
func (r *Run) MissingPresets(denied []Denial) (would, might []string) {
	if len(denied) == 0 || r.Project == "" {
		return nil, nil
	}
	here, err := r.Person.Presets(r.Project)
	if err != nil {
		return nil, nil
	}
	for _, name := range here.Names() {
		if slices.ContainsFunc(r.Policy.Presets, func(v policy.Value[string]) bool { return v.V == name }) {
			continue
		}
		p, err := here.Load(name)
		if err != nil || !slices.ContainsFunc(p.Lockfiles, here.HasProjectFile) {
			continue
		}
		switch found, whole, err := here.Known(name); {
		case err != nil:
		case !whole && r.installs(p), slices.ContainsFunc(denied, func(d Denial) bool { return wouldOpen(found, d) }):
			would = append(would, name)
		case !whole:
			might = append(might, name)
		}
	}
	return would, might
}

// OfflineInstall is the preset of the command, where it was one that installs, had no network at all and failed: nothing was denied then that could be
// listed, since there was no gate.
func (r *Run) OfflineInstall(res Result) string {
	if res.Exit == 0 || r.Plan.Network.Kind != plan.NoNetwork {
		return ""
	}
	here, err := r.Person.Presets(r.Project)
	if err != nil {
		return ""
	}
	for _, name := range here.Names() {
		p, err := here.Load(name)
		if err == nil && r.installs(p) {
			return name
		}
	}
	return ""
}

// installs says whether the run's own command is one that installs by the preset.
func (r *Run) installs(p preset.Preset) bool {
	argv := r.Plan.Command.Argv
	return len(argv) > 1 && slices.Contains(p.Tools, filepath.Base(argv[0])) && slices.Contains(p.Installs, argv[1])
}

func wouldOpen(f preset.Found, d Denial) bool {
	return slices.ContainsFunc(f.Openings, func(o preset.Opening) bool {
		match, err := policy.MatchHost(o.Host, d.Name)
		return err == nil && match && (d.Port == 0 || d.Port == o.Port) && (d.method == "" || o.Takes(d.method))
	})
}
