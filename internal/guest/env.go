package guest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// EnvOptions is what the command's environment is made of.
type EnvOptions struct {
	Host []string // the host's environment, NAME=VALUE
	Pass []string // names that the policy passes from the host; "NAME*" passes what begins so and looks harmless
	Set  []string // NAME=VALUE of the policy; they win over everything but the sandbox's own
	View View     // what the sandbox sees: gives PATH and the tools' variables

	User    string
	Home    string // inside
	Shell   string
	Sandbox string // id
	Offline bool   // nothing outside can be reached
	Trust   bool   // the gate opens TLS: its authority is to be trusted

	// Where they are if not in /tmp and /etc: a sandbox without mounts.
	Tmp       string
	GitConfig string
}

// Env is the command's whole environment. Nothing of the host's gets in but the few harmless names below and what the policy names.
func Env(o EnvOptions) []string {
	e := environment{host: map[string]string{}, at: map[string]int{}}
	for _, kv := range o.Host {
		if name, value, ok := strings.Cut(kv, "="); ok && name != "" {
			if _, twice := e.host[name]; !twice { // getenv(3) takes the first
				e.host[name] = value
			}
		}
	}
	e.set("PATH", o.View.Path+":/etc/"+pushHelper) // last: it holds nothing else
	e.set("HOME", o.Home)
	e.set("USER", o.User)
	e.set("LOGNAME", o.User)
	e.set("SHELL", o.Shell)
	e.set("TMPDIR", cmp.Or(o.Tmp, "/tmp"))
	if o.GitConfig != "" {
		e.set("GIT_CONFIG_SYSTEM", o.GitConfig)
	}
	for _, name := range []string{"COLORTERM", "TZ", "LANG", "LANGUAGE"} {
		e.pass(name)
	}
	if term, ok := e.host["TERM"]; ok {
		e.set("TERM", knownTerminal(term))
	}
	e.passAll(o.Host, "LC_")
	for _, v := range gitEnvironment() {
		e.set(v.Name, v.Value)
	}
	for _, t := range o.View.Tools {
		for _, v := range t.Env {
			e.set(v.Name, v.Value)
		}
	}
	if o.Offline {
		for _, v := range offline() {
			e.set(v.Name, v.Value)
		}
	}
	for _, name := range o.Pass {
		if prefix, ok := strings.CutSuffix(name, "*"); ok {
			e.passAll(o.Host, prefix)
		}
	}
	if o.Trust { // what the policy names itself wins
		for _, row := range TrustRows() {
			e.set(row.Name, row.Value)
		}
	}
	for _, name := range o.Pass {
		if !strings.HasSuffix(name, "*") {
			e.pass(name)
		}
	}
	for _, kv := range o.Set {
		if name, value, ok := strings.Cut(kv, "="); ok {
			e.set(name, value)
		}
	}
	e.set("AI_SANDBOX", "true")
	e.set("CASEMATE", o.Sandbox)
	return e.out
}

// offline keeps package managers from trying again and again where no name resolves. Measured: npm gives up after 70 s otherwise, cargo
// after 11, pip after 9.
func offline() []Variable {
	return []Variable{
		{"npm_config_fetch_retries", "0", "npm tries again after 10 and 60 seconds"},
		{"PIP_RETRIES", "0", "pip tries five times"},
		{"CARGO_NET_RETRY", "0", "cargo tries three times"},
	}
}

// knownTerminal is the terminal's name, if the system describes it. Newer terminals bring their description in a home directory, and
// without one every full-screen program inside would refuse to start.
func knownTerminal(term string) string {
	switch term {
	case "", "dumb", "linux", "vt100", "xterm", "xterm-256color", "screen", "screen-256color", "tmux-256color":
		return term // every system has these, so most starts ask nothing
	}
	if !strings.Contains(term, "/") && term[0] != '.' {
		for _, dir := range []string{"/usr/share/terminfo", "/lib/terminfo", "/usr/lib/terminfo", "/etc/terminfo"} {
			for _, sub := range []string{term[:1], fmt.Sprintf("%x", term[0])} {
				if unix.Faccessat(unix.AT_FDCWD, dir+"/"+sub+"/"+term, unix.R_OK, 0) == nil {
					return term
				}
			}
		}
	}
	return "xterm-256color"
}

