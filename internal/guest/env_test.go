package guest

import (
	"slices"
	"strings"
	"testing"
)

// hostile is an environment with everything that P05 and P06 of the conformance table forbid.
var hostile = []string{
	"PATH=/host", "HOME=/host", "USER=host", "SHELL=/host", "TERM=xterm-256color", "COLORTERM=truecolor", "LANG=de_DE.UTF-8", "LC_ALL=C.UTF-8", "TZ=UTC",
	"LD_PRELOAD=" + secret, "LD_LIBRARY_PATH=" + secret, "LD_AUDIT=" + secret, "NODE_OPTIONS=" + secret, "PYTHONSTARTUP=" + secret, "PYTHONPATH=" + secret,
	"BASH_ENV=" + secret, "ENV=" + secret, "GIT_DIR=" + secret, "GIT_SSH_COMMAND=" + secret, "PERL5OPT=" + secret, "RUBYOPT=" + secret, "JAVA_TOOL_OPTIONS=" + secret,
	"GLIBC_TUNABLES=" + secret, "AWS_SECRET_ACCESS_KEY=" + secret, "GITHUB_TOKEN=" + secret, "ANTHROPIC_API_KEY=" + secret, "OPENAI_API_KEY=" + secret,
	"SSH_AUTH_SOCK=" + secret, "DBUS_SESSION_BUS_ADDRESS=" + secret, "GPG_TTY=" + secret, "XDG_RUNTIME_DIR=" + secret, "WSL_INTEROP=" + secret,
	"BASH_FUNC_ls%%=() { " + secret + "; }", "MY_PASSWORD=" + secret, "LC_SECRET_TOKEN=" + secret, "=C:=" + secret, "nonsense", "TERM=second",
	"HTTP_PROXY=http://u:" + secret + "@proxy", "APP_NAME=app", "APP_TOKEN=" + secret, "APP_HOME=/app",
}

func env(o EnvOptions) map[string]string {
	out := map[string]string{}
	for _, kv := range Env(o) {
		k, v, _ := strings.Cut(kv, "=")
		if _, twice := out[k]; twice {
			out[k] = "TWICE"
			continue
		}
		out[k] = v
	}
	return out
}

func TestEnv(t *testing.T) {
	base := EnvOptions{Host: hostile, User: "u", Home: "/home/u", Shell: "/bin/bash", Sandbox: "k7", View: View{Path: "/usr/bin", Tools: []Tool{{Env: []Variable{{"NVM_DIR", "/home/u/.nvm", ""}}}}}}
	for _, c := range []struct {
		name   string
		change func(*EnvOptions)
		want   map[string]string // besides the usual ones; "" is absent
	}{
		{"default", func(*EnvOptions) {}, nil},
		{"offline", func(o *EnvOptions) { o.Offline = true }, map[string]string{"npm_config_fetch_retries": "0", "PIP_RETRIES": "0", "CARGO_NET_RETRY": "0"}},
		{"passed by name, even a secret", func(o *EnvOptions) { o.Pass = []string{"GITHUB_TOKEN", "ABSENT"} }, map[string]string{"GITHUB_TOKEN": secret}},
		{"passed by pattern, never a secret", func(o *EnvOptions) { o.Pass = []string{"APP_*"} }, map[string]string{"APP_NAME": "app", "APP_HOME": "/app"}},
		{"passed by the pattern of everything", func(o *EnvOptions) { o.Pass = []string{"*"} }, map[string]string{"APP_NAME": "app", "APP_HOME": "/app", "PATH": "/host", "HOME": "/host", "USER": "host", "SHELL": "/host"}},
		{"set", func(o *EnvOptions) { o.Set = []string{"NODE_ENV=test", "NVM_DIR=/other", "LANG=C"} }, map[string]string{"NODE_ENV": "test", "NVM_DIR": "/other", "LANG": "C"}},
		{"a terminal that nobody knows", func(o *EnvOptions) { o.Host = append([]string{"TERM=xterm-newest"}, hostile...) }, map[string]string{"TERM": "xterm-256color"}},
		{"a terminal with a path in its name", func(o *EnvOptions) { o.Host = append([]string{"TERM=../../../root/x"}, hostile...) }, map[string]string{"TERM": "xterm-256color"}},
		{"a terminal that the system knows", func(o *EnvOptions) { o.Host = append([]string{"TERM=vt220"}, hostile...) }, map[string]string{"TERM": "vt220"}},
		{"the sandbox's own cannot be set", func(o *EnvOptions) { o.Set = []string{"AI_SANDBOX=false", "CASEMATE=x"} }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := base
			c.change(&o)
			want := map[string]string{
				"PATH": "/usr/bin:/etc/casemate", "GIT_CONFIG_COUNT": "4", "GIT_CONFIG_KEY_0": "commit.gpgSign", "GIT_CONFIG_VALUE_0": "false", "GIT_CONFIG_KEY_1": "tag.gpgSign",
				"GIT_CONFIG_VALUE_1": "false", "GIT_CONFIG_KEY_2": "tag.forceSignAnnotated", "GIT_CONFIG_VALUE_2": "false", "GIT_CONFIG_KEY_3": "push.gpgSign", "GIT_CONFIG_VALUE_3": "false",
				"HOME": "/home/u", "USER": "u", "LOGNAME": "u", "SHELL": "/bin/bash", "TMPDIR": "/tmp", "TERM": "xterm-256color", "COLORTERM": "truecolor",
				"LANG": "de_DE.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "UTC", "NVM_DIR": "/home/u/.nvm", "AI_SANDBOX": "true", "CASEMATE": "k7",
			}
			for k, v := range c.want {
				want[k] = v
			}
			got := env(o)
			for k, v := range want {
				if got[k] != v {
					t.Errorf("%s=%s, want %s", k, got[k], v)
				}
				delete(got, k)
			}
			delete(got, "GPG_TTY") // harmless, and passed by the pattern of everything
			if len(got) > 0 {
				t.Errorf("also %v", got)
			}
		})
	}
}

func TestDangerous(t *testing.T) {
	for _, kv := range hostile {
		name, value, _ := strings.Cut(kv, "=")
		if strings.Contains(value, secret) && name != "" && name != "GPG_TTY" && Dangerous(name) == "" {
			t.Errorf("%s passes for harmless", name)
		}
	}
	for _, name := range []string{"LANG", "TERM", "LC_ALL", "TZ", "COLORTERM", "NODE_ENV", "CI", "APP_NAME", "EDITOR_THEME", "NO_COLOR"} {
		if why := Dangerous(name); why != "" {
			t.Errorf("%s: %s", name, why)
		}
	}
	if !slices.Contains(hostile, "LD_AUDIT="+secret) {
		t.Error("the table lost a row")
	}
}
