package test

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
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

// planted is what git executes if it obeys a repository that the sandbox wrote. MARK is the program that leaves a mark.
const planted = `
git config core.fsmonitor MARK
git config core.pager MARK
git config core.sshCommand MARK
git config diff.external MARK
git config diff.x.textconv MARK
git config diff.x.command MARK
git config filter.x.clean MARK
git config filter.x.smudge MARK
git config filter.x.process MARK
git config gpg.program MARK
git config gpg.x509.program MARK
git config gpg.ssh.program MARK
git config commit.gpgsign true
git config log.showSignature true
git config alias.status '!MARK'
git config alias.log '!MARK'
git config include.path MARKDIR/more
git config core.hooksPath MARKDIR/hooks
git config core.attributesFile MARKDIR/attributes
git config uploadpack.packObjectsHook MARK
git config core.alternateRefsCommand MARK
git config credential.helper '!MARK'
git config remote.origin.uploadpack MARK
mkdir -p .git/info .git/hooks
echo '* filter=x diff=x' >.git/info/attributes
for h in post-checkout post-commit post-index-change pre-auto-gc reference-transaction post-rewrite pre-push update post-merge; do cp MARK .git/hooks/$h; done
`

// TestGitOnTheHostRunsNothingOfTheSandbox plants in the layer's repository all that git obeys, applies, and then uses git on the host.
func TestGitOnTheHostRunsNothingOfTheSandbox(t *testing.T) {
	needs(t, "git")
	const use = `git status; git log -p --all -2; git diff HEAD~1; git show --stat; git stash list; git branch -a; git add a; git fsck; git checkout -q -- a; git commit -q --allow-empty -m own`
	namespaced(t, func(t *testing.T, s *site) {
		s.repository(t, layouts()[0])
		dir := filepath.Join(s.Dir, "planted")
		mark := filepath.Join(dir, "mark")
		plant := strings.NewReplacer("MARKDIR", dir, "MARK", mark).Replace(planted)
		s.hostly(t, s.Dir, `mkdir -p planted/hooks; printf '#!/bin/sh\ntouch `+dir+`/pwned\ncat\n' >planted/mark; chmod 755 planted planted/mark; echo '* filter=x diff=x' >planted/attributes; chmod 777 planted
for h in post-checkout post-commit post-index-change reference-transaction; do cp planted/mark planted/hooks/$h; done; printf '[core]\n\tfsmonitor = `+mark+`\n' >planted/more`)
		pwned := filepath.Join(dir, "pwned")
		out := s.run("--", "sh", "-c", inside+`echo two >>a; git commit -qam two; echo three >>a; git commit -qam three
git replace HEAD HEAD~1
mkdir -p .git/info .git/objects/info; echo "$(git rev-parse HEAD)" >.git/info/grafts; echo `+dir+` >.git/objects/info/alternates
head=$(git rev-parse HEAD)
`+strings.ReplaceAll(plant, "cp "+mark, "printf '#!/bin/sh\\ntouch "+pwned+"\\n' >")+`
git config core.worktree /
chmod 755 .git/hooks/*
printf '[submodule "x"]\n\tpath = x\n\turl = ext::`+mark+`\n' >.gitmodules
echo '* filter=x diff=x' >.gitattributes
echo done`)
		has(t, "planting", out.stdout+out.stderr, "done")
		t.Log(s.do("apply", "--dry-run"))
		s.do("apply")
		got, out := s.applyCommit(t)
		if out.exit != 0 || len(got.Commits) != 2 {
			t.Errorf("apply --commit: %v", out)
		}
		s.giveAll(s.Work)
		s.hostly(t, s.Work, use)
		s.hostly(t, s.Work, "git merge -q "+got.Branch+"; git checkout -q "+got.Branch)
		if _, err := os.Lstat(pwned); err == nil {
			t.Error("git on the host executed what the sandbox planted")
		}
		for _, bad := range []string{".git/info/grafts", ".git/objects/info/alternates", ".git/info/attributes", ".git/hooks/post-checkout", ".gitattributes", ".gitmodules"} {
			if _, err := os.Lstat(filepath.Join(s.Work, bad)); err == nil {
				t.Errorf("%s reached the host", bad)
			}
		}
		hasNot(t, "the host's config", read(t, filepath.Join(s.Work, ".git", "config")), mark)
		t.Run("control", func(t *testing.T) { // the same, planted on the host, is executed
			s.hostly(t, s.Work, plant+"\nchmod 755 .git/hooks/*; git status || true")
			if _, err := os.Lstat(pwned); err != nil {
				t.Error("git executed nothing: the attack proves nothing")
			}
		})
	})
}

