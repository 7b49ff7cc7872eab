package workspace

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// held is a project with a layer, as a test sees it.
type fixture struct {
	testing.TB
	kind          LayerKind
	project, dir  string
	born          time.Time
	mounted       []time.Time
	hide, protect []string // base names
	options       func(*LayerOptions)
}

// newFixture makes a project of the given files ("x/" is a directory, "x -> y" a link, "x*" an executable) and an empty layer.
func newFixture(t testing.TB, kind LayerKind, files map[string]string) *fixture {
	t.Helper()
	top := t.TempDir()
	f := &fixture{TB: t, kind: kind, project: filepath.Join(top, "project"), dir: filepath.Join(top, "layer")}
	must(t, os.MkdirAll(f.project, 0o755))
	must(t, os.MkdirAll(f.dir, 0o755))
	for name, content := range files {
		f.put(f.project+"/"+name, content)
	}
	f.born = time.Now()
	t.Cleanup(func() {
		if err := Discard(context.Background(), f.dir); err != nil {
			t.Error(err)
		}
	})
	if kind == OverlayLayer {
		must(t, os.MkdirAll(filepath.Join(f.dir, "upper"), 0o755))
		must(t, os.MkdirAll(filepath.Join(f.dir, "work"), 0o755))
	}
	return f
}

// start copies the project in, if the layer is a copy.
func (f *fixture) start() {
	f.Helper()
	if f.kind == CopyLayer && len(f.mounted) == 0 {
		if _, err := CopyIn(context.Background(), f.project, f.dir, f.hidden); err != nil {
			f.Fatal(err)
		}
	}
	f.mounted = append(f.mounted, time.Now())
}

func (f *fixture) inside() string {
	if f.kind == CopyLayer {
		return filepath.Join(f.dir, "copy")
	}
	return filepath.Join(f.dir, "upper")
}

func (f *fixture) put(path, content string) {
	f.Helper()
	mode := os.FileMode(0o644)
	if p, ok := strings.CutSuffix(path, "*"); ok {
		path, mode = p, 0o755
	}
	if link, target, ok := strings.Cut(path, " -> "); ok {
		must(f, os.MkdirAll(filepath.Dir(link), 0o755))
		must(f, os.Symlink(target, link))
		return
	}
	if strings.HasSuffix(path, "/") {
		must(f, os.MkdirAll(path, 0o755))
		return
	}
	must(f, os.MkdirAll(filepath.Dir(path), 0o755))
	must(f, os.WriteFile(path, []byte(content), mode))
	must(f, os.Chmod(path, mode))
}

func (f *fixture) hidden(rel string, _ bool) bool { return nameIn(f.hide, rel) }

func nameIn(names []string, rel string) bool {
	for _, n := range names {
		if filepath.Base(rel) == n {
			return true
		}
	}
	return false
}

// open opens the layer with the fixture's lists.
func (f *fixture) open() *Layer {
	f.Helper()
	o := LayerOptions{Dir: f.dir, Project: f.project, Kind: f.kind, Born: f.born, Mounted: f.mounted}
	o.Hidden = f.hidden
	o.Protected = func(rel string) (string, bool) {
		for _, n := range f.protect {
			if under(rel, n) || filepath.Base(rel) == n {
				return "the host runs it", true
			}
		}
		return "", false
	}
	if f.options != nil {
		f.options(&o)
	}
	l, err := OpenLayer(o)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { l.Close() })
	return l
}

func (f *fixture) changes(o ChangeOptions) []Change {
	f.Helper()
	c, err := f.open().Changes(context.Background(), o)
	if err != nil {
		f.Fatal(err)
	}
	return c
}

func (f *fixture) apply(o ApplyOptions) []Outcome {
	f.Helper()
	out, err := f.open().Apply(context.Background(), o)
	if err != nil {
		f.Fatal(err)
	}
	return out
}

