package preset

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// cargoTOML reads the registries of a file of cargo.
func cargoTOML(text string) (list []setting) {
	for _, v := range tomlTexts(text) {
		section, rest, _ := strings.Cut(v.path, ".")
		dot := strings.LastIndexByte(rest, '.')
		if dot < 0 || section != "source" && section != "registries" || len(list) == maxSettings {
			continue
		}
		name, key := rest[:dot], rest[dot+1:]
		switch {
		case section == "source" && key == "replace-with":
			list = append(list, setting{"replace " + name, v.value, v.line})
		case section == "source" && key == "registry":
			list = append(list, setting{"source " + name, v.value, v.line})
		case section == "registries" && key == "index":
			list = append(list, setting{"registry " + name, v.value, v.line})
		}
	}
	return list
}

// cratesIO is cargo's name of the registry that it has built in. It is no host.
const cratesIO = "crates-io"

func (s *search) cargo() {
	home := s.env("CARGO_HOME")
	if home == "" {
		home = s.in(".cargo")
	}
	var list []setting
	file := ""
	for _, name := range []string{"config", "config.toml"} {
		if text := s.read(filepath.Join(home, name)); text != "" {
			list, file = cargoTOML(text), filepath.Join(home, name)
		}
	}
	names := map[string]setting{}
	for _, l := range list {
		names[l.key] = l
		if strings.HasPrefix(l.key, "registry ") {
			s.openCargo(home, l.value, s.at(file, l.line))
		}
	}
	name := cratesIO
	for range 8 { // one may replace another in turn
		next, replaced := names["replace "+name]
		if !replaced {
			break
		}
		name = next.value
	}
	if l, ok := names["source "+name]; ok {
		s.openCargo(home, l.value, s.at(file, l.line))
	} else if _, ok := names["registry "+name]; !ok && name == cratesIO {
		s.usedIndexes(home)
	}
	s.projectRegistries(cargoTOML, ".cargo/config.toml")
	s.projectRegistries(cargoTOML, ".cargo/config")
}

// openCargo opens a registry of the person's, and where its crates lie, if cargo has used it.
func (s *search) openCargo(home, url, from string) {
	p, ok := s.openURL(url, from, true)
	if !ok {
		return
	}
	for _, dir := range s.indexDirs(home) {
		if host, _ := splitIndex(dir); host == p.host {
			s.openIndex(filepath.Join(home, "registry/index", dir))
		}
	}
}

// usedIndexes opens what cargo has used: it keeps what it knows of each registry in a directory that has the host's name. Cargo cannot be asked for the
// one that it has built in.
func (s *search) usedIndexes(home string) {
	before := len(s.found.Openings)
	for _, dir := range s.indexDirs(home) {
		if host, sparse := splitIndex(dir); sparse {
			path := filepath.Join(home, "registry/index", dir)
			if s.openIndex(path) {
				s.openURL("https://"+host, s.at(path, 0), false)
			}
		}
	}
	if len(s.found.Openings) == before && s.found.Tool != "" {
		s.note("cargo has used no registry yet")
	}
}

func (s *search) indexDirs(home string) (names []string) {
	dir := filepath.Join(home, "registry/index")
	if s.ofProject(dir) {
		return nil
	}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() && len(names) < maxSettings {
			names = append(names, e.Name())
		}
	}
	return names
}

// splitIndex reads HOST-HASH. Those of registries that are git repositories hold no config.json.
func splitIndex(dir string) (host string, ok bool) {
	i := strings.LastIndexByte(dir, '-')
	if i < 0 {
		return "", false
	}
	p, err := parsePlace("https://" + dir[:i])
	return p.host, err == nil
}

// openIndex opens where the crates of a registry lie, as its own config.json says. It is the registry's word, which cargo follows, too: it opens names of
// public machines, never an address and never a machine of a private network.
func (s *search) openIndex(dir string) bool {
	var config struct {
		DL string `json:"dl"`
	}
	file := filepath.Join(dir, "config.json")
	if json.Unmarshal([]byte(s.read(file)), &config) != nil || config.DL == "" {
		return false
	}
	url, _, _ := strings.Cut(config.DL, "{")
	p, err := parsePlace(url)
	if _, isAddress := netip.ParseAddr(p.host); err != nil || isAddress == nil {
		return false
	}
	_, ok := s.openURL(url, s.at(file, 0), false)
	return ok
}
