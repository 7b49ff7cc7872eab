package syscalls

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// program runs argv, with the filter or without, in dir, which is its home too.
func program(t *testing.T, opts Options, filtered bool, dir string, argv ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath(argv[0])
	if err != nil {
		t.Fatalf("%s is missing: test/setup.sh installs it", argv[0])
	}
	cmd := child(role{Name: "exec", Options: opts, Filtered: filtered}, append([]string{path}, argv[1:]...)...)
	cmd.Dir = dir
	cmd.Env = append(cmd.Env, "HOME="+dir, "TMPDIR="+dir, "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b",
		"GIT_CONFIG_NOSYSTEM=1", "GOTOOLCHAIN=local", "JAVA_TOOL_OPTIONS=")
	return output(cmd)
}

const pythonWork = `
import multiprocessing as mp, multiprocessing.shared_memory as shm, sqlite3, socket, subprocess, sys, threading, http.server, urllib.request, os, time
def square(x): return x * x
def put(q): q.put("queued")
if __name__ == "__main__":
    with mp.Pool(2) as pool: assert pool.map(square, range(4)) == [0, 1, 4, 9]
    q = mp.Queue(); p = mp.Process(target=put, args=(q,)); p.start(); assert q.get() == "queued"; p.join()
    s = shm.SharedMemory(create=True, size=16); s.buf[0] = 1; s.close(); s.unlink()
    db = sqlite3.connect("wal.db"); assert db.execute("pragma journal_mode=wal").fetchone()[0] == "wal"
    db.execute("create table t(x)"); db.execute("insert into t values(1)"); db.commit()
    assert sqlite3.connect("wal.db").execute("select count(*) from t").fetchone()[0] == 1
    assert subprocess.run(["true"]).returncode == 0
    if "network" in sys.argv:
        with mp.Manager() as m: l = m.list([1]); l.append(2); assert list(l) == [1, 2]
        srv = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
        threading.Thread(target=srv.serve_forever, daemon=True).start()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        assert opener.open("http://127.0.0.1:%d/" % srv.server_port).status == 200
        socket.getaddrinfo("localhost", 80)
    print("done")
`

const nodeWork = `
const { Worker, isMainThread } = require("worker_threads");
const { execFileSync, spawn } = require("child_process");
const fs = require("fs"), http = require("http"), crypto = require("crypto"), zlib = require("zlib");
if (!process.argv.includes("offline")) {
  const s = http.createServer((q, r) => r.end("served")).listen(0, "127.0.0.1", () =>
    http.get({ port: s.address().port, host: "127.0.0.1" }, r => { r.resume(); r.on("end", () => s.close()); }));
}
new Worker("require('worker_threads').parentPort.postMessage(require('crypto').pbkdf2Sync('a','b',10,8,'sha1').length)", { eval: true })
  .on("message", n => {
    zlib.gzipSync("x");
    fs.writeFileSync("f", "x"); fs.renameSync("f", "g");
    console.log(String(execFileSync("echo", ["done"])).trim());
  });
`

const gitWork = `set -e
git init -q repo && cd repo
echo a > a && mkdir d && echo b > d/b && chmod +x a
git add . && git commit -qm one
git mv d/b c && git commit -qm two && git stash list && git checkout -qb other && git rebase -q HEAD~1 && git worktree add -q ../tree && git gc -q
git init -q --shared=group ../shared
test -g ../shared/.git/refs
echo done`

