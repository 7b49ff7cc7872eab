// Package merge combines what two sides made of one file, with git's machinery and nothing that a repository could make it execute.
package merge

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// Git runs git in an empty repository of our own, in a temporary directory. No config, hook, attribute or filter of the project or of the person
// is read; of a project's repository, objects are read and nothing else.
type Git struct {
	program, dir string
}

// New makes the empty repository. Close removes it.
func New() (*Git, error) {
	program, err := exec.LookPath("git")
	if err != nil {
		return nil, fmt.Errorf("to merge, git is needed on the host: %w", err)
	}
	dir, err := os.MkdirTemp("", "casemate-merge-")
	if err != nil {
		return nil, err
	}
	g := &Git{program, dir}
	for _, d := range []string{"git", "git/objects", "git/refs"} {
		err = errors.Join(err, os.Mkdir(filepath.Join(dir, d), 0o700))
	}
	for name, text := range map[string]string{"git/HEAD": "ref: refs/heads/none\n", "git/config": "[core]\n\trepositoryformatversion = 0\n\tbare = false\n"} {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	if err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// Close removes what New made.
func (g *Git) Close() error { return os.RemoveAll(g.dir) }

func (g *Git) command(ctx context.Context, env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, g.program, append([]string{"-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "protocol.allow=never"}, args...)...)
	cmd.Dir = g.dir
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "LC_ALL=C", "GIT_DIR=" + filepath.Join(g.dir, "git"), "GIT_WORK_TREE=" + g.dir,
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_ATTR_NOSYSTEM=1", "GIT_OPTIONAL_LOCKS=0", "GIT_TERMINAL_PROMPT=0",
		"GIT_NO_REPLACE_OBJECTS=1", "GIT_NO_LAZY_FETCH=1", "GIT_LITERAL_PATHSPECS=1",
	}, env...)
	return cmd
}

// maxBlob is the largest base that is read.
const maxBlob = 16 << 20

// Base is where a common ancestor of both sides is to be had: a git index as it once was, and the object database it speaks of.
type Base struct{ Index, Objects string }

// Blobs reads what the index has at the given paths. What it does not have is left out, as is a path that git's protocol cannot carry.
func (g *Git) Blobs(ctx context.Context, b Base, paths []string) (map[string][]byte, error) {
	var ask bytes.Buffer
	var asked []string
	for _, p := range paths {
		if !strings.ContainsAny(p, "\n\x00") {
			fmt.Fprintf(&ask, ":0:%s\n", p)
			asked = append(asked, p)
		}
	}
	if len(asked) == 0 {
		return nil, nil
	}
	cmd := g.command(ctx, []string{"GIT_INDEX_FILE=" + b.Index, "GIT_OBJECT_DIRECTORY=" + b.Objects}, "cat-file", "--batch", "--buffer")
	cmd.Stdin = &ask
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	blobs, err := readBlobs(bufio.NewReader(out), asked)
	if err != nil {
		cmd.Process.Kill()
	}
	if e := cmd.Wait(); err == nil && e != nil {
		err = fmt.Errorf("git cat-file: %w", e)
	}
	return blobs, err
}

// readBlobs reads git-cat-file(1)'s batch output: "OID TYPE SIZE", the content, a newline; or the name and "missing".
func readBlobs(r *bufio.Reader, asked []string) (map[string][]byte, error) {
	blobs := map[string][]byte{}
	for _, p := range asked {
		head, err := r.ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("git cat-file: %w", err)
		}
		head = strings.TrimSuffix(head, "\n")
		if head == ":0:"+p+" missing" {
			continue
		}
		fields := strings.Fields(head)
		if len(fields) != 3 {
			return nil, fmt.Errorf("git cat-file said %q", head)
		}
		size, err := strconv.ParseInt(fields[2], 10, 64)
		if err != nil || size < 0 {
			return nil, fmt.Errorf("git cat-file said %q", head)
		}
		if fields[1] != "blob" || size > maxBlob {
			if _, err := r.Discard(int(size) + 1); err != nil {
				return nil, fmt.Errorf("git cat-file: %w", err)
			}
			continue
		}
		data := make([]byte, size+1)
		if _, err := io.ReadFull(r, data); err != nil {
			return nil, fmt.Errorf("git cat-file: %w", err)
		}
		blobs[p] = data[:size]
	}
	return blobs, nil
}

// Three merges two sides of a file with a common ancestor. If they do not merge, the text has both, between git's marks.
func (g *Git) Three(ctx context.Context, base, host, sandbox []byte) (merged []byte, clean bool, err error) {
	for name, data := range map[string][]byte{"host": host, "base": base, "sandbox": sandbox} {
		if err := os.WriteFile(filepath.Join(g.dir, name), data, 0o600); err != nil {
			return nil, false, err
		}
	}
	cmd := g.command(ctx, nil, "merge-file", "-p", "-q", "--diff3", "-L", "host", "-L", "before", "-L", "sandbox", "host", "base", "sandbox")
	merged, err = cmd.Output()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return merged, true, nil
	case errors.As(err, &exit) && exit.ExitCode() > 0 && exit.ExitCode() < 128: // the number of conflicts
		return merged, false, nil
	}
	return nil, false, fmt.Errorf("git merge-file: %w", err)
}
