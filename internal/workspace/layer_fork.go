package workspace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"casemate.dev/internal/beneath"
	"golang.org/x/sys/unix"
)

// ForkLayer makes the directory to, which must not be there, into a copy of the layer in the directory from, so that a review of it finds what a
// review of the original finds: content (shared where the file system can), modes, times, links of both kinds, holes, whiteouts and overlayfs's
// attributes. gone is told where a whiteout is. Not copied: work/, where overlayfs keeps nothing between two mounts, and atime.
//
// What the sandbox made is read by descriptor and never followed. Nothing may change it meanwhile. What its modes forbid its owner to read is
// opened to him for the moment. Left out, and named, is what no review would let out either: device nodes, and paths that are too long.
func ForkLayer(ctx context.Context, from, to string, kind LayerKind, gone func(rel string)) ([]Skipped, error) {
	f := forker{births: births{}, linked: map[uint64]string{}, gone: gone, kind: kind}
	defer f.close()
	err := f.open(from, to)
	if err == nil {
		err = f.all(ctx)
	}
	if err == nil {
		err = f.finish()
	}
	if err != nil {
		return nil, fmt.Errorf("copy the layer %q to %q: %w", from, to, err)
	}
	return f.skipped, nil
}

type forker struct {
	treeCopy
	kind           LayerKind
	fromTop, toTop *rooted
	base           manifest          // of a copy layer, for the copies
	old, births    births            // of the original and of the copy
	linked         map[uint64]string // where a file of several names is, by its number in the original
	gone           func(rel string)
	locked         []copiedDir // directories that were opened for the moment
	skipped        []Skipped
}

func (f *forker) open(from, to string) (err error) {
	if f.fromTop, err = openRooted(from); err != nil {
		return err
	}
	top, err := statFd(f.fromTop.fd)
	if err != nil {
		return err
	}
	if err := unix.Mkdir(to, 0o700); err != nil {
		return err
	}
	if f.toTop, err = openRooted(to); err != nil {
		return err
	}
	if f.old, err = readBirths(f.fromTop); err != nil {
		return err
	}
	tree := "upper"
	if f.kind == CopyLayer {
		tree = "copy"
		if f.base, err = readManifest(f.fromTop); err != nil {
			return err
		}
	}
	if f.src, err = f.fromTop.openHostile(tree); err != nil {
		return err
	}
	if err := unix.Mkdirat(f.toTop.fd, tree, 0o700); err != nil {
		return err
	}
	if f.dst, err = f.toTop.openChild(tree); err != nil {
		return err
	}
	return own(f.toTop.fd, "", top)
}

func (f *forker) close() {
	for _, r := range []*rooted{f.fromTop, f.toTop, f.src, f.dst} {
		r.close()
	}
}

func (f *forker) all(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, f.lock()) }()
	return f.treeCopy.all(ctx, f.directory, f.finishDir)
}

func (f *forker) directory(d copiedDir) error {
	if err := f.unlock(d); err != nil {
		return err
	}
	from, to, err := f.both(d.rel)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	defer unix.Close(to)
	names, err := namesIn(from)
	if err != nil {
		return err
	}
	for _, name := range names {
		n, err := statAt(from, name)
		if err == nil && n.Type != Absent {
			err = f.entry(from, to, join(d.rel, name), name, n)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", Quote(join(d.rel, name)), err)
		}
	}
	return nil
}

func (f *forker) entry(from, to int, rel, name string, n node) (err error) {
	switch {
	case len(rel) > maxPath:
		f.skipped = append(f.skipped, Skipped{rel, "its path is too long"})
		return nil
	case n.Type == Device && !n.blank:
		f.skipped = append(f.skipped, Skipped{rel, "a device is not copied"})
		return nil
	case n.blank && f.gone != nil:
		f.gone(rel)
	}
	if n.Type == Dir {
		f.dirs = append(f.dirs, copiedDir{rel, n})
		return unix.Mkdirat(to, name, 0o700)
	}
	if n.nlink > 1 {
		if first, known := f.linked[n.ino]; known && unix.Linkat(f.dst.fd, first, to, name, 0) == nil {
			return nil // nobody but us reaches the copy yet, so its paths are what we made them
		}
		f.linked[n.ino] = rel
	}
	switch n.Type {
	case Device:
		err = makeWhiteout(to, name)
	case Symlink:
		err = unix.Symlinkat(n.Link, to, name)
	case Fifo:
		err = unix.Mknodat(to, name, unix.S_IFIFO|n.perm(), 0)
	case Socket:
		err = unix.Mknodat(to, name, unix.S_IFSOCK|n.perm(), 0)
	default:
		err = f.file(from, to, name, n)
	}
	if err == nil && n.Type != File {
		err = own(to, name, n)
	}
	if err == nil {
		err = setTimes(to, name, n)
	}
	if err != nil {
		return err
	}
	is, err := statAt(to, name)
	f.births.note(is, f.old.of(n))
	f.rebase(rel, n, is)
	return err
}

