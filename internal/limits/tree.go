package limits

import (
	"time"

	"golang.org/x/sys/unix"
)

// slice is how long one look may go on with a long walk: the caller relays a terminal meanwhile.
const slice = 5 * time.Millisecond

// deepest is how far down a tree is followed; each level holds a descriptor.
const deepest = 128

// treeWalk adds up what directory trees occupy, in slices. It goes by descriptor, follows no link and leaves no file system, for the
// sandbox changes the trees meanwhile.
type treeWalk struct {
	trees  []int // still to be done
	stack  []level
	bytes  int64
	files  int64
	hidden bool // something could not be looked into: the sandbox can take a directory's permissions away, or nest them without end
}

type level struct {
	fd   int
	dev  uint64
	buf  []byte
	left []byte
}

func newTreeWalk(trees []int) *treeWalk { return &treeWalk{trees: trees} }

// step goes on until the time is up, and says whether all has been seen.
func (w *treeWalk) step(until time.Time) bool {
	for n := 1; ; n++ {
		if n%64 == 0 && time.Now().After(until) {
			return false
		}
		if len(w.stack) == 0 {
			if len(w.trees) == 0 {
				return true
			}
			w.enter(w.trees[0], ".")
			w.trees = w.trees[1:]
			continue
		}
		w.next(&w.stack[len(w.stack)-1])
	}
}

// next takes one entry of a directory, or leaves it.
func (w *treeWalk) next(l *level) {
	if len(l.left) == 0 {
		n, err := unix.ReadDirent(l.fd, l.buf)
		if n <= 0 || err != nil {
			w.leave()
			return
		}
		l.left = l.buf[:n]
	}
	e, size := nextEntry(l.left)
	if size == 0 {
		l.left = nil
		return
	}
	l.left = l.left[size:]
	if name := string(e.name); name != "." && name != ".." {
		w.add(l, name)
	}
}

// add counts a file by its blocks, so a sparse one costs what it holds. One with several links is divided among them: together they count
// once, without a list of inodes, and a sandbox cannot make links from elsewhere.
func (w *treeWalk) add(l *level, name string) {
	var st unix.Stat_t
	if unix.Fstatat(l.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return // it is gone
	}
	w.files++
	bytes := st.Blocks * 512
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		w.bytes += bytes / max(int64(st.Nlink), 1)
		return
	}
	w.bytes += bytes
	if uint64(st.Dev) == l.dev {
		w.enter(l.fd, name)
	}
}

func (w *treeWalk) enter(dir int, name string) {
	if len(w.stack) >= deepest {
		w.hidden = true
		return
	}
	fd, err := openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		w.hidden = w.hidden || err != unix.ENOENT && err != unix.ELOOP && err != unix.ENOTDIR
		return
	}
	var st unix.Stat_t
	_ = unix.Fstat(fd, &st)
	if n := len(w.stack); n < cap(w.stack) {
		w.stack = w.stack[:n+1] // with the buffer of an earlier visit to this depth
	} else {
		w.stack = append(w.stack, level{})
	}
	l := &w.stack[len(w.stack)-1]
	if l.buf == nil {
		l.buf = make([]byte, 4096)
	}
	l.fd, l.dev, l.left = fd, uint64(st.Dev), nil
}

func (w *treeWalk) leave() {
	unix.Close(w.stack[len(w.stack)-1].fd)
	w.stack = w.stack[:len(w.stack)-1]
}

func (w *treeWalk) close() {
	for len(w.stack) > 0 {
		w.leave()
	}
	w.trees = nil
}
