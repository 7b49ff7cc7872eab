package test

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What people do all day must work inside as it does outside. The scripts are in testdata/realwork; each ends with "work-done", and what it
// did must not have reached the host.

// withTools is the environment of a caller who has Go on PATH, too.
func (s *site) withTools(more ...string) []string {
	path := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	if program, err := exec.LookPath("go"); err == nil {
		path = filepath.Dir(program) + ":" + path
	}
	return slices.Concat(s.environ(), []string{"PATH=" + path}, more)
}

// script puts a script of testdata/realwork into the project.
func (s *site) script(name string) {
	s.t.Helper()
	s.put(filepath.Join("work", name), read(s.t, filepath.Join("testdata", "realwork", name)), 0o755)
}

// works runs a command in a sandbox to its good end, and leaves the host as it was.
func (s *site) works(t *testing.T, flags []string, argv ...string) output {
	t.Helper()
	cmd := s.command(slices.Concat([]string{"run", "--quiet"}, flags, []string{"--"}, argv)...)
	cmd.Env = s.withTools()
	start := time.Now()
	out := s.finish(cmd)
	if out.exit != 0 || !strings.HasSuffix(strings.TrimSpace(out.stdout), "work-done") {
		t.Errorf("%v: %v", argv, out)
	}
	t.Logf("%v took %v", argv, time.Since(start).Round(time.Millisecond))
	return out
}

// worksScript does the same with a script that is not in the project.
func (s *site) worksScript(t *testing.T, flags []string, name string) output {
	t.Helper()
	dir := filepath.Join(s.Dir, "work-scripts")
	s.put(filepath.Join("..", "work-scripts", name), read(t, filepath.Join("testdata", "realwork", name)), 0o755)
	s.Accept()
	return s.works(t, append(flags, "--read", dir), "bash", filepath.Join(dir, name))
}

// hostly runs a line of shell on the host, with the tools and the project's home, and fails the test if that fails.
func (s *site) hostly(t *testing.T, dir, line string, env ...string) string {
	t.Helper()
	cmd := exec.Command("sh", "-ec", line)
	cmd.Dir, cmd.Env = dir, slices.Concat(s.withTools(), []string{"GIT_CONFIG_NOSYSTEM=1"}, env)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("on the host %q: %v\n%s", line, err, tail(string(out)))
	}
	return string(out)
}

