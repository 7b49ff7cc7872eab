package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bench is where things are, and as whom they are measured.
type bench struct {
	dir, home, project    string
	casemate, empty, self string
	filter                *os.File // the peer's system call filter
	rounds                int
	root                  bool
	cred                  *syscall.Credential // who is measured when root measures; nil: ourselves
	uid, gid              int
	rootHome, rootProject string

	where string         // what disk it is on, if not that of the usual place
	undo  []func() error // in reverse
}

// ordinary is the user whom root measures as: most people are not root.
const ordinary = "casemate-test"

func newBench(bin, where string, rounds int) (*bench, error) {
	b := &bench{rounds: rounds, root: os.Getuid() == 0, uid: os.Getuid(), gid: os.Getgid()}
	var err error
	if where == "" {
		where, err = b.disk()
	}
	if err == nil {
		b.dir, err = os.MkdirTemp(where, "casemate-bench")
	}
	if err == nil {
		err = b.prepare(bin)
	}
	if err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *bench) prepare(bin string) error {
	if b.root {
		u, err := user.Lookup(ordinary)
		if err != nil {
			return fmt.Errorf("%w (test/setup.sh makes it)", err)
		}
		b.uid, _ = strconv.Atoi(u.Uid)
		b.gid, _ = strconv.Atoi(u.Gid)
		b.cred = &syscall.Credential{Uid: uint32(b.uid), Gid: uint32(b.gid)}
	}
	if _, err := exec.LookPath("bwrap"); err != nil {
		return fmt.Errorf("%w (package bubblewrap; test/setup.sh bench installs it)", err)
	}
	if err := os.Chmod(b.dir, 0o755); err != nil {
		return err
	}
	b.casemate, b.self, b.empty = filepath.Join(b.dir, "casemate"), filepath.Join(b.dir, "bench"), filepath.Join(b.dir, "empty")
	if err := copyFile(filepath.Join(bin, "casemate"), b.casemate); err != nil {
		return err
	}
	for _, sibling := range []string{"casemate-gate", "casemate-secret"} {
		if err := copyFile(filepath.Join(bin, sibling), filepath.Join(b.dir, sibling)); err != nil {
			return err
		}
	}
	me, err := os.Executable()
	if err != nil {
		return err
	}
	if err := copyFile(me, b.self); err != nil {
		return err
	}
	if err := b.buildEmpty(); err != nil {
		return err
	}
	b.home, b.project = filepath.Join(b.dir, "home"), filepath.Join(b.dir, "project")
	b.rootHome, b.rootProject = filepath.Join(b.dir, "root-home"), filepath.Join(b.dir, "root-project")
	for _, p := range []struct{ home, project string }{{b.home, b.project}, {b.rootHome, b.rootProject}} {
		if err := smallProject(p.home, p.project); err != nil {
			return err
		}
	}
	if b.root {
		if err := errors.Join(b.give(b.home), b.give(b.project)); err != nil {
			return err
		}
	}
	time.Sleep(settling)
	b.filter, err = denyFilter()
	return err
}

// settling is how long the projects are left alone before anything is measured. A start reads again what has changed in the last two seconds,
// because times of files are too coarse to tell whether it has changed once more; most starts find a project that nobody has touched that recently.
const settling = 2500 * time.Millisecond

// give makes a tree the measured user's.
func (b *bench) give(tree string) error {
	if !b.root {
		return nil
	}
	return filepath.WalkDir(tree, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, b.uid, b.gid)
	})
}

// buildEmpty builds the smallest Go program there is, with the flags of the Makefile.
func (b *bench) buildEmpty() error {
	src := filepath.Join(b.dir, "empty-src")
	if err := write(src, map[string]string{"go.mod": "module empty\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() {}\n"}); err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", b.empty, ".")
	cmd.Dir, cmd.Env = src, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %s", out)
	}
	return nil
}

func smallProject(home, project string) error {
	if err := os.Mkdir(home, 0o755); err != nil {
		return err
	}
	if err := write(project, map[string]string{"README": "hello\n", "src/main.c": "int main(void) { return 0; }\n"}); err != nil {
		return err
	}
	return quiet(exec.Command("git", "-C", project, "init", "-q"))
}

