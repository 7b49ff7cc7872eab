package limits

import (
	"bytes"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// processes reads the proc file system of the sandbox's own pid namespace. Names in it are the kernel's, but what a program can put into
// its files (its own name) is hostile.
type processes struct {
	fd    int
	names []byte // buffers, reused
	data  []byte
}

func openProcesses(proc int) (*processes, error) {
	// An open file description of our own: its position is ours, whatever the caller does.
	fd, err := openat(proc, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, errNotProc
	}
	var s unix.Statfs_t
	if err := unix.Fstatfs(fd, &s); err != nil || s.Type != unix.PROC_SUPER_MAGIC {
		unix.Close(fd)
		return nil, errNotProc
	}
	return &processes{fd: fd, names: make([]byte, 8192), data: make([]byte, 8192)}, nil
}

// each calls f for every process there is.
func (p *processes) each(f func(pid string)) {
	if _, err := unix.Seek(p.fd, 0, io.SeekStart); err != nil {
		return
	}
	for {
		n, err := unix.ReadDirent(p.fd, p.names)
		if n <= 0 || err != nil {
			return
		}
		for e := range entries(p.names[:n]) {
			if e.name[0] >= '1' && e.name[0] <= '9' {
				f(string(e.name))
			}
		}
	}
}

// memory is what one process uses, from /proc/N/status, in bytes. Pages that several processes share are counted in each.
type memory struct {
	pid       string
	anonymous int64 // with what is swapped out
	shared    int64 // tmpfs, memfd and shared anonymous memory that is mapped
	tables    int64 // page tables: reading one zero page per 2 MiB costs nothing else
}

func (m memory) sum() int64 { return m.anonymous + m.shared + m.tables }

// memories reads all; file pages do not count, for the kernel takes them back when it needs to.
func (p *processes) memories(into []memory) []memory {
	into = into[:0]
	p.each(func(pid string) {
		data, err := readOnce(p.fd, pid+"/status", p.data)
		if err != nil {
			return // it is gone
		}
		m := parseStatus(data)
		m.pid = pid
		into = append(into, m)
	})
	return into
}

func parseStatus(data []byte) memory {
	return memory{
		anonymous: kilobytes(data, "RssAnon") + kilobytes(data, "VmSwap"),
		shared:    kilobytes(data, "RssShmem"),
		tables:    kilobytes(data, "VmPTE"),
	}
}

// kilobytes is a field of status or smaps in bytes; absent (a zombie has none), it is 0.
func kilobytes(data []byte, name string) int64 {
	n := field(data, name)
	if n < 0 || n > 1<<50 {
		return 0
	}
	return n * kib
}

// proportional is memory with shared pages divided by the number of their users (smaps_rollup, fields by kind since Linux 5.4). It walks
// the process's pages, which takes milliseconds for each GiB.
func (p *processes) proportional(m memory) memory {
	data, err := readOnce(p.fd, m.pid+"/smaps_rollup", p.data)
	if err != nil || field(data, "Pss_Anon") < 0 {
		return m
	}
	m.anonymous = kilobytes(data, "Pss_Anon") + kilobytes(data, "SwapPss")
	m.shared = kilobytes(data, "Pss_Shmem")
	return m
}

// tick is the unit of CPU times in /proc: USER_HZ is 100 on every architecture we build for.
const tick = 10 * time.Millisecond

// cpu is the CPU time of all processes and of the children they waited for.
func (p *processes) cpu() time.Duration {
	var sum int64
	p.each(func(pid string) {
		if data, err := readOnce(p.fd, pid+"/stat", p.data); err == nil {
			sum += parseTicks(data)
		}
	})
	return time.Duration(sum) * tick
}

// parseTicks adds utime, stime, cutime and cstime, fields 14 to 17 of proc_pid_stat(5). The name in field 2 may contain anything, so fields
// are counted from its last parenthesis.
func parseTicks(data []byte) int64 {
	end := bytes.LastIndexByte(data, ')')
	if end < 0 {
		return 0
	}
	var sum int64
	n := 2
	for f := range bytes.FieldsSeq(data[end+1:]) {
		if n++; n >= 14 && n <= 17 {
			sum += min(max(number(f), 0), 1<<50)
		}
	}
	return sum
}

// written is how many bytes all processes, and the children they waited for, have caused to be written to disk and not taken back. Memory
// mapped files count, fallocate does not.
func (p *processes) written() int64 {
	var sum int64
	p.each(func(pid string) {
		if data, err := readOnce(p.fd, pid+"/io", p.data); err == nil {
			sum += max(field(data, "write_bytes"), 0) - max(field(data, "cancelled_write_bytes"), 0)
		}
	})
	return max(sum, 0)
}

// openFiles is a walk over all descriptors of all processes for files that have no name any more. It is done in slices, for there may be a
// million.
type openFiles struct {
	procs   *processes
	pids    []string
	fd      int // of the fd directory of pids[0], or -1
	names   []byte
	left    []byte // of names
	seen    map[inode]bool
	counted map[uint64]bool // devices of tmpfs mounts that are counted whole
	disks   map[uint64]bool // devices of the trees
	disk    int64           // bytes in unnamed files on disk
	memory  int64           // bytes in memfds
}

type inode struct{ dev, ino uint64 }

func newOpenFiles(p *processes, trees, tmpfs []int) *openFiles {
	o := &openFiles{procs: p, fd: -1, names: make([]byte, 8192), seen: map[inode]bool{}, counted: devices(tmpfs), disks: devices(trees)}
	p.each(func(pid string) { o.pids = append(o.pids, pid) })
	return o
}

func devices(fds []int) map[uint64]bool {
	m := map[uint64]bool{}
	for _, fd := range fds {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil {
			m[uint64(st.Dev)] = true
		}
	}
	return m
}

// step goes on until the time is up, and says whether all has been seen.
func (o *openFiles) step(until time.Time) bool {
	for n := 1; ; n++ {
		if n%64 == 0 && time.Now().After(until) {
			return false
		}
		switch {
		case len(o.left) > 0:
			e, size := nextEntry(o.left)
			if size == 0 {
				o.left = nil
				continue
			}
			o.left = o.left[size:]
			if e.name[0] != '.' {
				o.add(string(e.name))
			}
		case o.fd >= 0:
			got, err := unix.ReadDirent(o.fd, o.names)
			if got <= 0 || err != nil {
				o.close()
				continue
			}
			o.left = o.names[:got]
		case len(o.pids) > 0:
			fd, err := openat(o.procs.fd, o.pids[0]+"/fd", unix.O_RDONLY|unix.O_DIRECTORY)
			o.pids = o.pids[1:]
			if err == nil {
				o.fd = fd
			}
		default:
			return true
		}
	}
}

func (o *openFiles) close() {
	if o.fd >= 0 {
		unix.Close(o.fd)
		o.fd, o.left = -1, nil
	}
}

// add counts the file behind one descriptor if it has no name.
func (o *openFiles) add(name string) {
	var st unix.Stat_t
	if unix.Fstatat(o.fd, name, &st, 0) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 0 || st.Blocks == 0 {
		return
	}
	key := inode{uint64(st.Dev), st.Ino}
	if o.seen[key] || o.counted[key.dev] {
		return
	}
	o.seen[key] = true
	kind := o.fileSystem(name)
	switch {
	case kind == unix.OVERLAYFS_SUPER_MAGIC || o.disks[key.dev]: // a tree's device may be a tmpfs: it is still the tree that fills
		o.disk += st.Blocks * 512
	case kind == unix.TMPFS_MAGIC || kind == unix.HUGETLBFS_MAGIC:
		o.memory += st.Blocks * 512
	}
}

// fileSystem is the type of the one a descriptor's file is on. O_PATH needs no permission on the file.
func (o *openFiles) fileSystem(name string) int64 {
	fd, err := openat(o.fd, name, unix.O_PATH)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	var s unix.Statfs_t
	_ = unix.Fstatfs(fd, &s)
	return int64(s.Type)
}
