package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLinksOutAreNamed names the symlinks that a run left on the host and that lead out of the project: those that are new, and however many there are.
func TestLinksOutAreNamed(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		if s.mode.name == "landlock" {
			t.Skip("nothing is written through without namespaces")
		}
		s.put("gen/deep/one/file", "x", 0o644)
		s.hostly(t, s.Work, `cd gen; ln -s /etc/hostname old; ln -s ../../../in deep/one/moved; ln -s ../in turned`)
		s.giveAll(s.Work)
		s.Accept()

		out := s.says(t, `cd gen; ln -s ../in inside; ln -s file deep/one/beside; echo x >new`, "--write", "gen")
		if strings.Contains(out.stderr, "leads out") {
			t.Errorf("none leads out: %v", out)
		}
		out = s.says(t, `cd gen; ln -s /etc/passwd lnk; ln -s ../../home/.ssh l2; ln -s "$(printf '/tmp/\033[31m\n.')" "$(printf 'e\033[2J')"; mv deep/one one; ln -sf /etc turned`, "--write", "gen")
		if to, err := os.Readlink(filepath.Join(s.Work, "gen", "lnk")); to != "/etc/passwd" {
			t.Fatalf("control: the link is not on the host: %q, %v", to, err)
		}
		for _, said := range []string{
			"the link gen/lnk appeared in the project and leads out of it, to /etc/passwd\n", "gen/l2 appeared in the project and leads out of it, to ../../home/.ssh\n",
			`to "/tmp/\033[31m\n."`, "gen/one/moved appeared", "gen/turned appeared",
		} {
			has(t, "at exit", out.stderr, said)
		}
		if strings.Contains(out.stderr, "\x1b") || strings.Contains(out.stderr, "gen/old") || strings.Contains(out.stderr, "gen/inside") {
			t.Errorf("too much: %v", out)
		}
		out = s.says(t, `cd gen; for i in $(seq 300); do ln -s / many$i; done`, "--write", "gen")
		has(t, "of many", out.stderr, "and 280 more such links")
		has(t, "--json", s.says(t, `ln -s / gen/json`, "--write", "gen", "--json").stderr, `"links":{"list":[{"path":"gen/json","target":"/"}]}`)
	})
}
