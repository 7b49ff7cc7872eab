package policy

// Effective is one value that holds, and where it comes from.
type Effective struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	From   string `json:"from"` // Origin as people read it
	Origin Origin `json:"origin,omitzero"`
}

// Explain lists every value that holds, lists element by element, in the order of the reference. Lists with nothing in them have no row.
func (p *Policy) Explain() []Effective {
	var out []Effective
	for _, k := range table() {
		for _, v := range k.effective(&p.Settings) {
			out = append(out, Effective{k.path, v.V, v.Origin.String(), v.Origin})
		}
	}
	return out
}

// effective are the values under a key; a scalar that nobody set is its default.
func (k *key) effective(s *Settings) []Value[string] {
	vs := k.said(s)
	if len(vs) == 0 && k.field.show != nil && !k.kind.isList() {
		return []Value[string]{{V: k.def}}
	}
	return vs
}

// said are the values that somebody gave to a key.
func (k *key) said(s *Settings) []Value[string] {
	if k.field.show == nil {
		return nil
	}
	return k.field.show(s)
}

func (k kind) isList() bool {
	switch k {
	case textList, wordList, ports, openPorts, rules, named, variables:
		return true
	}
	return false
}
