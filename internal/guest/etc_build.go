package guest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Bounds of what is copied, against a host whose /etc holds what nobody expects.
const (
	maxEtcFile  = 16 << 20
	maxEtcBytes = 128 << 20
	maxEtcFiles = 50000
)

// etcBuild fills one directory with an /etc.
type etcBuild struct {
	host     string // "/etc", or a stand-in in tests
	to       string
	o        EtcOptions
	stamp    *stamp
	watching bool     // what the current row leads to goes into the stamp
	visits   []string // resolved directories being copied now, against loops of links
	bytes    int64
	files    int
}

func (b *etcBuild) run() error {
	b.stamp.watch(b.host)
	for _, row := range etcRows() {
		if row.how == fromHost {
			if err := b.copyRow(row); err != nil {
				return err
			}
		}
	}
	if err := b.make(); err != nil {
		return err
	}
	for _, place := range b.o.Places {
		if err := b.place(place); err != nil {
			return err
		}
	}
	return nil
}

// place makes something empty to mount on, unless something is there.
func (b *etcBuild) place(place string) error {
	rel := strings.TrimSuffix(place, "/")
	for dir := path.Dir(rel); dir != "."; dir = path.Dir(dir) {
		if st, err := os.Lstat(filepath.Join(b.to, dir)); err == nil && !st.IsDir() {
			return nil // what is made below a link would be made wherever it leads, on the host
		}
	}
	if err := b.parents(rel); err != nil {
		return err
	}
	to := filepath.Join(b.to, rel)
	if rel != place {
		return b.mkdir(to)
	}
	if err := b.file(to, strings.NewReader(""), 0o644); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func (b *etcBuild) watch(path string) {
	if b.watching {
		b.stamp.watch(path)
	}
}

func (b *etcBuild) make() error {
	all := made(b.o)
	for _, row := range etcRows() {
		text, ok := all[row.path]
		if row.how != ourOwn {
			continue
		}
		if !ok {
			return fmt.Errorf("bug: /etc/%s is to be made, and nothing makes it", row.path)
		}
		if row.in && !b.isDir(path.Dir(row.path)) {
			continue
		}
		if err := b.parents(row.path); err != nil {
			return err
		}
		to := filepath.Join(b.to, row.path)
		if row.in {
			os.Remove(to) // the host has one of the name, in what was copied
		}
		if link, ok := strings.CutPrefix(text, "->"); ok {
			if err := b.link(link, to); err != nil {
				return err
			}
			continue
		}
		mode := fs.FileMode(0o644)
		if row.exec {
			mode = 0o755
		}
		if err := b.file(to, strings.NewReader(text), mode); err != nil {
			return err
		}
	}
	return nil
}

// isDir says whether there is a directory. A link is none: what is made below one would be made wherever it leads, on the host.
func (b *etcBuild) isDir(rel string) bool {
	for ; rel != "."; rel = path.Dir(rel) {
		if st, err := os.Lstat(filepath.Join(b.to, rel)); err != nil || !st.IsDir() {
			return false
		}
	}
	return true
}

func (b *etcBuild) copyRow(row etcRow) error {
	dir, pattern := path.Split(row.path)
	names, err := os.ReadDir(filepath.Join(b.host, dir))
	if err != nil {
		return nil // the host has no such directory; a new one shows in what is watched
	}
	for _, n := range names {
		if ok, err := path.Match(pattern, n.Name()); err != nil || !ok {
			continue
		}
		rel := path.Join(dir, n.Name())
		if slices.ContainsFunc(etcNever(), func(never string) bool { ok, _ := path.Match(never, rel); return ok }) {
			continue
		}
		if _, err := os.Lstat(filepath.Join(b.to, rel)); err == nil {
			continue // a row before matched it
		}
		if err := b.parents(rel); err != nil {
			return err
		}
		from := filepath.Join(b.host, rel)
		b.watching = row.watch
		b.watch(from)
		if err := b.copy(from, filepath.Join(b.to, rel), from, row.skip); err != nil {
			return err
		}
	}
	return nil
}

func (b *etcBuild) parents(rel string) error {
	dir := path.Dir(rel)
	if dir == "." {
		return nil
	}
	if err := b.parents(dir); err != nil {
		return err
	}
	return b.mkdir(filepath.Join(b.to, dir))
}

// systemTrees are where a link may lead: they are visible inside, at the same path.
var systemTrees = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store", "/gnu/store"}

// copy copies a file, a link or a tree. Links that stay in the row, or lead to the system's trees, are kept; others are replaced by what
// they lead to. Whatever not everybody may read stays out, also when root copies.
func (b *etcBuild) copy(from, to, row string, skip []string) error {
	st, err := os.Lstat(from)
	if err != nil {
		return nil // gone since it was listed
	}
	if st.Mode()&fs.ModeSymlink != 0 {
		return b.copyLink(from, to, row, skip)
	}
	return b.copyReal(from, to, row, skip, st)
}

func (b *etcBuild) copyLink(from, to, row string, skip []string) error {
	text, err := os.Readlink(from)
	if err != nil {
		return nil
	}
	target := text
	if !filepath.IsAbs(text) {
		target = filepath.Join(filepath.Dir(from), text)
	}
	target = filepath.Clean(target)
	if within(target, row) && row != from || slices.ContainsFunc(systemTrees, func(tree string) bool { return within(target, tree) }) {
		return b.link(text, to)
	}
	real, err := filepath.EvalSymlinks(from)
	if err != nil {
		return nil // dangling: of no use inside either
	}
	if slices.ContainsFunc(systemTrees, func(tree string) bool { return within(real, tree) }) {
		return b.link(real, to)
	}
	if rel, err := filepath.Rel(b.host, target); err == nil && b.inTable(rel) {
		return b.link(text, to) // to another row
	}
	if within(real, b.host) && b.isNever(real) || !everybodyReaches(real) {
		return nil
	}
	st, err := os.Lstat(real)
	if err != nil {
		return nil
	}
	b.watch(real)
	return b.copyReal(real, to, real, skip, st)
}

// inTable says whether a path below /etc is part of another row.
func (b *etcBuild) inTable(rel string) bool {
	return slices.ContainsFunc(etcRows(), func(row etcRow) bool {
		n := strings.Count(row.path, "/") + 1
		parts := strings.Split(rel, "/")
		if len(parts) < n {
			return false
		}
		ok, _ := path.Match(row.path, strings.Join(parts[:n], "/"))
		return ok
	})
}

func (b *etcBuild) isNever(real string) bool {
	rel, err := filepath.Rel(b.host, real)
	if err != nil {
		return true
	}
	parts := strings.Split(rel, "/")
	for i := range parts {
		head := strings.Join(parts[:i+1], "/")
		if slices.ContainsFunc(etcNever(), func(never string) bool { ok, _ := path.Match(never, head); return ok }) {
			return true
		}
	}
	return false
}

// everybodyReaches says whether every directory above may be entered by everybody: a file in a closed home is private whatever its own mode.
func everybodyReaches(real string) bool {
	for dir := filepath.Dir(real); dir != "/"; dir = filepath.Dir(dir) {
		if st, err := os.Lstat(dir); err != nil || st.Mode().Perm()&0o001 == 0 {
			return false
		}
	}
	return true
}

func (b *etcBuild) copyReal(from, to, row string, skip []string, st fs.FileInfo) error {
	switch {
	case st.Mode().IsRegular() && st.Mode().Perm()&0o004 != 0:
		return b.copyFile(from, to, st)
	case st.IsDir() && st.Mode().Perm()&0o005 == 0o005:
		return b.copyDir(from, to, row, skip)
	}
	return nil // a secret, a device or a socket
}

func (b *etcBuild) copyFile(from, to string, st fs.FileInfo) error {
	if st.Size() > maxEtcFile {
		return nil
	}
	// O_NONBLOCK: what was a file may be a FIFO by now
	f, err := os.OpenFile(from, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	if now, err := f.Stat(); err != nil || !os.SameFile(st, now) || now.Mode().Perm()&0o004 == 0 {
		return nil
	}
	mode := fs.FileMode(0o644)
	if st.Mode().Perm()&0o001 != 0 {
		mode = 0o755
	}
	return b.file(to, io.LimitReader(f, maxEtcFile), mode)
}

func (b *etcBuild) copyDir(from, to, row string, skip []string) error {
	real, err := filepath.EvalSymlinks(from)
	if err != nil || slices.Contains(b.visits, real) || len(b.visits) > 16 {
		return nil
	}
	b.visits = append(b.visits, real)
	defer func() { b.visits = b.visits[:len(b.visits)-1] }()
	names, err := os.ReadDir(from)
	if err != nil {
		return nil
	}
	b.watch(from)
	if err := b.mkdir(to); err != nil {
		return err
	}
	for _, n := range names {
		if slices.ContainsFunc(skip, func(p string) bool { ok, _ := path.Match(p, n.Name()); return ok }) {
			continue
		}
		if err := b.copy(filepath.Join(from, n.Name()), filepath.Join(to, n.Name()), row, skip); err != nil {
			return err
		}
	}
	return nil
}

func (b *etcBuild) mkdir(to string) error {
	if err := os.Mkdir(to, 0o755); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return err
	}
	if err := os.Chmod(to, 0o755); err != nil { // whatever the umask
		return err
	}
	return b.own(to)
}

func (b *etcBuild) link(text, to string) error {
	if err := b.count(0); err != nil {
		return err
	}
	if err := os.Symlink(text, to); err != nil {
		return err
	}
	return b.own(to)
}

func (b *etcBuild) file(to string, from io.Reader, mode fs.FileMode) error {
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.Copy(f, from)
	if err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if err := b.count(n); err != nil {
		return err
	}
	return b.own(to)
}

func (b *etcBuild) count(n int64) error {
	b.files++
	b.bytes += n
	if b.files > maxEtcFiles || b.bytes > maxEtcBytes {
		return fmt.Errorf("%s holds more than %d files or %d bytes of what a sandbox needs: look for what is large in it", b.host, maxEtcFiles, maxEtcBytes)
	}
	return nil
}

// own gives what root made to the sandbox's user. Others can make files for themselves only.
func (b *etcBuild) own(to string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Lchown(to, b.o.UID, b.o.GID)
}
