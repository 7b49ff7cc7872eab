package plan

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"casemate.dev/internal/limits"
	"casemate.dev/internal/policy"
)

var update = flag.Bool("update", false, "rewrite the golden plans")

// merged is the policy of a project document that somebody approved, and of the command line.
func merged(t *testing.T, document string, flags policy.Flags) *policy.Policy {
	t.Helper()
	var sources []policy.Source
	if document != "" {
		doc, err := policy.Parse("casemate.yaml", []byte(document))
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, policy.Source{Tier: policy.Project, Name: "casemate.yaml", Doc: doc, Trusted: true})
	}
	line, err := flags.Source()
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Merge(append(sources, line))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// request is a machine and a command that never change.
func request(p *policy.Policy, mode Mode) Request {
	r := Request{
		Policy: p, Mode: mode, ABI: 7, User: User{1000, 1000, "ann", "/home/ann"}, Owner: 1000, Group: 1000,
		Project: "/home/ann/proj", Dir: "/home/ann/proj/sub", Path: "/usr/bin/make", Argv: []string{"make", "all"}, Env: []string{"PATH=/usr/bin", "HOME=/home/ann"},
		System: []Tree{{Source: "/usr", Target: "/usr"}, {Source: "usr/bin", Target: "/bin", Link: true}},
		Tools:  []Tree{{Source: "/home/ann/.cargo", Target: "/home/ann/.cargo", Why: "cargo", Hide: []string{"/home/ann/.cargo/credentials.toml"}}},
		Etc:    "/state/etc/1", Home: "/state/home", Host: "/home/ann", Mask: "/state/mask", Layer: "/state/layer",
		Set:    limits.Set{Memory: 8 << 30, Pids: 4096},
		Limits: []limits.Enforced{{Name: "memory", Value: "8 GiB", By: "cgroup v1 memory", Strength: limits.Held}, {Name: "disk", Value: "20 GiB", By: "watched", Strength: limits.Watched}, {Name: "time", Value: "none", Strength: limits.Unheld}},
	}
	r.Trust = Trust{Dir: "/state/trust", Target: "/run/casemate", Over: []Mount{{Source: "/state/trust/bundle.pem", Target: "/etc/ssl/certs/ca-certificates.crt"}},
		Variables: []Variable{{Name: "NODE_EXTRA_CA_CERTS", Value: "/run/casemate/authority.pem"}, {Name: "SSL_CERT_FILE", Value: "/run/casemate/bundle.pem"}}}
	r.Agent = Agent{Dir: "/state/ssh", Target: "/run/casemate-ssh", Socket: "agent"}
	if mode == Landlock {
		r.Mask, r.Layer, r.Copy, r.Tmp, r.Dir, r.Told = "", "", "/state/copy", "/state/tmp", "/state/copy/sub", true
	}
	return r
}

