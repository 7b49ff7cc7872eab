package preset

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"casemate.dev/internal/policy"
	"casemate.dev/internal/store"
)

// Agent is what a preset says of an AI agent, beside what it opens.
type Agent struct {
	Tested  string   `yaml:"tested,omitempty" json:"tested,omitempty"` // the version that the tests run; empty: nobody has tried
	Home    []string `yaml:"home,omitempty" json:"home,omitempty"`     // what it keeps in its home
	Logins  []string `yaml:"logins,omitempty" json:"logins,omitempty"` // files of a home that are there where somebody has logged in
	Where   string   `yaml:"where,omitempty" json:"where,omitempty"`   // a variable of the person's that names another directory for the one of its logins
	Secret  *Secret  `yaml:"secret,omitempty" json:"secret,omitempty"`
	Login   *Login   `yaml:"login,omitempty" json:"login,omitempty"`     // its login, where the person uses that and no key: a name that casemate secret set --from login takes
	Imports []string `yaml:"imports,omitempty" json:"imports,omitempty"` // files and directories of a home that are the person's own inside, read-only
	Lays    []Lay    `yaml:"lays,omitempty" json:"lays,omitempty"`
	Sandbox string   `yaml:"sandbox" json:"sandbox"` // what becomes of its own inner sandbox
	Cannot  []string `yaml:"cannot,omitempty" json:"cannot,omitempty"`
}

// Secret is the agent's credential as a policy's secrets name it. It stays outside: nothing here holds its value.
type Secret struct {
	Name  string   `yaml:"name" json:"name"`
	Env   string   `yaml:"env" json:"env"`
	Hosts []string `yaml:"hosts" json:"hosts"`
	Place string   `yaml:"place,omitempty" json:"place,omitempty"`
	Paths []string `yaml:"paths,omitempty" json:"paths,omitempty"` // of the requests; all when empty
}

// Login is one that the person has made with the agent outside. Where its requests have paths, its hosts are no others of the preset's: they are open for those
// requests, and only where the login is used.
type Login struct {
	Secret `yaml:",inline"`
	Beside *Secret  `yaml:"beside,omitempty" json:"beside,omitempty"` // what goes with it in each request
	Args   []string `yaml:"args,omitempty" json:"args,omitempty"`     // tell the agent's command to use it
}

// FromLogin is what rules of such hosts say of where they come from.
const FromLogin = "where your login is used"

// Rule is the secret as a policy has it: there is none where the store has none.
func (s *Secret) Rule() policy.Secret {
	return policy.Secret{Name: s.Name, Env: s.Env, Hosts: s.Hosts, Ports: []int{443}, Place: s.Place, Paths: s.Paths, Optional: true}
}

// Secrets are what an agent can use: its key, and where there is none, its login.
func (a *Agent) Secrets() (list []policy.Secret) {
	if a.Secret != nil {
		list = append(list, a.Secret.Rule())
	}
	for _, s := range a.Login.secrets() {
		login := s.Rule()
		if a.Secret != nil {
			login.Unless = a.Secret.Name
		}
		list = append(list, login)
	}
	return list
}

func (l *Login) secrets() (list []*Secret) {
	if l != nil {
		list = append(list, &l.Secret)
	}
	if l != nil && l.Beside != nil {
		list = append(list, l.Beside)
	}
	return list
}

// IsLogin says whether a secret is the agent's login, or a part of it.
func (a *Agent) IsLogin(name string) bool {
	return slices.ContainsFunc(a.Login.secrets(), func(s *Secret) bool { return s.Name == name })
}

// Sources are what a preset says, with those secrets of its agent, for the policy. What its login alone opens is the last, and apart.
func (f *Found) Sources(chosen policy.Tier, secrets []policy.Secret) ([]policy.Source, error) {
	a := f.Preset.Agent
	if a == nil || a.Login == nil || len(a.Login.Paths) == 0 {
		src, err := f.Source(chosen, secrets)
		return []policy.Source{src}, err
	}
	var others, login []policy.Secret
	for _, s := range secrets {
		if a.IsLogin(s.Name) {
			login = append(login, s)
		} else {
			others = append(others, s)
		}
	}
	src, err := f.Source(chosen, others)
	list := []policy.Source{src}
	if len(login) == 0 || err != nil {
		return list, err
	}
	var opens []policy.Opens
	for _, h := range a.Login.Hosts {
		opens = append(opens, policy.Opens{Host: h, Paths: a.Login.Paths, From: FromLogin})
	}
	src, err = policy.PresetSource(f.Preset.Name, chosen, opens, nil, login)
	return append(list, src), err
}

// Lay is a file of settings that the sandbox's home gets where it has none of that name: it is the agent's own from then on.
type Lay struct {
	File string   `yaml:"file" json:"file"`
	Text string   `yaml:"text,omitempty" json:"text,omitempty"`
	Keep []string `yaml:"keep,omitempty" json:"keep,omitempty"` // settings that are taken from the person's file, where they are one plain value
}

// OfCommand is the agents' preset that a command takes by itself, or "": by its base name, and without a look at the disk, as every run asks.
func OfCommand(argv0 string) string {
	name := filepath.Base(argv0)
	if name == "cn" { // Continue calls itself so
		name = "continue"
	}
	if slices.Contains(agents[:], name) {
		return name
	}
	return ""
}

// Commands are those that take a preset by themselves.
func Commands() []string { return append(slices.Clone(agents[:]), "cn") }

// agents are the built-in presets of agents.
var agents = [...]string{"aider", "claude", "cline", "codex", "continue", "gemini", "goose", "opencode", "qwen"}

