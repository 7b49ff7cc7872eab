package enginetest

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The most that an attack takes where nothing limits it: its control runs on the developer's own machine.
const (
	mostPids = 200
	mostMiB  = 512
)

// window is what a bomb gives a watcher that looks a few times a second, on a machine that may have others to serve first.
const window = 5 * time.Second

// hold is how long a bomb keeps what it took: no longer than it takes to, where nobody promised to watch.
func (e *Env) hold(guarantee string) time.Duration {
	if e.Control != "" || slices.Contains(e.Without, guarantee) {
		return 0
	}
	return window
}

func limitCases() []Case {
	limit := func(id, title, guarantee string, attack func(*Env) Outcome) Case {
		return Case{ID: id, Group: "resources", Title: title, Guarantee: guarantee, Control: Outside, Timeout: time.Minute, Attack: attack}
	}
	memory := func(id, title string, take func(dir string, mib int, hold time.Duration) Outcome, dir string) Case {
		return limit(id, title, limitMemory, func(e *Env) Outcome {
			if e.Control != "" {
				return take(dir, mostMiB, e.hold(limitMemory))
			}
			if e.MemoryMiB == 0 || e.MemoryMiB > mostMiB {
				return notRun("the limit is too high to be tried: use --memory 64MiB")
			}
			return take(dir, e.MemoryMiB+e.MemoryMiB/2+64, e.hold(limitMemory))
		})
	}
	disk := func(id, title string, take func(dir string, mib int, hold time.Duration) Outcome) Case {
		return limit(id, title, limitDisk, func(e *Env) Outcome {
			if e.Control != "" {
				return take(scratchDir(e), 64, e.hold(limitDisk))
			}
			if e.DiskMiB == 0 || e.DiskMiB > mostMiB {
				return notRun("the limit is too high to be tried")
			}
			return take(scratchDir(e), 4*e.DiskMiB+64, e.hold(limitDisk))
		})
	}
	return []Case{
		limit("R01.forks", "a fork bomb", limitPids, func(e *Env) Outcome {
			if e.Control != "" {
				return forks(mostPids)
			}
			if e.Pids == 0 || e.Pids >= mostPids {
				return notRun("the limit is too high to be tried: use --pids 64")
			}
			return forks(mostPids)
		}),
		memory("R02.bytes", "a memory bomb in one process", takeMemory, ""),
		memory("R02.shm", "a memory bomb in /dev/shm", fill, "/dev/shm"),
		memory("R02.tmp", "a memory bomb in /tmp", fill, os.TempDir()),
		disk("R05.file", "fill the disk through the project", fill),
		disk("R05.unlinked", "the same with unlinked files", fillUnlinked),
		disk("R05.many", "the same with many small files", fillMany),
	}
}

// forks makes n processes that wait, and ends them. The runtime is told of none of these calls: while one blocks it would start a thread, which cannot be had
// at the limit, and end us; the processes would be left, with the descriptor of the answer.
func forks(n int) Outcome {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var pids []int
	defer func() {
		for _, pid := range pids {
			syscall.RawSyscall(unix.SYS_KILL, uintptr(pid), uintptr(unix.SIGKILL), 0)
		}
		for range pids {
			syscall.RawSyscall6(unix.SYS_WAIT4, ^uintptr(0), 0, 0, 0, 0, 0)
		}
	}()
	for len(pids) < n {
		pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if errno != 0 {
			return held("%v after %d processes", errno, len(pids))
		}
		if pid == 0 {
			for {
				syscall.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
			}
		}
		pids = append(pids, int(pid))
	}
	return open("%d processes", n)
}

func takeMemory(_ string, mib int, hold time.Duration) Outcome {
	b, err := unix.Mmap(-1, 0, mib<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return held("%v", err)
	}
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	time.Sleep(hold)
	return open("%d MiB", mib)
}

// fill writes one file of that size.
func fill(dir string, mib int, hold time.Duration) Outcome {
	f, err := os.CreateTemp(dir, "fill")
	if err != nil {
		return held("%v", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	return writeMiB(f, mib, hold)
}

func fillUnlinked(dir string, mib int, hold time.Duration) Outcome {
	f, err := os.CreateTemp(dir, "fill")
	if err != nil {
		return held("%v", err)
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return held("%v", err)
	}
	return writeMiB(f, mib, hold)
}

func writeMiB(f *os.File, mib int, hold time.Duration) Outcome {
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = byte(i * 31) // no holes, nothing to compress
	}
	for n := range mib {
		if _, err := f.Write(block); err != nil {
			return held("%v after %d MiB", err, n)
		}
	}
	time.Sleep(hold)
	return open("%d MiB", mib)
}

func fillMany(dir string, mib int, hold time.Duration) Outcome {
	dir, err := os.MkdirTemp(dir, "fill")
	if err != nil {
		return held("%v", err)
	}
	defer os.RemoveAll(dir)
	block := make([]byte, 64<<10)
	for n := range mib * 16 {
		if err := os.WriteFile(filepath.Join(dir, itoa(n)), block, 0o600); err != nil {
			return held("%v after %d files", err, n)
		}
	}
	time.Sleep(hold)
	return open("%d MiB in files", mib)
}
