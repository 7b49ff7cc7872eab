package test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// byHost runs a line of shell in the project, on the host, as the project's owner.
func (s *site) byHost(t *testing.T, line string) {
	t.Helper()
	cmd := exec.Command("bash", "-ec", line)
	cmd.Dir = s.Work
	cmd.Env = []string{"HOME=" + s.Home, "PATH=" + os.Getenv("PATH"), "GIT_CONFIG_NOSYSTEM=1", "TERM=xterm",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.org"}
	if os.Getuid() == 0 && s.mode.owner != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(s.mode.owner), Gid: uint32(s.mode.owner)}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("on the host, %q: %v\n%s", line, err, out)
	}
}

// seen waits until a line of shell inside prints what is wanted, and says how long that took.
func (k *talk) seen(t *testing.T, line, want string) time.Duration {
	t.Helper()
	var got string
	took := eventually(t, patience, fmt.Sprintf("inside, %q gives %q", line, want), func() bool {
		got = k.ask(line)
		return got == want
	})
	if got != want {
		t.Errorf("inside, %q gives %q", line, got)
	}
	return took
}

// watchInside prints a line for each inotify event below the project, as programs do that reload what was saved.
const watchInside = `
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
fd = libc.inotify_init1(0)
dirs = {}
def add(d):
    wd = libc.inotify_add_watch(fd, d.encode(), 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x2)
    if wd >= 0:
        dirs[wd] = d
for root, names, _ in os.walk("."):
    if ".git" not in root:
        add(root)
print("watching", flush=True)
while True:
    b = os.read(fd, 65536)
    while b:
        wd, mask, cookie, n = struct.unpack("iIII", b[:16])
        name = b[16:16+n].rstrip(b"\0").decode()
        path = os.path.normpath(os.path.join(dirs.get(wd, "?"), name))
        print("event", path, hex(mask), flush=True)
        if mask & 0x40000000 and mask & 0x180:
            add(path)
        b = b[16+n:]
`

// TestMirrorEditors saves on the host as editors and tools do, beside a program inside that reads and one that waits for events.
func TestMirrorEditors(t *testing.T) {
	needs(t, "vim")
	needs(t, "python3")
	needs(t, "git")
	vim := func(setting string) string {
		return `vim -u NONE -i NONE -N -es -c 'set ` + setting + `' -c '%s/.*/saved by vim/' -c 'wq' src/f </dev/null`
	}
	namespaced(t, func(t *testing.T, s *site) {
		s.put("watch.py", watchInside, 0o644)
		s.put("src/keep", "keep\n", 0o644)
		for _, c := range []struct{ name, host, path, inside, want string }{
			{"vim, backupcopy=yes", vim("backupcopy=yes backup writebackup"), "src/f", "cat src/f", "saved by vim"},
			{"vim, backupcopy=no", vim("backupcopy=no writebackup"), "src/f", "cat src/f", "saved by vim"},
			{"vim, backupcopy=auto", vim("backupcopy=auto"), "src/f", "cat src/f", "saved by vim"},
			{"sed -i", `sed -i 's/.*/saved by sed/' src/f`, "src/f", "cat src/f", "saved by sed"},
			{"atomic save", `printf 'saved whole\n' >src/f.vsctmp && mv src/f.vsctmp src/f`, "src/f", "cat src/f", "saved whole"},
			{"in place", `printf 'in place\n' >src/f`, "src/f", "cat src/f", "in place"},
			{"appended", `printf 'first\n' >src/f; printf 'more\n' >>src/f`, "src/f", "cat src/f", "first\nmore"},
			{"mode", `chmod 755 src/f`, "", "stat -c %a src/f", "755"},
			{"new", `printf 'new\n' >src/new`, "src/new", "cat src/new", "new"},
			{"renamed", `mv src/new src/newer`, "src/newer", "cat src/newer; ls src/new", "new\nls: cannot access 'src/new': No such file or directory"},
			{"deleted", `rm src/newer`, "src/newer", "ls src/newer", "ls: cannot access 'src/newer': No such file or directory"},
			{"a link", `ln -s f src/l`, "src/l", "readlink src/l", "f"},
			{"a new directory", `mkdir -p lib/deep && printf 1 >lib/deep/one`, "lib", "cat lib/deep/one", "1"},
			{"a renamed directory", `mv lib library`, "library", "cat library/deep/one; cat lib/deep/one", "1cat: lib/deep/one: No such file or directory"},
			{"a file in it", `printf 2 >library/deep/two`, "library/deep/two", "cat library/deep/two", "2"},
		} {
			if !exists(filepath.Join(s.Work, "src/f")) {
				s.put("src/f", "start\n", 0o644)
			}
			t.Run(c.name, func(t *testing.T) {
				k := s.talk()
				k.ask("ls -R src >/dev/null; cat src/f src/new src/newer lib/deep/one; stat src/f") // so that it is looked up, or its absence
				k.ask("python3 watch.py >/tmp/events 2>&1 &")
				eventually(t, patience, "the watcher inside watches", func() bool { return strings.Contains(k.ask("cat /tmp/events"), "watching") })
				eventually(t, patience, "the one outside watches", func() bool { // what changes before it does raises no event
					s.put("ready", fmt.Sprint(time.Now()), 0o644)
					return strings.Contains(k.ask("cat /tmp/events"), "event ready")
				})
				s.byHost(t, c.host)
				start := time.Now()
				if c.path != "" { // who looks before it is mirrored finds it, and there is no event any more
					eventually(t, patience, "an event of "+c.path, func() bool { return strings.Contains(k.ask("cat /tmp/events"), "event "+c.path+" ") })
				}
				k.seen(t, c.inside, c.want)
				t.Logf("seen inside after %v", time.Since(start).Round(time.Millisecond))
				if t.Failed() {
					t.Log(k.ask("cat /tmp/events"), s.events(t))
				}
				k.end()
				hasNot(t, "events", s.events(t), `"conflict"`)
				if out := s.do("diff"); out.exit == 0 && strings.TrimSpace(out.stdout) != "" {
					t.Errorf("the sandbox holds changes: %v", out)
				}
			})
		}
	})
}