// Agents lists the presets of agents, a person's own among them.
func (h *Here) Agents() (list []Found, err error) {
	for _, name := range h.Names() {
		p, broken := h.Load(name)
		if broken != nil {
			err = broken // one file that is wrong hides no other
			continue
		}
		if p.Agent == nil {
			continue
		}
		found, broken := h.Find(name)
		if broken != nil {
			err = broken
			continue
		}
		list = append(list, found)
	}
	return list, err
}

// checkAgent refuses what would reach beyond a home.
func (p *Preset) checkAgent(where string) error {
	for name := range p.Set {
		if _, err := policy.PresetSource(p.Name, policy.Preset, nil, []policy.Variable{{Name: name}}, nil); err != nil {
			return fmt.Errorf("%s: set: %w", where, err)
		}
	}
	if p.Agent == nil {
		return nil
	}
	if _, err := (&Found{Preset: *p}).Sources(policy.Preset, p.Agent.Secrets()); err != nil {
		return fmt.Errorf("%s: agent: %w", where, err)
	}
	paths := slices.Concat(p.Agent.Home, p.Agent.Imports, p.Agent.Logins)
	for _, l := range p.Agent.Lays {
		paths = append(paths, l.File)
		if _, err := l.Content(""); err != nil {
			return fmt.Errorf("%s: lays: %s: %w", where, l.File, err)
		}
	}
	for _, path := range paths {
		if path == "." || !filepath.IsLocal(path) || filepath.Clean(path) != path {
			return fmt.Errorf("%s: agent: %q is no path below a home", where, path)
		}
	}
	if slices.ContainsFunc(p.Agent.Imports, func(i string) bool {
		return slices.ContainsFunc(p.Agent.Logins, func(l string) bool { return within(l, i) })
	}) {
		return fmt.Errorf("%s: agent: imports would show a login inside", where)
	}
	return nil
}

// variables are what the preset itself sets, in the order of their names.
func (p *Preset) variables() (list []policy.Variable) {
	for _, name := range slices.Sorted(maps.Keys(p.Set)) {
		list = append(list, policy.Variable{Name: name, Value: p.Set[name]})
	}
	return list
}

// Import is a place of the person's home that is shown inside under the same name.
type Import struct {
	Path   string // below a home
	Source string // on the host, without links
	File   bool
}

// Imports are those that there are here. A link of the person's is followed, as settings often lie in a repository of such files; what an agent can write is
// not believed.
func (h *Here) Imports(a *Agent) (list []Import, warnings []string) {
	for _, rel := range a.Imports {
		named := h.in(rel)
		real, err := filepath.EvalSymlinks(named)
		if err != nil {
			continue
		}
		st, err := lstat(real)
		switch {
		case err != nil || !st.dir && !st.file:
			continue
		case h.ofProject(named):
			warnings = append(warnings, h.at(named, 0)+" lies in the project, where an agent can write, and is not taken")
		case st.foreign:
			warnings = append(warnings, h.at(named, 0)+" belongs to somebody else, or others can write it, and is not taken")
		case within(h.Home, real):
			warnings = append(warnings, h.at(named, 0)+" is your whole home, and is not taken")
		default:
			list = append(list, Import{rel, real, st.file})
		}
	}
	return list, warnings
}

// Laid is what a file of settings is to hold here.
func (h *Here) Laid(l Lay) (string, error) {
	host := ""
	if len(l.Keep) > 0 && !h.ofProject(h.in(l.File)) {
		if text, err := store.Read(h.in(l.File), maxFile); err == nil {
			host = string(text)
		}
	}
	return l.Content(host)
}

// Content is the text with those settings of the person's file that are named, and nothing else of it: whatever a later version may keep there stays out.
func (l Lay) Content(host string) (string, error) {
	if strings.HasSuffix(l.File, ".json") {
		return l.json(host)
	}
	return l.toml(host), nil
}

func (l Lay) json(host string) (string, error) {
	own := map[string]any{}
	if l.Text != "" {
		if err := json.Unmarshal([]byte(l.Text), &own); err != nil {
			return "", fmt.Errorf("its text is no JSON: %w", err)
		}
	}
	var persons map[string]any
	if json.Unmarshal([]byte(host), &persons) == nil { // one with comments, or a broken one, gives nothing
		for _, key := range l.Keep {
			keep(own, persons, strings.Split(key, "."))
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(own)
	return b.String(), err
}

// keep copies one plain value. What the preset itself says of it wins.
func keep(to, from map[string]any, path []string) {
	value, there := from[path[0]]
	if !there {
		return
	}
	if len(path) == 1 {
		switch value.(type) {
		case string, bool, float64:
			if _, said := to[path[0]]; !said {
				to[path[0]] = value
			}
		}
		return
	}
	inner, ok := value.(map[string]any)
	if !ok {
		return
	}
	under, ok := to[path[0]].(map[string]any)
	if !ok {
		under = map[string]any{}
	}
	if keep(under, inner, path[1:]); len(under) > 0 {
		to[path[0]] = under
	}
}

// toml puts the lines of the person's file before the text, as its tables end what belongs to none.
func (l Lay) toml(host string) string {
	var b strings.Builder
	for line := range strings.Lines(host) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			break
		}
		key, value, ok := strings.Cut(line, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !ok || !slices.Contains(l.Keep, key) || !isPlainTOML(value) {
			continue
		}
		b.WriteString(key + " = " + value + "\n")
	}
	return b.String() + l.Text
}

// isPlainTOML is true for a text of one line without escapes, a number or a truth value.
func isPlainTOML(value string) bool {
	if inner, ok := strings.CutPrefix(value, `"`); ok {
		inner, ok = strings.CutSuffix(inner, `"`)
		return ok && !strings.ContainsAny(inner, "\"\\")
	}
	return value != "" && strings.Trim(value, "abcdefghijklmnopqrstuvwxyz0123456789._-") == ""
}
