package session

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"casemate.dev/internal/plan"
	"casemate.dev/internal/policy"
	"casemate.dev/internal/store"
)

// TestWhichLogin: what is among an agent's secrets, by what was said of its key and its login.
func TestWhichLogin(t *testing.T) {
	const key, login = "anthropic: ANTHROPIC_API_KEY for api.anthropic.com as header:x-api-key", "claude: CLAUDE_CODE_OAUTH_TOKEN for api.anthropic.com as bearer"
	const codexKey, codex, beside = "openai: OPENAI_API_KEY for api.openai.com as bearer", "codex: CODEX_LOGIN_TOKEN for chatgpt.com as bearer [/backend-api/codex/*]",
		"codex-account: CODEX_LOGIN_ACCOUNT for chatgpt.com as header:chatgpt-account-id [/backend-api/codex/*]"
	for _, c := range []struct {
		name, user, how string
		flags           policy.Flags
		want            string
		wrong           string
		command         string // claude unless it says otherwise
	}{
		{name: "nothing said", want: key + "; " + login + " unless anthropic"},
		{name: "not this time", how: LoginNo, want: key},
		{name: "this time", how: LoginYes, want: login + " at any rate"},
		{name: "the key is passed", flags: policy.Flags{Pass: []string{"ANTHROPIC_API_KEY"}}, want: ""},
		{name: "the token is passed", flags: policy.Flags{Pass: []string{"CLAUDE_CODE_OAUTH_TOKEN"}}, want: key},
		{name: "the key is passed, and this time", how: LoginYes, flags: policy.Flags{Pass: []string{"ANTHROPIC_API_KEY"}}, wrong: "given otherwise"},
		{name: "Codex", command: "codex", want: codexKey + "; " + codex + " unless openai; " + beside + " unless openai; opens chatgpt.com:443 [/backend-api/codex/*]"},
		{name: "Codex, not this time", command: "codex", how: LoginNo, want: codexKey},
		{name: "Codex, this time", command: "codex", how: LoginYes, want: codex + " at any rate; " + beside + " at any rate; opens chatgpt.com:443 [/backend-api/codex/*]"},
		{name: "Codex, and its key is passed", command: "codex", flags: policy.Flags{Pass: []string{"OPENAI_API_KEY"}}, want: ""},
		{name: "Codex, and a part of the login is passed", command: "codex", flags: policy.Flags{Pass: []string{"CODEX_LOGIN_ACCOUNT"}}, want: codexKey},
		{name: "Codex, and its host is closed", command: "codex", user: "level: minimal\n", want: ""},
		{name: "a policy's own", user: "secrets: {claude: {env: MY_TOKEN, hosts: [a.example]}}\n", want: key + "; claude: MY_TOKEN for a.example at any rate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			home := t.TempDir()
			project := filepath.Join(home, "project")
			p := Person{UID: os.Getuid(), Home: home, Dir: project, StateHome: filepath.Join(home, "state"), Config: filepath.Join(home, ".config", "casemate"), Environ: []string{"HOME=" + home}}
			for path, text := range map[string]string{filepath.Join(p.Config, "policy.yaml"): c.user, filepath.Join(p.Config, "secrets.age"): "x", filepath.Join(project, "x"): ""} {
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			tiers, err := p.Load(project, c.flags)
			if err != nil {
				t.Fatal(err)
			}
			if c.command == "" {
				c.command = "claude"
			}
			r := &Run{Person: p, Options: Options{DryRun: true, Login: c.how, Command: []string{c.command}}}
			_, _, err = p.addPresets(tiers, project, c.command, r.useLogin)
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			merged, err := policy.Merge(tiers.Sources)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, v := range merged.Secrets {
				text := v.V.String()
				if v.V.Unless != "" {
					text += " unless " + v.V.Unless
				}
				if !v.V.Optional {
					text += " at any rate"
				}
				got = append(got, text)
			}
			for _, v := range merged.Network.Allow {
				if v.V.Host == "chatgpt.com" {
					got = append(got, "opens "+v.V.String())
				}
			}
			if text := strings.Join(got, "; "); text != c.want {
				t.Errorf("got  %s\nwant %s", text, c.want)
			}
		})
	}
}

