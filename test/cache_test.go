package test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const cacheSecret = "casemate-test-cache-token"

// npmCache makes a cache of npm's in the home directory, with credentials in it and beside it, and returns what digests it. It belongs to who runs the test.
func (s *site) npmCache(t *testing.T) (digest func() string) {
	t.Helper()
	for name, text := range map[string]string{
		"_cacache/index-v5/aa": "index of the host\n", "_cacache/content-v2/bb": "content of the host\n", "_cacache/content-v2/cc": "more of the host\n",
		"_cacache/token": cacheSecret, "_cacache/.npmrc": cacheSecret, "_cacache/credentials.json": cacheSecret, "_logs/debug.log": cacheSecret, ".npmrc": cacheSecret, "../.npmrc": "//x/:_authToken=" + cacheSecret + "\n",
	} {
		writeDeep(t, filepath.Join(s.Home, ".npm", name), text)
	}
	return func() string { return digestOf(t, filepath.Join(s.Home, ".npm")) }
}

// writeDeep writes a file with the directories above it.
func writeDeep(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, path, text)
}

// digestOf is all that a tree is: names, modes, owners, times, contents and links.
func digestOf(t *testing.T, root string) string {
	t.Helper()
	sum := sha256.New()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err != nil {
			return err
		}
		fmt.Fprintf(sum, "%q %o %d %d %d %d\n", path, st.Mode, st.Uid, st.Size, st.Mtim.Nano(), st.Nlink)
		if d.Type().IsRegular() {
			text, err := os.ReadFile(path)
			fmt.Fprintf(sum, "%x %v\n", sha256.Sum256(text), err)
		} else if d.Type() == fs.ModeSymlink {
			to, err := os.Readlink(path)
			fmt.Fprintf(sum, "%q %v\n", to, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}

// in is the site with another project.
func (s *site) in(t *testing.T, name string) *site {
	t.Helper()
	other := *s
	fixtures := *s.Fixtures
	other.Fixtures = &fixtures
	other.Work = filepath.Join(s.Dir, name)
	if err := os.MkdirAll(other.Work, 0o755); err != nil {
		t.Fatal(err)
	}
	other.put("casemate.yaml", "version: 1\n", 0o644)
	return &other
}

const cacheLook = `cd ~/.npm/_cacache && cat content-v2/bb index-v5/aa new 2>&1; true`

// TestCacheIsKeptForTheProject: a sandbox begins with the host's cache, and what it does to that is there for the next sandbox of its project, and for nobody else.
func TestCacheIsKeptForTheProject(t *testing.T) {
	namespaced(t, func(t *testing.T, s *site) {
		digest := s.npmCache(t)
		before := digest()
		cached := func(s *site, line string) string {
			t.Helper()
			out := s.run("--cache", "npm", "--", "sh", "-c", line)
			if out.exit != 0 {
				t.Errorf("%q: %v", line, out)
			}
			return out.stdout
		}
		first := cached(s, cacheLook+`; echo inside >new; echo changed >content-v2/bb; rm content-v2/cc; mkdir made; mv made moved; cat new; rm -rf index-v5; mkdir index-v5; echo anew >index-v5/aa`)
		for _, want := range []string{"index of the host", "content of the host", "inside"} {
			has(t, "the first run", first, want)
		}
		second := cached(s, cacheLook+"; ls content-v2; ls -d moved")
		for _, want := range []string{"inside", "changed", "anew", "moved"} {
			has(t, "the second run", second, want)
		}
		for _, bad := range []string{"cc", "of the host"} {
			hasNot(t, "the second run", second, bad)
		}
		other := cached(s.in(t, "other"), cacheLook)
		for _, want := range []string{"index of the host", "content of the host"} {
			has(t, "another project", other, want)
		}
		hasNot(t, "another project", other, "inside")
		if without := s.sh(cacheLook); strings.Contains(without.stdout, "of the host") || strings.Contains(without.stdout, "inside") {
			t.Errorf("control, without a word: %v", without)
		}
		if thrown := s.run("--cache", "npm", "--workspace", "none", "--", "sh", "-c", cacheLook+"; echo x >new"); thrown.exit != 0 || !strings.Contains(thrown.stdout, "index of the host") || strings.Contains(thrown.stdout, "inside") {
			t.Errorf("without a project: %v", thrown)
		} else if left := glob(filepath.Join(s.State, "casemate/sandboxes", thrown.result.Sandbox)); len(left) > 0 || thrown.result.Sandbox == "" {
			t.Errorf("without a project there is left: %v", left)
		}

		if digest() != before {
			t.Error("the host's cache was changed")
		}
		// Nothing of the credentials is inside, also of those that the host makes during the run.
		k := s.talk("--cache", "npm")
		const grep = "grep -rs " + cacheSecret + " ~ | grep -v '^grep'"
		hasNot(t, "inside", k.ask(grep), cacheSecret)
		writeDeep(t, filepath.Join(s.Home, ".npm/_cacache/auth.json"), cacheSecret)
		hasNot(t, "inside, later", k.ask("cat ~/.npm/_cacache/auth.json; "+grep), cacheSecret)
		if host := shell(t, s.Dir, "grep -rs "+cacheSecret+" '"+s.Home+"/.npm'"); strings.Count(host, cacheSecret) != 6 {
			t.Errorf("control, on the host: %s", host)
		}
		before = digest()

		// A second sandbox of the project has a set of its own, and cache rm waits for both.
		has(t, "the running one", k.ask("cat ~/.npm/_cacache/new"), "inside")
		beside := cached(s, cacheLook+"; echo beside >~/.npm/_cacache/new")
		has(t, "beside it", beside, "index of the host")
		hasNot(t, "beside it", beside, "inside")
		has(t, "the running one", k.ask("cat ~/.npm/_cacache/new"), "inside")
		if out := s.do("cache", "rm", "npm"); out.exit != 125 || !strings.Contains(out.stderr, "is running with its cache of npm") {
			t.Errorf("cache rm beside a running sandbox: %v", out)
		}
		k.end()
		has(t, "alone again", cached(s, cacheLook), "inside")

		if digest() != before {
			t.Error("the host's cache was changed")
		}
	})
}

// TestCacheHostile: whatever a sandbox leaves in its cache, the host's is as it was, the next run works, and removing it removes nothing else.
func TestCacheHostile(t *testing.T) {
	namespaced(t, func(t *testing.T, s *site) {
		digest := s.npmCache(t)
		writeDeep(t, filepath.Join(s.Dir, "outside/precious"), "precious\n")
		before, outside := digest(), digestOf(t, filepath.Join(s.Dir, "outside"))
		out := s.run("--cache", "npm", "--", "sh", "-c", `cd ~/.npm/_cacache && rm -rf content-v2 && ln -s /etc content-v2 && ln -s '`+s.Dir+`/outside' out && ln -s ../../../../../../.. up
mkfifo fifo; mkdir -p closed/in/side && touch closed/in/side/file && chmod 000 closed/in/side closed/in closed; touch 'new
line' "$(printf 'esc\033[31m')"; d=deep; mkdir $d; i=0; while [ $i -lt 60 ]; do mkdir -p $d/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb && cd $d/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb; d=.; i=$((i+1)); done
chmod 000 ~/.npm/_cacache; echo left`)
		has(t, "the attack", out.stdout, "left")
		next := s.run("--cache", "npm", "--", "sh", "-c", "cd ~/.npm/_cacache && cat index-v5/aa; ls -d content-v2/ out/; cat out/precious; ls")
		has(t, "the next run", next.stdout, "index of the host")
		hasNot(t, "the next run", next.stdout, "precious\n")
		for _, c := range [][]string{{"cache", "ls"}, {"cache", "ls", "--json"}} {
			if listed := s.do(c...); listed.exit != 0 || !strings.Contains(listed.stdout, "npm") || strings.Contains(listed.stdout, "\033[31m") {
				t.Errorf("%v: %v", c, listed)
			}
		}
		if out := s.do("cache", "rm", "--yes"); out.exit != 0 {
			t.Errorf("cache rm: %v", out)
		}
		if left := glob(filepath.Join(s.State, "casemate/projects/*/cache*/*/npm")); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		if digest() != before {
			t.Error("the host's cache was changed")
		}
		if digestOf(t, filepath.Join(s.Dir, "outside")) != outside {
			t.Error("what links lead to was changed")
		}
		has(t, "the host's /etc", read(t, "/etc/passwd"), "root:")
		has(t, "after removal", s.run("--cache", "npm", "--", "sh", "-c", cacheLook).stdout, "content of the host")
	})
}

// TestCacheKilled: a casemate that is killed in the middle leaves what was written; a machine that stopped in the middle has it thrown away.
func TestCacheKilled(t *testing.T) {
	s := newSite(t, best())
	digest := s.npmCache(t)
	before := digest()
	k := s.talk("--cache", "npm")
	k.ask("cd ~/.npm/_cacache; echo whole >new; echo more >>content-v2/bb; (while :; do echo more >>content-v2/bb; mv new n; mv n new; done) >/dev/null 2>&1 &")
	if err := k.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for range k.lines {
	}
	<-k.ended
	next := s.run("--cache", "npm", "--", "sh", "-c", "cd ~/.npm/_cacache && cat new n; cat index-v5/aa content-v2/bb; echo again >new")
	has(t, "after the kill", next.stdout, "whole")
	has(t, "after the kill", next.stdout, "content of the host\nmore")
	has(t, "after the kill", next.stdout, "index of the host")

	running := "running"
	for _, set := range glob(filepath.Join(s.State, "casemate/projects/*/cache*/1")) {
		running = filepath.Join(set, "running")
	}
	if exists(running) {
		t.Error("a run that ended looks as if it ran")
	}
	if err := os.WriteFile(running, []byte("another boot"), 0o600); err != nil {
		t.Fatal(err)
	}
	torn := s.run("--cache", "npm", "--", "sh", "-c", cacheLook)
	has(t, "after a stop of the machine", torn.stderr, "thrown away")
	has(t, "after a stop of the machine", torn.stdout, "content of the host")
	hasNot(t, "after a stop of the machine", torn.stdout, "again")
	if digest() != before {
		t.Error("the host's cache was changed")
	}
}

// TestCacheIsAnOpening: the plan names it with its line; a project's word opens nothing until a person has approved it.
func TestCacheIsAnOpening(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		if s.mode.owner != 0 {
			return // the same, as the cache is of who runs casemate
		}
		s.npmCache(t)
		s.put("casemate.yaml", "version: 1\ncache: [npm]\n", 0o644)
		s.Accept()
		out := s.sh(cacheLook)
		has(t, "not approved", out.stderr, "casemate.yaml would widen cache")
		hasNot(t, "not approved", out.stdout, "of the host")
		if out := s.do("trust", "--yes"); out.exit != 0 {
			t.Fatalf("trust: %v", out)
		}
		out = s.sh(cacheLook)
		if s.mode.name == "landlock" {
			has(t, "without mounts", out.stderr, "begins empty")
			hasNot(t, "without mounts", out.stdout, "of the host")
			return
		}
		has(t, "approved", out.stdout, "content of the host")
		explained := s.do("plan", "--explain", "--", "true").stdout
		has(t, "plan", explained, "begin with your cache of npm (packages): "+s.Home+"/.npm/_cacache is read; what is written stays in this project's sandboxes\n      project casemate.yaml:2")
		var listed []struct {
			Project, Cache string
			Size           int64
			Base           []string
			Used           time.Time
		}
		if err := json.Unmarshal([]byte(s.do("cache", "ls", "--json").stdout), &listed); err != nil || len(listed) != 1 {
			t.Fatalf("cache ls: %v %v", listed, err)
		}
		if l := listed[0]; l.Project != s.Work || l.Cache != "npm" || l.Size == 0 || len(l.Base) != 1 || time.Since(l.Used) > time.Hour {
			t.Errorf("cache ls: %+v", l)
		}
		for _, c := range []struct {
			args []string
			want string
			exit int
		}{
			{[]string{"run", "--cache", "nmp", "--", "true"}, "npm", 2},
			{[]string{"cache", "rm", "elsewhere"}, "nothing is kept for", 125},
			{[]string{"cache", "rm", "go"}, "nothing of that is kept", 0},
			{[]string{"cache", "rm", s.Work, "npm"}, "removed npm of " + s.Work, 0},
		} {
			if out := s.do(c.args...); out.exit != c.exit || !strings.Contains(out.stderr, c.want) {
				t.Errorf("%v: %v", c.args, out)
			}
		}
	})
}

