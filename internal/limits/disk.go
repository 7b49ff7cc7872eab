package limits

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// diskUse watches what the sandbox occupies on disk. At every look it adds up by how much free space fell since the last one, and asks how
// much the sandbox's processes wrote: only when one of these could exceed the limit, or the host runs short, the trees are surveyed: all
// their files, and files without a name that are still open. Space that someone else frees between two looks can hide what fallocate took
// in that time; so now and then they are surveyed anyway.
//
// Exact, as of the last survey, is what named files and files held by a descriptor occupy. What the reserve rule takes for the sandbox's
// part is not: bytes written count even if they replaced others.
type diskUse struct {
	limit   int64
	trees   []int
	procs   *processes
	volumes []volume
	written growth // bytes that processes wrote
	start   time.Time

	survey survey
	ended  time.Time     // the last survey
	cost   time.Duration // of that
	used   found         // by it
	known  bool          // there was one
	base   found         // what was there at the start
}

// found is what a survey counts.
type found struct{ bytes, files int64 }

// volume is a file system that the trees are on.
type volume struct {
	fd         int    // a tree on it
	start, now found  // what is free
	reserve    found  // what is kept for the host
	fell       growth // of what is not free
}

// growth adds up how much a number rose, whatever it fell in between.
type growth struct {
	last, sum       int64
	begun, surveyed int64 // the sum when the running survey began, and when the last complete one did
}

func (g *growth) see(n int64) {
	g.sum += max(n-g.last, 0)
	g.last = n
}

// fresh is the part that no survey has seen yet.
func (g *growth) fresh() int64 { return g.sum - g.surveyed }

// survey is one look at all the trees.
type survey struct {
	running bool
	urgent  bool // it is worth more time
	tree    *treeWalk
	open    *openFiles
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
	d := &diskUse{limit: limit, trees: trees, procs: procs, start: start, ended: start, written: growth{last: procs.written()}}
	for i, fd := range trees {
		if i > 0 && sameDevice(fd, trees[:i]) {
			continue
		}
		v := volume{fd: fd}
		if err := v.measure(); err != nil {
			return nil, fmt.Errorf("the free space of a directory to watch: %w", err)
		}
		v.start, v.fell = v.now, growth{last: -v.now.bytes}
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
	v.now = found{int64(s.Bavail) * int64(s.Bsize), int64(s.Ffree)}
	v.reserve = found{min(gib, int64(s.Blocks)*int64(s.Bsize)/20), min(1<<16, int64(s.Files)/20)}
	return nil
}

// low says whether the host's reserve is touched, and was not so far below at the start that only the host can be to blame.
func (v *volume) low() bool {
	return v.now.bytes < v.reserve.bytes && v.now.bytes < v.start.bytes || v.now.files < v.reserve.files && v.now.files < v.start.files
}

func (d *diskUse) look(now time.Time) (string, time.Duration) {
	begun := time.Now()
	low := d.measure()
	most := d.used.bytes + max(d.fell(), d.written.fresh())
	urgent := low != nil || most > d.limit
	if !d.survey.running && d.due(now, urgent) {
		d.begin()
	}
	if !d.survey.running {
		return "", pace(min(most, d.limit), d.limit, 2*gib, time.Since(begun))
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

// measure reads the cheap figures, and returns a volume on which the host runs short.
func (d *diskUse) measure() (low *volume) {
	d.written.see(d.procs.written())
	for i := range d.volumes {
		v := &d.volumes[i]
		_ = v.measure()
		v.fell.see(-v.now.bytes)
		if v.low() {
			low = v
		}
	}
	return low
}

// fell is how much space was taken on all volumes since the last survey, by anyone.
func (d *diskUse) fell() (sum int64) {
	for _, v := range d.volumes {
		sum += v.fell.fresh()
	}
	return sum
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

func (d *diskUse) begin() {
	d.survey = survey{running: true, tree: newTreeWalk(d.trees)}
	d.written.begun = d.written.sum
	for i := range d.volumes {
		d.volumes[i].fell.begun = d.volumes[i].fell.sum
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
	if done {
		if s.open == nil {
			s.open = newOpenFiles(d.procs, d.trees, nil)
		}
		done = s.open.step(begun.Add(limit))
	}
	if !done {
		return ""
	}
	d.finish(now)
	if d.used.bytes > d.limit {
		return d.over(d.used.bytes)
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
	d.used = found{s.tree.bytes + s.open.disk, s.tree.files}
	d.written.surveyed = d.written.begun
	var lost found
	for i := range d.volumes {
		v := &d.volumes[i]
		v.fell.surveyed = v.fell.begun
		// Also where others free space at the same time: as much as the sandbox wrote, if so much was taken at all.
		lost.bytes += max(v.start.bytes-v.now.bytes, min(v.fell.sum, d.written.sum), 0)
		lost.files += max(v.start.files-v.now.files, 0)
	}
	if !d.known {
		// What was there before is not the sandbox's; what came since the start is taken to be.
		d.base = found{max(d.used.bytes-lost.bytes, 0), max(d.used.files-lost.files, 0)}
		d.known = true
	}
	if s.tree.hidden {
		d.used.bytes = max(d.used.bytes, d.base.bytes+lost.bytes)
	}
	d.ended, d.cost = now, s.spent
	s.close()
}

// contributed says whether the sandbox has its part in the host's running short.
func (d *diskUse) contributed() bool {
	const bytes, files = 64 << 20, 10_000
	return d.used.bytes-d.base.bytes >= bytes || d.used.files-d.base.files >= files || d.written.sum >= bytes
}
