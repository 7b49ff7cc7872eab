package shim

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func program(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestShim: it starts casemate with all arguments as they are, takes nobody else's place, and says so when casemate is gone.
func TestShim(t *testing.T) {
	dir := t.TempDir()
	shims := Dir(dir)
	casemate := program(t, filepath.Join(dir, "it's here/casemate"), `for a; do printf '<%s>' "$a"; done; exit 7`)
	path, err := Install(shims, "claude", casemate)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path, "-p", "a b", "", "$HOME", "x\ny").CombinedOutput()
	if err == nil || err.Error() != "exit status 7" || string(out) != "<__shim><claude><-p><a b><><$HOME><x\ny>" {
		t.Errorf("%q, %v", out, err)
	}
	if list := List(shims); !slices.Equal(list, []string{"claude"}) {
		t.Errorf("listed %q", list)
	}
	if err := os.Remove(casemate); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(path).CombinedOutput(); err == nil || err.Error() != "exit status 127" || !strings.Contains(string(out), "casemate is gone") {
		t.Errorf("without casemate: %q, %v", out, err)
	}
	if err := Remove(shims, "claude"); err != nil || len(List(shims)) > 0 {
		t.Errorf("not removed: %v", err)
	}
	other := program(t, filepath.Join(shims, "codex"), "echo mine")
	if _, err := Install(shims, "codex", casemate); err == nil {
		t.Error("another program was replaced")
	}
	if err := Remove(shims, "codex"); err == nil {
		t.Error("another program was removed")
	}
	if _, err := os.Stat(other); err != nil {
		t.Error(err)
	}
	if err := Remove(shims, "gemini"); err == nil {
		t.Error("what is not there was removed")
	}
}

// TestArgv: the program itself is found past every shim, and what settings for wrappers give is taken as it is; a prompt is not.
func TestArgv(t *testing.T) {
	dir := t.TempDir()
	real := program(t, filepath.Join(dir, "bin/claude"), "")
	node := program(t, filepath.Join(dir, "node/bin/node"), "")
	version := program(t, filepath.Join(dir, ".local/share/claude/versions/2.1.330"), "")
	bundled := program(t, filepath.Join(dir, "extensions/native-binary/claude"), "")
	script := program(t, filepath.Join(dir, "claude/run.sh"), "")
	var shims []string
	for _, state := range []string{"one", "two"} {
		path, err := Install(Dir(filepath.Join(dir, state)), "claude", "/usr/bin/casemate")
		if err != nil {
			t.Fatal(err)
		}
		shims = append(shims, path)
	}
	path := strings.Join([]string{filepath.Dir(shims[0]), "relative", filepath.Dir(shims[1]), filepath.Join(dir, "none"), filepath.Dir(real)}, ":")
	for _, c := range []struct{ args, want []string }{
		{nil, []string{real}},
		{[]string{"-p", "hello"}, []string{real, "-p", "hello"}},
		{[]string{bundled, "--output-format", "stream-json"}, []string{bundled, "--output-format", "stream-json"}},
		{[]string{version, "daemon"}, []string{version, "daemon"}},
		{[]string{node, "/x/cli.js", "-p"}, []string{node, "/x/cli.js", "-p"}},
		{[]string{node, "hello"}, []string{real, node, "hello"}},
		{[]string{script}, []string{real, script}},
		{[]string{"/help"}, []string{real, "/help"}},
		{[]string{shims[1], "x"}, []string{real, shims[1], "x"}},
	} {
		if got, err := Argv("claude", c.args, path); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, %v", c.args, got, err)
		}
	}
	if got, err := Argv("claude", nil, filepath.Dir(shims[0])+":"+filepath.Dir(shims[1])); err == nil {
		t.Errorf("without the program: %q", got)
	}
	for p, want := range map[string]bool{path: true, filepath.Dir(real) + ":" + path: false, filepath.Dir(real): false, filepath.Dir(shims[0]) + "/": true} {
		if IsFirst(filepath.Dir(shims[0]), "claude", p) != want {
			t.Errorf("first in %q: %v", p, !want)
		}
	}
}
