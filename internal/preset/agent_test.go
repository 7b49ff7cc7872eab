package preset

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestAgents: each built-in preset of an agent opens named hosts only, keeps logins out, says what it cannot do, and has its secret for its own hosts.
func TestAgents(t *testing.T) {
	h := machine(t, nil)
	list, err := h.Agents()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range list {
		p := f.Preset
		names = append(names, p.Name)
		if len(p.Hosts) == 0 || len(p.From) > 0 || p.Agent.Sandbox == "" || len(p.Agent.Cannot) == 0 || len(p.Agent.Home) == 0 {
			t.Errorf("%s: %+v", p.Name, p)
		}
		if slices.Contains([]string{"claude", "codex", "gemini", "opencode", "qwen"}, p.Name) != (p.Agent.Tested != "") {
			t.Errorf("%s: tested with %q", p.Name, p.Agent.Tested)
		}
		for _, host := range p.Agent.Secret.Hosts {
			if !slices.ContainsFunc(f.Openings, func(o Opening) bool { return o.Host == host && o.Port == 443 }) {
				t.Errorf("%s: its secret is for %s, which it does not open", p.Name, host)
			}
		}
		for _, o := range f.Openings {
			if strings.Contains(o.Host, "*") || o.Port != 443 {
				t.Errorf("%s opens %s", p.Name, o.Target())
			}
		}
	}
	if !slices.Equal(names, agents[:]) {
		t.Errorf("agents %q", names)
	}
	for command, want := range map[string]string{"claude": "claude", "/opt/x/codex": "codex", "./gemini": "gemini", "cn": "continue", "npm": "", "claude.exe": "", "": ""} {
		if got := OfCommand(command); got != want {
			t.Errorf("%q takes %q", command, got)
		}
	}
}

// TestLaid: of the person's settings only plain values by name are taken, and the preset's own win.
func TestLaid(t *testing.T) {
	for _, c := range []struct {
		name string
		lay  Lay
		host string
		want string
	}{
		{"nothing there", Lay{File: "a.json", Keep: []string{"model"}}, "", "{}\n"},
		{"by name", Lay{File: "a.json", Keep: []string{"model"}}, `{"model":"opus","apiKeyHelper":"` + secret + `","env":{"K":"` + secret + `"}}`, "{\n  \"model\": \"opus\"\n}\n"},
		{"no lists or objects", Lay{File: "a.json", Keep: []string{"model", "b"}}, `{"model":{"x":"` + secret + `"},"b":["` + secret + `"]}`, "{}\n"},
		{"below another", Lay{File: "a.json", Keep: []string{"ui.theme", "ui.none"}}, `{"ui":{"theme":"<x>","key":"` + secret + `"}}`, "{\n  \"ui\": {\n    \"theme\": \"<x>\"\n  }\n}\n"},
		{"the preset's own", Lay{File: "a.json", Text: `{"a":{"b":false}}`, Keep: []string{"a.b"}}, `{"a":{"b":true}}`, "{\n  \"a\": {\n    \"b\": false\n  }\n}\n"},
		{"with comments", Lay{File: "a.json", Keep: []string{"model"}}, "// x\n{\"model\":\"opus\"}", "{}\n"},
		{"TOML", Lay{File: "a.toml", Text: "x = 1\n\n[t]\ny = 2\n", Keep: []string{"model", "effort", "n"}},
			"model = \"gpt\"\neffort=\"a\\\"b\"\nn = 3\nkey = \"" + secret + "\"\n[t]\nmodel = \"" + secret + "\"\n", "model = \"gpt\"\nn = 3\nx = 1\n\n[t]\ny = 2\n"},
		{"TOML, lists and more than one line", Lay{File: "a.toml", Keep: []string{"model", "n"}}, "model = \"\"\"\n" + secret + "\n\"\"\"\nn = [\"" + secret + "\"]\n", ""},
	} {
		got, err := c.lay.Content(c.host)
		if err != nil || got != c.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", c.name, err, got, c.want)
		}
		if strings.Contains(got, secret) {
			t.Errorf("%s: a secret is in it", c.name)
		}
	}
}

// TestImports: what the person has is shown, also through a link of theirs; what lies in the project, is somebody else's or is no file is not.
func TestImports(t *testing.T) {
	h := machine(t, map[string]string{
		".claude/CLAUDE.md": "->dotfiles/CLAUDE.md", "dotfiles/CLAUDE.md": "x", ".claude/commands/a.md": "x", "project/agents/a.md": "x", ".claude/agents": "->project/agents",
		".claude/rules/a.md": "x", ".claude/output-styles": "->.",
	})
	if err := os.Chmod(filepath.Join(h.Home, ".claude/rules"), 0o777); err != nil {
		t.Fatal(err)
	}
	p, err := h.Load("claude")
	if err != nil {
		t.Fatal(err)
	}
	list, warnings := h.Imports(p.Agent)
	want := []Import{{".claude/CLAUDE.md", filepath.Join(h.Home, "dotfiles/CLAUDE.md"), true}, {".claude/commands", filepath.Join(h.Home, ".claude/commands"), false}}
	if !slices.Equal(list, want) {
		t.Errorf("%+v", list)
	}
	for i, part := range []string{"others can write it", "lies in the project", "your whole home"} {
		if len(warnings) != 3 || !strings.Contains(warnings[i], part) {
			t.Errorf("%q", warnings)
			break
		}
	}
}

// TestOwnAgent: a person's own file takes the place of a built-in agent, and cannot reach out of a home or show a login.
func TestOwnAgent(t *testing.T) {
	const own = ".config/casemate/presets/claude.yaml"
	for text, want := range map[string]string{
		"hosts: [a.example]\nagent: {sandbox: none}":                                                          "",
		"hosts: [a.example]\nagent: {imports: [/etc]}":                                                        "no path below a home",
		"hosts: [a.example]\nagent: {imports: [../x]}":                                                        "no path below a home",
		"hosts: [a.example]\nagent: {imports: [.]}":                                                           "no path below a home",
		"hosts: [a.example]\nagent: {imports: [.claude], logins: [.claude/.credentials.json]}":                "would show a login",
		"hosts: [a.example]\nagent: {lays: [{file: a.json, text: '{'}]}":                                      "no JSON",
		"hosts: [a.example]\nset: {'A B': x}":                                                                 "set: ",
		"hosts: [a.example]\nagent: {hooks: [x]}":                                                             "hooks",
		"agent: {sandbox: none}":                                                                              "it opens nothing",
		"hosts: [a.example]\nagent: {secret: {name: x, env: X, hosts: [a.example], value: '" + secret + "'}}": "value",
	} {
		h := machine(t, map[string]string{own: text})
		f, err := h.Find("claude")
		if want == "" && (err != nil || f.Openings[0].Host != "a.example") || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
