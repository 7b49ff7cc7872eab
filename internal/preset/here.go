package preset

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"casemate.dev/internal/beneath"
	"casemate.dev/internal/policy"
	"casemate.dev/internal/store"
	"golang.org/x/sys/unix"
)

// Here is the person and the machine whose tools are asked.
type Here struct {
	Home    string
	Config  string   // of all programs: XDG_CONFIG_HOME, or what stands for it
	Root    string   // above /etc; "" but in tests
	Env     []string // the person's
	Project string   // "" for none. An agent can write in it: nothing in it is believed, and no program of it is executed
	Cache   string   // the directory with what tools have answered; "" keeps nothing

	dirs []string // of the PATH, once looked at
}

// Found is what a preset opens here.
type Found struct {
	Preset   Preset            `json:"preset"`
	Tool     string            `json:"tool,omitempty"` // the program's path; empty when none is installed
	Openings []Opening         `json:"openings"`
	Set      []policy.Variable `json:"set,omitempty"`      // what tells the tool inside where its registry is, and the like
	Warnings []string          `json:"warnings,omitempty"` // what the person should hear at each run
	Notes    []string          `json:"notes,omitempty"`    // what else is to be said about it
}

// Opening is one host, and where that stands.
type Opening struct {
	Host string `json:"host"`
	Port int    `json:"port"`
	From string `json:"from"` // a file with its line, a variable, a command, or built in
	// Private: the person's own configuration names it, so it may be a machine of a private network. Not so for what a tool has built in: whoever answers
	// for that name could otherwise send the sandbox there.
	Private bool `json:"private,omitempty"`
	// Requests are all that is allowed, and TLS is opened for them at the gate; none: everything is, and TLS is passed through.
	Requests []Requests `json:"requests,omitempty"`
}

// Target is what --allow takes.
func (o Opening) Target() string {
	return place{host: o.Host, port: o.Port}.target()
}

// Takes is true where requests of a method are allowed whatever their path.
func (o Opening) Takes(method string) bool {
	return len(o.Requests) == 0 || slices.ContainsFunc(o.Requests, func(r Requests) bool {
		return len(r.Paths) == 0 && (len(r.Methods) == 0 || slices.Contains(r.Methods, method))
	})
}

// Find says what a preset opens here. It executes the tool only where no file says it and nobody remembers what it answered.
func (h *Here) Find(name string) (Found, error) {
	found, _, err := h.find(name, false)
	return found, err
}

// Known is Find for a preset that nobody has chosen, such as one that a file of the project speaks for: it executes nothing. The answer is whole where no
// tool would have to be asked.
func (h *Here) Known(name string) (found Found, whole bool, err error) { return h.find(name, true) }

func (h *Here) find(name string, idle bool) (found Found, whole bool, err error) {
	p, err := h.Load(name)
	if err != nil {
		return found, false, err
	}
	s := &search{Here: h, found: Found{Preset: p, Set: p.variables(), Notes: p.Notes}, idle: idle}
	s.found.Tool = h.lookFor(p.Tools...)
	for i, host := range slices.Concat(p.Hosts, p.Whole) {
		requests := p.Requests
		if i >= len(p.Hosts) {
			requests = nil
		}
		from := "built in"
		if p.File != "" {
			from = s.at(p.File, host.Line)
		}
		rule, err := policy.ParseAllow(host.Text)
		if err != nil {
			return found, false, err
		}
		for _, port := range rule.Ports {
			s.found.Openings = append(s.found.Openings, Opening{Host: rule.Host, Port: port, From: from, Requests: requests})
		}
	}
	for _, from := range p.From {
		s.files = nil
		s.askAbout(from)
	}
	return s.found, !s.unasked, nil
}

// Source is what a preset says, for the policy: chosen is the tier that asked for the preset.
func (f *Found) Source(chosen policy.Tier, secrets []policy.Secret) (policy.Source, error) {
	var opens []policy.Opens
	for _, o := range f.Openings {
		one := policy.Opens{Host: o.Target(), From: o.From}
		if o.Private {
			one.Networks = private()
		}
		if len(o.Requests) == 0 {
			opens = append(opens, one)
		}
		for _, r := range o.Requests {
			one.Methods, one.Paths = r.Methods, r.Paths
			opens = append(opens, one)
		}
	}
	return policy.PresetSource(f.Preset.Name, chosen, opens, f.Set, secrets)
}

// private are the networks that a registry of one's own may be in: RFC 1918 and RFC 4193. Loopback, link-local and metadata addresses are never among them.
func private() []netip.Prefix {
	var list []netip.Prefix
	for _, p := range []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"} {
		list = append(list, netip.MustParsePrefix(p))
	}
	return list
}

// search is one question to one tool.
type search struct {
	*Here
	found   Found
	files   []string // what the answer depends on
	idle    bool     // no tool is executed
	unasked bool     // one would have been
}

func (s *search) warn(text string) { s.found.Warnings = append(s.found.Warnings, text) }
func (s *search) note(text string) { s.found.Notes = append(s.found.Notes, text) }

