package limits

import (
	"math"

	"golang.org/x/sys/unix"
)

// Rlimit is one setrlimit(2) for the child, made after it entered its user namespace.
type Rlimit struct {
	Resource   int
	Soft, Hard uint64
}

// maxFiles bounds the limit of open files where the host has it absurdly high: programs that close every possible descriptor would take minutes.
const maxFiles = 1 << 20

// Rlimits are the resource limits of the command. There is none on address space or data (see By). RLIMIT_FSIZE makes one write or
// truncate past the disk budget fail with EFBIG and SIGXFSZ, before any watcher could look; it bounds a file's length, so a sparse file
// longer than the budget is refused as well. None is above our own, which the kernel refuses.
func Rlimits(s Set, f Facts) []Rlimit {
	soft, hard := f.files(s)
	limits := []Rlimit{
		{unix.RLIMIT_CORE, 0, 0},
		{unix.RLIMIT_NOFILE, soft, hard},
	}
	if s.Disk > 0 {
		length := min(uint64(s.Disk), f.FileSize)
		limits = append(limits, Rlimit{unix.RLIMIT_FSIZE, length, length})
	}
	if s.Pids > 0 && f.way("pids") == byNothing {
		// Counted per user namespace and uid (user_namespaces(7); Linux 5.14, "Reimplement RLIMIT_NPROC on top of ucounts"). It never holds
		// for the uid 0 of the host, which is one more reason never to run as that.
		n := min(uint64(s.Pids), f.Processes)
		limits = append(limits, Rlimit{unix.RLIMIT_NPROC, n, n})
	}
	return limits
}

func (f *Facts) files(s Set) (soft, hard uint64) {
	hard = min(f.Files, maxFiles)
	if s.Files > 0 {
		hard = min(hard, uint64(s.Files))
	}
	return min(f.OpenFiles, hard), hard
}

// Affinity is the set of CPUs for the command where a number of cores is asked for and no group can hold it: as many of ours as that,
// rounded up. A program can undo it unless the system call filter refuses sched_setaffinity, so whoever uses it must see to that.
func Affinity(f Facts, s Set) (cpus unix.CPUSet, needed bool) {
	if s.CPUs == 0 || f.way("cpu") != byNothing {
		return cpus, false
	}
	var ours unix.CPUSet
	if err := unix.SchedGetaffinity(0, &ours); err != nil {
		return cpus, false
	}
	return firstOf(ours, int(math.Ceil(s.CPUs))), true
}

func firstOf(ours unix.CPUSet, n int) (some unix.CPUSet) {
	for cpu := 0; n > 0 && cpu < len(ours)*64; cpu++ {
		if ours.IsSet(cpu) {
			some.Set(cpu)
			n--
		}
	}
	return some
}
