package workspace

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// hand makes a layer by hand: what no overlayfs would leave, but an attacker who found a way might.
func (f *fixture) hand(path string) string {
	f.Helper()
	name := filepath.Join(f.inside(), path)
	must(f, os.MkdirAll(filepath.Dir(name), 0o755))
	return name
}

func (f *fixture) byPath(o ChangeOptions) map[string]Change {
	f.Helper()
	m := map[string]Change{}
	for _, c := range f.changes(o) {
		m[c.Path] = c
	}
	return m
}

// Reading a layer follows no link (F21), blocks on no fifo and connects to no socket, and applying it makes none of them.
func TestHostileFiles(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	must(t, os.WriteFile(secret, []byte("CANARY"), 0o600))
	f := newFixture(t, OverlayLayer, map[string]string{"file": "f\n", "dir/x": "x\n"})
	must(t, os.Symlink(secret, f.hand("out/report.txt")))
	must(t, os.Symlink(filepath.Dir(secret), f.hand("linked")))
	must(t, os.Symlink(secret, f.hand("file")))
	must(t, unix.Mkfifo(f.hand("fifo"), 0o666))
	must(t, unix.Mkfifo(f.hand("dir/x"), 0o666))
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	defer unix.Close(s)
	t.Chdir(f.inside())
	must(t, unix.Bind(s, &unix.SockaddrUnix{Name: "sock"}))
	f.wantChanges(ChangeOptions{}, "type refused dir/x", "added refused fifo", "type changed file", "added changed linked", "added changed out", "added changed out/report.txt", "added refused sock")

	if data, _ := os.ReadFile(f.hand("out/report.txt")); string(data) != "CANARY" {
		t.Fatal("reading by path does not follow the link, so this test shows nothing")
	}
	l := f.open()
	changes, err := l.Changes(t.Context(), ChangeOptions{})
	must(t, err)
	must(t, l.Count(t.Context(), changes))
	var out bytes.Buffer
	must(t, l.Diff(t.Context(), &out, changes, DiffOptions{}))
	must(t, WriteJSON(&out, changes))
	if strings.Contains(out.String(), "CANARY") {
		t.Errorf("the diff read through a link:\n%s", out.String())
	}
	for _, o := range f.apply(ApplyOptions{Paths: []string{"", "linked", "file", "out/report.txt", "fifo", "sock", "dir/x"}, Overwrite: []string{""}}) {
		if (o.Status == Applied) != (o.Refused == "") {
			t.Errorf("%s %s: %s", o.Status, o.Path, o.Why)
		}
	}
	for path, want := range map[string]string{"file": "link " + secret, "linked": "link " + filepath.Dir(secret), "dir/x": "file 0644 2 "} {
		if got := snapshot(t, f.project)[path]; !strings.HasPrefix(got, want) {
			t.Errorf("%s is %s", path, got)
		}
	}
	if data, _ := os.ReadFile(secret); string(data) != "CANARY" {
		t.Errorf("the file outside is now %q", data)
	}
}

func TestDevicesAreRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a device (CAP_MKNOD)")
	}
	kinds(t, func(t *testing.T, kind LayerKind) {
		f := newFixture(t, kind, map[string]string{"f": "f\n"})
		f.start()
		must(t, unix.Mknod(f.hand("disk"), unix.S_IFBLK|0o666, int(unix.Mkdev(7, 0))))
		must(t, unix.Mknod(f.hand("zero"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))))
		must(t, unix.Mknod(f.hand("block0"), unix.S_IFBLK|0o666, 0))
		os.Remove(f.hand("f"))
		must(t, unix.Mknod(f.hand("f"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))))
		f.wantChanges(ChangeOptions{}, "added refused block0", "added refused disk", "type refused f", "added refused zero")
		f.apply(ApplyOptions{Paths: []string{"", "disk", "zero", "f"}, Overwrite: []string{""}})
		if got := snapshot(t, f.project); len(got) != 1 || !strings.HasPrefix(got["f"], "file 0644 2 ") {
			t.Errorf("the project is now %v", got)
		}
	})
}

