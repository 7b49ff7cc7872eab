package test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// layout is a repository as people have them: how it is made, and where in the project the working tree lies that the test is about.
type layout struct{ name, build, tree string }

// layouts each make the directory p with a tracked secret, on branch main.
func layouts() []layout {
	const fill = `echo one >a; echo PRIVATE >.env; mkdir -p certs; echo PRIVATE >certs/server.pem; git add -f .; git commit -qm first; git commit -q --allow-empty -m second; `
	return []layout{
		{"plain", `git init -q -b main p; cd p; ` + fill, ""},
		{"sha256", `git init -q -b main --object-format=sha256 p; cd p; ` + fill, ""},
		{"index version 4", `git init -q -b main p; cd p; git config index.version 4; git config core.untrackedCache true; ` + fill, ""},
		{"packed", `git init -q -b main p; cd p; ` + fill + `git gc -q; git pack-refs --all`, ""},
		{"submodule", `git init -q -b main m; cd m; ` + fill + `cd ..; git init -q -b main p; cd p; echo top >top; git -c protocol.file.allow=always submodule --quiet add ../m sub; git add .; git commit -qm top; git -C sub checkout -q main; cd ..; rm -rf m`, "sub"},
		{"worktree", `git init -q -b other m; cd m; git commit -q --allow-empty -m zero; git worktree add -q -b main ../p; cd ../p; ` + fill, ""},
	}
}

const identity = "[user]\n\tname = Tess\n\temail = tess@example.org\n[safe]\n\tdirectory = *\n"

// repository makes the project such a repository.
func (s *site) repository(t *testing.T, l layout) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.Home, ".gitconfig"), []byte(identity), 0o644); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(s.Dir, "repository") // a site may have several, one after the other
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s.hostly(t, dir, l.build)
	s.Work = filepath.Join(dir, "p")
	s.giveAll(dir)
	s.Accept()
}

// inside is how every script inside begins: an identity of its own, as the fallback imports none.
const inside = `set -eu
export GIT_AUTHOR_NAME=Agent GIT_AUTHOR_EMAIL=agent@example.org GIT_COMMITTER_NAME=Agent GIT_COMMITTER_EMAIL=agent@example.org
clean() { [ -z "$(git status --porcelain)" ] || { git status; echo "not clean: $*"; exit 1; }; }
`

// TestGitHiddenTracked does with git inside what would commit a deletion of hidden files if git took them for deleted.
func TestGitHiddenTracked(t *testing.T) {
	needs(t, "git")
	const work = inside + `
for f in .env certs/server.pem; do [ ! -e $f ] || { echo "$f is there"; exit 1; }; done
clean at the start
echo x >>a
git commit -qam one
clean after commit -a
echo x >new
git add -A
git commit -qm two
clean after add -A
echo x >>a
git stash -q
clean after stash
git stash pop -q
git commit -qam three
git reset -q --hard HEAD
git checkout -q -- .
git checkout -q .
git restore .
clean after reset and checkout
git checkout -qb side HEAD~1
echo s >s
git add .
git commit -qm side
git rebase -q main
clean after rebase
git switch -q main
git merge -q --no-edit side
git reset -q --soft HEAD~1
git commit -qm four
git reset -q --mixed HEAD~1
git add --all
git commit -qam five
clean after resets
git cherry-pick --allow-empty HEAD~2 >/dev/null 2>&1 || git cherry-pick --abort >/dev/null 2>&1 || true
git rm -q new
git commit -qm six
clean after rm
[ "$(git ls-tree -r --name-only HEAD | grep -c -e '^.env$' -e '^certs/server.pem$')" = 2 ]
if git log --all --name-status --format= | grep -e '^D.*env' -e '^D.*pem'; then exit 1; fi
echo work-done
`
	for _, l := range layouts() {
		t.Run(l.name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, s *site) {
				if l.name == "worktree" && s.mode.name == "landlock" {
					t.Skip("a git directory outside of the project needs an overlay, which needs namespaces")
				}
				s.repository(t, l)
				out := s.sh("cd ./" + l.tree + "\n" + work)
				has(t, "inside", out.stdout, "work-done\n")
				has(t, "the start", out.stderr, ".env is hidden but git tracks it")
				s.unchanged(t)
				names := s.do("diff", "--name-only")
				for _, bad := range []string{".env", "server.pem", "index"} {
					hasNot(t, "diff", names.stdout, bad)
				}
				if l.tree != "" {
					return
				}
				if out := s.do("apply", "--commit", "from-sandbox"); out.exit != 0 {
					t.Errorf("apply --commit: %v", out)
				}
				has(t, "the branch", s.git(t, "ls-tree", "-r", "--name-only", "from-sandbox"), ".env\na\ncerts/server.pem\n")
				hasNot(t, "the branch", s.git(t, "log", "--name-status", "--format=", "from-sandbox"), "D\t.env")
			})
		})
	}
	t.Run("control", func(t *testing.T) { // without the bits git does commit the deletion
		namespaced(t, func(t *testing.T, s *site) {
			s.repository(t, layouts()[0])
			s.run("--", "sh", "-c", inside+`git ls-files -z | git update-index -z --no-skip-worktree --stdin; echo x >>a; git commit -qam deleted`)
			out := s.do("apply", "--commit")
			if out.exit != 1 {
				t.Errorf("apply --commit of a deletion: %v", out)
			}
			has(t, "apply --commit", out.stdout, "held     .env: the host's own is hidden from the sandbox")
			hasNot(t, "the host's branches", s.git(t, "branch", "--list"), "casemate")
		})
	})
}

