package preset

import (
	"path/filepath"
	"slices"
	"strings"
)

// npmrc reads the registries of a file of npm, in the dialect of the package ini: `registry = URL` and `@scope:registry = URL`, before the first section.
func npmrc(text string) (list []setting) {
	done := false
	eachLine(text, func(n int, line string) {
		line = strings.TrimSpace(line)
		if done = done || strings.HasPrefix(line, "["); done || line == "" || line[0] == ';' || line[0] == '#' || len(list) == maxSettings {
			return
		}
		key, value, ok := strings.Cut(line, "=")
		key = unquote(key)
		if !ok || key != "registry" && (!strings.HasPrefix(key, "@") || !strings.HasSuffix(key, ":registry")) {
			return
		}
		value = strings.TrimSpace(value)
		if value != "" && value[0] != '"' && value[0] != '\'' { // outside of quotes, both begin a comment
			if i := strings.IndexAny(value, ";#"); i >= 0 {
				value = value[:i]
			}
		}
		list = append(list, setting{key, unquote(value), n})
	})
	return list
}

// yarnrc reads the registry of a file of yarn 1: `registry "URL"`.
func yarnrc(text string) (list []setting) {
	eachLine(text, func(n int, line string) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if key = unquote(key); ok && (key == "registry" || strings.HasPrefix(key, "@") && strings.HasSuffix(key, ":registry")) && len(list) < maxSettings {
			list = append(list, setting{key, unquote(value), n})
		}
	})
	return list
}

// yarnYAML reads the registries of a file of yarn 2 and later: npmRegistryServer, at the top and in npmScopes.
func yarnYAML(text string) (list []setting) {
	for _, v := range yamlTexts(text) {
		if n := len(v.path); v.path[n-1] == "npmRegistryServer" && (n == 1 || n == 3 && v.path[0] == "npmScopes") {
			key := "registry"
			if n == 3 {
				key = "@" + v.path[1] + ":registry"
			}
			list = append(list, setting{key, v.value, v.line})
		}
	}
	return list
}

// expand puts variables of the person's environment where a file of theirs names them, ${NAME} or ${NAME:-default} or ${NAME-default}.
func (h *Here) expand(value string) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(value, "${")
		name, after, closed := strings.Cut(rest, "}")
		if !found || !closed {
			return b.String() + value
		}
		name, def, _ := strings.Cut(name, "-")
		b.WriteString(before)
		if v := h.env(strings.TrimRight(name, ":?")); v != "" {
			b.WriteString(v)
		} else {
			b.WriteString(def)
		}
		value = after
	}
}

// nodeFile is a configuration file that may name the registry.
type nodeFile struct {
	path string
	read func(string) []setting
}

// node finds the registry of npm, pnpm or yarn: in the environment, in the files in the order of their weight, else by asking. Registries of scopes are
// opened beside it, whichever file has them.
func (s *search) node(files []nodeFile, ask func() (url, from string, configured bool)) {
	registry, from, known := s.nodeVariable(), "$npm_config_registry", true
	raw := ""
	var scopes [][2]string
	defer func() {
		for _, scope := range scopes {
			s.openURL(scope[0], scope[1], true)
		}
	}()
	for _, f := range files {
		list := f.read(s.read(f.path))
		for _, l := range list {
			if l.key != "registry" {
				scopes = append(scopes, [2]string{s.expand(l.value), s.at(f.path, l.line)})
			}
		}
		if l, ok := last(list, "registry"); ok && registry == "" {
			registry, raw, from = s.expand(l.value), l.value, s.at(f.path, l.line)
		}
	}
	if registry == "" {
		registry, from, known = ask()
	}
	if registry == "" {
		return
	}
	p, ok := s.openURL(registry, from, known)
	if _, rest, _ := strings.Cut(raw, "://"); strings.Contains(rest[strings.IndexByte(rest, '/')+1:], "${") && strings.Contains(rest, "/") {
		p.path, p.token = "", true // what stands in a variable is no name of a directory
	}
	if ok && !p.isLoopback() && !s.projectNames(npmrc, ".npmrc") && !s.projectNames(yarnrc, ".yarnrc") { // over which the variable would win
		s.tellPlace("npm_config_registry", p, from)
	}
}

// nodeVariable is the registry that the person's environment names. npm takes any case.
func (s *search) nodeVariable() string {
	for _, kv := range s.Env {
		if name, value, ok := strings.Cut(kv, "="); ok && strings.EqualFold(name, "npm_config_registry") {
			return value
		}
	}
	return ""
}