// TestCacheSlip: a setting that makes another directory a cache shows nothing of it.
func TestCacheSlip(t *testing.T) {
	s := newSite(t, best())
	writeDeep(t, filepath.Join(s.Home, "private/letter"), "dear")
	for _, c := range []struct{ variable, want string }{
		{"PIP_CACHE_DIR=" + s.Home, "does not look like it"},
		{"BUN_INSTALL_CACHE_DIR=" + s.Home, "holds your home directory"},
		{"BUN_INSTALL_CACHE_DIR=" + s.Work, "an agent can write"},
		{"BUN_INSTALL_CACHE_DIR=" + s.State, "holds casemate's own state"},
		{"BUN_INSTALL_CACHE_DIR=/", "holds your home directory"},
	} {
		name := "pip"
		if strings.HasPrefix(c.variable, "BUN") {
			name = "bun"
		}
		cmd := s.command("run", "--cache", name, "--", "true")
		cmd.Env = append(cmd.Env, c.variable)
		if out := s.finish(cmd); out.exit != 125 || !strings.Contains(out.stderr, c.want) {
			t.Errorf("%s: %v", c.variable, out)
		}
	}
}

// TestCacheCannotBeMounted: where the kernel refuses, nothing runs, and the way out is named.
func TestCacheCannotBeMounted(t *testing.T) {
	s := newSite(t, best())
	s.npmCache(t)
	cmd := s.command("run", "--cache", "npm", "--", "sh", "-c", "echo ran")
	cmd.Env = append(cmd.Env, "CASEMATE_TEST_FAIL_STEP=overlay of "+s.Home+"/.npm/_cacache")
	if out := s.finish(cmd); out.exit != 125 || out.stdout != "" || !strings.Contains(out.stderr, "leave the cache of npm out") {
		t.Errorf("%v", out)
	}
}

