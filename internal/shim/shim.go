// Package shim puts a small script of an agent's name before the agent itself on the PATH, so that whoever starts it starts it in a sandbox.
package shim

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"casemate.dev/internal/store"
	"golang.org/x/sys/unix"
)

// Command is the hidden command that a shim runs casemate with.
const Command = "__shim"

// mark begins the second line of every shim: what lacks it is not ours, and is neither replaced nor removed.
const mark = "# shim of casemate: "

// Dir is where they lie. No sandbox sees the state directory, so that inside the PATH leads past them.
func Dir(state string) string { return filepath.Join(state, "shims") }

// Install writes the shim of a name, which starts the casemate that lies at a path.
func Install(dir, name, casemate string) (path string, err error) {
	path = filepath.Join(dir, name)
	if _, err := os.Lstat(path); err == nil && !isShim(path) {
		return path, fmt.Errorf("%s is there and is no shim of casemate's: move it away first", path)
	}
	if strings.ContainsAny(casemate, "\n\x00") || !filepath.IsAbs(casemate) {
		return path, fmt.Errorf("casemate lies at %q, which a script cannot name", casemate)
	}
	if err := store.MakeDir(dir); err != nil {
		return path, err
	}
	quoted := "'" + strings.ReplaceAll(casemate, "'", `'\''`) + "'"
	return path, store.WriteFile(path, []byte("#!/bin/sh\n"+mark+name+"\n"+
		"[ -x "+quoted+" ] || { echo \""+name+": casemate is gone from where this shim starts it, so nothing was started: casemate shim install "+name+"\" >&2; exit 127; }\n"+
		"exec "+quoted+" "+Command+" "+name+" \"$@\"\n"), 0o755)
}

// Remove takes one away.
func Remove(dir, name string) error {
	path := filepath.Join(dir, name)
	switch _, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no shim of %s", name)
	case !isShim(path):
		return fmt.Errorf("%s is no shim of casemate's, and stays", path)
	}
	return os.Remove(path)
}

// List names those that are installed.
func List(dir string) (names []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if isShim(filepath.Join(dir, e.Name())) {
			names = append(names, e.Name())
		}
	}
	return names
}

// isShim looks for the mark.
func isShim(path string) bool {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var head [64]byte
	n, err := unix.Read(fd, head[:])
	return err == nil && bytes.HasPrefix(head[:n], []byte("#!/bin/sh\n"+mark))
}

// Find looks for the program itself along a PATH, past every shim: also past those of another state directory, so that none ever starts another.
func Find(name, path string) string {
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, name)
		if filepath.IsAbs(dir) && isProgram(file) && !isShim(file) {
			return file
		}
	}
	return ""
}

func isProgram(file string) bool {
	var st unix.Stat_t
	return unix.Stat(file, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && unix.Faccessat(unix.AT_FDCWD, file, unix.X_OK, 0) == nil
}

// Argv is the command that a shim stands for. The settings for process wrappers (claudeCode.claudeProcessWrapper of the editor extension, the variable
// CLAUDE_CODE_PROCESS_WRAPPER) start it with the agent's own command line as its arguments; so the first one is the program where it names one.
func Argv(name string, args []string, path string) ([]string, error) {
	if len(args) > 0 && isWrapped(name, args) {
		return args, nil
	}
	file := Find(name, path)
	if file == "" {
		return nil, fmt.Errorf("%q: not found in PATH beside its shim", name)
	}
	return append([]string{file}, args...), nil
}

// isWrapped is true for the path of the agent's program, or of a runtime with the path of a script: a prompt is neither.
func isWrapped(name string, args []string) bool {
	if !filepath.IsAbs(args[0]) || !isProgram(args[0]) || isShim(args[0]) {
		return false
	}
	base := filepath.Base(args[0])
	if base == name || strings.Contains(args[0], "/"+name+"/versions/") { // Claude Code's own installer names the program by its version
		return true
	}
	return slices.Contains([]string{"node", "bun"}, base) && len(args) > 1 && filepath.IsAbs(args[1]) && slices.Contains([]string{".js", ".cjs", ".mjs"}, filepath.Ext(args[1]))
}

// IsFirst reports whether the directory comes before the program itself in a PATH.
func IsFirst(dir, name, path string) bool {
	for _, d := range filepath.SplitList(path) {
		if same(d, dir) {
			return true
		}
		if isProgram(filepath.Join(d, name)) {
			return false
		}
	}
	return false
}

func same(a, b string) bool {
	if filepath.Clean(a) == b {
		return true
	}
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}
