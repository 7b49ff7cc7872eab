package policy

import (
	"strings"
	"testing"
)

func TestAddAllow(t *testing.T) {
	rule := NetRule{Host: "api.example.com", Ports: []int{443, 8443}}
	for _, c := range []struct{ name, doc, want string }{
		{"nothing yet", "", "version: 1\nnetwork:\n  allow:\n    - {host: api.example.com, ports: [443, 8443]}\n"},
		{"comments alone stay", "# network:\n#   allow: []", "# network:\n#   allow: []\nversion: 1\nnetwork:\n  allow:\n    - {host: api.example.com, ports: [443, 8443]}\n"},
		{"comments stay", "# mine\nversion: 1\nlimits: # small\n  pids: 64\n", "# mine\nversion: 1\nlimits: # small\n  pids: 64\nnetwork:\n  allow:\n    - {host: api.example.com, ports: [443, 8443]}\n"},
		{"a list", "network:\n  allow:\n    - host: a.example # why\n", "network:\n  allow:\n    - host: a.example # why\n    - {host: api.example.com, ports: [443, 8443]}\n"},
		{"an empty key", "network:\n", "network:\n  allow:\n    - {host: api.example.com, ports: [443, 8443]}\n"},
	} {
		got, err := AddAllow([]byte(c.doc), rule)
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %v\n%s", c.name, err, got)
		}
	}
	for _, doc := range []string{"network: 3\n", "- a\n", "network: {allow: no}\n", "a: b: c\n"} {
		if got, err := AddAllow([]byte(doc), rule); err == nil {
			t.Errorf("%q became %q", doc, got)
		}
	}
}

func TestAddPreset(t *testing.T) {
	for _, c := range []struct{ name, doc, want string }{
		{"nothing yet", "", "version: 1\npresets: [npm]\n"},
		{"comments stay", "# mine\nversion: 1 # one\n", "# mine\nversion: 1 # one\npresets: [npm]\n"},
		{"a list", "presets: [go] # why\n", "presets: [go, npm] # why\n"},
		{"a list in lines", "presets:\n  - go\n", "presets:\n  - go\n  - npm\n"},
		{"it is there", "presets: [npm]\n", "presets: [npm]\n"},
	} {
		got, err := AddPreset([]byte(c.doc), "npm")
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %v\n%s", c.name, err, got)
		}
	}
	for _, doc := range []string{"presets: npm\n", "- a\n", "a: b: c\n"} {
		if got, err := AddPreset([]byte(doc), "npm"); err == nil {
			t.Errorf("%q became %q", doc, got)
		}
	}
}

func TestAllowFlag(t *testing.T) {
	for text, want := range map[string]string{
		"api.example.com": "api.example.com:443", "API.example.com:22": "api.example.com:22", "*.example.com:80,443": "*.example.com:80,443",
		"[2001:db8::1]:22": "2001:db8::1:22", "2001:db8::1": "2001:db8::1:443", "192.0.2.1:5432": "192.0.2.1:5432",
	} {
		src, err := Flags{Allow: []string{text}}.Source()
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := src.Doc.Network.Allow[0].V.String(); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
	for _, text := range []string{"", ":", "host:", "host:0", "host:x", "host:1,", "[::1", "[::1]x", "http://host", "*.com", "a b"} {
		if _, err := (Flags{Allow: []string{text}}).Source(); err == nil || !strings.Contains(err.Error(), "--allow") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
