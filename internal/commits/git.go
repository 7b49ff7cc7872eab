package commits

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"casemate.dev/internal/workspace"
)

// git runs git in one repository, with nothing that could make it execute anything but itself.
type git struct {
	program string
	dir     string
	env     []string
	user    *User
	bounded bool // in what it may allocate
}

// maxMemory is for git in our repositories: a few kilobytes of trees in trees have more paths than any memory holds, and git collects them all
// before it prints one. Mapped files, such as packs, do not count (RLIMIT_DATA).
const maxMemory = 1 << 30

// safe are the settings of every call: the first three keep git from executing what a repository names, the others from doing more than asked.
func safe() []string {
	return []string{
		"-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "protocol.allow=never", "-c", "gc.auto=0", "-c", "maintenance.auto=false",
		"-c", "core.quotePath=false", "-c", "color.ui=false", "-c", "log.showSignature=false", "-c", "core.multiPackIndex=false",
	}
}

// sparing are settings by which git holds little in memory at a time.
func sparing() []string {
	return []string{"-c", "core.bigFileThreshold=16m", "-c", "pack.windowMemory=64m", "-c", "pack.threads=2"}
}

// baseEnvironment holds nothing of the caller's GIT_ variables. Replacements and grafts would show another history than the one that is checked.
func baseEnvironment(environ []string) []string {
	return append(pick(environ, "PATH", "TMPDIR"),
		"LC_ALL=C", "GIT_NO_REPLACE_OBJECTS=1", "GIT_GRAFT_FILE=/dev/null/none", "GIT_OPTIONAL_LOCKS=0", "GIT_TERMINAL_PROMPT=0", "GIT_ATTR_NOSYSTEM=1", "GIT_NO_LAZY_FETCH=1")
}

// pick returns the variables of these names.
func pick(environ []string, names ...string) (out []string) {
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		for _, n := range names {
			if name == n {
				out = append(out, kv)
			}
		}
	}
	return out
}

// hostGit is git in the person's own repository, whose config is as trusted as it is whenever they call git. Where root works for another user,
// git runs as that user: a repository's config is its owner's word, and not for root to obey.
func hostGit(o Options) (git, error) {
	program, err := exec.LookPath("git")
	if err != nil {
		return git{}, fmt.Errorf("git is needed on the host: %w", err)
	}
	g := git{program: program, dir: o.Project, env: baseEnvironment(o.Environ), user: o.User}
	if o.User != nil {
		g.env = append(g.env, "HOME=/nonexistent", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
		return g, nil
	}
	g.env = append(g.env, pick(o.Environ, "HOME", "XDG_CONFIG_HOME", "USER", "LOGNAME",
		"GNUPGHOME", "GPG_TTY", "SSH_AUTH_SOCK", "XDG_RUNTIME_DIR", "TERM", "DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS")...) // to sign
	return g, nil
}

// ourGit is git in a repository that we made, with no config but ours.
func ourGit(o Options, host git, dir string) git {
	env := append(baseEnvironment(o.Environ), "HOME=/nonexistent", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_DIR="+dir)
	return git{program: host.program, dir: dir, env: env, user: o.User, bounded: true}
}

func (g git) command(ctx context.Context, args ...string) *exec.Cmd {
	words := slices.Concat([]string{g.program}, safe(), args)
	if g.bounded { // by a shell, because root may not have the right to do so to a process of another user
		limit := fmt.Sprintf(`ulimit -d %d; exec "$@"`, maxMemory>>10)
		words = slices.Concat([]string{"/bin/sh", "-c", limit, "sh", g.program}, safe(), sparing(), args)
	}
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Dir, cmd.Env = g.dir, g.env
	if g.user != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: g.user.UID, Gid: g.user.GID}}
	}
	return cmd
}

// with adds variables.
func (g git) with(env ...string) git {
	g.env = append(append([]string(nil), g.env...), env...)
	return g
}

// run returns what git prints.
func (g git) run(ctx context.Context, stdin []byte, args ...string) ([]byte, error) {
	cmd := g.command(ctx, args...)
	var out, complaint bounded
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &complaint
	err := cmd.Run()
	return out.Bytes(), explain(err, args[0], complaint.Bytes())
}

// bounded holds what git prints, whose size the sandbox has a say in.
type bounded struct{ bytes.Buffer }

const maxOutput = 256 << 20

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxOutput {
		return 0, fmt.Errorf("more than %d bytes", maxOutput)
	}
	return b.Buffer.Write(p)
}

// line is run for one line of output.
func (g git) line(ctx context.Context, args ...string) (string, error) {
	out, err := g.run(ctx, nil, args...)
	return strings.TrimSpace(string(out)), err
}

// explain adds the end of what git complained about, as a terminal may see it: it quotes names from the sandbox.
func explain(err error, what string, complaint []byte) error {
	if err == nil {
		return nil
	}
	var exit *exec.ExitError
	if text := strings.TrimSpace(string(complaint)); errors.As(err, &exit) && text != "" {
		if len(text) > 1000 {
			text = text[len(text)-1000:]
		}
		if strings.Contains(text, "ut of memory") {
			return fmt.Errorf("git %s: the commits inside need more than %d MiB of memory to be read, so they are not taken: apply takes the files", what, maxMemory>>20)
		}
		return &failed{what, workspace.Visible(strings.ReplaceAll(text, "\n", "; ")), exit.ExitCode()}
	}
	return fmt.Errorf("git %s: %w", what, err)
}

// failed is git's refusal to do something.
type failed struct {
	what, complaint string
	status          int
}

func (f *failed) Error() string { return "git " + f.what + ": " + f.complaint }

// pipe runs two git commands, the first of which feeds the second.
func pipe(ctx context.Context, from git, stdin []byte, producer []string, to git, consumer []string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	var errFrom, errTo bounded
	p, c := from.command(ctx, producer...), to.command(ctx, consumer...)
	p.Stdin, p.Stdout, p.Stderr = bytes.NewReader(stdin), w, &errFrom
	c.Stdin, c.Stdout, c.Stderr = r, io.Discard, &errTo
	err = p.Start()
	w.Close()
	if err != nil {
		r.Close()
		return err
	}
	err = c.Start()
	r.Close()
	if err == nil {
		err = explain(c.Wait(), consumer[0], errTo.Bytes())
	}
	ended := p.Wait()
	if err != nil && p.ProcessState.ExitCode() < 0 { // a signal: nobody read what it wrote
		return err
	}
	if produced := explain(ended, producer[0], errFrom.Bytes()); produced != nil {
		return produced // the consumer's complaint about a short pack says less
	}
	return err
}
