package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// load is the one document in data, or nil when it is empty or wrong.
func (d *decoder) load(data []byte) *yaml.Node {
	if len(data) > MaxDocument {
		d.fail(0, 0, bad("", "the file is larger than %s", Size(MaxDocument)))
		return nil
	}
	if at := notText(data); at >= 0 {
		before := data[:at]
		d.fail(1+bytes.Count(before, []byte("\n")), at-bytes.LastIndexByte(before, '\n'), bad("write plain UTF-8 without control characters", "byte %#02x does not belong into text", data[at]))
		return nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var first, second yaml.Node
	if err := dec.Decode(&first); err != nil {
		if !errors.Is(err, io.EOF) {
			d.syntax(err, data)
		}
		return nil
	}
	if err := dec.Decode(&second); err == nil {
		d.failAt(&second, "remove everything from --- on", "the file holds a second document")
		return nil
	} else if !errors.Is(err, io.EOF) {
		d.syntax(err, data)
		return nil
	}
	root := first.Content[0]
	if isNull(root) {
		return nil
	}
	return root
}

// notText is where data stops being text that reads as it looks, or -1. A person who trusts a document must see what it says, so this refuses invalid
// UTF-8 (the YAML reader would take UTF-16, which no reviewer's tools show), control characters, line breaks that only YAML sees (U+2028, U+2029, CR alone:
// what looks like a comment would be a key), and marks that turn the direction of writing around (CVE-2021-42574).
func notText(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		switch {
		case r == '\t' || r == '\n' || r == '\r' && bytes.HasPrefix(data[i:], []byte("\r\n")):
		case r == utf8.RuneError && n == 1 || isDeceptive(r):
			return i
		}
		i += n
	}
	return -1
}

// isDeceptive is true for what cannot be seen or moves what can.
func isDeceptive(r rune) bool {
	return unicode.IsControl(r) || 0x2028 <= r && r <= 0x202e || 0x2066 <= r && r <= 0x2069
}

// syntax turns the YAML reader's error into one with a place: the first column of the line, since it tells no column.
func (d *decoder) syntax(err error, data []byte) {
	line, msg := 1, strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(msg, "line "); ok {
		number, after, _ := strings.Cut(rest, ": ")
		line, _ = strconv.Atoi(number)
		msg = after
		if isParsers(msg) {
			line++ // it counts from 0, and the scanner from 1
		}
	}
	lines := strings.Split(string(data), "\n")
	line = min(max(line, 1), len(lines))
	text := lines[line-1]
	col := 1 + len(text) - len(strings.TrimLeft(text, " \t"))
	d.fail(line, col, bad(syntaxHint(text), "this is not YAML: %s", msg))
}

// isParsers tells the YAML reader's parser from its scanner by the words.
func isParsers(msg string) bool {
	for _, of := range []string{"did not find expected ','", "did not find expected '-'", "did not find expected <", "did not find expected key", "did not find expected node", "found duplicate", "found incompatible", "found undefined"} {
		if strings.HasPrefix(msg, of) {
			return true
		}
	}
	return false
}

// syntaxHint knows the mistakes that patterns and tabs invite.
func syntaxHint(line string) string {
	if strings.Contains(line[:len(line)-len(strings.TrimLeft(line, " \t"))], "\t") {
		return "indent with spaces, not tabs"
	}
	for _, mark := range []string{"[*", ", *", ",*", "- *", ": *", "[!", ", !", ",!", "- !"} {
		if strings.Contains(line, mark) {
			return `put patterns that begin with * or ! in quotes: "*.pem"`
		}
	}
	return ""
}

// plain refuses what would make a document mean something else than it seems to: anchors, aliases and tags.
func (d *decoder) plain(n *yaml.Node) {
	switch {
	case n.Kind == yaml.AliasNode:
		d.failAt(n, `write the value again, or put a pattern in quotes: "*`+n.Value+`"`, "alias *%s is not allowed", n.Value)
		return // what it points to is not looked at: it may be this node
	case n.Anchor != "":
		d.failAt(n, "write the value again where it is needed", "anchor &%s is not allowed", n.Anchor)
	case n.Style&yaml.TaggedStyle != 0:
		d.failAt(n, fmt.Sprintf("put what begins with ! in quotes: %q", strings.TrimSpace(n.Tag+" "+n.Value)), "tag %s is not allowed", n.Tag)
	}
	for _, c := range n.Content {
		d.plain(c)
	}
}
