package policy

import (
	"encoding/json"
	"strings"

	"go.yaml.in/yaml/v3"
)

// SchemaURL names the schema. Editors find it by the first line of what Commented writes.
const SchemaURL = "https://casemate.dev/schema/policy-1.json"

// Schema is the JSON Schema (draft 2020-12) of a document. It refuses nothing that Parse takes, and Parse is the stricter of the two.
func Schema() []byte {
	root := object("")
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["$id"] = SchemaURL
	root["title"] = "Casemate policy"
	out, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic("bug: the schema is not JSON: " + err.Error())
	}
	return append(out, '\n')
}

// object is the schema of a mapping whose keys are those below prefix.
func object(prefix string) map[string]any {
	properties, needed := map[string]any{}, []string{}
	for _, name := range below(prefix) {
		row, _ := find(prefix + name)
		properties[name] = row.schema()
		if row.needed {
			needed = append(needed, name)
		}
	}
	o := map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	if len(needed) > 0 {
		o["required"] = needed
	}
	return o
}

func (k *key) schema() map[string]any {
	s := k.shape()
	s["description"] = k.meaning()
	if k.example != "" {
		s["examples"] = []any{jsonValue(k.example)}
	}
	return s
}

// meaning is what the key means and what holds without it.
func (k *key) meaning() string {
	if k.def == "" {
		return k.doc
	}
	return k.doc + " Default: " + k.def + "."
}

func (k *key) shape() map[string]any {
	switch k.kind {
	case aSection:
		s := object(k.path + ".")
		s["type"] = []string{"object", "null"}
		return s
	case rules:
		return listOf(object(k.path + "[]."))
	case named:
		return map[string]any{"type": "object", "additionalProperties": object(k.path + ".*."), "propertyNames": matching(`^[a-z0-9][a-z0-9._-]*$`)}
	case variables:
		return map[string]any{"type": "object", "additionalProperties": map[string]any{"type": []string{"string", "number", "boolean"}}, "propertyNames": matching(`^[A-Za-z_][A-Za-z0-9_]*$`)}
	case wordList:
		return listOf(map[string]any{"enum": k.words})
	case textList:
		return listOf(map[string]any{"type": "string"})
	case ports:
		return listOf(portNumber("integer"))
	case openPorts:
		return listOf(portNumber("integer", "string"))
	}
	return k.scalarShape()
}

func (k *key) scalarShape() map[string]any {
	switch k.kind {
	case aWord:
		return map[string]any{"enum": k.words}
	case aYes:
		return map[string]any{"type": "boolean"}
	case anInt:
		return map[string]any{"type": "integer", "minimum": 1}
	case aNumber:
		return map[string]any{"type": "number", "exclusiveMinimum": 0}
	case aSize:
		return map[string]any{"type": []string{"integer", "string"}, "minimum": 1, "pattern": `^[0-9]+ *(B|kB|[KMGT]B|[KMGT]iB)?$`}
	case aTime:
		return map[string]any{"type": "string", "pattern": `^(none|([0-9.]+(ns|us|µs|ms|s|m|h))+)$`}
	case aDate:
		return map[string]any{"type": "string", "format": "date"}
	}
	return map[string]any{"type": "string"}
}

func matching(p string) map[string]any { return map[string]any{"pattern": p} }

func listOf(item map[string]any) map[string]any {
	return map[string]any{"type": "array", "items": item, "maxItems": maxItems}
}

func portNumber(types ...string) map[string]any {
	return map[string]any{"type": types, "minimum": 1, "maximum": 65535}
}

// jsonValue is an example as JSON.
func jsonValue(example string) any {
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(example), &n); err != nil {
		panic("bug: example " + example + ": " + err.Error())
	}
	return plainValue(n.Content[0])
}

// plainValue keeps dates as they are written.
func plainValue(n *yaml.Node) any {
	switch n.Kind {
	case yaml.SequenceNode:
		out := make([]any, len(n.Content))
		for i, c := range n.Content {
			out[i] = plainValue(c)
		}
		return out
	case yaml.MappingNode:
		out := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			out[n.Content[i].Value] = plainValue(n.Content[i+1])
		}
		return out
	}
	switch n.ShortTag() {
	case "!!int", "!!float":
		return json.Number(n.Value)
	case "!!bool":
		return n.Value == "true"
	}
	return n.Value
}

// units is how numbers of this kind are written, in words.
func (k kind) units() string {
	switch k {
	case aSize:
		return "plain bytes, or a whole number with kB, MB, GB, TB (steps of 1000) or KiB, MiB, GiB, TiB (steps of 1024)"
	case aTime:
		return "s, m, h and their sums, such as 1h30m; or none"
	case aDate:
		return "year-month-day"
	}
	return ""
}

// typeName is the kind in words, for the reference.
func (k *key) typeName() string {
	switch k.kind {
	case aSection:
		return "mapping"
	case aWord:
		return "one of " + code(k.words)
	case wordList:
		return "list of " + code(k.words)
	case textList:
		return "list of text"
	case ports, openPorts:
		return "list of ports"
	case rules:
		return "list of rules"
	case named:
		return "mapping from names to mappings"
	case variables:
		return "mapping from names to text"
	}
	return strings.TrimPrefix(strings.TrimPrefix(k.kind.wants(), "a "), "an ")
}

func code(words []string) string { return "`" + strings.Join(words, "`, `") + "`" }
