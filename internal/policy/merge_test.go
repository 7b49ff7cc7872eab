package policy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// source is a document of a tier; "trusted project" is one a person approved.
func source(t testing.TB, tier, text string) Source {
	t.Helper()
	name, trusted := strings.CutPrefix(tier, "trusted ")
	tiers := map[string]Tier{"preset": Preset, "organisation": Organisation, "user": User, "project": Project, "command line": CommandLine}
	tr, ok := tiers[name]
	if !ok {
		t.Fatalf("no tier %q", tier)
	}
	return Source{Tier: tr, Name: name + ".yaml", Doc: mustParse(t, "f", text), Trusted: trusted}
}

// sources takes TIER and TEXT in turn.
func sources(t testing.TB, tierAndText ...string) []Source {
	t.Helper()
	var out []Source
	for i := 0; i < len(tierAndText); i += 2 {
		out = append(out, source(t, tierAndText[i], tierAndText[i+1]))
	}
	return out
}

func effective(p *Policy, key string) string {
	var out []string
	for _, e := range p.Explain() {
		if e.Key == key && e.Origin.File != "hide list" {
			out = append(out, e.Value+" ("+e.From+")")
		}
	}
	return strings.Join(out, ", ")
}

func TestMerge(t *testing.T) {
	for _, c := range []struct {
		name    string
		sources []string
		key     string
		want    string
	}{
		{"default level", nil, "level", "restricted (default)"},
		{"default workspace", nil, "files.workspace", "held (level restricted)"},
		{"default memory", nil, "limits.memory", "75 % of the machine's memory (default)"},
		{"minimal shows no project", []string{"user", "level: minimal"}, "files.workspace", "none (level minimal)"},
		{"full writes in place", []string{"user", "level: full"}, "files.workspace", "live (level full)"},
		{"a later tier's scalar holds", []string{"user", "home: none", "trusted project", "home: agent"}, "home", "agent (project project.yaml:1)"},
		{"whatever the order of the sources", []string{"command line", "home: none", "user", "home: agent"}, "home", "none (command line command line.yaml:1)"},
		{"lists add", []string{"user", "files: {read: [/a, /b]}", "command line", "files: {read: [/b, /c]}"}, "files.read", "/a (user user.yaml:1), /b (user user.yaml:1), /c (command line command line.yaml:1)"},
		{"the later value of a variable holds", []string{"user", "env: {set: {A: 1, B: 1}}", "command line", "env: {set: {A: 2}}"}, "env.set", "B=1 (user user.yaml:1), A=2 (command line command line.yaml:1)"},
		{"who said the same first is its origin", []string{"user", "env: {set: {A: 1}}", "trusted project", "env: {set: {A: 1}}"}, "env.set", "A=1 (user user.yaml:1)"},
		{"readonly wins over write", []string{"user", "files: {readonly: [src]}", "command line", "files: {write: [src/gen, srcgen, src]}"}, "files.write", "srcgen (command line command line.yaml:1)"},
		{"exceptions stay in order", []string{"user", "files: {hide: ['!.env', x]}", "project", "files: {hide: [.env]}"}, "files.hide", "!.env (user user.yaml:1), x (user user.yaml:1), .env (project project.yaml:1)"},
		{"a limit may be lowered", []string{"organisation", "limits: {pids: 100}", "user", "limits: {pids: 50}"}, "limits.pids", "50 (user user.yaml:1)"},
		{"and raised again to the ceiling", []string{"organisation", "limits: {pids: 100}", "user", "limits: {pids: 50}", "command line", "limits: {pids: 100}"}, "limits.pids", "100 (command line command line.yaml:1)"},
		{"the organisation overrides a preset", []string{"preset", "limits: {time: 3h}", "organisation", "limits: {time: 2h}"}, "limits.time", "2h (organisation organisation.yaml:1)"},
		{"a locked key may be repeated", []string{"organisation", "locked: [home]\nhome: none", "user", "home: none"}, "home", "none (organisation organisation.yaml:2)"},
		{"an empty list changes nothing that is locked", []string{"organisation", "locked: [network]", "user", "network: {deny: []}"}, "network.deny", ""},

		{"asking can be turned off for a run", []string{"user", "network: {ask: true}", "command line", "network: {ask: false}"}, "network.ask", "false (command line command line.yaml:1)"},
		{"a project that nobody trusts asks nothing", []string{"project", "network: {ask: true}"}, "network.ask", "false (default)"},
		{"but keeps from asking", []string{"user", "network: {ask: true}", "project", "network: {ask: false}"}, "network.ask", "false (project project.yaml:1)"},
		{"minimal asks nothing", []string{"user", "network: {ask: true}", "command line", "level: minimal"}, "network.ask", "false (default)"},
		{"restricted leaves asking as it is", []string{"user", "network: {ask: true}", "command line", "level: restricted"}, "network.ask", "true (user user.yaml:1)"},
		{"a level takes back what earlier tiers opened", []string{"user", "files: {workspace: live}", "command line", "level: restricted"}, "files.workspace", "held (level restricted)"},
		{"but not what its own tier says", []string{"command line", "level: restricted\nfiles: {workspace: live}"}, "files.workspace", "live (command line command line.yaml:2)"},
		{"nor what is narrower", []string{"user", "files: {workspace: readonly}", "command line", "level: full"}, "files.workspace", "readonly (user user.yaml:1)"},
		{"minimal closes lists", []string{"user", "files: {read: [/a]}", "command line", "level: minimal\nfiles: {read: [/b]}"}, "files.read", "/b (command line command line.yaml:2)"},
		{"minimal has no network", []string{"user", "network: {allow: [{host: x.example}]}", "command line", "level: minimal"}, "network.allow", ""},
		{"restricted leaves lists", []string{"user", "files: {read: [/a]}", "command line", "level: restricted"}, "files.read", "/a (user user.yaml:1)"},
		{"an untrusted project may choose a lower level", []string{"user", "files: {read: [/a]}\nhome: agent", "project", "level: minimal"}, "home", "none (level minimal)"},

		{"an untrusted project does not loosen the workspace", []string{"project", "files: {workspace: live}"}, "files.workspace", "held (level restricted)"},
		{"but tightens it", []string{"user", "level: full", "project", "files: {workspace: readonly}"}, "files.workspace", "readonly (project project.yaml:1)"},
		{"nor raises the level", []string{"project", "level: full"}, "level", "restricted (default)"},
		{"nor reads", []string{"project", "files: {read: [/a]}"}, "files.read", ""},
		{"nor shows hidden files", []string{"project", "files: {hide: ['!.env', x, '!x']}"}, "files.hide", "x (project project.yaml:1)"},
		{"nor opens the network", []string{"project", "network: {allow: [{host: x.example}], host_ports: [1], publish: [auto]}"}, "network.allow", ""},
		{"but closes it", []string{"project", "network: {deny: [x.example]}"}, "network.deny", "x.example (project project.yaml:1)"},
		{"nor raises a limit", []string{"user", "limits: {memory: 1GiB}", "project", "limits: {memory: 2GiB}"}, "limits.memory", "1GiB (user user.yaml:1)"},
		{"nor a default", []string{"project", "limits: {pids: 5000}"}, "limits.pids", "4096 (default)"},
		{"but lowers it", []string{"project", "limits: {pids: 4000}"}, "limits.pids", "4000 (project project.yaml:1)"},
		{"nor sets variables", []string{"project", "env: {set: {LD_PRELOAD: x}}"}, "env.set", ""},
		{"nor changes those of others", []string{"user", "env: {set: {A: 1}}", "project", "env: {set: {A: 2}}"}, "env.set", "A=1 (user user.yaml:1)"},
		{"nor allows a fallback", []string{"project", "allow_fallback: [landlock]"}, "allow_fallback", ""},
		{"but requires more", []string{"project", "require: [limits.memory]"}, "require", "limits.memory (project project.yaml:1)"},
		{"nor changes the engine", []string{"project", "engine: docker"}, "engine", "native (level restricted)"},
		{"a trusted project does all that", []string{"trusted project", "files: {workspace: live, hide: ['!.env']}"}, "files.hide", "!.env (project project.yaml:1)"},
		{"the command line has the last word", []string{"project", "files: {workspace: readonly}", "command line", "files: {workspace: live}"}, "files.workspace", "live (command line command line.yaml:1)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := Merge(sources(t, c.sources...))
			if err != nil {
				t.Fatal(err)
			}
			if got := effective(p, c.key); got != c.want {
				t.Errorf("%s = %s\nwant %s", c.key, got, c.want)
			}
		})
	}
}

