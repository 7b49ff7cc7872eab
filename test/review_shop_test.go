package test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// shop is a small project with an owner who has a terminal.
type shop struct {
	t             *testing.T
	home, project string
	env           []string
}

func newShop(t *testing.T) *shop {
	t.Helper()
	dir, err := os.MkdirTemp("", "casemate-shop")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeAll(t, dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := &shop{t: t, home: filepath.Join(dir, "home"), project: filepath.Join(dir, "home", "shop")}
	s.env = []string{
		"HOME=" + s.home, "USER=owner", "LANG=C.UTF-8", "TERM=xterm-256color", "PATH=" + filepath.Dir(casemate) + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"XDG_STATE_HOME=" + filepath.Join(dir, "state"), "PS1=out> ", "HISTFILE=", "INPUTRC=/dev/null", "LESS=", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=init.defaultBranch", "GIT_CONFIG_VALUE_0=main",
	}
	if err := os.MkdirAll(s.project, 0o755); err != nil {
		t.Fatal(err)
	}
	s.put(".gitignore", "dist/\n")
	s.put("total.sh", "echo $(($1 + $2))\n")
	s.put("notes.txt", "one\n")
	s.sh("git init -q . && git add . && git -c user.name=O -c user.email=o@example.org commit -qm shop")
	return s
}

func (s *shop) put(name, content string) {
	s.t.Helper()
	writeDeep(s.t, filepath.Join(s.project, name), content)
}

// has is what the project has under a name, "" for nothing.
func (s *shop) has(name string) string {
	b, _ := os.ReadFile(filepath.Join(s.project, name))
	return string(b)
}

// command is a command of the owner's, in the project, without a terminal.
func (s *shop) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = s.project, s.env, patience
	return cmd
}

func (s *shop) sh(line string) string {
	s.t.Helper()
	out, err := s.command("sh", "-c", line).CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

// run runs a line in a sandbox and keeps what it changes.
func (s *shop) run(line string) {
	s.t.Helper()
	s.sh("casemate run --quiet --then keep -- sh -c '" + strings.ReplaceAll(line, "'", `'\''`) + "'")
}

// ends runs casemate without a terminal and returns its status and what it said.
func (s *shop) ends(args ...string) (status int, stdout, stderr string) {
	s.t.Helper()
	cmd := s.command(casemate, args...)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		s.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), o.String(), e.String()
}

// held is what the layer holds, by name.
func (s *shop) held() string {
	s.t.Helper()
	_, out, _ := s.ends("diff", "--name-only")
	return strings.Join(strings.Fields(out), " ")
}

// inLayer is where the newest layer keeps a file that was made inside: what a sandbox that still runs could write to.
func (s *shop) inLayer(name string) string {
	s.t.Helper()
	found, err := filepath.Glob(filepath.Join(filepath.Dir(s.home), "state", "casemate", "sandboxes", "*", "layer", "*", name))
	if err != nil || len(found) != 1 {
		s.t.Fatalf("%s lies in %q (%v)", name, found, err)
	}
	return found[0]
}

// sitDown starts a shell of the owner's on a terminal that the test types on.
func (s *shop) sitDown(more ...string) (*person, *exec.Cmd) {
	s.t.Helper()
	needs(s.t, "bash")
	p := sitDown(s.t)
	cmd := s.command("bash", "--norc", "--noprofile", "-i")
	cmd.Env = append(slices.Clone(s.env), more...)
	p.start(cmd)
	p.sees("out> ")
	return p, cmd
}

// screen is a terminal emulator, tmux, with a shell of the owner's: what it shows is what a person sees.
type screen struct {
	t      *testing.T
	server string
}

func (s *shop) screen(columns, rows int, more ...string) *screen {
	s.t.Helper()
	needs(s.t, "tmux")
	sc := &screen{s.t, fmt.Sprintf("casemate-test-%d-%d", os.Getpid(), time.Now().UnixNano())}
	env := append([]string{"-i"}, append(append(slices.Clone(s.env), "TERM=screen-256color"), more...)...)
	sc.tmux("new-session", "-d", "-s", "s", "-x", fmt.Sprint(columns), "-y", fmt.Sprint(rows), "-c", s.project,
		append(append([]string{"env"}, env...), "bash", "--norc", "--noprofile", "-i"))
	s.t.Cleanup(func() { _ = exec.Command("tmux", "-L", sc.server, "kill-server").Run() })
	sc.sees("out>")
	return sc
}

func (sc *screen) tmux(args ...any) string {
	sc.t.Helper()
	all := []string{"-f", "/dev/null", "-L", sc.server}
	for _, a := range args {
		switch a := a.(type) {
		case string:
			all = append(all, a)
		case []string:
			all = append(all, a...)
		}
	}
	out, err := exec.Command("tmux", all...).CombinedOutput()
	if err != nil {
		sc.t.Fatalf("tmux %q: %v: %s", args, err, out)
	}
	return strings.TrimRight(string(out), "\n")
}

// shows is what is on the screen now.
func (sc *screen) shows() string {
	sc.t.Helper()
	return sc.tmux("capture-pane", "-p", "-t", "s")
}

// sees waits until a text is on the screen, and returns the screen.
func (sc *screen) sees(want string) string {
	sc.t.Helper()
	return sc.until(fmt.Sprintf("%q is on the screen", want), func(shown string) bool { return strings.Contains(shown, want) })
}

func (sc *screen) until(what string, holds func(shown string) bool) string {
	sc.t.Helper()
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		shown := sc.shows()
		if holds(shown) {
			return shown
		}
		if time.Since(start) > 4*patience { // ten thousand files are applied before one of them
			sc.t.Fatalf("not within %v: %s; it shows\n%s", 4*patience, what, shown)
		}
	}
}

// types presses keys, as tmux names them, and waits for what they lead to.
func (sc *screen) types(want string, keys ...string) string {
	sc.t.Helper()
	sc.tmux("send-keys", "-t", "s", keys)
	return sc.sees(want)
}

// cursor is the list's line with the cursor.
func (sc *screen) cursor() string {
	for line := range strings.SplitSeq(sc.shows(), "\n") {
		if strings.HasPrefix(line, "> [") || strings.HasPrefix(line, ">    ") {
			return line
		}
	}
	return ""
}

// at waits until the cursor is on a line with the text.
func (sc *screen) at(want string, keys ...string) {
	sc.t.Helper()
	sc.tmux("send-keys", "-t", "s", keys)
	sc.until("the cursor is at "+want, func(string) bool { return strings.Contains(sc.cursor(), want) })
}
