package limits

import (
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// memoryUse watches memory. The cheap figure is an upper bound: every process's own memory and tables, mapped shared memory as often as it
// is mapped, tmpfs, and memfds. Only when that is over the limit, shared pages are divided by their users, for as many of the largest
// processes as it takes to decide.
type memoryUse struct {
	limit int64
	procs *processes
	tmpfs []int
	cpus  int

	all      []memory
	shared   growth     // of the whole machine's shared memory outside our tmpfs
	memfds   int64      // as last found
	scan     *openFiles // looking for them
	scanned  time.Time
	sure     time.Time // not to be divided again before
	suspects int       // times in a row that it was over
}

func (m *memoryUse) begin() { m.shared.last = sharedMemory() - m.inTmpfs() }

// sharedMemory is all shared memory of the machine: tmpfs, memfds, System V.
func sharedMemory() int64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return int64(info.Sharedram) * int64(info.Unit)
}

func (m *memoryUse) inTmpfs() int64 {
	var sum int64
	for _, fd := range m.tmpfs {
		var s unix.Statfs_t
		if unix.Fstatfs(fd, &s) == nil {
			sum += int64(s.Blocks-s.Bfree) * int64(s.Bsize)
		}
	}
	return sum
}

func (m *memoryUse) look(now time.Time) (string, time.Duration) {
	begun := time.Now()
	m.all = m.procs.memories(m.all)
	files := m.inTmpfs()
	m.findMemfds(now, files)
	used, least := bounds(m.all, files+m.memfds)
	if least > m.limit {
		return m.over(least), 0
	}
	if used > m.limit && !now.Before(m.sure) {
		exact := m.divide(files + m.memfds)
		if m.suspects++; exact > m.limit {
			// Three times in a row: a process between vfork and exec appears as two with the same memory.
			if m.suspects >= 3 {
				return m.over(exact), 0
			}
			return "", slice
		}
		used, m.sure = exact, now.Add(10*time.Since(begun))
	}
	m.suspects = 0
	if m.scan != nil {
		return "", slice
	}
	return "", pace(min(used, m.limit), m.limit, fillRate(m.cpus), time.Since(begun))
}

func (m *memoryUse) over(used int64) string {
	return fmt.Sprintf("it used %s of memory, and %s are allowed", size(used), size(m.limit))
}

// fillRate is how fast a machine can hand out memory: zeroing 4 GiB/s on each core is quick (measured here: about 1.5).
func fillRate(cpus int) int64 { return 4 * gib * int64(min(cpus, 32)) }

// bounds are the most and the least that processes can use together with so many bytes in files in memory. The least is what the largest
// process alone has: nothing in that is counted twice.
func bounds(all []memory, files int64) (most, least int64) {
	for _, m := range all {
		most += m.sum()
		least = max(least, m.anonymous+m.tables)
	}
	return most + files, least + files
}

// divide returns the exact use, or an upper bound of it that is within the limit. Mapped shared memory and the files in memory are largely
// the same, so the greater of the two counts.
func (m *memoryUse) divide(files int64) int64 {
	slices.SortFunc(m.all, func(a, b memory) int { return int(min(max(b.sum()-a.sum(), -1), 1)) })
	var rest, own, shared int64
	for _, p := range m.all {
		rest += p.sum()
	}
	for _, p := range m.all {
		if own+max(shared, files)+rest <= m.limit {
			break
		}
		rest -= p.sum()
		p = m.procs.proportional(p)
		own, shared = own+p.anonymous+p.tables, shared+p.shared
	}
	return own + max(shared, files) + rest
}

// findMemfds looks for memory in files that nobody has mapped. It does so when the machine's shared memory grew by an eighth of the limit
// since the last time, by anyone, and regularly while there are such files.
func (m *memoryUse) findMemfds(now time.Time, files int64) {
	m.shared.see(sharedMemory() - files)
	if m.scan == nil {
		if m.shared.fresh() <= m.limit/8 && (m.memfds == 0 || now.Sub(m.scanned) < 2*time.Second) {
			return
		}
		m.shared.begun, m.scanned = m.shared.sum, now
		m.scan = newOpenFiles(m.procs, nil, m.tmpfs)
	}
	if m.scan.step(time.Now().Add(slice)) {
		m.memfds, m.shared.surveyed, m.scan = m.scan.memory, m.shared.begun, nil
	}
}
