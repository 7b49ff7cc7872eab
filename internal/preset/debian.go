package preset

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// aptList reads the sources of a one-line-style file (sources.list(5)): `deb [options] URI suite component...`.
func aptList(text string) (list []setting) {
	eachLine(text, func(n int, line string) {
		line, _, _ = strings.Cut(line, "#")
		kind, rest, _ := strings.Cut(strings.Join(strings.Fields(line), " "), " ")
		if kind != "deb" && kind != "deb-src" {
			return
		}
		if strings.HasPrefix(rest, "[") {
			_, after, closed := strings.Cut(rest, "]")
			if !closed {
				return
			}
			rest = strings.TrimSpace(after)
		}
		if uri, _, _ := strings.Cut(rest, " "); uri != "" && len(list) < maxSettings {
			list = append(list, setting{"URIs", uri, n})
		}
	})
	return list
}

// aptSources reads the sources of a deb822-style file: stanzas with URIs, each perhaps disabled, values that go on in indented lines.
func aptSources(text string) (list []setting) {
	var stanza []setting
	enabled, field := true, ""
	end := func() {
		if enabled {
			list = append(list, stanza...)
		}
		stanza, enabled, field = nil, true, ""
	}
	eachLine(text, func(n int, line string) {
		switch {
		case strings.HasPrefix(line, "#"):
			return
		case strings.TrimSpace(line) == "":
			end()
			return
		case line[0] != ' ' && line[0] != '\t':
			name, value, ok := strings.Cut(line, ":")
			if field = strings.ToLower(strings.TrimSpace(name)); !ok {
				field = ""
			}
			line = value
		}
		switch field {
		case "enabled":
			if slices.Contains([]string{"no", "false", "without", "off", "disable", "0"}, strings.ToLower(strings.TrimSpace(line))) {
				enabled = false
			}
		case "uris":
			for uri := range strings.FieldsSeq(line) {
				if len(list)+len(stanza) < maxSettings {
					stanza = append(stanza, setting{"URIs", uri, n})
				}
			}
		}
	})
	end()
	return list
}

// aptMirrors reads a list of mirrors, as apt-transport-mirror(1) has it: a URI at the beginning of each line.
func aptMirrors(text string) (list []setting) {
	eachLine(text, func(n int, line string) {
		line, _, _ = strings.Cut(line, "#")
		if f := strings.Fields(line); len(f) > 0 && len(list) < maxSettings {
			list = append(list, setting{"URIs", f[0], n})
		}
	})
	return list
}

func (s *search) debian() {
	dir := s.etc("apt/sources.list.d")
	s.files = append(s.files, dir)
	files := []string{s.etc("apt/sources.list")}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if isPart(e.Name()) {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	for _, file := range files {
		read := aptList
		if strings.HasSuffix(file, ".sources") {
			read = aptSources
		}
		for _, l := range read(s.read(file)) {
			s.openApt(l.value, s.at(file, l.line))
		}
	}
	if len(s.found.Openings) > 0 {
		return
	}
	lines, from := s.ask(keepURLs, []string{"apt-get"}, "indextargets", "--format", "$(SITE)")
	for _, l := range lines {
		s.openURL(l, from, false)
	}
}

// openApt opens what a URI of apt leads to: https, http, or a list of mirrors of this machine.
func (s *search) openApt(uri, from string) {
	for _, list := range []string{"mirror+file:", "mirror+copy:"} {
		if path, yes := strings.CutPrefix(uri, list); yes {
			path = "/" + strings.TrimLeft(path, "/")
			if s.Root != "" {
				path = filepath.Join(s.Root, path)
			}
			for _, l := range aptMirrors(s.read(path)) {
				s.openURL(l.value, s.at(path, l.line), true)
			}
			return
		}
	}
	for _, local := range []string{"cdrom:", "file:", "copy:", "mirror", "tor"} {
		if strings.HasPrefix(uri, local) {
			s.note(from + ": " + scheme(uri) + " is not opened")
			return
		}
	}
	s.openURL(uri, from, true)
}

func scheme(uri string) string {
	s, _, _ := strings.Cut(uri, ":")
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || r == '+' {
			return r
		}
		return '?'
	}, s) + ":"
}

// isPart is what apt reads of a directory: names of letters, digits, - _ and . that end in .list or .sources.
func isPart(name string) bool {
	return (strings.HasSuffix(name, ".list") || strings.HasSuffix(name, ".sources")) && strings.IndexFunc(name, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-_.", r))
	}) < 0
}
