package workspace

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestKeeper(t *testing.T) {
	dir := t.TempDir()
	git := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=a", "-c", "user.email=a@b"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v: %s", args, err, out)
		}
	}
	git("init", "-q")
	for name, content := range map[string]string{
		".gitignore": "out/\n*.log\n", "a.txt": "a", "b/c.txt": "c", "out/tracked.txt": "t", "out/deep/also": "t", "out/built": "b", "debug.log": "l", "kept.log": "k",
		".env": "secret", "nested/.gitignore": "*.tmp", "nested/x.tmp": "x", "untracked": "u",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	git("add", "-f", "a.txt", "out/tracked.txt", "out/deep/also", "kept.log")
	git("commit", "-q", "-m", "x")
	k, err := NewKeeper(dir, func(rel string, _ bool) bool { return rel == ".env" })
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	walk := func() (kept, skipped []string) {
		err := k.Walk(func(rel string) error { kept = append(kept, rel); return nil }, func(rel string) error { skipped = append(skipped, rel); return nil })
		if err != nil {
			t.Fatal(err)
		}
		return kept, skipped
	}
	kept, skipped := walk()
	for _, want := range []string{"a.txt", "b", "b/c.txt", "out", "out/tracked.txt", "out/deep", "out/deep/also", "kept.log", "untracked", ".git", ".git/HEAD", ".git/refs/heads", ".git/index", ".gitignore"} {
		if !slices.Contains(kept, want) {
			t.Errorf("%s is not kept", want)
		}
	}
	for _, want := range []string{".env", "out/built", "debug.log", "nested/x.tmp", ".git/objects"} {
		if !slices.Contains(skipped, want) {
			t.Errorf("%s is not skipped: %s", want, strings.Join(skipped, " "))
		}
	}
	if err := os.WriteFile(filepath.Join(dir, ".gitignore"), []byte("*\n"), 0o644); err != nil { // as a sandbox may
		t.Fatal(err)
	}
	if again, _ := walk(); !slices.Equal(again, kept) {
		t.Errorf("a changed .gitignore changes what is kept: %v, it was %v", again, kept)
	}
}
