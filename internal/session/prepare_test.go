package session

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"casemate.dev/internal/store"
)

// TestNoProject: what runs in casemate's own configuration or state could widen every later sandbox, by whichever link it is reached.
func TestNoProject(t *testing.T) {
	home, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{".config", "dotfiles/casemate/presets", "project", "casemate", "disk/state/casemate/sandboxes"} {
		if err := os.MkdirAll(filepath.Join(home, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{".config/casemate": "dotfiles/casemate", "state": "disk/state"} {
		if err := os.Symlink(filepath.Join(home, to), filepath.Join(home, link)); err != nil {
			t.Fatal(err)
		}
	}
	for project, refused := range map[string]bool{
		"dotfiles/casemate": true, "dotfiles/casemate/presets": true, "disk": true, "disk/state/casemate/sandboxes": true,
		"project": false, "casemate": false, "dotfiles": false, ".config": false,
	} {
		r := &Run{Person: Person{Home: home, Config: filepath.Join(home, ".config/casemate")}, Store: &store.Store{Root: filepath.Join(home, "state/casemate")}, state: followed(filepath.Join(home, "state/casemate")), Project: filepath.Join(home, project)}
		if err := r.checkProject(); errors.As(err, new(*Refusal)) != refused {
			t.Errorf("%s: %v", project, err)
		}
	}
}
