package preset

import (
	"path/filepath"
	"strings"
)

// pipConf reads the indexes of a file of pip, in the dialect of Python's configparser: index-url, extra-index-url and find-links of the sections that
// installing reads. A value may go on in indented lines.
func pipConf(text string) (list []setting) {
	section, key := "", ""
	eachLine(text, func(n int, line string) {
		trimmed := strings.TrimSpace(line)
		switch {
		case trimmed == "" || trimmed[0] == '#' || trimmed[0] == ';':
			return
		case trimmed[0] == '[' && line[0] == '[':
			section, _, _ = strings.Cut(trimmed[1:], "]")
			key = ""
			return
		case line[0] != ' ' && line[0] != '\t':
			i := strings.IndexAny(trimmed, "=:")
			if i < 0 {
				key = ""
				return
			}
			key = strings.ReplaceAll(strings.ToLower(strings.TrimSpace(trimmed[:i])), "_", "-")
			trimmed = trimmed[i+1:]
		}
		switch section {
		case "global", "install", "download", "wheel":
		default:
			return
		}
		switch key {
		case "index-url", "extra-index-url", "find-links":
			for word := range strings.FieldsSeq(trimmed) {
				if len(list) < maxSettings {
					list = append(list, setting{key, unquote(word), n})
				}
			}
		}
	})
	return list
}

// uvTOML reads the indexes of a file of uv.
func uvTOML(text string) (list []setting) {
	for _, v := range tomlTexts(text) {
		switch v.path {
		case "index-url", "pip.index-url":
			list = append(list, setting{"index-url", v.value, v.line})
		case "extra-index-url", "pip.extra-index-url", "find-links", "index.url":
			list = append(list, setting{"extra-index-url", v.value, v.line})
		}
	}
	return list
}

// requirements reads the indexes that a project's file names by options.
func requirements(text string) (list []setting) {
	eachLine(text, func(n int, line string) {
		option, value, ok := strings.Cut(strings.Replace(strings.TrimSpace(line), "=", " ", 1), " ")
		switch option {
		case "-i", "--index-url", "--extra-index-url", "-f", "--find-links":
			if ok && len(list) < maxSettings {
				list = append(list, setting{"index-url", unquote(value), n})
			}
		}
	})
	return list
}

// pythonsIndex asks pip itself, which has the place of the index and the host of its files built in. Python is isolated (-I): it takes no module from the
// directory where it is started nor from the environment.
const pythonsIndex = "from pip._internal.models.index import PyPI; print(PyPI.simple_url); print('https://' + PyPI.file_storage_domain)"

func (s *search) pypi() {
	index, from := s.env("PIP_INDEX_URL"), "$PIP_INDEX_URL"
	if v := s.env("UV_DEFAULT_INDEX"); index == "" && v != "" {
		index, from = v, "$UV_DEFAULT_INDEX"
	}
	var extra []string
	more := func(text, from string) {
		for word := range strings.FieldsSeq(text) {
			if p, ok := s.openURL(word, from, true); ok && !p.isLoopback() && !p.token {
				extra = append(extra, p.url())
			}
		}
	}
	more(s.env("PIP_EXTRA_INDEX_URL"), "$PIP_EXTRA_INDEX_URL")
	for _, file := range s.pipFiles() {
		read := pipConf
		if strings.HasSuffix(file, ".toml") {
			read = uvTOML
		}
		list := read(s.read(file))
		for _, l := range list {
			if l.key != "index-url" {
				more(l.value, s.at(file, l.line))
			}
		}
		if l, ok := last(list, "index-url"); ok && index == "" {
			index, from = l.value, s.at(file, l.line)
		}
	}
	built, asked := s.ask(keepURLs, []string{"python3", "python"}, "-I", "-c", pythonsIndex)
	asked = strings.TrimSuffix(asked, " -I -c "+pythonsIndex) + ", which knows pip's own index"
	if index == "" && len(built) == 2 {
		s.openURL(built[0], asked, false)
		s.openURL(built[1], asked, false)
	} else if p, ok := s.openIf(index, from); ok {
		if len(built) == 2 && strings.HasPrefix(built[0], "https://"+p.host+"/") { // it is pip's own index, by its name
			s.openURL(built[1], asked, false)
		}
		s.tellPlace("PIP_INDEX_URL", p, from)
		s.tellPlace("UV_DEFAULT_INDEX", p, from)
	}
	if len(extra) > 0 {
		s.tell("PIP_EXTRA_INDEX_URL", strings.Join(extra, " "))
	}
	for _, file := range []string{"pip.conf", ".venv/pip.conf", "venv/pip.conf"} {
		s.projectRegistries(pipConf, file)
	}
	s.projectRegistries(requirements, "requirements.txt")
	s.projectRegistries(uvTOML, "uv.toml")
}

// openIf opens a URL when there is one. It is false also where there is nothing to tell anybody.
func (s *search) openIf(url, from string) (place, bool) {
	if url == "" {
		return place{}, false
	}
	p, ok := s.openURL(url, from, true)
	return p, ok && !p.isLoopback()
}

// pipFiles are the files of pip and uv, those that win first.
func (s *search) pipFiles() []string {
	if v := s.env("PIP_CONFIG_FILE"); v != "" {
		if v == "/dev/null" {
			return nil // which is how pip is told to read none
		}
		return []string{v}
	}
	var files []string
	if v := s.env("VIRTUAL_ENV"); v != "" && !s.ofProject(v) { // one in the project is the agent's, and is looked at as that
		files = append(files, filepath.Join(v, "pip.conf"))
	}
	return append(files, filepath.Join(s.Config, "uv", "uv.toml"), filepath.Join(s.Config, "pip", "pip.conf"), s.in(".pip/pip.conf"),
		s.etc("uv/uv.toml"), s.etc("xdg/pip/pip.conf"), s.etc("pip.conf"))
}
