package preset

import "strings"

// tomlText is a text in a TOML document, by its dotted path. Elements of an array have the path of the array.
type tomlText struct {
	path  string
	value string
	line  int
}

// tomlTexts reads as much of TOML as configurations of registries use: tables, arrays of tables, dotted and quoted keys, inline tables, texts and arrays of
// texts. What it does not know it leaves out; it never reads a comment or the middle of a long text as a key.
func tomlTexts(text string) []tomlText {
	t := tomlReader{text: text, line: 1}
	for t.pos < len(t.text) && len(t.list) < maxSettings {
		t.blank("\n")
		switch {
		case t.pos == len(t.text):
		case t.text[t.pos] == '[':
			t.table()
		default:
			t.pair(t.prefix, 0)
		}
		t.rest()
	}
	return t.list
}

type tomlReader struct {
	text      string
	pos, line int
	prefix    string
	list      []tomlText
}

// blank skips white space, and comments.
func (t *tomlReader) blank(also string) {
	for t.pos < len(t.text) {
		switch c := t.text[t.pos]; {
		case c == '#':
			t.rest()
			continue
		case c == '\n' && also != "":
			t.line++
		case c != ' ' && c != '\t' && c != '\r':
			return
		}
		t.pos++
	}
}

// rest skips to the end of the line.
func (t *tomlReader) rest() {
	if i := strings.IndexByte(t.text[t.pos:], '\n'); i >= 0 {
		t.pos += i
	} else {
		t.pos = len(t.text)
	}
}

func (t *tomlReader) eat(s string) bool {
	if !strings.HasPrefix(t.text[t.pos:], s) {
		return false
	}
	t.pos += len(s)
	return true
}

func (t *tomlReader) table() {
	t.prefix = "\x00" // of a table whose name cannot be read
	t.eat("[")
	t.eat("[")
	if key, ok := t.key(); ok && t.eat("]") {
		t.prefix = key
	}
}

// key reads a.b."c.d". A dot in quotes is taken as one between keys: no name of a registry needs it.
func (t *tomlReader) key() (string, bool) {
	var parts []string
	for {
		t.blank("")
		part, ok := "", false
		if t.pos < len(t.text) && (t.text[t.pos] == '"' || t.text[t.pos] == '\'') {
			part, ok = t.quoted()
		} else {
			from := t.pos
			for t.pos < len(t.text) && isBare(t.text[t.pos]) {
				t.pos++
			}
			part, ok = t.text[from:t.pos], t.pos > from
		}
		if !ok || len(parts) == 16 {
			return "", false
		}
		parts = append(parts, part)
		t.blank("")
		if !t.eat(".") {
			return strings.Join(parts, "."), true
		}
	}
}

func isBare(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// pair reads KEY = VALUE.
func (t *tomlReader) pair(prefix string, depth int) bool {
	key, ok := t.key()
	if !ok || !t.eat("=") {
		return false
	}
	if prefix != "" {
		key = prefix + "." + key
	}
	return t.value(key, depth)
}

const maxDepth = 8

func (t *tomlReader) value(path string, depth int) bool {
	t.blank("")
	if t.pos == len(t.text) || depth > maxDepth {
		return false
	}
	switch t.text[t.pos] {
	case '"', '\'':
		line := t.line
		v, ok := t.quoted()
		if ok && len(t.list) < maxSettings {
			t.list = append(t.list, tomlText{path, v, line})
		}
		return ok
	case '[':
		t.pos++
		return t.items("]", func() bool { return t.value(path, depth+1) })
	case '{':
		t.pos++
		return t.items("}", func() bool { return t.pair(path, depth+1) })
	}
	for t.pos < len(t.text) && !strings.ContainsRune(",]}#\n", rune(t.text[t.pos])) {
		t.pos++
	}
	return true
}

// items reads what stands between commas, up to an end.
func (t *tomlReader) items(end string, one func() bool) bool {
	for {
		t.blank("\n")
		if t.eat(end) {
			return true
		}
		if !one() {
			return false
		}
		t.blank("\n")
		if !t.eat(",") {
			return t.eat(end)
		}
	}
}

// quoted reads a text of any of the four kinds. Escapes stay as they are, except of quotes: no host needs one.
func (t *tomlReader) quoted() (string, bool) {
	quote := t.text[t.pos : t.pos+1]
	if long := strings.Repeat(quote, 3); strings.HasPrefix(t.text[t.pos:], long) {
		quote = long
	}
	t.pos += len(quote)
	from := t.pos
	for t.pos < len(t.text) {
		switch {
		case t.text[t.pos] == '\\' && quote[0] == '"':
			t.pos++
		case t.eat(quote):
			return t.text[from : t.pos-len(quote)], true
		}
		if t.pos < len(t.text) && t.text[t.pos] == '\n' {
			if len(quote) == 1 {
				return "", false
			}
			t.line++
		}
		t.pos = min(t.pos+1, len(t.text))
	}
	return "", false
}