// TestCacheCountsForDisk: what is added to a cache counts for the limit of the disk.
func TestCacheCountsForDisk(t *testing.T) {
	s := newSite(t, best())
	s.npmCache(t)
	out := s.run("--cache", "npm", "--disk", "20MiB", "--", "sh", "-c", "i=0; while [ $i -lt 200 ]; do head -c 1000000 /dev/zero >~/.npm/_cacache/$i; i=$((i+1)); done; sleep 60")
	if out.result.Reason != "disk" {
		t.Errorf("200 MB in a cache: %v", out)
	}
}

// TestCacheGo builds with a module that only the host's cache has, and with what the host has compiled. Nothing of it imports the standard library, which
// would take a minute to compile.
func TestCacheGo(t *testing.T) {
	needs(t, "go")
	s := newSite(t, best())
	s.makeModule(t)
	s.put("main.go", "package app\n\nimport \"example.test/dep\"\n\nfunc Say() string { return dep.Say() }\n", 0o644)
	s.Accept()
	settings := []string{"GOFLAGS=-mod=mod", "GOSUMDB=off", "CGO_ENABLED=0", "GOTELEMETRY=off", "GOTOOLCHAIN=local"}
	s.hostly(t, s.Work, "go build .", append(settings, "GOPROXY=file://"+filepath.Join(s.Dir, "proxy"))...)
	s.giveAll(s.Work)
	s.Accept()
	modules, compiled := filepath.Join(s.Home, "go/pkg/mod"), filepath.Join(s.Home, ".cache/go-build")
	before := digestOf(t, modules) + digestOf(t, compiled)
	build := func(line string, flags ...string) output {
		args := append([]string{"run"}, flags...)
		for _, v := range append(settings, "GOPROXY=off") {
			args = append(args, "--env", v)
		}
		cmd := s.command(append(args, "--", "sh", "-c", line)...)
		cmd.Env = s.withTools()
		return s.finish(cmd)
	}
	const counted = `go build -x . 2>log && echo $(grep -c /compile log)`
	if out := build(counted, "--cache", "go"); out.exit != 0 || strings.TrimSpace(out.stdout) != "0" {
		t.Errorf("with the host's cache, of which everything is compiled: %v", out)
	}
	if out := build("go build .", "--fresh"); out.exit == 0 || !strings.Contains(out.stderr, "GOPROXY=off") {
		t.Errorf("control, without it: %v", out)
	}
	out := build("echo '// changed' >>main.go; "+counted, "--fresh", "--cache", "go") // what is compiled inside is kept for the project
	if again := build("echo '// changed' >>main.go; "+counted, "--fresh", "--cache", "go"); strings.TrimSpace(out.stdout) != "1" || strings.TrimSpace(again.stdout) != "0" {
		t.Errorf("the same change compiled twice: %v; %v", out, again)
	}
	if after := digestOf(t, modules) + digestOf(t, compiled); after != before {
		t.Error("the host's cache was changed")
	}
}
