package policy

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// AddAllow adds an opening of the network to a document, whose comments and order stay. An empty document becomes one.
func AddAllow(doc []byte, r NetRule) ([]byte, error) {
	return edit(doc, func(top *yaml.Node) error {
		network, err := child(top, "network", yaml.MappingNode)
		if err != nil {
			return err
		}
		allow, err := child(network, "allow", yaml.SequenceNode)
		if err != nil {
			return err
		}
		rule := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle, Content: []*yaml.Node{word("host"), word(r.Host)}}
		ports := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for _, p := range r.Ports {
			ports.Content = append(ports.Content, number(p))
		}
		rule.Content = append(rule.Content, word("ports"), ports)
		allow.Content = append(allow.Content, rule)
		return nil
	})
}

// AddPreset adds a preset to a document in the same way, unless it is there.
func AddPreset(doc []byte, preset string) ([]byte, error) {
	return edit(doc, func(top *yaml.Node) error {
		presets, err := child(top, "presets", yaml.SequenceNode)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(presets.Content, func(n *yaml.Node) bool { return n.Value == preset }) {
			return nil
		}
		if len(presets.Content) == 0 {
			presets.Style = yaml.FlowStyle
		}
		presets.Content = append(presets.Content, word(preset))
		return nil
	})
}

// edit changes a document, which must be a policy still.
func edit(doc []byte, change func(top *yaml.Node) error) ([]byte, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(doc, &root); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if root.Kind == 0 { // nothing, or comments alone, which the parser drops
		root = yaml.Node{Kind: yaml.DocumentNode}
		if out.Write(doc); len(doc) > 0 && doc[len(doc)-1] != '\n' {
			out.WriteByte('\n')
		}
	}
	if len(root.Content) == 0 {
		root.Content = []*yaml.Node{{Kind: yaml.MappingNode, Content: []*yaml.Node{word("version"), number(1)}}}
	}
	if err := change(root.Content[0]); err != nil {
		return nil, err
	}
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(&root); err != nil {
		return nil, err
	}
	if _, err := Parse("policy", out.Bytes()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// child finds a key's value in a mapping, or adds an empty one.
func child(in *yaml.Node, key string, kind yaml.Kind) (*yaml.Node, error) {
	if in.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: a mapping is expected around %s", in.Line, key)
	}
	for i := 0; i+1 < len(in.Content); i += 2 {
		if in.Content[i].Value != key {
			continue
		}
		v := in.Content[i+1]
		if isNull(v) {
			*v = yaml.Node{Kind: kind}
		}
		if v.Kind != kind {
			return nil, fmt.Errorf("line %d: %s is written in a way that a rule cannot be added to", v.Line, key)
		}
		return v, nil
	}
	v := &yaml.Node{Kind: kind}
	in.Content = append(in.Content, word(key), v)
	return v, nil
}

func word(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	return n
}

func number(v int) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.Itoa(v)}
}
