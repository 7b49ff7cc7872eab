package uses

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
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
