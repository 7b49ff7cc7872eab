package workspace

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"path"
	"slices"
	"strings"
	"time"
)

// mirrorRepo is what is known about one repository of the project.
type mirrorRepo struct {
	own     bool     // the sandbox has its own state: commits, a branch, something staged
	indexes []string // what the host's index has said lately (indexMeaning), the newest last
	skip    []string

	look time.Time     // when to look at the layer's index again
	wait time.Duration // before the look after that
	seen indexSeen     // the layer's at the last look
}

// indexSeen tells one file of an index from the next.
type indexSeen struct {
	ino   uint64
	mtime int64
}

// Git inside that read the index before the host's next one came in writes it back after that, and nothing tells: so the layer's is looked at again
// for as long as a git status takes.
const (
	firstIndexLook = 30 * time.Millisecond
	lastIndexLook  = 20 * time.Second
)

// maxIndexes is how many states of the host's index are remembered. Git inside that only refreshes its index writes back the one it has read, and
// by then the host may have gone on several times: a stash writes three.
const maxIndexes = 16

// said notes one state of the host's index; "" is one that cannot be read.
func (r *mirrorRepo) said(meaning string) {
	if meaning == "" {
		return
	}
	r.indexes = append(slices.DeleteFunc(r.indexes, func(m string) bool { return m == meaning }), meaning)
	if n := len(r.indexes) - maxIndexes; n > 0 {
		r.indexes = r.indexes[n:]
	}
}

// gitPath reports whether rel lies in a git directory of the project.
func gitPath(rel string) bool { return inGitDir(parentOf(rel)) }

// splitGit returns the git directory that rel lies in, and its path in there.
func splitGit(rel string) (dir, in string) {
	i := strings.Index("/"+rel, "/.git/")
	if i < 0 {
		return "", ""
	}
	return rel[:i+len(".git")], rel[i+len(".git/"):]
}

// gitState reports whether rel says which commit a working tree is at: it is mirrored after the files, or not at all.
func gitState(rel string) bool {
	_, in := splitGit(rel)
	switch top, _, _ := strings.Cut(in, "/"); top {
	case "", "objects", "hooks", "info", "modules":
		return false
	case "worktrees", "logs", "lfs", "rr-cache":
		return false
	}
	return true
}

// gitLock reports whether rel is one of git's locks or half-written objects.
func gitLock(rel string) bool {
	name := baseName(rel)
	return gitPath(rel) && (strings.HasSuffix(name, ".lock") || strings.HasPrefix(name, "tmp_obj_") || strings.HasPrefix(name, "tmp_pack_") || strings.HasPrefix(name, "tmp_idx_"))
}

func gitIndex(rel string) bool { _, in := splitGit(rel); return in == "index" }

// indexLast orders git's state so that what the index describes is there before it.
func indexLast(a, b string) int {
	rank := func(rel string) int {
		if gitIndex(rel) {
			return 1
		}
		return 0
	}
	if d := rank(a) - rank(b); d != 0 {
		return d
	}
	return strings.Compare(a, b)
}

// learnRepos notes what the indexes say now, before either side goes on.
func (m *Mirror) learnRepos() {
	for _, g := range m.survey.GitDirs {
		if !g.Inside || g.Dir != path.Join(m.root, g.Path) {
			continue
		}
		r := &mirrorRepo{skip: m.survey.TrackedIn(g)}
		file := join(g.Path, "index")
		r.said(m.meaning(m.project, file))
		if placed := m.survey.Placed[g.Path].meaning; placed != "" { // the host may have gone on since the layer got its own
			r.said(placed)
			m.touch(file, touch{}) // looked at once all is watched
		}
		m.repos[g.Path] = r
	}
}

func (m *Mirror) meaning(tree *rooted, rel string) string {
	b, n, err := readBeneath(tree, rel)
	if err != nil || n.Type != File {
		return ""
	}
	return indexMeaning(b)
}

// repoIsOwn reports whether rel belongs to a repository in which the sandbox has gone its own way. Then only objects come in.
func (m *Mirror) repoIsOwn(rel string) bool {
	dir, in := splitGit(rel)
	if dir == "" || !gitState(rel) && !strings.HasPrefix(in, "logs/") {
		return false
	}
	r := m.repos[dir]
	if r == nil {
		r = &mirrorRepo{}
		r.said(m.meaning(m.project, join(dir, "index")))
		m.repos[dir] = r
	}
	if !r.own && m.ownState(dir, r) {
		r.own = true
		m.tell(dir, "the sandbox has commits, a branch or staged changes of its own, so what git on the host does is not mirrored, but for new objects")
	}
	return r.own
}

// ownState looks for state of git in the layer that is the sandbox's.
func (m *Mirror) ownState(dir string, r *mirrorRepo) bool {
	for _, name := range []string{"HEAD", "packed-refs", "index", "MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply"} {
		if m.ownFile(join(dir, name), r) {
			return true
		}
	}
	return m.ownBeneath(join(dir, "refs"), r, 0)
}

func (m *Mirror) ownFile(rel string, r *mirrorRepo) bool {
	up, err := m.upper.stat(rel)
	if err != nil || up.Type == Absent || m.log.mine(m.upper, rel, up) {
		return false
	}
	host, err := m.project.stat(rel)
	switch {
	case err != nil:
		return true
	case up.blank && host.Type == Absent, m.equal(rel, host, up) && up.Type == File:
		return false
	case gitIndex(rel) && up.Type == File:
		return !slices.Contains(r.indexes, m.meaning(m.upper, rel))
	}
	return true
}

