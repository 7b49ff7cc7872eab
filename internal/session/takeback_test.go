package session

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestUnlockFollowsNothing: a sandbox that puts a link in the place of a directory, or of one above it, changes no mode outside of the project. The
// control is a chmod by name.
func TestUnlockFollowsNothing(t *testing.T) {
	top := t.TempDir()
	project, outside := filepath.Join(top, "project"), filepath.Join(top, "outside", "sub")
	for _, dir := range []string{filepath.Join(project, "d"), outside} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"last": outside, "above": filepath.Dir(outside)} {
		if err := os.Symlink(target, filepath.Join(project, link)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := unix.Open(project, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(root)
	back := takeBack{project: project, root: root}
	mode := func(path string) os.FileMode {
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return st.Mode().Perm()
	}
	for _, rel := range []string{"last", "above/sub", "../outside/sub"} {
		if back.unlock(filepath.Join(project, rel)); mode(outside) != 0o755 {
			t.Errorf("%s: the mode outside is %o", rel, mode(outside))
		}
	}
	if back.unlock(filepath.Join(project, "d")); mode(filepath.Join(project, "d")) != 0o700 {
		t.Error("a directory of the project stays closed")
	}
	if err := os.Chmod(filepath.Join(project, "above/sub"), 0o700); err != nil || mode(outside) != 0o700 {
		t.Error("control: a chmod by name does not reach it", err)
	}
}
