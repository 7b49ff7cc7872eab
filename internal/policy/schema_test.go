package policy

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestSchemaHasEveryKey(t *testing.T) {
	reference, commented := string(Reference()), string(Commented())
	root := schemaValue(t)
	for _, k := range table() {
		if k.doc == "" || k.example == "" && k.kind != aSection {
			t.Errorf("%s has no meaning or no example", k.path)
		}
		if node := schemaAt(root, k.path); node == nil || node["description"] == "" {
			t.Errorf("%s is not in the schema", k.path)
		}
		if !strings.Contains(reference, "`"+k.path+"`\n\n"+k.doc) {
			t.Errorf("%s is not in the reference", k.path)
		}
		_, name, _ := cutLast(k.path)
		if !strings.ContainsAny(k.path, "[*") && k.path != "locked" && !strings.Contains(commented, name+":") {
			t.Errorf("%s is not in what init writes", k.path)
		}
	}
	for _, r := range BuiltinHide() {
		if !strings.Contains(reference, "| `"+r.Pattern+"` | "+r.Reason+" |") {
			t.Errorf("%s is not in the reference", r.Pattern)
		}
	}
}

func schemaValue(t *testing.T) map[string]any {
	t.Helper()
	var root map[string]any
	if err := json.Unmarshal(Schema(), &root); err != nil {
		t.Fatal(err)
	}
	return root
}

// schemaAt is the schema of a path of the table.
func schemaAt(node map[string]any, path string) map[string]any {
	for part := range strings.SplitSeq(path, ".") {
		name, list := strings.CutSuffix(part, "[]")
		var next any
		if name == "*" {
			next = node["additionalProperties"]
		} else if properties, ok := node["properties"].(map[string]any); ok {
			next = properties[name]
		}
		node, _ = next.(map[string]any)
		if list && node != nil {
			node, _ = node["items"].(map[string]any)
		}
		if node == nil {
			return nil
		}
	}
	return node
}

// TestExamples: the example of each key is taken by Parse, at its place.
func TestExamples(t *testing.T) {
	for _, k := range table() {
		if k.kind == aSection || strings.ContainsAny(k.path, "[*") {
			continue
		}
		text := k.path + ": " + k.example
		if parent, name, nested := cutLast(k.path); nested {
			text = parent + ": {" + name + ": " + k.example + "}"
		}
		if _, err := Parse("f", []byte(text)); err != nil {
			t.Errorf("%s\n%v", text, err)
		}
	}
}

func TestCommented(t *testing.T) {
	first, _, _ := strings.Cut(string(Commented()), "\n")
	if first != "# yaml-language-server: $schema="+SchemaURL {
		t.Errorf("the first line does not lead editors to the schema: %s", first)
	}
	doc := mustParse(t, "casemate.yaml", string(Commented()))
	if len(doc.entries) > 0 {
		t.Errorf("a new file already says %v", doc.said())
	}
	// With the # before each key removed it is still a document, and says everything.
	all := regexp.MustCompile(`(?m)^( *)#([a-z_]+:)`).ReplaceAllString(string(Commented()), "$1$2")
	doc = mustParse(t, "casemate.yaml", all)
	for _, k := range table() {
		if _, says := doc.present[k.path]; !says && !strings.ContainsAny(k.path, "[*") && k.path != "locked" {
			t.Errorf("%s is not in it", k.path)
		}
	}
}

