package policy

import (
	"strings"
	"testing"
)

// npm is a preset that opens one host and tells one variable, asked for by a tier.
func npm(t *testing.T, chosen Tier) Source {
	t.Helper()
	src, err := PresetSource("npm", chosen, []Opens{{Host: "mirror.example:8443", From: "~/.npmrc:3"}}, []Variable{{"npm_config_registry", "https://mirror.example:8443/"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// TestPresetTier: a preset lies below what people say, and opens nothing that the tier which chose it may not.
func TestPresetTier(t *testing.T) {
	const opened = "mirror.example:8443 (preset npm (~/.npmrc:3))"
	for _, c := range []struct {
		name    string
		chosen  Tier
		sources []string
		key     string
		want    string // or, after "error: ", a part of the error
	}{
		{"alone", User, nil, "network.allow", opened},
		{"before what a policy says", User, []string{"user", "network: {allow: [{host: a.example}]}"}, "network.allow", opened + ", a.example:443 (user user.yaml:1)"},
		{"its variable", User, nil, "env.set", "npm_config_registry=https://mirror.example:8443/ (preset npm (for the tool inside))"},
		{"its variable, which the person sets otherwise", User, []string{"user", "env: {set: {npm_config_registry: 'https://b.example'}}"}, "env.set", "npm_config_registry=https://b.example (user user.yaml:1)"},
		{"locked by the organisation, chosen by the person", User, []string{"organisation", "network: {allow: [{host: a.example}]}\nlocked: [network.allow]"}, "", "error: npm (~/.npmrc:3): network.allow is locked by organisation organisation.yaml:2"},
		{"locked, chosen on the command line", CommandLine, []string{"organisation", "locked: [network]"}, "", "error: network.allow is locked"},
		{"locked, chosen by the organisation", Organisation, []string{"organisation", "locked: [network.allow]"}, "network.allow", opened},
		{"locked as it is anyway", User, []string{"organisation", "network: {allow: [{host: mirror.example, ports: [8443]}]}\nlocked: [network.allow]"}, "network.allow", "mirror.example:8443 (organisation organisation.yaml:1)"},
		{"a ceiling of the organisation", User, []string{"organisation", "level: minimal"}, "", "error: network.allow: mirror.example:8443 goes beyond what organisation organisation.yaml:1 allows"},
		{"a narrower level that is chosen later", User, []string{"command line", "level: minimal"}, "network.allow", ""},
		{"a narrower level that is chosen with it", CommandLine, []string{"command line", "level: minimal"}, "network.allow", opened},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := Merge(append(sources(t, c.sources...), npm(t, c.chosen)))
			if want, fails := strings.CutPrefix(c.want, "error: "); fails {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %s", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := effective(p, c.key); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestWhoChoosesPresets: an untrusted project adds none, and what a level takes back is not there.
func TestWhoChoosesPresets(t *testing.T) {
	for _, c := range []struct {
		name    string
		sources []string
		want    string
	}{
		{"an untrusted project", []string{"project", "presets: [npm]"}, ""},
		{"a trusted one", []string{"trusted project", "presets: [npm]"}, "npm (project project.yaml:1)"},
		{"an untrusted project beside the person", []string{"user", "presets: [go]", "project", "presets: [go, npm]"}, "go (user user.yaml:1)"},
		{"a level that is chosen later", []string{"user", "presets: [npm]", "command line", "level: minimal"}, ""},
	} {
		p, err := Merge(sources(t, c.sources...))
		if err != nil {
			t.Fatal(err)
		}
		if got := effective(p, "presets"); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
	doc := mustParse(t, "casemate.yaml", "presets: [npm]\nlimits: {pids: 9}")
	if w := Widening(doc); len(w) != 1 || w[0].Key != "presets" || w[0].Text != "npm" {
		t.Errorf("casemate trust would show %+v", w)
	}
	flags, err := Flags{Presets: []string{"npm", "go"}}.Source()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Merge([]Source{flags})
	if err != nil {
		t.Fatal(err)
	}
	if got := effective(p, "presets"); got != "npm (command line --preset), go (command line --preset)" {
		t.Error(got)
	}
	if _, err := (Flags{Presets: []string{"../npm"}}).Source(); err == nil {
		t.Error("a path is taken for a name")
	}
}
