package test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestGitDataIsHeld keeps what only git's own data has, wherever it lies: a sandbox with a commit that changes no file is no sandbox without changes. One that
// only looked is.
func TestGitDataIsHeld(t *testing.T) {
	needs(t, "git")
	for _, l := range layouts() {
		if l.name != "plain" && l.name != "worktree" && l.name != "submodule" {
			continue
		}
		t.Run(l.name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, s *site) {
				if l.name != "plain" && s.mode.name == "landlock" {
					t.Skip("a git directory outside of the project needs an overlay, which needs namespaces")
				}
				s.repository(t, l)
				s.Work = filepath.Join(s.Work, l.tree)
				s.Accept()
				s.testGitHeld(t)
			})
		})
	}
}

func (s *site) testGitHeld(t *testing.T) {
	s.hostly(t, s.Work, "touch a")
	s.giveAll(s.Work)
	s.says(t, inside+`git status --porcelain; git diff --stat`)
	has(t, "after git has looked", s.do("diff").stderr, "no sandbox holds changes")

	out := s.says(t, inside+`git commit --allow-empty -qm kept`)
	has(t, "after a commit", out.stderr, "casemate: held: git's own data in ")
	has(t, "after a commit", out.stderr, "casemate apply --commit takes the commits; casemate discard throws it away")
	if strings.Contains(out.stderr, "cannot apply it") {
		t.Errorf("it can: %v", out)
	}
	has(t, "diff", s.do("diff").stdout, "casemate apply --commit takes the commits (")
	has(t, "ps -a", s.do("ps", "-a").stdout, "kept")

	out = s.says(t, `echo two >>a; git log -1 --format=%s`)
	has(t, "the next run", out.stdout, "kept")
	has(t, "the next run", out.stderr, "1 file changed (+1 -0) · git's own data in ")
	out = s.do("apply")
	has(t, "apply", out.stdout, "1 applied")
	has(t, "apply", out.stderr, "still held: git's own data in ")
	if got, out := s.applyCommit(t); len(got.Commits) != 1 || out.exit != 0 {
		t.Errorf("the commit is lost: %v", out)
	}
	s.do("discard", "--yes")
	has(t, "after discard", s.do("diff").stderr, "no sandbox holds changes")

	out = s.says(t, inside+`git tag t; git branch b`, "--json")
	has(t, "--json", out.stderr, `"git":3`)
	s.do("discard", "--yes")
}

// says runs a line in a sandbox, with all that casemate has to say of it.
func (s *site) says(t *testing.T, line string, flags ...string) output {
	t.Helper()
	cmd := s.command(slices.Concat([]string{"run"}, flags, []string{"--", "sh", "-c", line})...)
	cmd.Env = s.withTools()
	out := s.finish(cmd)
	if out.exit != 0 {
		t.Errorf("%s: %v", line, out)
	}
	return out
}