// giveAll makes everything below a directory the project owner's.
func (s *site) giveAll(dir string) {
	s.t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		s.give(path)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// clone makes the project a clone of this repository.
func (s *site) clone(t *testing.T) {
	t.Helper()
	top := s.hostly(t, ".", "git -c safe.directory='*' rev-parse --show-toplevel")
	s.Work = filepath.Join(s.Dir, "clone")
	// Without hard links: the owner of the clone's files may become another.
	s.hostly(t, s.Dir, "printf '[safe]\n\tdirectory = *\n[user]\n\tname = Tess\n\temail = tess@example.org\n' >"+s.Home+"/.gitconfig; git clone --quiet --local --no-hardlinks '"+strings.TrimSpace(top)+"' clone")
	s.giveAll(s.Work)
}

// TestGit does a day's work with git on a clone of this repository, in which directories are renamed in every way. Nothing of it reaches
// the host; what diff shows is a patch that git takes, and apply makes the host's tree what the sandbox's was.
func TestGit(t *testing.T) {
	needs(t, "git")
	needs(t, "python3")
	eachMode(t, func(t *testing.T, s *site) {
		s.clone(t)
		before := s.hostly(t, s.Work, "git log -1 --format=%H; git status --porcelain")
		s.Accept()
		out := s.worksScript(t, nil, "git.sh")
		s.unchanged(t)
		if after := s.hostly(t, s.Work, "GIT_OPTIONAL_LOCKS=0 git log -1 --format=%H; GIT_OPTIONAL_LOCKS=0 git status --porcelain"); after != before {
			t.Errorf("the host's repository was\n%sand is\n%s", before, after)
		}
		names := s.do("diff", "--name-only")
		for _, want := range []string{"new.txt", "other.txt", "internal/renamed/policy.go"} {
			has(t, "diff --name-only", names.stdout, want)
		}
		for _, bad := range []string{".git/objects", ".git/refs", ".git/index", "doc.go", "internal/engine/engine.go", "clone/"} {
			hasNot(t, "diff --name-only", names.stdout, bad)
		}
		patch := s.do("diff")
		if patch.exit != 0 {
			t.Errorf("diff: %v", patch)
		}
		if err := os.WriteFile(filepath.Join(s.Dir, "patch"), []byte(patch.stdout), 0o644); err != nil {
			t.Fatal(err)
		}
		s.hostly(t, s.Work, "git apply --check ../patch")
		t.Log(s.do("apply", "--with-protected", "--yes"))
		_, want, _ := strings.Cut(out.stdout, "tree: ")
		want, _, _ = strings.Cut(want, "\n")
		if got := strings.TrimSpace(s.hostly(t, s.Work, treeDigest)); got != want {
			t.Errorf("after apply the tree is %q, inside it was %q:\n%s", got, want, s.hostly(t, s.Work, "git status --porcelain"))
		}
	})
}

const treeDigest = "find . -path ./.git -prune -o -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum"

// TestRenameWhileRead renames directories of the host's while other processes read in them.
func TestRenameWhileRead(t *testing.T) {
	needs(t, "python3")
	namespaced(t, func(t *testing.T, s *site) {
		for i := range 400 {
			s.put(fmt.Sprintf("busy/%s/f%d", []string{"sub", "sub/sub", "other"}[i%3], i), strings.Repeat(fmt.Sprint(i, " "), i*10), 0o644)
		}
		s.giveAll(filepath.Join(s.Work, "busy"))
		s.script("rename.py")
		s.Accept()
		s.works(t, nil, "python3", "work/rename.py")
		s.unchanged(t)
	})
}

// TestGoModule tests and builds a module with a dependency, from a module cache that the sandbox may only read.
func TestGoModule(t *testing.T) {
	needs(t, "go")
	s := newSite(t, best())
	cache := filepath.Join(s.Home, "go", "pkg", "mod")
	s.makeModule(t)
	offline := []string{"GOPROXY=file://" + s.Dir + "/proxy", "GOSUMDB=off", "GOFLAGS=-mod=mod", "GOTOOLCHAIN=local", "GOMODCACHE=" + cache, "GOCACHE=" + s.Dir + "/outside/cache"}
	s.hostly(t, s.Work, "go mod tidy && go mod download all", offline...)
	s.giveAll(s.Work)
	s.Accept()
	out := s.works(t, []string{"--read", cache}, "sh", "-c", `! touch `+cache+`/x 2>/dev/null && go test -vet=off ./... && go build -o toy . && ./toy && case $(go env GOCACHE) in $HOME/*) echo work-done; esac`)
	has(t, "the tests", out.stdout, "ok  \texample.test/app/inner")
	has(t, "the program", out.stdout, "dep says hello")
	start := time.Now()
	out = s.works(t, []string{"--read", cache}, "sh", "-c", "go test -vet=off ./... && echo work-done") // GOCACHE was kept with the project's home
	has(t, "the tests of the next run", out.stdout, "(cached)")
	t.Logf("the second run took %v", time.Since(start))
	s.unchanged(t)
	t.Run("control", func(t *testing.T) { // without the cache the module cannot be had
		cmd := s.command("run", "--fresh", "--", "sh", "-c", "go build ./...")
		cmd.Env = s.withTools()
		if out := s.finish(cmd); out.exit == 0 {
			t.Errorf("built without the dependency: %v", out)
		}
	})
}

// makeModule makes a module in the project and a module proxy, of files, with its dependency.
func (s *site) makeModule(t *testing.T) {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, text := range map[string]string{"go.mod": "module example.test/dep\n\ngo 1.21\n", "dep.go": "package dep\n\n// Say says.\nfunc Say() string { return \"dep says hello\" }\n"} {
		w, err := z.Create("example.test/dep@v1.0.0/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	proxy := filepath.Join("..", "proxy", "example.test", "dep", "@v")
	s.put(filepath.Join(proxy, "list"), "v1.0.0\n", 0o644)
	s.put(filepath.Join(proxy, "v1.0.0.info"), `{"Version":"v1.0.0"}`, 0o644)
	s.put(filepath.Join(proxy, "v1.0.0.mod"), "module example.test/dep\n\ngo 1.21\n", 0o644)
	s.put(filepath.Join(proxy, "v1.0.0.zip"), b.String(), 0o644)
	s.put("go.mod", "module example.test/app\n\ngo 1.21\n\nrequire example.test/dep v1.0.0\n", 0o644)
	s.put("main.go", "package main\n\nimport (\n\t\"os\"\n\n\t\"example.test/dep\"\n)\n\nfunc main() { os.Stdout.WriteString(dep.Say() + \"\\n\") }\n", 0o644)
	s.put("inner/inner.go", "package inner\n\n// Twice doubles.\nfunc Twice(n int) int { return 2 * n }\n", 0o644)
	s.put("inner/inner_test.go", "package inner\n\nimport (\n\t\"os\"\n\t\"testing\"\n\n\t\"example.test/dep\"\n)\n\nfunc TestTwice(t *testing.T) {\n\tif Twice(2) != 4 || dep.Say() == \"\" {\n\t\tt.Fatal()\n\t}\n\tif err := os.WriteFile(t.TempDir()+\"/x\", nil, 0o600); err != nil {\n\t\tt.Fatal(err)\n\t}\n}\n", 0o644)
}

// TestNpm installs a package from npm's cache on the host, and runs a script. Without mounts the cache can only be read.
func TestNpm(t *testing.T) {
	needs(t, "npm")
	eachMode(t, func(t *testing.T, s *site) {
		cache := filepath.Join(s.Home, ".npm")
		s.put("package.json", `{"name":"app","version":"1.0.0","dependencies":{"tiny":"file:tiny-1.0.0.tgz"},"scripts":{"say":"node say.js"}}`, 0o644)
		s.put("say.js", "console.log(require('tiny')())\n", 0o644)
		s.put("../tiny/package.json", `{"name":"tiny","version":"1.0.0","bin":{"tiny":"cli.js"}}`, 0o644)
		s.put("../tiny/index.js", "module.exports = () => 'tiny says hello'\n", 0o644)
		s.put("../tiny/cli.js", "#!/usr/bin/env node\nconsole.log(require('.')())\n", 0o755)
		quiet := "npm_config_update_notifier=false"
		s.hostly(t, s.Work, "npm pack --silent ../tiny && npm cache add ./tiny-1.0.0.tgz && npm install --offline --package-lock-only --silent && rm tiny-1.0.0.tgz", "npm_config_cache="+cache, quiet)
		has(t, "the lock file", read(t, filepath.Join(s.Work, "package-lock.json")), "sha512")
		s.giveAll(s.Work)
		s.giveAll(cache)
		s.Accept()
		install := `npm ci --offline --no-audit --no-fund && npm run --silent say && node_modules/.bin/tiny && echo work-done`
		flags, before := []string{"--cache", "npm"}, digestOf(t, cache)
		if s.mode.name == "landlock" {
			flags = []string{"--read", cache + "/_cacache"}
		}
		out := s.works(t, flags, "sh", "-c", install)
		if n := strings.Count(out.stdout, "tiny says hello"); n != 2 {
			t.Errorf("said %d times: %v", n, out)
		}
		s.unchanged(t)
		if digestOf(t, cache) != before {
			t.Error("npm's cache on the host was changed")
		}
		if s.mode.name == "landlock" {
			return
		}
		t.Run("control", func(t *testing.T) { // without the cache the package cannot be had
			cmd := s.command("run", "--fresh", "--", "sh", "-c", install)
			cmd.Env = s.withTools()
			if out := s.finish(cmd); out.exit == 0 {
				t.Errorf("installed without the cache: %v", out)
			}
		})
	})
}

// TestPython runs what Python programs need of the system. The fallback has no shared memory of its own, and gives out the host's to nobody.
func TestPython(t *testing.T) {
	needs(t, "python3")
	namespaced(t, func(t *testing.T, s *site) {
		s.script("python.py")
		s.hostly(t, s.Work, `python3 -c 'import sqlite3; d = sqlite3.connect("host.db"); d.execute("CREATE TABLE t (who TEXT, i INTEGER)"); d.executemany("INSERT INTO t VALUES (?, ?)", [("host", i) for i in range(3)]); d.commit()'`)
		s.give(filepath.Join(s.Work, "host.db"))
		s.Accept()
		names := []string{"pool", "spawned", "queue", "shared", "threads", "processes", "sqlite_of_the_host", "sqlite_new"}
		if s.mode.name == best().name { // it takes long, and once is enough
			names = append(names, "venv")
		}
		for _, name := range names {
			t.Run(name, func(t *testing.T) {
				if name == "venv" && exec.Command("/usr/bin/python3", "-c", "import ensurepip").Run() != nil {
					t.Fatal("python3-venv (ensurepip) is not installed: test/setup.sh does it")
				}
				s.works(t, nil, "python3", "work/python.py", name)
			})
		}
		s.unchanged(t)
	})
}

// TestFiles uses files in every way that programs know. The fallback refuses some of it: times and rights of files cannot be confined there.
func TestFiles(t *testing.T) {
	needs(t, "python3")
	namespaced(t, func(t *testing.T, s *site) {
		s.script("files.py")
		s.Accept()
		for _, name := range []string{"locks", "maps", "tmpfile", "events", "links", "symlinks", "sparse", "fifos", "sockets", "metadata", "replace", "copies"} {
			t.Run(name, func(t *testing.T) { s.works(t, nil, "python3", "work/files.py", name) })
		}
		s.unchanged(t)
		list := s.changes(t)
		for _, name := range []string{"fifo", "work.sock"} {
			if !slices.ContainsFunc(list, func(c change) bool { return c.Path == name && c.Refused != "" }) {
				t.Errorf("%s is not shown as what cannot leave, in %+v", name, list)
			}
		}
		if out := s.do("diff"); out.exit != 0 || len(out.stdout) > 1<<20 {
			t.Errorf("diff of sparse and special files: %d bytes, %v", len(out.stdout), tail(out.stderr))
		}
	})
}

// reservedPort is one on the host's loopback that nobody listens on, and nobody else can have until it is freed.
func reservedPort(t *testing.T) (port string, free func()) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	free = sync.OnceFunc(func() { unix.Close(fd) })
	t.Cleanup(free)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(at.(*unix.SockaddrInet4).Port), free
}

// TestServerInside: a development server is reached inside, and by nobody else. The control is the same server outside.
func TestServerInside(t *testing.T) {
	needs(t, "python3")
	namespaced(t, func(t *testing.T, s *site) {
		port, free := reservedPort(t)
		serve := `python3 -m http.server ` + port + ` --bind 0.0.0.0`
		get := `for i in $(seq 200); do python3 -c 'import urllib.request; print(urllib.request.urlopen("http://127.0.0.1:` + port + `/README.md", timeout=20).read().decode())' 2>/dev/null && break; sleep 0.05; done`
		reached := func() bool {
			conn, err := net.DialTimeout("tcp", "127.0.0.1:"+port, time.Second)
			if err == nil {
				conn.Close()
			}
			return err == nil
		}
		k := s.talk()
		k.ask(serve + ` >/dev/null 2>&1 &`)
		has(t, "inside", k.ask(get), "a project")
		if reached() {
			t.Error("the server inside can be reached from the host")
		}
		other := s.talk("--fresh")
		hasNot(t, "in another sandbox", other.ask(`python3 -c 'import socket; socket.create_connection(("127.0.0.1", `+port+`), 5); print("connected")' 2>&1`), "connected")
		other.end()
		k.ask("kill %1 || kill $!")
		k.end()
		free()
		cmd := exec.Command("sh", "-c", "exec "+serve)
		cmd.Dir = s.Work
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, patience, "control: the server outside is reached", reached)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// TestMake builds a C program.
func TestMake(t *testing.T) {
	for _, program := range []string{"make", "cc", "ar"} {
		needs(t, program)
	}
	eachMode(t, func(t *testing.T, s *site) {
		s.script("c.sh")
		s.Accept()
		s.works(t, nil, "sh", "work/c.sh")
		s.unchanged(t)
	})
}

// TestBigTree works in a project of 100,000 files, in bounded time. The bounds are those of a busy machine.
func TestBigTree(t *testing.T) {
	needs(t, "git")
	needs(t, "python3")
	s := newSite(t, best())
	s.script("tree.sh")
	s.hostly(t, s.Work, `h=$(echo hay | git hash-object -w --stdin); n=$(echo needle-in-the-haystack | git hash-object -w --stdin)
awk -v h=$h -v n=$n 'BEGIN { for (d = 0; d < 1000; d++) for (f = 0; f < 100; f++) printf "100644 %s\ttree/d%03d/f%02d\n", d == 500 && f == 50 ? n : h, d, f }' | git update-index --index-info
git -c user.name=a -c user.email=a@example.test commit -qm tree; git checkout -q -- tree`)
	s.giveAll(s.Work)
	s.hostly(t, s.Work, "git status --porcelain -uno tree") // the owner is in the index, too
	unchanged := func() {
		t.Helper()
		if changed := s.git(t, "status", "--porcelain", "--untracked-files=all", "tree", "trunk", "beside", "whole"); changed != "" {
			t.Errorf("the host's tree changed: %s", tail(changed))
		}
	}
	unchanged()
	first := s.timed(t, time.Minute, "echo", "work-done")
	second := s.timed(t, 30*time.Second, "echo", "work-done")
	t.Logf("the first start took %v, the second %v", first, second)
	s.timed(t, 150*time.Second, "bash", "work/tree.sh")
	unchanged()
	start := time.Now()
	names := s.do("diff", "--name-only")
	if took := time.Since(start); took > 2*time.Minute {
		t.Errorf("diff took %v", took)
	}
	for _, want := range []string{"tree/d000/f00\n", "trunk/d500/f50\n", "beside/f00\n", "whole/d900/f99\n"} {
		has(t, "diff --name-only", names.stdout, want)
	}
	if n := strings.Count(names.stdout, "\n"); n < 190_000 || n > 190_100 {
		t.Errorf("diff lists %d names, want those of 100000 files that went and 90000 that came", n)
	}
}

// timed runs a command that must work within the limit.
func (s *site) timed(t *testing.T, limit time.Duration, argv ...string) time.Duration {
	t.Helper()
	start := time.Now()
	out := s.works(t, nil, argv...)
	took := time.Since(start)
	if took > limit {
		t.Errorf("%v took %v, more than %v", argv, took, limit)
	}
	if strings.Contains(out.stdout, "took:") {
		t.Log(out.stdout)
	}
	return took
}

// secretInTools is what the credential files of the tool chains hold.
const secretInTools = "casemate-test-registry-token"

// toolFiles is a home with tool chains as their installers lay them out. The programs say their name; what holds credentials is hidden.
func toolFiles() (programs, hidden map[string]string) {
	say := func(name string) string { return "#!/bin/sh\necho " + name + " runs\n" }
	programs = map[string]string{
		".nvm/nvm.sh": "# nvm\n",
		".nvm/versions/node/v22.0.0/bin/toy-node":          say("toy-node"),
		".nvm/versions/node/v22.0.0/bin/toy-script":        "#!/usr/bin/env toy-node\n",
		".nvm/versions/node/v22.0.0/lib/node_modules/x.js": "x\n",
		".pyenv/shims/toy-python":                          "#!/usr/bin/env bash\nexec \"$PYENV_ROOT/versions/3.12.0/bin/toy-python\" \"$@\"\n",
		".pyenv/versions/3.12.0/bin/toy-python":            say("toy-python"),
		".cargo/bin/toy-cargo":                             "#!/bin/sh\nexec \"$RUSTUP_HOME/toolchains/stable/bin/toy-rustc\"\n",
		".rustup/settings.toml":                            "version = \"12\"\n",
		".rustup/toolchains/stable/bin/toy-rustc":          say("toy-rustc"),
		".local/share/mise/installs/toy/1.0/bin/toy-mise":  say("toy-mise"),
		".local/share/mise/shims/toy-mise":                 "#!/bin/sh\nexec \"$MISE_DATA_DIR/installs/toy/1.0/bin/toy-mise\"\n",
		".bun/bin/toy-bun":                                 say("toy-bun"),
		".deno/bin/toy-deno":                               say("toy-deno"),
		".volta/bin/toy-volta":                             say("toy-volta"),
		".sdkman/candidates/java/current/bin/toy-java":     say("toy-java"),
		".asdf/shims/toy-asdf":                             say("toy-asdf"),
		"go/bin/toy-gotool":                                say("toy-gotool"),
		".local/bin/toy-own":                               say("toy-own"),
		"opt/tool/bin/toy-opt":                             "#!/bin/sh\nexec \"$(dirname \"$0\")/../lib/toy\"\n",
		"opt/tool/lib/toy":                                 say("toy-opt"),
		".local/share/uv/tools/toy/bin/toy-uv":             say("toy-uv"),
	}
	secret := "token = " + secretInTools + "\n"
	hidden = map[string]string{}
	for _, name := range []string{
		".npmrc", ".netrc", ".pypirc", ".ssh/id_toy", ".aws/toy", ".config/gh/toy.yml", ".bash_history", "other-project/toy.txt", ".gitconfig-toy",
		".cargo/credentials.toml", ".cargo/credentials", ".cargo/config.toml", ".cargo/registry/x", ".nvm/versions/node/v22.0.0/etc/npmrc", ".nvm/.npmrc",
		".pyenv/versions/3.12.0/pip.conf", ".bun/install/cache/x", ".volta/hooks.json", ".sdkman/candidates/maven/current/conf/settings.xml",
		".asdf/installs/nodejs/22.0.0/etc/npmrc", ".local/share/uv/credentials/x", ".local/share/other/x", "go/src/private/x.go", "opt/tool/.npmrc", "opt/other/x",
		".local/share/mise/installs/node/22/etc/npmrc",
	} {
		hidden[name] = secret
	}
	return programs, hidden
}

// TestToolsInHome runs tool chains that lie in the home directory, whose credential files and neighbours cannot be seen.
func TestToolsInHome(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		programs, hidden := toolFiles()
		dirs := map[string]bool{}
		for name, text := range programs {
			s.put(filepath.Join("../home", name), text, 0o755)
			if base := filepath.Base(name); strings.HasPrefix(base, "toy-") && !strings.Contains(name, "installs/") && !strings.Contains(name, "versions/3") {
				dirs[filepath.Dir(filepath.Join(s.Home, name))] = true
			}
		}
		for name, text := range hidden {
			s.put(filepath.Join("../home", name), text, 0o644)
		}
		// A program that is none of a script's, and a link from the user's own directory to an installation.
		copyProgram(t, "/bin/echo", filepath.Join(s.Home, ".nvm/versions/node/v22.0.0/bin/toy-binary"))
		if err := os.Symlink("../share/uv/tools/toy/bin/toy-uv", filepath.Join(s.Home, ".local/bin/toy-uv")); err != nil {
			t.Fatal(err)
		}
		delete(dirs, filepath.Join(s.Home, ".local/share/uv/tools/toy/bin"))
		delete(dirs, filepath.Join(s.Home, ".rustup/toolchains/stable/bin"))
		s.Accept()
		var path []string
		for dir := range dirs {
			path = append(path, dir)
		}
		slices.Sort(path)
		env := append(s.environ(), "PATH="+strings.Join(path, ":")+":/usr/bin:/bin")
		inside := func(line string) output {
			cmd := s.command("run", "--quiet", "--", "sh", "-c", line)
			cmd.Env = env
			return s.finish(cmd)
		}
		for _, name := range []string{"toy-node", "toy-python", "toy-rustc", "toy-mise", "toy-bun", "toy-deno", "toy-volta", "toy-java", "toy-asdf", "toy-gotool", "toy-own", "toy-opt", "toy-uv"} {
			program := map[string]string{"toy-rustc": "toy-cargo"}[name]
			if program == "" {
				program = name
			}
			t.Run(name, func(t *testing.T) {
				out := inside(program)
				if out.exit != 0 || strings.TrimSpace(out.stdout) != name+" runs" {
					t.Errorf("%s: %v\nPATH=%s", program, out, inside("echo $PATH").stdout)
				}
			})
		}
		has(t, "a binary", inside("toy-binary it runs").stdout, "it runs")
		has(t, "env finds the interpreter", inside("toy-script").stdout, "toy-node runs")
		t.Run("hidden", func(t *testing.T) {
			var names []string
			for name := range hidden {
				if !strings.Contains(read(t, filepath.Join(s.Home, name)), secretInTools) { // the control
					t.Errorf("%s holds no secret outside", name)
				}
				names = append(names, "'"+filepath.Join(s.Home, name)+"'")
			}
			out := inside("cat " + strings.Join(names, " ") + "; grep -rs " + secretInTools + " " + s.Home + " $HOME; for f in " + strings.Join(names, " ") + "; do grep -s " + secretInTools + " $f && echo $f; done; true")
			for _, line := range strings.Split(out.stdout, "\n") {
				if strings.Contains(line, secretInTools) {
					t.Errorf("readable inside: %s", line)
				}
			}
			if s.mode.name != "landlock" { // yarn 1 ends where npm's file is there and cannot be read; and what is written to it goes nowhere
				file := filepath.Join(s.Home, ".nvm/versions/node/v22.0.0/etc/npmrc")
				if out := inside("wc -c <" + file + "; echo x 2>/dev/null >" + file + "; wc -c <" + file); strings.TrimSpace(out.stdout) != "0\n0" {
					t.Errorf("a hidden file of a tool chain: %v", out)
				}
			}
			listed := inside("ls -A " + s.Home + " $HOME; ls -A " + s.Home + "/.local/share " + s.Home + "/.local " + s.Home + "/opt " + s.Home + "/.config 2>/dev/null").stdout
			for _, bad := range []string{".ssh", ".aws", ".netrc", ".npmrc", ".bash_history", "other-project", ".gitconfig-toy", "other\n", ".claude"} {
				hasNot(t, "the home", listed, bad)
			}
			if out := inside("for d in .nvm .cargo/bin .pyenv/shims .local/bin go/bin; do echo x >" + s.Home + "/$d/evil && echo WRITTEN $d; done; true"); strings.Contains(out.stdout, "WRITTEN") {
				t.Logf("in the sandbox's own home: %s", out.stdout)
			}
		})
		s.unchanged(t)
	})
}

func copyProgram(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s is %x", to, sha256.Sum256(b))
}