// TestLoginAnswer: an answer is kept, for the person and the agent, both ways; and a login is found where the agent's own variable says.
func TestLoginAnswer(t *testing.T) {
	home := t.TempDir()
	p := Person{UID: os.Getuid(), Home: home, StateHome: filepath.Join(home, "state"), Config: filepath.Join(home, ".config", "casemate")}
	here, err := p.Presets("")
	if err != nil {
		t.Fatal(err)
	}
	found, err := here.Find("claude")
	if err != nil {
		t.Fatal(err)
	}
	a := found.Preset.Agent
	if _, answered := p.loginAnswer(a); answered {
		t.Error("answered before anybody was asked")
	}
	for _, yes := range []bool{true, false} {
		if err := p.rememberLogin(a, yes); err != nil {
			t.Fatal(err)
		}
		if got, answered := p.loginAnswer(a); got != yes || !answered {
			t.Errorf("%v, %v; want %v", got, answered, yes)
		}
	}
	if len(p.logins(a)) > 0 {
		t.Errorf("logins %q", p.logins(a))
	}
	elsewhere := filepath.Join(home, "elsewhere")
	for _, dir := range []string{filepath.Join(home, ".claude"), elsewhere} {
		if err := store.MakeDir(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, ".credentials.json"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := p.logins(a); len(got) != 1 || got[0] != filepath.Join(dir, ".credentials.json") {
			t.Errorf("logins %q", got)
		}
		p.Environ = []string{"CLAUDE_CONFIG_DIR=" + elsewhere}
	}
}

// TestLoginIsNotShown: a login that the gate puts in stays outside, also where somebody lets the agent read its directory on the host.
func TestLoginIsNotShown(t *testing.T) {
	home, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p := Person{UID: os.Getuid(), Home: home, StateHome: filepath.Join(home, "state"), Config: filepath.Join(home, ".config", "casemate"), Environ: []string{"HOME=" + home}}
	for _, name := range []string{".claude/.credentials.json", ".claude/commands/a.md", ".config/casemate/secrets.age"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(home, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(home, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(".claude", filepath.Join(home, "link")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		shown, how string
		refused    bool
	}{
		{"~/.claude", "", true}, {"~/.claude/.credentials.json", "", true}, {"~/link", "", true}, {"~/.claude", LoginNo, false}, {"~/.claude/commands", "", false},
	} {
		tiers, err := p.Load("", policy.Flags{Read: []string{c.shown}})
		if err != nil {
			t.Fatal(err)
		}
		r := &Run{Person: p, Options: Options{DryRun: true, Login: c.how, Command: []string{"claude"}}}
		if r.agents, _, err = p.addPresets(tiers, "", "claude", r.useLogin); err != nil {
			t.Fatal(err)
		}
		if r.Policy, err = policy.Merge(tiers.Sources); err != nil {
			t.Fatal(err)
		}
		if r.Store, err = store.Open(p.StateHome, home); err != nil {
			t.Fatal(err)
		}
		if err := r.checkReads(); (err != nil) != c.refused || c.refused && !strings.Contains(err.Error(), "stays outside") {
			t.Errorf("--read %s, login %q: %v", c.shown, c.how, err)
		}
	}
}

// TestLoginInTheProject: where ~/.claude is a link into a repository of settings, what lies there is not hidden by its name.
func TestLoginInTheProject(t *testing.T) {
	home, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"dotfiles/claude/.credentials.json", "other/.claude/.credentials.json", ".config/casemate/secrets.age"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(home, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(home, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(home, ".claude")
	for _, c := range []struct {
		project, to string
		flags       policy.Flags
		how         string
		refused     bool
	}{
		{"dotfiles", "dotfiles/claude", policy.Flags{}, "", true},
		{"dotfiles", "dotfiles/claude", policy.Flags{}, LoginNo, false},
		{"dotfiles", "dotfiles/claude", policy.Flags{Hide: []string{"/claude/.credentials.json*"}}, "", false},
		{"dotfiles", "other/.claude", policy.Flags{}, "", false},
		{"other", "other/.claude", policy.Flags{}, "", false}, // which is hidden everywhere
	} {
		os.Remove(link)
		if err := os.Symlink(c.to, link); err != nil {
			t.Fatal(err)
		}
		project := filepath.Join(home, c.project)
		p := Person{UID: os.Getuid(), Home: home, Dir: project, StateHome: filepath.Join(home, "state"), Config: filepath.Join(home, ".config", "casemate"), Environ: []string{"HOME=" + home}}
		tiers, err := p.Load(project, c.flags)
		if err != nil {
			t.Fatal(err)
		}
		r := &Run{Person: p, Project: project, Options: Options{DryRun: true, Login: c.how, Command: []string{"claude"}}}
		if r.agents, _, err = p.addPresets(tiers, project, "claude", r.useLogin); err != nil {
			t.Fatal(err)
		}
		if r.Policy, err = policy.Merge(tiers.Sources); err != nil {
			t.Fatal(err)
		}
		if err := r.checkLogin(); (err != nil) != c.refused || c.refused && !strings.Contains(err.Error(), "claude/.credentials.json, and is not hidden") {
			t.Errorf("in %s, with a link to %s: %v", c.project, c.to, err)
		}
	}
}

// TestLoginSettled: once the store has said what it has, Codex is told to use the login; or its host is closed again, also for who reads the policy anew.
func TestLoginSettled(t *testing.T) {
	for name, c := range map[string]struct {
		have  []string
		argv  string
		opens bool
	}{
		"the login": {[]string{"codex", "codex-account"}, "/bin/codex -c model_provider=login exec", true},
		"a key":     {[]string{"openai"}, "/bin/codex exec", false},
		"a key, and a part of a login that was taken back": {[]string{"openai", "codex-account"}, "/bin/codex exec", false},
		"nothing":       {nil, "/bin/codex exec", false},
		"another shell": {[]string{"codex", "codex-account"}, "/bin/sh exec", true},
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			p := Person{UID: os.Getuid(), Home: home, StateHome: filepath.Join(home, "state"), Config: filepath.Join(home, ".config", "casemate"), Environ: []string{"HOME=" + home}}
			if err := errors.Join(os.MkdirAll(p.Config, 0o700), os.WriteFile(filepath.Join(p.Config, "secrets.age"), []byte("x"), 0o600)); err != nil {
				t.Fatal(err)
			}
			project := filepath.Join(home, "project")
			tiers, err := p.Load(project, policy.Flags{})
			if err != nil {
				t.Fatal(err)
			}
			r := &Run{Person: p, tiers: tiers, Plan: &plan.Plan{}}
			r.Plan.Command.Argv = []string{strings.Fields(c.argv)[0], "exec"}
			if r.agents, _, err = p.addPresets(tiers, project, "codex", unasked); err != nil {
				t.Fatal(err)
			}
			if r.Policy, err = policy.Merge(tiers.Sources); err != nil {
				t.Fatal(err)
			}
			now, _ := plan.Resolve(r.Policy.Network, time.Now())
			r.Plan.Network.Allow = now.Allow
			for _, v := range r.Policy.Secrets {
				if slices.Contains(c.have, v.V.Name) {
					r.Plan.Secrets = append(r.Plan.Secrets, plan.Secret{Name: v.V.Name, Env: v.V.Env, Origin: v.Origin.String()})
				}
			}
			if len(now.Allow) != 2 || len(r.Plan.Secrets) != len(c.have) {
				t.Fatalf("the control: %v, %v", now.Allow, r.Plan.Secrets)
			}
			if err := r.settleLogins(); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(r.Plan.Command.Argv, " "); got != c.argv {
				t.Errorf("it runs %q", got)
			}
			later, err := policy.Merge((&ruling{run: r, docs: map[policy.Tier]*policy.Document{}}).sources())
			if err != nil {
				t.Fatal(err)
			}
			again, _ := plan.Resolve(later.Network, time.Now())
			for when, list := range map[string][]plan.Reach{"at the start": r.Plan.Network.Allow, "later": again.Allow} {
				if got := slices.ContainsFunc(list, func(a plan.Reach) bool { return a.Host == "chatgpt.com" }); got != c.opens || len(list) == 0 {
					t.Errorf("%s, chatgpt.com is open: %v", when, got)
				}
			}
			if !c.opens && slices.ContainsFunc(r.Plan.Secrets, func(s plan.Secret) bool { return strings.HasPrefix(s.Name, "codex") }) {
				t.Errorf("a part of the login is left: %v", r.Plan.Secrets)
			}
		})
	}
}
