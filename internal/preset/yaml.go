package preset

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// yamlText is a text in a YAML document, and where it stands. Elements of a list have the path of the list.
type yamlText struct {
	path  []string
	value string
	line  int
}

// yamlTexts lists the texts of a document, or nothing when it is none. Aliases are left out: they would let a short file say much.
func yamlTexts(text string) (list []yamlText) {
	var root yaml.Node
	if len(text) > maxFile || yaml.NewDecoder(strings.NewReader(text)).Decode(&root) != nil {
		return nil
	}
	var walk func(n *yaml.Node, path []string)
	walk = func(n *yaml.Node, path []string) {
		switch {
		case len(path) > 8 || len(list) == maxSettings:
		case n.Kind == yaml.DocumentNode, n.Kind == yaml.SequenceNode:
			for _, c := range n.Content {
				walk(c, path)
			}
		case n.Kind == yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				walk(n.Content[i+1], append(path[:len(path):len(path)], n.Content[i].Value))
			}
		case n.Kind == yaml.ScalarNode && len(path) > 0:
			list = append(list, yamlText{path, n.Value, n.Line})
		}
	}
	walk(&root, nil)
	return list
}
