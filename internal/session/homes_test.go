package session

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"casemate.dev/internal/store"
	"golang.org/x/sys/unix"
)

// TestHomes: what runs have left in a home is listed by what is there, without following a link, and not while a sandbox has it.
func TestHomes(t *testing.T) {
	dir := t.TempDir()
	st, err := store.Open(filepath.Join(dir, "state"), dir)
	if err != nil {
		t.Fatal(err)
	}
	project := filepath.Join(dir, "project")
	home := filepath.Join(st.Project(project), "home")
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(".claude/settings.json", "{}\n")
	write(".claude/history.jsonl", "said\n")
	write(".codex/config.toml", "mine now\n")
	write(".claude/CLAUDE.md", "")
	secret := filepath.Join(dir, "outside")
	for _, err := range []error{
		os.Mkdir(secret, 0o700), os.WriteFile(filepath.Join(secret, "key"), []byte("SECRET"), 0o600), os.Symlink(secret, filepath.Join(home, "out")),
		os.Symlink(filepath.Join(secret, "key"), filepath.Join(home, "key")), unix.Mkfifo(filepath.Join(home, "fifo"), 0o600), store.Note(st.Project(project), project),
		noteLaid(home, ".claude/settings.json", "{}\n"), noteLaid(home, ".codex/config.toml", "sandbox_mode\n"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	list, err := FindHomes(st, "", project)
	if err != nil || len(list) != 1 || list[0].Project != project || list[0].Running || list[0].Size == 0 {
		t.Fatalf("%+v, %v", list, err)
	}
	for _, name := range []string{list[0].ID, project} {
		if same, err := FindHomes(st, name, "/elsewhere"); err != nil || len(same) != 1 {
			t.Errorf("%s: %+v, %v", name, same, err)
		}
	}
	files, err := HomeFiles(st, list[0])
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		got = append(got, strings.TrimSpace(f.Path+" "+f.Kind+" "+f.Laid))
	}
	want := ".claude/history.jsonl file, .claude/settings.json file as-laid, .codex/config.toml file changed, fifo other, key link, out link"
	if strings.Join(got, ", ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, ", "), want)
	}

	box, err := st.New(project)
	if err != nil {
		t.Fatal(err)
	}
	box.Record.Project, box.Record.PID = project, os.Getpid()
	box.Record.PIDStart, _ = store.ProcessStart(os.Getpid())
	box.Record.Started = box.Record.Born.Add(1)
	if err := box.Save(false); err != nil {
		t.Fatal(err)
	}
	if _, err := HomeFiles(st, list[0]); err == nil || !strings.Contains(err.Error(), "is running") {
		t.Errorf("while a sandbox runs it is listed: %v", err)
	}
	if err := RemoveHome(st, home); err == nil || !exists(home) {
		t.Errorf("while a sandbox runs it is removed: %v", err)
	}
	box.Unlock()
	if err := RemoveHome(st, home); err != nil || exists(home) || exists(laidFile(home)) {
		t.Errorf("it is not removed: %v", err)
	}
	if !exists(filepath.Join(secret, "key")) {
		t.Error("what a link leads to was removed")
	}
}