// In a copy the sandbox can make what is a whiteout to overlayfs (anybody may, since Linux 5.8). There it means nothing.
func TestWhiteoutInACopyIsADevice(t *testing.T) {
	f := newFixture(t, CopyLayer, map[string]string{"f": "f\n"})
	f.start()
	must(t, os.Remove(f.hand("f")))
	must(t, unix.Mknod(f.hand("f"), unix.S_IFCHR, 0))
	f.wantChanges(ChangeOptions{}, "type refused f")
}

// What the sandbox sets under the names of overlayfs's own attributes is escaped by the kernel and means nothing here; unescaped redirects and
// metacopies, which no mount with userxattr makes, are refused (F25, CVE-2021-3493).
func TestForgedAttributes(t *testing.T) {
	f := newFixture(t, OverlayLayer, map[string]string{"d/x": "x\n", "f": "f\n", "g": "g\n"})
	must(t, os.MkdirAll(f.hand("d"), 0o755))
	set := func(path, name, value string) {
		t.Helper()
		err := unix.Setxattr(f.hand(path), name, []byte(value), 0)
		if err == unix.EOPNOTSUPP {
			t.Skip("no user.* extended attributes on this file system")
		}
		must(t, err)
	}
	set("d", "user.overlay.overlay.opaque", "y")
	must(t, os.WriteFile(f.hand("f"), []byte("new\n"), 0o644))
	set("f", "user.overlay.overlay.metacopy", "")
	set("f", "user.note", "n\x1b")
	must(t, os.WriteFile(f.hand("g"), []byte("new\n"), 0o644))
	set("g", "user.overlay.metacopy", "")
	must(t, os.MkdirAll(f.hand("redirected"), 0o755))
	set("redirected", "user.overlay.redirect", "/../../etc")
	must(t, os.WriteFile(f.hand("redirected/passwd"), nil, 0o644))
	must(t, os.WriteFile(f.hand("empty"), nil, 0o644))
	set("empty", "user.overlay.whiteout", "y") // not in a directory that says x, so an empty file
	f.wantChanges(ChangeOptions{}, "added changed empty", "modified changed f", "modified refused g", "added changed redirected", "modified refused redirected")
	want := []string{"the extended attribute user.note stays behind", "the extended attribute user.overlay.metacopy stays behind"}
	notes := f.byPath(ChangeOptions{})["f"].Notes
	slices.Sort(notes)
	if !slices.Equal(notes, want) {
		t.Errorf("notes %q", notes)
	}
}

func TestWhiteoutsOfEveryKind(t *testing.T) {
	f := newFixture(t, OverlayLayer, map[string]string{"d/a": "a\n", "d/b": "b\n", "o/a": "a\n", "o/b": "b\n", "w": "w\n", "dir/x": "x\n"})
	must(t, os.MkdirAll(f.hand("d"), 0o755))
	must(t, os.WriteFile(f.hand("d/a"), nil, 0o644))
	if err := unix.Setxattr(f.hand("d/a"), xattrWhiteout, []byte("y"), 0); err == unix.EOPNOTSUPP {
		t.Skip("no user.* extended attributes on this file system")
	}
	must(t, unix.Setxattr(f.hand("d"), xattrOpaque, []byte("x"), 0))
	must(t, os.MkdirAll(f.hand("o"), 0o755))
	must(t, unix.Setxattr(f.hand("o"), xattrOpaque, []byte("y"), 0))
	must(t, os.WriteFile(f.hand("o/b"), []byte("B\n"), 0o644))
	for _, name := range []string{"w", "dir", "nothing"} {
		must(t, unix.Mknod(f.hand(name), unix.S_IFCHR, 0))
	}
	want := []string{"deleted changed d/a", "deleted changed dir", "deleted changed dir/x", "deleted changed o/a", "modified changed o/b", "deleted changed w"}
	f.wantChanges(ChangeOptions{}, want...)
	f.apply(ApplyOptions{})
	f.wantChanges(ChangeOptions{})
	if left := snapshot(t, f.inside()); len(left) > 1 { // d, whose kind of opacity is not undone
		t.Errorf("left in the layer: %v", left)
	}
}

