package session

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"casemate.dev/internal/plan"
	"casemate.dev/internal/policy"
	"casemate.dev/internal/relay"
)

// ruled is a run whose policy files lie in directories of the test's, as a supervisor follows them.
type ruled struct {
	*ruling
	t     *testing.T
	force plan.Reachable
	waits string
}

// newRuled begins one whose project has, or has not, a policy of its own.
func newRuled(t *testing.T, workspace policy.Workspace, own string, flags ...string) *ruled {
	t.Helper()
	dir := t.TempDir()
	p := Person{Home: dir, Config: filepath.Join(dir, "config")}
	r := &Run{Person: p, ruledBy: filepath.Join(dir, "project"), Plan: &plan.Plan{Workspace: plan.Workspace{Kind: string(workspace)}}}
	for _, d := range []string{p.Config, r.ruledBy} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if workspace == policy.Live {
		r.Plan.Mounts = []plan.Mount{{Kind: plan.Bind, Source: r.ruledBy, Target: r.ruledBy, Writable: true}}
	}
	out := &ruled{t: t, ruling: &ruling{run: r, docs: map[policy.Tier]*policy.Document{}}}
	if own != "" {
		out.project(own)
		out.trust()
	}
	var err error
	if r.tiers, err = p.Load(r.ruledBy, policy.Flags{Allow: flags}); err != nil {
		t.Fatal(err)
	}
	if r.Policy, err = policy.Merge(r.tiers.Sources); err != nil {
		t.Fatal(err)
	}
	out.own = r.tiers.Project
	out.force, _ = plan.Resolve(r.Policy.Network, time.Now())
	return out
}

func (r *ruled) put(path, text string) {
	r.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *ruled) user(text string) {
	r.t.Helper()
	r.put(filepath.Join(r.run.Person.Config, "policy.yaml"), text)
}

func (r *ruled) project(text string) {
	r.t.Helper()
	r.put(filepath.Join(r.run.ruledBy, PolicyFile), text)
}

