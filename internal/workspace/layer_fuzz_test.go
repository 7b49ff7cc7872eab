package workspace

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"casemate.dev/internal/history"
	"golang.org/x/sys/unix"
)

// modelled is one entry of a tree as the model of FuzzLayer knows it.
type modelled struct {
	kind string // file, link, dir, fifo, whiteout, metacopy (a file), redirect (a directory)
	mode os.FileMode
	text string // content, or target
	mark byte   // of a directory: y, opaque; x, files with the attribute for it are whiteouts
	in   map[string]*modelled
}

// tape is where a fuzz target's decisions come from; at its end all are 0.
type tape []byte

func (t *tape) n(max int) int {
	if len(*t) == 0 {
		return 0
	}
	b := (*t)[0]
	*t = (*t)[1:]
	return int(b) % max
}

var (
	modelNames   = []string{"a", "b", "c", "a", "b", "c", "a", "b", "A", "x\n", "p", ".env", "e\u0301", "é"}
	modelTexts   = []string{"", "one\n", "two\n", "binary\x00\xff", "../..", "/etc/passwd", "a", "b/c"}
	projectKinds = []string{"file", "dir", "dir", "link"}
	layerKinds   = []string{"file", "file", "dir", "dir", "dir", "whiteout", "whiteout", "link", "fifo", "metacopy", "redirect", "escaped", "xwhiteout", "hard"}
)

// grow adds an entry somewhere beneath a directory, on disk and in the model, half of the time by a name that like has in that place.
func (t *tape) grow(tb testing.TB, path string, d, like *modelled, kinds []string) {
	deep := false
	for range t.n(5) {
		var dirs []string
		for _, name := range slices.Sorted(maps.Keys(d.in)) {
			if d.in[name].in != nil {
				dirs = append(dirs, name)
			}
		}
		if len(dirs) == 0 {
			break
		}
		name := dirs[t.n(len(dirs))]
		deep = true
		d, path = d.in[name], filepath.Join(path, name)
		if like != nil {
			like = like.in[name]
		}
	}
	name := modelNames[t.n(len(modelNames))]
	if like != nil && len(like.in) > 0 && t.n(2) == 0 {
		names := slices.Sorted(maps.Keys(like.in))
		name = names[t.n(len(names))]
	}
	if d.in[name] != nil {
		return
	}
	e := &modelled{kind: kinds[t.n(len(kinds))], text: modelTexts[t.n(len(modelTexts))], mode: []os.FileMode{0o644, 0o755, 0o600, 0o700}[t.n(4)]}
	switch {
	case name == "p" && e.kind == "link":
		e.text = "nowhere" // what it leads to would be protected as well
	case name == "p" && e.kind != "whiteout":
		e.kind = "file" // a protected directory is made with what is in it, which the model leaves out
	}
	path = filepath.Join(path, name)
	if e.kind == "hard" && !hardLink(d, path, e) {
		e.kind = "file"
	}
	if e.kind == "dir" || e.kind == "redirect" {
		e.mode |= 0o700
	}
	make, set := e.write, func(name, value string) error { return unix.Lsetxattr(path, name, []byte(value), 0) }
	var err error
	switch e.kind {
	case "hard":
		e.kind = "file"
	case "link":
		if e.text == "" || strings.IndexByte(e.text, 0) >= 0 {
			e.text = "nowhere"
		}
		err = os.Symlink(e.text, path)
	case "fifo":
		err = unix.Mkfifo(path, 0o644)
	case "whiteout":
		err = makeWhiteoutAt(path)
	case "xwhiteout":
		e.kind, e.text = "file", ""
		if err = make(path); err == nil {
			err = set(xattrWhiteout, "y")
		}
		if d.mark == 'x' {
			e.kind = "whiteout"
		}
	case "metacopy":
		if err = make(path); err == nil {
			err = set(xattrMetacopy, "")
		}
	case "escaped":
		e.kind = "file"
		if err = make(path); err == nil {
			err = errors.Join(set(xattrEscaped+"metacopy", ""), set("user.note", "n"))
		}
	case "dir", "redirect":
		if err = make(path); err == nil && e.kind == "redirect" {
			err = set(xattrRedirect, "/../../etc")
		} else if mark := t.n(4); err == nil && len(kinds) > len(projectKinds) && (mark == 0 || mark == 1 && !deep) { // no kernel makes the other beneath it
			e.mark = "yx"[mark]
			err = set(xattrOpaque, string(e.mark))
		}
	default:
		err = make(path)
	}
	if errors.Is(err, unix.EOPNOTSUPP) {
		tb.Skip("no user.* extended attributes on this file system")
	}
	must(tb, err)
	d.in[name] = e
}

func makeWhiteoutAt(path string) error { return unix.Mknod(path, unix.S_IFCHR, 0) }

func (e *modelled) write(path string) error {
	if e.kind == "dir" || e.kind == "redirect" {
		e.in = map[string]*modelled{}
		return errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, e.mode))
	}
	return errors.Join(os.WriteFile(path, []byte(e.text), 0o600), os.Chmod(path, e.mode))
}

// hardLink gives a file beside it another name.
func hardLink(d *modelled, path string, e *modelled) bool {
	for _, name := range slices.Sorted(maps.Keys(d.in)) {
		if old := d.in[name]; old.kind == "file" && name != ".env" {
			e.text, e.mode = old.text, old.mode
			return os.Link(filepath.Join(filepath.Dir(path), name), path) == nil
		}
	}
	return false
}