// TestGitHiddenTrackedKept goes on with a layer: the index of ours follows the host's, and is no change of the sandbox's.
func TestGitHiddenTrackedKept(t *testing.T) {
	needs(t, "git")
	namespaced(t, func(t *testing.T, s *site) {
		s.repository(t, layouts()[0])
		if out := s.sh("true"); out.exit != 0 {
			t.Error(out)
		}
		if out := s.do("diff"); !strings.Contains(out.stderr, "no sandbox holds changes") {
			t.Errorf("a run that changed nothing left: %v", out)
		}
		s.sh("echo kept >untracked")
		s.hostly(t, s.Work, "echo two >b; git add b; git commit -qm 'on the host'")
		s.giveAll(s.Work)
		out := s.run("--", "sh", "-c", inside+"git status --porcelain; git log -1 --format=%s")
		if out.stdout != "?? untracked\non the host\n" {
			t.Errorf("after a commit on the host: %v", out)
		}
		s.sh(inside + "git add b untracked; git commit -qm mine")
		out = s.run("--", "sh", "-c", inside+"git status --porcelain; rm -f .git/index; git reset -q; echo reset")
		has(t, "with an index of its own", out.stdout, "reset")
		out = s.run("--", "sh", "-c", inside+"clean at the next start")
		if out.exit != 0 {
			t.Errorf("an index that was made without the bits gets them at the next start: %v", out)
		}
	})
}

// TestGitHiddenTrackedMirrored commits on the host while a sandbox runs: the index that is mirrored in has the bits too.
func TestGitHiddenTrackedMirrored(t *testing.T) {
	needs(t, "git")
	namespaced(t, func(t *testing.T, s *site) {
		s.repository(t, layouts()[0])
		cmd := s.command("run", "--", "sh", "-c", inside+`echo ready; read line; n=0; until [ "$(git log -1 --format=%s)" = outside ] && [ -e b ]; do n=$((n+1)); [ $n -lt 200 ]; sleep 0.1; done
n=0; until [ -n "$(git ls-files b)" ]; do n=$((n+1)); [ $n -lt 100 ] || { git status; exit 1; }; sleep 0.1; done
clean with the index of the host; git ls-files -v .env; echo x >>a; git commit -qam inside; git show --name-status --format=`)
		in, out := begin(t, cmd)
		if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
			t.Error(err)
		}
		s.hostly(t, s.Work, "echo b >b; git add b; git commit -qm outside")
		s.giveAll(s.Work)
		fmt.Fprintln(in)
		rest, err := io.ReadAll(out)
		if err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil || string(rest) != "S .env\nM\ta\n" {
			t.Errorf("%v: %s", err, rest)
		}
	})
}

// TestGitSplitIndex says what it cannot do.
func TestGitSplitIndex(t *testing.T) {
	needs(t, "git")
	namespaced(t, func(t *testing.T, s *site) {
		s.repository(t, layout{build: `git init -q -b main p; cd p; echo PRIVATE >.env; git add -f .env; git commit -qm one; git update-index --split-index`})
		out := s.sh("true")
		has(t, "the start", out.stderr, "git update-index --no-split-index")
	})
}

// TestGitPush is answered at once, with the way that works. A remote on a visible path works.
func TestGitPush(t *testing.T) {
	needs(t, "git")
	namespaced(t, func(t *testing.T, s *site) {
		s.repository(t, layout{build: `git init -q -b main p; cd p; echo a >a; git add .; git commit -qm one; git init -q --bare local.git
for u in https://example.org/o/r%20x.git http://u:p@example.org/r ssh://git@example.org/r git@example.org:o/r.git git://example.org/r; do git remote add r$((n = ${n:-0} + 1)) $u; done; git remote add local ./local.git`})
		out := s.sh(`for r in 1 2 3 4 5; do git push r$r main && exit 9; git push --force --tags r$r && exit 9; done; git remote get-url r1; git push -q local main && git -C local.git log --format=%s main`)
		if out.exit != 0 || out.stdout != "https://example.org/o/r%20x.git\none\n" {
			t.Error(out)
		}
		if n := strings.Count(out.stderr, "commits are kept; review, then: casemate apply --commit && git push\n"); n != 10 {
			t.Errorf("%d answers of 10: %v", n, out)
		}
		hasNot(t, "git", out.stderr, "fatal:")
	})
}
