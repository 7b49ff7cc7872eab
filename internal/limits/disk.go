package limits

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// diskUse watches what the sandbox occupies on disk. Free space is asked for at every look: what it lost since the last survey is the most
// that can have been added. Only when that could exceed the limit, or the host runs short, the trees are surveyed: all their files, and
// files without a name that are still open. Someone else who frees space meanwhile hides a growth; so now and then they are surveyed anyway.
//
// Exact, as of the last survey, is what named files and files held by a descriptor occupy. What the reserve rule takes for the sandbox's
// part is not: bytes written count even if they replaced others.
type diskUse struct {
	limit   int64
	trees   []int
	procs   *processes
	volumes []volume
	start   time.Time

	survey  survey
	ended   time.Time     // the last survey
	cost    time.Duration // of that
	used    int64         // found by it
	files   int64
	known   bool  // there was one
	base    int64 // used at the start
	written int64 // bytes that processes had written by then
	baseN   int64
}

// volume is a file system that the trees are on.
type volume struct {
	fd                   int // a tree on it
	start, surveyed, now space
	reserve              space
}

// space is free space.
type space struct{ bytes, files int64 }

// survey is one look at all the trees.
type survey struct {
	running bool
	urgent  bool // the limit may be exceeded: unnamed files are looked for as well
	tree    *treeWalk
	open    *openFiles
	before  []space // of each volume, when it began
	spent   time.Duration
}

func (s *survey) close() {
	if s.tree != nil {
		s.tree.close()
	}
	if s.open != nil {
		s.open.close()
	}
	s.tree, s.open, s.running = nil, nil, false
}

func newDiskUse(limit int64, trees []int, procs *processes, start time.Time) (*diskUse, error) {
	d := &diskUse{limit: limit, trees: trees, procs: procs, start: start, ended: start, written: procs.written()}
	for i, fd := range trees {
		if i > 0 && sameDevice(fd, trees[:i]) {
			continue
		}
		v := volume{fd: fd}
		if err := v.measure(); err != nil {
			return nil, fmt.Errorf("the free space of a directory to watch: %w", err)
		}
		v.start, v.surveyed = v.now, v.now
		d.volumes = append(d.volumes, v)
	}
	return d, nil
}

func sameDevice(fd int, others []int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && devices(others)[uint64(st.Dev)]
}

// measure reads the free space. The reserve is what is left to the host: 1 GiB or a twentieth, whichever is less; of files likewise.
func (v *volume) measure() error {
	var s unix.Statfs_t
	if err := unix.Fstatfs(v.fd, &s); err != nil {
		return err
	}
	v.now = space{int64(s.Bavail) * int64(s.Bsize), int64(s.Ffree)}
	v.reserve = space{min(gib, int64(s.Blocks)*int64(s.Bsize)/20), min(1<<16, int64(s.Files)/20)}
	return nil
}

// low says whether the host's reserve is touched, and was not so far below at the start that only the host can be to blame.
func (v *volume) low() bool {
	return v.now.bytes < v.reserve.bytes && v.now.bytes < v.start.bytes || v.now.files < v.reserve.files && v.now.files < v.start.files
}

func (d *diskUse) look(now time.Time) (string, time.Duration) {
	var low *volume
	var lost int64
	for i := range d.volumes {
		v := &d.volumes[i]
		_ = v.measure()
		if v.low() {
			low = v
		}
		lost += max(v.surveyed.bytes-v.now.bytes, 0)
	}
	urgent := low != nil || d.used+lost > d.limit
	if !d.survey.running && d.due(now, urgent) {
		d.begin(urgent)
	}
	if !d.survey.running {
		return "", pace(min(d.used+lost, d.limit), d.limit, 2*gib, 100*time.Microsecond)
	}
	d.survey.urgent = d.survey.urgent || urgent
	over := d.proceed(now, low)
	switch {
	case over != "":
		return over, 0
	case d.survey.running && d.survey.urgent:
		return "", slice
	}
	return "", 250 * time.Millisecond
}

// due says whether to survey: at once and then at most a tenth of the time if there is reason to; else soon after the start, for the layer
// may be a kept one, and then rarely.
func (d *diskUse) due(now time.Time, urgent bool) bool {
	since := now.Sub(d.ended)
	switch {
	case urgent:
		return !d.known || since >= max(10*d.cost, 100*time.Millisecond)
	case !d.known:
		return now.Sub(d.start) >= time.Second
	}
	return since >= max(400*d.cost, time.Minute)
}

func (d *diskUse) begin(urgent bool) {
	d.survey = survey{running: true, urgent: urgent, tree: newTreeWalk(d.trees)}
	for _, v := range d.volumes {
		d.survey.before = append(d.survey.before, v.now)
	}
}

// proceed goes on with the survey for a slice of time, and judges what it found.
func (d *diskUse) proceed(now time.Time, low *volume) string {
	begun := time.Now()
	defer func() { d.survey.spent += time.Since(begun) }()
	s, limit := &d.survey, time.Millisecond
	if s.urgent {
		limit = slice
	}
	done := s.tree.step(begun.Add(limit))
	if s.tree.bytes > d.limit {
		return d.over(s.tree.bytes)
	}
	if done && s.urgent {
		if s.open == nil {
			s.open = newOpenFiles(d.procs, d.trees, nil)
		}
		done = s.open.step(begun.Add(limit))
	}
	if !done {
		return ""
	}
	d.finish(now)
	if d.used > d.limit {
		return d.over(d.used)
	}
	if low != nil && d.contributed() {
		return fmt.Sprintf("it wrote until the host was left with %s and %d files, and %s and %d are kept for it", size(low.now.bytes), low.now.files,
			size(low.reserve.bytes), low.reserve.files)
	}
	return ""
}

func (d *diskUse) over(used int64) string {
	return fmt.Sprintf("it occupied %s on disk, and %s are allowed", size(used), size(d.limit))
}

// finish takes over what a survey found. Where the sandbox hid something from it, all that was lost since the start is the sandbox's.
func (d *diskUse) finish(now time.Time) {
	s := &d.survey
	d.used, d.files = s.tree.bytes, s.tree.files
	if s.open != nil {
		d.used += s.open.disk
	}
	var lost space
	for i := range d.volumes {
		v := &d.volumes[i]
		v.surveyed = s.before[i]
		lost.bytes += max(v.start.bytes-v.now.bytes, 0)
		lost.files += max(v.start.files-v.now.files, 0)
	}
	if !d.known {
		// What was there before is not the sandbox's; of what came since the start, it is taken to be.
		d.base, d.baseN = max(d.used-lost.bytes, 0), max(d.files-lost.files, 0)
		d.known = true
	}
	if s.tree.hidden {
		d.used = max(d.used, d.base+lost.bytes)
	}
	d.ended, d.cost = now, s.spent
	s.close()
}

// contributed says whether the sandbox has its part in the host's running short.
func (d *diskUse) contributed() bool {
	const bytes, files = 64 << 20, 10_000
	return d.used-d.base >= bytes || d.files-d.baseN >= files || d.procs.written()-d.written >= bytes
}
