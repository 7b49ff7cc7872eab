package workspace

import (
	"encoding/binary"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Keeper tells what of a project undo should be able to bring back after a live run: files that git tracks or does not ignore, and git's own but
// for its objects, which are only ever added. What is hidden is out of the sandbox's reach and is not copied anywhere.
//
// It answers by the rules that it has met first: a .gitignore that the sandbox changes does not change what was kept.
type Keeper struct {
	project *rooted
	rules   *ignoreRules
	hidden  func(rel string, dir bool) bool
	tracked indexPaths
}

// NewKeeper opens a project.
func NewKeeper(project string, hidden func(rel string, dir bool) bool) (*Keeper, error) {
	at, err := openRooted(project)
	if err != nil {
		return nil, err
	}
	// Where there is no index, what git ignores is left out even if it is tracked.
	return &Keeper{project: at, rules: newIgnoreRules(at, project), hidden: hidden, tracked: listIndex(filepath.Join(project, ".git", "index"))}, nil
}

// Close closes the descriptors.
func (k *Keeper) Close() { k.project.close() }

// Walk calls keep for each path to be kept, parents first, and skip for what is left out with all beneath. What vanishes meanwhile is passed over.
func (k *Keeper) Walk(keep, skip func(rel string) error) error {
	return (&keeping{k, keep, skip}).directory("", ordinary)
}

// keeping is one Walk.
type keeping struct {
	k          *Keeper
	keep, skip func(rel string) error
}

// where a directory lies decides what of it is kept.
type where int

const (
	ordinary where = iota
	ignored        // in a directory that git ignores, where only tracked files count
	inGit          // in a git directory
)

func (w *keeping) directory(rel string, at where) error {
	fd, err := w.k.project.openDir(rel)
	if absent(err) {
		return nil
	}
	if err != nil {
		return w.unreadable(rel, err)
	}
	dir := os.NewFile(uintptr(fd), rel)
	entries, err := dir.ReadDir(-1)
	dir.Close()
	if err != nil {
		return w.unreadable(rel, err)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	gitDir := at == inGit && slices.ContainsFunc(entries, func(d fs.DirEntry) bool { return d.Name() == "HEAD" })
	for _, d := range entries {
		if len(rel)+len(d.Name()) >= maxPath {
			continue // deeper than other programs can reach by its path
		}
		below, kept := w.judge(join(rel, d.Name()), d, at, gitDir)
		if !kept {
			err = w.skip(join(rel, d.Name()))
		} else if err = w.keep(join(rel, d.Name())); err == nil && d.IsDir() {
			err = w.directory(join(rel, d.Name()), below)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unreadable passes over a directory that its owner may not look into.
func (w *keeping) unreadable(rel string, err error) error {
	if os.IsPermission(err) && rel != "" {
		return nil
	}
	return err
}

// judge says whether an entry is kept, and where what lies in it is then. gitDir says that the entry lies in a repository's own directory itself.
func (w *keeping) judge(rel string, d fs.DirEntry, at where, gitDir bool) (below where, kept bool) {
	switch {
	case at == inGit:
		return inGit, !(gitDir && d.IsDir() && (d.Name() == "objects" || d.Name() == "lfs"))
	case w.k.hidden(rel, d.IsDir()):
		return at, false
	case d.IsDir() && d.Name() == ".git":
		return inGit, at == ordinary
	case at == ordinary && !w.k.rules.match(rel, d.IsDir()):
		return ordinary, true
	}
	return ignored, w.k.tracked.leadsTo(rel) // what only a submodule or a nested repository tracks is not known
}

func indexNames(index []byte, hash int) (names []string, err error) {
	if len(index) < indexHeader+hash || string(index[:4]) != "DIRC" {
		return nil, errIndex
	}
	version, count := binary.BigEndian.Uint32(index[4:]), binary.BigEndian.Uint32(index[8:])
	if version < 2 || version > 4 {
		return nil, errIndex
	}
	r := indexReader{rest: index[indexHeader : len(index)-hash], hash: hash, packed: version == 4}
	for range count {
		name, err := r.entry()
		if err != nil {
			return nil, err
		}
		names = append(names, string(name))
	}
	return names, nil
}
