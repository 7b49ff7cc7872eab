package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// MaxDocument is the size in bytes of the largest document.
const MaxDocument = 1 << 20

// maxErrors bounds the list: nobody reads more, and a hostile document would make a million.
const maxErrors = 50

// Parse reads a document and says everything that is wrong with it: the error is of type Errors.
// name is what origins and errors call it. Aliases and anchors are refused, so that nothing grows beyond the bytes that were read.
func Parse(name string, data []byte) (*Document, error) {
	d := decoder{doc: &Document{Name: name, present: map[string]Origin{}}}
	if root := d.load(data); root != nil {
		d.plain(root)
		if len(d.errs) == 0 {
			d.mapping(root, "")
		}
	}
	if err := d.errs.orNil(); err != nil {
		return nil, err
	}
	for _, e := range d.doc.entries {
		e.put(&d.doc.Settings, e.origin)
	}
	return d.doc, nil
}

type decoder struct {
	doc  *Document
	errs Errors
}

func (d *decoder) fail(line, col int, err *Error) {
	if len(d.errs) < maxErrors {
		d.errs = append(d.errs, err.at(Origin{File: d.doc.Name, Line: line, Col: col}))
	}
}

func (d *decoder) failAt(n *yaml.Node, hint, format string, args ...any) {
	d.fail(n.Line, n.Column, bad(hint, format, args...))
}

// mapping reads the keys of a mapping; prefix is "" or ends in a dot.
func (d *decoder) mapping(n *yaml.Node, prefix string) {
	d.pairs(n, strings.TrimSuffix(prefix, "."), func(k, v *yaml.Node) {
		row, known := find(prefix + k.Value)
		if !known || strings.ContainsAny(k.Value, ".[*") {
			d.unknown(k, prefix)
			return
		}
		d.value(row, k, v)
	})
}

// pairs calls do for each key of a mapping, once.
func (d *decoder) pairs(n *yaml.Node, what string, do func(k, v *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		if what == "" {
			what = "a policy"
		}
		d.failAt(n, "write KEY: VALUE", "%s is a mapping of keys, not %s", what, describe(n))
		return
	}
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode || k.ShortTag() == "!!null" {
			d.failAt(k, "", "a key is a word, not %s", describe(k))
			continue
		}
		if line, twice := seen[k.Value]; twice {
			d.failAt(k, "keep one of them", "key %s stands here and in line %d", quoted(k.Value), line)
			continue
		}
		seen[k.Value] = k.Line
		do(k, v)
	}
}

func (d *decoder) unknown(k *yaml.Node, prefix string) {
	hint := didYouMean(k.Value, below(prefix))
	if hint == "" {
		hint = elsewhere(prefix, k.Value)
	}
	if hint == "" {
		hint = "known here: " + strings.Join(below(prefix), ", ")
	}
	d.failAt(k, hint, "key %s is not known", quoted(prefix+k.Value))
}

// elsewhere is a hint for a key that exists, but under another one.
func elsewhere(prefix, wrote string) string {
	for _, row := range table() {
		parent, last, nested := cutLast(row.path)
		switch {
		case nested && prefix+wrote == row.path:
			return fmt.Sprintf("write %s: {%s: %s}", parent, last, row.example)
		case last != wrote:
		case nested:
			return fmt.Sprintf("%q belongs under %q", wrote, parent)
		default:
			return fmt.Sprintf("%q belongs at the top, not under %q", wrote, strings.TrimSuffix(prefix, "."))
		}
	}
	return ""
}

func cutLast(path string) (parent, last string, ok bool) {
	i := strings.LastIndexByte(path, '.')
	if i < 0 {
		return "", path, false
	}
	return path[:i], path[i+1:], true
}