const javaWork = `
public class Hello {
    public static void main(String[] a) throws Exception {
        Thread t = new Thread(() -> System.out.print("do")); t.start(); t.join();
        try (var s = new java.net.ServerSocket(0, 1, java.net.InetAddress.getLoopbackAddress())) { s.getLocalPort(); }
        new ProcessBuilder("true").start().waitFor();
        java.nio.file.Files.setLastModifiedTime(java.nio.file.Path.of("Hello.java"), java.nio.file.attribute.FileTime.fromMillis(0));
        System.out.println("ne");
    }
}`

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestToolsWork(t *testing.T) {
	for _, tool := range []struct {
		name string
		opts Options
		argv []string
	}{
		{"python", Options{}, []string{"python3", "work.py", "network"}},
		{"python in fallback", Options{Fallback: true}, []string{"python3", "work.py"}},
		{"node", Options{}, []string{"node", "work.js"}},
		{"node in fallback", Options{Fallback: true}, []string{"node", "work.js", "offline"}},
		{"git", Options{}, []string{"sh", "work.sh"}},
		{"go", Options{}, []string{"sh", "-c", "go version >/dev/null && go env GOROOT >/dev/null && echo done"}},
		{"java", Options{}, []string{"sh", "-c", "javac Hello.java && java Hello"}},
		{"c", Options{}, []string{"sh", "-c", "cc -pthread -o work work.c && ./work"}},
		{"strace for debugging", Options{Devel: true}, []string{"sh", "-c", "strace -fo trace sh -c 'true; true' && grep -q execve trace && echo done"}},
		{"installing", Options{}, []string{"sh", "-c", "touch a && install -m 755 a b && cp -p b c && mkdir -m 2775 s && tar cf t.tar s c && tar xpf t.tar && echo done"}},
	} {
		t.Run(tool.name, func(t *testing.T) {
			t.Parallel()
			if name := needs(tool.argv); name != "" {
				t.Skipf("%s is missing: that it works below the filter is not shown here", name)
			}
			dir := t.TempDir()
			write(t, dir, "work.py", pythonWork)
			write(t, dir, "work.js", nodeWork)
			write(t, dir, "work.sh", gitWork)
			write(t, dir, "Hello.java", javaWork)
			write(t, dir, "work.c", "#include <pthread.h>\n#include <stdio.h>\nvoid*f(void*a){puts(a);return 0;}int main(){pthread_t t;pthread_create(&t,0,f,\"done\");pthread_join(t,0);return 0;}\n")
			if got, err := program(t, tool.opts, true, dir, tool.argv...); err != nil || got != "done\n" {
				t.Errorf("%q, %v, want done", got, err)
			}
		})
	}
}

// needs names a program that argv runs and that is not here.
func needs(argv []string) string {
	for _, name := range []string{"python3", "node", "git", "go", "javac", "cc", "strace"} {
		used := slices.ContainsFunc(strings.Fields(strings.Join(argv, " ")+" "), func(word string) bool { return word == name })
		if _, err := exec.LookPath(name); err != nil && (used || name == "git" && slices.Contains(argv, "work.sh")) {
			return name
		}
	}
	return ""
}

// TestToolsAreRefused holds what the options cost, and that the tests above do not pass because the filter is not there.
func TestToolsAreRefused(t *testing.T) {
	for _, tool := range []struct {
		name string
		opts Options
		argv []string
	}{
		{"a tracer", Options{}, []string{"strace", "-fo", "trace", "true"}},
		{"a namespace", Options{}, []string{"unshare", "-r", "true"}},
		{"a set-user-ID file", Options{}, []string{"install", "-m", "4755", "work.sh", "new"}},
		{"a mode in fallback", Options{Fallback: true}, []string{"chmod", "644", "work.sh"}},
		{"a time in fallback", Options{Fallback: true}, []string{"touch", "-d", "1970-01-01", "work.sh"}},
		{"git in fallback", Options{Fallback: true}, []string{"git", "init", "-q", "repo"}},
		{"a network in fallback", Options{Fallback: true}, []string{"python3", "-c", "import socket; socket.socket()"}},
	} {
		t.Run(tool.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "work.sh", "")
			if got, err := program(t, tool.opts, true, dir, tool.argv...); err == nil {
				t.Errorf("it ran, and printed %q", got)
			}
			if _, err := program(t, tool.opts, false, dir, tool.argv...); err != nil {
				t.Skipf("the control needs %q to work here: %v", tool.argv, err)
			}
		})
	}
}

// TestJobControl plays a shell on a terminal: a job stops, is brought back to the foreground and reads what is typed; another is killed.
func TestJobControl(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal("bash is missing, for its job control")
	}
	for _, opts := range []Options{{}, {Fallback: true}} {
		master, slave, err := openTerminal()
		if err != nil {
			t.Fatal(err)
		}
		cmd := child(role{Name: "exec", Options: opts, Filtered: true}, bash, "--norc", "--noediting", "-i")
		cmd.Dir = t.TempDir()
		cmd.Env = append(cmd.Env, "PS1=", "HISTFILE=")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(master, "stty -echo; sh -c 'kill -STOP $$; echo resu\"\"med; read x; echo got $x'\n") // the job stops itself
		fmt.Fprint(master, "jobs; fg %1\nline\nsleep 100 & kill %%; wait %%; echo status $?\n")
		fmt.Fprint(master, "exit 7\nexit 7\n") // the first only warns if a job is left
		slave.Close()
		var screen bytes.Buffer
		io.Copy(&screen, master) // ends with EIO when nobody has the other end
		master.Close()
		state := cmd.Wait()
		for _, want := range []string{"Stopped", "resumed", "got line", "status 143"} {
			if !strings.Contains(screen.String(), want) {
				t.Errorf("%+v: no %q on the screen:\n%s", opts, want, screen.String())
			}
		}
		if cmd.ProcessState.ExitCode() != 7 {
			t.Errorf("%+v: %v, want status 7", opts, state)
		}
	}
}