// open adds a host, once.
func (s *search) open(p place, from string, private bool) {
	if p.isLoopback() {
		s.warn(from + " names a registry of this machine's loopback, " + p.target() + ", which inside is the sandbox's own (network.host_ports of the policy makes its port reachable)")
		return
	}
	if p.scheme == "ssh" && len(s.found.Preset.Requests) > 0 {
		s.warn(from + " names a registry that is reached by ssh, into which nobody can look, so this preset, which is about some requests, does not open it (--allow " + p.target() + " would)")
		return
	}
	for _, o := range s.found.Openings {
		if o.Host == p.host && o.Port == p.port {
			return
		}
	}
	s.found.Openings = append(s.found.Openings, Opening{Host: p.host, Port: p.port, From: from, Private: private, Requests: s.found.Preset.Requests})
}

// openURL opens where a setting leads.
func (s *search) openURL(text, from string, private bool) (place, bool) {
	p, err := parsePlace(text)
	switch {
	case errors.Is(err, errLocal):
		return p, false
	case err != nil:
		s.warn(from + " names a registry that cannot be read: " + err.Error())
		return p, false
	}
	s.open(p, from, private)
	return p, true
}

// tell sets a variable for the tool inside: where its registry is, mostly. Files that say it are not inside, as they hold credentials.
func (s *search) tell(name, value string) {
	s.found.Set = append(s.found.Set, policy.Variable{Name: name, Value: value})
}

// tellPlace tells a URL, unless a part of it looks like a credential.
func (s *search) tellPlace(name string, p place, from string) {
	if p.token {
		s.warn(from + ": the registry's path looks like it holds a token, so it is not told to the tool inside (" + name + ")")
		return
	}
	s.tell(name, p.url())
}

// env is a variable of the person's environment.
func (h *Here) env(name string) string {
	for _, kv := range h.Env {
		if n, v, ok := strings.Cut(kv, "="); ok && n == name {
			return v
		}
	}
	return ""
}

// ofProject is true for what an agent can write: a path in the project or in casemate's own state, where the homes of sandboxes are, and one that leads
// through either. Where the last link ends is not enough: the agent could have laid it.
func (h *Here) ofProject(path string) bool {
	path = filepath.Clean(path)
	for range 40 { // as many links as the kernel follows
		if h.Project != "" && within(path, h.Project) || h.Cache != "" && within(path, filepath.Dir(h.Cache)) {
			return true
		}
		next, link := followOne(path)
		if !link {
			return false
		}
		path = next
	}
	return true
}

// Believes is false for a path whose content an agent could have chosen.
func (h *Here) Believes(path string) bool { return !h.ofProject(path) }

// followOne puts what the first link of a path leads to in its place.
func followOne(path string) (next string, link bool) {
	for i := 1; i <= len(path); i++ {
		if i < len(path) && path[i] != '/' {
			continue
		}
		if to, err := os.Readlink(path[:i]); err == nil {
			if !filepath.IsAbs(to) {
				to = filepath.Join(filepath.Dir(path[:i]), to)
			}
			return filepath.Join(to, path[i:]), true
		}
	}
	return path, false
}

func within(inner, outer string) bool {
	return inner == outer || strings.HasPrefix(inner, strings.TrimSuffix(outer, "/")+"/")
}

// read returns a configuration file of the person or the machine, and remembers that the answer depends on it. What lies in the project is left out.
func (s *search) read(path string) string {
	if path == "" || !filepath.IsAbs(path) {
		return ""
	}
	s.files = append(s.files, path)
	text, err := store.Read(path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if err == nil && s.ofProject(path) {
		s.warn(s.at(path, 0) + " lies in the project, where an agent can write, and is not believed")
		return ""
	}
	if err != nil {
		s.warn(s.at(path, 0) + " cannot be read: " + reason(err))
		return ""
	}
	return string(text)
}

// reason is an error without its path, which the sentence has already.
func reason(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// etc is a path of the machine's own configuration.
func (h *Here) etc(path string) string { return filepath.Join(h.Root, "/etc", path) }

// in is a path of the person's own.
func (h *Here) in(path string) string { return filepath.Join(h.Home, path) }

// at is a place in a file, for people.
func (h *Here) at(file string, line int) string {
	switch {
	case within(file, h.Home):
		file = "~" + strings.TrimPrefix(file, h.Home)
	case h.Root != "" && within(file, h.Root):
		file = strings.TrimPrefix(file, h.Root)
	}
	return at(file, line)
}

// readProject returns a file of the project, for what is only ever said about it. No link is followed: it could lead to files of the person.
func (h *Here) readProject(rel string) string {
	if h.Project == "" {
		return ""
	}
	root, err := unix.Open(h.Project, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(root)
	fd, err := beneath.Open(root, rel, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_NOFOLLOW)
	if err != nil {
		return ""
	}
	f := os.NewFile(uintptr(fd), rel)
	defer f.Close()
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() || st.Size() > maxFile {
		return ""
	}
	text := make([]byte, st.Size())
	n, _ := f.Read(text)
	return string(text[:n])
}

// HasProjectFile is true for a file that lies at the project's root.
func (h *Here) HasProjectFile(name string) bool {
	st, err := os.Lstat(filepath.Join(h.Project, name))
	return h.Project != "" && err == nil && st.Mode().IsRegular()
}
