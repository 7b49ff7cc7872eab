package limits

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Kill ends every process of the groups and waits at most 2 s until none is left.
func (g *Group) Kill() error {
	return kill(g.Dirs())
}

// kill stops a fork bomb first: with pids.max at 0 nothing new appears. In v2 the kernel does it all (cgroup.kill, Linux 5.14).
func kill(dirs []string) error {
	for _, d := range dirs {
		if err := write(d+"/cgroup.kill", "1"); err == nil {
			continue
		}
		_ = write(d+"/pids.max", "0")
	}
	deadline, wait := time.Now().Add(patience), 100*time.Microsecond
	for {
		left := 0
		for _, d := range dirs {
			left += killMembers(d)
		}
		if left == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d processes in %q are still there %v after SIGKILL", left, dirs, patience)
		}
		time.Sleep(wait)
		wait = min(2*wait, 10*time.Millisecond)
	}
}

// killMembers sends SIGKILL to all in a group and returns how many it saw. A number read from a list may belong to another process by the
// time it is used; so each is first held by a pidfd, and only those still listed afterwards are killed.
func killMembers(dir string) int {
	pids := members(dir)
	const batch = 256 // descriptors at a time
	for some := range slices.Chunk(pids, batch) {
		killHeld(dir, some)
	}
	return len(pids)
}

func killHeld(dir string, pids []int) {
	held := make(map[int]int, len(pids))
	for _, pid := range pids {
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			held[pid] = fd
		}
	}
	for _, pid := range members(dir) {
		if fd, ok := held[pid]; ok {
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
	}
	for _, fd := range held {
		unix.Close(fd)
	}
}

// members lists the processes of a group as our pid namespace sees them. Those it does not see are 0 and left out.
func members(dir string) []int {
	data, _ := read(dir + "/cgroup.procs")
	var pids []int
	for line := range bytes.Lines(data) {
		if pid, err := strconv.Atoi(string(bytes.TrimSpace(line))); err == nil && pid > 0 && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}
