package test

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// commitJSON is what apply --commit --json prints.
type commitJSON struct {
	Branch  string
	Tip     string
	Signed  bool
	Commits []struct{ Hash, Author, Subject string }
	Held    []struct{ Path, Why string }
}

func (s *site) applyCommit(t *testing.T, args ...string) (commitJSON, output) {
	t.Helper()
	out := s.do(append([]string{"apply", "--commit", "--json"}, args...)...)
	var c commitJSON
	if err := json.Unmarshal([]byte(out.stdout), &c); err != nil && out.exit != 125 {
		t.Errorf("%v: %v", err, out)
	}
	return c, out
}

// TestApplyCommit takes commits out: all of what was committed, nothing of what was not, by their authors, onto a branch, with the host's files as
// they were.
func TestApplyCommit(t *testing.T) {
	needs(t, "git")
	for _, l := range layouts() {
		if l.tree != "" {
			continue
		}
		t.Run(l.name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, s *site) {
				if l.name == "worktree" && s.mode.name == "landlock" {
					t.Skip("a git directory outside of the project needs an overlay, which needs namespaces")
				}
				s.repository(t, l)
				s.testApplyCommit(t)
			})
		})
	}
}

func (s *site) testApplyCommit(t *testing.T) {
	none := s.do("apply", "--commit")
	has(t, "without a sandbox", none.stderr, "no sandbox holds changes")
	s.sh("echo only >uncommitted")
	none = s.do("apply", "--commit")
	has(t, "with nothing committed", none.stdout, "no new commits")
	has(t, "with nothing committed", none.stdout, "not committed: 1 file changed (+1 -0)")

	const work = inside + `
export GIT_AUTHOR_DATE="1234567890 +0530"
echo two >>a; git commit -qam "two

with a body — ä"
git checkout -qb side; echo s >s; git add s; git commit -qm side
git checkout -q main; echo m >m; git add m; git commit -qm main
git merge -q side -m merged
git -c i18n.commitEncoding=ISO-8859-1 commit -q --allow-empty -m "$(printf 'latin \344')"
git log -z --format='%an <%ae> %ad %T %s%n%b' --date=raw
`
	before := s.hostState(t)
	inner := s.sh(work)
	if inner.exit != 0 {
		t.Fatal(inner)
	}
	dry, out := s.applyCommit(t, "--dry-run")
	if len(dry.Commits) != 5 || out.exit != 0 || s.hostState(t) != before {
		t.Errorf("dry run: %v", out)
	}
	got, out := s.applyCommit(t)
	if out.exit != 0 || len(got.Commits) != 5 || !strings.HasPrefix(got.Branch, "casemate/") {
		t.Fatalf("apply --commit: %v", out)
	}
	after := strings.Split(s.git(t, "log", "-z", "--format=%an <%ae> %ad %T %s%n%b", "--date=raw", got.Branch), "\x00")
	within := strings.Split(inner.stdout, "\x00")
	slices.Sort(after) // those of one second come in any order
	slices.Sort(within)
	if !slices.Equal(after, within) {
		t.Errorf("on the host\n%q\ninside\n%q", after, within)
	}
	for _, committer := range strings.Split(strings.TrimSpace(s.git(t, "log", "--format=%cn <%ce>", "main.."+got.Branch)), "\n") {
		if committer != "Tess <tess@example.org>" {
			t.Errorf("committer: %s", committer)
		}
	}
	s.git(t, "fsck", "--strict", "--no-dangling")
	s.git(t, "branch", "-D", got.Branch) // the undo it names
	if s.hostState(t) != before {
		t.Errorf("the host's files, index or branches changed")
	}
	again, out := s.applyCommit(t, "agents/work")
	if again.Tip != got.Tip || len(again.Commits) != 0 {
		t.Errorf("the same commits became others: %v", out)
	}
	s.sh(inside + `echo more >>a; git commit -qam more`)
	s.hostly(t, s.Work, "git commit -q --allow-empty -m meanwhile")
	s.giveAll(s.Work)
	more, out := s.applyCommit(t, "agents/work")
	if len(more.Commits) != 1 || strings.TrimSpace(s.git(t, "rev-parse", more.Tip+"~1")) != got.Tip {
		t.Errorf("what followed does not build on what was there: %v", out)
	}
	for name, why := range map[string]string{"main": "checked out", "agents": "in the way", "-x": "no name", "a..b": "no name", "HEAD": "no name", "refs/heads/x": "no name"} {
		if _, out := s.applyCommit(t, "--", name); out.exit != 125 || !strings.Contains(out.stderr, why) {
			t.Errorf("branch %q: %v", name, out)
		}
	}
	s.hostly(t, s.Work, "git branch diverged; git checkout -q diverged; git commit -q --allow-empty -m own; git checkout -q main")
	s.giveAll(s.Work)
	if _, out := s.applyCommit(t, "diverged"); out.exit != 125 || !strings.Contains(out.stderr, "do not build on") {
		t.Errorf("a branch with other commits: %v", out)
	}
}

