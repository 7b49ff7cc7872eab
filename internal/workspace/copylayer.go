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

// Skipped is something that a copy of a project does not have.
type Skipped struct {
	Path string
	Why  string
}

// CopyIn makes the directory dir into a copy layer of the project, for where no overlay can be had: copy/ with everything but what hide names
// (asked with paths relative to the project), and the manifest that tells later what the sandbox changed and what the host did. Data is
// shared where the file system can (FICLONE). Modes, times and links are kept; setuid bits, owners, hard links and attributes are not.
// Without the manifest, which comes last, the layer is incomplete and OpenLayer refuses it; Discard removes it.
func CopyIn(ctx context.Context, project, dir string, hide func(rel string, dir bool) bool) ([]Skipped, error) {
	src, err := openRooted(project)
	if err != nil {
		return nil, err
	}
	defer src.close()
	top, err := openRooted(dir)
	if err != nil {
		return nil, err
	}
	defer top.close()
	if err := unix.Mkdirat(top.fd, "copy", 0o700); err != nil {
		return nil, fmt.Errorf("create %q in %q: %w", "copy", dir, err)
	}
	dst, err := top.openChild("copy")
	if err != nil {
		return nil, err
	}
	defer dst.close()
	if hide == nil {
		hide = func(string, bool) bool { return false }
	}
	c := copier{treeCopy: treeCopy{src: src, dst: dst}, hide: hide, base: newManifest()}
	if err := c.all(ctx, c.directory, c.finishDir); err != nil {
		return nil, fmt.Errorf("copy the project to %q: %w", dir, err)
	}
	if err := unix.Syncfs(dst.fd); err != nil {
		return nil, fmt.Errorf("copy the project to %q: %w", dir, err)
	}
	return c.skipped, c.base.write(top)
}

type copier struct {
	treeCopy
	hide    func(rel string, dir bool) bool
	base    manifest
	skipped []Skipped
}

func (c *copier) directory(d copiedDir) error {
	rel := d.rel
	from, err := c.src.openDir(rel)
	if err != nil && rel != "" && (errors.Is(err, unix.EACCES) || absent(err)) {
		c.skip(rel, err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(from)
	to, err := c.dst.openDir(rel)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	names, err := namesIn(from)
	if err != nil {
		return err
	}
	for _, name := range names {
		n, err := statAt(from, name)
		if err == nil && n.Type != Absent && !c.hide(join(rel, name), n.Type == Dir) {
			err = c.entry(to, join(rel, name), name, n)
		}
		if err != nil {
			return fmt.Errorf("%q: %w", join(rel, name), err)
		}
	}
	return nil
}

func (c *copier) entry(to int, rel, name string, n node) error {
	var err error
	switch {
	case len(rel) > maxPath:
		c.skip(rel, "its path is too long")
		return nil
	case n.Type == Dir && n.dev != c.root.dev:
		c.skip(rel, "another file system is mounted there")
		return nil
	case n.Type == Dir:
		err = unix.Mkdirat(to, name, 0o700)
		c.dirs = append(c.dirs, copiedDir{rel, n})
		c.base.set(rel, n, node{})
		return err
	case n.Type == Symlink:
		err = unix.Symlinkat(n.Link, to, name)
	case n.Type == File:
		err = c.file(to, rel, name, n)
	default:
		c.skip(rel, fmt.Sprintf("a %s is not copied", n.Type))
		return nil
	}
	if errors.Is(err, unix.EACCES) || errors.Is(err, beneath.ErrReplaced) || absent(err) {
		c.skip(rel, err.Error())
		return nil
	}
	if err == nil {
		err = c.finishEntry(to, rel, name, n)
	}
	return err
}

func (c *copier) file(to int, rel, name string, n node) error {
	in, err := c.src.openFile(rel, n)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := copyFile(to, name, in, n.Size)
	if err != nil {
		return err
	}
	defer out.Close()
	return out.Chmod(os.FileMode(n.perm()))
}

// finishEntry records what the copy is, by its ctime, which nothing inside can forge. It belongs to the project's owner, as whom the sandbox runs when
// root starts it.
func (c *copier) finishEntry(to int, rel, name string, n node) error {
	if err := own(to, name, c.root); err != nil {
		return err
	}
	if err := setTimes(to, name, n); err != nil {
		return err
	}
	in, err := statAt(to, name)
	c.base.set(rel, n, in)
	return err
}

func (c *copier) finishDir(d copiedDir) error {
	fd, err := c.dst.openDir(d.rel)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := own(fd, "", c.root); err != nil {
		return err
	}
	if err := setTimes(fd, ".", d.node); err != nil { // before the mode, which may forbid even "."
		return err
	}
	return unix.Fchmod(fd, d.perm())
}

func (c *copier) skip(rel, why string) { c.skipped = append(c.skipped, Skipped{rel, why}) }

// copyPairs is pairs for a copy layer. Its base is exact: what the host had is in the manifest.
func (l *Layer) copyPairs(p *place) ([]pair, error) {
	inside, err := l.openSide(l.inside, p.rel, p.inside)
	if err != nil {
		return nil, err
	}
	defer closeFd(inside)
	host, err := l.openSide(l.project, p.rel, p.host)
	if err != nil {
		return nil, err
	}
	defer closeFd(host)
	var found []pair
	names, err := l.copyNames(p, inside, host)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		q, err := l.copyPair(join(p.rel, name), inside, host, name)
		if err != nil {
			return nil, err
		}
		found = append(found, q)
	}
	return found, nil
}

// copyNames lists what the copy has and what it had, and, where the sandbox deleted the directory, what the host has put there since.
func (l *Layer) copyNames(p *place, inside, host int) (names []string, err error) {
	var now []string
	if inside >= 0 {
		now, err = namesIn(inside)
	} else if host >= 0 {
		now, err = namesIn(host)
	}
	names = append(now, l.base.children[p.rel]...)
	slices.Sort(names)
	return slices.Compact(names), err
}

func (l *Layer) copyPair(rel string, inside, host int, name string) (q pair, err error) {
	q.name = name
	if inside >= 0 {
		if q.in, err = statAt(inside, name); err != nil {
			return q, err
		}
	}
	if host >= 0 {
		if q.host, err = statAt(host, name); err != nil {
			return q, err
		}
	}
	base, known := l.base.entries[rel]
	q.gone = q.in.Type == Absent
	q.same = known && base.holds(q.in)
	switch {
	case !known && q.host.Type != Absent:
		q.moved = "the host created it after the copy was made"
	case known && q.host.Type == Absent && !q.gone:
		q.moved = "the host deleted it"
	case known && !base.isHost(q.host):
		q.moved = "the host changed it after the copy was made"
	}
	return q, nil
}
