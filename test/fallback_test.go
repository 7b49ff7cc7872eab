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

// TestFallbackProcesses: without a user namespace the kernel counts what the user runs outside, which must not use up the limit.
func TestFallbackProcesses(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("the fallback is for ordinary users")
	}
	s := newSite(t, fallback())
	for range 60 {
		cmd := exec.Command("cat")
		if _, err := cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	}
	fork := func(n int) output {
		return s.run("--pids", "40", "--", "sh", "-c", fmt.Sprintf("for i in $(seq %d); do sleep 60 & done; echo all", n))
	}
	if out := fork(10); out.stdout != "all\n" || out.stderr != "" && strings.Contains(out.stderr, "fork") {
		t.Errorf("10 of 40 processes: %v", out)
	}
	if out := fork(300); !strings.Contains(out.stderr, "fork") {
		t.Errorf("300 of 40 processes: %v", out)
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
