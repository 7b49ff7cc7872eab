package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// plant puts everything by which git could be made to run a program into a project. MARK is what that program makes.
const plant = `
printf '#!/bin/sh\ntouch MARK\ncat\n' > evil; chmod 755 evil
mkdir -p .git/hooks .git/info evil-hooks sub bare/objects bare/refs
for h in post-index-change reference-transaction pre-commit post-checkout fsmonitor-watchman; do cp evil .git/hooks/$h; cp evil evil-hooks/$h; done
cat >> .git/config <<'E'
[core]
	fsmonitor = ./evil
	hooksPath = evil-hooks
	pager = ./evil
	sshCommand = ./evil
	alternateRefsCommand = ./evil
[diff]
	external = ./evil
[diff "f"]
	textconv = ./evil
	command = ./evil
[filter "f"]
	clean = ./evil
	smudge = ./evil
	process = ./evil
[merge "f"]
	driver = ./evil
[include]
	path = ../evil.inc
[gpg]
	program = ./evil
[log]
	showSignature = true
E
printf '[core]\n\tfsmonitor = ./evil\n' > evil.inc
cp evil.inc .gitconfig; cp evil.inc .git/config.worktree
printf '* filter=f diff=f merge=f\n' > .gitattributes; cp .gitattributes .git/info/attributes
printf '[submodule "sub"]\n\tpath = sub\n\turl = ext::./evil\n\tupdate = !./evil\n' > .gitmodules
git init -q sub; cp .git/config sub/.git/config; cp evil sub/evil
echo 'ref: refs/heads/x' > bare/HEAD; printf '[core]\n\tbare = true\n\tfsmonitor = ../evil\n' > bare/config
echo changed >> a.txt; sleep 0.01; touch a.txt b.txt
`

// The host's git, used in every common way after an apply, runs nothing from the sandbox; planted on the host itself, it does.
func TestHostGitRunsNothingAfterApply(t *testing.T) {
	look := func(r *running) {
		for _, dir := range []string{".", "sub", "bare"} {
			for _, args := range []string{"status", "log -p --all", "diff", "diff HEAD", "add -An", "stash list", "ls-files -m", "submodule status", "blame a.txt", "show"} {
				r.try("sh", "-c", fmt.Sprintf("cd %s 2>/dev/null && git %s </dev/null", dir, args))
			}
		}
	}
	fresh := func(t *testing.T) (r *running, mark string) {
		r = startShell(t, map[string]string{"a.txt": "a\n", "b.txt": "b\n"})
		r.host("git", "-c", "user.name=x", "-c", "user.email=x@x", "commit", "-q", "--allow-empty", "-m", "first")
		return r, filepath.Join(t.TempDir(), "ran")
	}
	ran := func(mark string) bool { _, err := os.Lstat(mark); return err == nil }

	r, mark := fresh(t)
	r.host("sh", "-c", strings.ReplaceAll(plant, "MARK", mark))
	look(r)
	if !ran(mark) {
		t.Error("the control: planted on the host, nothing ran")
	}

	r, mark = fresh(t)
	r.inside(strings.ReplaceAll(plant, "MARK", mark))
	r.try(casemate, "apply")
	if r.read("a.txt") != "a\nchanged\n" || !strings.Contains(r.read("evil"), "touch") {
		t.Fatalf("nothing was applied: %q", r.read("a.txt"))
	}
	look(r)
	if ran(mark) {
		t.Error("after an apply, git on the host ran what the sandbox made")
	}
	r.end()
	r.try(casemate, "undo", "1")
	look(r)
	if ran(mark) {
		t.Error("after an undo, git on the host ran what the sandbox made")
	}
}

// split is a repository of which one plain directory holds HEAD and another one the rest: neither looks like a repository by itself.
const split = `
printf '#!/bin/sh\ntouch MARK\n' > evil; chmod 755 evil; mkdir -p wt stuff/objects stuff/refs
echo 'ref: refs/heads/x' > wt/HEAD; echo ../stuff > wt/commondir
printf '[core]\n\trepositoryformatversion = 0\n[remote "origin"]\n\turl = /nowhere\n\tuploadpack = %s/evil\n' "$PWD" > stuff/config; echo x > stuff/objects/x; echo x > stuff/refs/x
`

// The host's git does not obey a repository that was laid in two plain directories.
func TestHostGitObeysNoSplitRepository(t *testing.T) {
	for name, where := range map[string]func(*running, string){
		"attack":  func(r *running, line string) { r.inside(line); r.try(casemate, "apply") },
		"control": func(r *running, line string) { r.host("sh", "-c", line) },
	} {
		t.Run(name, func(t *testing.T) {
			r := startShell(t, map[string]string{"a.txt": "a\n"})
			mark := filepath.Join(t.TempDir(), "ran")
			where(r, strings.ReplaceAll(split, "MARK", mark))
			if r.read("stuff/config") == "" {
				t.Fatal("nothing was applied")
			}
			r.try("sh", "-c", "cd wt && git fetch </dev/null")
			if _, err := os.Lstat(mark); (err == nil) != (name == "control") {
				t.Errorf("git ran what the repository names: %v", err == nil)
			}
		})
	}
}
