// Package preset says which hosts a known tool chain installs from, as the tool's own configuration names them.
//
// A preset is data: what is fixed stands in its file, and for a package registry the file says only who is asked. No registry's host is written
// down here, so that mirrors and private registries need no word of anybody's, and a registry that moves breaks nothing.
package preset

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"casemate.dev/internal/policy"
	"casemate.dev/internal/store"
	"go.yaml.in/yaml/v3"
)

//go:embed data/*.yaml
var data embed.FS

// Preset is what a known tool chain needs.
type Preset struct {
	Name        string     `yaml:"-" json:"name"`
	File        string     `yaml:"-" json:"file,omitempty"` // of a person's own; empty: built in
	Description string     `yaml:"description" json:"description"`
	Source      string     `yaml:"source" json:"source"`                           // the vendor's own words about these hosts or this configuration
	Tools       []string   `yaml:"tools,omitempty" json:"tools,omitempty"`         // programs, any of which makes it useful
	Hosts       []Host     `yaml:"hosts,omitempty" json:"-"`                       // what is fixed
	From        []string   `yaml:"from,omitempty" json:"from,omitempty"`           // whose configuration is asked: see Askable
	Requests    []Requests `yaml:"requests,omitempty" json:"requests,omitempty"`   // what is allowed at all of these; none: everything
	Whole       []Host     `yaml:"whole,omitempty" json:"-"`                       // what is fixed, and allows everything whatever Requests are
	Lockfiles   []string   `yaml:"lockfiles,omitempty" json:"lockfiles,omitempty"` // files of a project that installs by it
	Installs    []string   `yaml:"installs,omitempty" json:"installs,omitempty"`   // arguments by which the programs install
	Notes       []string   `yaml:"notes,omitempty" json:"-"`                       // what a person should know

	Set   map[string]string `yaml:"set,omitempty" json:"-"`                 // variables inside
	Agent *Agent            `yaml:"agent,omitempty" json:"agent,omitempty"` // nil: it is of a tool chain
}

// Requests are what a preset allows of what can be asked of its hosts: each of the methods on each of the paths.
type Requests struct {
	Methods []string `yaml:"methods,omitempty" json:"methods,omitempty"`
	Paths   []string `yaml:"paths,omitempty" json:"paths,omitempty"`
}

// String is one line.
func (r Requests) String() string {
	text := strings.Join(r.Methods, ", ")
	if text == "" {
		text = "all methods"
	}
	if len(r.Paths) > 0 {
		text += " of " + strings.Join(r.Paths, ", ")
	}
	return text
}

// ReadOnly is true where what a preset opens can be read and not written. The built-in ones were looked at: what they allow beside GET and HEAD asks a
// question in its body.
func (p *Preset) ReadOnly() bool {
	if p.File == "" {
		return len(p.Requests) > 0 && len(p.Whole) == 0
	}
	writes := func(m string) bool { return m != "GET" && m != "HEAD" }
	return len(p.Requests) > 0 && len(p.Whole) == 0 && !slices.ContainsFunc(p.Requests, func(r Requests) bool {
		return len(r.Methods) == 0 || slices.ContainsFunc(r.Methods, writes)
	})
}

// Host is a line of a preset: HOST or HOST:PORT, as --allow takes it.
type Host struct {
	Text string
	Line int
}

// UnmarshalYAML keeps the line.
func (h *Host) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		return fmt.Errorf("line %d: a host is text such as example.com or example.com:22", n.Line)
	}
	h.Text, h.Line = n.Value, n.Line
	return nil
}

// maxFile bounds a file that is read: nobody writes a longer one by hand.
const maxFile = 1 << 20

// Dir is where a person's own presets lie. A project has none: an agent could write there.
func (h *Here) Dir() string { return filepath.Join(h.Config, "casemate", "presets") }

// Names lists the presets there are, a person's own among them.
func (h *Here) Names() []string {
	var names []string
	built, _ := data.ReadDir("data") // embedded: it is there
	own, _ := os.ReadDir(h.Dir())
	for _, e := range slices.Concat(built, own) {
		if name, yes := strings.CutSuffix(e.Name(), ".yaml"); yes && isName(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Unknown says that there is no preset of a name.
type Unknown struct{ Name, near string }

func (u *Unknown) Error() string { return fmt.Sprintf("there is no preset %q", u.Name) }

// Hint names the nearest one.
func (u *Unknown) Hint() string {
	return strings.TrimSpace(u.near + " casemate preset list shows all")
}

// Load reads a preset: a person's own takes the place of the built-in one of the same name.
func (h *Here) Load(name string) (Preset, error) {
	if !isName(name) {
		return Preset{}, &Unknown{Name: name}
	}
	file := filepath.Join(h.Dir(), name+".yaml")
	text, err := store.Read(file, maxFile)
	switch {
	case err == nil && h.ofProject(file):
		return Preset{}, fmt.Errorf("preset %s lies in the project, where an agent can write, and is not believed", file)
	case err == nil:
		return parse(name, file, text)
	case !errors.Is(err, fs.ErrNotExist):
		return Preset{}, fmt.Errorf("preset %s: %w", name, err)
	}
	text, err = data.ReadFile(path.Join("data", name+".yaml"))
	if err != nil {
		return Preset{}, &Unknown{name, policy.DidYouMean(name, h.Names())}
	}
	return parse(name, "", text)
}

// parse reads a preset strictly: a word that nobody understands must not look as if it did something.
func parse(name, file string, text []byte) (Preset, error) {
	where := file
	if where == "" {
		where = "preset " + name
	}
	p := Preset{Name: name, File: file}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&p); err != nil && !errors.Is(err, io.EOF) {
		return p, fmt.Errorf("%s: %s", where, strings.ReplaceAll(strings.TrimPrefix(err.Error(), "yaml: "), "\n", " "))
	}
	for _, host := range slices.Concat(p.Hosts, p.Whole) {
		if _, err := policy.ParseAllow(host.Text); err != nil {
			return p, fmt.Errorf("%s:%d: %w", where, host.Line, err)
		}
	}
	for _, from := range p.From {
		if !slices.Contains(Askable(), from) {
			return p, fmt.Errorf("%s: from: %q cannot be asked; it can be one of %s", where, from, strings.Join(Askable(), ", "))
		}
	}
	for _, r := range p.Requests {
		if len(r.Methods)+len(r.Paths) == 0 {
			return p, fmt.Errorf("%s: requests: write methods, paths or both", where)
		}
		if err := policy.CheckRequests(r.Methods, r.Paths); err != nil {
			return p, fmt.Errorf("%s: requests: %w", where, err)
		}
	}
	if err := p.checkAgent(where); err != nil {
		return p, err
	}
	if len(p.Hosts)+len(p.Whole)+len(p.From) == 0 {
		return p, fmt.Errorf("%s: it opens nothing: write hosts, or from", where)
	}
	return p, nil
}

// isName is what policy takes as the name of a preset, so that it is the name of a file and no path.
func isName(name string) bool {
	ok := name != "" && len(name) <= 64 && name[0] != '-' && name[0] != '.' && name[0] != '_'
	for i := range len(name) {
		c := name[i]
		ok = ok && ('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_')
	}
	return ok
}