// lines shows changes as "kind class path".
func lines(changes []Change) string {
	var b strings.Builder
	for _, c := range changes {
		fmt.Fprintf(&b, "%s %s %s\n", c.Kind, c.Class, Quote(c.Path))
	}
	return b.String()
}

func outcomeLines(outcomes []Outcome) string {
	var b strings.Builder
	for _, o := range outcomes {
		fmt.Fprintf(&b, "%s %s %s", o.Status, o.Kind, Quote(o.Path))
		if o.Why != "" {
			fmt.Fprintf(&b, " (%s)", o.Why)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func (f *fixture) wantChanges(o ChangeOptions, want ...string) {
	f.Helper()
	got := strings.TrimSpace(lines(f.changes(o)))
	if w := strings.Join(want, "\n"); got != w {
		f.Errorf("changes:\n%s\nwant:\n%s", got, w)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// job is what the child does in the merged directory.
type job struct {
	Project, Dir string
	Mask         string `json:",omitempty"`
	Script       string `json:",omitempty"`
	Seed         uint64 `json:",omitempty"`
	Steps        int    `json:",omitempty"`
	Plain        bool   // no mount: Dir is the tree itself
}

const jobVariable = "CASEMATE_WORKSPACE_JOB"

// run runs a shell script where the sandbox would: in the overlay mounted in a user namespace, or in the copy.
func (f *fixture) run(script string) { f.Helper(); f.child(job{Script: script}) }

// child runs a job and returns what the tree looked like then.
func (f *fixture) child(j job) map[string]string {
	f.Helper()
	f.start()
	j.Project, j.Dir, j.Plain = f.project, f.dir, f.kind == CopyLayer
	if len(f.hide) > 0 && !j.Plain {
		j.Mask = f.mask()
	}
	data, err := json.Marshal(j)
	must(f, err)
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestChildOfOverlay$", "-test.v")
	cmd.Env = append(os.Environ(), jobVariable+"="+string(data))
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
		f.Skip("no user namespaces here: kernel.unprivileged_userns_clone, user.max_user_namespaces or AppArmor forbids them")
	}
	if err != nil {
		f.Fatalf("child: %v\n%s", err, out)
	}
	tree := map[string]string{}
	data, err = os.ReadFile(filepath.Join(f.dir, "tree.json"))
	must(f, err)
	must(f, os.Remove(filepath.Join(f.dir, "tree.json")))
	must(f, json.Unmarshal(data, &tree))
	return tree
}

// mask makes a lower layer that hides the hidden names wherever they are now.
func (f *fixture) mask() string {
	f.Helper()
	mask := filepath.Join(f.dir, "mask")
	err := filepath.WalkDir(f.project, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(f.project, path)
		if d.IsDir() && !nameIn(f.hide, rel) {
			return os.MkdirAll(filepath.Join(mask, rel), 0o755)
		}
		if nameIn(f.hide, rel) {
			if err := unix.Mknod(filepath.Join(mask, rel), unix.S_IFCHR, 0); err != nil && !errors.Is(err, unix.EEXIST) {
				return err
			}
			if d.IsDir() {
				return fs.SkipDir
			}
		}
		return nil
	})
	must(f, err)
	return mask
}

// TestChildOfOverlay is no test: it is what the tests of this package run in a user namespace of its own.
func TestChildOfOverlay(t *testing.T) {
	data := os.Getenv(jobVariable)
	if data == "" {
		return
	}
	var j job
	must(t, json.Unmarshal([]byte(data), &j))
	tree := filepath.Join(j.Dir, "copy")
	if !j.Plain {
		tree = mountOverlay(t, j)
	}
	must(t, os.Chdir(tree))
	if j.Script != "" {
		cmd := exec.Command("/bin/sh", "-euc", j.Script)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	if j.Steps > 0 {
		randomEdits(t, j.Seed, j.Steps)
	}
	snap, err := json.Marshal(snapshot(t, "."))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(j.Dir, "tree.json"), snap, 0o600))
}

func mountOverlay(t *testing.T, j job) string {
	t.Helper()
	merged := filepath.Join(j.Dir, "merged")
	must(t, os.MkdirAll(merged, 0o755))
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	lower := j.Project
	if j.Mask != "" {
		lower = j.Mask + ":" + lower
	}
	o := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work,userxattr", lower, j.Dir, j.Dir)
	if err := unix.Mount("overlay", merged, "overlay", 0, o); err != nil {
		t.Fatalf("mount overlay: %v", err)
	}
	return merged
}

// snapshot describes every path beneath dir by all that Apply promises to carry.
func snapshot(t testing.TB, dir string) map[string]string {
	t.Helper()
	tree := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		st, err := os.Lstat(path)
		if err != nil || rel == "." {
			return err
		}
		switch {
		case d.IsDir():
			tree[rel] = fmt.Sprintf("dir %04o", st.Mode().Perm())
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			tree[rel] = "link " + target
			return err
		case d.Type().IsRegular():
			data, err := os.ReadFile(path)
			tree[rel] = fmt.Sprintf("file %04o %d %x", st.Mode().Perm(), len(data), sha256.Sum256(data))
			return err
		default:
			tree[rel] = st.Mode().String()
		}
		return nil
	})
	must(t, err)
	return tree
}