func (r *ruled) trust() {
	r.t.Helper()
	own, err := readProject(r.run.ruledBy)
	if err == nil {
		err = r.run.Person.Approve(own, true)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// approvedLongAgo dates the approval back: they are dated by the second.
func (r *ruled) approvedLongAgo() {
	r.t.Helper()
	trust, err := r.run.Person.Trust()
	if err == nil {
		err = trust.Approve(r.own.Path, r.own.Digest, time.Now().Add(-time.Hour))
	}
	if err != nil {
		r.t.Fatal(err)
	}
	text, err := trust.Encode()
	if err != nil {
		r.t.Fatal(err)
	}
	r.put(r.run.Person.trustFile(), string(text))
}

// look does what a supervisor does after a change.
func (r *ruled) look() {
	troubles := r.read()
	if r.missing {
		troubles = r.read()
	}
	var waits []string
	r.force, waits = r.decide(r.force, r.sources(), troubles, time.Now())
	r.waits = strings.Join(waits, "; ")
}

// is compares what is reachable: hosts that are allowed, and with a ! those that are denied.
func (r *ruled) is(want ...string) {
	r.t.Helper()
	r.look()
	var got []string
	for _, a := range r.force.Allow {
		got = append(got, a.Host)
	}
	for _, d := range r.force.Deny {
		got = append(got, "!"+d.Value)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		r.t.Errorf("reachable: %q, want %q (%s)", got, want, r.waits)
	}
}

// says is the end of what does not hold.
func (r *ruled) says(want string) {
	r.t.Helper()
	if want == "" && r.waits != "" || !strings.Contains(r.waits, want) {
		r.t.Errorf("said %q, want %q", r.waits, want)
	}
}

// TestUserPolicyLive: what it says holds, and nothing of what it says no more.
func TestUserPolicyLive(t *testing.T) {
	r := newRuled(t, policy.Held, "", "flag.example")
	r.is("flag.example")
	r.user("network: {allow: [{host: a.example}, {host: old.example, until: 2020-01-01}], deny: [x.example]}\n")
	r.is("flag.example", "a.example", "!x.example")
	r.says("")
	r.user("network: {allow: [{host: b.example}]}\nlimits: {pids: 100}\npresets: [npm]\n")
	r.is("flag.example", "b.example")
	r.says("in the next run: limits.pids, presets")
	r.user("network: {ask: true}\n")
	r.is("flag.example")
	if !r.force.Ask {
		t.Error("it does not ask")
	}
	if err := os.Remove(filepath.Join(r.run.Person.Config, "policy.yaml")); err != nil {
		t.Fatal(err)
	}
	if r.read(); !r.missing {
		t.Error("that a file has gone is believed at once, while an editor may replace it")
	}
	r.is("flag.example")
}

// TestBrokenPolicyLive: while a file cannot be read nothing is opened, by no file; what is denied and taken away is.
func TestBrokenPolicyLive(t *testing.T) {
	r := newRuled(t, policy.Held, "network: {allow: [{host: p.example}]}\n", "flag.example")
	r.user("network: {allow: [{host: a.example}, {host: b.example}], deny: [x.example]}\n")
	r.is("flag.example", "p.example", "a.example", "b.example", "!x.example")
	r.user("network: {allow: [{host: a.example}, {host: c.example}]\n")
	r.is("flag.example", "p.example", "a.example", "b.example", "!x.example")
	r.says("policy.yaml:2:1: this is not YAML")
	r.project("network: {allow: [{host: q.example}], deny: [b.example]}\n")
	r.trust()
	r.is("flag.example", "a.example", "b.example", "!b.example", "!x.example") // q waits, p has gone
	r.says("while that is so, nothing is allowed that was not")
	r.user("network: {allow: [{host: a.example, ports: [443, 80]}]}\nlevel: full\n")
	r.is("flag.example", "!b.example", "!x.example") // the level cannot change, and a.example on two ports is more than it was
	r.says("level full (user")
	r.user("network: {allow: [{host: a.example}]}\ndevices: [gpu]\n")
	r.is("flag.example", "!b.example", "!x.example")
	r.says("not in this version")
	r.user("network: {allow: [{host: a.example}]}\n")
	r.is("flag.example", "a.example", "q.example", "!b.example")
	r.says("")
	r.put(r.run.Person.trustFile(), "{")
	r.is("flag.example", "a.example", "q.example", "!b.example")
	r.says("trusted.json")
	r.project("network: {allow: [{host: s.example}]}\n")
	r.is("flag.example", "a.example", "!b.example")
}

// TestProjectPolicyLive: without anybody's approval it takes nothing back that it has narrowed.
func TestProjectPolicyLive(t *testing.T) {
	r := newRuled(t, policy.Held, "network: {allow: [{host: p.example}], deny: [x.example]}\n", "flag.example")
	r.is("flag.example", "p.example", "!x.example")
	r.project("network: {allow: [{host: q.example}], deny: [y.example]}\n")
	r.is("flag.example", "!x.example", "!y.example")
	r.says("network.allow q.example:443, which nobody has approved (casemate trust)")
	r.project("{}\n")
	r.is("flag.example", "!x.example", "!y.example")
	if err := os.Remove(filepath.Join(r.run.ruledBy, PolicyFile)); err != nil {
		t.Fatal(err)
	}
	r.is("flag.example", "!x.example", "!y.example")
	r.project("network: {allow: [{host: q.example}]}\n")
	r.trust()
	r.is("flag.example", "q.example")
	r.says("")
	r.project("network: {deny: [\"*.z.example\"]}\n")
	r.is("flag.example", "!*.z.example")
	for range 30 {
		old := r.own.Data
		r.project(string(old) + "# and again\n")
		r.is("flag.example", "!*.z.example")
	}
	r.says("changed too often")
	r.user("network: {allow: [{host: a.example}]}\n")
	r.is("flag.example", "!*.z.example")
	r.trust()
	r.is("flag.example", "a.example", "!*.z.example")
}

// TestProjectPolicyLink: a link in its place is no policy, as at the start.
func TestProjectPolicyLink(t *testing.T) {
	r := newRuled(t, policy.Held, "network: {deny: [x.example]}\n")
	r.put(filepath.Join(r.run.Person.Home, "mine.yaml"), "network: {allow: [{host: a.example}]}\n")
	own := filepath.Join(r.run.ruledBy, PolicyFile)
	if err := os.Remove(own); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(r.run.Person.Home, "mine.yaml"), own); err != nil {
		t.Fatal(err)
	}
	r.is("!x.example")
	r.says("is a symbolic link")
}

// TestLiveWorkspacePolicy: what an agent in a live workspace can write opens nothing: neither an old project policy that was approved once, nor the person's
// own policy where it is a link into the project. The control is the same in a held one, where nothing inside writes these files.
func TestLiveWorkspacePolicy(t *testing.T) {
	const approved = "network: {allow: [{host: p.example}]}\n"
	for _, c := range []struct {
		workspace policy.Workspace
		back      []string
	}{{policy.Live, nil}, {policy.Held, []string{"p.example"}}} {
		r := newRuled(t, c.workspace, approved)
		r.is("p.example")
		r.approvedLongAgo()
		r.project("{}\n")
		r.is()
		r.project(approved)
		r.is(c.back...)
		r.trust()
		r.is("p.example")
	}
	// An old approval is for another state than the one at the start.
	r := newRuled(t, policy.Live, approved)
	r.approvedLongAgo()
	r.project("{}\n")
	r.own, r.force, r.unsure = nil, plan.Reachable{}, time.Now() // as followPolicies finds it
	r.is()
	r.project(approved)
	r.is()
	r.trust()
	r.is("p.example")
	for _, c := range []struct {
		workspace policy.Workspace
		opened    []string
	}{{policy.Live, nil}, {policy.Held, []string{"a.example"}}} {
		r := newRuled(t, c.workspace, "")
		mine := filepath.Join(r.run.ruledBy, "mine.yaml")
		r.put(mine, "network: {allow: [{host: a.example}], deny: [x.example]}\n")
		if err := os.Symlink(mine, filepath.Join(r.run.Person.Config, "policy.yaml")); err != nil {
			t.Fatal(err)
		}
		r.is(append(c.opened, "!x.example")...)
		if c.workspace == policy.Live {
			r.says("which the sandbox can write")
		}
	}
}

// TestOrganisationLive: what it lets nobody change is closed again, also what a flag or casemate allow opened.
func TestOrganisationLive(t *testing.T) {
	r := newRuled(t, policy.Held, "", "flag.example")
	r.user("network: {allow: [{host: a.example}]}\n")
	r.is("a.example", "flag.example")
	if !opensMore(r.sources()) {
		t.Error("without an organisation nothing can be opened")
	}
	doc, err := policy.Parse(organisationFile, []byte("network: {allow: [{host: a.example}], deny: [y.example]}\nlocked: [network.allow]\n"))
	if err != nil {
		t.Fatal(err)
	}
	sources := append(r.sources(), policy.Source{Tier: policy.Organisation, Name: organisationFile, Doc: doc})
	next, waits := r.decide(r.force, sources, nil, time.Now())
	if len(next.Allow) != 1 || next.Allow[0].Host != "a.example" || len(next.Deny) != 1 || !strings.Contains(strings.Join(waits, ";"), "network.allow is locked by organisation") {
		t.Errorf("%+v %q", next, waits)
	}
	if opensMore(sources) {
		t.Error("what casemate allow opened stays open")
	}
}

// TestPresetsLive: what a preset opened at the start stays as long as it is chosen, and its tool is not asked again.
func TestPresetsLive(t *testing.T) {
	r := newRuled(t, policy.Held, "")
	r.user("presets: [npm]\n")
	src, err := policy.PresetSource("npm", policy.User, []policy.Opens{{Host: "registry.example", From: "npmrc:1"}}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.run.tiers.Sources = append([]policy.Source{src}, r.run.tiers.Sources...)
	r.is("registry.example")
	r.user("presets: [npm, go]\nnetwork: {deny: [x.example]}\n")
	r.is("registry.example", "!x.example")
	r.says("in the next run: presets")
	r.user("network: {deny: [x.example]}\n")
	r.is("!x.example")
}

// TestFollow hears of a file however it comes and goes, and of nothing beside it.
func TestFollow(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config/casemate/policy.yaml")
	var loop relay.Loop
	heard := 0
	f, err := follow(&loop, []string{file}, func() { heard++; loop.Stop() })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { f.close() }()
	f.pace = time.Millisecond
	late := loop.At(time.Time{}, func(time.Time) time.Time { loop.Stop(); return time.Time{} })
	must := func(errs ...error) {
		t.Helper()
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	write := func(path, text string) error { return os.WriteFile(path, []byte(text), 0o600) }
	hears := func(what string, do func(), patience time.Duration, want bool) {
		t.Helper()
		before := heard
		do()
		late.Reset(time.Now().Add(patience))
		must(loop.Run())
		if (heard > before) != want {
			t.Errorf("%s: heard %v", what, !want)
		}
		must(f.renew())
	}
	real, other, away := filepath.Join(dir, "real"), filepath.Join(dir, "other"), filepath.Join(dir, "away.yaml")
	const long, short = 30 * time.Second, 50 * time.Millisecond
	hears("another name above", func() { must(write(filepath.Join(dir, "x"), "")) }, short, false)
	hears("a directory above is made", func() { must(os.Mkdir(filepath.Join(dir, "config"), 0o700)) }, long, true)
	hears("its directory is made", func() { must(os.Mkdir(filepath.Dir(file), 0o700)) }, long, true)
	hears("it is written", func() { must(write(file, "a")) }, long, true)
	hears("another file is written", func() { must(write(file+".new", "b")) }, short, false)
	hears("it is replaced", func() { must(os.Rename(file+".new", file)) }, long, true)
	hears("it is written in place", func() { must(write(file, "c")) }, long, true)
	hears("it is opened and read", func() { _, err := os.ReadFile(file); must(err) }, short, false)
	hears("it is removed", func() { must(os.Remove(file)) }, long, true)
	must(write(away, "d"))
	hears("a link is made", func() { must(os.Symlink("../../away.yaml", file)) }, long, true)
	hears("what it leads to is written", func() { must(write(away, "e")) }, long, true)
	hears("what it leads to is replaced", func() { must(write(away+"2", "f"), os.Rename(away+"2", away)) }, long, true)
	must(os.MkdirAll(filepath.Join(real, "casemate"), 0o700), os.MkdirAll(filepath.Join(other, "casemate"), 0o700))
	hears("a directory on the way is moved", func() { must(os.Rename(filepath.Join(dir, "config"), filepath.Join(dir, "gone"))) }, long, true)
	hears("a link to a directory comes", func() { must(os.Symlink(real, filepath.Join(dir, "config"))) }, long, true)
	hears("it is written there", func() { must(write(filepath.Join(real, "casemate/policy.yaml"), "g")) }, long, true)
	hears("the link leads elsewhere", func() {
		must(os.Symlink(other, filepath.Join(dir, "l")), os.Rename(filepath.Join(dir, "l"), filepath.Join(dir, "config")))
	}, long, true)
	hears("it is written where it was", func() { must(write(filepath.Join(real, "casemate/policy.yaml"), "h")) }, short, false)
	hears("it is written where it is", func() { must(write(filepath.Join(other, "casemate/policy.yaml"), "i")) }, long, true)
	hears("its directory is removed", func() { must(os.RemoveAll(other)) }, long, true)
	must(os.Remove(filepath.Join(dir, "config")))
	hears("links in a circle", func() { must(os.Symlink("config", filepath.Join(dir, "config"))) }, long, true)
}

// TestLoginsLive: a login that the policy files name no more is not signed from then on, nor one that they name otherwise; one that comes back is.
func TestLoginsLive(t *testing.T) {
	r := newRuled(t, policy.Held, "", "x.example")
	const logins = "ssh: [{hosts: [a.example]}, {hosts: [b.example], keys: [k]}]\n"
	r.user(logins)
	var err error
	if r.run.tiers, err = r.run.Person.Load(r.run.ruledBy, policy.Flags{}); err != nil {
		t.Fatal(err)
	}
	if r.run.Policy, err = policy.Merge(r.run.tiers.Sources); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		text string
		want [2]bool // whether each is signed
	}{
		{logins, [2]bool{true, true}},
		{"ssh: [{hosts: [b.example], keys: [k]}]\n", [2]bool{false, true}},
		{logins, [2]bool{true, true}},
		{"ssh: [{hosts: [a.example], ports: [2222]}, {hosts: [b.example], keys: [k, more]}]\n", [2]bool{false, false}},
		{"ssh: [{hosts: [a.example]}]\nlevel: nonsense\n", [2]bool{false, false}}, // what cannot be read gives nothing back
		{logins, [2]bool{true, true}},
	} {
		r.user(c.text)
		troubles := r.read()
		r.run.withdrawLogins(r.sources(), len(troubles) == 0)
		if got := [2]bool{r.run.stillNamed(0) == nil, r.run.stillNamed(1) == nil}; got != c.want {
			t.Errorf("%q: %v, %q", c.text, got, troubles)
		}
	}
}