// TestSchemaTakesWhatParseTakes reads documents with a small reader of the part of JSON Schema that is used here.
func TestSchemaTakesWhatParseTakes(t *testing.T) {
	root := schemaValue(t)
	for _, c := range []struct {
		name, text string
		taken      bool
	}{
		{"example", string(example(t)), true},
		{"commented", string(Commented()), true},
		{"empty section", "files:\n", true},
		{"sizes", "limits: {memory: 1073741824, disk: 5 GB}", true},
		{"times", "limits: {time: none, idle: 1h30m}", true},
		{"ports", "network: {publish: [1, '1:2', auto], host_ports: [5]}", true},
		{"variables", "env: {set: {A: 1, B: x}}", true},
		{"truth value", "network: {ask: false}", true},
		{"truth value in quotes", "network: {ask: 'true'}", false},
		{"unknown key", "levle: full", false},
		{"unknown key of a section", "files: {hid: []}", false},
		{"unknown key of a rule", "network: {allow: [{host: x.example, port: 1}]}", false},
		{"rule without host", "network: {allow: [{ports: [1]}]}", false},
		{"word", "level: huge", false},
		{"fallback", "allow_fallback: [docker]", false},
		{"text for a list", "files: {hide: x}", false},
		{"size", "limits: {memory: 12G}", false},
		{"time", "limits: {time: 2d}", false},
		{"port", "network: {host_ports: [70000]}", false},
		{"login", "ssh: [{hosts: [x.example], keys: [~/id.pub]}]", true},
		{"login without hosts", "ssh: [{keys: [a]}]", false},
		{"secret", "secrets: {a: {env: X}}", false},
		{"variable", "env: {set: {A-B: 1}}", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := conforms(root, jsonValue(c.text), "$")
			if (err == nil) != c.taken {
				t.Errorf("schema: %v", err)
			}
			if _, parseErr := Parse("f", []byte(c.text)); (parseErr == nil) != c.taken {
				t.Errorf("Parse: %v", parseErr)
			}
		})
	}
}

func conforms(schema map[string]any, v any, at string) error {
	if err := conformsType(schema, v, at); err != nil {
		return err
	}
	if enum, ok := schema["enum"].([]any); ok && !slices.Contains(enum, v) {
		return fmt.Errorf("%s: %v is none of %v", at, v, enum)
	}
	switch v := v.(type) {
	case string:
		if p, ok := schema["pattern"].(string); ok && !regexp.MustCompile(p).MatchString(v) {
			return fmt.Errorf("%s: %q is not like %s", at, v, p)
		}
	case json.Number:
		f, _ := v.Float64()
		low, high := math.Inf(-1), math.Inf(1)
		if m, ok := schema["minimum"].(float64); ok {
			low = m
		}
		if m, ok := schema["maximum"].(float64); ok {
			high = m
		}
		if f < low || f > high {
			return fmt.Errorf("%s: %v is out of bounds", at, v)
		}
	case []any:
		items, _ := schema["items"].(map[string]any)
		for i, e := range v {
			if err := conforms(items, e, fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
	case map[string]any:
		return conformsObject(schema, v, at)
	}
	return nil
}

func conformsObject(schema, v map[string]any, at string) error {
	properties, _ := schema["properties"].(map[string]any)
	for k, e := range v {
		if names, ok := schema["propertyNames"].(map[string]any); ok {
			if err := conforms(names, k, at); err != nil {
				return err
			}
		}
		s, known := properties[k].(map[string]any)
		if !known {
			if s, known = schema["additionalProperties"].(map[string]any); !known {
				return fmt.Errorf("%s: %s is not known", at, k)
			}
		}
		if err := conforms(s, e, at+"."+k); err != nil {
			return err
		}
	}
	needed, _ := schema["required"].([]any)
	for _, k := range needed {
		if _, there := v[k.(string)]; !there {
			return fmt.Errorf("%s: no %s", at, k)
		}
	}
	return nil
}

func conformsType(schema map[string]any, v any, at string) error {
	var types []any
	switch t := schema["type"].(type) {
	case nil:
		return nil
	case []any:
		types = t
	default:
		types = []any{t}
	}
	got := map[bool]string{true: "integer", false: "number"}
	var is []any
	switch v := v.(type) {
	case string:
		is = []any{"string"}
		if v == "" {
			is = append(is, "null") // an empty section
		}
	case json.Number:
		is = []any{got[!strings.Contains(v.String(), ".")], "number"}
	case bool:
		is = []any{"boolean"}
	case []any:
		is = []any{"array"}
	case map[string]any:
		is = []any{"object"}
	}
	if !slices.ContainsFunc(types, func(t any) bool { return slices.Contains(is, t) }) {
		return fmt.Errorf("%s: %v is not %v", at, v, types)
	}
	return nil
}