func TestMergeRefuses(t *testing.T) {
	const less = "; ask for less, or have the organisation's policy changed"
	for _, c := range []struct {
		name    string
		sources []string
		want    string
	}{
		{"limit", []string{"organisation", "\nlimits: {memory: 1GiB}", "user", "limits: {memory: 2GiB}"}, "user.yaml:1:18: limits.memory: 2GiB goes beyond what organisation organisation.yaml:2 allows" + less},
		{"no limit", []string{"organisation", "limits: {time: 1h}", "command line", "limits: {time: none}"}, "command line.yaml:1:16: limits.time: none goes beyond what organisation organisation.yaml:1 allows" + less},
		{"trusted project", []string{"organisation", "limits: {cpus: 2}", "trusted project", "limits: {cpus: 2.5}"}, "project.yaml:1:16: limits.cpus: 2.5 goes beyond what organisation organisation.yaml:1 allows" + less},
		{"level", []string{"organisation", "level: restricted", "command line", "level: full"}, "command line.yaml:1:8: level: full goes beyond what organisation organisation.yaml:1 allows" + less},
		{"what the level means", []string{"organisation", "level: restricted", "user", "files: {workspace: live}"}, "user.yaml:1:20: files.workspace: live goes beyond what organisation organisation.yaml:1 allows" + less},
		{"lists at minimal", []string{"organisation", "level: minimal", "user", "files: {read: [/a]}"}, "user.yaml:1:16: files.read: /a goes beyond what organisation organisation.yaml:1 allows" + less},
		{"workspace", []string{"organisation", "files: {workspace: held}", "command line", "level: full\nfiles: {workspace: live}"}, "command line.yaml:2:20: files.workspace: live goes beyond what organisation organisation.yaml:1 allows" + less},
		{"fallback", []string{"organisation", "allow_fallback: []", "user", "allow_fallback: [landlock]"}, "user.yaml:1:18: allow_fallback: landlock goes beyond what organisation organisation.yaml:1 allows" + less},
		{"engine", []string{"organisation", "engine: microvm", "user", "engine: native"}, "user.yaml:1:9: engine: native goes beyond what organisation organisation.yaml:1 allows" + less},
		{"lock", []string{"organisation", "locked: [network.deny]", "project", "network: {deny: [x.example]}"}, "project.yaml:1:18: network.deny is locked by organisation organisation.yaml:1; leave it to the organisation"},
		{"locked section", []string{"organisation", "locked: [files]", "command line", "files: {read: [/a]}"}, "command line.yaml:1:16: files.read is locked by organisation organisation.yaml:1; leave it to the organisation"},
		{"locked level", []string{"organisation", "locked: [level]", "command line", "level: minimal"}, "command line.yaml:1:8: level is locked by organisation organisation.yaml:1; leave it to the organisation"},
		{"a project that locks", []string{"project", "locked: [network.deny]"}, "project.yaml:1:1: locked is for the organisation's policy only; remove it"},
		{"even nothing", []string{"user", "locked: []"}, "user.yaml:1:1: locked is for the organisation's policy only; remove it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := Merge(sources(t, c.sources...))
			if err == nil {
				t.Fatalf("taken: %+v", p.Explain())
			}
			if err.Error() != c.want {
				t.Errorf("got  %s\nwant %s", err, c.want)
			}
		})
	}
}