func write(dir string, files map[string]string) error {
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func quiet(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", cmd, err, out)
	}
	return nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func (b *bench) close() {
	errs := []error{os.RemoveAll(b.dir)}
	for _, undo := range slices.Backward(b.undo) {
		errs = append(errs, undo())
	}
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
}

func (b *bench) who() string {
	if b.root {
		who := fmt.Sprintf("measured as user %s (uid %d) unless the row says root", ordinary, b.uid)
		if b.where != "" {
			who += "; " + b.where
		}
		return who
	}
	return fmt.Sprintf("measured as uid %d; rows that need root are missing", b.uid)
}

// A way is one peer's way to run the same thing.
type way struct {
	argv      []string
	dir, home string
	cred      *syscall.Credential
	file      *os.File // its descriptor 3
	stdout    io.Writer
	orphans   bool // wait for what it leaves behind too
}

// plain runs argv in the project, as the measured user.
func (b *bench) plain(argv ...string) way {
	return way{argv: argv, dir: b.project, home: b.home, cred: b.cred}
}

// ours runs argv in casemate under its default policy.
func (b *bench) ours(argv ...string) way {
	return b.plain(append([]string{b.casemate, "run", "--"}, argv...)...)
}

// bwrap runs argv in bubblewrap, as near to our default policy as its flags come; it has no Landlock, no limits, no overlay.
func (b *bench) bwrap(argv ...string) way {
	w := b.plain(append(bwrapArgs(b.project, b.home), argv...)...)
	w.file = b.filter
	return w
}

func (b *bench) asRoot(w way) way {
	w.cred, w.home, w.dir = nil, b.rootHome, b.rootProject
	for i, a := range w.argv {
		switch a {
		case b.project:
			w.argv[i] = b.rootProject
		case b.home:
			w.argv[i] = b.rootHome
		}
	}
	return w
}

func (w way) env() []string {
	return []string{"HOME=" + w.home, "PATH=/usr/local/go/bin:/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "GOFLAGS=-mod=mod", "GOTOOLCHAIN=local"}
}

func (w way) cmd() *exec.Cmd {
	cmd := exec.Command(w.argv[0], w.argv[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout = w.dir, w.env(), w.stdout
	if w.file != nil { // opened again, because its offset is what readers share
		if f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", w.file.Fd())); err == nil {
			cmd.ExtraFiles = []*os.File{f}
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: w.cred}
	return cmd
}

func closeFiles(cmd *exec.Cmd) {
	for _, f := range cmd.ExtraFiles {
		f.Close()
	}
}

// used is what one run cost.
type used struct {
	wall     time.Duration
	switches int64 // of all processes
}

// once runs it to its end. What it leaves behind is reaped outside of the measured time.
func (w way) once() (used, error) {
	cmd := w.cmd()
	var stderr tail
	if w.stdout == nil {
		null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			return used{}, err
		}
		defer null.Close()
		cmd.Stdin, cmd.Stdout = null, null
	}
	f, err := os.CreateTemp("", "bench-stderr")
	if err != nil {
		return used{}, err
	}
	defer f.Close()
	os.Remove(f.Name())
	cmd.Stderr = f
	begin := time.Now()
	err = cmd.Run()
	wall := time.Since(begin)
	closeFiles(cmd)
	if err != nil {
		f.Seek(0, io.SeekStart)
		io.Copy(&stderr, f)
		return used{}, fmt.Errorf("%v: %w: %s", w.argv, err, stderr)
	}
	u := used{wall: wall}
	if r, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		u.switches = r.Nvcsw + r.Nivcsw
	}
	if w.orphans {
		u.switches += reap()
	}
	return u, nil
}

// reap waits for what lost its parent, and returns its context switches.
func reap() (switches int64) {
	for {
		var r unix.Rusage
		if _, err := unix.Wait4(-1, nil, 0, &r); err == nil {
			switches += r.Nvcsw + r.Nivcsw
		} else if err != unix.EINTR {
			return switches
		}
	}
}

// tail keeps the beginning of what is written to it.
type tail []byte

func (t *tail) Write(p []byte) (int, error) {
	*t = append(*t, p[:min(len(p), 500-min(500, len(*t)))]...)
	return len(p), nil
}

// rounds runs every way once per round, in turn, after one round that does not count.
func rounds(n int, ways ...way) ([][]used, error) {
	all := make([][]used, len(ways))
	for i := range n + 1 {
		for k := range ways {
			k = (k + i) % len(ways) // nobody is always first
			u, err := ways[k].once()
			if err != nil {
				return nil, err
			}
			if i > 0 {
				all[k] = append(all[k], u)
			}
		}
	}
	return all, nil
}

func walls(all []used) []float64 {
	out := make([]float64, len(all))
	for i, u := range all {
		out[i] = u.wall.Seconds()
	}
	return out
}

func ratios(a, b []float64) []float64 {
	out := make([]float64, len(a))
	for i := range a {
		out[i] = a[i] / b[i]
	}
	return out
}

func quantile(v []float64, q float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[min(len(s)-1, int(q*float64(len(s))))]
}

func median(v []float64) float64 { return quantile(v, 0.5) }

func ms(seconds float64) string {
	if seconds >= 1 {
		return fmt.Sprintf("%.2fs", seconds)
	}
	return fmt.Sprintf("%.2fms", seconds*1e3)
}

// compare makes a row of paired times.
func compare(what string, ours, peer []float64, goal, then float64) row {
	r := ratios(ours, peer)
	return row{What: what, Ours: ms(median(ours)), Peer: ms(median(peer)), Value: median(r), P90: quantile(r, 0.9), Goal: goal, Then: then, Rounds: len(r)}
}