// object writes an object of any content inside, and prints its hash.
const object = `obj() { git hash-object -t "$1" -w --literally --stdin; }
tree() { python3 -c '
import sys, binascii
for a in sys.argv[1:]:
    mode, name, oid = a.split(" ", 2)
    sys.stdout.buffer.write(mode.encode() + b" " + name.encode("utf-8", "surrogateescape") + b"\0" + binascii.unhexlify(oid))
' "$@" | obj tree; }
commit() { printf 'tree %s\nparent %s\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nhostile\n' "$1" "$(git rev-parse HEAD)" | obj commit; }
blob=$(echo payload | obj blob)
take() { git update-ref refs/heads/main "$(commit "$1")"; }
loose() { echo .git/objects/$(echo $1 | cut -c1-2)/$(echo $1 | cut -c3-); }
`

// TestHostileCommits makes commits that no honest git makes. None of them reaches the host, and nothing else does.
func TestHostileCommits(t *testing.T) {
	needs(t, "git")
	needs(t, "python3")
	s := newSite(t, best())
	for _, c := range []struct{ name, script, says string }{
		{"a path into .git", `take $(tree "40000 .git $(tree "40000 hooks $(tree "100755 post-checkout $blob")")")`, "hasDotgit"},
		{".git in capitals", `take $(tree "40000 .GIT $(tree "100644 config $blob")")`, "hasDotgit"},
		{".git as Windows has it", `take $(tree "40000 git~1 $(tree "100644 config $blob")")`, "hasDotgit"},
		{".git with a letter that HFS+ ignores", `take $(tree "40000 $(printf '.g\342\200\214it') $(tree "100644 config $blob")")`, "hasDotgit"},
		{"a path upwards", `take $(tree "40000 .. $(tree "100644 x $blob")")`, "hasDotdot"},
		{"a slash in a name", `take $(tree "100644 a/../../x $blob")`, "fullPathname"},
		{"the same name twice", `take $(tree "100644 a $blob" "100644 a $blob")`, "contains duplicate file entries"},
		{"a submodule whose address is an option", `m=$(printf '[submodule "x"]\n\tpath = x\n\turl = -u./payload\n' | obj blob); take $(tree "100644 .gitmodules $m" "160000 x $(git rev-parse HEAD)")`, "gitmodulesUrl"},
		{".gitmodules as a link", `take $(tree "120000 .gitmodules $(printf a | obj blob)")`, "gitmodulesSymlink"},
		{"a blob that is not what its name says", `f=$(loose $blob); t=$(tree "100644 x $blob"); o=$(echo other | obj blob); chmod u+w $f; cat $(loose $o) >$f; take $t`, ""},
		{"another tree under the name of the host's", `h=$(git rev-parse HEAD^{tree}); o=$(tree "100644 forged $blob"); mkdir -p $(dirname $(loose $h)); rm -f $(loose $h); cat $(loose $o) >$(loose $h); git update-ref refs/heads/main $(commit $h)`, "ok"},
		{"a missing tree", `t=$(tree "100644 x $blob"); take $t; rm -f $(loose $t)`, "not complete"},
		{"a missing blob", `t=$(tree "100644 x $blob"); take $t; rm -f $(loose $blob)`, "not complete"},
		{"no object at all", `t=$(tree "100644 x $blob"); take $t; printf garbage >/tmp/g; f=$(loose $(git rev-parse main)); chmod u+w $f; cat /tmp/g >$f`, "not complete"},
		{"HEAD that leads out", `printf 'ref: refs/heads/../../../../../etc/passwd\n' >.git/HEAD`, "no branch"},
		{"HEAD of garbage", `printf 'ref: refs/heads/main\033[2J\n' >.git/HEAD`, "no branch"},
		{"a branch that is a link", `git commit -q --allow-empty -m x; rm .git/refs/heads/main; ln -s /etc/passwd .git/refs/heads/main`, ""},
		{"a branch that is a fifo", `git commit -q --allow-empty -m x; rm .git/refs/heads/main; mkfifo .git/refs/heads/main`, ""},
		{"objects that are links", `git commit -q --allow-empty -m x; f=$(loose $(git rev-parse HEAD)); rm -f $f; ln -s /etc/passwd $f`, "not complete"},
		{"an objects directory that is a link", `git commit -q --allow-empty -m x; mv .git/objects .git/o; ln -s o .git/objects`, ""},
		{"a pack whose index lies", `git commit -q --allow-empty -m x; git repack -q -a -d 2>/dev/null; for i in .git/objects/pack/*.idx; do chmod u+w $i; printf 'garbage' | dd of=$i bs=1 seek=1100 conv=notrunc 2>/dev/null; done`, "ok"},
		{"a pack of garbage", `git commit -q --allow-empty -m x; mkdir -p .git/objects/pack; echo PACKgarbage >.git/objects/pack/pack-0123456789012345678901234567890123456789.pack`, ""},
		{"a pack that is huge and sparse", `git commit -q --allow-empty -m x; mkdir -p .git/objects/pack; truncate -s 5G .git/objects/pack/pack-0123456789012345678901234567890123456789.pack`, "more than"},
		{"a message with a NUL", `printf 'tree %s\nparent %s\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\na\0b\n' $(git rev-parse HEAD^{tree}) $(git rev-parse HEAD) | obj commit >/tmp/c; git update-ref refs/heads/main $(cat /tmp/c)`, ""},
		{"an author with a line end", `printf 'tree %s\nparent %s\nauthor A <a@b> 1 +0000\nauthor B <b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nx\n' $(git rev-parse HEAD^{tree}) $(git rev-parse HEAD) | obj commit >/tmp/c; git update-ref refs/heads/main $(cat /tmp/c)`, ""},
		{"an encoding that is an option", `printf 'tree %s\nparent %s\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\nencoding x y=z\n\nx\n' $(git rev-parse HEAD^{tree}) $(git rev-parse HEAD) | obj commit >/tmp/c; git update-ref refs/heads/main $(cat /tmp/c)`, ""},
		{"another kind of hash", `rm -rf .git; git init -q -b main --object-format=sha256; git commit -q --allow-empty -m x`, "hashes of 64 digits"},
		{"a hidden file", `printf 'SEEN=1\n' >/tmp/e; git update-index --cacheinfo 100644,$(git hash-object -w /tmp/e),.env; git commit -qm env`, "hidden from the sandbox"},
		{"a protected file", `mkdir .husky; echo x >.husky/pre-commit; git add .; git commit -qm hook`, "it would run on your machine"},
		{"a protected file that was taken back", `mkdir .husky; echo x >.husky/pre-commit; git add .; git commit -qm hook; git rm -qr .husky; git commit -qm back`, "it would run on your machine"},
		{"a protected file in a merge", `git checkout -qb s; git commit -q --allow-empty -m s; git checkout -q main; git commit -q --allow-empty -m m; git merge -q --no-commit s; mkdir .husky; echo x >.husky/pre-commit; git add .; git commit -qm evil`, "it would run on your machine"},
		{"more paths than fit into memory", `t=$(tree "100644 x $blob"); for i in 1 2 3 4 5 6 7 8; do t=$(tree "40000 a $t" "40000 b $t" "40000 c $t" "40000 d $t" "40000 e $t" "40000 f $t" "40000 g $t" "40000 h $t" "40000 i $t" "40000 j $t"); done; take $t`, "MiB of memory"},
		{"a repository laid in plain files, in two places", `mkdir -p d; echo ref >d/HEAD; echo ../e >d/commondir; git add .; git commit -qm bare`, "held     d/commondir"},
		{"a submodule", `git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),sub; git commit -qm sub`, "it would run on your machine"},
		{"a link in the place of .github", `mkdir w; ln -s w .github; mkdir w/workflows; echo x >w/workflows/ci.yml; git add .; git commit -qm link`, "held     w/workflows/ci.yml"},
		{"a link out of the project", `ln -s /etc/passwd l; git add .; git commit -qm link`, "points out of the project"},
		{"a repository laid in plain files", `mkdir -p d/objects d/refs; echo ref >d/HEAD; echo x >d/config; echo x >d/objects/x; echo x >d/refs/x; git add .; git commit -qm bare`, "held     d/config"},
		{"a name that speaks to the terminal", `printf x >"$(printf 'a\033[2Jb')"; git add .; git commit -qm "$(printf 'evil \033[2J \342\200\213')"`, "ok"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.t = t
			s.repository(t, layouts()[0])
			before, objects := s.hostState(t), s.hostly(t, s.Work, "find .git -type f -not -name index | sort")
			in := s.sh(inside + object + c.script + "\necho planted")
			has(t, "inside", in.stdout, "planted")
			out := s.do("apply", "--commit", "b")
			hasNot(t, "what is printed", out.stdout+out.stderr, "\033[2J")
			hasNot(t, "what is printed", out.stdout+out.stderr, "\u200b")
			if c.says == "ok" {
				if out.exit != 0 {
					t.Errorf("apply --commit: %v", out)
				}
				s.git(t, "fsck", "--strict", "--no-dangling")
				hasNot(t, "the branch", s.git(t, "ls-tree", "-r", "--name-only", "b"), "forged")
				return
			}
			if out.exit != 125 && out.exit != 1 && !(c.says == "" && strings.Contains(out.stdout, "no new commits")) {
				t.Errorf("apply --commit: %v", out)
			}
			has(t, "apply --commit", out.stdout+out.stderr, c.says)
			if after := s.hostState(t); after != before {
				t.Errorf("the host was\n%s\nand is\n%s", before, after)
			}
			if after := s.hostly(t, s.Work, "find .git -type f -not -name index | sort"); after != objects {
				t.Errorf("in .git were\n%s\nand are\n%s", objects, after)
			}
			if left := s.hostly(t, s.State, "find . -name 'casemate-commits-*' 2>/dev/null || true"); left != "" {
				t.Errorf("left: %s", left)
			}
		})
	}
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

