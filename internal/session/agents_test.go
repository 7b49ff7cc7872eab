package session

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"casemate.dev/internal/policy"
)

// TestAgentsPreset: an agent's command takes its preset by itself, below whatever anybody says, and keeps it while the policy files are followed.
func TestAgentsPreset(t *testing.T) {
	const host = "api.anthropic.com"
	for _, c := range []struct {
		name, command, user string
		flags               policy.Flags
		agent, opens        bool
	}{
		{"by its name", "/opt/bin/claude", "", policy.Flags{}, true, true},
		{"another command", "npm", "", policy.Flags{}, false, false},
		{"none on the command line", "claude", "", policy.Flags{Presets: []string{"none"}}, false, false},
		{"none in the person's policy", "claude", "presets: [none]\n", policy.Flags{}, false, false},
		{"none beside another", "claude", "", policy.Flags{Presets: []string{"none", "github"}}, false, false},
		{"chosen, for a runtime", "node", "", policy.Flags{Presets: []string{"claude"}}, true, true},
		{"a narrower level", "claude", "level: minimal\n", policy.Flags{}, true, false},
		{"a narrower level on the command line", "claude", "", policy.Flags{Level: "minimal"}, true, false},
		{"closed by the person", "claude", "network: {deny: [api.anthropic.com]}\n", policy.Flags{}, true, true}, // the rule to deny wins, at the gate
	} {
		t.Run(c.name, func(t *testing.T) {
			home := t.TempDir()
			p := Person{Home: home, Config: filepath.Join(home, ".config/casemate"), Environ: []string{"PATH=/usr/bin"}}
			if err := os.MkdirAll(p.Config, 0o700); err != nil {
				t.Fatal(err)
			}
			if c.user != "" {
				if err := os.WriteFile(filepath.Join(p.Config, "policy.yaml"), []byte(c.user), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			project := filepath.Join(home, "project")
			tiers, err := p.Load(project, c.flags)
			if err != nil {
				t.Fatal(err)
			}
			agents, notices, err := p.addPresets(tiers, project, c.command, unasked)
			if err != nil || len(notices) > 0 || len(agents) == 1 != c.agent {
				t.Fatalf("%d agents, %q, %v", len(agents), notices, err)
			}
			opens := func(sources []policy.Source) bool {
				t.Helper()
				merged, err := policy.Merge(sources)
				if err != nil {
					t.Fatal(err)
				}
				return slices.ContainsFunc(merged.Network.Allow, func(v policy.Value[policy.NetRule]) bool { return v.V.Host == host })
			}
			if opens(tiers.Sources) != c.opens {
				t.Errorf("it opens %s: %v", host, !c.opens)
			}
			followed := &ruling{run: &Run{Person: p, tiers: tiers}, docs: map[policy.Tier]*policy.Document{}}
			for _, s := range tiers.Sources {
				if s.Tier == policy.User {
					followed.docs[s.Tier] = s.Doc
				}
			}
			if opens(followed.sources()) != c.opens {
				t.Errorf("as the files are followed, it opens %s: %v", host, !c.opens)
			}
			off, err := policy.Parse("user", []byte("presets: [none]\n"))
			if err != nil {
				t.Fatal(err)
			}
			if followed.docs[policy.User] = off; c.command == "/opt/bin/claude" && opens(followed.sources()) {
				t.Error("none, said while it runs, takes nothing back")
			}
		})
	}
}
