package native

import (
	"fmt"
	"strings"

	"casemate.dev/internal/engine/native/inside"
	"casemate.dev/internal/plan"
	"golang.org/x/sys/unix"
)

// trees are the plan's sources as root takes them, before the sandbox's user exists: that user could not reach below /root, and only root
// can map the owner of a project's files to the sandbox's user.
type trees struct {
	mounts []int          // by index of the plan's mounts; -1 where there is none
	layers map[int][3]int // by the same: an overlay's lower directory, mask and layer
	opened []int
	owner  map[plan.User]ids // user namespaces that map the owner of files to the sandbox's user
}

// ids is a user namespace, with the process that it was made for.
type ids struct {
	ns    int
	child inside.Child
	pipe  [2]int // what the child waits for; it ends when we do
}

func (t *trees) close() {
	for _, fd := range t.opened {
		unix.Close(fd)
	}
	for _, o := range t.owner {
		o.close()
	}
}

func takeTrees(pl *plan.Plan) (*trees, error) {
	t := &trees{mounts: make([]int, len(pl.Mounts)), layers: map[int][3]int{}, owner: map[plan.User]ids{}}
	for i, m := range pl.Mounts {
		t.mounts[i] = -1
		switch {
		case m.Kind == plan.Bind && !m.Self:
			owner := plan.User{UID: pl.User.UID, GID: pl.User.GID}
			if p := pl.Workspace.Path; p != "" && (m.Source == p || strings.HasPrefix(m.Source, p+"/")) {
				owner = plan.User{UID: pl.Workspace.Owner, GID: pl.Workspace.Group}
			}
			fd, err := t.take(m, attributes(m), owner, pl.User)
			if err != nil {
				t.close()
				return nil, err
			}
			t.mounts[i] = fd
			t.opened = append(t.opened, fd)
		case m.Kind == plan.Overlay:
			var fds [3]int
			for j, layer := range []plan.Mount{
				{Source: m.Source, Dev: m.Dev, Ino: m.Ino},
				{Source: m.Mask},
				{Source: m.Layer, Writable: true},
			} {
				owner := plan.User{UID: pl.User.UID, GID: pl.User.GID}
				if m.Cache != "" && layer.Source != m.Layer {
					owner = plan.User{UID: m.UID, GID: m.GID}
				} else if layer.Source != m.Layer { // what a root project and its mask hold belongs to root
					owner = plan.User{UID: pl.Workspace.Owner, GID: pl.Workspace.Group}
				}
				fd, err := t.take(layer, attributes(layer), owner, pl.User)
				if err != nil {
					t.close()
					return nil, err
				}
				fds[j] = fd
				t.opened = append(t.opened, fd)
			}
			t.layers[i] = fds
		}
	}
	return t, nil
}

func (t *trees) take(m plan.Mount, attributes uint64, owner, user plan.User) (int, error) {
	step := fmt.Sprintf("open %s", m.Source)
	fd, err := unix.OpenTree(unix.AT_FDCWD, m.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|unix.AT_NO_AUTOMOUNT|unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return -1, stepError(step, err)
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && m.Ino != 0 && (uint64(st.Dev) != m.Dev || st.Ino != m.Ino) {
		err = unix.ESTALE
	}
	if err == nil {
		err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: attributes})
	}
	if err == nil && owner.UID != user.UID {
		err = t.mapOwner(fd, owner, user)
	}
	if err != nil {
		unix.Close(fd)
		return -1, stepError(step, err)
	}
	return fd, nil
}

func stepError(step string, err error) error {
	errno, _ := err.(unix.Errno)
	return &inside.StepError{Step: step, Errno: errno}
}

// mapOwner makes the files of one owner appear as the sandbox's user's on this mount (mount_setattr(2), MOUNT_ATTR_IDMAP): a project of
// root's is worked on by a user that is nobody on the host.
func (t *trees) mapOwner(tree int, owner, user plan.User) error {
	o, made := t.owner[owner]
	if !made {
		var err error
		o, err = userNamespace(owner, user)
		t.owner[owner] = o
		if err != nil {
			return err
		}
	}
	return unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(o.ns)})
}

// userNamespace makes a user namespace with the mapping. Its process is left to close, which the sandbox's start does not wait for.
func userNamespace(owner, user plan.User) (o ids, err error) {
	o.ns, o.child.PIDFD, o.pipe = -1, -1, [2]int{-1, -1}
	if err = unix.Pipe2(o.pipe[:], unix.O_CLOEXEC); err != nil { // package os would register it with the network poller
		return o, err
	}
	p := &inside.Program{}
	p.Step("wait")
	p.Call(unix.SYS_CLOSE, inside.Int(o.pipe[1]))
	p.Call(unix.SYS_READ, inside.Int(o.pipe[0]), p.Buffer(1), inside.Int(1))
	child, err := p.Start(unix.CLONE_NEWUSER, o.pipe[1])
	if err != nil {
		return o, err
	}
	o.child = child
	proc := fmt.Sprintf("/proc/%d/", o.child.PID)
	for _, ids := range [...]struct {
		file           string
		outside, inner int
	}{{"uid_map", owner.UID, user.UID}, {"gid_map", owner.GID, user.GID}} {
		if err := writeProc(proc+ids.file, fmt.Sprintf("%d %d 1", ids.outside, ids.inner)); err != nil {
			return o, fmt.Errorf("map the project's owner: %w", err)
		}
	}
	o.ns, err = unix.Open(proc+"ns/user", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	return o, err
}

func (o ids) close() {
	if o.child.PIDFD >= 0 {
		unix.PidfdSendSignal(o.child.PIDFD, unix.SIGKILL, nil, 0)
		unix.Wait4(o.child.PID, nil, 0, nil)
	}
	for _, fd := range []int{o.ns, o.child.PIDFD, o.pipe[0], o.pipe[1]} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

func writeProc(path, content string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(content))
	return err
}