// TestRootIsNotLedAway: where root takes commits for the project's owner, that user's processes may do what they like with what is theirs. Here they do
// so each time that git runs as them. Root neither writes where they lead nor shows them what root alone may read.
func TestRootIsNotLedAway(t *testing.T) {
	needs(t, "git")
	if os.Getuid() != 0 {
		t.Skip("working for another user needs root")
	}
	setUp := func(t *testing.T) (s *site, attacked string, apply func() output) {
		s = newSite(t, modes()[1])
		s.repository(t, layouts()[0])
		if out := s.sh(inside + `echo two >>a; git commit -qam two`); out.exit != 0 {
			t.Fatal(out)
		}
		bin, open := t.TempDir(), filepath.Join(s.Dir, "open")
		s.hostly(t, s.Dir, "mkdir -m 777 open; mkdir -m 700 closed; echo ROOTS >closed/file; chmod 755 "+bin+" "+filepath.Dir(bin))
		attack := `#!/bin/sh
git=$(PATH=${PATH#*:} command -v git)
"$git" "$@"; status=$?
if [ "$(id -u)" != 0 ] && d=$(ls -d /tmp/casemate-commits-* 2>/dev/null | head -n 1) && cd "$d"; then
	touch OPEN/attacked; cat raw/shallow >>OPEN/seen 2>/dev/null
	for r in raw checked; do rm -rf $r/objects/info/alternates; mkdir -p $r/objects/info; ln -s CLOSED/alternates $r/objects/info/alternates; done 2>/dev/null
	for x in $(printf '%02x ' $(seq 0 255)); do ln -s CLOSED raw/objects/$x; done 2>/dev/null
fi
exit $status
`
		attack = strings.NewReplacer("OPEN", open, "CLOSED", filepath.Join(s.Dir, "closed")).Replace(attack)
		if err := os.WriteFile(filepath.Join(bin, "git"), []byte(attack), 0o755); err != nil {
			t.Fatal(err)
		}
		return s, filepath.Join(open, "attacked"), func() output {
			cmd := s.command("apply", "--commit", "b")
			cmd.Env = append(cmd.Env, "PATH="+bin+":/usr/local/bin:/usr/bin:/bin")
			return s.finish(cmd)
		}
	}
	t.Run("writing", func(t *testing.T) {
		s, attacked, apply := setUp(t)
		t.Log(apply())
		if _, err := os.Lstat(attacked); err != nil {
			t.Error("git never ran as the owner: the attack proves nothing")
		}
		if got := s.hostly(t, s.Dir, "ls closed"); got != "file\n" {
			t.Errorf("root wrote %q", got)
		}
	})
	t.Run("reading", func(t *testing.T) {
		s, _, apply := setUp(t)
		s.hostly(t, s.Work, "ln -s ../../closed/file .git/shallow")
		if out := apply(); out.exit != 125 {
			t.Errorf("with a list of shallow commits that is none: %v", out)
		}
		hasNot(t, "what the owner saw", s.hostly(t, s.Dir, "cat open/seen 2>/dev/null || true"), "ROOTS")
	})
}

