package session

import (
	"path/filepath"

	"casemate.dev/internal/policy"
	"casemate.dev/internal/preset"
	"casemate.dev/internal/store"
	"golang.org/x/sys/unix"
)

// Agent is a preset of an agent, and what of it is here.
type Agent struct {
	Name     string            `json:"name"`
	File     string            `json:"file,omitempty"` // of a person's own preset
	Tool     string            `json:"tool,omitempty"` // where it is installed
	Logins   []Login           `json:"logins,omitempty"`
	Answer   string            `json:"use_login,omitempty"` // what they answered when they were asked whether it is used: yes or no
	Openings []preset.Opening  `json:"openings"`
	Set      []policy.Variable `json:"set,omitempty"`
	Agent    preset.Agent      `json:"agent"`
}

// Login is a file that says that somebody is logged in. It is never opened.
type Login struct {
	Where string `json:"where"` // here, or inside
	Path  string `json:"path"`
}

// Agents lists them. The second error is about a preset that cannot be read, which hides no other.
func Agents(p Person) (list []Agent, broken, err error) {
	project := p.FindProject()
	here, err := p.Presets(project)
	if err != nil {
		return nil, nil, err
	}
	st, err := store.Open(p.StateHome, p.Home)
	if err != nil {
		return nil, nil, err
	}
	homes, err := filepath.Glob(filepath.Join(st.Project(project), "home*"))
	if err != nil {
		return nil, nil, err
	}
	found, broken := here.Agents()
	list = []Agent{}
	for _, f := range found {
		a := Agent{Name: f.Preset.Name, File: f.Preset.File, Tool: f.Tool, Openings: f.Openings, Set: f.Set, Agent: *f.Preset.Agent}
		for _, l := range p.logins(&a.Agent) {
			a.Logins = append(a.Logins, Login{"here", l})
		}
		if a.Agent.Login != nil {
			if yes, answered := p.loginAnswer(&a.Agent); answered {
				a.Answer = map[bool]string{true: LoginYes, false: LoginNo}[yes]
			}
		}
		for _, l := range a.Agent.Logins {
			for _, h := range homes {
				if isFileIn(h, l, unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_BENEATH) {
					a.Logins = append(a.Logins, Login{"inside", filepath.Join(h, l)})
				}
			}
		}
		list = append(list, a)
	}
	return list, broken, nil
}

// isFileIn says whether there is something in a file below a home. In a sandbox's no link is followed.
func isFileIn(home, rel string, resolve uint64) bool {
	root, err := unix.Open(home, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(root)
	fd, err := unix.Openat2(root, rel, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: resolve})
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size > 0
}
