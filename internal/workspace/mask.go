package workspace

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"casemate.dev/internal/policy"
	"golang.org/x/sys/unix"
)

// MaskOptions says where a mask is kept and for whom.
type MaskOptions struct {
	ScanOptions
	Dir string // the project's own state directory; mask/ and index/ are made in it

	// Links is how many absent names are masked before PrepareMask returns; Fill masks the rest. 0 is DefaultLinks.
	Links int
}

// DefaultLinks takes about 60 ms to make, at the first start in a project; later ones do a fifth. The directories nearest to the project's root come first.
const DefaultLinks = 10_000

// What belongs to somebody else is copied, within these bounds.
const (
	maxForeign      = 20_000
	maxForeignBytes = 1 << 30
)

// Mask is the read-only layer between a project and the sandbox's own layer. It holds a whiteout for every hidden entry and, for each name that
// is hidden everywhere, one in every directory, so that the name stays hidden when the host makes or replaces it later. It also
// holds copies of what belongs to others, and directories that carry the sandbox's owner.
//
// One mask serves all sandboxes of a project with the same patterns, and changes while they run: overlayfs then shows a name that it has
// looked up before as it was, which Watcher is for. What happens to the mask of a directory that the host deletes and makes again
// during a run is the watcher's business too.
type Mask struct {
	Dir         string // the lower layer to mount
	Survey      *Survey
	Incremental bool // only what changed since the last time was read
	Pending     int  // directories whose absent names Fill has yet to mask

	top     *rooted // the project
	base    *rooted // holds tree/ (Dir), the whiteouts' inodes and the lock
	hide    *policy.Paths
	o       MaskOptions
	index   string // path
	written unix.Stat_t
	umask   *uint32
	white   whiteouts
}

// PrepareMask scans the project, brings its mask up to date and returns it. Close it when the sandbox has ended.
// The error is a sentence for the user if a held workspace cannot be had: see Survey.Refused; the survey comes with it then.
func PrepareMask(root string, hide *policy.Paths, o MaskOptions) (*Mask, error) {
	return prepareMask(root, hide, o, time.Now())
}

