package commits

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// quarantine fills the two repositories. Until they are filled they are ours alone, and afterwards nothing of ours is written there: where root works
// for somebody else, that user may change all of it from the moment in which it is theirs, and would lead our writing anywhere.
func (t *Transfer) quarantine(ctx context.Context) (err error) {
	format, err := t.host.line(ctx, "rev-parse", "--show-object-format")
	if err != nil {
		return err
	}
	if want := map[string]int{"sha1": 40, "sha256": 64}[format]; len(t.Inside.Commit) != want {
		return fmt.Errorf("the repository inside has hashes of %d digits, and the host's is %s", len(t.Inside.Commit), format)
	}
	if t.dir, err = os.MkdirTemp(t.o.Scratch, "casemate-commits-"); err != nil {
		return err
	}
	if t.raw, err = t.repository(ctx, "raw", format); err != nil {
		return err
	}
	if t.checked, err = t.repository(ctx, "checked", format); err != nil {
		return err
	}
	packs, err := t.o.Layer.CopyObjects(ctx, t.o.objects(), filepath.Join(t.raw.dir, "objects"))
	if err != nil {
		return err
	}
	if err := t.give(); err != nil {
		return err
	}
	for _, p := range packs { // the sandbox's own index of a pack may say anything
		if _, err := t.raw.run(ctx, nil, "index-pack", filepath.Join("objects", "pack", p)); err != nil {
			return missing(err)
		}
	}
	return t.check(ctx)
}

// repository makes an empty one that also finds the host's objects.
func (t *Transfer) repository(ctx context.Context, name, format string) (git, error) {
	dir := filepath.Join(t.dir, name)
	g := ourGit(t.o, t.host, dir)
	maker := g
	maker.dir, maker.user = t.dir, nil
	if _, err := maker.run(ctx, nil, "init", "--quiet", "--bare", "--template=", "--object-format="+format, dir); err != nil {
		return g, err
	}
	if strings.ContainsAny(t.o.Objects, "\n\r\"") {
		return g, fmt.Errorf("the path of the host's repository %q cannot be written in git's list of object directories", t.o.Objects)
	}
	if err := os.MkdirAll(filepath.Join(dir, "objects", "info"), 0o755); err != nil {
		return g, err
	}
	if err := os.WriteFile(filepath.Join(dir, "objects", "info", "alternates"), []byte(t.o.Objects+"\n"), 0o644); err != nil {
		return g, err
	}
	shallow, err := shallowList(t.o.Shallow)
	if err == nil && len(shallow) > 0 {
		err = os.WriteFile(filepath.Join(dir, "shallow"), shallow, 0o644)
	}
	return g, err
}

// shallowList reads the host's list of commits without parents, if it has one. It may belong to another user than the one who reads it, and lead
// anywhere, so nothing is taken from it but hashes.
func shallowList(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() || st.Size() > maxShallow {
		return nil, fmt.Errorf("%q is no file of at most %d bytes", name, maxShallow)
	}
	list, err := io.ReadAll(io.LimitReader(f, maxShallow))
	for line := range bytes.Lines(list) {
		if len(bytes.Trim(line, "0123456789abcdef\n")) > 0 {
			return nil, fmt.Errorf("%q is no list of shallow commits: git fsck tells more", name)
		}
	}
	return list, err
}

const maxShallow = 64 << 20

// give makes the quarantine belong to the user that git runs as, its top last: until then nobody else gets in.
func (t *Transfer) give() error {
	if t.o.User == nil {
		return nil
	}
	var all []string
	err := filepath.WalkDir(t.dir, func(path string, _ fs.DirEntry, err error) error {
		all = append(all, path)
		return err
	})
	for _, path := range slices.Backward(all) {
		if err == nil {
			err = os.Lchown(path, int(t.o.User.UID), int(t.o.User.GID))
		}
	}
	return err
}

// check carries the new objects into the second repository. index-pack computes each name anew, refuses what git fsck refuses (paths that reach
// into .git, crafted .gitmodules), and demands that all that is referred to is there.
func (t *Transfer) check(ctx context.Context) error {
	since := t.since(t.Inside.Commit)
	count, err := t.raw.run(ctx, since, "rev-list", "--count", "--max-count="+fmt.Sprint(maxCommits+1), "--stdin")
	if err != nil {
		return missing(err)
	}
	switch n := strings.TrimSpace(string(count)); {
	case n == "0":
		return ErrNone
	case n == fmt.Sprint(maxCommits+1):
		return fmt.Errorf("more than %d new commits inside: take them in parts", maxCommits)
	}
	err = pipe(ctx, t.raw, since, []string{"pack-objects", "--revs", "--stdout", "-q", "--delta-base-offset"},
		t.checked, []string{"index-pack", "--stdin", "--fix-thin", "--strict"})
	if err != nil {
		return missing(err)
	}
	return nil
}
