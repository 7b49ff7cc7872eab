package limits

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Kill ends every process of the groups, frozen ones too, and waits at most 2 s until none is left.
func (g *Group) Kill() error {
	return kill(g.made())
}

// kill needs no freezer against a fork bomb: with pids.max at 0 nothing new appears. In v2 the kernel does it all (cgroup.kill, Linux 5.14).
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
			// A v1 group that is frozen does not even die. Only now may it thaw: what wakes up finds its SIGKILL.
			_ = write(d+"/freezer.state", "THAWED")
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

// ice is where Freeze may make a directory of its own. One in v2 is better, even one without controllers: what is frozen there can be killed.
func (f *Facts) ice(base, name string) string {
	if base != "" {
		return "" // the sandbox's group is in v2 anyway
	}
	if f.V2 != nil && f.V2.Why == "" {
		return f.root + filepath.Join(f.V2.Dir, name)
	}
	if dir, ok := f.v1("freezer"); ok {
		return f.root + filepath.Join(dir, name)
	}
	return ""
}

// ErrCannotFreeze says that no hierarchy here freezes.
var ErrCannotFreeze = errors.New("no control group here can freeze a sandbox")

// Freeze stops all processes of the sandbox at once, until Thaw or Kill, and returns when they stand still. On v1 machines the group for it
// is made now, not at the start, where it would cost time that few runs need. Should we be killed meanwhile, what is frozen in v1 stays
// (see Dirs); in v2 it dies with its init.
func (g *Group) Freeze() error {
	where, err := g.freezer()
	if err != nil {
		return err
	}
	if err := freeze(where, true); err != nil {
		return err
	}
	if g.icy {
		if err := g.gather(where); err != nil {
			return errors.Join(err, freeze(where, false))
		}
	}
	return settled(where, true)
}

// Thaw lets them go on.
func (g *Group) Thaw() error {
	where, err := g.freezer()
	if err != nil {
		return err
	}
	return freeze(where, false)
}

// freezer is the directory that freezes, made if need be.
func (g *Group) freezer() (string, error) {
	for _, d := range g.dirs {
		if d.v2() {
			return d.path, nil
		}
	}
	if g.ice == "" || len(g.dirs) == 0 {
		return "", ErrCannotFreeze
	}
	if !g.icy {
		if err := unix.Mkdir(g.ice, 0o755); err != nil {
			return "", &fs.PathError{Op: "make the control group", Path: g.ice, Err: err}
		}
		g.icy = true
	}
	return g.ice, nil
}

// gather moves the sandbox's processes, known by another of its groups, into the frozen one. What is moved stands still at once, so the
// rest, with the children they fork meanwhile, can only become fewer.
func (g *Group) gather(where string) error {
	deadline := time.Now().Add(patience)
	for {
		in := members(where)
		slices.Sort(in)
		missed := 0
		for _, pid := range members(g.dirs[0].path) {
			if _, ok := slices.BinarySearch(in, pid); ok {
				continue
			}
			missed++
			if err := write(where+"/cgroup.procs", strconv.Itoa(pid)); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
		if missed == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d processes could not be frozen within %v", missed, patience)
		}
	}
}

func freeze(dir string, on bool) error {
	v2, v1 := "0", "THAWED"
	if on {
		v2, v1 = "1", "FROZEN"
	}
	err := write(dir+"/cgroup.freeze", v2)
	if missing(err) {
		return write(dir+"/freezer.state", v1)
	}
	return err
}

// settled waits until the kernel says that all stand still.
func settled(dir string, on bool) error {
	deadline, wait := time.Now().Add(patience), 50*time.Microsecond
	for {
		data, err := readShow(dir + "/cgroup.events")
		frozen := field(data, "frozen") == 1
		if missing(err) {
			data, err = readShow(dir + "/freezer.state")
			frozen = string(bytes.TrimSpace(data)) == "FROZEN"
		}
		if err != nil || frozen == on {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%q is not frozen after %v", dir, patience)
		}
		time.Sleep(wait)
		wait = min(2*wait, 10*time.Millisecond)
	}
}