// value reads what stands under one key of the table.
func (d *decoder) value(row *key, k, n *yaml.Node) {
	d.doc.present[row.path] = Origin{File: d.doc.Name, Line: k.Line, Col: k.Column}
	switch row.kind {
	case aSection:
		if !isNull(n) { // all its keys may be commented out
			d.mapping(n, row.path+".")
		}
	case textList, wordList, ports, openPorts:
		for _, item := range d.items(row, n) {
			d.scalar(row, item)
		}
	case rules:
		read := d.rule
		if row.path == "ssh" {
			read = d.login
		}
		for _, item := range d.items(row, n) {
			read(row, item)
		}
	case named:
		d.pairs(n, row.path, func(k, v *yaml.Node) { d.secret(row, k, v) })
	case variables:
		d.pairs(n, row.path, func(k, v *yaml.Node) { d.variable(row, k, v) })
	default:
		d.scalar(row, n)
	}
}

// items are the elements of a list.
func (d *decoder) items(row *key, n *yaml.Node) []*yaml.Node {
	if n.Kind != yaml.SequenceNode {
		hint := "write " + row.example
		if n.Kind == yaml.ScalarNode && !isNull(n) {
			hint = fmt.Sprintf("write [%s]", quoted(n.Value))
		}
		d.failAt(n, hint, "%s is a list, not %s", row.path, describe(n))
		return nil
	}
	if len(n.Content) > maxItems {
		d.failAt(n, "", "%s has %d elements, and %d is the most", row.path, len(n.Content), maxItems)
		return nil
	}
	return n.Content
}

// scalar reads a value, or an element of a list, and adds what it says to the document.
func (d *decoder) scalar(row *key, n *yaml.Node) {
	e, ok := d.read(row, n)
	if ok && e.put != nil {
		d.add(row, n, e)
	}
}

func (d *decoder) add(row *key, n *yaml.Node, e entry) {
	e.key, e.origin = row.path, Origin{File: d.doc.Name, Line: n.Line, Col: n.Column}
	d.doc.entries = append(d.doc.entries, e)
}

// read checks the type and the text of a value.
func (d *decoder) read(row *key, n *yaml.Node) (entry, bool) {
	if n.Kind != yaml.ScalarNode || !slices.Contains(row.kind.tags(), n.ShortTag()) {
		d.failAt(n, typeHint(row, n), "%s wants %s, not %s", row.path, row.kind.wants(), describe(n))
		return entry{}, false
	}
	e, err := row.field.item(n.Value)
	if err != nil {
		d.report(n, row.path, err)
		return entry{}, false
	}
	return e, true
}

// report places an error that a check made.
func (d *decoder) report(n *yaml.Node, what string, err error) {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Msg: err.Error()}
	}
	d.fail(n.Line, n.Column, &Error{Msg: what + ": " + e.Msg, Hint: e.Hint})
}

func typeHint(row *key, n *yaml.Node) string {
	switch {
	case isNull(n):
		return "give it a value, or remove it"
	case row.kind == aTime && n.ShortTag() == "!!int":
		return fmt.Sprintf("write %ss, %sm or %sh", n.Value, n.Value, n.Value)
	case n.Kind == yaml.ScalarNode && slices.Contains(row.kind.tags(), "!!str"):
		return "put it in quotes: " + quoted(n.Value)
	}
	return "write " + row.example
}

// rule reads one opening of the network.
func (d *decoder) rule(row *key, n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && !isNull(n) {
		d.failAt(n, fmt.Sprintf("write {host: %s}", n.Value), "%s holds rules, not %s", row.path, describe(n))
		return
	}
	before := len(d.errs)
	var r NetRule
	d.parts(n, row.path+"[].", func(part string, texts []string) {
		switch part {
		case "host":
			r.Host, _ = allowPattern(texts[0])
		case "ports":
			r.Ports = readAll(port, texts)
		case "methods":
			r.Methods = texts
		case "paths":
			r.Paths = texts
		case "networks":
			r.Networks = readAll(network, texts)
		case "until":
			r.Until, _ = day(texts[0])
		case "reason":
			r.Reason = texts[0]
		}
	})
	if len(d.errs) > before {
		return
	}
	if r.Host == "" {
		d.failAt(n, "write {host: api.example.com}", "a rule of %s has no host", row.path)
		return
	}
	if r.Ports == nil {
		r.Ports = []int{443}
	}
	d.add(row, n, listEntry(func(s *Settings) *[]Value[NetRule] { return &s.Network.Allow }, r, always))
}

