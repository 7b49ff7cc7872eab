package policy

import (
	"bytes"
	"fmt"
	"strings"
)

// Reference is every key of a document in Markdown, and the built-in hide list.
func Reference() []byte {
	var b bytes.Buffer
	b.WriteString("# Policy reference\n\n")
	b.WriteString("One YAML document, the same for every engine; every key is optional. Unknown keys, wrong types and impossible values are errors, and so are anchors, aliases, tags,\n")
	fmt.Fprintf(&b, "duplicate keys, a second document in the file, more than %d elements in a list and files over %s.\n\n", maxItems, Size(MaxDocument))
	b.WriteString(tiersText)
	b.WriteString("\n## Keys\n")
	for _, k := range table() {
		k.reference(&b)
	}
	b.WriteString("\n## What is hidden, unasked\n\n")
	b.WriteString("In this order, at any depth; the last pattern that matches decides. `files.hide` adds to the list or, with `!`, excepts from it.\n\n")
	b.WriteString("| pattern | why |\n|---|---|\n")
	for _, r := range BuiltinHide() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", r.Pattern, r.Reason)
	}
	return b.Bytes()
}

const tiersText = `## Who says what

Level, preset, organisation, user, project, command line: of a key with one value the later tier's holds, and lists add up. What hides, protects, makes readonly or
denies wins over what allows, whatever the order. The organisation is a ceiling: where a key says so below, a later tier that goes beyond the organisation's value is an error,
and so is any change of a key that the organisation locked. A project's file narrows freely; its lines that widen have no effect until a person approved the file
with ` + "`casemate trust`" + `. A level takes back what earlier tiers than the one that chose it opened beyond it.

The organisation's file (` + "`/etc/casemate/policy.yaml`" + `) must be root's, and nobody else may be able to write it; yours (` + "`~/.config/casemate/policy.yaml`" + `), and what you approved beside it,
must be yours or root's, and not writable by everybody. Otherwise nothing runs.
`

func (k *key) reference(b *bytes.Buffer) {
	fmt.Fprintf(b, "\n%s `%s`\n\n%s\n\n", strings.Repeat("#", 3+min(strings.Count(k.path, "."), 1)), k.path, k.doc)
	row := func(what, text string) {
		if text != "" {
			fmt.Fprintf(b, "- %s: %s\n", what, text)
		}
	}
	row("Status", k.notYet())
	row("Type", k.typeName())
	row("Written", k.kind.units())
	row("Default", k.def)
	if k.example != "" {
		row("Example", "`"+k.path[strings.LastIndexAny(k.path, ".")+1:]+": "+k.example+"`")
	}
	row("Refused", k.wrong)
	row("Widens", k.opens)
	if k.ceiling {
		row("Ceiling", "later tiers do not go beyond the organisation's value")
	}
}

// Commented is the document that `casemate init` writes: every key, explained and commented out. It allows and denies nothing.
func Commented() []byte {
	return commented("What a sandbox of this project may do.", "Lines that allow more take effect when you run `casemate trust`, and again after every change of this file.")
}

// CommentedOwn is the same for a person's own policy, which nobody needs to approve.
func CommentedOwn() []byte {
	return commented("What the sandboxes of all your projects may do.", "It takes effect as it stands: `casemate trust` is for what a project's own policy allows beyond it.")
}

func commented(what, effect string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# yaml-language-server: $schema=%s\n", SchemaURL)
	fmt.Fprintf(&b, "# %s Every key is optional; remove the # before a key to use it.\n# %s\n", what, effect)
	for _, k := range table() {
		if strings.ContainsAny(k.path, "[*") || k.path == "locked" {
			continue // explained with their list; for the organisation only
		}
		k.commented(&b)
	}
	return b.Bytes()
}

func (k *key) commented(b *bytes.Buffer) {
	parent, name, nested := cutLast(k.path)
	indent := ""
	if nested && parent != "" {
		indent = "  "
	}
	b.WriteString("\n")
	for _, line := range wrap(strings.TrimSpace(k.meaning()+" "+k.notYet()), 100) {
		b.WriteString(indent + "# " + line + "\n")
	}
	switch {
	case k.path == "version":
		b.WriteString("version: 1\n")
	case k.kind == aSection:
		b.WriteString(name + ":\n")
	default:
		b.WriteString(indent + "#" + name + ": " + k.example + "\n")
	}
}

// wrap breaks text into lines of about width bytes.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return append(lines, line)
}