// userNpmrc is the person's own file.
func (s *search) userNpmrc() string {
	for _, kv := range s.Env {
		if name, value, ok := strings.Cut(kv, "="); ok && strings.EqualFold(name, "npm_config_userconfig") && filepath.IsAbs(value) {
			return value
		}
	}
	return s.in(".npmrc")
}

func (s *search) npm() {
	s.node([]nodeFile{{s.userNpmrc(), npmrc}}, s.askNpm)
	if len(s.found.Openings) > 0 && len(s.found.Preset.Requests) > 0 { // each install would send what it has, be denied, and go on
		s.tell("npm_config_audit", "false")
	}
	s.projectRegistries(npmrc, ".npmrc")
}

// askNpm asks npm for its registry and for the machine's own file, which may say it with a line and name scopes.
func (s *search) askNpm() (url, from string, configured bool) {
	s.files = append(s.files, s.in(".npmrc")) // whatever the person's environment says, npm reads this one when it is asked
	for _, file := range []string{"npmrc", "../usr/etc/npmrc", "../usr/local/etc/npmrc"} {
		s.files = append(s.files, s.etc(file))
	}
	lines, from := s.ask(keepNpm, []string{"npm"}, "config", "get", "registry", "globalconfig")
	for _, l := range lines {
		if global, yes := strings.CutPrefix(l, "globalconfig="); yes {
			for _, line := range npmrc(s.read(global)) {
				if line.key == "registry" {
					return s.expand(line.value), s.at(global, line.line), true
				}
				s.openURL(s.expand(line.value), s.at(global, line.line), true)
			}
		}
	}
	for _, l := range lines {
		if r, yes := strings.CutPrefix(l, "registry="); yes {
			return r, from, false
		}
	}
	return "", from, false
}

// keepNpm takes what was asked of npm's answer, and no credential that a URL in it may have.
func keepNpm(out string) (kept []string) {
	eachLine(out, func(_ int, line string) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = strings.TrimSpace(value)
		switch {
		case key == "registry" && isURL(value):
			p, _ := parsePlace(value)
			kept = append(kept, "registry="+p.url())
		case key == "globalconfig" && filepath.IsAbs(value):
			kept = append(kept, "globalconfig="+filepath.Clean(value))
		}
	})
	return kept
}

// keepURLs takes the URLs of an answer, one a line, without credentials.
func keepURLs(out string) (kept []string) {
	eachLine(out, func(_ int, line string) {
		for word := range strings.FieldsSeq(line) {
			if p, err := parsePlace(word); err == nil && len(kept) < maxSettings {
				kept = append(kept, p.url())
			}
		}
	})
	return slices.Compact(kept)
}

// askOne is for tools that answer with the one URL.
func (s *search) askOne(tool string, args ...string) (url, from string, configured bool) {
	lines, from := s.ask(keepURLs, []string{tool}, args...)
	if len(lines) == 0 {
		return "", from, false
	}
	return lines[0], from, false
}

func (s *search) pnpm() {
	s.node([]nodeFile{{s.userNpmrc(), npmrc}, {filepath.Join(s.Config, "pnpm", "rc"), npmrc}}, func() (string, string, bool) {
		if url, from, configured := s.askOne("pnpm", "config", "get", "registry"); url != "" {
			return url, from, configured
		}
		return s.askNpm() // whose registry pnpm has, unless told otherwise
	})
	s.projectRegistries(npmrc, ".npmrc")
}

func (s *search) yarn() {
	s.node([]nodeFile{{s.in(".yarnrc.yml"), yarnYAML}, {s.in(".yarnrc"), yarnrc}, {s.userNpmrc(), npmrc}}, func() (string, string, bool) {
		if url, from, configured := s.askOne("yarn", "config", "get", "registry"); url != "" {
			return url, from, configured
		}
		return s.askOne("yarn", "config", "get", "npmRegistryServer")
	})
	for i, v := range s.found.Set {
		if v.Name == "npm_config_registry" { // yarn 2 and later have a variable of their own
			s.tell("YARN_NPM_REGISTRY_SERVER", s.found.Set[i].Value)
			break
		}
	}
	s.projectRegistries(npmrc, ".npmrc")
	s.projectRegistries(yarnrc, ".yarnrc")
	s.projectRegistries(yarnYAML, ".yarnrc.yml")
}
