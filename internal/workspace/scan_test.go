package workspace

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func (f *maskFixture) scan() *Survey {
	f.Helper()
	s, err := Scan(f.project, mustCompile(f, f.patterns...), f.o.ScanOptions)
	must(f, err)
	return s
}

func described(s *Survey) (findings []string) {
	for _, x := range s.Findings {
		if x.Kind != "elsewhere" { // of the machine, not of the project
			findings = append(findings, fmt.Sprintf("%s %s %s", x.Kind, x.Path, x.Answer))
		}
	}
	return findings
}

func TestScanFindings(t *testing.T) {
	for _, c := range []struct {
		name     string
		files    []string
		make     string // shell script in the project
		findings []string
		hidden   string
		aliases  string
	}{
		{name: "nothing", files: []string{"a/b", "c"}},
		{name: "hidden", files: []string{".env", "a/.env", "s/x"}, hidden: ".env a/.env s"},
		{name: "hard link of a hidden file", files: []string{"a/.env"}, make: "ln a/.env b; ln a/.env a/c; ln b .env",
			findings: []string{"hardlink a/c handled", "hardlink b handled"}, hidden: ".env a/.env a/c b"},
		{name: "hard link into a hidden directory", files: []string{"s/deep/x"}, make: "ln s/deep/x b", findings: []string{"hardlink b handled"}, hidden: "b s"},
		{name: "hard links of what is not hidden", files: []string{"a"}, make: "ln a b"},
		{name: "fifo", make: "mkfifo f"},
		{name: "links out of the project are no finding", make: "ln -s /etc/passwd p; ln -s .. up"},
		{name: "protected link in the project", files: []string{"tools/vscode/tasks.json"}, make: "ln -s tools/vscode .vscode",
			findings: []string{"symlink .vscode handled"}, aliases: "tools/vscode"},
		{name: "protected link out of the project", make: "ln -s /nowhere .envrc", findings: []string{"symlink .envrc reported"}},
		{name: "protected link by way of another", files: []string{"x/y"}, make: "ln -s x z; ln -s z .husky", findings: []string{"symlink .husky handled"}, aliases: "x z"},
		{name: "a chain of links, through the links of others", files: []string{"real/deep/x"}, make: "ln -s real mid; ln -s mid/deep a; ln -s a .vscode",
			findings: []string{"symlink .vscode handled"}, aliases: "a mid real/deep"},
		{name: "a chain that leaves the project", make: "ln -s /nowhere out; ln -s out .envrc", findings: []string{"symlink .envrc reported"}, aliases: "out"},
		{name: "a link in the place of a directory", files: []string{"w/workflows/ci.yml"}, make: "ln -s w v; ln -s v .github",
			aliases: "v w/actions w/agents w/copilot w/extensions w/hooks w/lsp.json w/mcp.json w/plugin w/settings.yml w/skills w/workflows"},
		{name: "a link to the project itself", files: []string{"sub/x"}, make: "ln -s .. sub/.vscode", findings: []string{"symlink sub/.vscode handled"}, aliases: "."},
		{name: "links in a circle", make: "ln -s b a; ln -s a b; ln -s a .vscode", findings: []string{"symlink .vscode reported"}, aliases: "a b"},
		{name: "bare repository", make: "git init -q --bare v", findings: []string{"repository v reported"}},
		{name: "repository", make: "git init -q .; git init -q nested"},
		{name: "refs are not hidden", files: []string{"f"}, make: "git init -q .; " + commit + "git branch s/x; git branch .env.x || true"},
		{name: "hooks path in git's config", files: []string{"scripts/hooks/pre-commit", "clean.js", "inc"},
			make:    "echo > inc; git init -q .; git config core.hooksPath scripts/hooks; git config filter.x.clean 'node ./clean.js -x'; git config include.path ../inc; git config remote.origin.url inc",
			aliases: "clean.js inc scripts/hooks"},
		{name: "programs named among addresses and texts", files: []string{"up", "receive", "move", "data.d/x", "in", "out", "ext", "push", "base", "sub", "direct"},
			make: `git init -q .; git config remote.origin.uploadpack './up --fast'; git config remote.origin.receivepack "node './receive'"; git config submodule.m/n.update '!sh ../../update $1'
				git config lfs.customTransfer.t.path ./move; git config lfs.customtransfer.t.args '-v data.d'; git config lfs.extension.e.clean './in %f'; git config lfs.extension.e.smudge './out %f'
				git config remote.origin.url 'ext::./ext %S'; git config remote.origin.pushurl 'ext::sh ./push'; git config 'url.ext::./base .insteadOf' ./from
				git config submodule.m.url 'ext::./sub'; git config branch.main.remote ext::./direct`,
			aliases: "base data.d direct ext in move out push receive sub up update"},
		{name: "addresses and texts are no programs", files: []string{"up", "from.d/x"},
			make: `git init -q .; git config remote.origin.url ./up; git config remote.origin.pushurl https://h.example/./up; git config url../up.insteadOf ./from.d; git config url.x.pushInsteadOf ext::./up
				git config submodule.m.update checkout; git config submodule.m.url ./up; git config lfs.url ./up; git config branch.main.description './up'; git config user.name ./up`},
		{name: "files that included files include, each relative to the one that names it", files: []string{"d/one", "d/e/two", "hooks dir/pre-commit", "fs/monitor"},
			make: `git init -q .; git config include.path ../d/one; printf '[include]\npath = e/two\npath = missing\n' > d/one
				printf '[core]\nhooksPath = hooks dir\nfsmonitor = ./fs/monitor\nattributesFile = attrs\n[includeIf "gitdir:/"]\npath = ../one\n' > d/e/two`,
			aliases: "attrs d/e/two d/missing d/one fs/monitor hooks dir"},
		{name: "an included file that is a link", files: []string{"real/conf", "h/x"}, make: `: >real/conf; git init -q .; ln -s real/conf c; git config include.path ../c; git config -f real/conf core.hooksPath h`,
			aliases: "c h real/conf"},
		{name: "hooks in the project's root", make: "git init -q .; git config core.hooksPath .", aliases: hookNames},
		{name: "what a repository includes from elsewhere is not opened", make: `git init -q .; git config include.path ../../other; git config -f ../other core.hooksPath h`},
		{name: "git directory that is a link", make: "git init -q .; mv .git data; ln -s data .git", findings: []string{"repository data reported"}, aliases: "data"},
		{name: "alternates", make: "git init -q .; echo /elsewhere/objects > .git/objects/info/alternates", findings: []string{"alternates .git reported"}},
		{name: "commondir", make: "git init -q .; echo /elsewhere/.git > .git/commondir", findings: []string{"gitdir .git reported"}},
		{name: "gitdir that points elsewhere and is not believed (E06)", make: "git init -q ../other; echo 'gitdir: ../other/.git' > .git",
			findings: []string{"gitdir .git reported"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newMaskFixture(t, []string{".env", "s/"}, c.files...)
			run(t, f.project, "sh", "-euc", c.make+"\n")
			s := f.scan()
			wantPaths(t, "findings", described(s), c.findings...)
			var hidden, aliases []string
			for _, h := range s.Hidden {
				hidden = append(hidden, h.Path)
			}
			for a := range s.Aliases {
				aliases = append(aliases, a)
			}
			slices.Sort(aliases)
			wantPaths(t, "hidden", hidden, strings.Fields(c.hidden)...)
			if got := strings.Join(aliases, " "); got != strings.Join(slices.Sorted(strings.FieldsSeq(c.aliases)), " ") && got != c.aliases {
				t.Errorf("aliases: %q, want %q", got, c.aliases)
			}
		})
	}
}