// randomEdits does what programs do to a tree, and what they seldom do.
func randomEdits(t testing.TB, seed uint64, steps int) {
	r := rand.New(rand.NewPCG(seed, 1))
	for range steps {
		tree := existing(t)
		randomEdit(r, tree)
	}
}

func existing(t testing.TB) []string {
	paths := []string{"."}
	must(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if path != "." {
			paths = append(paths, path)
		}
		return err
	}))
	return paths
}

// randomEdit may fail, as anything may; what it did is what counts.
func randomEdit(r *rand.Rand, tree []string) {
	pick := func() string { return tree[r.IntN(len(tree))] }
	some := pick()
	if st, err := os.Lstat(some); err == nil && !st.IsDir() {
		some = filepath.Dir(some)
	}
	fresh := filepath.Join(some, string(rune('a'+r.IntN(6)))+strconv.Itoa(r.IntN(4)))
	content := []byte(strings.Repeat(fmt.Sprintf("line %d\n", r.IntN(5)), r.IntN(200)))
	switch r.IntN(14) {
	case 0, 1, 2:
		os.WriteFile(fresh, content, 0o644)
	case 3:
		os.MkdirAll(filepath.Join(fresh, "deep", "er"), 0o755)
	case 4, 5:
		if p := pick(); p != "." {
			os.RemoveAll(p)
		}
	case 6:
		if p := pick(); p != "." { // deleted and made again: opaque
			os.RemoveAll(p)
			os.Mkdir(p, 0o755)
			os.WriteFile(filepath.Join(p, "again"), content, 0o600)
		}
	case 7, 8:
		os.Rename(pick(), fresh)
	case 9:
		os.Rename(pick(), pick())
	case 10:
		os.Symlink(filepath.Base(pick()), fresh)
	case 11:
		p := pick()
		st, err := os.Lstat(p)
		if err == nil && st.IsDir() && p != "." {
			os.Chmod(p, []os.FileMode{0o700, 0o755, 0o750}[r.IntN(3)])
		} else if err == nil && st.Mode().IsRegular() {
			os.Chmod(p, []os.FileMode{0o600, 0o755, 0o644, 0o700, 0o444}[r.IntN(5)])
		}
	case 12:
		if p := pick(); p != "." {
			if f, err := os.OpenFile(p, os.O_WRONLY|os.O_APPEND, 0); err == nil {
				f.Write(content)
				f.Close()
			}
		}
	case 13:
		if p := pick(); p != "." { // a directory becomes a file, or the other way round
			os.RemoveAll(p)
			os.WriteFile(p, content, 0o755)
		}
	}
}
