package limits

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patient is how long a test waits for what has to come: it ends as soon as it does, and machines are busy.
const patient = 60 * time.Second

// watch is follow with a Watcher of its own.
func watch(t *testing.T, on Watch, ok func() bool) (reason string, why string) {
	t.Helper()
	w, err := NewWatcher(on, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return follow(t, w, ok)
}

// follow polls as the supervisor does, until a reason comes or ok says that it is enough.
func follow(t *testing.T, w *Watcher, ok func() bool) (reason string, why string) {
	t.Helper()
	for deadline := time.Now().Add(patient); ; {
		reason, next := w.Poll(time.Now())
		if reason != "" {
			return reason, w.Why()
		}
		if ok != nil && ok() {
			return "", ""
		}
		if time.Now().After(deadline) {
			t.Fatalf("no reason to stop within %v", patient)
		}
		time.Sleep(next) // when Poll wants to be called again
	}
}

// finished is closed once the attack has all it wants.
func (c *child) finished() func() bool {
	ch := make(chan string, 1)
	c.begin()
	go func() { ch <- c.line() }()
	over := false
	return func() bool {
		select {
		case line := <-ch:
			over = line == "done"
		default:
		}
		return over
	}
}

func TestMemoryIsWatched(t *testing.T) {
	for _, test := range []struct {
		role string
		over bool
	}{
		{"eat 600", true},
		{"eat 100", false},
		{"eat-shared 600", true},
		{"eat-memfd 600", true},
		{"eat-memfd 60", false},
		{"eat-tables 220", true}, // 440 MiB of page tables
		{"share 100 8", false},   // eight children with the pages of one
		{"share 500 2", true},
	} {
		t.Run(test.role, func(t *testing.T) {
			c, proc := sandboxed(t, test.role)
			finished := c.finished()
			// What is over the limit must be found, however long that takes; what is not gets ten more looks after it is all there.
			looks := 0
			reason, why := watch(t, Watch{Set: Set{Memory: 384 * mib}, Proc: proc}, func() bool {
				if finished() && !test.over {
					looks++
				}
				return looks > 10
			})
			if over := reason == OverMemory; over != test.over {
				t.Errorf("%q: %s", reason, why)
			}
			t.Log(why)
		})
	}
}

// TestMemoryBombIsCaughtInTime: by when, and how far beyond its limit, a program comes that does nothing but take memory. The time is what it
// computed in: a busy machine makes everybody wait.
func TestMemoryBombIsCaughtInTime(t *testing.T) {
	c, proc := sandboxed(t, "eat 4096")
	before := c.computed()
	c.begin()
	if reason, _ := watch(t, Watch{Set: Set{Memory: 256 * mib}, Proc: proc}, nil); reason != OverMemory {
		t.Fatalf("%q", reason)
	}
	_ = c.cmd.Process.Signal(unix.SIGSTOP) // here a supervisor ends it
	took := c.computed() - before
	p, err := openProcesses(proc)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p.fd)
	most, _ := bounds(p.memories(nil), 0)
	t.Logf("%s after %v, limit 256 MiB", size(most), took)
	if took > 5*time.Second || most > 2*gib {
		t.Errorf("%s after %v", size(most), took)
	}
}

func TestTmpfsCountsAsMemory(t *testing.T) {
	c, proc, tmp := inTmpfs(t, "file /tmp 100")
	c.begin()
	if reason, why := watch(t, Watch{Set: Set{Memory: 64 * mib}, Proc: proc, Tmpfs: []int{tmp}}, nil); reason != OverMemory {
		t.Errorf("%q: %s", reason, why)
	}
}

// TestTreeInTmpfs: what fills a tree counts as disk wherever the tree is.
func TestTreeInTmpfs(t *testing.T) {
	c, proc, tmp := inTmpfs(t, "tmpfile /tmp 100")
	c.begin()
	if reason, why := watch(t, Watch{Set: Set{Disk: 64 * mib}, Proc: proc, Trees: []int{tmp}}, nil); reason != OverDisk {
		t.Errorf("%q: %s", reason, why)
	}
}

func TestDiskIsWatched(t *testing.T) {
	for _, test := range []struct {
		role string
		over bool
	}{
		{"file DIR 100", true},
		{"file DIR 20", false},
		{"files DIR 100", true},
		{"tmpfile DIR 100", true},
		{"unlinked DIR 100", true},
		{"overlay DIR 100", true},
		{"unlinked DIR 20", false},
		{"sparse DIR", false},
		{"hidden DIR 100", true},
		{"deep DIR 100", true},
	} {
		t.Run(test.role, func(t *testing.T) {
			dir, fd := shared(t)
			c, proc := sandboxed(t, strings.ReplaceAll(test.role, "DIR", dir))
			finished := c.finished()
			var enough time.Time
			reason, why := watch(t, Watch{Set: Set{Disk: 64 * mib}, Proc: proc, Trees: []int{fd}}, func() bool {
				if !finished() || test.over {
					return false
				}
				if enough.IsZero() {
					enough = time.Now().Add(1500 * time.Millisecond) // a survey begins one second after the start
				}
				return time.Now().After(enough)
			})
			if over := reason == OverDisk; over != test.over {
				t.Errorf("%q: %s", reason, why)
			}
			t.Log(why)
		})
	}
}