// TestScanIncludeDepth: git includes files in files ten deep (config.c, MAX_INCLUDE_DEPTH), and so does the scan; a circle ends.
func TestScanIncludeDepth(t *testing.T) {
	f := newMaskFixture(t, nil)
	run(t, f.project, "git", "init", "-q", ".")
	run(t, f.project, "git", "config", "include.path", "../c01")
	for i := 1; i <= 11; i++ {
		f.put(fmt.Sprintf("c%02d", i), fmt.Sprintf("[include]\n\tpath = c%02d\n\tpath = c01\n[core]\n\thooksPath = hooks%02d\n", i+1, i))
	}
	s := f.scan()
	if _, ok := s.Aliases["hooks10"]; !ok {
		t.Errorf("hooks10 is not protected: %q", s.Aliases)
	}
	if _, ok := s.Aliases["hooks11"]; ok {
		t.Error("hooks11 is protected, which git refuses to read")
	}
}

// TestScanUserConfig: the person's own configuration applies to each repository of the project, and may include files from anywhere.
func TestScanUserConfig(t *testing.T) {
	f := newMaskFixture(t, nil, "nested/x")
	run(t, f.project, "git", "init", "-q", "nested")
	user, more := filepath.Join(f.dir, "gitconfig"), filepath.Join(f.dir, "more")
	must(t, os.WriteFile(user, []byte("[include]\n\tpath = more\n"), 0o600))
	must(t, os.WriteFile(more, []byte("[core]\n\thooksPath = my hooks\n"), 0o600))
	f.o.GitConfig = []string{user}
	s := f.scan()
	for _, want := range []string{"my hooks", "nested/my hooks"} {
		if _, ok := s.Aliases[want]; !ok {
			t.Errorf("%q is not protected: %q", want, s.Aliases)
		}
	}
}

