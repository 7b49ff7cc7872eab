package limits

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// prefix begins the name of every control group of ours, so that what is left of a crash can be found.
const prefix = "casemate-"

// patience bounds every wait for the kernel: to empty a group, to let a directory go.
const patience = 2 * time.Second

// Group is the control groups of one sandbox: one directory in each v1 hierarchy, or one in the v2 tree, or both, or none.
type Group struct {
	name   string
	dirs   []directory
	join   []int
	vacant string   // the v2 group that we left for a leaf of it
	added  []string // the controllers that we switched on there
}

// Create makes the groups that hold s and writes the limits. Nothing is in them yet: the child joins by itself (JoinFDs). On an
// error nothing is left. Without any usable hierarchy the group is empty, which is not an error: By told so before.
//
// A v1 hierarchy costs a mkdir, an open, write and close for the limit, and an open for joining: 12 calls for memory, pids and cpu by
// weight, which needs no limit. With swap on, memory takes 6 more. Where systemd gives us the group, this process itself moves into a scope of
// its own, for good; where v2 is delegated to us, into a leaf, until Remove.
func Create(f Facts, id string, s Set) (*Group, error) {
	return create(f, id, s, func(path string) error { return unix.Mkdir(path, 0o755) })
}

func create(f Facts, id string, s Set, mkdir func(string) error) (*Group, error) {
	if !plain(id) {
		return nil, fmt.Errorf("%q cannot be part of a control group's name", id)
	}
	g := &Group{name: prefix + id}
	base, err := g.delegation(f, s, mkdir)
	if err == nil {
		err = g.make(directories(f, base, g.name, s), mkdir)
	}
	if err != nil {
		g.Joined()
		return nil, errors.Join(err, g.Remove())
	}
	return g, nil
}

// plain says whether an id is safe in a path, in a unit name and in a D-Bus string.
func plain(id string) bool {
	for _, r := range id {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' {
			return false
		}
	}
	return id != "" && len(id) <= 64
}

func (g *Group) make(dirs []directory, mkdir func(string) error) error {
	for _, d := range dirs {
		if err := mkdir(d.path); err != nil {
			return &fs.PathError{Op: "make the control group", Path: d.path, Err: err}
		}
		g.dirs = append(g.dirs, d)
		for _, s := range d.settings {
			if err := s.write(d.path); err != nil {
				return err
			}
		}
		fd, err := openat(unix.AT_FDCWD, d.path+"/"+d.join, unix.O_WRONLY)
		if err != nil {
			return &fs.PathError{Op: "open", Path: d.path + "/" + d.join, Err: err}
		}
		g.join = append(g.join, fd)
	}
	return nil
}

// JoinFDs are the descriptors to which the child writes "0" to enter the groups; they are close-on-exec. The child must still have a single
// thread. The kernel judges by the credentials of the opener, us (CVE-2021-4197, Linux 5.16), so it works from within a user namespace.
// A child in its own cgroup namespace should join before it unshares that, or /proc/self/cgroup shows a path outside its root.
func (g *Group) JoinFDs() []int { return slices.Clone(g.join) }

// Joined closes the descriptors; call it as soon as the child exists, which has its own copies.
func (g *Group) Joined() {
	for _, fd := range g.join {
		unix.Close(fd)
	}
	g.join = nil
}

// Dirs are the directories to remove, in order, if we cannot do it ourselves because we were killed.
func (g *Group) Dirs() []string {
	var paths []string
	for _, d := range g.dirs {
		paths = append(paths, d.path)
	}
	return paths
}

// Remove deletes the groups. The kernel lets a directory go a moment after its last process has ended, so it is tried for up to 2 s.
func (g *Group) Remove() error {
	g.Joined()
	return errors.Join(removeAll(g.Dirs()), g.comeBack())
}

func removeAll(dirs []string) error {
	deadline, wait := time.Now().Add(patience), 50*time.Microsecond
	for _, dir := range dirs {
		for {
			err := unix.Rmdir(dir)
			if err == nil || err == unix.ENOENT {
				break
			}
			if err != unix.EBUSY && err != unix.EINTR || time.Now().After(deadline) {
				return &fs.PathError{Op: "remove the control group", Path: dir, Err: err}
			}
			time.Sleep(wait)
			wait = min(2*wait, 10*time.Millisecond)
		}
	}
	return nil
}