// TestKeptLayerCounts: what an earlier run left in the layer is found although nothing is written.
func TestKeptLayerCounts(t *testing.T) {
	dir, fd := shared(t)
	writeFile(dir+"/old", 80)
	_, proc := sandboxed(t, "idle")
	if reason, _ := watch(t, Watch{Set: Set{Disk: 64 * mib}, Proc: proc, Trees: []int{fd}}, nil); reason != OverDisk {
		t.Errorf("%q", reason)
	}
}

func TestHardLinksCountOnce(t *testing.T) {
	dir, fd := shared(t)
	writeFile(dir+"/a", 8)
	for i := range 9 {
		if err := os.Link(dir+"/a", fmt.Sprintf("%s/b%d", dir, i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	w := newTreeWalk([]int{fd})
	for !w.step(time.Now()) { // the shortest slices
	}
	if w.bytes < 8*mib-10 || w.bytes > 9*mib || w.files != 11 || w.hidden {
		t.Errorf("%d bytes in %d files, hidden %v", w.bytes, w.files, w.hidden)
	}
}

func TestTreeWalkCanBeGivenUp(t *testing.T) {
	dir, fd := shared(t)
	if err := os.MkdirAll(dir+"/a/b/c", 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		writeFile(fmt.Sprintf("%s/a/b/c/%d", dir, i), 0)
	}
	before := openCount(t)
	w := newTreeWalk([]int{fd})
	for w.step(time.Now()) {
		t.Fatal("the tree is too small for this test")
	}
	w.close()
	if after := openCount(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func openCount(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestTime(t *testing.T) {
	start := time.Now()
	w, err := NewWatcher(Watch{Set: Set{Time: time.Minute}, Proc: -1}, start)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		after  time.Duration
		reason string
		next   time.Duration
	}{{0, "", time.Minute}, {59 * time.Second, "", time.Second}, {time.Minute, OverTime, 0}, {time.Hour, OverTime, 0}} {
		reason, next := w.Poll(start.Add(test.after))
		if reason != test.reason || next != test.next {
			t.Errorf("after %v: %q, next in %v", test.after, reason, next)
		}
	}
	if w.Why() != "it ran for 1m0s" {
		t.Errorf("%q", w.Why())
	}
}

// TestIdle uses real processes and a clock of its own.
func TestIdle(t *testing.T) {
	const idle = 500 * time.Millisecond
	for _, test := range []struct {
		name   string
		role   string
		output bool
		want   string
	}{{"asleep", "idle", false, OverIdle}, {"busy", "burn", false, ""}, {"it only talks", "idle", true, ""}} {
		t.Run(test.name, func(t *testing.T) {
			c, proc := sandboxed(t, test.role)
			c.begin()
			if test.role == "idle" {
				c.line()
			}
			start := time.Now()
			w, err := NewWatcher(Watch{Set: Set{Idle: idle}, Proc: proc}, start)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			reason, now := "", start
			for now.Sub(start) < 3*idle && reason == "" {
				if before := w.procs.cpu(); test.role == "burn" {
					until(t, "three ticks of work", patient, func() bool { return w.procs.cpu() >= before+3*tick })
				}
				if test.output {
					w.Active(now)
				}
				var next time.Duration
				reason, next = w.Poll(now)
				now = now.Add(next)
			}
			if reason != test.want || reason != "" && now.Sub(start) < idle {
				t.Errorf("%q after %v, want %q", reason, now.Sub(start), test.want)
			}
		})
	}
}

func TestPace(t *testing.T) {
	for _, test := range []struct {
		name              string
		used, limit, rate int64
		cost, want        time.Duration
	}{
		{"plenty of room", gib, 12 * gib, 8 * gib, 100 * time.Microsecond, 250 * time.Millisecond},
		{"half a second from the limit", 8 * gib, 12 * gib, 8 * gib, 100 * time.Microsecond, 250 * time.Millisecond},
		{"close to it", 12*gib - 512*mib, 12 * gib, 8 * gib, 100 * time.Microsecond, 62500 * time.Microsecond},
		{"at it", 12 * gib, 12 * gib, 8 * gib, 100 * time.Microsecond, 10 * time.Millisecond},
		{"thousands of processes with little", gib, 12 * gib, 8 * gib, 4 * time.Millisecond, 800 * time.Millisecond},
		{"thousands of processes with much", 11 * gib, 12 * gib, 8 * gib, 40 * time.Millisecond, 400 * time.Millisecond},
		{"never more than a second", gib, 12 * gib, 8 * gib, time.Minute, time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := pace(test.used, test.limit, test.rate, test.cost); got != test.want {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}

// TestReserve gives volumes of its own: filling a disk up to its reserve is not for a test.
func TestReserve(t *testing.T) {
	some := found{100 * gib, 1 << 20}
	reserve := found{gib, 1 << 16}
	for _, test := range []struct {
		name  string
		start found
		now   found
		low   bool
	}{
		{"room", some, some, false},
		{"short of bytes", some, found{gib - 1, 1 << 20}, true},
		{"short of files", some, found{100 * gib, 1 << 10}, true},
		{"short before, no change", found{gib / 2, 1 << 20}, found{gib / 2, 1 << 20}, false},
		{"short before, and shorter", found{gib / 2, 1 << 20}, found{gib / 4, 1 << 20}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := volume{start: test.start, now: test.now, reserve: reserve}
			if v.low() != test.low {
				t.Errorf("low: %v", v.low())
			}
		})
	}
}

// TestOthersWhoFreeSpaceHideNothing: while the sandbox fills a file without a name, someone else frees as much.
func TestOthersWhoFreeSpaceHideNothing(t *testing.T) {
	dir, fd := shared(t)
	other := t.TempDir()
	for i := range 40 {
		writeFile(fmt.Sprintf("%s/%d", other, i), 4)
	}
	c, proc := sandboxed(t, "tmpfile "+dir+" 160")
	finished := c.finished()
	freed := 0
	reason, why := watch(t, Watch{Set: Set{Disk: 64 * mib}, Proc: proc, Trees: []int{fd}}, func() bool {
		for ; freed < 40 && (finished() || freed < 20); freed++ {
			_ = os.Remove(fmt.Sprintf("%s/%d", other, freed))
		}
		return false
	})
	if reason != OverDisk {
		t.Errorf("%q: %s", reason, why)
	}
}

// TestReserveOnASmallDisk fills a real file system of 64 MiB, which is far below the sandbox's own budget.
func TestReserveOnASmallDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to mount")
	}
	for _, test := range []struct {
		name string
		role string
		want string
	}{{"the sandbox fills it", "file DIR 125", OverDisk}, {"the host fills it", "idle", ""}} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for p := dir; p != os.TempDir(); p = p[:strings.LastIndexByte(p, '/')] {
				_ = os.Chmod(p, 0o777)
			}
			if err := unix.Mount("limits", dir, "tmpfs", 0, "size=128m"); err != nil {
				t.Fatal(err)
			}
			defer unix.Unmount(dir, unix.MNT_DETACH)
			_ = os.Mkdir(dir+"/upper", 0o777)
			_ = os.Chmod(dir+"/upper", 0o777)
			fd, err := unix.Open(dir+"/upper", unix.O_PATH|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			c, proc := sandboxed(t, strings.ReplaceAll(test.role, "DIR", dir+"/upper"))
			w, err := NewWatcher(Watch{Set: Set{Disk: gib}, Proc: proc, Trees: []int{fd}}, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			finished := c.finished()
			until(t, "written", patient, finished)
			if test.role == "idle" {
				writeFile(dir+"/other", 125)
			}
			looks := 0
			reason, why := follow(t, w, func() bool {
				if w.disk.known {
					looks++
				}
				return test.want == "" && looks > 4
			})
			if reason != test.want {
				t.Errorf("%q: %s", reason, why)
			}
		})
	}
}

func TestWatcherWantsAProc(t *testing.T) {
	_, fd := shared(t)
	for _, proc := range []int{-1, fd} {
		if _, err := NewWatcher(Watch{Set: Set{Memory: gib}, Proc: proc}, time.Now()); err == nil {
			t.Error("accepted")
		}
	}
}

// TestWatchingIsCheap measures the CPU time of a Watcher over a sandbox that does nothing. The promise is 0.5 % of a core; what is tested
// leaves room for a busy machine.
func TestWatchingIsCheap(t *testing.T) {
	_, fd := shared(t)
	c, proc := sandboxed(t, "share 10 30")
	c.begin()
	c.line()
	w, err := NewWatcher(Watch{Set: Set{Memory: 12 * gib, Disk: 20 * gib, Idle: time.Hour}, Proc: proc, Trees: []int{fd}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	// A simulated clock: an hour in as many polls as there would be.
	begun, now, polls := processTime(), time.Now(), 0
	for end := now.Add(10 * time.Minute); now.Before(end); polls++ {
		_, next := w.Poll(now)
		now = now.Add(next)
	}
	share := (processTime() - begun).Seconds() / (10 * time.Minute).Seconds()
	t.Logf("%d polls, %.3f %% of a core", polls, share*100)
	if share > 0.01 {
		t.Errorf("%.2f %% of a core", share*100)
	}
}

func processTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