// TestMirrorGit works with git on the host while git inside has looked at everything.
func TestMirrorGit(t *testing.T) {
	needs(t, "git")
	namespaced(t, func(t *testing.T, s *site) {
		s.byHost(t, `rm -rf .git; git init -q -b main; mkdir many; for i in $(seq 400); do echo $i >many/$i; done; git add .; git commit -qm one
git checkout -qb other; for i in $(seq 400); do echo other $i >many/$i; done; mkdir fresh; echo 1 >fresh/one; rm many/7; git add .; git commit -qm two; git checkout -q main`)
		k := s.talk()
		git := "git -c safe.directory='*' " // whose status writes the index again, at any moment
		clean := git + "status --porcelain; " + git + "log -1 --format=%s; cat many/9"
		if got := k.ask(clean); got != "one\n9" {
			t.Fatalf("before: %q", got)
		}
		k.ask("cat ready")
		s.put("ready", "ready\n", 0o644)
		k.seen(t, "cat ready", "ready") // the watching has begun
		if err := os.Remove(filepath.Join(s.Work, "ready")); err != nil {
			t.Fatal(err)
		}
		k.seen(t, "ls ready", "ls: cannot access 'ready': No such file or directory")
		s.byHost(t, "git checkout -q other")
		t.Logf("checkout of 400 files: seen after %v", k.seen(t, clean, "two\nother 9").Round(time.Millisecond))
		k.seen(t, "ls many/7 fresh/one", "ls: cannot access 'many/7': No such file or directory\nfresh/one")
		if t.Failed() {
			b, _ := exec.Command("sh", "-c", "ls -la "+s.State+"/casemate/sandboxes/*/layer/upper/many/7; strings "+s.State+"/casemate/sandboxes/*/mirror.log | grep $(printf many/7 | base64)").CombinedOutput()
			k.end()
			t.Fatal(s.events(t), string(b))
		}
		s.byHost(t, "git checkout -q main")
		k.seen(t, clean, "one\n9")
		s.byHost(t, "echo edited >many/9; git stash -q")
		k.seen(t, clean, "one\n9")
		s.byHost(t, "git stash pop -q")
		k.seen(t, clean, "M many/9\none\nedited")
		s.byHost(t, "git checkout -q many/9; git merge -q --ff-only other")
		k.seen(t, clean, "two\nother 9")
		s.byHost(t, "git pull -q --ff-only . other")
		hasNot(t, "events", s.events(t), `"conflict"`)
		// From here on the sandbox goes its own way.
		has(t, "commit", k.ask(git+"-c user.name=i -c user.email=i@x -c commit.gpgsign=false commit -q --allow-empty -m inside; "+git+"log -1 --format=%s"), "inside")
		s.byHost(t, "echo host >many/10; git commit -qam host")
		k.seen(t, "cat many/10", "host")
		k.seen(t, git+"log -1 --format=%s", "inside")
		sum := strings.TrimSpace(s.git(t, "rev-parse", "HEAD"))
		k.seen(t, git+"cat-file -t "+sum, "commit")
		k.end()
	})
}

