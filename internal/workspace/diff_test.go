package workspace

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/aymanbagabas/go-udiff/lcs"
)

func (f *fixture) diff(o DiffOptions) string {
	f.Helper()
	l := f.open()
	changes, err := l.Changes(f.Context(), ChangeOptions{})
	must(f, err)
	var b bytes.Buffer
	must(f, l.Diff(f.Context(), &b, changes, o))
	return b.String()
}

func TestDiff(t *testing.T) {
	f := newFixture(t, OverlayLayer, map[string]string{
		"a": "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n", "b": "no end", "run": "#!\n", "gone": "bye\n", "l -> a": "", "bin": "\x00\x01", "t": "text\n", "z": "same\n", ".gitignore": "/out\n",
	})
	f.run(`sed -i 's/^2$/two/; s/^9$/nine/' a; printf 'end\n' > b; chmod +x run; rm gone; ln -sf b l; printf '\000\002x' > bin; rm t; ln -s a t; echo new > n
		mkdir empty out; echo 1 > out/1; mkfifo ff; chmod 600 z; : > none`)
	got := f.diff(DiffOptions{})
	golden(t, "testdata/diff.golden", got)
	f.run("printf 'a\\033]0;title\\007b\\r\\n\\302\\233x\\xff\\342\\200\\256evil\\n' > a; rm -r out; mv n \"$(printf 'n\\033[2J\\nx')\"")
	golden(t, "testdata/diff-terminal.golden", f.diff(DiffOptions{Terminal: true, Color: true}))
}

// golden compares with a file, which CASEMATE_UPDATE=1 writes.
func golden(t *testing.T, name, got string) {
	t.Helper()
	if os.Getenv("CASEMATE_UPDATE") != "" {
		must(t, os.MkdirAll(filepath.Dir(name), 0o755))
		must(t, os.WriteFile(name, []byte(got), 0o644))
	}
	want, err := os.ReadFile(name)
	must(t, err)
	if got != string(want) {
		t.Errorf("%s:\n%s\nwant:\n%s", name, got, want)
	}
}

// A patch that was written to a pipe is one that git-apply takes, and it makes what Apply makes.
func TestDiffIsAPatchForGit(t *testing.T) {
	git, err := exec.LookPath("git")
	if err != nil {
		t.Fatal("git is missing: test/setup.sh installs it")
	}
	odd := []string{"with space", "tab\there", "new\nline", `quo"te`, `back\slash`, "é", "\xff\xfe", " lead", "trail ", "a -> b", "-dash", "esc\x1b[2J", "bell\a", "b\u202eidi", "@@ -1 +1 @@"}
	files := map[string]string{"text": strings.Repeat("same\n", 20) + "old\n" + strings.Repeat("same\n", 20), "noend": "x", "mode": "m\n", "both": "b\n", "gone": "g\n", "gone-empty": "", "link -> text": "", "type": "t\n", "linktype -> text": "", "dir/file": "f\n", "crlf": "a\r\nb\r\n", "--- text": "x\n"}
	for _, name := range odd {
		files[name] = "one\ntwo\n"
	}
	f := newFixture(t, OverlayLayer, files)
	f.start()
	var script strings.Builder
	script.WriteString(`sed -i 's/old/new/' text; printf y > noend; chmod +x mode both; echo B > both; rm gone gone-empty; ln -sf mode link; rm type; ln -s mode type
		rm linktype; echo l > linktype; rm -r dir; echo d > dir; printf 'a\r\nc\r\n' > crlf; : > new-empty; echo '-- x' > ./'--- text'; printf '#!/bin/sh\n' > exe; chmod 755 exe; ln -s nowhere dangling
		mkdir -p sub/deep; echo s > sub/deep/file; mkdir -p 'new dir'; echo 1 > "new dir/f 1"
	`)
	for i, name := range odd {
		q := "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
		switch i % 3 {
		case 0:
			fmt.Fprintf(&script, "echo three >> ./%s\n", q)
		case 1:
			fmt.Fprintf(&script, "chmod +x ./%s\n", q)
		default:
			fmt.Fprintf(&script, "rm -f ./%s; echo n > ./%s.new; chmod 755 ./%s.new\n", q, q, q)
		}
	}
	f.run(script.String())
	patch := filepath.Join(t.TempDir(), "patch")
	must(t, os.WriteFile(patch, []byte(f.diff(DiffOptions{})), 0o644))
	copied := filepath.Join(t.TempDir(), "copy")
	if out, err := exec.Command("cp", "-a", f.project, copied).CombinedOutput(); err != nil {
		t.Fatalf("cp: %s", out)
	}
	cmd := exec.Command(git, "apply", "--whitespace=nowarn", patch)
	cmd.Dir = copied
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_CEILING_DIRECTORIES="+filepath.Dir(copied))
	if out, err := cmd.CombinedOutput(); err != nil {
		text, _ := os.ReadFile(patch)
		t.Fatalf("git apply: %s\n%s", out, text)
	}
	l := f.open()
	changes, err := l.Changes(t.Context(), ChangeOptions{})
	must(t, err)
	var every []string
	for _, c := range changes {
		every = append(every, c.Path)
	}
	f.apply(ApplyOptions{Paths: every})
	f.wantChanges(ChangeOptions{})
	want, got := snapshot(t, f.project), snapshot(t, copied)
	if !maps.Equal(want, got) {
		t.Error(difference(want, got))
	}
}

