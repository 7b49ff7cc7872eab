package workspace

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Whatever a sandbox leaves can be removed, and nothing else is.
func TestDiscard(t *testing.T) {
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "keep"), nil, 0o644))
	dir := filepath.Join(t.TempDir(), "layer")
	upper := filepath.Join(dir, "upper")
	must(t, os.MkdirAll(filepath.Join(upper, "closed/in/side"), 0o755))
	must(t, os.MkdirAll(filepath.Join(dir, "work/work"), 0o755))
	for _, name := range []string{"new\nline", "\xff\xfe", strings.Repeat("n", 255), "discarded-0", "-rf"} {
		must(t, os.WriteFile(filepath.Join(upper, name), nil, 0o000))
		must(t, os.MkdirAll(filepath.Join(upper, "dirs", name, "x"), 0o755))
	}
	must(t, os.Symlink(outside, filepath.Join(upper, "link")))
	must(t, os.Symlink(outside, filepath.Join(upper, "closed/in/side/link")))
	must(t, unix.Mkfifo(filepath.Join(upper, "fifo"), 0o600))
	must(t, unix.Mknod(filepath.Join(upper, "whiteout"), unix.S_IFCHR, 0))
	must(t, os.WriteFile(filepath.Join(dir, "work/work/#1"), nil, 0o600))
	makeDeep(t, upper, 5000)
	for _, name := range []string{"upper/closed/in/side", "upper/closed/in", "upper/closed", "upper/dirs", "work/work", "upper"} {
		must(t, os.Chmod(filepath.Join(dir, name), 0))
	}
	must(t, Discard(t.Context(), dir))
	if _, err := os.Lstat(dir); !os.IsNotExist(err) {
		t.Errorf("the layer is still there: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(outside, "keep")); err != nil {
		t.Error(err)
	}
	must(t, Discard(t.Context(), dir)) // what is gone is gone
}

// As deep as it was, it takes no more descriptors than usual.
func TestDiscardNeedsFewDescriptors(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "layer")
	must(t, os.MkdirAll(dir, 0o755))
	for i := range 50 {
		top := filepath.Join(dir, fmt.Sprint(i))
		must(t, os.Mkdir(top, 0o755))
		makeDeep(t, top, 200)
	}
	var old unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	low := old
	low.Cur = uint64(openDescriptors(t)) + 16
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &low))
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &old)
	must(t, Discard(t.Context(), dir))
}

func openDescriptors(t *testing.T) (highest int) {
	names, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	for _, n := range names {
		fd := 0
		fmt.Sscan(n.Name(), &fd)
		highest = max(highest, fd)
	}
	return highest
}