// rebase lets the manifest know the copy by what it knew the original by. One that the sandbox has touched is compared by content.
func (f *forker) rebase(rel string, was, is node) {
	b, known := f.base.entries[rel]
	if !known || b.Type == Dir {
		return
	}
	if b.holds(was) {
		b.copyIno, b.copyCtime = is.ino, is.ctime
	} else {
		b.copyIno, b.copyCtime = 0, 0
	}
	f.base.entries[rel] = b
}

func (f *forker) file(from, to int, name string, n node) error {
	in, err := openForced(from, name, n)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := copyFile(to, name, in, n.Size)
	if err != nil {
		return err
	}
	defer out.Close()
	fd := int(out.Fd())
	if err := own(fd, "", n); err != nil { // before what a change of owner takes away
		return err
	}
	if err := copyAttributes(fd, int(in.Fd())); err != nil {
		return err
	}
	return unix.Fchmod(fd, n.Mode)
}

// finishDir comes when everything in the directory is there: a default ACL would change its modes.
func (f *forker) finishDir(d copiedDir) error {
	from, to, err := f.both(d.rel)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	defer unix.Close(to)
	err = copyAttributes(to, from)
	if err == nil {
		err = own(to, "", d.node)
	}
	if err == nil {
		err = setTimes(to, ".", d.node)
	}
	if err == nil {
		err = unix.Fchmod(to, d.Mode)
	}
	if err != nil {
		return err
	}
	is, err := statFd(to)
	f.births.note(is, f.old.of(d.node))
	return err
}

// finish writes what lies beside the tree.
func (f *forker) finish() error {
	if err := f.births.write(f.toTop); err != nil {
		return err
	}
	if f.kind == CopyLayer {
		return f.base.write(f.toTop)
	}
	for _, name := range [...]string{appliedName, firstsName} {
		n, err := f.fromTop.stat(name)
		if err == nil && n.Type != Absent {
			err = f.file(f.fromTop.fd, f.toTop.fd, name, n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unlock gives the owner of a directory the right to look into it, until lock.
func (f *forker) unlock(d copiedDir) error {
	if os.Geteuid() == 0 || d.Mode&0o500 == 0o500 {
		return nil
	}
	f.locked = append(f.locked, d)
	return f.chmod(d.rel, d.Mode|0o500)
}

func (f *forker) lock() (err error) {
	for _, d := range slices.Backward(f.locked) {
		err = errors.Join(err, f.chmod(d.rel, d.Mode))
	}
	return err
}

func (f *forker) chmod(rel string, mode uint32) error {
	fd, err := f.src.open(rel, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return chmodFd(fd, mode)
}

// openForced opens a file whose owner may have taken the right to read it away.
func openForced(dir int, name string, n node) (*os.File, error) {
	r := &rooted{fd: dir}
	file, err := r.openFile(name, n)
	if !errors.Is(err, unix.EACCES) {
		return file, err
	}
	fd, err := r.open(name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if is, err := statFd(fd); err != nil || is.Type != File || is.ino != n.ino {
		return nil, errors.Join(err, beneath.ErrReplaced)
	}
	if err := chmodFd(fd, n.Mode|0o400); err != nil {
		return nil, err
	}
	file, err = r.openFile(name, n)
	if e := chmodFd(fd, n.Mode); e != nil && err == nil {
		file.Close()
		return nil, e
	}
	return file, err
}