// hostState is what the project looks like to git on the host.
func (s *site) hostState(t *testing.T) string {
	t.Helper()
	return s.git(t, "status", "--porcelain") + s.git(t, "for-each-ref") + s.git(t, "symbolic-ref", "HEAD") + s.hostly(t, s.Work, treeDigest)
}

// TestApplyCommitSigns has the person's key sign outside, with a project whose config asks for it; inside there is no key, and no signature.
func TestApplyCommitSigns(t *testing.T) {
	needs(t, "git")
	needs(t, "ssh-keygen")
	s := newSite(t, best())
	s.repository(t, layouts()[0])
	s.hostly(t, s.Work, `ssh-keygen -q -t ed25519 -N "" -f ../key; printf 'tess@example.org %s\n' "$(cat ../key.pub)" >../signers
git config gpg.format ssh; git config user.signingkey "$PWD/../key"; git config gpg.ssh.allowedSignersFile "$PWD/../signers"; git config commit.gpgsign true; git config tag.gpgsign true`)
	s.Accept()
	s.works(t, nil, "sh", "-c", `set -e; echo two >>a; git commit -qam two; echo three >>a; git commit -qam three; git tag -a v1 -m v1; git cat-file commit HEAD | grep -q gpgsig && exit 1; echo work-done`)
	got, out := s.applyCommit(t)
	if !got.Signed || len(got.Commits) != 2 {
		t.Fatal(out)
	}
	if signatures := s.git(t, "log", "--format=%G? %s", "main.."+got.Branch); signatures != "G three\nG two\n" {
		t.Errorf("signatures: %q", signatures)
	}
	t.Run("control", func(t *testing.T) { // without our setting the project's config keeps git inside from committing
		out := s.sh(`unset GIT_CONFIG_COUNT; echo four >>a; git commit -qam four`)
		if out.exit == 0 {
			t.Errorf("committed without a key: %v", out)
		}
	})
	t.Run("a key that fails", func(t *testing.T) {
		s.sh(`echo five >>a; git commit -qam five`)
		s.hostly(t, s.Work, "rm ../key ../key.pub")
		before := s.hostState(t)
		if _, out := s.applyCommit(t); out.exit != 125 || s.hostState(t) != before {
			t.Errorf("without the key: %v", out)
		}
	})
}

// TestApplyCommitElsewhere takes commits out of repositories that are not as most are.
func TestApplyCommitElsewhere(t *testing.T) {
	needs(t, "git")
	const commit = inside + `echo x >new; git add new; git commit -qm inside`
	for _, c := range []struct {
		name, build, script string
		want                string // the history of the branch
	}{
		{"without a commit", `git init -q -b main p`, commit, "inside\n"},
		{"shallow", `git init -q -b main m; cd m; for i in 1 2 3; do git commit -q --allow-empty -m $i; done; cd ..; git -c protocol.file.allow=always clone -q --depth 1 "file://$PWD/m" p`, commit, "inside\n3\n"},
		{"with borrowed objects", `git init -q -b main m; git -C m commit -q --allow-empty -m 1; git clone -q --shared m p`, commit, "inside\n1\n"},
		{"a detached HEAD", `git init -q -b main p; cd p; git commit -q --allow-empty -m 1; git checkout -q --detach`, commit, "inside\n1\n"},
		{"a new branch inside", `git init -q -b main p; cd p; git commit -q --allow-empty -m 1`, "git checkout -qb origin/main; " + commit, "inside\n1\n"},
		{"packed refs and objects inside", `git init -q -b main p; cd p; git commit -q --allow-empty -m 1`, commit + "; git pack-refs --all --prune; git gc -q --prune=now", "inside\n1\n"},
		{"a rewritten history", `git init -q -b main p; cd p; for i in 1 2 3; do git commit -q --allow-empty -m $i; done`, "git reset -q --hard HEAD~1; " + commit, "inside\n2\n1\n"},
		{"bare", `git init -q -b main m; git -C m commit -q --allow-empty -m 1; git clone -q --bare m p`, inside + `git update-ref refs/heads/main $(git commit-tree -p HEAD -m inside HEAD^{tree})`, "inside\n1\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, s *site) {
				s.repository(t, layout{build: c.build})
				if c.name == "with borrowed objects" { // which are not visible inside unless somebody says so
					s.mode.flags = append(s.mode.flags, "--read", filepath.Join(filepath.Dir(s.Work), "m"))
				}
				if out := s.sh(c.script); out.exit != 0 {
					t.Fatal(out)
				}
				got, out := s.applyCommit(t, "out/b")
				if out.exit != 0 {
					t.Fatal(out)
				}
				if history := s.git(t, "log", "--format=%s", got.Branch); history != c.want {
					t.Errorf("history %q, want %q", history, c.want)
				}
				s.git(t, "fsck", "--strict", "--no-dangling")
			})
		})
	}
}

