package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

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
		bin, open, scratch := t.TempDir(), filepath.Join(s.Dir, "open"), filepath.Join(s.Dir, "scratch") // in /tmp, others take commits at the same time
		s.hostly(t, s.Dir, "mkdir -m 777 open; mkdir -m 1777 scratch; mkdir -m 700 closed; echo ROOTS >closed/file; chmod 755 "+bin+" "+filepath.Dir(bin))
		attack := `#!/bin/sh
git=$(PATH=${PATH#*:} command -v git)
"$git" "$@"; status=$?
if [ "$(id -u)" != 0 ] && d=$(ls -d SCRATCH/casemate-commits-* 2>/dev/null | head -n 1) && cd "$d"; then
	touch OPEN/attacked; cat raw/shallow >>OPEN/seen 2>/dev/null
	for r in raw checked; do rm -rf $r/objects/info/alternates; mkdir -p $r/objects/info; ln -s CLOSED/alternates $r/objects/info/alternates; done 2>/dev/null
	for x in $(printf '%02x ' $(seq 0 255)); do ln -s CLOSED raw/objects/$x; done 2>/dev/null
fi
exit $status
`
		attack = strings.NewReplacer("OPEN", open, "SCRATCH", scratch, "CLOSED", filepath.Join(s.Dir, "closed")).Replace(attack)
		if err := os.WriteFile(filepath.Join(bin, "git"), []byte(attack), 0o755); err != nil {
			t.Fatal(err)
		}
		return s, filepath.Join(open, "attacked"), func() output {
			cmd := s.command("apply", "--commit", "b")
			cmd.Env = append(cmd.Env, "PATH="+bin+":/usr/local/bin:/usr/bin:/bin", "TMPDIR="+scratch)
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