func (m *Mirror) ownBeneath(dir string, r *mirrorRepo, depth int) bool {
	fd, err := m.upper.openDir(dir)
	if err != nil || depth > 20 {
		return !absent(err)
	}
	defer closeFd(fd)
	names, err := namesIn(fd)
	if err != nil {
		return true
	}
	for _, name := range names {
		rel := join(dir, name)
		n, err := statAt(fd, name)
		if err != nil || n.Type == Dir && m.ownBeneath(rel, r, depth+1) || n.Type != Dir && m.ownFile(rel, r) {
			return true
		}
	}
	return false
}

// sameIndex reports whether the layer's index only repeats one of the host's: git status writes what it has learned about times, and
// casemate lays one with other flags.
func (m *Mirror) sameIndex(rel string, up node) bool {
	if !gitIndex(rel) || up.Type != File || m.repoIsOwn(rel) {
		return false
	}
	dir, _ := splitGit(rel)
	return slices.Contains(m.repos[dir].indexes, m.meaning(m.upper, rel))
}

// replaceOwnIndex puts the host's index in the place of one that says the same as one of the last.
func (m *Mirror) replaceOwnIndex(rel string, host node) error {
	if host.Type != File || m.meaning(m.project, rel) == m.meaning(m.upper, rel) {
		return nil
	}
	up, err := m.upper.stat(rel)
	if err != nil || up.Type != File {
		return err
	}
	sum, err := contentSum(m.upper, rel, up)
	if err != nil {
		return err
	}
	// From here on it is taken for the mirror's.
	if err := m.log.put(mirrorRecord{Path: []byte(rel), Type: File, Mode: up.Mode, Size: up.Size, Sum: sum}); err != nil {
		return err
	}
	return m.replace(rel, host)
}

// noteIndex notes what the host's index says as soon as it is known to have changed: git inside reads it at any moment.
func (m *Mirror) noteIndex(rel string) {
	if dir, _ := splitGit(rel); gitIndex(rel) {
		if r := m.repos[dir]; r != nil && !r.own {
			r.said(m.meaning(m.project, rel))
			r.look, r.wait = time.Now().Add(firstIndexLook), firstIndexLook
		}
	}
}

// dueIndex is when the next index of the layer is to be looked at again; the zero time if none is.
func (m *Mirror) dueIndex() (due time.Time) {
	for _, r := range m.repos {
		if !r.look.IsZero() && (due.IsZero() || r.look.Before(due)) {
			due = r.look
		}
	}
	return due
}

// lookAtIndexes has those mirrored again that git inside wrote since the last look.
func (m *Mirror) lookAtIndexes(now time.Time) {
	for dir, r := range m.repos {
		if r.look.IsZero() || r.look.After(now) {
			continue
		}
		r.wait *= 2
		r.look = now.Add(r.wait)
		if r.own || r.wait > lastIndexLook {
			r.look = time.Time{}
		}
		file := join(dir, "index")
		n, err := m.upper.stat(file)
		if seen := (indexSeen{n.ino, n.mtime}); err == nil && seen != r.seen {
			r.seen = seen
			m.touch(file, touch{})
		}
	}
}

// placeIndex notes what an index of the host's says that git inside is about to find, and gives it the bits that keep git from taking hidden files for
// deleted ones.
func (m *Mirror) placeIndex(rel string, index []byte) []byte {
	dir, _ := splitGit(rel)
	r := m.repos[dir]
	if r != nil {
		r.said(indexMeaning(index))
	}
	if r == nil || len(r.skip) == 0 {
		return index
	}
	edited, set, err := skipWorktree(index, r.skip)
	if err != nil || set == 0 {
		return index
	}
	return edited
}

// indexMeaning is a digest of what a git index says: paths, modes, objects and stages, not the times and sizes by which git saves itself work. ""
// if it cannot be read.
func indexMeaning(index []byte) string {
	for _, hash := range []int{20, 32} {
		if digest, ok := indexMeaningOf(index, hash); ok {
			return digest
		}
	}
	return ""
}

func indexMeaningOf(index []byte, hash int) (string, bool) {
	if len(index) < indexHeader+hash || string(index[:4]) != "DIRC" {
		return "", false
	}
	version, count := binary.BigEndian.Uint32(index[4:]), binary.BigEndian.Uint32(index[8:])
	if version < 2 || version > 4 {
		return "", false
	}
	const modeAt, stages = 24, 0x30
	r := indexReader{rest: index[indexHeader : len(index)-hash], hash: hash, packed: version == 4}
	sum := sha256.New()
	for range count {
		head := r.rest
		name, err := r.entry()
		if err != nil {
			return "", false
		}
		sum.Write(head[modeAt : modeAt+4])
		sum.Write(head[indexStat : indexStat+hash])
		sum.Write([]byte{head[indexStat+hash] & stages})
		sum.Write(name)
		sum.Write([]byte{0})
	}
	if base, err := r.sharedBase(); err != nil || base != "" { // a split index does not say all
		return "", false
	}
	return hex.EncodeToString(sum.Sum(nil)), true
}
