package limits

import "golang.org/x/sys/unix"

// OnTop raises a limit on processes by those that the user runs already: without a user namespace the kernel counts all of them together. What
// the user starts or ends later still takes from the sandbox's share or adds to it.
func OnTop(list []Rlimit, uid int) []Rlimit {
	for i := range list {
		l := &list[i]
		if l.Resource != unix.RLIMIT_NPROC {
			continue
		}
		l.Hard += tasks(uid)
		l.Hard = min(l.Hard, own(unix.RLIMIT_NPROC).Cur)
		l.Soft = l.Hard
	}
	return list
}

// tasks counts a user's processes and threads.
func tasks(uid int) (n uint64) {
	fd, err := unix.Open("/proc", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	p, err := openProcesses(fd)
	if err != nil {
		return 0
	}
	defer unix.Close(p.fd)
	p.each(func(pid string) {
		data, err := readOnce(p.fd, pid+"/status", p.data)
		if err == nil && field(data, "Uid") == int64(uid) {
			n += uint64(max(field(data, "Threads"), 0))
		}
	})
	return n
}