func TestDiffOfLargeFilesIsNotRead(t *testing.T) {
	f := newFixture(t, OverlayLayer, map[string]string{"a": "1\n"})
	f.run("truncate -s 20M big; truncate -s 20M a")
	out := f.diff(DiffOptions{})
	for _, want := range []string{"Binary files a/a and b/a differ", "Binary files /dev/null and b/big differ", "# big: was 0 bytes, is 20 MiB"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

func TestListings(t *testing.T) {
	f := newFixture(t, OverlayLayer, map[string]string{"a": "1\n2\n3\n", "b": strings.Repeat("x\n", 200), "bin": "\x00", "mode": "", ".gitignore": "/out\n", "p": "1\n"})
	f.protect = []string{"p"}
	f.run(`echo 4 >> a; : > b; printf '\000\000' > bin; chmod 755 mode; mkdir -p out d/e/f empty; echo > out/1; echo > out/2; mkfifo ff; echo 2 > p
		echo x > "$(printf 'n\033[2J')"; echo x > d/e/f/a-very-long-name-that-does-not-fit-into-the-table-of-eighty-columns-however-it-is-cut; echo x > 漢字漢字; echo x > "$(printf 'c1\302\233')"`)
	l := f.open()
	changes, err := l.Changes(t.Context(), ChangeOptions{})
	must(t, err)
	must(t, l.Count(t.Context(), changes))
	var stat, names, out bytes.Buffer
	must(t, WriteStat(&stat, changes))
	must(t, WriteNames(&names, changes))
	must(t, WriteJSON(&out, changes))
	golden(t, "testdata/stat.golden", stat.String())
	golden(t, "testdata/names.golden", names.String())
	for line := range strings.Lines(stat.String()) {
		if n := columns(strings.TrimSuffix(line, "\n")); n > statWidth {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	for _, b := range []string{stat.String(), names.String(), out.String()} {
		if i := strings.IndexFunc(b, func(r rune) bool { return r != '\n' && unsafeRune(r) }); i >= 0 {
			t.Errorf("byte %#x reaches the terminal:\n%s", b[i], b)
		}
	}
	var back struct {
		Changes []Change
		Summary Summary
	}
	must(t, json.Unmarshal(out.Bytes(), &back))
	if len(back.Changes) != len(changes) || back.Summary != Summarize(changes) {
		t.Errorf("JSON says %+v", back)
	}
	for i, c := range back.Changes {
		if c.Path != changes[i].Path && string(c.Raw) != changes[i].Path {
			t.Errorf("JSON says %q for %q", c.Path, changes[i].Path)
		}
	}
	if got, want := Summarize(changes).String(), "10 files changed (+6 -201) · 1 would run on your machine · 2 built files stay inside · 1 refused"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestSummary(t *testing.T) {
	tests := []struct {
		name string
		s    Summary
		want string
	}{
		{"nothing", Summary{}, "no changes"},
		{"git's own files only", Summary{Git: 3}, "git's own data in 3 files"},
		{"one", Summary{Files: 1, Insertions: 1}, "1 file changed (+1 -0)"},
		{"the design's", Summary{Files: 14, Insertions: 310, Deletions: 42, Protected: 2, Built: 38112, Conflicts: 1},
			"14 files changed (+310 -42) · 2 would run on your machine · 38,112 built files stay inside · 1 conflict"},
		{"large", Summary{Files: 1234567, Insertions: 1000, Conflicts: 2, Built: 1, Refused: 3},
			"1,234,567 files changed (+1,000 -0) · 1 built file stays inside · 2 conflicts · 3 refused"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.s.String(); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "with space": "with space", "é": "é", "a\nb": `"a\nb"`, `a"b`: `"a\"b"`, `a\b`: `"a\\b"`, "\x1b[": `"\033["`, "\xff": `"\377"`,
		"\u202e": `"\342\200\256"`, "\u009b": `"\302\233"`, "\x7f": `"\177"`, "\a\b\t\v\f\r": `"\a\b\t\v\f\r"`,
	} {
		if got := Quote(in); got != want {
			t.Errorf("Quote(%q) is %s, want %s", in, got, want)
		}
	}
}

func FuzzVisible(f *testing.F) {
	for _, s := range []string{"plain", "\x1b[2J", "\u202e\xff\u009b", "\U000e0041", "a\tb\r"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, shown := range []string{Visible(s), Quote(s), escapeJSON(strings.ToValidUTF8(s, ""))} {
			if strings.ContainsFunc(shown, func(r rune) bool { return r != '\t' && r != '\n' && unsafeRune(r) }) || !utf8.ValidString(shown) {
				t.Errorf("%q is shown as %q", s, shown)
			}
		}
	})
}

// FuzzDiffLines checks that the differences make one text of the other, touch nothing that is equal at both ends, and lie in order.
func FuzzDiffLines(f *testing.F) {
	f.Add("a\nb\nc\n", "a\nx\nc\n")
	f.Add("", "a")
	f.Add("a\na\nb\na\n", "b\na\na\n")
	f.Add(strings.Repeat("a\nb\nc\nd\n", 60), strings.Repeat("d\nc\na\n", 70))
	f.Fuzz(func(t *testing.T, x, y string) {
		a, b := splitLines(x), splitLines(y)
		diffs := diffLines(a, b)
		if got := patched(a, b, diffs); got != y {
			t.Errorf("%q to %q by %v makes %q", x, y, diffs, got)
		}
		if x == y && len(diffs) > 0 {
			t.Errorf("%q differs from itself: %v", x, diffs)
		}
	})
}

func patched(a, b []string, diffs []lcs.Diff) string {
	var out strings.Builder
	at := 0
	for _, d := range diffs {
		if d.Start < at || d.End < d.Start || d.End > len(a) {
			return fmt.Sprintf("impossible: %v", diffs)
		}
		out.WriteString(strings.Join(a[at:d.Start], ""))
		out.WriteString(strings.Join(b[d.ReplStart:d.ReplEnd], ""))
		at = d.End
	}
	out.WriteString(strings.Join(a[at:], ""))
	return out.String()
}

// Edits all over a large file are shown one by one, not as another file.
func TestDiffOfManyEditsStaysSmall(t *testing.T) {
	var a, b []string
	for i := range 20000 {
		line := fmt.Sprintf("line %d\n", i)
		a = append(a, line, "}\n")
		if i%20 == 0 {
			line = fmt.Sprintf("changed %d\n", i)
		}
		b = append(b, line, "}\n")
	}
	ins, del := countLines(strings.Join(a, ""), strings.Join(b, ""))
	if ins != 1000 || del != 1000 {
		t.Errorf("+%d -%d for 1000 changed lines", ins, del)
	}
}
