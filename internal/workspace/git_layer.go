package workspace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// GitHead is what HEAD of the repository in a layer names.
type GitHead struct {
	Branch string // without refs/heads/; empty if HEAD is detached
	Commit string // empty on a branch without commits
}

// Bounds of what is read of a layer's repository.
const (
	maxPackedRefs  = 64 << 20
	maxRef         = 4096
	maxSymbolic    = 5 // refs that name refs, as git allows
	maxObjectFiles = 1 << 20
	maxObjectBytes = 4 << 30
)

// GitHead reads HEAD as git inside does, from the layer where it holds the file, else from the host. gitDir and common are the repository's
// directories relative to what the layer lies over. What it returns was written by the sandbox: a name and a hash, in their syntax, and no more.
func (l *Layer) GitHead(gitDir, common string) (GitHead, error) {
	head, err := l.readSeen(join(gitDir, "HEAD"), maxRef)
	if err != nil {
		return GitHead{}, err
	}
	var h GitHead
	value := strings.TrimSpace(string(head))
	for range maxSymbolic {
		name, symbolic := strings.CutPrefix(value, "ref: ")
		if !symbolic {
			break
		}
		if !isRefName(name) {
			return h, fmt.Errorf("HEAD inside names %s, which is no branch", Quote(name))
		}
		h.Branch = strings.TrimPrefix(name, "refs/heads/")
		if value, err = l.readRef(common, name); err != nil || value == "" {
			return h, err
		}
	}
	if !isHash(value) {
		return h, fmt.Errorf("HEAD inside names no commit: %s", Quote(value))
	}
	h.Commit = value
	return h, nil
}

// readRef returns what a ref holds, "" if it does not exist.
func (l *Layer) readRef(common, name string) (string, error) {
	loose, err := l.readSeen(join(common, name), maxRef)
	if err != nil || len(loose) > 0 {
		return strings.TrimSpace(string(loose)), err
	}
	packed, err := l.readSeen(join(common, "packed-refs"), maxPackedRefs)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(packed)) {
		if hash, ref, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " "); ok && ref == name {
			return hash, nil
		}
	}
	return "", nil
}

func isRefName(name string) bool {
	rest, ok := strings.CutPrefix(name, "refs/heads/")
	return ok && rest != "" && rest != ".invalid" && printable(rest) && !strings.Contains(rest, "..") && path.Clean(rest) == rest
}

func isHash(s string) bool {
	return (len(s) == 40 || len(s) == 64) && strings.Trim(s, "0123456789abcdef") == ""
}

// readSeen reads a small file as the sandbox sees it: its own, or the host's where that shows through. What is not there is empty.
func (l *Layer) readSeen(rel string, limit int64) ([]byte, error) {
	side, n, err := l.sideOf(rel)
	if err != nil || n.Type == Absent || n.Type == Dir { // git leaves empty directories behind when it packs refs
		return nil, err
	}
	if n.Type != File || n.Size > limit {
		return nil, fmt.Errorf("%s is not a file of at most %d bytes", Quote(rel), limit)
	}
	f, err := side.openFile(rel, n)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", Quote(rel), err)
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// sideOf finds which side of the layer the sandbox sees at rel.
func (l *Layer) sideOf(rel string) (*rooted, node, error) {
	own, err := l.inside.stat(rel)
	switch {
	case err != nil:
		return nil, node{}, err
	case own.blank:
		return nil, node{}, nil
	case own.Type != Absent:
		return l.inside, own, nil
	case l.Kind != OverlayLayer || !l.showsHost(rel):
		return nil, node{}, nil
	}
	host, err := l.project.stat(rel)
	return l.project, host, err
}

// showsHost reports whether no directory above rel was deleted or replaced inside.
func (l *Layer) showsHost(rel string) bool {
	for dir := parentOf(rel); ; dir = parentOf(dir) {
		n, err := l.inside.stat(dir)
		if err != nil || n.Type != Absent && n.Type != Dir {
			return false
		}
		if n.Type == Dir {
			fd, err := l.inside.openDir(dir)
			if err != nil {
				return false
			}
			attr, err := readOverlayDir(fd)
			unix.Close(fd)
			if err != nil || attr.opaque {
				return false
			}
		}
		if dir == "" {
			return true
		}
	}
}

// CopyObjects copies the object files that the sandbox made, and the host has not, from the layer into an objects directory that nobody else
// can reach. Only loose objects and packs are taken, by their names: no index of a pack, no list of other object directories, nothing else.
// Their content is as hostile as before.
func (l *Layer) CopyObjects(ctx context.Context, objects, to string) (packs []string, err error) {
	c := objectCopy{ctx: ctx, l: l, from: objects, to: to}
	fd, err := l.inside.openDir(objects)
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("objects inside: %w", err)
	}
	defer unix.Close(fd)
	names, err := namesIn(fd)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if name != "pack" && !isHexDir(name) {
			continue
		}
		if err := c.dir(name); err != nil {
			return nil, fmt.Errorf("objects inside: %w", err)
		}
	}
	return c.packs, nil
}

