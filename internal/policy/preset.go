package policy

import (
	"fmt"
	"net/netip"
)

// Opens is one host that a preset opens.
type Opens struct {
	Host     string         // HOST or HOST:PORT, as --allow takes it
	Methods  []string       // of the requests; all when empty
	Paths    []string       // the same
	Networks []netip.Prefix // private ranges that the name may resolve to
	From     string         // where it stands: a file with its line, a variable, a command
}

// ParseAllow reads an opening of the network as --allow does.
func ParseAllow(text string) (NetRule, error) {
	e, err := allowed(text)
	if err != nil {
		return NetRule{}, err
	}
	var s Settings
	e.put(&s, Origin{})
	return s.Network.Allow[0].V, nil
}

// CheckRequests says whether methods and paths are such as network.allow takes.
func CheckRequests(methods, paths []string) error {
	for _, m := range methods {
		if _, err := method(m); err != nil {
			return err
		}
	}
	for _, p := range paths {
		if _, err := urlPath(p); err != nil {
			return err
		}
	}
	return nil
}

// PresetSource is what a preset says: what it opens, the variables for the tool inside, and the secrets that the tool can use. chosen is the tier
// that asked for the preset: what that one may not open, no preset opens for it.
func PresetSource(preset string, chosen Tier, opens []Opens, set []Variable, secrets []Secret) (Source, error) {
	doc := &Document{Name: preset, present: map[string]Origin{}}
	add := func(key, from string, e entry) {
		e.key, e.origin = key, Origin{File: preset + " (" + from + ")"}
		doc.present[key] = e.origin
		doc.entries = append(doc.entries, e)
		e.put(&doc.Settings, e.origin)
	}
	for _, o := range opens {
		rule, err := ParseAllow(o.Host)
		if err != nil {
			return Source{}, err
		}
		if err := CheckRequests(o.Methods, o.Paths); err != nil {
			return Source{}, err
		}
		rule.Methods, rule.Paths, rule.Networks = o.Methods, o.Paths, o.Networks
		add("network.allow", o.From, listEntry(func(s *Settings) *[]Value[NetRule] { return &s.Network.Allow }, rule, always))
	}
	for _, v := range set {
		e, err := setVariable(v.Name, v.Value)
		if err != nil {
			return Source{}, err
		}
		add("env.set", "for the tool inside", e)
	}
	for _, secret := range secrets {
		if err := secret.check(); err != nil {
			return Source{}, fmt.Errorf("secret: %w", err)
		}
		add("secrets", "for the tool inside", secretEntry(secret))
	}
	return Source{Tier: Preset, Chosen: chosen, Doc: doc}, nil
}

// check is for a secret that no document was read for.
func (s Secret) check() error {
	if _, err := name(s.Name); err != nil {
		return err
	}
	if _, err := variable(s.Env); err != nil {
		return err
	}
	if len(s.Hosts) == 0 {
		return fmt.Errorf("%s needs hosts", s.Name)
	}
	for _, h := range s.Hosts {
		if _, err := hostPattern(h); err != nil {
			return err
		}
	}
	if s.Place == "" {
		return nil
	}
	if _, err := place(s.Place); err != nil {
		return err
	}
	return s.checkParts()
}

// DidYouMean is a hint that names the candidate nearest to what was written, or "".
func DidYouMean(wrote string, candidates []string) string { return didYouMean(wrote, candidates) }

// speaker is the tier whose rights a source has: a preset may open what the tier that chose it may.
func (src Source) speaker() Tier {
	if src.Tier == Preset && src.Chosen > Preset {
		return src.Chosen
	}
	return src.Tier
}