func TestHardLinks(t *testing.T) {
	f := newFixture(t, OverlayLayer, map[string]string{"host": "h\n"})
	must(t, os.Link(filepath.Join(f.project, "host"), filepath.Join(f.project, "other")))
	f.run("echo x > a; ln a b; echo in >> host")
	for path, want := range map[string]string{"a": "it has other names inside", "b": "it has other names inside", "host": "the host's file has other names"} {
		if notes := f.byPath(ChangeOptions{})[path].Notes; len(notes) != 1 || !strings.HasPrefix(notes[0], want) {
			t.Errorf("%s: %q", path, notes)
		}
	}
	f.apply(ApplyOptions{})
	f.wantChanges(ChangeOptions{})
	if got, _ := os.ReadFile(filepath.Join(f.project, "other")); string(got) != "h\n" {
		t.Errorf("other is now %q", got)
	}
	must(t, os.WriteFile(filepath.Join(f.project, "a"), []byte("changed\n"), 0o644))
	if got, _ := os.ReadFile(filepath.Join(f.project, "b")); string(got) != "x\n" {
		t.Errorf("b is %q: still the same file as a", got)
	}
}

// A sparse file of a petabyte is refused by its size, not read.
func TestHugeFiles(t *testing.T) {
	dir := t.TempDir()
	for _, huge := range []string{"/dev/shm", dir} {
		f := newFixture(t, OverlayLayer, map[string]string{"same": ""})
		if huge != dir { // a file system that has room for so much nothing
			at, err := os.MkdirTemp(huge, "casemate")
			if err != nil {
				continue
			}
			defer os.RemoveAll(at)
			must(t, os.Rename(filepath.Join(f.dir, "upper"), filepath.Join(f.dir, "old")))
			must(t, os.Mkdir(filepath.Join(at, "upper"), 0o755))
			f.dir = at
		}
		name := f.hand("huge")
		size := int64(1) << 50
		must(t, os.WriteFile(name, nil, 0o644))
		for os.Truncate(name, size) != nil {
			size /= 2
		}
		start := time.Now()
		c := f.byPath(ChangeOptions{})["huge"]
		if !strings.HasPrefix(c.Refused, "it is too large: "+humanBytes(size)) {
			t.Errorf("%s: %q", huge, c.Refused)
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("it took %v to refuse %s", took, humanBytes(size))
		}
		if c := f.byPath(ChangeOptions{MaxFile: size})["huge"]; c.Refused != "" {
			t.Errorf("refused under its limit: %s", c.Refused)
		}
	}
}

// A sparse file arrives as sparse as it was.
func TestHolesStayHoles(t *testing.T) {
	f := newFixture(t, OverlayLayer, map[string]string{})
	name := f.hand("sparse")
	must(t, os.WriteFile(name, []byte("begin"), 0o644))
	must(t, os.Truncate(name, 1<<30))
	file, err := os.OpenFile(name, os.O_WRONLY, 0)
	must(t, err)
	_, err = file.WriteAt([]byte("middle"), 1<<29)
	must(t, err)
	must(t, file.Close())
	f.apply(ApplyOptions{})
	st, err := os.Stat(filepath.Join(f.project, "sparse"))
	must(t, err)
	if blocks := st.Sys().(*syscall.Stat_t).Blocks; st.Size() != 1<<30 || blocks > 1024 {
		t.Errorf("%d bytes in %d blocks", st.Size(), blocks)
	}
	got := make([]byte, 6)
	file, err = os.Open(filepath.Join(f.project, "sparse"))
	must(t, err)
	defer file.Close()
	if _, err := file.ReadAt(got, 1<<29); err != nil || string(got) != "middle" {
		t.Errorf("%q (%v)", got, err)
	}
}

