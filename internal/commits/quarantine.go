package commits

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// quarantine fills the two repositories.
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
	if t.o.User != nil {
		if err := os.Chown(t.dir, int(t.o.User.UID), int(t.o.User.GID)); err != nil {
			return err
		}
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
	if err := t.give(filepath.Join(t.raw.dir, "objects")); err != nil {
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
	g.dir = t.dir
	if _, err := g.run(ctx, nil, "init", "--quiet", "--bare", "--template=", "--object-format="+format, dir); err != nil {
		return g, err
	}
	g.dir = dir
	if strings.ContainsAny(t.o.Objects, "\n\r\"") {
		return g, fmt.Errorf("the path of the host's repository %q cannot be written in git's list of object directories", t.o.Objects)
	}
	if err := os.MkdirAll(filepath.Join(dir, "objects", "info"), 0o755); err != nil {
		return g, err
	}
	if err := os.WriteFile(filepath.Join(dir, "objects", "info", "alternates"), []byte(t.o.Objects+"\n"), 0o644); err != nil {
		return g, err
	}
	shallow, err := os.ReadFile(t.o.Shallow)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "shallow"), shallow, 0o644)
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return g, errors.Join(err, t.give(dir))
}

// give makes a tree of ours belong to the user that git runs as.
func (t *Transfer) give(dir string) error {
	if t.o.User == nil {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(t.o.User.UID), int(t.o.User.GID))
	})
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
