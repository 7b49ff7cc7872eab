package enginetest

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestRender(t *testing.T) {
	got := Render([]Result{
		{ID: "F01.open", Group: "files", Title: "read a file", Guarantee: denyRead, Verdict: Held, Detail: "ENOENT"},
		{ID: "F04.read", Group: "files", Title: "read a hidden file", Guarantee: hide, Verdict: Open, Detail: "read \x1b]0;evil\a" + strings.Repeat("x", 200)},
		{ID: "N01.tcp", Group: "network", Title: "connect", Guarantee: netDeny, Verdict: NotRun, Detail: "no host"},
		{ID: "F01.cat", Group: "files", Title: "cat it", Guarantee: denyRead, Verdict: Held},
	}, 80)
	want := `files
  files.deny-read        2 held
  files.hide             1 open
    OPEN         F04.read             read a hidden file: read ?]0;evil?xxxxx...
network
  net.default-deny       1 not run
    NOT RUN      N01.tcp              connect: no host
4 attacks: 2 held, 1 open, 1 not run
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// FuzzResults: what comes out of a sandbox is hostile. Whatever it prints, the table is text of the given width that steers no terminal.
func FuzzResults(f *testing.F) {
	f.Add("{\"id\":\"F01\",\"group\":\"files\",\"title\":\"t\\u001b\",\"guarantee\":\"g\",\"verdict\":\"open\",\"detail\":\"\\u0007\",\"ms\":1}\nother\n")
	f.Add("{\"id\":1}\n{\"id\":\"x\",\"verdict\":\"\xff\"}")
	f.Fuzz(func(t *testing.T, text string) {
		results, _, err := ReadResults(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(Render(results, 80)) {
			line = strings.TrimSuffix(line, "\n")
			if utf8.RuneCountInString(line) > 80 {
				t.Errorf("%d wide: %q", utf8.RuneCountInString(line), line)
			}
			for _, r := range line {
				if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
					t.Errorf("control character in %q", line)
				}
			}
		}
	})
}

// TestVerify: what the host saw decides, whatever an attack says of itself.
func TestVerify(t *testing.T) {
	cases, err := Find([]string{"F04.read", "F09.rename-git", "F16.executed", "N07.loopback"})
	if err != nil {
		t.Fatal(err)
	}
	f := newFixturesFor(t, cases)
	claims := func() []Result {
		var results []Result
		for _, c := range cases {
			results = append(results, Result{ID: c.ID, Group: c.Group, Guarantee: c.Guarantee, Verdict: Asks})
		}
		return results
	}
	verdicts := func(output string) string {
		var all []string
		for _, r := range f.Verify(claims(), output) {
			all = append(all, r.ID+"="+string(r.Verdict))
		}
		return strings.Join(all, " ")
	}
	const quiet = "F04.read=held F09.rename-git=held F16.executed=held N07.loopback=held"
	if got := verdicts("nothing"); got != quiet {
		t.Errorf("when nothing happened: %s", got)
	}
	if got := verdicts("x " + f.token("canary") + " y"); got != quiet+" files.token=open" {
		t.Errorf("a token in the output: %s", got)
	}
	f.Env.id = "N07.loopback"
	if o := dialUnix(&f.Env, f.Env.Socket, 1); o.Verdict != Open {
		t.Fatalf("the listener did not answer: %+v", o)
	}
	if got := verdicts(""); !strings.Contains(got, "N07.loopback=open") {
		t.Errorf("a listener was spoken to: %s", got)
	}
	if err := put(f.Work+"/cases/F09.rename-git/.git/hooks/post-checkout", "evil", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := put(f.Work+"/stray", "from nobody", 0o644); err != nil {
		t.Fatal(err)
	}
	if got := verdicts(""); !strings.Contains(got, "F09.rename-git=open F16.executed=held") || !strings.Contains(got, "files.unchanged=open") {
		t.Errorf("files of the host changed: %s", got)
	}
}
