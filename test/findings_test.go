package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// kept returns the id of the one sandbox that is kept.
func (s *site) kept(t *testing.T) string {
	t.Helper()
	var rows []struct{ ID, State string }
	if err := json.Unmarshal([]byte(s.do("ps", "-a", "--json").stdout), &rows); err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if r.State == "kept" {
			return r.ID
		}
	}
	t.Fatalf("no sandbox is kept: %v", rows)
	return ""
}

// TestRightsTakenAway: a sandbox that takes every right to its own home, its layer and what is in them away stops neither later runs nor the
// removal. The control is that without help nobody but root could go on.
func TestRightsTakenAway(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		out := s.sh(`echo kept >f; mkdir -p ~/a/b d/e; echo x >~/a/b/c; echo x >d/e/f; chmod 0 ~/a/b ~/a d/e d . ; chmod 0 ~`)
		if out.exit != 0 {
			t.Fatal(out)
		}
		homes, _ := filepath.Glob(filepath.Join(s.State, "casemate", "projects", "*", "home*"))
		closed := false
		for _, h := range homes {
			st, err := os.Stat(h)
			closed = closed || err == nil && st.Mode().Perm() == 0
		}
		if !closed {
			t.Errorf("control: no home is closed: %q", homes)
		}
		if out := s.sh(`test -w ~ && chmod 700 . && cat f && chmod 0 . ~`); out.exit != 0 || out.stdout != "kept\n" {
			t.Errorf("the next run: %v", out)
		}
		if out := s.do("diff"); out.exit > 1 {
			t.Errorf("diff: %v", out)
		}
		if out := s.do("rm", "--home", s.kept(t)); out.exit != 0 {
			t.Errorf("rm --home: %v", out)
		}
		if left, _ := filepath.Glob(filepath.Join(s.State, "casemate", "projects", "*", "home*")); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
		if out := s.run("--", "true"); out.exit != 0 {
			t.Errorf("a new run: %v", out)
		}
	})
}

// TestMountPointInTheWay: whatever a run left where a later one mounts something, the mount is made there, nothing is followed, and nothing hangs.
func TestMountPointInTheWay(t *testing.T) {
	for name, make := range map[string]string{
		"directory": `mkdir -p $p/x; echo mine >$p/x/y`, "file": `echo mine >$p`, "link": `ln -s /etc $p`, "dangling": `ln -s /nowhere $p`,
		"fifo": `mkfifo $p`, "closed": `mkdir -p $p/x; chmod 0 $p/x $p`, "closed-file": `echo mine >$p; chmod 0 $p`,
	} {
		t.Run(name, func(t *testing.T) {
			namespaced(t, func(t *testing.T, s *site) {
				tool := filepath.Join(s.Home, "tool")
				if err := os.MkdirAll(tool, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(tool, "f"), []byte("host's\n"), 0o644); err != nil {
					t.Fatal(err)
				}
				for _, shown := range []struct{ flag, path, in string }{{"~/tool", "~/tool", "tool/f"}, {"~/tool/f", "~/tool/f", "tool/f"}} {
					out := s.sh(`chmod -R u+rwx ~/tool 2>/dev/null; rm -rf ~/tool; mkdir -p ~/tool; rmdir ~/tool; p=` + shown.path + `; case $p in */f) mkdir ~/tool;; esac; ` + make)
					if out.exit != 0 {
						t.Fatal(out)
					}
					out = s.run("--read", shown.flag, "--", "sh", "-c", "cat ~/"+shown.in)
					if out.exit != 0 || out.stdout != "host's\n" {
						t.Errorf("%s: %v", shown.flag, out)
					}
					if out := s.sh(`grep -rs mine ~ || :`); strings.Contains(make, "mine") && !strings.Contains(out.stdout, "mine") && name != "closed-file" {
						t.Errorf("%s: what the sandbox had there is gone: %v", shown.flag, out)
					}
				}
				if st, err := os.Stat("/etc"); err != nil || st.Sys().(*syscall.Stat_t).Uid != 0 {
					t.Errorf("/etc: %v", err)
				}
			})
		})
	}
}