// TestMirrorKeepsBothSides changes a file inside and on the host.
func TestMirrorKeepsBothSides(t *testing.T) {
	namespaced(t, func(t *testing.T, s *site) {
		s.put("shared", "start\n", 0o644)
		s.put("other", "start\n", 0o644)
		s.put(".env", "casemate-test-hidden\n", 0o644)
		k := s.talk()
		k.ask("echo inside >shared; cat other .env")
		s.put("shared.tmp", "host\n", 0o644)
		if err := os.Rename(filepath.Join(s.Work, "shared.tmp"), filepath.Join(s.Work, "shared")); err != nil {
			t.Fatal(err)
		}
		s.put(".env.tmp", "casemate-test-hidden again\n", 0o644)
		if err := os.Rename(filepath.Join(s.Work, ".env.tmp"), filepath.Join(s.Work, ".env")); err != nil {
			t.Fatal(err)
		}
		s.put("other.tmp", "host\n", 0o644)
		if err := os.Rename(filepath.Join(s.Work, "other.tmp"), filepath.Join(s.Work, "other")); err != nil {
			t.Fatal(err)
		}
		k.seen(t, "cat other", "host")
		k.seen(t, "cat shared", "inside")
		k.ask("cp shared anew; mv anew shared") // another inode, and no less a conflict
		hasNot(t, "hidden", k.ask("cat .env; grep -rs casemate-test-hidden . | grep -v Binary"), "casemate-test-hidden")
		running := s.do("diff", "--name-only")
		has(t, "diff while it runs", running.stdout, "shared")
		hasNot(t, "diff while it runs", running.stdout, "other")
		k.end()
		has(t, "events", s.events(t), `"kind":"conflict","subject":"shared"`)
		has(t, "diff", s.do("diff").stdout, "conflict")
		if got := read(t, filepath.Join(s.Work, "shared")); got != "host\n" {
			t.Errorf("on the host: %q", got)
		}
		s.put("other", "host again\n", 0o644) // between two runs
		k = s.talk()
		k.seen(t, "cat other shared", "host again\ninside")
		k.end()
	})
}

// TestMirrorAfterAKill kills the supervisor while it mirrors: nothing that it mirrored is taken for the sandbox's, and nothing of the sandbox's is lost.
func TestMirrorAfterAKill(t *testing.T) {
	namespaced(t, func(t *testing.T, s *site) {
		for i := range 40 {
			s.put(fmt.Sprintf("many/%d", i), "start\n", 0o644)
		}
		k := s.talk()
		k.ask("cat many/* >/dev/null; echo mine >own")
		for i := range 40 {
			s.put(fmt.Sprintf("many/%d", i), "host\n", 0o644)
		}
		k.seen(t, "cat many/0", "host")
		for i := range 40 {
			s.put(fmt.Sprintf("many/%d", i), "host, later\n", 0o644)
		}
		if err := k.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-k.ended
		var out output
		eventually(t, patience, "the sandbox is over", func() bool {
			out = s.do("diff", "--name-only")
			return out.exit == 0 && !strings.Contains(out.stdout, "many")
		})
		has(t, "diff", out.stdout, "own")
		has(t, "the next run", s.sh("cat own; cat many/* | sort | uniq -c").stdout, "40 host, later")
		hasNot(t, "diff", s.do("diff", "--name-only").stdout, "many")
	})
}

