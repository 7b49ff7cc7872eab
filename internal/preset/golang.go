package preset

import (
	"path/filepath"
	"slices"
	"strings"
)

// goEnv reads a file that `go env -w` writes, or that comes with Go: NAME=VALUE.
func goEnv(text string) (list []setting) {
	eachLine(text, func(n int, line string) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && slices.Contains(goVariables(), name) && len(list) < maxSettings {
			list = append(list, setting{name, unquote(value), n})
		}
	})
	return list
}

// goVariables are those that say where modules and their checksums come from.
func goVariables() []string {
	return []string{"GOPROXY", "GOSUMDB", "GOPRIVATE", "GONOPROXY", "GONOSUMDB"}
}

func (s *search) golang() {
	files := []string{filepath.Join(s.Config, "go", "env")}
	if v := s.env("GOENV"); v == "off" {
		files = nil
	} else if v != "" {
		files = []string{v}
	}
	own := len(files)
	s.files = append(s.files, filepath.Join(s.Config, "go", "env")) // go reads it when it is asked
	if tool := s.lookFor("go"); tool != "" {
		if real, err := filepath.EvalSymlinks(tool); err == nil {
			files = append(files, filepath.Join(filepath.Dir(filepath.Dir(real)), "go.env")) // Go's defaults, which are inside as well
		}
	}
	values := map[string]setting{}
	froms := map[string]string{}
	ours := map[string]bool{} // said by the person, so it must be told inside
	for _, name := range goVariables() {
		if v := s.env(name); v != "" {
			values[name], froms[name], ours[name] = setting{value: v}, "$"+name, true
		}
	}
	for i, file := range files {
		list := goEnv(s.read(file))
		for _, name := range goVariables() {
			if l, ok := last(list, name); ok && froms[name] == "" {
				values[name], froms[name], ours[name] = l, s.at(file, l.line), i < own
			}
		}
	}
	if froms["GOPROXY"] == "" || froms["GOSUMDB"] == "" {
		lines, from := s.ask(keepGo, []string{"go"}, "env", "GOPROXY", "GOSUMDB")
		for i, name := range []string{"GOPROXY", "GOSUMDB"} {
			if len(lines) == 2 && froms[name] == "" {
				values[name], froms[name] = setting{value: lines[i]}, from
			}
		}
	}
	if froms["GOPROXY"] != "" {
		s.goProxies(values["GOPROXY"].value, froms["GOPROXY"], ours["GOPROXY"])
	}
	if froms["GOSUMDB"] != "" {
		s.goSums(values["GOSUMDB"].value, froms["GOSUMDB"], ours["GOSUMDB"])
	}
	for _, name := range []string{"GOPRIVATE", "GONOPROXY", "GONOSUMDB"} {
		if ours[name] && isPatterns(values[name].value) {
			s.tell(name, values[name].value)
		}
	}
}

// goProxies opens each proxy of a list, and tells the list without credentials.
func (s *search) goProxies(list, from string, ours bool) {
	var kept strings.Builder
	for list != "" {
		one, sep := list, ""
		if i := strings.IndexAny(list, ",|"); i >= 0 {
			one, sep, list = list[:i], list[i:i+1], list[i+1:]
		} else {
			list = ""
		}
		one = strings.TrimSpace(one)
		if one != "direct" && one != "off" && one != "" {
			p, ok := s.openURL(one, from, ours)
			if !ok || p.isLoopback() {
				continue
			}
			if p.token {
				s.tellPlace("GOPROXY", p, from)
				return
			}
			one = p.url()
		}
		kept.WriteString(one + sep)
	}
	if told := strings.TrimRight(kept.String(), ",|"); ours && told != "" {
		s.tell("GOPROXY", told)
	}
}

// goSums opens the checksum database: `NAME`, `NAME+KEY` or `NAME+KEY URL`.
func (s *search) goSums(text, from string, ours bool) {
	fields := strings.Fields(text)
	if len(fields) == 0 || fields[0] == "off" {
		if ours && len(fields) == 1 {
			s.tell("GOSUMDB", "off")
		}
		return
	}
	name, key, _ := strings.Cut(fields[0], "+")
	url := "https://" + name
	if len(fields) > 1 {
		url = fields[1]
	}
	p, ok := s.openURL(url, from, ours)
	if !ok || !ours || p.isLoopback() {
		return
	}
	told := name
	if key != "" {
		told += "+" + key // a public key
	}
	if len(fields) > 1 && !p.token {
		told += " " + p.url()
	}
	s.tell("GOSUMDB", told)
}

// keepGo takes two lines, without credentials: a list of proxies, and the checksum database.
func keepGo(out string) []string {
	proxies, rest, _ := strings.Cut(strings.ReplaceAll(out, "\r", ""), "\n")
	sums, _, _ := strings.Cut(rest, "\n")
	var kept []string
	for _, one := range strings.FieldsFunc(proxies, func(r rune) bool { return r == ',' || r == '|' }) {
		if p, err := parsePlace(one); err == nil {
			kept = append(kept, p.url())
		} else if one == "direct" || one == "off" {
			kept = append(kept, one)
		}
	}
	fields := strings.Fields(sums)
	for i, f := range fields {
		if p, err := parsePlace(f); err == nil {
			fields[i] = p.url()
		}
	}
	if len(kept) == 0 || len(fields) == 0 || len(fields) > 2 {
		return nil
	}
	return []string{strings.Join(kept, ","), strings.Join(fields, " ")}
}

// isPatterns is what GOPRIVATE may hold: path patterns, and nothing with a password in it.
func isPatterns(text string) bool {
	return isPlainPatterns(text) && !strings.ContainsAny(text, "@:") && len(text) <= 4096
}

func isPlainPatterns(text string) bool {
	return strings.IndexFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f }) < 0
}