// TestMergeNames checks what is said about lines that have no effect.
func TestMergeNames(t *testing.T) {
	p, err := Merge(sources(t,
		"user", "files: {workspace: live, write: [a/b]}",
		"project", "files:\n  hide: [x, '!y']\n  readonly: [a]\nhome: agent\nlevel: restricted\nlimits: {memory: 1GiB}"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range append(p.Ignored, p.Overruled...) {
		got = append(got, fmt.Sprintf("%s: %s (%s): %s", w.Key, w.Text, w.Origin, w.Why))
	}
	want := []string{
		"files.hide: !y (project project.yaml:2): the project's policy is not trusted",
		"home: agent (project project.yaml:4): the project's policy is not trusted",
		"files.workspace: live (user user.yaml:1): level restricted (project project.yaml:5) allows less",
		"files.write: a/b (user user.yaml:1): a is readonly (project project.yaml:3)",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestLimitOr: a limit from an untrusted project may only lower a default that the merge does not know.
func TestLimitOr(t *testing.T) {
	for _, c := range []struct {
		name    string
		sources []string
		def     Size
		want    Size
	}{
		{"unset", nil, 3 * GiB, 3 * GiB},
		{"untrusted, lower", []string{"project", "limits: {memory: 2GiB}"}, 3 * GiB, 2 * GiB},
		{"untrusted, higher", []string{"project", "limits: {memory: 4GiB}"}, 3 * GiB, 3 * GiB},
		{"trusted, higher", []string{"trusted project", "limits: {memory: 4GiB}"}, 3 * GiB, 4 * GiB},
		{"below what the user says", []string{"user", "limits: {memory: 4GiB}", "project", "limits: {memory: 2GiB}"}, GiB, 2 * GiB},
		{"no default", []string{"project", "limits: {memory: 4GiB}"}, 0, 4 * GiB},
		{"the command line's", []string{"project", "limits: {memory: 2GiB}", "command line", "limits: {memory: 5GiB}"}, 3 * GiB, 5 * GiB},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := Merge(sources(t, c.sources...))
			if err != nil {
				t.Fatal(err)
			}
			if got := p.Limits.Memory.Or(c.def); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestHideSets(t *testing.T) {
	for _, c := range []struct {
		name    string
		sources []string
		path    string
		hidden  bool
	}{
		{"built-in", nil, "a/.env", true},
		{"a user's exception", []string{"user", "files: {hide: ['!.env']}"}, "a/.env", false},
		{"an untrusted project's", []string{"project", "files: {hide: ['!.env']}"}, "a/.env", true},
		{"the organisation's word", []string{"organisation", "files: {hide: [.env]}", "user", "files: {hide: ['!.env']}"}, "a/.env", true},
		{"the organisation's exception", []string{"organisation", "files: {hide: ['!.env']}"}, "a/.env", false},
		{"which others may tighten", []string{"organisation", "files: {hide: ['!.env']}", "project", "files: {hide: [a/.env]}"}, "a/.env", true},
		{"the organisation's exception from its own", []string{"organisation", "files: {hide: ['*.x', '!t.x']}", "user", "files: {hide: ['!b.x']}"}, "t.x", false},
		{"and only that", []string{"organisation", "files: {hide: ['*.x', '!t.x']}", "user", "files: {hide: ['!b.x']}"}, "b.x", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := Merge(sources(t, c.sources...))
			if err != nil {
				t.Fatal(err)
			}
			if got := isHidden(t, p, c.path); got != c.hidden {
				t.Errorf("%s hidden: %v", c.path, got)
			}
		})
	}
}

func isHidden(t testing.TB, p *Policy, path string) bool {
	t.Helper()
	hidden := false
	for _, set := range p.Files.HideSets() {
		h, _ := mustPaths(t, set...).Match(path, false)
		hidden = hidden || h
	}
	return hidden
}

// TestUntrustedNeverWidens draws policies at random and asks whether the untrusted project among them allows anything that is not allowed without it.
// The control: the same project, trusted, does so often.
func TestUntrustedNeverWidens(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	widened, applied := 0, 0
	for range 1500 {
		var others []Source
		for _, tier := range []string{"preset", "organisation", "user", "command line"} {
			if r.IntN(2) == 0 {
				others = append(others, source(t, tier, randomDocument(r, tier == "organisation")))
			}
		}
		text := randomDocument(r, false)
		without, err := Merge(others)
		if err != nil {
			continue
		}
		if with, err := Merge(append(others, source(t, "project", text))); err == nil {
			applied++
			if wider := widerThan(with, without); len(wider) > 0 {
				t.Fatalf("%s\nwidens %s\nbeside %s", text, strings.Join(wider, "; "), describeSources(others))
			}
		}
		if with, err := Merge(append(others, source(t, "trusted project", text))); err == nil && len(widerThan(with, without)) > 0 {
			widened++
		}
	}
	if applied < 400 || widened < 200 {
		t.Errorf("the test tests nothing: of 1500 policies %d took effect, and %d widened when trusted", applied, widened)
	}
}

// TestCeilingHolds: whatever users, trusted projects and command lines say, no value goes over the organisation's.
func TestCeilingHolds(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	held := 0
	for range 1500 {
		org := source(t, "organisation", randomDocument(r, true))
		all := []Source{org}
		for _, tier := range []string{"preset", "user", "trusted project", "command line"} {
			if r.IntN(2) == 0 {
				all = append(all, source(t, tier, randomDocument(r, false)))
			}
		}
		p, err := Merge(all)
		if err != nil {
			continue
		}
		held++
		for _, over := range scalarsWider(&p.Settings, &org.Doc.Settings, true) {
			t.Fatalf("%s\nbeside %s", over, describeSources(all))
		}
	}
	if held < 200 {
		t.Errorf("the test tests nothing: %d of 1500 policies were taken", held)
	}
}

func describeSources(s []Source) string {
	var out []string
	for _, src := range s {
		out = append(out, fmt.Sprintf("%s: %q", src.Tier, src.Doc.said()))
	}
	return strings.Join(out, "\n")
}

// randomDocument says some things about some keys.
func randomDocument(r *rand.Rand, organisation bool) string {
	var b strings.Builder
	line := func(key string, values ...string) {
		if r.IntN(3) == 0 {
			b.WriteString(key + ": " + values[r.IntN(len(values))] + "\n")
		}
	}
	some := func(values ...string) string {
		var out []string
		for range r.IntN(4) {
			out = append(out, values[r.IntN(len(values))])
		}
		return "[" + strings.Join(out, ", ") + "]"
	}
	line("level", "minimal", "restricted", "full")
	line("agent", "a", "b")
	line("presets", some("npm", "go"))
	line("home", "none", "project", "agent")
	line("engine", "native", "docker")
	line("allow_fallback", "[]", "[landlock]")
	line("require", some("limits.memory", "net.default-deny"))
	line("cache", some("npm", "go"))
	line("devices", some("gpu"))
	line("ssh", some("{hosts: [x.example]}", "{hosts: [x.example], keys: [a]}", "{hosts: [x.example], ports: [1]}"))
	line("secrets", "{a: {env: A, hosts: [x.example]}}", "{a: {env: B, hosts: [x.example]}}")
	b.WriteString("files:\n")
	line("  workspace", "none", "readonly", "held", "live")
	line("  read", some("/a", "/b"))
	line("  write", some("a", "a/b", "c"))
	line("  readonly", some("a", "a/b", "c"))
	line("  hide", some("x", "'!x'", ".env", "'!.env'", "'*.pem'", "'!*'", "d/"))
	line("  protect", some("p", "q"))
	b.WriteString("network:\n")
	line("  allow", some("{host: x.example}", "{host: x.example, ports: [1]}", "{host: x.example, methods: [GET]}", "{host: y.example}"))
	line("  deny", some("x.example", "y.example"))
	line("  publish", some("1", "1:2", "auto"))
	line("  host_ports", some("1", "2"))
	line("  internal", some("m"))
	b.WriteString("git:\n")
	line("  identity", "none", "import")
	line("  push", some("origin"))
	b.WriteString("env:\n")
	line("  pass", some("A", "B", "TERM"))
	line("  set", "{A: 1}", "{A: 2, B: 1}")
	b.WriteString("limits:\n")
	line("  memory", "1GiB", "2GiB", "3GiB")
	line("  pids", "100", "4096", "5000")
	line("  cpus", "1", "2.5")
	line("  disk", "1GiB", "40GiB")
	line("  time", "1h", "9h", "none")
	line("  idle", "1h", "9h", "none")
	if organisation {
		line("locked", some("level", "files.hide", "network", "limits.memory"))
	}
	return b.String()
}

// widerThan lists what a allows and b does not. It is written apart from Merge, list by list, and knows nothing of the table.
func widerThan(a, b *Policy) []string {
	wider := scalarsWider(&a.Settings, &b.Settings, false)
	subset := func(what string, narrow, wide []string) {
		for _, v := range narrow {
			if !slices.Contains(wide, v) {
				wider = append(wider, what+" "+v)
			}
		}
	}
	subset("presets", said(a.Presets), said(b.Presets))
	subset("read", said(a.Files.Read), said(b.Files.Read))
	subset("write", said(a.Files.Write), said(b.Files.Write))
	subset("allow", said(a.Network.Allow), said(b.Network.Allow))
	if a.Network.Ask.V && !b.Network.Ask.V {
		wider = append(wider, "ask")
	}
	subset("publish", said(a.Network.Publish), said(b.Network.Publish))
	subset("host_ports", said(a.Network.HostPorts), said(b.Network.HostPorts))
	subset("internal", said(a.Network.Internal), said(b.Network.Internal))
	subset("secrets", said(a.Secrets), said(b.Secrets))
	subset("ssh", said(a.SSH), said(b.SSH))
	subset("push", said(a.Git.Push), said(b.Git.Push))
	subset("cache", said(a.Cache), said(b.Cache))
	subset("devices", said(a.Devices), said(b.Devices))
	subset("pass", said(a.Env.Pass), said(b.Env.Pass))
	subset("set", said(a.Env.Set), said(b.Env.Set))
	subset("fallback", said(a.AllowFallback), said(b.AllowFallback))
	subset("lost readonly", said(b.Files.Readonly), said(a.Files.Readonly))
	subset("lost protect", said(b.Files.Protect), said(a.Files.Protect))
	subset("lost deny", said(b.Network.Deny), said(a.Network.Deny))
	subset("lost require", said(b.Require), said(a.Require))
	// Of the hide list: the same in the same order, with nothing but further patterns that hide in between.
	rest := said(b.Files.Hide)
	for _, h := range said(a.Files.Hide) {
		switch {
		case len(rest) > 0 && rest[0] == h:
			rest = rest[1:]
		case strings.HasPrefix(h, "!"):
			wider = append(wider, "exception "+h)
		}
	}
	if len(rest) > 0 {
		wider = append(wider, "lost hide "+strings.Join(rest, " "))
	}
	return wider
}

func said[T any](vs []Value[T]) []string {
	var out []string
	for _, v := range vs {
		out = append(out, fmt.Sprint(v.V))
	}
	return out
}

// scalarsWider compares the keys with one value. As a ceiling, b bounds only what it says.
func scalarsWider(a, b *Settings, ceiling bool) []string {
	var wider []string
	rank := func(what, x, y string, row ...string) {
		if (y != "" || !ceiling) && slices.Index(row, x) > slices.Index(row, y) {
			wider = append(wider, fmt.Sprintf("%s %s over %s", what, x, y))
		}
	}
	more := func(what string, x, y float64, set bool) {
		if (set || !ceiling) && x > y {
			wider = append(wider, fmt.Sprintf("%s %v over %v", what, x, y))
		}
	}
	rank("level", string(a.Level.V), string(b.Level.V), "minimal", "restricted", "full")
	rank("workspace", string(a.Files.Workspace.V), string(b.Files.Workspace.V), "none", "readonly", "held", "live")
	rank("home", string(a.Home.V), string(b.Home.V), "none", "project", "agent")
	rank("identity", string(a.Git.Identity.V), string(b.Git.Identity.V), "none", "import")
	for _, d := range []float64{1, 1.5, 5000} { // defaults of different machines
		g := Size(d * float64(GiB))
		more("memory", float64(a.Limits.Memory.Or(g)), float64(b.Limits.Memory.Or(g)), b.Limits.Memory.IsSet())
		more("disk", float64(a.Limits.Disk.Or(g)), float64(b.Limits.Disk.Or(g)), b.Limits.Disk.IsSet())
		h := time.Duration(d * float64(time.Hour))
		more("time", float64(a.Limits.Time.Or(h)), float64(b.Limits.Time.Or(h)), b.Limits.Time.IsSet())
		more("idle", float64(a.Limits.Idle.Or(h)), float64(b.Limits.Idle.Or(h)), b.Limits.Idle.IsSet())
		more("cpus", a.Limits.CPUs.Or(65536), b.Limits.CPUs.Or(65536), b.Limits.CPUs.IsSet())
		more("pids", float64(a.Limits.Pids.Or(DefaultPids)), float64(b.Limits.Pids.Or(DefaultPids)), b.Limits.Pids.IsSet())
	}
	if (!ceiling || b.Engine.IsSet()) && a.Engine.V != b.Engine.V {
		wider = append(wider, "engine "+a.Engine.V)
	}
	if !ceiling && a.Agent.V != b.Agent.V {
		wider = append(wider, "agent "+a.Agent.V)
	}
	return wider
}
