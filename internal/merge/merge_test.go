package merge

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, dir, script string) {
	t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "HOME="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func TestThree(t *testing.T) {
	g, err := New()
	must(t, err)
	defer g.Close()
	base := "1\n2\n3\n4\n5\n6\n7\n"
	tests := []struct {
		name, host, sandbox, want string
		clean                     bool
	}{
		{"both ends", "0\n" + base, base + "8\n", "0\n" + base + "8\n", true},
		{"the same change", "0\n" + base, "0\n" + base, "0\n" + base, true},
		{"one line", strings.Replace(base, "4", "h", 1), strings.Replace(base, "4", "s", 1), "<<<<<<< host\nh\n||||||| before\n4\n=======\ns\n>>>>>>> sandbox\n", false},
		{"no newline at the end", base, strings.TrimSuffix(base, "\n"), strings.TrimSuffix(base, "\n"), true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, clean, err := g.Three(t.Context(), []byte(base), []byte(test.host), []byte(test.sandbox))
			must(t, err)
			if clean != test.clean || clean && string(got) != test.want || !clean && !strings.Contains(string(got), test.want) {
				t.Errorf("clean %v:\n%s", clean, got)
			}
		})
	}
}

// What the base is read from is a repository that would run something at every turn; nothing of it runs. The control: git there runs it.
func TestBlobsRunsNothing(t *testing.T) {
	dir, mark := t.TempDir(), filepath.Join(t.TempDir(), "ran")
	run(t, dir, `git init -q; printf 'one\n' > a; printf 'x' > "n w"; git add .; git -c user.name=x -c user.email=x commit -qm 1; git gc -q; printf 'two\n' > a; git add a`)
	index := filepath.Join(t.TempDir(), "index")
	run(t, dir, "cp .git/index "+index)
	run(t, dir, `printf '#!/bin/sh\necho ran > `+mark+`\n' > evil; chmod 755 evil; cp evil .git/hooks/post-index-change
git config core.fsmonitor "$PWD/evil"; git config core.pager "$PWD/evil"; git config diff.external "$PWD/evil"; git config filter.f.smudge "$PWD/evil"; git config filter.f.clean "$PWD/evil"
git config core.sshCommand "$PWD/evil"; git config remote.origin.url ssh://h/x; git config remote.origin.promisor true; git config extensions.partialClone origin; printf '* filter=f diff=f merge=f\n' > .gitattributes`)
	control := exec.Command("git", "status")
	control.Dir = dir
	control.Run()
	if _, err := os.Stat(mark); err != nil {
		t.Fatal("the control ran nothing")
	}
	must(t, os.Remove(mark))
	g, err := New()
	must(t, err)
	defer g.Close()
	blobs, err := g.Blobs(t.Context(), Base{index, filepath.Join(dir, ".git/objects")}, []string{"a", "n w", "none", "odd\nname"})
	must(t, err)
	if string(blobs["a"]) != "two\n" || string(blobs["n w"]) != "x" || len(blobs) != 2 {
		t.Errorf("read %q", blobs)
	}
	if _, _, err := g.Three(t.Context(), blobs["a"], []byte("three\n"), []byte("two\n")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("something of the repository ran")
	}
}

func TestBlobsOfADamagedIndex(t *testing.T) {
	g, err := New()
	must(t, err)
	defer g.Close()
	index := filepath.Join(t.TempDir(), "index")
	must(t, os.WriteFile(index, []byte("DIRC nonsense"), 0o644))
	if blobs, err := g.Blobs(t.Context(), Base{index, t.TempDir()}, []string{"a"}); err == nil {
		t.Errorf("read %q", blobs)
	}
}