// TestScanHidesBehindLinks: what has a hidden name through a link is hidden under its own, and inside it can be read under neither.
func TestScanHidesBehindLinks(t *testing.T) {
	for _, c := range []struct{ name, patterns, make, hidden string }{
		{"a link in the place of the parent", ".aws/credentials", "mkdir raws; echo secret >raws/credentials; echo public >raws/config; ln -s raws .aws", "raws/credentials"},
		{"a chain of them", ".aws/credentials", "mkdir raws; echo secret >raws/credentials; ln -s raws mid; ln -s mid .aws", "raws/credentials"},
		{"one in the middle", "a/b/c/key", "mkdir -p a x/c; echo secret >x/c/key; ln -s ../x a/b", "x/c/key"},
		{"two in the way", "a/b/key", "mkdir r s; echo secret >s/key; ln -s r a; ln -s ../s r/b", "s/key"},
		{"a pattern for directories", "secrets/", "mkdir store; echo secret >store/key; ln -s store secrets", "store"},
		{"everything in a directory", "/private/**", "mkdir -p p/q; echo secret >p/q/key; ln -s p private", "p/q"},
		{"a hidden link", ".env", "mkdir c; echo secret >c/local; ln -s c/local .env", ".env c/local"},
		{"a hard link of what a hidden link leads to", ".env", "echo secret >local; ln local other; ln -s local .env", ".env local other"},
		{"what a pattern excepts", ".env* !.env.example", "echo public >.env.example; ln -s .env.example .env", ".env"},
		{"a link to what holds it", "secrets/ .env", "mkdir sub; ln -s .. sub/secrets; ln -s . .env", ".env"},
		{"a circle", ".aws/credentials .env", "ln -s .aws a; ln -s a .aws; ln -s .env .env", ".env"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newMaskFixture(t, strings.Fields(c.patterns))
			run(t, f.project, "sh", "-euc", c.make)
			secret := strings.Contains(c.make, "secret >")
			if control := f.enter("").sh("grep -rs . ."); secret && !strings.Contains(control, "secret") {
				t.Errorf("control: without a mask the attack reads %q", control)
			}
			for _, again := range []string{"first", "second"} {
				f.prepare()
				wantPaths(t, again+" scan", f.hidden(), strings.Fields(c.hidden)...)
			}
			if got := f.enter(f.m.Dir).sh("grep -Rs . .; grep -rs . ."); strings.Contains(got, "secret") {
				t.Errorf("inside: %q", got)
			}
		})
	}
}

// TestScanBehindLinksChanges: the link comes and goes between two starts, in another directory than what it leads to.
func TestScanBehindLinksChanges(t *testing.T) {
	f := newMaskFixture(t, []string{".aws/credentials"}, "raws/credentials", "other/x")
	f.prepare()
	wantPaths(t, "without a link", f.hidden())
	must(t, os.Symlink("raws", f.project+"/.aws"))
	f.prepare()
	wantPaths(t, "with a link", f.hidden(), "raws/credentials")
	must(t, os.Remove(f.project+"/.aws"))
	f.prepare()
	wantPaths(t, "without it again", f.hidden())
}