type environment struct {
	host map[string]string
	out  []string
	at   map[string]int // name -> index in out
}

func (e *environment) set(name, value string) {
	if i, ok := e.at[name]; ok {
		e.out[i] = name + "=" + value
		return
	}
	e.at[name] = len(e.out)
	e.out = append(e.out, name+"="+value)
}

func (e *environment) pass(name string) {
	if value, ok := e.host[name]; ok {
		e.set(name, value)
	}
}

// passAll passes what begins with prefix, but never what could be a secret or decide what programs load: those only by their own name.
func (e *environment) passAll(host []string, prefix string) {
	for _, kv := range host {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, prefix) && Dangerous(name) == "" {
			e.pass(name)
		}
	}
}

// Dangerous says why a variable should not be passed from the host, or nothing. The policy may still pass it by name: then a person has
// written that name down.
func Dangerous(name string) string {
	upper := strings.ToUpper(name)
	for _, p := range []string{"LD_", "DYLD_", "GLIBC_", "MALLOC_", "GCONV_", "LOCPATH", "NLSPATH", "GIT_", "BASH_FUNC_", "PERL5", "RUBY", "JAVA_TOOL", "JDK_JAVA", "_JAVA", "PYTHON"} {
		if strings.HasPrefix(upper, p) {
			return "it decides what programs load or execute"
		}
	}
	if slices.Contains([]string{
		"NODE_OPTIONS", "NODE_PATH", "BASH_ENV", "ENV", "SHELLOPTS", "BASHOPTS", "PS4", "PROMPT_COMMAND", "IFS", "CDPATH", "HOSTALIASES", "RES_OPTIONS", "LOCALDOMAIN",
		"EDITOR", "VISUAL", "PAGER", "BROWSER", "LESSOPEN", "LESSCLOSE", "MAVEN_OPTS", "GRADLE_OPTS", "SBT_OPTS", "CLASSPATH", "LUA_PATH", "LUA_CPATH", "LUA_INIT",
		"GOFLAGS", "GOTOOLDIR", "RUSTC_WRAPPER", "RUSTFLAGS", "CC", "CXX", "LD", "MAKEFLAGS", "TERMINFO", "TERMCAP", "ZDOTDIR", "FPATH", "GEM_PATH", "BUNDLE_GEMFILE",
	}, upper) {
		return "it decides what programs load or execute"
	}
	if slices.Contains([]string{"SSH_AUTH_SOCK", "SSH_AGENT_PID", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "GPG_AGENT_INFO", "DOCKER_HOST", "KUBECONFIG", "WSL_INTEROP", "WSLENV", "PULSE_SERVER", "TMUX", "STY"}, upper) {
		return "it leads to a service of the host"
	}
	for _, word := range []string{"TOKEN", "SECRET", "PASSW", "PASSPHRASE", "CREDENTIAL", "APIKEY", "API_KEY", "ACCESS_KEY", "PRIVATE_KEY", "AUTH", "COOKIE", "SESSION", "NETRC", "DSN", "DATABASE_URL", "CONNECTION_STRING", "WEBHOOK"} {
		if strings.Contains(upper, word) {
			return "it looks like a secret"
		}
	}
	for _, p := range []string{"AWS_", "AZURE_", "GOOGLE_", "GCP_", "GITHUB_", "GH_", "GITLAB_", "ANTHROPIC_", "OPENAI_", "GEMINI_", "HF_", "NPM_CONFIG_", "CARGO_REGISTR", "UV_INDEX", "PIP_INDEX", "PIP_EXTRA"} {
		if strings.HasPrefix(upper, p) {
			return "it looks like a secret"
		}
	}
	if strings.HasSuffix(upper, "_KEY") || upper == "KEY" || strings.HasSuffix(upper, "_PROXY") {
		return "it looks like a secret"
	}
	return ""
}