func prepareMask(root string, hide *policy.Paths, o MaskOptions, now time.Time) (*Mask, error) {
	s, top, err := newSurvey(root, o.ScanOptions)
	if err != nil {
		return nil, err
	}
	if hide == nil {
		hide, _ = policy.CompilePaths(nil)
	}
	m := &Mask{Survey: s, hide: hide, o: o, top: top}
	m.o.Links = cmp.Or(o.Links, DefaultLinks)
	if err := m.prepare(now); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

func (m *Mask) prepare(now time.Time) error {
	if err := m.open(); err != nil {
		return err
	}
	unlock, err := m.lock()
	if err != nil {
		return err
	}
	defer unlock()
	return m.update(now)
}

// Close releases the descriptors. The mask stays for the next start.
func (m *Mask) Close() error {
	m.base.close()
	m.top.close()
	m.base, m.top = nil, nil
	return nil
}

// maskVersion changes with the meaning of a mask or its index.
const maskVersion = "2"

// digest names the masks that are the same: those of the same patterns for the same owner.
func (m *Mask) digest() string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%d\x00%d\x00", maskVersion, m.o.UID, m.o.GID)
	for _, p := range m.hide.Patterns() {
		fmt.Fprintf(h, "%s\x00", p)
	}
	if m.o.Protect != nil {
		for _, p := range m.o.Protect.Patterns() {
			fmt.Fprintf(h, "protect %s\x00", p)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

func (m *Mask) open() error {
	name := m.digest()
	dir := filepath.Join(m.o.Dir, "mask", name)
	m.index = filepath.Join(m.o.Dir, "index", name)
	m.Dir = filepath.Join(dir, "tree")
	for {
		base, err := openRooted(dir)
		if errors.Is(err, unix.ENOENT) {
			pruneMasks(m.o.Dir)
			if err = os.MkdirAll(dir, 0o700); err == nil {
				base, err = openRooted(dir)
			}
		}
		if err != nil {
			return err
		}
		if m.base, err = inUse(base); m.base != nil || err != nil {
			m.white = whiteouts{base: m.base}
			return err
		}
	}
}

// inUse marks a mask as used until its descriptor is closed, so that nobody prunes it. It returns nil if somebody just did.
func inUse(base *rooted) (*rooted, error) {
	if err := flock(base.fd, unix.LOCK_SH); err != nil {
		base.close()
		return nil, fmt.Errorf("lock mask %q: %w", base.name, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(base.fd, &st); err != nil || st.Nlink == 0 {
		base.close()
		return nil, err
	}
	return base, nil
}

func flock(fd, how int) error {
	for {
		if err := unix.Flock(fd, how); err != unix.EINTR {
			return err
		}
	}
}

// lock keeps a second start, or its Fill, from changing the same mask. The kernel drops it with the process.
func (m *Mask) lock() (unlock func(), err error) {
	fd, err := m.base.openNew("lock", unix.O_RDWR|unix.O_CREAT, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(fd, unix.LOCK_EX); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("lock mask %q: %w", m.base.name, err)
	}
	return func() { unix.Close(fd) }, nil
}

// openNew opens or makes a file in a directory that only this user can write.
func (r *rooted) openNew(name string, flags int, perm uint32) (int, error) {
	fd, err := unix.Openat(r.fd, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, perm)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: filepath.Join(r.name, name), Err: err}
	}
	return fd, nil
}

func (m *Mask) update(now time.Time) error {
	old := m.load()
	known := len(old.dirs)
	fresh, err := m.Survey.scan(m.top, m.hide, m.o.ScanOptions, old, now)
	if err != nil {
		return err
	}
	m.Incremental = known > 0 && len(fresh) < known
	if err := cmp.Or(m.Survey.Refused(), m.Survey.tooForeign()); err != nil {
		return &RefusedError{m.Survey, err}
	}
	changed, err := m.reconcile(fresh)
	if err != nil {
		return err
	}
	links := m.o.Links
	if m.Incremental { // what the first start left is Fill's, beside the command: of that a start does a little only, as commands may be shorter than Fill
		links /= 5
	}
	filled, err := m.fill(links)
	if err != nil {
		return err
	}
	if changed || filled > 0 || m.Survey.tracked.key != old.tracked.key {
		return m.save()
	}
	return nil
}

// RefusedError says why a project cannot have a held workspace. Another kind of workspace may do.
type RefusedError struct {
	Survey *Survey
	Err    error
}

func (e *RefusedError) Error() string { return e.Err.Error() }
func (e *RefusedError) Unwrap() error { return e.Err }

// tooForeign refuses to copy half a disk.
func (s *Survey) tooForeign() error {
	if s.foreign <= maxForeign && s.bulk <= maxForeignBytes {
		return nil
	}
	var first []string
	for i := range s.dirs {
		for _, n := range s.dirs[i].notes {
			if n.kind == noteForeign && len(first) < 3 {
				first = append(first, fmt.Sprintf("%q", join(s.dirs[i].path, n.name)))
			}
		}
	}
	return fmt.Errorf("%d files (%d bytes) of project %q belong to another user or group than yours, and a sandbox cannot change such files: %s and so on. "+
		"At most %d files and %d bytes are copied. Give them to yourself (chown -R), or use files.workspace: live", s.foreign, s.bulk, s.Root, strings.Join(first, ", "), maxForeign, maxForeignBytes)
}

// Fill masks the names that PrepareMask left for later. It may run beside the sandbox: a name that it has not come to yet, and that the host makes
// meanwhile, is the watcher's. It returns early if another start has taken over.
func (m *Mask) Fill(ctx context.Context) error {
	const batch = 2000
	for m.Pending > 0 && ctx.Err() == nil {
		more, err := m.fillBatch(batch)
		if err != nil || !more {
			return err
		}
	}
	return ctx.Err()
}

func (m *Mask) fillBatch(links int) (more bool, err error) {
	unlock, err := m.lock()
	if err != nil {
		return false, err
	}
	defer unlock()
	var now unix.Stat_t
	if err := unix.Stat(m.index, &now); err != nil || now.Ino != m.written.Ino || now.Ctim != m.written.Ctim {
		m.Pending = 0
		return false, nil
	}
	if _, err := m.fill(links); err != nil {
		return false, err
	}
	if m.Pending > 0 {
		return true, nil
	}
	return false, m.save()
}

// load reads what the last start left. Anything doubtful means starting afresh.
func (m *Mask) load() scanned {
	var fs unix.Statfs_t
	if unix.Fstatfs(m.top.fd, &fs) != nil || !keepsTimes(int64(fs.Type)) {
		return scanned{}
	}
	raw, st, err := readWhole(m.index, maxMaskIndex)
	if err != nil {
		return scanned{}
	}
	m.written = *st
	root, tree, old, err := decodeIndex(raw)
	if err != nil || root != m.Survey.Root || tree == 0 || tree != m.treeInode() {
		return scanned{}
	}
	return old
}

// maxMaskIndex bounds the index: millions of directories.
const maxMaskIndex = 1 << 30

// keepsTimes lists the file systems on which every change of a directory's names changes its times, at once and for everybody: local ones.
// Over a network, or with a program behind it, a directory may have changed while its times are still cached.
func keepsTimes(magic int64) bool {
	switch magic {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC, unix.F2FS_SUPER_MAGIC, unix.OVERLAYFS_SUPER_MAGIC,
		0x2fc12fc1, // ZFS
		0xca451a4e: // bcachefs
		return true
	}
	return false
}

// treeInode is 0 if the mask is not there.
func (m *Mask) treeInode() uint64 {
	var st unix.Stat_t
	if unix.Fstatat(m.base.fd, "tree", &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return 0
	}
	return st.Ino
}

// save replaces the index by rename. It is not synced: after a power cut it is the old one, or one whose checksum does not hold.
func (m *Mask) save() error {
	raw := encodeIndex(m.Survey.Root, m.treeInode(), m.Survey.scanned)
	if err := os.MkdirAll(filepath.Dir(m.index), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(m.index), "."+filepath.Base(m.index)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), m.index)
	}
	if err != nil {
		os.Remove(f.Name())
		return err
	}
	return unix.Stat(m.index, &m.written)
}

// byDepth sorts directories so that the ones nearest to the root come first: that is where people keep such files.
func (s *Survey) byDepth(dirs []int32) {
	depth := func(i int32) int {
		if p := s.dirs[i].path; p != "" {
			return 1 + strings.Count(p, "/")
		}
		return 0
	}
	slices.SortStableFunc(dirs, func(a, b int32) int { return depth(a) - depth(b) })
}
