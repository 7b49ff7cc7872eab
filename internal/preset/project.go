package preset

import (
	"fmt"
	"slices"
	"strings"
)

// Askable are the words that `from` of a preset may have.
func Askable() []string {
	return []string{"cargo", "debian", "go", "maven", "npm", "pnpm", "pypi", "rubygems", "yarn"}
}

// askAbout finds the hosts that one tool's configuration names.
func (s *search) askAbout(from string) {
	switch from {
	case "cargo":
		s.cargo()
	case "debian":
		s.debian()
	case "go":
		s.golang()
	case "maven":
		s.maven()
	case "npm":
		s.npm()
	case "pnpm":
		s.pnpm()
	case "pypi":
		s.pypi()
	case "rubygems":
		s.rubygems()
	case "yarn":
		s.yarn()
	}
}

// maxNamed is how many registries of a project's file are named to the person.
const maxNamed = 3

// projectRegistries says which registries a file of the project names that nothing opens. It opens none: an agent can write there. Variables are not
// expanded either, since they could hold a secret of the person's, which the file would have shown as a host.
func (s *search) projectRegistries(read func(string) []setting, rel string) {
	var others []string
	for _, l := range read(s.readProject(rel)) {
		p, err := parsePlace(l.value)
		if err == nil && !p.isLoopback() && !s.isOpen(p) && !slices.Contains(others, p.target()) {
			others = append(others, p.target())
		}
	}
	if len(others) == 0 {
		return
	}
	flags := "--allow " + strings.Join(others[:min(len(others), maxNamed)], " --allow ")
	if len(others) > maxNamed {
		flags += fmt.Sprintf(" and %d more", len(others)-maxNamed)
	}
	s.warn(fmt.Sprintf("%s of the project names another registry than yours, which this preset does not open (%s would)", rel, flags))
}

func (s *search) isOpen(p place) bool {
	return slices.ContainsFunc(s.found.Openings, func(o Opening) bool { return o.Host == p.host && o.Port == p.port })
}

// projectNames is true where a file of the project has a registry of its own for everything.
func (s *search) projectNames(read func(string) []setting, rel string) bool {
	_, names := last(read(s.readProject(rel)), "registry")
	return names
}