// result is what the host has of a name after all of the layer is applied: what overlayfs would show, but for what is hidden or refused, of which
// the host's own stays.
func result(name string, up, host *modelled, gone bool) *modelled {
	switch {
	case name == ".env":
		return host
	case up == nil && !gone:
		return host
	case up == nil || up.kind == "whiteout":
		return deleted(host)
	case up.kind == "fifo" || up.kind == "metacopy":
		if host != nil && host.in != nil {
			return emptied(host) // it is not there inside, whatever is in its place
		}
		return host
	case up.in == nil:
		if left := deleted(host); left != nil {
			return left // a directory that holds something hidden
		}
		return up
	case up.kind == "redirect":
		dir := &modelled{kind: "dir", mode: up.mode, in: map[string]*modelled{}}
		if host != nil && host.in != nil {
			dir.in = host.in
		}
		return dir
	}
	dir := &modelled{kind: "dir", mode: up.mode, in: map[string]*modelled{}}
	var below map[string]*modelled
	if host != nil {
		below = host.in
	}
	for _, m := range []map[string]*modelled{up.in, below} {
		for name := range m {
			if e := result(name, up.in[name], below[name], gone || up.mark == 'y'); e != nil {
				dir.in[name] = e
			}
		}
	}
	return dir
}

// deleted is what stays of something deleted: what is hidden, and the directories above it.
func deleted(host *modelled) *modelled {
	if host == nil || host.in == nil {
		return nil
	}
	if left := emptied(host); len(left.in) > 0 {
		return left
	}
	return nil
}

func emptied(host *modelled) *modelled {
	left := &modelled{kind: "dir", mode: host.mode, in: map[string]*modelled{}}
	for name, e := range host.in {
		if name == ".env" {
			left.in[name] = e
		} else if e := deleted(e); e != nil {
			left.in[name] = e
		}
	}
	return left
}

// list writes a tree down as snapshot does.
func (e *modelled) list(tb testing.TB, rel string, tree map[string]string) map[string]string {
	if rel != "" {
		at := filepath.Join(tb.TempDir(), "e")
		switch e.kind {
		case "link":
			must(tb, os.Symlink(e.text, at))
		case "dir":
			must(tb, os.Mkdir(at, 0o700))
			must(tb, os.Chmod(at, e.mode))
		default:
			must(tb, e.write(at))
		}
		tree[rel] = snapshot(tb, filepath.Dir(at))["e"]
	}
	for name, in := range e.in {
		in.list(tb, join(rel, name), tree)
	}
	return tree
}

// FuzzLayer makes a project and a layer over it, both as hostile as the tape says, and applies all of it: the project is then what a model of
// overlayfs says, but for what is refused or hidden; nothing outside has changed; nothing is left to be applied; and undo brings back what was there.
func FuzzLayer(f *testing.F) {
	f.Add([]byte{})
	seeds := []uint64{1111, 1535, 2058} // directories of both sides in opaque ones
	for seed := range uint64(200) {
		seeds = append(seeds, seed)
	}
	for _, seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 3))
		data := make([]byte, 200+r.IntN(1000))
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		x, in := newFixture(t, OverlayLayer, nil), tape(data)
		x.hide, x.protect = []string{".env"}, []string{"p"}
		host, layer := &modelled{kind: "dir", in: map[string]*modelled{}}, &modelled{kind: "dir", in: map[string]*modelled{}}
		for range in.n(40) {
			in.grow(t, x.project, host, nil, projectKinds)
		}
		x.born = time.Now()
		for range in.n(40) {
			in.grow(t, x.inside(), layer, host, layerKinds)
		}
		before := snapshot(t, x.project)
		beside := filepath.Join(filepath.Dir(x.project), "c") // where ../.. from a directory of the project could lead
		must(t, os.WriteFile(beside, []byte("beside"), 0o644))

		changes := x.changes(ChangeOptions{})
		o := ApplyOptions{Paths: []string{""}, Overwrite: []string{""}, Consent: map[string]string{}}
		for _, c := range changes {
			o.Paths = append(o.Paths, c.Path)
			if c.Digest != "" { // a directory that is new and cannot be read is two changes
				o.Consent[c.Path] = c.Digest
			}
		}
		var outcomes []Outcome
		for range in.n(4) { // first a part
			if part := o; len(changes) > 0 {
				part.Paths = []string{changes[in.n(len(changes))].Path}
				outcomes = append(outcomes, x.apply(part)...)
			}
		}
		outcomes = append(outcomes, x.apply(o)...)
		want := result("", layer, host, false).list(t, "", map[string]string{})
		if got := snapshot(t, x.project); !maps.Equal(got, want) {
			t.Fatalf("the project is not what the model says:\n%s\noutcomes:\n%s", difference(want, got), outcomeLines(outcomes))
		}
		for _, c := range x.changes(ChangeOptions{}) {
			if c.Refused == "" {
				t.Errorf("%s %s is left; outcomes:\n%s", c.Kind, Quote(c.Path), outcomeLines(outcomes))
			}
		}
		if b, err := os.ReadFile(beside); string(b) != "beside" {
			t.Errorf("beside the project: %q, %v", b, err)
		}
		undoAll(t, x)
		if got := snapshot(t, x.project); !maps.Equal(got, before) {
			t.Errorf("undone, it is another tree:\n%s", difference(before, got))
		}
	})
}

func undoAll(t *testing.T, x *fixture) {
	t.Helper()
	h, err := history.Open(filepath.Join(x.dir, "history"), x.project)
	must(t, err)
	defer h.Close()
	for {
		_, out, err := h.Undo(context.Background(), history.UndoOptions{})
		if errors.Is(err, history.ErrNothing) {
			return
		}
		must(t, err)
		for _, o := range out {
			if o.Status != history.Undone && o.Status != history.Already {
				t.Fatalf("undo of %s: %s %s", Quote(o.Path), o.Status, o.Why)
			}
		}
	}
}
