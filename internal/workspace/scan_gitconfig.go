package workspace

import (
	"iter"
	"strings"
)

// gitSettings yields the settings of a git config file (git-config(1), "Syntax") as key and value, the key as section.name or
// section.subsection.name, section and name in lower case. Lines that git would refuse are skipped: this decides what to protect in
// addition, not what git does.
func gitSettings(config string) iter.Seq2[string, string] {
	return func(yield func(key, value string) bool) {
		section := ""
		for rest := config; rest != ""; {
			var line string
			line, rest, _ = strings.Cut(rest, "\n")
			line = strings.TrimSpace(line)
			for strings.HasPrefix(line, "[") {
				name, after, ok := cutSection(line)
				if !ok {
					break
				}
				section, line = name, strings.TrimSpace(after)
			}
			if line == "" || strings.ContainsRune("[#;", rune(line[0])) {
				continue
			}
			for continues(line) && rest != "" {
				var next string
				next, rest, _ = strings.Cut(rest, "\n")
				line = line[:len(line)-1] + strings.TrimRight(next, "\r")
			}
			name, value, _ := strings.Cut(line, "=")
			if !yield(section+"."+strings.ToLower(strings.TrimSpace(name)), unquoteSetting(strings.TrimSpace(value))) {
				return
			}
		}
	}
}

// continues reports whether a backslash at its end joins the line with the next one.
func continues(line string) bool {
	n := len(line) - len(strings.TrimRight(line, `\`))
	return n%2 == 1
}

// cutSection reads `[section]` or `[section "sub"]`.
func cutSection(line string) (name, after string, ok bool) {
	quoted := false
	for i := 1; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == ']' && !quoted:
			section, sub, _ := strings.Cut(strings.TrimSpace(line[1:i]), " ")
			name = strings.ToLower(section)
			if sub = strings.TrimSpace(sub); sub != "" {
				name += "." + unquoteSetting(sub)
			}
			return name, line[i+1:], true
		}
	}
	return "", "", false
}

// unquoteSetting drops quotes and comments and resolves escapes.
func unquoteSetting(s string) string {
	var out strings.Builder
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && i+1 < len(s):
			i++
			out.WriteByte(unescapeSetting(s[i]))
		case (c == '#' || c == ';') && !quoted:
			return strings.TrimSpace(out.String())
		default:
			out.WriteByte(c)
		}
	}
	return strings.TrimSpace(out.String())
}

func unescapeSetting(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 't':
		return '\t'
	case 'b':
		return '\b'
	}
	return c
}
