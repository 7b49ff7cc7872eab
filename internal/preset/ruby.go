package preset

import "strings"

// gemrc reads the sources of a file of gem, which is YAML with keys that begin with a colon.
func gemrc(text string) (list []setting) {
	for _, v := range yamlTexts(text) {
		if len(v.path) == 1 && strings.TrimPrefix(v.path[0], ":") == "sources" {
			list = append(list, setting{"source", v.value, v.line})
		}
	}
	return list
}

// bundleConfig reads the mirrors of a file of bundler.
func bundleConfig(text string) (list []setting) {
	for _, v := range yamlTexts(text) {
		if len(v.path) == 1 && strings.HasPrefix(v.path[0], "BUNDLE_MIRROR__") && !strings.HasSuffix(v.path[0], "__FALLBACK_TIMEOUT/") {
			list = append(list, setting{"source", v.value, v.line})
		}
	}
	return list
}

// gemfile reads the sources of a project: `source "URL"`.
func gemfile(text string) (list []setting) {
	eachLine(text, func(n int, line string) {
		word, rest, ok := strings.Cut(strings.TrimSpace(line), " ")
		rest = strings.TrimLeft(rest, " (")
		if !ok || word != "source" || rest == "" || rest[0] != '"' && rest[0] != '\'' || len(list) == maxSettings {
			return
		}
		if url, _, closed := strings.Cut(rest[1:], rest[:1]); closed {
			list = append(list, setting{"source", url, n})
		}
	})
	return list
}

func (s *search) rubygems() {
	known := false
	files := []string{s.env("GEMRC"), s.in(".gemrc"), s.Config + "/gem/gemrc", s.etc("gemrc")}
	for _, file := range files {
		list := gemrc(s.read(file))
		if known { // the person's own file wins
			continue
		}
		for _, l := range list {
			known = true
			s.openURL(l.value, s.at(file, l.line), true)
		}
	}
	for _, file := range []string{s.in(".bundle/config"), s.Config + "/bundle/config"} {
		for _, l := range bundleConfig(s.read(file)) {
			s.openURL(l.value, s.at(file, l.line), true)
		}
	}
	if !known {
		lines, from := s.ask(keepURLs, []string{"gem"}, "sources", "--list")
		for _, l := range lines {
			s.openURL(l, from, false)
		}
	}
	s.projectRegistries(gemfile, "Gemfile")
	s.projectRegistries(bundleConfig, ".bundle/config")
}