const commit = "git add -A; git -c user.name=a -c user.email=a@b commit -qm x; "

func TestScanSocket(t *testing.T) {
	f := newMaskFixture(t, nil)
	l, err := net.Listen("unix", filepath.Join(f.project, "agent.sock"))
	must(t, err)
	defer l.Close()
	f.prepare()
	wantPaths(t, "findings", described(f.m.Survey), "socket agent.sock handled")
	if got := f.enter(f.m.Dir).sh("ls -A"); got != "" {
		t.Errorf("inside: %q", got)
	}
}

func TestScanUnreadable(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root reads everything (CAP_DAC_OVERRIDE); TestMaskCopiesWhatBelongsToOthers covers root")
	}
	f := newMaskFixture(t, []string{".env"}, "closed/.env", "noexec/.env")
	must(t, os.Chmod(f.project+"/closed", 0o300))
	must(t, os.Chmod(f.project+"/noexec", 0o600))
	f.prepare()
	wantPaths(t, "findings", described(f.m.Survey), "unreadable closed handled", "unreadable noexec handled")
	s := f.enter(f.m.Dir)
	if got := s.sh("chmod -R 700 . ; cat closed/.env noexec/.env"); strings.Contains(got, "secret ") {
		t.Errorf("inside: %q", got)
	}
	must(t, os.Chmod(f.project+"/closed", 0o700))
	f.prepare()
	wantPaths(t, "hidden once readable", f.hidden(), "closed/.env", "noexec")
}

