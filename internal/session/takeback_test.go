package session

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
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

// TestCarry copies a tree to another file system: files and links as they are, fifos not at all, and a fifo or a link that has come in the place of
// a file neither makes it wait nor leads it out.
func TestCarry(t *testing.T) {
	top := t.TempDir()
	from := filepath.Join(top, "project", ".vscode")
	if err := os.MkdirAll(filepath.Join(from, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(top, "secret")
	for _, err := range []error{
		os.WriteFile(secret, []byte("hush"), 0o600), os.WriteFile(filepath.Join(from, "sub", "f"), []byte("evil"), 0o644),
		os.Symlink(secret, filepath.Join(from, "l")), unix.Mkfifo(filepath.Join(from, "p"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	parent, err := unix.Open(filepath.Dir(from), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(parent)
	inner, err := unix.Open(from, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(inner)
	for _, swapped := range []string{"l", "p"} {
		room := int64(maxCarried)
		if err := copyFile(inner, swapped, filepath.Join(top, "x"+swapped), &room); err == nil {
			t.Errorf("%s was copied as a file", swapped)
		}
	}
	to := filepath.Join(top, "taken")
	if err := new(takeBack).carry(parent, ".vscode", to); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(to, "sub", "f")); string(b) != "evil" {
		t.Errorf("%q, %v", b, err)
	}
	if link, err := os.Readlink(filepath.Join(to, "l")); link != secret {
		t.Errorf("the link is %q: %v", link, err)
	}
	if exists(filepath.Join(to, "p")) || exists(from) {
		t.Error("a fifo came along, or the original stays")
	}
}

// TestCarryTakesNoDisk: a file of nothing but holes, as long as any disk, and one file too many, leave nothing where the state is. The control is a
// file of a size that is carried.
func TestCarryTakesNoDisk(t *testing.T) {
	top := t.TempDir()
	parent, err := unix.Open(top, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(parent)
	to := filepath.Join(top, "taken")
	for _, c := range []struct {
		size  int64
		files int
		taken bool
	}{{maxCarried / 2, 1, true}, {1 << 40, 1, false}, {maxCarried / 4, 5, false}, {0, maxCarried/carriedEntry + 1, false}} {
		from := filepath.Join(top, ".vscode")
		if err := os.MkdirAll(from, 0o755); err != nil {
			t.Fatal(err)
		}
		for i := range c.files {
			name := filepath.Join(from, strconv.Itoa(i))
			if err := errors.Join(os.WriteFile(name, nil, 0o644), os.Truncate(name, c.size)); err != nil {
				t.Fatal(err)
			}
		}
		err := new(takeBack).carry(parent, ".vscode", to)
		if taken := err == nil && exists(to) && !exists(from); taken != c.taken || !c.taken && (exists(to) || !exists(from)) {
			t.Errorf("%d files of %d bytes: %v; there %v, here %v", c.files, c.size, err, exists(to), exists(from))
		}
		if err := errors.Join(os.RemoveAll(from), os.RemoveAll(to)); err != nil {
			t.Fatal(err)
		}
	}
}
