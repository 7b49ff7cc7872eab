package native

import (
	"bytes"
	"casemate.dev/internal/engine/native/inside"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// watch adds a directory or file of the sandbox's own to an inotify instance of the caller.
func (m *Metadata) watch(n *seccompNotif, r request, fd int) (int64, unix.Errno) {
	group, err := leader(int(n.pid))
	if err != nil {
		return 0, unix.EPERM
	}
	process, err := unix.PidfdOpen(group, 0)
	if err != nil {
		return 0, unix.EPERM
	}
	defer unix.Close(process)
	if !m.waits(n) {
		return 0, unix.EPERM
	}
	instance, err := unix.PidfdGetfd(process, int(r.inotify), 0)
	if err != nil {
		return 0, errno(err)
	}
	defer unix.Close(instance)
	wd, err := unix.InotifyAddWatch(instance, fmt.Sprintf("/proc/self/fd/%d", fd), r.mask&^unix.IN_DONT_FOLLOW)
	return int64(wd), errno(err) // EINVAL if it is no inotify instance
}

// leader is the process that a thread belongs to.
func leader(thread int) (int, error) {
	status, err := inside.ReadProc(fmt.Sprintf("/proc/%d/status", thread))
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(status, []byte("\nTgid:\t"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	pid, err := strconv.Atoi(string(line))
	if err != nil {
		return 0, os.ErrProcessDone
	}
	return pid, nil
}
