package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestFallbackOwnFiles: modes and times of the sandbox's own files can be changed as anywhere, though the fallback's supervisor does it.
func TestFallbackOwnFiles(t *testing.T) {
	needs(t, "python3")
	if os.Getuid() == 0 {
		t.Skip("the fallback is for ordinary users")
	}
	s := newSite(t, fallback())
	s.script("metadata.py")
	s.Accept()
	s.works(t, nil, "python3", "work/metadata.py", "calls")
	s.works(t, []string{"--workspace", "none", "--read", filepath.Join(s.Work, "work")}, "python3", filepath.Join(s.Work, "work", "metadata.py"), "calls")
	s.unchanged(t)
}

// TestFallbackWork does what of TestFiles and TestPython needs neither sockets nor memory that is shared by name.
func TestFallbackWork(t *testing.T) {
	needs(t, "python3")
	if os.Getuid() == 0 {
		t.Skip("the fallback is for ordinary users")
	}
	s := newSite(t, fallback())
	s.script("files.py")
	s.script("python.py")
	s.hostly(t, s.Work, `python3 -c 'import sqlite3; d = sqlite3.connect("host.db"); d.execute("CREATE TABLE t (who TEXT, i INTEGER)"); d.executemany("INSERT INTO t VALUES (?, ?)", [("host", i) for i in range(3)]); d.commit()'`)
	s.Accept()
	for _, name := range []string{"locks", "maps", "events", "links", "symlinks", "sparse", "fifos", "metadata", "replace", "copies"} {
		t.Run(name, func(t *testing.T) { s.works(t, nil, "python3", "work/files.py", name) })
	}
	for _, name := range []string{"threads", "processes", "sqlite_of_the_host", "sqlite_new"} {
		t.Run(name, func(t *testing.T) { s.works(t, nil, "python3", "work/python.py", name) })
	}
	s.unchanged(t)
}

// listening runs a program below a filter that has a listener, as some containers do. The kernel gives one to a process and its children.
const listening = `import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
allow = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7fff0000))
prog = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", 1, ctypes.addressof(allow)))
assert libc.prctl(38, 1, 0, 0, 0) == 0
fd = libc.syscall({"x86_64": 317, "aarch64": 277}[os.uname().machine], 1, 8, prog)
assert fd >= 0, os.strerror(ctypes.get_errno())
os.set_inheritable(fd, True)
os.execvp(sys.argv[1], sys.argv[1:])`

// TestFallbackUntold: where another listener has the calls, modes and times are refused, the plan says so, and the rest works.
func TestFallbackUntold(t *testing.T) {
	needs(t, "python3")
	if os.Getuid() == 0 {
		t.Skip("the fallback is for ordinary users")
	}
	s := newSite(t, fallback())
	below := func(args ...string) output {
		inner := s.command(args...)
		cmd := exec.Command("python3", append([]string{"-c", listening}, inner.Args...)...)
		cmd.Dir, cmd.Env = inner.Dir, inner.Env
		return s.finish(cmd)
	}
	line := "echo x >new && ! chmod 600 new && ! touch -d 1970-01-01 new && cat new"
	if out := below("run", "--", "sh", "-c", line); out.exit != 0 || out.stdout != "x\n" || strings.Count(out.stderr, "not permitted") != 2 || !strings.Contains(out.stderr, "listens to our system calls") {
		t.Errorf("%v", out)
	}
	has(t, "the plan", below("plan", "--", "true").stdout, "modes and times of files cannot be changed inside")
	if out := s.run("--", "sh", "-c", strings.ReplaceAll(line, "!", "")); out.exit != 0 { // the control
		t.Errorf("without another listener: %v", out)
	}
}

// TestFallbackProcesses: without a user namespace the kernel counts what the user runs outside, which must not use up the limit.
func TestFallbackProcesses(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("the fallback is for ordinary users")
	}
	s := newSite(t, fallback())
	for range 150 {
		cmd := exec.Command("cat")
		if _, err := cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	}
	fork := func(n int) output { // far from the limit: others of this user come and go
		return s.run("--pids", "100", "--", "sh", "-c", fmt.Sprintf("for i in $(seq %d); do sleep 60 & done; echo all", n))
	}
	if out := fork(10); out.stdout != "all\n" || out.stderr != "" && strings.Contains(out.stderr, "fork") {
		t.Errorf("10 of 100 processes: %v", out)
	}
	if out := fork(500); !strings.Contains(out.stderr, "fork") {
		t.Errorf("500 of 100 processes: %v", out)
	}
}

// TestFallbackReadOnlyFiles: what the user owns and lets the sandbox read cannot be changed by any name or descriptor.
func TestFallbackReadOnlyFiles(t *testing.T) {
	needs(t, "python3")
	eachMode(t, func(t *testing.T, s *site) {
		s.script("metadata.py")
		s.put("../shown/file", "read me\n", 0o644)
		s.Accept()
		file := filepath.Join(s.Dir, "shown", "file")
		s.works(t, []string{"--read", filepath.Dir(file)}, "python3", "work/metadata.py", "outside", file)
		s.unchanged(t)
		t.Run("control", func(t *testing.T) {
			cmd := exec.Command("python3", filepath.Join("work", "metadata.py"), "outside", file)
			cmd.Dir = s.Work
			if out, err := cmd.CombinedOutput(); err == nil {
				t.Errorf("outside nothing went through either: %s", out)
			}
		})
	})
}
