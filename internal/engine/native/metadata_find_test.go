package native

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// ownDirectories are two trees of a sandbox's own, and a file beside them that the user owns, too.
func ownDirectories(t testing.TB) (m *Metadata, first, second, outside string) {
	t.Helper()
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	first, second, outside = filepath.Join(base, "first"), filepath.Join(base, "second"), filepath.Join(base, "first-not")
	for _, dir := range []string{filepath.Join(first, "sub"), second, outside} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{first, second, outside, filepath.Join(first, "sub")} {
		if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m, err = NewMetadata(-1, []string{first, second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m, first, second, outside
}

// found is what a name leads to, or the error.
func found(m *Metadata, r request) string {
	fd, e := m.find(os.Getpid(), r)
	if e != 0 {
		return unix.ErrnoName(e)
	}
	defer unix.Close(fd)
	where, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return err.Error()
	}
	return where
}

func TestFindsOnlyItsOwn(t *testing.T) {
	m, first, second, outside := ownDirectories(t)
	for link, to := range map[string]string{
		"in": "sub/f", "absolute": first + "/f", "other": second + "/f", "chain": "other", "out": outside + "/f", "up": "../first-not/f", "dir": outside, "back": first,
		"loop": "loop", "proc": "/proc/self/root" + first + "/f", "cwd": "/proc/self/cwd",
	} {
		if err := os.Symlink(to, filepath.Join(first, link)); err != nil {
			t.Fatal(err)
		}
	}
	open := func(path string) int32 {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return int32(fd)
	}
	own, not := open(first), open(outside)
	for _, tt := range []struct {
		name     string
		dir      int32
		nofollow bool
		want     string
	}{
		{first + "/f", -1, false, first + "/f"},
		{first + "//sub/./../f", -1, false, first + "/f"},
		{first, -1, false, first},
		{first + "/in", -1, false, first + "/sub/f"},
		{first + "/in", -1, true, first + "/in"},
		{first + "/absolute", -1, false, first + "/f"},
		{first + "/other", -1, false, second + "/f"},
		{first + "/chain", -1, false, second + "/f"},
		{first + "/back/back/sub/f", -1, false, first + "/sub/f"},
		{first + "/../second/f", -1, false, second + "/f"},
		{"f", own, false, first + "/f"},
		{"sub/../../second/f", own, false, second + "/f"},
		{"../first/f", not, false, first + "/f"},
		{"", own, false, first},
		{fmt.Sprintf("/proc/self/fd/%d", own), -1, false, first},
		{fmt.Sprintf("/proc/self/fd/%d/f", own), -1, false, first + "/f"},

		{outside + "/f", -1, false, "EPERM"},
		{outside, -1, false, "EPERM"},
		{first + "/out", -1, false, "EPERM"},
		{first + "/out", -1, true, first + "/out"},
		{first + "/up", -1, false, "EPERM"},
		{first + "/dir/f", -1, false, "EPERM"},
		{first + "/dir/f", -1, true, "EPERM"},
		{first + "/proc", -1, false, "EPERM"},
		{first + "/cwd", -1, false, "EPERM"},
		{first + "/../first-not/f", -1, false, "EPERM"},
		{"/proc/self/root" + first + "/f", -1, false, "EPERM"},
		{"f", not, false, "EPERM"},
		{"", not, false, "EPERM"},
		{fmt.Sprintf("/proc/self/fd/%d", not), -1, false, "EPERM"},
		{fmt.Sprintf("/dev/fd/%d/f", not), -1, false, "EPERM"},
		{first + "/none", -1, false, "ENOENT"},
		{first + "/loop", -1, false, "ELOOP"},
		{"f", 1 << 20, false, "EBADF"},
		{"", 1 << 20, false, "EBADF"},
	} {
		if tt.dir == -1 {
			tt.dir = unix.AT_FDCWD
		}
		if got := found(m, request{dir: tt.dir, name: tt.name, itself: tt.name == "", nofollow: tt.nofollow}); got != tt.want {
			t.Errorf("%q from %d: %s, want %s", tt.name, tt.dir, got, tt.want)
		}
	}
}

// TestNoNameLeadsOut tries many names, with links that a sandbox could lay. It is no fuzz test, as package inside cannot be built for these: its
// functions may not grow the stack.
func TestNoNameLeadsOut(t *testing.T) {
	m, first, second, outside := ownDirectories(t)
	words := []string{"..", "..", ".", "", "f", "f", "f", "sub", "sub", "link", "link", "link", "sub/other", "proc", "self", "thread-self", "fd", "cwd", "root", "dev", "3", "4", "5", "first", "first-not", "second", first[1:], second[1:], outside[1:], filepath.Dir(first)[1:]}
	random := rand.New(rand.NewPCG(1, 2))
	name := func() string {
		parts := make([]string, 1+random.IntN(4))
		for i := range parts {
			parts[i] = words[random.IntN(len(words))]
		}
		return []string{"", "/", first + "/", first + "/", first + "/", second + "/", "/proc/self/fd/"}[random.IntN(7)] + strings.Join(parts, "/")
	}
	inside := 0
	for range 10_000 {
		links := map[string]string{filepath.Join(first, "link"): name(), filepath.Join(first, "sub", "other"): name()}
		for link, to := range links {
			_ = os.Symlink(to, link) // an empty target is none
		}
		n, nofollow := name(), random.IntN(2) == 0
		where := found(m, request{dir: unix.AT_FDCWD, name: n, nofollow: nofollow, itself: n == ""})
		if filepath.IsAbs(where) {
			inside++
			if !within(where, first) && !within(where, second) {
				t.Errorf("%q with links %q leads to %s", n, links, where)
			}
		}
		for link := range links {
			_ = os.Remove(link)
		}
	}
	if inside < 300 {
		t.Errorf("only %d names led anywhere: this shows little", inside)
	}
}