func TestNamesNeedTheirName(t *testing.T) {
	f := newFixture(t, OverlayLayer, map[string]string{"readme": "r\n", "Straße": "s\n", "é": "e\n", "gone": "g\n", ".env": "S"})
	f.hide = []string{".env"}
	for _, name := range []string{"new\nline", "esc\x1b[2J", "bad\xff", "bidi\u202e", "README", "STRASSE", "e\u0301", "GONE", "two", "Two", ".ENV", "plain", "\u1100\u1161", "가"} {
		must(t, os.WriteFile(f.hand(name), []byte("x\n"), 0o644))
	}
	must(t, unix.Mknod(f.hand("gone"), unix.S_IFCHR, 0))
	got := f.byPath(ChangeOptions{})
	for name, want := range map[string]string{
		"new\nline": "a terminal must not see", "esc\x1b[2J": "a terminal must not see", "bad\xff": "a terminal must not see", "bidi\u202e": "a terminal must not see",
		"README": "take it for readme,", "STRASSE": "take it for Straße,", "e\u0301": "take it for é,", "two": "take it for Two,", ".ENV": "take it for .env,",
		"GONE": "", "Two": "", "plain": "", "가": "take it for \u1100\u1161,", "\u1100\u1161": "",
	} {
		if c := got[name]; !strings.Contains(c.ByName, want) || (want == "") != (c.ByName == "") {
			t.Errorf("%q: %q, want %q", name, c.ByName, want)
		}
	}
	f.apply(ApplyOptions{})
	if _, err := os.Lstat(filepath.Join(f.project, "README")); err == nil {
		t.Error("README was applied unnamed")
	}
	f.apply(ApplyOptions{Paths: []string{"README", "new\nline"}})
	for _, name := range []string{"README", "new\nline"} {
		if _, err := os.Lstat(filepath.Join(f.project, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestNameKey(t *testing.T) {
	for _, pair := range [][2]string{{"a", "A"}, {"é", "e\u0301"}, {"É", "e\u0301"}, {"ß", "SS"}, {"ſ", "s"}, {"K", "k"}, {"Å", "Å"}, {"각", "\u1100\u1161\u11a8"}, {"Σ", "ς"}, {"a\u0323\u0301", "a\u0301\u0323"}, {"ὅ", "Ὅ"}} {
		if nameKey(pair[0]) != nameKey(pair[1]) {
			t.Errorf("%q and %q are not twins", pair[0], pair[1])
		}
	}
	for _, pair := range [][2]string{{"e", "é"}, {"é", "è"}, {"a", "b"}, {"\xff", "\xfe"}, {"\xff", "\ufffd"}} {
		if nameKey(pair[0]) == nameKey(pair[1]) {
			t.Errorf("%q and %q are twins", pair[0], pair[1])
		}
	}
}

// What the sandbox made unreadable is said to be so; root reads it all the same.
func TestUnreadableFiles(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("nothing is unreadable to root (CAP_DAC_READ_SEARCH)")
	}
	f := newFixture(t, OverlayLayer, map[string]string{"a": "a\n", "d/x": "x\n"})
	f.run("echo b > a; chmod 000 a; mkdir n; echo > n/x; chmod 000 n; echo > d/x; chmod 000 d; chmod 000 .")
	f.wantChanges(ChangeOptions{}, "modified refused a", "mode changed d", "modified refused d", "added changed n", "modified refused n")
}

// Ten thousand files are listed and applied; so are directories as deep as a path can be, and what lies deeper is refused in one line.
func TestManyAndDeep(t *testing.T) {
	f := newFixture(t, OverlayLayer, map[string]string{"deep": ""})
	for i := range 10000 {
		name := filepath.Join(f.inside(), fmt.Sprintf("many%d", i%100), fmt.Sprint(i))
		if i < 100 {
			must(t, os.MkdirAll(filepath.Dir(name), 0o755))
		}
		must(t, os.WriteFile(name, []byte(name), 0o644))
	}
	makeDeep(t, f.inside(), 5000)
	changes := f.changes(ChangeOptions{Paths: []string{"d"}})
	last := changes[len(changes)-1]
	if len(last.Path) < 3800 || last.Refused == "" || len(changes) > 2100 {
		t.Errorf("%d changes, the last %d bytes deep: %s", len(changes), len(last.Path), last.Refused)
	}
	changes = f.changes(ChangeOptions{})
	if len(changes) < 12000 {
		t.Errorf("%d changes", len(changes))
	}
	out := f.apply(ApplyOptions{})
	for _, o := range out {
		if o.Status != Applied && o.Refused == "" {
			t.Fatalf("%s %.100s: %s", o.Status, o.Path, o.Why)
		}
	}
	if got := f.changes(ChangeOptions{}); len(got) != 1 {
		t.Errorf("%d changes are left", len(got))
	}
}

// makeDeep makes levels of directories called d, each in the one before.
func makeDeep(t testing.TB, dir string, levels int) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	for range levels {
		must(t, unix.Mkdirat(fd, "d", 0o755))
		next, err := unix.Openat(fd, "d", unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		must(t, err)
		unix.Close(fd)
		fd = next
	}
	unix.Close(fd)
}

func TestResolve(t *testing.T) {
	links := map[string]string{"out": "/etc", "in": "d", "d/up": "../d", "loop": "loop", "a": "b", "b": "../x", "self": "/proj/d", "other": "/project", "chain": "in/up/../in", "root": "/"}
	stat := func(rel string) (node, error) {
		if target, ok := links[rel]; ok {
			return node{State: State{Type: Symlink, Link: target}}, nil
		}
		return node{State: State{Type: Dir}}, nil
	}
	tests := []struct {
		link, target, want string
		inside             bool
	}{
		{"l", "x", "x", true},
		{"d/l", "x", "d/x", true},
		{"d/l", "../x", "x", true},
		{"d/l", "../../x", "", false},
		{"l", "..", "", false},
		{"d/l", "..", "", true},
		{"l", "/etc/passwd", "", false},
		{"l", "out/passwd", "", false},
		{"l", "in/../x", "x", true},
		{"l", "d/up/x", "d/x", true},
		{"l", "a", "", false},
		{"l", "self/x", "d/x", true},
		{"l", "other", "", false},
		{"l", "/proj", "", true},
		{"l", "/proj//x/", "x", true},
		{"l", "/proj/../x", "", false},
		{"l", "/projx", "", false},
		{"l", ".//./d///x", "d/x", true},
		{"l", "root", "", false},
		{"l", "chain", "in", true},
	}
	for _, test := range tests {
		got, inside := resolve(test.link, test.target, "/proj", stat)
		if inside != test.inside || inside && test.link != "" && got != test.want && test.target != "chain" {
			t.Errorf("%s -> %s ends at %q, inside %v; want %q, %v", test.link, test.target, got, inside, test.want, test.inside)
		}
	}
	if _, inside := resolve("l", "loop", "/proj", stat); !inside {
		t.Error("a loop leads out")
	}
}

// Whatever lies in a layer, looking at it and applying all of it ends, changes nothing outside of the project, and leaves only what was refused.
func TestRandomHostileLayers(t *testing.T) {
	for seed := range uint64(40) {
		outside := t.TempDir()
		must(t, os.WriteFile(filepath.Join(outside, "canary"), []byte("CANARY"), 0o644))
		f := newFixture(t, OverlayLayer, bigProject())
		must(t, os.Symlink(outside, filepath.Join(f.project, "d0/out")))
		r := rand.New(rand.NewPCG(seed, 2))
		for range 60 {
			hostileEntry(r, f.inside(), outside)
		}
		before := snapshot(t, outside) // hostileEntry itself goes through its links
		l := f.open()
		changes, err := l.Changes(t.Context(), ChangeOptions{})
		must(t, err)
		must(t, l.Count(t.Context(), changes))
		var out bytes.Buffer
		must(t, l.Diff(t.Context(), &out, changes, DiffOptions{Terminal: true}))
		if bytes.Contains(out.Bytes(), []byte("CANARY")) {
			t.Errorf("seed %d: the diff shows what lies outside", seed)
		}
		paths := []string{""}
		for _, c := range changes {
			paths = append(paths, c.Path)
		}
		outcomes := f.apply(ApplyOptions{Paths: paths, Overwrite: []string{""}})
		for _, c := range f.changes(ChangeOptions{}) {
			if c.Refused == "" && !strings.Contains(outcomeLines(outcomes), " "+Quote(c.Path)+" (") {
				t.Errorf("seed %d: %s %s is left\n%s", seed, c.Kind, c.Path, outcomeLines(outcomes))
			}
		}
		if got := snapshot(t, outside); !maps.Equal(got, before) {
			t.Fatalf("seed %d: outside is now %v", seed, got)
		}
	}
}

// hostileEntry makes something that may fail to be made.
func hostileEntry(r *rand.Rand, upper, outside string) {
	names := []string{"d0", "d1", "a1", "e1", "f", "top", "link", "out", "x", "new\n", "HEAD", ".git", "objects", "refs", ".GIT", "Top"}
	dir := upper
	for range r.IntN(4) {
		dir = filepath.Join(dir, names[r.IntN(len(names))])
		os.Mkdir(dir, 0o755)
	}
	name := filepath.Join(dir, names[r.IntN(len(names))])
	if st, err := os.Lstat(dir); err != nil || !st.IsDir() {
		return
	}
	switch r.IntN(10) {
	case 0, 1:
		unix.Mknod(name, unix.S_IFCHR, 0)
	case 2, 3:
		if f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, os.FileMode(r.IntN(0o1000))|0o400); err == nil {
			fmt.Fprintln(f, r.IntN(3))
			f.Close()
		}
	case 4:
		os.Symlink([]string{outside, outside + "/canary", "../..", "top", "/etc/passwd", "x"}[r.IntN(6)], name)
	case 5:
		unix.Mkfifo(name, 0o644)
	case 6:
		unix.Lsetxattr(name, []string{xattrOpaque, xattrWhiteout, xattrRedirect, xattrMetacopy, "user.x"}[r.IntN(5)], []byte([]string{"y", "x", "/../.."}[r.IntN(3)]), 0)
	case 7:
		unix.Lsetxattr(dir, xattrOpaque, []byte([]string{"y", "x"}[r.IntN(2)]), 0)
	case 8:
		os.Link(filepath.Join(upper, names[r.IntN(len(names))]), name)
	case 9:
		os.Mkdir(name, 0o755)
	}
}

func FuzzResolve(f *testing.F) {
	f.Add("a/b", "../c//./d", "a/c", "/etc")
	f.Add("l", "/proj/x", "x", "../..")
	f.Add("l", "l", "l", "l/l")
	f.Fuzz(func(t *testing.T, link, target, other, otherTarget string) {
		stat := func(rel string) (node, error) {
			if rel == other && otherTarget != "" {
				return node{State: State{Type: Symlink, Link: otherTarget}}, nil
			}
			return node{}, nil
		}
		got, inside := resolve(link, target, "/proj", stat)
		if inside && parentOf(link) == "" && slices.Contains(strings.Split(got, "/"), "..") {
			t.Errorf("%q -> %q ends at %q", link, target, got)
		}
	})
}

func FuzzIgnoreFile(f *testing.F) {
	f.Add([]byte("# c\n*.o\r\n!/a/\n\\ \n[\n**/x\n\xff"), "a/b.o")
	f.Fuzz(func(t *testing.T, data []byte, rel string) {
		if p := compileIgnore(data); p != nil && rel != "" {
			decide(p, rel, true)
		}
		nameKey(rel)
	})
}