// TestScanMounts runs in a mount namespace of its own.
func TestScanMounts(t *testing.T) {
	if os.Getenv("CASEMATE_SCAN_MOUNTS") == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestScanMounts$")
		cmd.Env = append(os.Environ(), "CASEMATE_SCAN_MOUNTS=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		out, err := cmd.CombinedOutput()
		if err != nil && strings.Contains(err.Error(), "not permitted") {
			t.Skip("no user namespaces here: kernel.unprivileged_userns_clone, user.max_user_namespaces or AppArmor forbids them")
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	f := newMaskFixture(t, []string{".env"}, "m/x", "a b/c/x", "file", "../alias/x", "../part/x", "fold/d/x", "fold/D/x")
	must(t, unix.Mount("tmpfs", f.project+"/m", "tmpfs", 0, ""))
	must(t, unix.Mount(f.project+"/a b", f.project+"/a b/c", "", unix.MS_BIND, "")) // the same file system
	must(t, unix.Mount(f.project+"/file", f.project+"/file", "", unix.MS_BIND, ""))
	must(t, unix.Mount(f.project+"/fold/d", f.project+"/fold/D", "", unix.MS_BIND, "")) // one directory under both spellings, as if case did not count
	must(t, unix.Mount(f.project, f.dir+"/alias", "", unix.MS_BIND, ""))
	must(t, unix.Mount(f.project+"/a b", f.dir+"/part", "", unix.MS_BIND, ""))
	defer func() {
		for _, m := range []string{"part", "alias", "project/file", "project/a b/c", "project/m", "project/fold/D"} {
			must(t, unix.Unmount(filepath.Join(f.dir, m), unix.MNT_DETACH))
		}
	}()
	s := f.scan()
	got := slices.Compact(described(s))
	wantPaths(t, "findings", got, "mount a b/c refused", "mount file refused", "casefold fold refused", "mount fold/D refused", "mount m refused")
	for _, alias := range []string{"alias", "part"} {
		if !slices.Contains(s.Elsewhere, filepath.Join(f.dir, alias)) {
			t.Errorf("%q is not among the other paths %q", alias, s.Elsewhere)
		}
	}
	if err := s.Refused(); err == nil || !strings.Contains(err.Error(), "unmount it") {
		t.Errorf("error: %v", err)
	}
	_, err := PrepareMask(f.project, nil, f.o)
	if err == nil {
		t.Error("a mask was made for a project with mounts")
	}
	f.o.State = f.dir + "/alias/state"
	if _, err := Scan(f.project, nil, f.o.ScanOptions); err == nil || !strings.Contains(err.Error(), "state directory") {
		t.Errorf("state directory reached by another mount: %v", err)
	}
}

func TestScanRefusesPlaces(t *testing.T) {
	dir := t.TempDir()
	home := filepath.Join(dir, "home")
	must(t, os.MkdirAll(filepath.Join(home, "state/x"), 0o755))
	must(t, os.MkdirAll(filepath.Join(home, "p"), 0o755))
	must(t, os.Symlink(home, filepath.Join(dir, "link")))
	for _, c := range []struct{ name, root, want string }{
		{"the whole machine", "/", "whole machine"},
		{"home", home, "home directory"},
		{"home by a link", filepath.Join(dir, "link"), "home directory"},
		{"what holds home", dir, "home directory"},
		{"the state directory", filepath.Join(home, "state"), "state directory"},
		{"in the state directory", filepath.Join(home, "state/x"), "state directory"},
		{"a project", filepath.Join(home, "p"), ""},
		{"nothing", filepath.Join(home, "nothing"), "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Scan(c.root, nil, ScanOptions{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), Home: home, State: filepath.Join(home, "state")})
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
	_, err := Scan(home+"/p", nil, ScanOptions{State: home + "/p/state/not/there/yet"})
	if err == nil {
		t.Error("a state directory that is yet to be made in the project was taken")
	}
}

func TestHiddenBy(t *testing.T) {
	hidden := HiddenBy(mustCompile(t, ".env", "s/", "!keep.env"), []string{"a/link"})
	for rel, want := range map[string]bool{
		".env": true, "a/.env": true, ".env/x": true, "a/s": false, "a/s/": true, "a/s/x": true, "a/link": true, "a/link/x": true, "link": false, "": false,
		".git/refs/heads/s/x": false, ".git/refs/heads/.env": false, ".git/.env": true, "m/.git/modules/x/logs/s/x": false, "x.git/refs/s/y": true,
	} {
		name, dir := strings.CutSuffix(rel, "/")
		if got := hidden(name, dir); got != want {
			t.Errorf("%q: %v, want %v", rel, got, want)
		}
	}
}

func TestGitDirs(t *testing.T) {
	f := newMaskFixture(t, nil, "x")
	other := filepath.Join(f.dir, "other")
	must(t, os.Mkdir(other, 0o755))
	run(t, f.project, "sh", "-euc", "git init -q .; "+commit+"git worktree add -q ../tree; git worktree add -q inner/tree2")
	run(t, other, "sh", "-euc", "git init -q .; echo > f; "+commit+"git -c protocol.file.allow=always submodule -q add ../project sub")
	for _, c := range []struct {
		root, path string
		inside     bool
	}{
		{"project", ".git", true}, {"project", "inner/tree2/.git", true}, {"tree", ".git", false}, {"other", "sub/.git", true}, {"other/sub", ".git", false},
	} {
		f.project = filepath.Join(f.dir, c.root)
		s := f.scan()
		i := slices.IndexFunc(s.GitDirs, func(g GitDir) bool { return g.Path == c.path })
		if i < 0 || s.GitDirs[i].Inside != c.inside || !s.GitDirs[i].Verified {
			t.Errorf("%s: %+v, want inside %v and verified", c.root, s.GitDirs, c.inside)
		}
		if !c.inside {
			wantPaths(t, "findings", described(s), "gitdir .git reported")
		}
	}
	// Another project's .git file that names the same git directory gets nothing.
	must(t, os.Mkdir(f.dir+"/thief", 0o755))
	for _, victim := range []string{"project/.git", "project/.git/worktrees/tree", "other/.git/modules/sub"} {
		must(t, os.WriteFile(f.dir+"/thief/.git", []byte("gitdir: "+filepath.Join(f.dir, victim)+"\n"), 0o644))
		f.project = filepath.Join(f.dir, "thief")
		if s := f.scan(); len(s.GitDirs) != 1 || s.GitDirs[0].Verified {
			t.Errorf("%s: %+v", victim, s.GitDirs)
		}
	}
}

func TestTrackedAsGit(t *testing.T) {
	for _, c := range []struct{ name, setup, after string }{
		{"version 2", "git init -q .", ""},
		{"version 3", "git init -q .", "git update-index --skip-worktree a/.env"},
		{"version 4", "git init -q .; git config index.version 4", "git update-index --index-version 4"},
		{"split index", "git init -q .; git config core.splitIndex true", "git update-index --split-index; echo > zz; git add zz"},
		{"SHA-256", "git init -q --object-format=sha256 .", ""},
		{"fsmonitor and untracked cache", "git init -q .; git config core.untrackedCache true", "git update-index --untracked-cache; git status"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newMaskFixture(t, []string{".env", "s/", "*.pem", "long*"}, ".env", "a/.env", "a-b/.env", "a/s/deep/x", "a/s-x", "b/s/y", "c/x.pem", "d/e.pem", "z",
				strings.Repeat("long/", 3)+strings.Repeat("n", 200), "long2/"+strings.Repeat("m/", 1000)+"x")
			run(t, f.project, "sh", "-euc", c.setup)
			run(t, f.project, "sh", "-euc", "git add a a-b d long2 z\n"+c.after)
			s := f.scan()
			var got []string
			for _, h := range s.Hidden {
				if h.Tracked {
					got = append(got, h.Path)
				}
			}
			wantPaths(t, "tracked", got, "a-b/.env", "a/.env", "a/s", "d/e.pem", "long2")
			wantPaths(t, "findings", described(s), "tracked a-b/.env reported", "tracked a/.env reported", "tracked a/s reported", "tracked d/e.pem reported", "tracked long2 reported")
		})
	}
}

func TestTrackedIsRemembered(t *testing.T) {
	f := newMaskFixture(t, []string{".env"}, "a/.env", "b/.env")
	run(t, f.project, "sh", "-euc", "git init -q .; git add a")
	tracked := func() (paths []string) {
		for _, h := range f.prepare().Survey.Hidden {
			if h.Tracked {
				paths = append(paths, h.Path)
			}
		}
		return paths
	}
	wantPaths(t, "tracked", tracked(), "a/.env")
	wantPaths(t, "tracked, again", tracked(), "a/.env")
	run(t, f.project, "git", "add", "b")
	wantPaths(t, "tracked, after an add", tracked(), "a/.env", "b/.env")
	must(t, os.WriteFile(f.project+"/.git/index", []byte("DIRC nonsense"), 0o644))
	wantPaths(t, "tracked, index spoilt", tracked())
	wantPaths(t, "findings", f.finding("tracked"), ".git reported")
	wantPaths(t, "findings, again", func() []string { f.prepare(); return f.finding("tracked") }(), ".git reported")
}

// TestMatchIndexAgainstSets compares the merge with the obvious way.
func TestMatchIndexAgainstSets(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	name := func() string {
		parts := make([]string, 1+r.IntN(3))
		for i := range parts {
			parts[i] = []string{"a", "a-", "a.b", "a0", "b", "ab", "-", "~"}[r.IntN(8)]
		}
		return strings.Join(parts, "/")
	}
	for range 2000 {
		var files, wanted, want []string
		for range r.IntN(12) {
			files = append(files, name())
			wanted = append(wanted, name())
		}
		slices.Sort(files)
		slices.Sort(wanted)
		wanted = slices.Compact(wanted)
		for _, w := range wanted {
			if slices.ContainsFunc(files, func(f string) bool { return f == w || strings.HasPrefix(f, w+"/") }) {
				want = append(want, w)
			}
		}
		got, _, err := matchIndex(fakeIndex(files), wanted)
		must(t, err)
		if !slices.Equal(got, want) {
			t.Fatalf("index %q, wanted %q: got %q, want %q", files, wanted, got, want)
		}
	}
}

func fakeIndex(files []string) []byte {
	b := append([]byte("DIRC\x00\x00\x00\x02\x00\x00"), byte(len(files)>>8), byte(len(files)))
	for _, f := range files {
		entry := append(make([]byte, indexStat+20), byte(len(f)>>8), byte(len(f)))
		entry = append(entry, f...)
		b = append(b, append(entry, make([]byte, indexAlignment-len(entry)%indexAlignment)...)...)
	}
	return append(b, make([]byte, 20)...)
}

func FuzzMatchIndex(f *testing.F) {
	f.Add(fakeIndex([]string{"a", "a/b", ".env"}), "a\n.env")
	f.Add([]byte("DIRC\x00\x00\x00\x04\x00\x00\x00\x01"+strings.Repeat("\x00", 62)+"\x00a\x00"+strings.Repeat("\x00", 20)), "a")
	f.Add(append(fakeIndex(nil)[:12], "link\x00\x00\x00\x14abcdefghijklmnopqrst01234567890123456789"...), "")
	f.Fuzz(func(t *testing.T, index []byte, wanted string) {
		list := slices.Compact(slices.Sorted(strings.SplitSeq(wanted, "\n")))
		found, base, err := matchIndex(index, list)
		for _, p := range found {
			if !slices.Contains(list, p) {
				t.Errorf("found %q, which was not asked for", p)
			}
		}
		if err == nil && base != "" && len(base) != 40 && len(base) != 64 {
			t.Errorf("shared index %q", base)
		}
	})
}

func FuzzDecodeIndex(f *testing.F) {
	s := scanned{dirs: []dirRecord{{parent: -1, notes: []note{{kind: noteHidden, name: ".env", pattern: 3, ino: 7, linked: true}}}, {path: "a", parent: 0, flags: isRacy, stamp: stamp{1, -2, 3}},
		{path: "a/b", parent: 1, perm: 0o755, files: 9, notes: []note{{kind: noteGit, typ: 8, detail: "gitdir: x", size: 5, mtime: 1 << 60, pattern: -1}}}},
		tracked: trackedCache{"k", []string{"a", "b"}}}
	whole := encodeIndex("/p", 42, s)
	root, tree, back, err := decodeIndex(whole)
	if err != nil || root != "/p" || tree != 42 || fmt.Sprintf("%#v", back.tracked) != fmt.Sprintf("%#v", s.tracked) {
		f.Fatalf("round trip: %q %d %+v %v", root, tree, back, err)
	}
	for i := range s.dirs {
		if a, b := fmt.Sprintf("%+v", s.dirs[i]), fmt.Sprintf("%+v", back.dirs[i]); a != b {
			f.Errorf("round trip: %s, want %s", b, a)
		}
	}
	f.Add(whole[len(indexSignature) : len(whole)-4])
	f.Fuzz(func(t *testing.T, body []byte) {
		root, tree, s, err := decodeIndexBody(append([]byte(indexSignature), body...))
		if err != nil {
			return
		}
		for i, d := range s.dirs {
			if int(d.parent) >= i || i > 0 && d.parent < 0 {
				t.Fatalf("directory %d lies in %d", i, d.parent)
			}
		}
		if _, _, _, err := decodeIndex(encodeIndex(root, tree, s)); err != nil {
			t.Fatalf("what was read cannot be written and read again: %v", err)
		}
	})
}

func FuzzGitSettings(f *testing.F) {
	f.Add("[core]\n\thooksPath = x ; c\n[filter \"a\\\"]\"] clean = \"y # z\"\\\n w\n[a.b]c")
	f.Fuzz(func(t *testing.T, config string) {
		for key := range gitSettings(config) {
			if !strings.Contains(key, ".") {
				t.Errorf("key %q", key)
			}
		}
	})
}

func TestGitSettingsAsGit(t *testing.T) {
	dir := t.TempDir()
	for i, config := range []string{
		"[core]\n\thooksPath = scripts/hooks\n",
		"[core] hooksPath=x\n[Filter \"A b\"]\nclean = \"a # b\" ; c\nsmudge = x\\ty\\\\\n",
		"# c\n[a \"q\\\"]\"]\nb = one \\\n  two\n; c\n[c]\nd\ne=\n",
	} {
		file := filepath.Join(dir, fmt.Sprint(i))
		must(t, os.WriteFile(file, []byte(config), 0o644))
		var got strings.Builder
		for key, value := range gitSettings(config) {
			fmt.Fprintf(&got, "%s=%s\n", key, value)
		}
		want := run(t, dir, "git", "config", "-f", file, "--list")
		want = strings.ReplaceAll(want, "c.d\n", "c.d=\n") // git tells a flag from an empty value
		if got.String() != want {
			t.Errorf("%s: got %q, git says %q", config, got.String(), want)
		}
	}
}

func TestParseMounts(t *testing.T) {
	table := []byte("36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw\ngarbage\nx y 1:2 / / rw - a b c\n37 36 0:5 / relative rw\n")
	if got := fmt.Sprint(parseMounts(table)); got != "[{36 35 98:0 /mnt1 /mnt 2}]" {
		t.Error(got)
	}
}

func TestAliasMounts(t *testing.T) {
	mounts := []mount{
		{1, 0, "8:1", "/", "/"},
		{2, 1, "8:2", "/", "/home"},
		{3, 2, "8:2", "/u/p", "/srv/p"},       // the project itself, elsewhere
		{4, 1, "8:2", "/u", "/srv/u"},         // what holds it
		{5, 1, "8:2", "/u/p/sub", "/srv/sub"}, // a part of it
		{6, 1, "8:2", "/u/pp", "/srv/pp"},     // another with the same beginning
		{7, 2, "0:9", "/", "/home/u/p/tmp"},   // in it
		{8, 7, "0:9", "/", "/home/u/p/tmp/x"}, // in what is in it
		{9, 2, "0:9", "/", "/home/u/pp/tmp"},
		{10, 1, "8:1", "/u/p", "/srv/other"}, // the same path on another file system
	}
	in, elsewhere := aliasMounts(mounts, "/home/u/p", 2)
	wantPaths(t, "inside", in, "tmp")
	wantPaths(t, "elsewhere", elsewhere, "/srv/p", "/srv/u/p", "/srv/sub")
	in, elsewhere = aliasMounts([]mount{{1, 0, "8:1", "/", "/"}, {2, 1, "8:1", "/p", "/p/q"}}, "/p", 1)
	wantPaths(t, "inside", in, "q")
	wantPaths(t, "elsewhere", elsewhere, "/p/q")
}

func FuzzParseMounts(f *testing.F) {
	f.Add([]byte("36 35 98:0 /mnt1 /mnt\\0402 rw - a b c\n"), "/mnt 2/x")
	f.Fuzz(func(t *testing.T, table []byte, project string) {
		if !filepath.IsAbs(project) || filepath.Clean(project) != project {
			return
		}
		for _, m := range parseMounts(table) {
			if under(project[1:], strings.TrimPrefix(m.point, "/")) { // as the kernel guarantees for the project's own mount
				aliasMounts(parseMounts(table), project, m.id)
			}
		}
	})
}

func FuzzParseDirent(f *testing.F) {
	f.Add([]byte("12345678abcdefgh\x18\x00\x08.env\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, length, err := parseDirent(b)
		if err == nil && (length > len(b) || e.name() == "" || strings.Contains(e.name(), "\x00")) {
			t.Errorf("%q of %d", e.raw, length)
		}
	})
}

// TestScanOwnByLink: what casemate or git obeys of the person's own is protected where it lies in the project or is a link into it, whatever it is called there,
// and also where it does not exist yet.
func TestScanOwnByLink(t *testing.T) {
	f := newMaskFixture(t, nil, "pol", "pre/x.yaml", "hop")
	own := filepath.Join(f.dir, "own")
	must(t, os.MkdirAll(own, 0o700))
	must(t, os.Symlink("../elsewhere", f.project+"/way"))
	for name, to := range map[string]string{"policy": "pol", "presets": "pre", "trusted": "absent", "through": "way/z", "gitc": "git c"} {
		must(t, os.Symlink(filepath.Join(f.project, to), filepath.Join(own, name)))
		f.o.Own = append(f.o.Own, filepath.Join(own, name))
	}
	must(t, os.WriteFile(filepath.Join(own, "plain"), nil, 0o600))
	f.o.Own = append(f.o.Own, filepath.Join(own, "plain"), filepath.Join(own, "none"))
	f.o.GitConfig = []string{filepath.Join(own, "gitc"), filepath.Join(f.project, "git/config")} // where the project is ~/.config
	s := f.scan()
	for _, want := range []string{"pol", "pre", "absent", "way", "git c", "git/config"} {
		if _, ok := s.Aliases[want]; !ok {
			t.Errorf("%q is not protected: %q", want, s.Aliases)
		}
	}
	if len(s.Aliases) != 6 {
		t.Errorf("more is protected: %q", s.Aliases)
	}
}
