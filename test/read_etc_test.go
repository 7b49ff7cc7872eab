package test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// ofEtc finds an entry of the host's /etc that everybody may read and that the sandbox's own /etc has not.
func ofEtc(t *testing.T, s *site, wanted func(os.FileMode) bool, pattern string) string {
	t.Helper()
	names, _ := filepath.Glob(pattern)
	for _, name := range names {
		st, err := os.Lstat(name)
		if err != nil || !wanted(st.Mode()) || st.Mode().Perm()&0o004 == 0 {
			continue
		}
		if out := s.run("--", "test", "-e", name); out.exit == 1 {
			return name
		}
	}
	t.Skipf("the host's %s has nothing that the sandbox lacks", pattern)
	return ""
}

// TestReadOfEtc: what the policy shows of the host's /etc is seen inside, although the sandbox has an /etc of its own.
func TestReadOfEtc(t *testing.T) {
	namespaced(t, func(t *testing.T, s *site) {
		dir := ofEtc(t, s, os.FileMode.IsDir, "/etc/*")
		file := ofEtc(t, s, os.FileMode.IsRegular, "/etc/*/*")
		out := s.run("--read", dir, "--read", file, "--", "sh", "-c", "ls -A "+dir+" | wc -l; cmp "+file+" "+file+" && wc -c <"+file+"; touch "+dir+"/x "+file+" || echo refused")
		want, err := os.ReadDir(dir)
		if err != nil || out.exit != 0 {
			t.Fatal(err, out)
		}
		st, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Fields(out.stdout)
		if len(got) != 3 || got[0] != strconv.Itoa(len(want)) || got[1] != strconv.Itoa(int(st.Size())) || got[2] != "refused" {
			t.Errorf("%s and %s: %v", dir, file, out)
		}
		if out := s.run("--", "test", "-e", file); out.exit != 1 {
			t.Errorf("%s is there without the line: %v", file, out)
		}
	})
}

// TestReadOfUnreadable: a file that nobody but root may read is refused with the line and a way out, before anything runs.
func TestReadOfUnreadable(t *testing.T) {
	namespaced(t, func(t *testing.T, s *site) {
		out := s.run("--read", "/etc/shadow", "--", "true")
		if out.exit != 125 {
			t.Error(out)
		}
		has(t, "the refusal", out.stderr, "files.read (command line --read): /etc/shadow cannot be read")
		has(t, "the refusal", out.stderr, "leave it out")
	})
}