func TestGoldenPlans(t *testing.T) {
	tests := []struct {
		name     string
		mode     Mode
		document string
		flags    policy.Flags
	}{
		{"held", Rootless, "", policy.Flags{}},
		{"root", Root, "", policy.Flags{}},
		{"readonly", Rootless, "", policy.Flags{Workspace: "readonly"}},
		{"none", Rootless, "", policy.Flags{Level: "minimal"}},
		{"live", Rootless, "", policy.Flags{Workspace: "live"}},
		{"openings", Rootless, "version: 1\nfiles:\n  read: [~/datasets, /srv/data]\n  readonly: [specs/]\n  write: [./generated]\n  hide: [\"*.pem\"]\nenv: {pass: [EDITOR]}\n", policy.Flags{}},
		{"requests", Rootless, "version: 1\nnetwork:\n  allow:\n    - {host: api.example.com, methods: [GET], paths: [\"/v1/*\"]}\n    - {host: passed.example.com}\nenv: {set: {SSL_CERT_FILE: /etc/mine.pem}}\n", policy.Flags{}},
		{"logins", Rootless, "version: 1\nnetwork:\n  allow:\n    - {host: git.example.com, ports: [22]}\nssh:\n  - {keys: [~/.ssh/id_ed25519.pub], hosts: [git.example.com]}\n", policy.Flags{SSH: []string{"other.example.com:2222"}}},
		{"landlock", Landlock, "", policy.Flags{AllowFallback: []string{"landlock"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := Make(request(merged(t, tt.document, tt.flags), tt.mode))
			if err != nil {
				t.Fatal(err)
			}
			p.Workspace.Hide = p.Workspace.Hide[:min(len(p.Workspace.Hide), 2)] // the built-in list is policy's
			got, err := json.MarshalIndent(p, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", tt.name+".json")
			if *update {
				if err := os.WriteFile(golden, append(got, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if string(got)+"\n" != string(want) {
				t.Errorf("the plan differs from %s; go test -update rewrites it\n%s", golden, got)
			}
		})
	}
}

// TestGuaranteesHaveNames: what a policy may require is what a plan may say.
func TestGuaranteesHaveNames(t *testing.T) {
	for _, mode := range []Mode{Rootless, Root, Landlock} {
		p, err := Make(request(merged(t, "limits: {time: 1h, idle: 1h, cpus: 1}\n", policy.Flags{AllowFallback: []string{"landlock"}}), mode))
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range p.Guarantees {
			if !slices.Contains(policy.Guarantees(), g.Name) {
				t.Errorf("%s is in no list of guarantees that a policy may require", g.Name)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		name, document string
		flags          policy.Flags
		want           string
	}{
		{"a guarantee that is only watched", "", policy.Flags{Require: []string{"limits.disk"}}, "limits.disk is watched here, not enforced"},
		{"a guarantee of a limit that is not set", "", policy.Flags{Require: []string{"limits.idle"}}, "limits.idle is not set"},
		{"a key of a later version", "version: 1\ndevices: [gpu]\n", policy.Flags{}, "not in this version"},
		{"an ssh key in the project", "network: {allow: [{host: x.example}]}\nssh: [{keys: [/home/ann/proj/id.pub], hosts: [x.example]}]\n", policy.Flags{}, "lies in the project"},
		{"an agent of one's own beside ours", "network: {allow: [{host: x.example}]}\nssh: [{hosts: [x.example]}]\nenv: {set: {SSH_AUTH_SOCK: /x}}\n", policy.Flags{}, "SSH_AUTH_SOCK is in env as well (project casemate.yaml:3"},
		{"a granted path around the project", "version: 1\nfiles: {read: [/home/ann]}\n", policy.Flags{}, "contains the project"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Make(request(merged(t, tt.document, tt.flags), Rootless))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

// TestCaches: a cache is mounted where the tool inside looks for it, named among the openings, and refused where its place cannot be made.
func TestCaches(t *testing.T) {
	for _, c := range []struct{ name, source, target, want string }{
		{"in the home", "/home/ann/.npm/_cacache", "/home/ann/.npm/_cacache", ""},
		{"from elsewhere", "/data/npm", "/home/ann/.npm/_cacache", ""},
		{"in /tmp", "/data/npm", "/tmp/npm", ""},
		{"in the empty root", "/data/npm", "/data/npm", ""},
		{"in what is shown of the host, at the same place", "/home/ann/.cargo/registry", "/home/ann/.cargo/registry", ""},
		{"in what is shown of the host, at another", "/data/registry", "/home/ann/.cargo/registry", "cannot be made in /home/ann/.cargo"},
		{"in the system", "/data/npm", "/usr/share/npm", "cannot be made in /usr"},
		{"in the project", "/data/npm", "/home/ann/proj/.npm", "which is the project's place"},
		{"around the project", "/data/npm", "/home/ann", "which is the project's place"},
		{"in the place of a tool chain", "/data/npm", "/home/ann/.cargo", "where something else is"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := request(merged(t, "", policy.Flags{}), Rootless)
			r.Caches = []Cache{{Name: "npm", What: "packages", Mount: Mount{Kind: Overlay, Source: c.source, Target: c.target, Writable: true, Cache: "npm", Origin: "casemate.yaml:7"}}}
			p, err := Make(r)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "casemate.yaml:7") {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(p.Mounts, func(m Mount) bool { return m.Target == c.target })
			if i < 0 || !slices.ContainsFunc(p.Landlock.Allow, func(r Rule) bool { return r.Path == c.target && r.Write }) {
				t.Errorf("mounts %+v, rules %+v", p.Mounts, p.Landlock)
			}
			if !slices.ContainsFunc(p.Openings, func(o Opening) bool { return o.Origin == "casemate.yaml:7" && strings.Contains(o.What, c.source) }) {
				t.Errorf("openings %+v", p.Openings)
			}
		})
	}
}

// TestEnforcedCanBeRequired is the control of the refusals.
func TestEnforcedCanBeRequired(t *testing.T) {
	if _, err := Make(request(merged(t, "", policy.Flags{Require: []string{"limits.memory", "net.default-deny"}}), Rootless)); err != nil {
		t.Error(err)
	}
}

// TestFallbackPromisesLess: whatever a mode without namespaces keeps, it must not claim what only they give.
func TestFallbackPromisesLess(t *testing.T) {
	p, err := Make(request(merged(t, "", policy.Flags{AllowFallback: []string{"landlock"}}), Landlock))
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range p.Guarantees {
		if (g.Name == "proc.isolation" || g.Name == "files.metadata") && g.State != Absent {
			t.Errorf("%s is %s without namespaces", g.Name, g.State)
		}
	}
	if len(p.Mounts) != 0 || len(p.Namespaces) != 0 || !p.Syscalls.Fallback {
		t.Errorf("the fallback plans %d mounts, namespaces %v, filter %+v", len(p.Mounts), p.Namespaces, p.Syscalls)
	}
}

func TestNetwork(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	plan := func(document string, flags policy.Flags, mode Mode) (*Plan, error) {
		r := request(merged(t, document, flags), mode)
		r.Now, r.IPv6 = now, true
		return Make(r)
	}
	p, err := plan("network: {deny: [tracker.example]}\n", policy.Flags{}, Rootless)
	if err != nil || p.Network.Kind != NoNetwork {
		t.Errorf("without a rule: %+v %v", p.Network, err)
	}
	p, err = plan("network: {allow: [{host: old.example, until: 2026-11-21}]}\n", policy.Flags{}, Rootless)
	if err != nil || p.Network.Kind != NoNetwork || len(p.Notes) == 0 {
		t.Errorf("with a rule that has ended: %+v %v, notes %q", p.Network, err, p.Notes)
	}
	p, err = plan("network: {allow: [{host: new.example, until: 2026-11-22, ports: [22]}]}\n", policy.Flags{Allow: []string{"*.api.example", "[2001:db8::1]:443,80"}, HostPorts: []string{"5432"}}, Rootless)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Network.String(); got != "gate: new.example:22, *.api.example:443, [2001:db8::1]:443,80, the host's loopback port 5432" {
		t.Errorf("got %s", got)
	}
	if end := p.Network.Allow[0].Until; !end.Equal(time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("the last day ends at %v", end)
	}
	if len(p.Openings) < 4 {
		t.Errorf("openings: %v", p.Openings)
	}
	p, err = plan("network:\n  allow:\n    - {host: api.example, methods: [GET], paths: ['/v1/*']}\n    - {host: '*.c.example', ports: [80]}\n    - {host: b.c.example, paths: [/], ports: [80]}\n", policy.Flags{}, Rootless)
	if err != nil || p.Network.TLS == nil || len(p.Notes) != 1 || !strings.Contains(p.Notes[0], "b.c.example:80 have no effect") {
		t.Errorf("rules for single requests: %+v %v, notes %q", p.Network, err, p.Notes)
	}
	if a := p.Network.Allow[0]; len(a.Methods) != 1 || len(a.Paths) != 1 {
		t.Errorf("%+v", a)
	}
	if !slices.ContainsFunc(p.Openings, func(o Opening) bool {
		return o.What == "reach api.example:443; only requests of method GET on path /v1/*"
	}) {
		t.Errorf("openings: %v", p.Openings)
	}
	if _, err = plan("", policy.Flags{Allow: []string{"a.example"}, AllowFallback: []string{"landlock"}}, Landlock); err == nil || !strings.Contains(err.Error(), "network namespace") {
		t.Errorf("in the fallback: %v", err)
	}
}

// TestTrustOnlyWhereTLSIsOpened: without a rule about requests, or with one that has ended, nothing is trusted inside but what the system trusts.
func TestTrustOnlyWhereTLSIsOpened(t *testing.T) {
	for document, want := range map[string]bool{
		"network: {allow: [{host: a.example}]}\n":                                          false,
		"network: {allow: [{host: a.example, methods: [GET], until: 2026-11-21}]}\n":       false,
		"network: {allow: [{host: a.example, methods: [GET], until: 2026-11-22}]}\n":       true,
		"network: {allow: [{host: b.example}, {host: \"*.a.example\", paths: [/page]}]}\n": true,
	} {
		r := request(merged(t, document, policy.Flags{}), Rootless)
		r.Now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
		p, err := Make(r)
		if err != nil {
			t.Fatal(err)
		}
		mounted := slices.ContainsFunc(p.Mounts, func(m Mount) bool { return m.Target == "/run/casemate" })
		if got := p.Network.TLS != nil; got != want || mounted != want || OpensTLS(r.Policy, r.Now) != want {
			t.Errorf("%s: opened %v, mounted %v", document, got, mounted)
		}
	}
}

// TestSigningSecrets: an AWS credential has three variables, and a host that would give real ones away is told of.
func TestSigningSecrets(t *testing.T) {
	for hosts, told := range map[string]bool{`"*.amazonaws.com"`: true, "sts.amazonaws.com": true, `"*.us-east-1.amazonaws.com"`: true, "s3.amazonaws.com": false, `"*.s3.us-east-1.amazonaws.com"`: false} {
		p, err := Make(request(merged(t, "secrets: {aws: {env: R2_ACCESS_KEY_ID, hosts: ["+hosts+"], place: sigv4}}\nnetwork: {allow: [{host: "+hosts+"}]}\n", policy.Flags{}), Rootless))
		if err != nil {
			t.Fatal(err)
		}
		if notes := strings.Join(p.Notes, "\n"); strings.Contains(notes, "covers AWS's STS, whose answers hold real credentials") != told {
			t.Errorf("%s: %q", hosts, notes)
		}
		want := "use the secret aws (inside: a placeholder in R2_ACCESS_KEY_ID, R2_SECRET_ACCESS_KEY, R2_SESSION_TOKEN) in requests to " + strings.Trim(hosts, `"`) + ":443, as sigv4"
		if !slices.ContainsFunc(p.Openings, func(o Opening) bool { return o.What == want }) {
			t.Errorf("openings: %v", p.Openings)
		}
	}
}

// TestSecrets: a secret opens TLS to its hosts and nothing else, and its variable is nobody else's.
func TestSecrets(t *testing.T) {
	const secret = "secrets: {anthropic: {env: KEY, hosts: [api.a.example], place: bearer}}\n"
	const aws = "secrets: {aws: {env: AWS_ACCESS_KEY_ID, hosts: [\"*.a.example\"], place: sigv4}}\n"
	for _, c := range []struct {
		name, document string
		kind           NetworkKind
		opened         int
		note, err      string
	}{
		{"with a rule", secret + "network: {allow: [{host: api.a.example}]}\n", Gate, 1, "", ""},
		{"with a wildcard", secret + "network: {allow: [{host: \"*.a.example\"}]}\n", Gate, 1, "", ""},
		{"without any", secret, NoNetwork, 0, "secrets.anthropic (project casemate.yaml:1): there is no network here, so KEY holds a placeholder that nothing replaces", ""},
		{"with one for another host", secret + "network: {allow: [{host: b.example}]}\n", Gate, 1, "secrets.anthropic (project casemate.yaml:1): no rule of network.allow reaches api.a.example:443, and a secret opens nothing", ""},
		{"with one for another port", secret + "network: {allow: [{host: api.a.example, ports: [80]}]}\n", Gate, 1, "reaches api.a.example:443", ""},
		{"of a preset, without any network", "", NoNetwork, 0, "", ""},
		{"passed as well", secret + "env: {pass: [KEY]}\n", "", 0, "", "KEY is in env as well (project casemate.yaml:2), which would bring its value inside"},
		{"set as well", secret + "env: {set: {KEY: x}}\n", "", 0, "", "KEY is in env as well"},
		{"the sandbox's own", "secrets: {a: {env: HOME, hosts: [a.example]}}\n", "", 0, "", "every sandbox has a variable HOME of its own"},
		{"a part of an AWS credential", aws + "env: {pass: [AWS_SESSION_TOKEN]}\n", "", 0, "", "AWS_SESSION_TOKEN is in env as well (project casemate.yaml:2), which would bring its value inside"},
		{"a part of two AWS credentials", "secrets: {b: {env: AWS_SECRET_ACCESS_KEY, hosts: [a.example]}, a: {env: AWS_ACCESS_KEY_ID, hosts: [a.example], place: sigv4}}\n", "", 0, "", "AWS_SECRET_ACCESS_KEY holds the placeholder of secrets."},
		{"twice", "secrets: {a: {env: K, hosts: [a.example]}, b: {env: K, hosts: [a.example]}}\n", "", 0, "", "K holds the placeholder of secrets.a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := request(merged(t, c.document, policy.Flags{}), Rootless)
			if c.document == "" {
				r.Policy.Secrets = []policy.Value[policy.Secret]{{V: policy.Secret{Name: "x", Env: "X", Hosts: []string{"x.example"}, Ports: []int{443}, Optional: true, Unless: "y"}}}
			}
			r.Env = append(slices.Clone(r.Env), "HOME=/home/ann")
			p, err := Make(r)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			opened := 0
			if p.Network.TLS != nil {
				opened = len(p.Network.TLS.Hosts)
			}
			notes := strings.Join(p.Notes, "\n")
			if p.Network.Kind != c.kind || opened != c.opened || (len(p.Secrets) == 1) != (c.document != "") || !strings.Contains(notes, c.note) || c.note == "" && notes != "" {
				t.Errorf("%+v\n%+v\n%s", p.Network, p.Secrets, notes)
			}
			used := slices.ContainsFunc(p.Openings, func(o Opening) bool {
				return o.What == "use the secret anthropic (inside: a placeholder in KEY) in requests to api.a.example:443, as bearer"
			})
			if used != (c.kind == Gate) {
				t.Errorf("openings: %v", p.Openings)
			}
			if slices.ContainsFunc(p.Command.Env, func(kv string) bool { return strings.HasPrefix(kv, "KEY=") }) {
				t.Errorf("a plan holds %q", p.Command.Env)
			}
		})
	}
}