type objectCopy struct {
	ctx      context.Context
	l        *Layer
	from, to string
	files    int
	bytes    int64
	packs    []string
}

func isHexDir(name string) bool {
	return len(name) == 2 && strings.Trim(name, "0123456789abcdef") == ""
}

func (c *objectCopy) dir(name string) error {
	fd, err := c.l.inside.openDir(join(c.from, name))
	if absent(err) {
		return nil // a file or link of that name
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	names, err := namesIn(fd)
	if err != nil {
		return err
	}
	for _, file := range names {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if isObjectFile(name, file) {
			if err := c.file(name, file); err != nil {
				return err
			}
		}
	}
	return nil
}

func isObjectFile(dir, file string) bool {
	if dir != "pack" {
		return isHash(dir + file)
	}
	hash, pack := strings.CutPrefix(file, "pack-")
	hash, ok := strings.CutSuffix(hash, ".pack")
	return pack && ok && isHash(hash)
}

func (c *objectCopy) file(dir, name string) error {
	rel := join(join(c.from, dir), name)
	n, err := c.l.inside.stat(rel)
	if err != nil || n.Type != File {
		return err
	}
	if host, err := c.l.project.stat(rel); err == nil && host.Type == File {
		return nil // the host's own counts, not what the sandbox made of it
	}
	c.files++
	c.bytes += n.Size
	if c.files > maxObjectFiles || c.bytes > maxObjectBytes {
		return fmt.Errorf("more than %d files or %d bytes: take the commits out by hand, or in parts", maxObjectFiles, int64(maxObjectBytes))
	}
	f, err := c.l.inside.openFile(rel, n)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := os.MkdirAll(filepath.Join(c.to, dir), 0o700); err != nil {
		return err
	}
	out, err := os.OpenFile(filepath.Join(c.to, dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, io.LimitReader(f, n.Size))
	if err = errors.Join(err, out.Close()); err == nil && dir == "pack" {
		c.packs = append(c.packs, name)
	}
	return err
}

// isBare reports whether git takes a directory itself for a repository.
func isBare(dir string) bool {
	for _, name := range []string{"HEAD", "objects", "refs"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
			return false
		}
	}
	return true
}

// FindGitDir finds the git directory of the working tree, or the bare repository, that a project is.
func FindGitDir(project string) (GitDir, error) {
	s := &Survey{Root: realPath(project), Aliases: map[string]string{}}
	file := filepath.Join(s.Root, ".git")
	var st unix.Stat_t
	err := unix.Lstat(file, &st)
	if errors.Is(err, unix.ENOENT) && isBare(s.Root) {
		return GitDir{Dir: s.Root, Common: s.Root, Inside: true, Verified: true}, nil
	}
	if err != nil {
		return GitDir{}, fmt.Errorf("%q is no git working tree: %w", project, err)
	}
	n, common, err := note{typ: direntType(uint16(st.Mode))}, map[string]string{}, error(nil)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if b, err := readHead(filepath.Join(file, "commondir")); err == nil {
			common[".git"] = strings.TrimSpace(b)
		}
	case unix.S_IFLNK:
		n.detail, err = os.Readlink(file)
	default:
		n.detail, err = readHead(file)
	}
	if err != nil {
		return GitDir{}, err
	}
	s.gitDir("", &n, common)
	if len(s.GitDirs) == 0 || !s.GitDirs[0].Inside && !s.GitDirs[0].Verified {
		return GitDir{}, fmt.Errorf("%q is no git working tree that git's own data agrees to", project)
	}
	return s.GitDirs[0], nil
}
