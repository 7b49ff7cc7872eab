package workspace

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"casemate.dev/internal/merge"
	"golang.org/x/sys/unix"
)

// kinds runs a test with both kinds of layer.
func kinds(t *testing.T, test func(t *testing.T, kind LayerKind)) {
	for _, kind := range []LayerKind{OverlayLayer, CopyLayer} {
		t.Run(string(kind), func(t *testing.T) { test(t, kind) })
	}
}

func TestChangesOfBothKinds(t *testing.T) {
	project := map[string]string{
		"a": "one\n", "b": "two\n", "run*": "#!/bin/sh\n", "d/x": "x\n", "d/y": "y\n", "d/sub/z": "z\n", "l -> a": "", "empty/": "",
		".gitignore": "*.log\n/out/\n", "out/old": "o\n",
	}
	tests := []struct {
		name   string
		script string
		want   []string
	}{
		{"nothing", "true", nil},
		{"only looked at or touched or rewritten with the same bytes", "cat a >/dev/null; touch a d; printf 'two\\n' > b; chmod 644 b", nil},
		{"modified", "echo more >> a", []string{"modified changed a"}},
		{"added", "echo new > n; mkdir -p new/deep; echo f > new/deep/f", []string{
			"added changed n", "added changed new", "added changed new/deep", "added changed new/deep/f"}},
		{"empty directory added", "mkdir e2", []string{"added changed e2"}},
		{"mode", "chmod 755 a; chmod 700 d", []string{"mode changed a", "mode changed d"}},
		{"same size", "printf 'ONE\\n' > a", []string{"modified changed a"}},
		{"deleted", "rm b", []string{"deleted changed b"}},
		{"deleted directory", "rm -r d", []string{"deleted changed d", "deleted changed d/sub", "deleted changed d/sub/z", "deleted changed d/x", "deleted changed d/y"}},
		{"directory made again", "rm -r d; mkdir d; echo x > d/x; echo n > d/n", []string{
			"added changed d/n", "deleted changed d/sub", "deleted changed d/sub/z", "deleted changed d/y"}},
		{"directory made again with a part of it", "rm -r d; mkdir -p d/sub; echo n > d/sub/n", []string{
			"added changed d/sub/n", "deleted changed d/sub/z", "deleted changed d/x", "deleted changed d/y"}},
		{"renamed", "mv a c", []string{"deleted changed a", "added changed c"}},
		{"directory to file", "rm -r d; echo f > d", []string{
			"type changed d", "deleted changed d/sub", "deleted changed d/sub/z", "deleted changed d/x", "deleted changed d/y"}},
		{"file to directory", "rm a; mkdir a; echo i > a/i", []string{"type changed a", "added changed a/i"}},
		{"file to link", "rm b; ln -s a b", []string{"type changed b"}},
		{"link to another", "ln -sf b l", []string{"modified changed l"}},
		{"link to file", "rm l; echo l > l", []string{"type changed l"}},
		{"created and deleted", "echo t > t; rm t; mkdir u; rmdir u", nil},
		{"deleted and made again as it was", "rm b; printf 'two\\n' > b", nil},
		{"built", "mkdir -p out/deep; echo 1 > out/deep/1; echo 2 > out/deep/2; rm out/old; echo > x.log", []string{"modified built out", "added built x.log"}},
		{"a gitignore from inside hides nothing", "echo '*' > .gitignore; echo n > n", []string{"modified changed .gitignore", "added changed n"}},
		{"empty file", ": > e", []string{"added changed e"}},
	}
	kinds(t, func(t *testing.T, kind LayerKind) {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				f := newFixture(t, kind, project)
				f.run(test.script)
				f.wantChanges(ChangeOptions{}, test.want...)
			})
		}
	})
}

