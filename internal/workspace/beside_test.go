package workspace

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestALineThatDidNotFit takes the next one with it, if it stays.
func TestALineThatDidNotFit(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small file system (CAP_SYS_ADMIN)")
	}
	dir := t.TempDir()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"))
	defer unix.Unmount(dir, unix.MNT_DETACH)
	must(t, noteFirst(dir, first{Path: []byte(strings.Repeat("a", 3000)), Made: 1}))
	full := filepath.Join(dir, "full")
	_ = os.WriteFile(full, make([]byte, 64<<10), 0o600) // all of it: the line that follows fits half into the last page
	if noteFirst(dir, first{Path: []byte(strings.Repeat("b", 3000)), Made: 2}) == nil {
		t.Fatal("the disk was not full")
	}
	must(t, os.Remove(full))
	must(t, noteFirst(dir, first{Path: []byte("c"), Made: 3}))
	top, err := openRooted(dir)
	must(t, err)
	defer top.close()
	found, err := readFirsts(top)
	if _, known := found["c"]; err != nil || len(found) != 2 || !known {
		t.Errorf("read back: %d of 2, %v", len(found), err)
	}
}