// viteVersion is installed by npm as the machine is set up to, once.
const viteVersion = "6.3.5"

// TestMirrorDevServer runs a real development server inside, which reloads what an editor saves outside.
func TestMirrorDevServer(t *testing.T) {
	needs(t, "npm")
	modules := installed(t, "vite@"+viteVersion)
	namespaced(t, func(t *testing.T, s *site) {
		s.put("package.json", `{"name":"app","version":"1.0.0","type":"module"}`, 0o644)
		s.put("index.html", `<script type="module" src="/main.js"></script>`, 0o644)
		s.put("main.js", "import { word } from './word.js'\nconsole.log(word)\n", 0o644)
		s.put("word.js", "export const word = 'first'\n", 0o644)
		s.put(".gitignore", "node_modules\n", 0o644)
		if out, err := exec.Command("cp", "-a", modules, filepath.Join(s.Work, "node_modules")).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		s.giveAll(filepath.Join(s.Work, "node_modules"))
		s.put("get.mjs", "const r = await fetch('http://127.0.0.1:5173' + process.argv[2]); console.log(await r.text())\n", 0o644)
		k := s.talk()
		k.ask("node node_modules/vite/bin/vite.js --host 127.0.0.1 --port 5173 --clearScreen false >/tmp/vite.log 2>&1 &")
		eventually(t, 40*time.Second, "vite answers", func() bool {
			return strings.Contains(k.ask("node get.mjs /main.js; node get.mjs /word.js"), "first")
		})
		for i, save := range []string{"printf \"export const word = 'N'\\n\" >word.js", "printf \"export const word = 'N'\\n\" >.word.tmp && mv .word.tmp word.js", "sed -i \"s/'.*'/'N'/\" word.js"} {
			want := fmt.Sprint("saved", i)
			s.byHost(t, strings.ReplaceAll(save, "N", want))
			eventually(t, patience, "vite serves what was saved: "+save, func() bool { return strings.Contains(k.ask("node get.mjs /word.js"), want) })
			eventually(t, patience, "vite says that it reloads", func() bool { return strings.Count(k.ask("cat /tmp/vite.log"), "page reload") > i })
		}
		if t.Failed() {
			t.Log(k.ask("cat /tmp/vite.log"))
		}
		k.ask("kill $!")
		k.end()
	})
}

// installed has npm install a package, once on this machine, and returns its node_modules. What root has installed serves the others too.
func installed(t *testing.T, what string) string {
	t.Helper()
	var dir, modules string
	for _, uid := range []int{0, os.Getuid()} {
		dir = filepath.Join(os.TempDir(), fmt.Sprintf("casemate-test-npm-%d", uid), what)
		modules = filepath.Join(dir, "node_modules")
		var st unix.Stat_t
		if unix.Lstat(filepath.Dir(dir), &st) == nil && int(st.Uid) == uid && st.Mode&0o022 == 0 && exists(filepath.Join(dir, "complete")) {
			return modules
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("npm", "install", "--prefix", dir, "--no-audit", "--no-fund", "--no-save", "--loglevel=error", "--fetch-retries=1", "--fetch-timeout=20000", what)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("npm cannot install %s here, which needs a registry or a full cache: %v\n%s", what, err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "complete"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return modules
}

// TestMirrorIsPlanned reads what the plan says.
func TestMirrorIsPlanned(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		for _, workspace := range []string{"held", "live", "readonly", "none"} {
			out := s.do("plan", "--json", "--workspace", workspace, "--", "true")
			var p struct{ Workspace struct{ By, Mirror string } }
			if err := json.Unmarshal([]byte(out.stdout), &p); err != nil {
				t.Fatalf("%v: %v", err, out)
			}
			if carried := strings.Contains(p.Workspace.Mirror, "carried in"); carried != (workspace == "held" && p.Workspace.By == "overlay") {
				t.Errorf("%s by %s: %s", workspace, p.Workspace.By, p.Workspace.Mirror)
			}
		}
	})
}