// TestApplyCommitOfARunningSandbox takes what is committed so far.
func TestApplyCommitOfARunningSandbox(t *testing.T) {
	needs(t, "git")
	namespaced(t, func(t *testing.T, s *site) {
		s.repository(t, layouts()[0])
		cmd := s.command("run", "--", "sh", "-c", inside+`echo x >>a; git commit -qam one; echo committed; read line; echo y >>a; git commit -qam two`)
		in, out := begin(t, cmd)
		line := make([]byte, len("committed\n"))
		if _, err := io.ReadFull(out, line); err != nil {
			t.Error(err)
		}
		if got, out := s.applyCommit(t); len(got.Commits) != 1 {
			t.Errorf("while it runs: %v", out)
		}
		fmt.Fprintln(in)
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		got, _ := s.applyCommit(t)
		if history := s.git(t, "log", "--format=%s", got.Branch); history != "two\none\nsecond\nfirst\n" {
			t.Errorf("history %q", history)
		}
	})
}

// TestCommitsNeedConsent takes protected changes after a word, and asks again only for what is new.
func TestCommitsNeedConsent(t *testing.T) {
	needs(t, "git")
	eachMode(t, func(t *testing.T, s *site) {
		s.repository(t, layouts()[0])
		s.sh(inside + `mkdir .husky; echo x >.husky/pre-commit; echo all: >Makefile; git add .; git commit -qm hook`)
		if out := s.do("apply", "--commit", "b"); out.exit != 1 || strings.Contains(s.git(t, "branch"), " b\n") {
			t.Errorf("without a word: %v", out)
		}
		if out := s.do("apply", "--commit", "--with-protected", "b"); out.exit != 1 || !strings.Contains(out.stderr, "no terminal to ask on") {
			t.Errorf("with nobody to ask: %v", out)
		}
		if out := s.do("apply", "--commit", "--with-protected", "--yes", "b"); out.exit != 0 {
			t.Errorf("with a word: %v", out)
		}
		s.sh(inside + `echo y >>a; git commit -qam more`)
		if out := s.do("apply", "--commit", "b"); out.exit != 0 {
			t.Errorf("what follows: %v", out)
		}
		s.sh(inside + `echo y >>.husky/pre-commit; git commit -qam again`)
		if out := s.do("apply", "--commit", "b"); out.exit != 1 {
			t.Errorf("another change of it: %v", out)
		}
		if got := s.git(t, "log", "--format=%s", "b"); got != "more\nhook\nsecond\nfirst\n" {
			t.Errorf("the branch: %q", got)
		}
	})
}

// TestApplyCommitOfManyCommits is one transfer of a long history.
func TestApplyCommitOfManyCommits(t *testing.T) {
	needs(t, "git")
	s := newSite(t, best())
	s.repository(t, layouts()[0])
	const n = 200
	if out := s.sh(inside + fmt.Sprintf(`for i in $(seq %d); do echo $i >>a; git commit -qam $i; done; git gc -q`, n)); out.exit != 0 {
		t.Fatal(out)
	}
	got, out := s.applyCommit(t)
	if len(got.Commits) != n {
		t.Fatal(out)
	}
	if count := strings.TrimSpace(s.git(t, "rev-list", "--count", "main.."+got.Branch)); count != fmt.Sprint(n) {
		t.Errorf("%s commits", count)
	}
}
