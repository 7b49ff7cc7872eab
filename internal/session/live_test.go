package session

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"casemate.dev/internal/plan"
	"casemate.dev/internal/policy"
)

// TestHiddenBelowProtected: what is hidden is covered in protected directories too, over whose mount the host's files would be seen again; and nothing in there
// becomes writable by it.
func TestHiddenBelowProtected(t *testing.T) {
	project := t.TempDir()
	for _, name := range []string{".claude/.env", ".claude/settings.json", ".git/hooks/deep/my.key", ".git/hooks/pre-commit", ".vscode/keys/a", "src/.env", "src/main.go"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(project, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(project, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	hide, err := policy.CompilePaths([]string{".env", "*.key", ".vscode/keys/"})
	if err != nil {
		t.Fatal(err)
	}
	protect, err := policy.CompilePaths(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &cover{project: project, hide: hide, protect: protect, pinned: map[string]bool{}, before: map[string]string{}}
	if err := filepath.WalkDir(project, c.visit); err != nil {
		t.Fatal(err)
	}
	at := func(rel string) int {
		return slices.IndexFunc(c.mounts, func(m plan.Mount) bool { return m.Target == filepath.Join(project, rel) })
	}
	for protected, hidden := range map[string]string{".claude": ".claude/.env", ".git/hooks": ".git/hooks/deep/my.key", ".vscode": ".vscode/keys"} {
		over, under := at(hidden), at(protected)
		if under < 0 || over < under || c.mounts[over].Self || c.mounts[under].Writable {
			t.Errorf("%s is mount %d, over %s, which is mount %d: %+v", hidden, over, protected, under, c.mounts)
		}
	}
	for _, rel := range []string{".git/hooks/deep", ".claude/settings.json"} {
		if at(rel) >= 0 {
			t.Errorf("%s needs no mount: %+v", rel, c.mounts)
		}
	}
	if at("src/.env") < 0 || at("src/main.go") >= 0 {
		t.Errorf("%+v", c.mounts)
	}
}