func TestChangesOfAPart(t *testing.T) {
	f := newFixture(t, OverlayLayer, map[string]string{"a/b/c": "1", "a/bb": "2"})
	f.run("echo x > a/b/c; echo x > a/bb; echo x > z")
	f.wantChanges(ChangeOptions{Paths: []string{"a/b"}}, "modified changed a/b/c")
	f.wantChanges(ChangeOptions{Paths: []string{"./a/b/c", "z/"}}, "modified changed a/b/c", "added changed z")
	f.wantChanges(ChangeOptions{Paths: []string{"nothing"}})
	for _, path := range []string{"..", "../a", "a/../../b", "/a"} {
		if _, err := f.open().Changes(t.Context(), ChangeOptions{Paths: []string{path}}); err == nil || !strings.Contains(err.Error(), "not in the project") {
			t.Errorf("%s: %v", path, err)
		}
		if _, err := f.open().Apply(t.Context(), ApplyOptions{Overwrite: []string{path}}); err == nil || !strings.Contains(err.Error(), "not in the project") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestBuiltFiles(t *testing.T) {
	f := newFixture(t, OverlayLayer, map[string]string{
		".gitignore": "node_modules/\n/target\n*.tmp\n!keep.tmp\n", "sub/.gitignore": "/local\n!special.tmp\n", ".git/info/exclude": "excluded\n",
		".idea/": "", "sub/": "",
	})
	must(t, os.WriteFile(filepath.Join(f.project, ".git/info/exclude"), []byte("excluded\n.idea\n"), 0o644))
	f.protect = []string{".idea"}
	f.run(`mkdir -p node_modules/x sub/node_modules target sub/target sub/local
		for i in 1 2 3; do printf 12345 > node_modules/x/$i; done; echo > sub/node_modules/y; echo > target/t; echo > sub/target/t
		echo > sub/local/l; echo > local; echo > a.tmp; echo > keep.tmp; echo > sub/special.tmp; echo > excluded; echo > .idea/w; ln -s a node_modules/x/l`)
	f.wantChanges(ChangeOptions{},
		"added protected .idea/w", "added built a.tmp", "added built excluded", "added changed keep.tmp", "added changed local",
		"added built node_modules", "added built sub/local", "added built sub/node_modules", "added changed sub/special.tmp",
		"added changed sub/target", "added changed sub/target/t", "added built target")
	for _, c := range f.changes(ChangeOptions{Paths: []string{"node_modules"}}) {
		if c.Count != 4 || c.Bytes != 15 {
			t.Errorf("%d files and %d bytes in %s", c.Count, c.Bytes, c.Path)
		}
	}
	f.wantChanges(ChangeOptions{Paths: []string{"sub/node_modules"}, Built: true}, "added built sub/node_modules", "added built sub/node_modules/y")
}

func TestTrackedIsNotBuilt(t *testing.T) {
	f := newFixture(t, OverlayLayer, map[string]string{".gitignore": "vendor/\n*.gen\n", "vendor/v": "v", "a.gen": "g", "b.gen": "g"})
	f.options = func(o *LayerOptions) {
		o.Tracked = func(rel string, dir bool) bool { return under("vendor/v", rel) || rel == "a.gen" }
	}
	f.run("echo x > vendor/v; echo x > a.gen; echo x > b.gen; echo x > vendor/new; mkdir vendor/out; echo x > vendor/out/o")
	f.wantChanges(ChangeOptions{}, "modified changed a.gen", "modified built b.gen", "added built vendor/new", "added built vendor/out", "modified changed vendor/v")
}

// gitBase makes a repository of the project, with everything in it tracked, and lets the layer have its index as of now.
func (f *fixture) gitBase() {
	f.Helper()
	base := merge.Base{Index: filepath.Join(f.dir, "index"), Objects: filepath.Join(f.project, ".git/objects")}
	cmd := exec.Command("sh", "-ec", `git init -q . && git add -f . && cp .git/index "$0"`, base.Index)
	cmd.Dir = f.project
	if out, err := cmd.CombinedOutput(); err != nil {
		f.Fatalf("git: %v\n%s", err, out)
	}
	f.options = func(o *LayerOptions) { o.Base = base }
}

// Without a word from anybody, what is tracked is what git tracked when the layer was born.
func TestTrackedByTheIndex(t *testing.T) {
	f := newFixture(t, OverlayLayer, map[string]string{".gitignore": "dist/\n", "dist/run*": "#!/bin/sh\n", "a": "a\n"})
	const script = "echo x >> dist/run; echo x > dist/made"
	f.run(script)
	f.wantChanges(ChangeOptions{}, "modified built dist") // the control: no index
	f.gitBase()
	f.wantChanges(ChangeOptions{}, "added built dist/made", "modified changed dist/run")
}

// The host deletes what the sandbox changes. What the sandbox makes anew after it could see that it was gone is no conflict.
func TestHostDeletedWhatTheSandboxChanged(t *testing.T) {
	f := newFixture(t, OverlayLayer, map[string]string{"a": "1\n", "saved": "1\n", "d/e/deep": "1\n", "moved": "1\n", "quiet/again": "1\n", "l -> a": ""})
	f.gitBase()
	host := func(name string) string { return filepath.Join(f.project, name) }
	must(t, os.Remove(host("quiet/again")))
	laterThan(t, f.inside())
	f.born = time.Now()
	f.run("echo in >> a; echo in > t; mv t saved; echo in >> d/e/deep; mv moved elsewhere; echo new > new; echo new > quiet/again; ln -sfn saved l")
	laterThan(t, f.inside())
	for _, name := range []string{"a", "saved", "d", "l"} {
		must(t, os.RemoveAll(host(name)))
	}
	want := []string{"added conflict a", "added changed d", "added changed d/e", "added conflict d/e/deep", "added changed elsewhere", "added conflict l", "deleted changed moved", "added changed new", "added changed quiet/again", "added conflict saved"}
	f.wantChanges(ChangeOptions{}, want...)
	index := f.options
	f.options = nil
	f.wantChanges(ChangeOptions{Paths: []string{"a"}}, "added changed a") // the control: without the index nobody knows
	f.options = index
	g := f.fork()
	g.wantChanges(ChangeOptions{}, want...)
	laterThan(t, f.inside())
	f.run("rm a; echo again > a") // it was gone when this run began
	f.wantChanges(ChangeOptions{Paths: []string{"a"}}, "added changed a")
	out := outcomeLines(f.apply(ApplyOptions{Overwrite: []string{"saved"}, Ours: []string{"l"}}))
	for _, want := range []string{"applied added saved", "dropped added l", "held added d/e/deep (conflict: the host deleted it)", "applied added a\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	f.wantChanges(ChangeOptions{Paths: []string{"l", "saved", "d"}}, "added changed d", "added changed d/e", "added conflict d/e/deep")
	if _, err := os.Lstat(host("d")); err == nil {
		t.Error("an empty directory was made for what is held")
	}
}

// A project in a larger repository is ignored by what lies above it.
func TestIgnoreRulesAboveTheProject(t *testing.T) {
	f := newFixture(t, OverlayLayer, map[string]string{"a": ""})
	above := filepath.Dir(f.project)
	must(t, os.Mkdir(filepath.Join(above, ".git"), 0o755))
	must(t, os.WriteFile(filepath.Join(above, ".gitignore"), []byte("dist/\n/project/gen\n/gen\n*.o \n# c\n\\#x\n"), 0o644))
	f.run("mkdir dist gen; echo > dist/d; echo > gen/g; echo > x.o; mkdir sub; mkdir sub/gen; echo > sub/gen/g; echo > '#x'")
	f.wantChanges(ChangeOptions{}, `added built #x`, "added built dist", "added built gen", "added changed sub", "added changed sub/gen", "added changed sub/gen/g", "added built x.o")
}

func TestHiddenFilesAreNeverDeletions(t *testing.T) {
	kinds(t, func(t *testing.T, kind LayerKind) {
		f := newFixture(t, kind, map[string]string{".env": "SECRET", "d/.env": "SECRET", "d/x": "x", "secrets/k": "K", "e/secrets/k": "K"})
		f.hide = []string{".env", "secrets"}
		f.run("rm -r d e; echo mine > .env; mkdir secrets; echo mine > secrets/k; echo y > y")
		f.wantChanges(ChangeOptions{}, "modified refused .env", "deleted changed d/x", "modified refused secrets", "added changed y")
		f.apply(ApplyOptions{Paths: []string{"", ".env", "secrets/k", "d", "e"}, Overwrite: []string{""}})
		for path, want := range map[string]string{".env": "SECRET", "d/.env": "SECRET", "secrets/k": "K", "e/secrets/k": "K"} {
			if got, err := os.ReadFile(filepath.Join(f.project, path)); string(got) != want {
				t.Errorf("%s is now %q (%v)", path, got, err)
			}
		}
	})
}

// A directory with something hidden in it cannot become a file.
func TestHiddenFilesKeepTheirDirectory(t *testing.T) {
	f := newFixture(t, OverlayLayer, map[string]string{"d/.env": "SECRET", "d/x": "x"})
	f.hide = []string{".env"}
	f.run("rm -r d; echo file > d")
	f.wantChanges(ChangeOptions{}, "type refused d", "deleted changed d/x")
	f.apply(ApplyOptions{})
	if got, err := os.ReadFile(filepath.Join(f.project, "d/.env")); string(got) != "SECRET" {
		t.Errorf("the hidden file is now %q (%v)", got, err)
	}
}

func TestConflicts(t *testing.T) {
	files := map[string]string{"both": "1\n", "mine": "1\n", "yours": "1\n", "gone": "1\n", "saved": "1\n", "dir/a": "1\n", "dir/b": "1\n", "mode": "1\n"}
	kinds(t, func(t *testing.T, kind LayerKind) {
		f := newFixture(t, kind, files)
		f.run("cat saved; echo in >> both; echo in >> mine; rm gone; rm -r dir; echo in > new; echo in >> saved; chmod 755 mode; echo keep > dir2")
		host := func(name, content string) {
			must(t, os.WriteFile(filepath.Join(f.project, name), []byte(content), 0o644))
		}
		laterThan(t, f.inside())
		host("both", "host\n")
		host("yours", "host\n")
		host("gone", "host\n")
		host("dir/b", "host\n")
		host("dir/new", "host\n")
		host("new", "host\n")
		must(t, os.Chmod(filepath.Join(f.project, "mode"), 0o600))
		f.wantChanges(ChangeOptions{},
			"modified conflict both", "deleted conflict dir", "deleted changed dir/a", "deleted conflict dir/b", "deleted conflict dir/new",
			"added changed dir2", "deleted conflict gone", "modified changed mine", "mode conflict mode", "modified conflict new", "modified changed saved")
		out := outcomeLines(f.apply(ApplyOptions{Overwrite: []string{"both"}}))
		for _, want := range []string{"applied modified both", "held deleted gone (conflict", "held deleted dir/b (conflict", "applied deleted dir/a", "applied modified mine"} {
			if !strings.Contains(out, want) {
				t.Errorf("no %q in\n%s", want, out)
			}
		}
		for name, want := range map[string]string{"both": "1\nin\n", "yours": "host\n", "gone": "host\n", "dir/b": "host\n", "dir/new": "host\n", "new": "host\n", "saved": "1\nin\n"} {
			if got, err := os.ReadFile(filepath.Join(f.project, name)); string(got) != want {
				t.Errorf("%s is %q, want %q (%v)", name, got, want, err)
			}
		}
	})
}

// A save by rename on the host is not seen by a sandbox that has looked at the file before, so what it writes then is based on the old bytes.
func TestSaveByRenameWhileItRunsIsAConflict(t *testing.T) {
	f := newFixture(t, OverlayLayer, map[string]string{"a": "1\n", "b": "1\n", "c": "1\n"})
	f.start()
	laterThan(t, f.inside())
	host := func(name string) string { return filepath.Join(f.project, name) }
	must(t, os.WriteFile(host("a.new"), []byte("host\n"), 0o644))
	must(t, os.Rename(host("a.new"), host("a")))
	must(t, os.WriteFile(host("b"), []byte("host\n"), 0o644)) // in place: it sees this one
	must(t, os.Rename(host("c"), host("c2")))
	must(t, os.Rename(host("c2"), host("c")))
	laterThan(t, f.inside())
	mounted := f.mounted
	f.run("for i in a b c; do echo in >> $i; done")
	f.mounted = mounted // as if it had been one run
	f.wantChanges(ChangeOptions{}, "modified conflict a", "modified changed b", "modified conflict c")
}

// A run takes little longer than a tick of the clock: what a script writes on the host right after it can have the very time of what was written inside.
func TestSameTickIsAConflict(t *testing.T) {
	start := time.Now()
	l := &Layer{LayerOptions: LayerOptions{Born: start, Mounted: []time.Time{start}}}
	made := start.Add(20 * time.Millisecond).UnixNano()
	host := node{State: State{Type: File}, btime: start.Add(-time.Hour).UnixNano()}
	for after, want := range map[int64]bool{-1: false, 0: true, 1: true} {
		host.mtime, host.ctime = made+after, made+after
		if got := l.unseen(host, made); (got != "") != want {
			t.Errorf("written on the host %d ns after the sandbox's: conflict %q, want one: %v", after, got, want)
		}
	}
}

// Runs follow each other within two ticks: what the host wrote between two is not seen because the second began soon after the first one's write.
func TestRunsWithinTicks(t *testing.T) {
	start := time.Now()
	made, tick := start.Add(20*time.Millisecond), time.Duration(clockTick())
	l := &Layer{LayerOptions: LayerOptions{Born: start, Mounted: []time.Time{start, made.Add(tick + 1)}}}
	host := node{State: State{Type: File}, btime: start.Add(-time.Hour).UnixNano()}
	host.mtime = made.Add(tick).UnixNano()
	host.ctime = host.mtime
	if l.unseen(host, made.UnixNano()) == "" {
		t.Error("what the host wrote between two runs is no conflict with what the first one wrote before")
	}
	if l.unseen(host, made.Add(tick+1).UnixNano()) != "" {
		t.Error("what the host wrote between two runs is a conflict with what the second one wrote")
	}
}

// What the sandbox wrote before a change of the host's is in conflict with it, also when a later run makes it anew, until it is settled.
func TestConflictsOutliveTheEntry(t *testing.T) {
	const base = "1\n2\n3\n"
	f := newFixture(t, OverlayLayer, map[string]string{"sed": base, "gone": base, "anew": base, "more": base, "plain": base, "d/x": base, "d/y": base, "e/x": base, "made/keep": base, "settled": base, ".gitignore": "dist\n", "dist/x": base})
	script := "for i in *; do test -f $i && echo in >> $i; done; echo in >> d/x; rm -r e; mkdir e; echo in > made/new; echo in >> dist/x"
	note := func() { f.Helper(); f.changes(ChangeOptions{Note: true}) }
	f.run(script)
	note()
	laterThan(t, f.inside())
	f.apply(ApplyOptions{Paths: []string{"settled"}})
	for _, name := range []string{"sed", "gone", "anew", "more", "d/x", "d/y", "e/x", "made/new", "settled", "dist/x"} {
		h, err := os.OpenFile(filepath.Join(f.project, name), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
		must(t, err)
		_, err = h.WriteString("host\n")
		must(t, err)
		must(t, h.Close())
	}
	laterThan(t, f.inside())
	f.run("sed -i s/1/b/ sed plain settled; rm gone anew; echo in > anew; echo in >> more; rm -r d e; mkdir d e; echo in > d/x; echo in > e/x; rm made/new; echo again > made/new; sed -i s/1/b/ dist/x")
	want := []string{"modified conflict anew", "modified conflict d/x", "deleted changed d/y", "modified conflict dist/x", "modified conflict e/x", "deleted conflict gone",
		"modified conflict made/new", "modified conflict more", "modified changed plain", "modified conflict sed", "modified changed settled"}
	f.wantChanges(ChangeOptions{Built: true}, want...)
	note()
	f.run("sed -i s/b/c/ sed; rm d/x; echo more > d/x; echo in > gone")
	want[5] = "modified conflict gone"
	f.wantChanges(ChangeOptions{Built: true}, want...)
	note()
	f.apply(ApplyOptions{Overwrite: []string{"sed", "d/x", "d/y", "gone"}, Paths: []string{"sed", "d", "gone"}})
	laterThan(t, f.inside())
	f.run("sed -i s/c/e/ sed; rm -r d; mkdir d; echo x > d/x; rm gone")
	f.wantChanges(ChangeOptions{Paths: []string{"sed", "d", "gone"}}, "modified changed d/x", "deleted changed gone", "modified changed sed")
}

// A later run has seen what the host did before it.
func TestASecondRunSeesTheHostsChanges(t *testing.T) {
	f := newFixture(t, OverlayLayer, map[string]string{"a": "1\n"})
	f.run("true")
	laterThan(t, f.inside())
	must(t, os.WriteFile(filepath.Join(f.project, "a.new"), []byte("host\n"), 0o644))
	must(t, os.Rename(filepath.Join(f.project, "a.new"), filepath.Join(f.project, "a")))
	f.run("echo in >> a")
	f.wantChanges(ChangeOptions{}, "modified changed a")
}

func TestHostDeletedWhatTheCopyChanged(t *testing.T) {
	f := newFixture(t, CopyLayer, map[string]string{"a": "1\n", "b": "1\n", "c": "1\n"})
	f.run("echo in >> a; rm b")
	for _, name := range []string{"a", "b", "c"} {
		must(t, os.Remove(filepath.Join(f.project, name)))
	}
	f.wantChanges(ChangeOptions{}, "added conflict a")
}

// laterThan waits until the clock of the file system has moved on by more than a tick, so that what follows is later than what was.
func laterThan(t testing.TB, dir string) {
	t.Helper()
	probe := func() int64 {
		name := filepath.Join(filepath.Dir(dir), "probe")
		must(t, os.WriteFile(name, nil, 0o600))
		defer os.Remove(name)
		n, err := statAt(unix.AT_FDCWD, name)
		must(t, err)
		return n.ctime
	}
	for start := probe(); probe() <= start+clockTick(); {
	}
}

func TestProtectedChanges(t *testing.T) {
	f := newFixture(t, OverlayLayer, map[string]string{".envrc": "1\n", "m": "1\n"})
	f.protect = []string{".envrc", ".vscode"}
	f.run("echo 2 > .envrc; mkdir .vscode; echo '{}' > .vscode/tasks.json; echo x > m; chmod +x m")
	changes := f.changes(ChangeOptions{})
	if got := lines(changes); got != "modified protected .envrc\nadded protected .vscode/tasks.json\nmodified changed m\n" {
		t.Fatal(got)
	}
	consent := map[string]string{}
	for _, c := range changes {
		if (c.Digest == "") == (c.Class == ClassProtected) {
			t.Errorf("digest of %s is %q", c.Path, c.Digest)
		}
		consent[c.Path] = c.Digest
	}
	f.run("echo 3 > .envrc")
	out := outcomeLines(f.apply(ApplyOptions{Consent: consent}))
	want := "held modified .envrc (it is not what was shown: look at it again)\napplied added .vscode/tasks.json\napplied modified m\n"
	if out != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
	if out := outcomeLines(f.apply(ApplyOptions{})); out != "held modified .envrc (it would run on your machine: the host runs it)\n" {
		t.Error(out)
	}
	if got, _ := os.ReadFile(filepath.Join(f.project, ".envrc")); string(got) != "1\n" {
		t.Errorf(".envrc is %q", got)
	}
}

// Without consent not even the directory of something protected appears on the host, and with nothing left in it, it goes.
func TestProtectedDirectories(t *testing.T) {
	kinds(t, func(t *testing.T, kind LayerKind) {
		f := newFixture(t, kind, map[string]string{".idea/a": "1\n"})
		f.protect = []string{".vscode", ".idea"}
		f.run("mkdir -p .vscode/sub; echo '{}' > .vscode/sub/tasks.json; chmod 555 .vscode/sub .vscode; rm -r .idea")
		f.wantChanges(ChangeOptions{}, "deleted changed .idea", "deleted protected .idea/a", "added protected .vscode/sub/tasks.json")
		f.apply(ApplyOptions{})
		if got := snapshot(t, f.project); len(got) != 2 {
			t.Errorf("the project holds %v", got)
		}
		consent := map[string]string{}
		for _, c := range f.changes(ChangeOptions{}) {
			consent[c.Path] = c.Digest
		}
		out := f.apply(ApplyOptions{Consent: consent})
		if got := snapshot(t, f.project); len(got) != 3 || got[".vscode"] != "dir 0555" || got[".vscode/sub"] != "dir 0555" {
			t.Errorf("the project holds %v\n%s", got, outcomeLines(out))
		}
		f.wantChanges(ChangeOptions{})
		restoreModes(t, f.project)
	})
}

// What a protected link points to becomes what the link's name says.
func TestProtectionFollowsALink(t *testing.T) {
	f := newFixture(t, OverlayLayer, map[string]string{"notes/a": "1"})
	f.protect = []string{".vscode"}
	f.run("ln -s notes .vscode; echo '{}' > notes/tasks.json; echo > notes2")
	f.wantChanges(ChangeOptions{}, "added protected .vscode", "added protected notes/tasks.json", "added changed notes2")
	for _, c := range f.changes(ChangeOptions{}) {
		if c.Class == ClassProtected && c.Digest == "" {
			t.Errorf("%s has no digest", c.Path)
		}
	}
}

// Links that lead to links, and links in the place of a directory that holds something protected: none gives a protected name to what is not.
func TestProtectionFollowsChains(t *testing.T) {
	for _, c := range []struct{ name, script, want string }{
		{"a chain", "ln -s a .vscode; ln -s b a; mkdir b; echo '{}' >b/tasks.json", ".vscode a b/tasks.json"},
		{"a link in the middle of a target", "ln -s m/x .vscode; ln -s real m; mkdir -p real/x; echo '{}' >real/x/tasks.json", ".vscode m real/x/tasks.json"},
		{"through a link of the host", "ln -s hostlink/sub .vscode; mkdir -p dir/sub; echo '{}' >dir/sub/tasks.json", ".vscode dir/sub/tasks.json"},
		{"in the place of a directory", "ln -s w .github; mkdir -p w/workflows; echo x >w/workflows/ci.yml", ".github w/workflows/ci.yml"},
		{"of one above it", "ln -s w q; ln -s q .github; mkdir -p w/workflows; echo x >w/workflows/ci.yml", ".github q w/workflows/ci.yml"},
		{"above what git's settings name", "rm -r tools; ln -s t tools; mkdir -p t/hooks; echo x >t/hooks/pre-commit", "t/hooks/pre-commit tools tools/hooks/pre-commit"},
		{"a directory in its place", "mv tools old; mkdir -p tools/hooks; echo x >tools/hooks/pre-commit", "tools/hooks/pre-commit"},
		{"a link on the way is replaced", "rm mid; mkdir mid; echo x >mid/post-merge", "mid mid/post-merge"},
		{"control: a link that leads nowhere special", "ln -s a docs2; mkdir a; echo x >a/b", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, OverlayLayer, map[string]string{"dir/file": "1", "hostlink -> dir": "", "tools/hooks/pre-commit": "1", "m2/post-merge": "1", "mid -> m2": ""})
			f.options = func(o *LayerOptions) {
				aliases := map[string]string{"tools/hooks": "git's configuration names it", "mid": "it leads to hooks", "m2": "hooks"}
				o.Protected = func(rel string) (string, bool) {
					if why, ok := Aliased(aliases, rel); ok {
						return why, ok
					}
					return ProtectedPath(rel, nil)
				}
				o.Leads = func(rel string) (string, bool) { return LeadsToProtected(rel, nil, aliases) }
			}
			f.run(c.script)
			var got []string
			for _, change := range f.changes(ChangeOptions{}) {
				if change.Class == ClassProtected {
					got = append(got, change.Path)
				}
			}
			wantPaths(t, "protected", got, strings.Fields(c.want)...)
			f.apply(ApplyOptions{})
			for _, path := range strings.Fields(c.want) {
				if b, _ := os.ReadFile(filepath.Join(f.project, path)); len(b) > 1 {
					t.Errorf("%s reached the project: %q", path, b)
				}
			}
		})
	}
}

func TestGitDirectories(t *testing.T) {
	f := newFixture(t, OverlayLayer, map[string]string{
		".git/config": "c", ".git/HEAD": "ref", ".git/objects/": "", ".git/refs/": "", ".git/hooks/pre-commit*": "old", "bare/HEAD": "ref", "bare/objects/": "", "bare/refs/": "", "bare/config": "c",
	})
	f.options = func(o *LayerOptions) {
		o.Protected = func(rel string) (string, bool) { return ProtectedPath(rel, nil) }
	}
	f.run(`echo x >> .git/config; echo i > .git/index; mkdir .git/objects/aa; echo o > .git/objects/aa/b; echo evil > .git/hooks/post-checkout
		mkdir -p new/.git/hooks; echo x > new/.git/config; echo x > new/.git/hooks/pre-commit; echo f > new/file
		mkdir -p mine.git.d/objects mine.git.d/refs; echo ref > mine.git.d/HEAD; echo c > mine.git.d/config
		echo evil >> bare/config; mkdir sub; echo 'gitdir: ../.git' > sub/.git; echo > .GIT; mkdir .giT; echo > git~1`)
	f.wantChanges(ChangeOptions{},
		"added refused .GIT", "added refused .giT", "modified refused .git", "modified protected .git/config", "added protected .git/hooks/post-checkout",
		"modified protected bare/config", "added refused git~1", "added changed mine.git.d",
		"added protected mine.git.d/HEAD", "added protected mine.git.d/config", "added protected mine.git.d/objects", "added protected mine.git.d/refs",
		"added changed new", "added refused new/.git", "added changed new/file", "added changed sub", "added refused sub/.git")
	for _, o := range f.apply(ApplyOptions{}) {
		if o.Status == Applied && o.Class != ClassChanged {
			t.Errorf("%s was applied", o.Path)
		}
	}
}

func TestOpenLayerRefusesWhatIsNone(t *testing.T) {
	f := newFixture(t, OverlayLayer, nil)
	must(t, os.RemoveAll(filepath.Join(f.dir, "upper")))
	must(t, os.Symlink("/etc", filepath.Join(f.dir, "upper")))
	if _, err := OpenLayer(LayerOptions{Dir: f.dir, Project: f.project, Kind: OverlayLayer}); err == nil {
		t.Error("opened a layer through a link")
	}
	if _, err := OpenLayer(LayerOptions{Dir: f.dir, Project: f.project, Kind: CopyLayer}); err == nil {
		t.Error("opened a copy that is none")
	}
	if _, err := OpenLayer(LayerOptions{Dir: f.dir, Project: f.project}); err == nil {
		t.Error("opened a layer of no kind")
	}
}

func TestChangesStopWithTheirContext(t *testing.T) {
	f := newFixture(t, OverlayLayer, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.open().Changes(ctx, ChangeOptions{}); err == nil {
		t.Error("it went on")
	}
}
