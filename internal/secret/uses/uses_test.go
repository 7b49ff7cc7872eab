package uses

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestLog(t *testing.T) {
	l, err := Find(func(name string) string { return map[string]string{"XDG_STATE_HOME": t.TempDir()}[name] })
	if err != nil {
		t.Fatal(err)
	}
	if list, err := l.Read(); err != nil || len(list) != 0 {
		t.Fatalf("%v, %v", list, err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 25 {
				if err := l.Add(Use{Time: time.Now(), Entry: "e", Sandbox: "s", Host: "h", Port: 443, Path: "/" + strings.Repeat("p", 1000)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	f, err := os.OpenFile(l.Path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(`{"entry":"cut`)
	f.Close()
	list, err := l.Read()
	if err != nil || len(list) != 200 || len(list[0].Path) != MaxPath {
		t.Errorf("%d lines, %v", len(list), err)
	}
	if st, _ := os.Stat(l.Path); st.Mode() != 0o600 {
		t.Errorf("%v", st.Mode())
	}
}

func TestOlderFile(t *testing.T) {
	l := Log{filepath.Join(t.TempDir(), "uses")}
	if err := l.Add(Use{Entry: "first"}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.Path, append([]byte(`{"entry":"first"}`+"\n"), []byte(strings.Repeat(strings.Repeat(" ", 32<<10)+"{}\n", most>>15))...), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, e := range []string{"second", "third"} {
		if err := l.Add(Use{Entry: e}); err != nil {
			t.Fatal(err)
		}
	}
	list, err := l.Read()
	if err != nil || len(list) != 3 || list[0].Entry != "first" || list[2].Entry != "third" {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := os.Stat(l.Path + ".1"); err != nil {
		t.Error(err)
	}
}

func TestLogIsNobodyElses(t *testing.T) {
	dir := t.TempDir()
	l := Log{filepath.Join(dir, "uses")}
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), l.Path); err != nil {
		t.Fatal(err)
	}
	if err := l.Add(Use{Entry: "e"}); err == nil {
		t.Error("a link is followed")
	}
	os.Remove(l.Path)
	if err := os.WriteFile(l.Path, nil, 0o622); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(l.Path, 0o622); err != nil {
		t.Fatal(err)
	}
	if err := l.Add(Use{Entry: "e"}); err == nil {
		t.Error("a log that others write is used")
	}
}

// TestAfterACutLine: a writer that was killed, or whose disk was full, costs its own line alone.
func TestAfterACutLine(t *testing.T) {
	l := Log{filepath.Join(t.TempDir(), "uses")}
	if err := os.WriteFile(l.Path, []byte(`{"entry":"first"}`+"\n"+`{"entry":"cut`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Add(Use{Entry: "second"}); err != nil {
		t.Fatal(err)
	}
	list, err := l.Read()
	if err != nil || len(list) != 2 || list[1].Entry != "second" {
		t.Errorf("%v, %v", list, err)
	}
}

// TestPutAsideOnce: those who waited for the lock while the file was put aside put no other one aside, which would be the older one's end.
func TestPutAsideOnce(t *testing.T) {
	l := Log{filepath.Join(t.TempDir(), "uses")}
	if err := os.WriteFile(l.Path, append([]byte(`{"entry":"first"}`+"\n"), []byte(strings.Repeat(strings.Repeat(" ", 32<<10)+"{}\n", most>>15))...), 0o600); err != nil {
		t.Fatal(err)
	}
	held, err := os.Open(l.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := unix.Flock(int(held.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := l.Add(Use{Entry: "later"}); err != nil {
				t.Error(err)
			}
		})
	}
	for late := time.Now().Add(20 * time.Second); waiting(t, held) < 8 && time.Now().Before(late); time.Sleep(time.Millisecond) {
	}
	held.Close()
	all.Wait()
	list, err := l.Read()
	if err != nil || len(list) != 9 || list[0].Entry != "first" {
		t.Errorf("%d lines are left, %v", len(list), err)
	}
}

// waiting is how many wait for the lock of a file (proc_locks(5)).
func waiting(t *testing.T, f *os.File) (n int) {
	t.Helper()
	var st unix.Stat_t
	text, err := os.ReadFile("/proc/locks")
	if err == nil {
		err = unix.Fstat(int(f.Fd()), &st)
	}
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "-> FLOCK") && strings.Contains(line, fmt.Sprintf(":%d ", st.Ino)) {
			n++
		}
	}
	return n
}

// TestLongLines: no text that what runs inside has chosen makes a line long, nor does one that was written long hide the others.
func TestLongLines(t *testing.T) {
	l := Log{filepath.Join(t.TempDir(), "uses")}
	if err := os.WriteFile(l.Path, []byte(`{"entry":"first","refused":"`+strings.Repeat("r", 80<<10)+`"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	before, _ := os.Stat(l.Path)
	path := "/" + strings.Repeat("<\xff", 4<<10)
	if err := l.Add(Use{Entry: "second", Path: path, User: path, Refused: "no grant covers " + path}); err != nil {
		t.Fatal(err)
	}
	after, _ := os.Stat(l.Path)
	if n := after.Size() - before.Size(); n > 6*MaxPath {
		t.Errorf("the line has %d bytes", n)
	}
	list, err := l.Read()
	if err != nil || len(list) != 2 || list[1].Entry != "second" {
		t.Errorf("%d lines, %v", len(list), err)
	}
}
