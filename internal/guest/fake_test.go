package guest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// secret is what no test may find where the sandbox can see it.
const secret = "sk-this-must-stay-outside"

// tree makes files in a directory of the test and returns its path without links. A name that ends in "/" is a directory; a content that
// begins with "->" is a link, "!MODE " sets a mode, "#!" or ELF makes it executable.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	plant(t, dir, files)
	return dir
}

func plant(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	closed := map[string]uint32{}
	defer func() {
		for p, mode := range closed {
			must(unix.Chmod(p, mode))
		}
	}()
	for name, content := range files {
		p := filepath.Join(dir, name)
		must(os.MkdirAll(filepath.Dir(p), 0o755))
		mode := uint64(0o644)
		if rest, ok := strings.CutPrefix(content, "!"); ok && !strings.HasPrefix(content, "!!") {
			m, body, _ := strings.Cut(rest, " ")
			content, mode = body, 0
			for _, c := range m {
				mode = mode<<3 | uint64(c-'0')
			}
		}
		switch link, isLink := strings.CutPrefix(content, "->"); {
		case isLink:
			must(os.Symlink(strings.ReplaceAll(link, "{}", dir), p))
			continue
		case content == "fifo":
			must(unix.Mkfifo(p, 0o644))
			continue
		case strings.HasSuffix(name, "/"):
			must(os.MkdirAll(p, 0o755))
			if mode == 0o644 {
				mode = 0o755
			}
			closed[p] = uint32(mode) // when everything in it is there
			continue
		default:
			must(os.WriteFile(p, []byte(strings.ReplaceAll(content, "{}", dir)), 0o644))
			if strings.HasPrefix(content, "#!") || strings.HasPrefix(content, "\x7fELF") {
				mode |= 0o111
			}
		}
		must(unix.Chmod(p, uint32(mode)))
	}
}

// holdsSecret lists the files below dir in which the secret stands.
func holdsSecret(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(p)
		if strings.Contains(string(b), secret) {
			out = append(out, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