// secret reads one credential's names.
func (d *decoder) secret(row *key, k, v *yaml.Node) {
	before := len(d.errs)
	s := Secret{Name: k.Value}
	if _, err := name(k.Value); err != nil {
		d.report(k, row.path, err)
	}
	d.parts(v, row.path+".*.", func(part string, texts []string) {
		switch part {
		case "env":
			s.Env = texts[0]
		case "hosts":
			s.Hosts = readAll(hostPattern, texts)
		case "ports":
			s.Ports = readAll(port, texts)
		case "place":
			s.Place, _ = place(texts[0])
		case "methods":
			s.Methods = texts
		case "paths":
			s.Paths = texts
		}
	})
	if len(d.errs) > before {
		return
	}
	if s.Env == "" || len(s.Hosts) == 0 {
		d.failAt(v, "write "+row.example, "secret %s needs env and hosts", quoted(s.Name))
		return
	}
	if err := s.checkParts(); err != nil {
		d.report(v, row.path, err)
		return
	}
	if s.Ports == nil {
		s.Ports = []int{443}
	}
	d.add(row, k, secretEntry(s))
}

func secretEntry(s Secret) entry {
	return namedEntry(func(s *Settings) *[]Value[Secret] { return &s.Secrets }, s, func(s Secret) string { return s.Name })
}

// variable reads one variable of the command's environment. Its value is taken as it is written: 1.10 stays 1.10.
func (d *decoder) variable(row *key, k, v *yaml.Node) {
	if v.Kind != yaml.ScalarNode || isNull(v) {
		d.failAt(v, `write "" for an empty one`, "%s.%s wants text, not %s", row.path, k.Value, describe(v))
		return
	}
	e, err := setVariable(k.Value, v.Value)
	if err != nil {
		d.report(k, row.path, err)
		return
	}
	d.add(row, k, e)
}

// parts reads the keys of a rule, checks them and hands on their texts.
func (d *decoder) parts(n *yaml.Node, prefix string, use func(part string, texts []string)) {
	d.pairs(n, strings.TrimSuffix(prefix, "."), func(k, v *yaml.Node) {
		row, known := find(prefix + k.Value)
		if !known || strings.ContainsAny(k.Value, ".[*") {
			d.unknown(k, prefix)
			return
		}
		nodes := []*yaml.Node{v}
		if row.kind == textList || row.kind == ports {
			if nodes = d.items(row, v); len(nodes) == 0 {
				if v.Kind == yaml.SequenceNode && len(v.Content) == 0 {
					d.failAt(v, "remove it, or name what is meant", "%s is empty", row.path)
				}
				return
			}
		}
		var out []string
		for _, n := range nodes {
			if _, ok := d.read(row, n); ok {
				out = append(out, n.Value)
			}
		}
		if len(out) == len(nodes) {
			use(k.Value, out)
		}
	})
}

// readAll reads texts that were checked before.
func readAll[T any](read func(string) (T, error), texts []string) []T {
	out := make([]T, 0, len(texts))
	for _, t := range texts {
		if v, err := read(t); err == nil {
			out = append(out, v)
		}
	}
	return out
}

// tags are the YAML types that a kind of value, or of element, may have.
func (k kind) tags() []string {
	switch k {
	case aYes:
		return []string{"!!bool"}
	case anInt, ports:
		return []string{"!!int"}
	case aNumber:
		return []string{"!!int", "!!float"}
	case aSize, openPorts:
		return []string{"!!int", "!!str"}
	case aDate:
		return []string{"!!timestamp", "!!str"}
	}
	return []string{"!!str"}
}

// wants is the type in words.
func (k kind) wants() string {
	switch k {
	case aYes:
		return "true or false"
	case anInt:
		return "a whole number"
	case ports:
		return "port numbers"
	case aNumber:
		return "a number"
	case aSize:
		return "a size"
	case aTime:
		return "a time with its unit"
	case aDate:
		return "a date"
	case openPorts:
		return "ports"
	}
	return "text"
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// describe is what a node is, in words.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!null":
		return "nothing"
	case "!!int", "!!float":
		return "the number " + n.Value
	case "!!bool":
		return "the truth value " + n.Value
	case "!!timestamp":
		return "the date " + n.Value
	}
	return quoted(n.Value)
}
