package policy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestExplain is the whole of what `policy show` says for a policy of all tiers, except for the built-in list.
func TestExplain(t *testing.T) {
	flags, err := Flags{Memory: "4GiB", Hide: []string{"*.log"}, Pass: []string{"EDITOR"}, Set: []string{"A=b=c"}, Read: []string{"/data"}}.Source()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Merge(append(sources(t,
		"organisation", "network:\n  deny: ['*.telemetry.example']\nlimits: {memory: 8GiB}\nrequire: [limits.memory]",
		"user", "home: none\ngit: {identity: none}",
		"project", "level: restricted\nfiles:\n  hide: [secrets/]\n  read: [/etc/shadow]\nlimits: {time: 1h}"), flags))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range p.Explain() {
		if e.Origin.File != "hide list" {
			fmt.Fprintf(&b, "%s = %s  # %s\n", e.Key, e.Value, e.From)
		}
	}
	checkGolden(t, "explain.txt", b.String())
	out, err := json.Marshal(struct {
		All []Effective
		P   *Policy
	}{p.Explain(), p})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`{"key":"limits.memory","value":"4GiB","from":"command line --memory","origin":{"tier":"command line","file":"--memory"}}`,
		`{"key":"limits.pids","value":"4096","from":"default"}`,
		`"time":{"value":3600000000000,"origin":{"tier":"project","file":"project.yaml","line":5,"col":16},"at_most":true}`,
		`"ignored":[{"key":"files.read","text":"/etc/shadow","origin":{"tier":"project","file":"project.yaml","line":4,"col":10},"why":"the project's policy is not trusted"}]`,
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %s in %s", want, out)
		}
	}
}

func TestOrigin(t *testing.T) {
	for _, c := range []struct {
		origin Origin
		want   string
	}{
		{Origin{}, "default"},
		{Origin{Tier: BuiltIn, File: "hide list"}, "built-in hide list"},
		{Origin{Tier: LevelTier, File: "restricted"}, "level restricted"},
		{Origin{Tier: Project, File: "casemate.yaml", Line: 12, Col: 3}, "project casemate.yaml:12"},
		{Origin{Tier: CommandLine, File: "--memory"}, "command line --memory"},
	} {
		if got := c.origin.String(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestFlags(t *testing.T) {
	src, err := Flags{
		Level: "full", Workspace: "readonly", Home: "none", Read: []string{"/a"}, Readonly: []string{"r"}, Write: []string{"w/"}, Hide: []string{"!.env"}, Protect: []string{"p"},
		Memory: "1GiB", Pids: "64", CPUs: "1.5", Disk: "1GiB", Time: "none", Idle: "5m", Pass: []string{"A"}, Set: []string{"B=", "C=x=y"}, Engine: "native",
		AllowFallback: []string{"landlock"}, Require: []string{"net.default-deny"},
	}.Source()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Merge([]Source{src})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range p.Explain() {
		if e.Origin.Tier == CommandLine {
			got = append(got, e.Key+"="+e.Value+" "+e.Origin.File)
		}
	}
	want := []string{"level=full --level", "files.workspace=readonly --workspace", "files.read=/a --read", "files.readonly=r --readonly", "files.write=w --write", "files.hide=!.env --hide",
		"files.protect=p --protect", "home=none --home", "env.pass=A --env", `env.set=B="" --env`, "env.set=C=x=y --env", "limits.memory=1GiB --memory", "limits.pids=64 --pids", "limits.cpus=1.5 --cpus",
		"limits.disk=1GiB --disk", "limits.time=none --time", "limits.idle=5m --idle", "engine=native --engine", "allow_fallback=landlock --allow-fallback", "require=net.default-deny --require"}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	_, err = Flags{Level: "ful", Memory: "1", Set: []string{"A-B=1"}, Read: []string{"rel"}}.Source()
	if err == nil || err.Error() != `--level: "ful" is not one of minimal, restricted, full; did you mean "full"?
--read: "rel" is not a path of the host; write an absolute path or one that begins with ~/; the project itself is seen anyway
--memory: 1 is too small; nothing runs in less than 16MiB
--env: "A-B" is not the name of a variable; names are made of letters, digits and _` {
		t.Errorf("%v", err)
	}
}

func TestNotInThisVersion(t *testing.T) {
	src := source(t, "user", strings.NewReplacer("locked: [network.deny]", "", "home: project", "home: agent", "push: []", "push: [origin]", "devices: []", "devices: [gpu]", "engine: native", "engine: kube").Replace(string(example(t))))
	p, err := Merge([]Source{src})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, err := range NotInThisVersion(p) {
		b.WriteString(err.Error() + "\n")
	}
	checkGolden(t, "later.txt", b.String())

	quiet, err := Merge(sources(t, "user", "network: {allow: [], deny: [x.example]}\nhome: none\nengine: native\nfiles: {workspace: live}\nsecrets: {}"))
	if err != nil {
		t.Fatal(err)
	}
	if errs := NotInThisVersion(quiet); len(errs) > 0 {
		t.Errorf("%v", errs)
	}
	for _, l := range []Level{Minimal, Restricted, Full} {
		if errs := NotInThisVersion(&Policy{Settings: levelSettings(l)}); len(errs) > 0 {
			t.Errorf("level %s alone: %v", l, errs)
		}
	}
}

// TestLevels: each level allows no less than the one before.
func TestLevels(t *testing.T) {
	row := []Level{Minimal, Restricted, Full}
	for i, l := range row[1:] {
		narrow, wide := levelSettings(row[i]), levelSettings(l)
		narrow.Level.V, wide.Level.V = row[i], l
		if wider := widerThan(&Policy{Settings: narrow}, &Policy{Settings: wide}); len(wider) > 0 {
			t.Errorf("%s allows more than %s: %v", row[i], l, wider)
		}
	}
}

func TestExpired(t *testing.T) {
	rule := NetRule{Until: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)}
	for _, c := range []struct {
		name string
		rule NetRule
		now  time.Time
		want bool
	}{
		{"before", rule, time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC), false},
		{"at the end of the last day", rule, time.Date(2026, 12, 1, 23, 59, 59, 0, time.UTC), false},
		{"after it", rule, time.Date(2026, 12, 2, 0, 0, 0, 0, time.UTC), true},
		{"after it elsewhere", rule, time.Date(2026, 12, 1, 20, 0, 0, 0, time.FixedZone("", -5*3600)), true},
		{"without a date", NetRule{}, time.Date(2126, 1, 1, 0, 0, 0, 0, time.UTC), false},
	} {
		if got := c.rule.Expired(c.now); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