// TestCommitsBringNothingAlong builds on, or merges, a branch that the host has fetched and not taken. The branch that is made would bring its hook into
// what is checked out, though no new commit touches it.
func TestCommitsBringNothingAlong(t *testing.T) {
	needs(t, "git")
	const fetched = `git init -q -b main p; cd p; echo a >a; git add .; git commit -qm one; git checkout -qb pr; mkdir .husky; echo evil >.husky/pre-commit; echo s >stranger
git add .; git commit -qm stranger; git checkout -q main`
	for _, c := range []struct{ name, script string }{
		{"built on it", `git checkout -q pr; echo b >b; git add b; git commit -qm inside`},
		{"merged it", `git merge -q --no-ff -m inside pr`},
		{"took its tree", `git reset -q --hard pr; git reset -q --soft HEAD; git commit -q --allow-empty -m inside`},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, s *site) {
				s.repository(t, layout{build: fetched})
				if out := s.sh(inside + c.script); out.exit != 0 {
					t.Fatal(out)
				}
				out := s.do("apply", "--commit", "b")
				has(t, "without a word", out.stdout, "held     .husky/pre-commit: it would run on your machine: git hooks run it, and it comes along from a commit that is not in what you have checked out\n")
				hasNot(t, "what is held", out.stdout, "stranger:")
				if out := s.do("apply", "--commit", "--with-protected", "--yes", "b"); out.exit != 0 {
					t.Errorf("with a word: %v", out)
				}
				s.sh(inside + `echo y >>a; git commit -qam more`)
				if out := s.do("apply", "--commit", "b"); out.exit != 0 {
					t.Errorf("what follows: %v", out)
				}
			})
		})
	}
	t.Run("the control", func(t *testing.T) { // who works on that branch has taken it
		s := newSite(t, best())
		s.repository(t, layout{build: fetched + "; git checkout -q pr"})
		s.sh(inside + `echo b >b; git add b; git commit -qm inside`)
		if out := s.do("apply", "--commit", "b"); out.exit != 0 {
			t.Error(out)
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
